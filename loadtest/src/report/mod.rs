//! What is told of a run: one value ([`Report`]), as a table, as JSON and as a page.

mod html;
mod plot;
mod table;

use serde::{Serialize, Serializer};

use crate::drive::Run;
use crate::measure::{Example, Times};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::plan::summary::Summary;
use crate::sla::{self, Objective};

/// Points of a curve of percentiles.
const CURVE: [f64; 17] = [
    0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9975, 0.999, 0.9995, 0.9999, 0.99995,
    0.99999, 1.0,
];

/// How a run was made.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// The name of the scenario.
    pub scenario: String,
    /// Its first sentence.
    pub about: String,
    /// Its seed, and the digest of the plan: equal ones were the same load.
    pub seed: u64,
    /// As above, in hexadecimal.
    pub digest: String,
    /// The URL.
    pub target: String,
    /// `http/1.1` or `h2`.
    pub protocol: &'static str,
    /// Seconds since 1970, at its begin.
    pub started_unix: u64,
    /// How long requests were begun (shorter than planned, if the run was stopped), and how much of it was judged.
    pub seconds: f64,
    /// As above.
    pub judged_seconds: f64,
    /// Threads, connections at most, and the kernel interface of the load test.
    pub threads: usize,
    /// As above.
    pub connections: usize,
    /// As above.
    pub driver: &'static str,
}

/// Milliseconds of a histogram.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Spread {
    /// How many times there are.
    pub count: u64,
    /// Milliseconds.
    pub mean: f64,
    /// As above.
    pub p50: f64,
    /// As above.
    pub p90: f64,
    /// As above.
    pub p99: f64,
    /// As above.
    pub p999: f64,
    /// As above.
    pub max: f64,
}

/// A share and the milliseconds that it stays below.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Point {
    /// From 0 to 1.
    pub share: f64,
    /// Milliseconds.
    pub ms: f64,
}

/// One kind of work.
#[derive(Debug, Clone, Serialize)]
pub struct WorkReport {
    /// Its name.
    pub name: String,
    /// Requests.
    pub requests: u64,
    /// How many ended how; only those that there are.
    #[serde(serialize_with = "as_map")]
    pub outcomes: Vec<(Outcome, u64)>,
    /// Due to last byte, of right answers.
    pub latency: Spread,
    /// Due to first event, if there are streams.
    pub first_event: Option<Spread>,
    /// Between events.
    pub gap: Option<Spread>,
    /// The whole distribution of latencies.
    pub latency_curve: Vec<Point>,
    /// The whole distribution of first events.
    pub first_event_curve: Vec<Point>,
}

/// One key.
#[derive(Debug, Clone, Serialize)]
pub struct KeyReport {
    /// Its name.
    pub name: String,
    /// Requests that were due.
    pub offered: u64,
    /// Right answers.
    pub served: u64,
}

/// One status.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// The status.
    pub status: u16,
    /// Due to last byte.
    pub latency: Spread,
}

/// One second.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SecondReport {
    /// From 0.
    pub second: u64,
    /// Requests that left.
    pub sent: u64,
    /// Right answers.
    pub ok: u64,
    /// Honest refusals.
    pub shed: u64,
    /// Errors.
    pub errors: u64,
    /// Requests that had not ended.
    pub open: u64,
    /// Events.
    pub events: u64,
    /// Milliseconds, due to last byte.
    pub p50: f64,
    /// As above.
    pub p99: f64,
    /// As above.
    pub max: f64,
    /// Milliseconds, due to first event.
    pub first_p50: f64,
    /// As above.
    pub first_p99: f64,
}

/// Everything.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How it was made.
    pub about: About,
    /// Whether every objective holds.
    pub held: bool,
    /// The objectives.
    pub objectives: Vec<Objective>,
    /// Requests that were judged.
    pub requests: u64,
    /// Right answers a second.
    pub ok_per_second: f64,
    /// Events of streams a second.
    pub events_per_second: f64,
    /// How many ended how.
    #[serde(serialize_with = "as_map")]
    pub outcomes: Vec<(Outcome, u64)>,
    /// By work.
    pub work: Vec<WorkReport>,
    /// By status.
    pub statuses: Vec<StatusReport>,
    /// By key, if there are any.
    pub keys: Vec<KeyReport>,
    /// Jain's index over the keys.
    pub fairness: Option<f64>,
    /// Due to first byte sent: how late the load test was. Where this is not small, the latencies are its own.
    pub lag: Spread,
    /// Connections that were made.
    pub connects: Spread,
    /// Requests sent again because a kept connection was found closed.
    pub resent: u64,
    /// Bytes that came.
    pub bytes_in: u64,
    /// User and system time of the load test, in seconds.
    pub cpu_seconds: f64,
    /// Requests that went wrong, the first ones of each outcome.
    pub examples: Vec<Example>,
    /// The seconds.
    pub seconds: Vec<SecondReport>,
}

impl Report {
    /// Puts together what is told.
    #[must_use]
    pub fn new(
        name: &str,
        plan: &Plan,
        summary: &Summary,
        run: &Run,
        protocol: &'static str,
        threads: usize,
    ) -> Self {
        let (scenario, measures) = (&plan.scenario, &run.measures);
        let (time, warm_up) = (run.time.as_secs_f64(), scenario.load.warm_up.as_secs_f64());
        let judged_seconds = (time - warm_up).max(1e-6);
        let objectives = sla::judge(scenario, run, judged_seconds);
        let work = scenario.work.iter().zip(&measures.works).map(|(work, measured)| WorkReport {
            name: work.name.clone(),
            requests: measured.outcomes.iter().sum(),
            outcomes: outcomes(|outcome| measured.outcomes[outcome as usize]),
            latency: spread(&measured.latency),
            first_event: (measured.first.count() > 0).then(|| spread(&measured.first)),
            gap: (measured.gap.count() > 0).then(|| spread(&measured.gap)),
            latency_curve: curve(&measured.latency),
            first_event_curve: curve(&measured.first),
        });
        let mut statuses: Vec<StatusReport> = measures
            .statuses
            .iter()
            .map(|status| StatusReport { status: status.status, latency: spread(&status.latency) })
            .collect();
        statuses.sort_by_key(|status| status.status);
        let key = |(key, measured): (&crate::scenario::Key, &crate::measure::KeyMeasure)| KeyReport {
            name: key.name.clone(),
            offered: measured.offered,
            served: measured.served,
        };
        Self {
            about: About {
                scenario: name.to_owned(),
                about: scenario.about.clone(),
                seed: scenario.seed,
                digest: format!("{:016x}", summary.digest),
                target: plan.target.url(),
                protocol,
                started_unix: unix().saturating_sub(time as u64),
                seconds: time,
                judged_seconds,
                threads,
                connections: scenario.load.connections,
                driver: run.driver,
            },
            held: objectives.iter().all(|objective| objective.held),
            objectives,
            requests: measures.count_if(|_| true),
            ok_per_second: measures.count(Outcome::Ok) as f64 / judged_seconds,
            events_per_second: measures.events as f64 / judged_seconds,
            outcomes: outcomes(|outcome| measures.count(outcome)),
            work: work.collect(),
            statuses,
            keys: scenario.keys.iter().zip(&measures.keys).map(key).collect(),
            fairness: (scenario.keys.len() > 1).then(|| sla::fairness(&measures.keys)),
            lag: spread(&measures.lag),
            connects: spread(&measures.connects),
            resent: measures.resent,
            bytes_in: measures.bytes_in,
            cpu_seconds: run.cpu_us as f64 / 1e6,
            examples: measures.examples.clone(),
            seconds: run.seconds.iter().map(second).collect(),
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// It cannot be written as JSON; there is no such value.
    pub fn json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self).map_err(|error| error.to_string())
    }

    /// As a table for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        table::table(self)
    }

    /// As a page that needs nothing else.
    #[must_use]
    pub fn html(&self) -> String {
        html::page(self)
    }
}

/// Writes pairs as an object.
fn as_map<S: Serializer>(pairs: &[(Outcome, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(outcome, count)| (outcome.name(), count)))
}

fn outcomes(count: impl Fn(Outcome) -> u64) -> Vec<(Outcome, u64)> {
    let counted = Outcome::ALL.into_iter().map(|outcome| (outcome, count(outcome)));
    counted.filter(|(_, count)| *count > 0).collect()
}

fn spread(times: &Times) -> Spread {
    Spread {
        count: times.count(),
        mean: times.mean_ms(),
        p50: times.quantile_ms(0.5),
        p90: times.quantile_ms(0.9),
        p99: times.quantile_ms(0.99),
        p999: times.quantile_ms(0.999),
        max: times.max_ms(),
    }
}

/// The distribution, as far as there are enough times for a share to mean something.
fn curve(times: &Times) -> Vec<Point> {
    let count = times.count() as f64;
    let told = CURVE.iter().filter(|share| **share < 1.0 && (1.0 - **share) * count >= 1.0);
    told.map(|&share| Point { share, ms: times.quantile_ms(share) }).collect()
}

fn second(second: &crate::measure::Second) -> SecondReport {
    SecondReport {
        second: second.number,
        sent: second.sent,
        ok: second.ok,
        shed: second.shed,
        errors: second.errors,
        open: second.open,
        events: second.events,
        p50: second.latency.quantile_ms(0.5),
        p99: second.latency.quantile_ms(0.99),
        max: second.latency.max_ms(),
        first_p50: second.first.quantile_ms(0.5),
        first_p99: second.first.quantile_ms(0.99),
    }
}

fn unix() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
