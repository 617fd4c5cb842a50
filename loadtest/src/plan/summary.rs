//! What a plan will send, without sending it, and the digest by which two runs are known to be of the same plan.

use std::fmt::Write as _;

use super::{Plan, Request};
use crate::chance::mix;
use crate::scenario::{Kind, Mode};

/// Requests that are looked at, at most; of a closed loop always so many.
const LOOKED_AT: u64 = 20_000;

/// One kind of request in the summary.
#[derive(Debug, Clone, Default)]
struct Share {
    requests: u64,
    hits: u64,
    /// Bytes of bodies, in order once all are there.
    bytes: Vec<usize>,
}

/// The summary of a plan.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Arrivals of an open loop.
    pub arrivals: u64,
    /// Mean gap between them, in seconds.
    pub gap_mean: f64,
    /// Variance of the gaps by the square of their mean: 1 for Poisson arrivals of one rate, 0 for constant ones.
    pub gap_dispersion: f64,
    /// Follows from every arrival, and from the first requests' keys and bodies. Equal digests: equal plans.
    pub digest: u64,
    /// Arrivals in each second.
    pub seconds: Vec<u64>,
    shares: Vec<Share>,
    keys: Vec<u64>,
}

impl Summary {
    /// Walks through a plan.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let mut summary = Self {
            arrivals: 0,
            gap_mean: 0.0,
            gap_dispersion: 0.0,
            digest: mix(plan.scenario.seed),
            seconds: Vec::new(),
            shares: vec![Share::default(); plan.scenario.work.len()],
            keys: vec![0; plan.scenario.keys.len()],
        };
        let looked_at = summary.arrivals_of(plan);
        let mut request = Request::default();
        for index in 0..looked_at {
            plan.write(index, &mut request);
            summary.note(&request);
        }
        summary.shares.iter_mut().for_each(|share| share.bytes.sort_unstable());
        summary
    }

    fn arrivals_of(&mut self, plan: &Plan) -> u64 {
        if plan.scenario.load.mode == Mode::Closed {
            return LOOKED_AT;
        }
        let (mut last, mut sum, mut squares, mut gaps) = (None, 0.0, 0.0, 0u64);
        for due in plan.schedule() {
            self.arrivals += 1;
            self.digest = mix(self.digest ^ due);
            let second = (due / 1_000_000) as usize;
            if self.seconds.len() <= second {
                self.seconds.resize(second + 1, 0);
            }
            self.seconds[second] += 1;
            if let Some(last) = last {
                let gap = (due - last) as f64 / 1e6;
                sum += gap;
                squares += gap * gap;
                gaps += 1;
            }
            last = Some(due);
        }
        if gaps > 0 && sum > 0.0 {
            self.gap_mean = sum / gaps as f64;
            let variance = squares / gaps as f64 - self.gap_mean * self.gap_mean;
            self.gap_dispersion = variance / (self.gap_mean * self.gap_mean);
        }
        self.arrivals.min(LOOKED_AT)
    }

    fn note(&mut self, request: &Request) {
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(word)
        };
        self.digest = mix(self.digest ^ (request.key as u64) << 32 ^ request.work as u64);
        for bytes in request.body().chunks(8) {
            self.digest = mix(self.digest ^ word(bytes));
        }
        if let Some(share) = self.shares.get_mut(request.work) {
            share.requests += 1;
            share.hits += u64::from(request.hit);
            share.bytes.push(request.body().len());
        }
        if let Some(count) = self.keys.get_mut(request.key) {
            *count += 1;
        }
    }

    /// As `corelane-load plan` prints it.
    #[must_use]
    pub fn print(&self, plan: &Plan) -> String {
        let (scenario, mut out) = (&plan.scenario, String::new());
        let _ = writeln!(out, "{}\nseed {}, digest {:016x}", scenario.about, scenario.seed, self.digest);
        let load = &scenario.load;
        match load.mode {
            Mode::Open => {
                let _ = writeln!(
                    out,
                    "open loop, {:?} arrivals: {} in {:?}; mean gap {:.3} ms, dispersion {:.2}; at most {} connections",
                    load.arrivals,
                    self.arrivals,
                    scenario.time(),
                    self.gap_mean * 1e3,
                    self.gap_dispersion,
                    load.connections
                );
                for phase in &load.phases {
                    let to = phase.to.map(|to| format!(" to {to:.1}/s")).unwrap_or_default();
                    let burst = match phase.every {
                        Some(every) => format!(", {} at once every {every:?}", phase.burst),
                        None => String::new(),
                    };
                    let _ = writeln!(out, "  {:?} at {:.1}/s{to}{burst}", phase.time, phase.rate);
                }
                let most = self.seconds.iter().max().copied().unwrap_or(0);
                let _ = writeln!(out, "  busiest second: {most} arrivals");
            }
            Mode::Closed => {
                let _ = writeln!(
                    out,
                    "closed loop: {} connections for {:?}, begun over {:?}, {:?} between requests",
                    load.connections,
                    scenario.time(),
                    load.ramp_up,
                    load.think
                );
            }
        }
        let looked_at: u64 = self.shares.iter().map(|share| share.requests).sum();
        let _ = writeln!(out, "the first {looked_at} requests:");
        for (work, share) in scenario.work.iter().zip(&self.shares) {
            let kind = match work.kind {
                Kind::Chat => "chat",
                Kind::Stream => "stream",
                Kind::Embeddings => "embeddings",
            };
            let at = |part: usize| share.bytes.get(share.bytes.len() * part / 100).copied().unwrap_or(0);
            let _ = writeln!(
                out,
                "  {:16} {kind:10} {:6.2} %  body p50 {} B, p99 {} B; for a guard {:.2} %",
                work.name,
                100.0 * share.requests as f64 / looked_at.max(1) as f64,
                at(50),
                at(99),
                100.0 * share.hits as f64 / share.requests.max(1) as f64,
            );
        }
        for (key, count) in scenario.keys.iter().zip(&self.keys) {
            let _ = writeln!(
                out,
                "  key {:12} {:6.2} %",
                key.name,
                100.0 * *count as f64 / looked_at.max(1) as f64
            );
        }
        out
    }
}
