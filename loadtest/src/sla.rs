//! Whether a run holds what its scenario promises.

use serde::Serialize;

use crate::drive::Run;
use crate::measure::{KeyMeasure, Times};
use crate::outcome::Outcome;
use crate::scenario::Scenario;

/// One objective and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Objective {
    /// What is judged: `chat: p99 ms`.
    pub name: String,
    /// `at most` or `at least`.
    pub bound: &'static str,
    /// The objective.
    pub limit: f64,
    /// What was measured.
    pub measured: f64,
    /// Whether it holds.
    pub held: bool,
}

/// Every objective of the scenario; the judged time is `seconds` long.
#[must_use]
pub fn judge(scenario: &Scenario, run: &Run, seconds: f64) -> Vec<Objective> {
    let (sla, measures) = (&scenario.sla, &run.measures);
    let mut found = Vec::new();
    let all = measures.count_if(|_| true);
    let share = |count: u64| if all == 0 { 0.0 } else { count as f64 / all as f64 };
    at_least(&mut found, "requests that were judged", Some(1.0), all as f64);
    if measures.unfinished > 0 {
        at_most(&mut found, "requests without an outcome", Some(0.0), measures.unfinished as f64);
    }
    let rate = measures.count(Outcome::Ok) as f64 / seconds.max(1e-9);
    at_least(&mut found, "right answers a second", sla.rate_min, rate);
    let errors = share(measures.count_if(Outcome::is_error));
    at_most(&mut found, "share of errors", sla.error_share_max, errors);
    at_most(&mut found, "share shed", sla.shed_share_max, share(measures.count(Outcome::Shed)));
    let lost = measures.count_if(Outcome::is_lost) as f64;
    at_most(&mut found, "requests lost", sla.lost_max.map(|max| max as f64), lost);
    let wrong = measures.count_if(Outcome::is_wrong) as f64;
    at_most(&mut found, "wrong answers", Some(sla.wrong_max as f64), wrong);
    at_least(&mut found, "fairness of keys", sla.fairness_min, fairness(&measures.keys));
    at_most(&mut found, "drift of the median", sla.drift_max, drift(run));
    for (work, measured) in scenario.work.iter().zip(&measures.works) {
        let (sla, name) = (&work.sla, &work.name);
        let times: [(&str, Option<f64>, &Times, f64); 7] = [
            ("p50 ms", sla.p50_ms, &measured.latency, 0.5),
            ("p99 ms", sla.p99_ms, &measured.latency, 0.99),
            ("p99.9 ms", sla.p999_ms, &measured.latency, 0.999),
            ("first event p50 ms", sla.first_p50_ms, &measured.first, 0.5),
            ("first event p99 ms", sla.first_p99_ms, &measured.first, 0.99),
            ("gap p50 ms", sla.gap_p50_ms, &measured.gap, 0.5),
            ("gap p99 ms", sla.gap_p99_ms, &measured.gap, 0.99),
        ];
        for (what, limit, times, quantile) in times {
            // Nothing measured holds no promise.
            let value = if times.count() == 0 { f64::INFINITY } else { times.quantile_ms(quantile) };
            at_most(&mut found, &format!("{name}: {what}"), limit, value);
        }
    }
    found
}

fn at_most(found: &mut Vec<Objective>, name: &str, limit: Option<f64>, measured: f64) {
    if let Some(limit) = limit {
        let held = measured <= limit;
        found.push(Objective { name: name.to_owned(), bound: "at most", limit, measured, held });
    }
}

fn at_least(found: &mut Vec<Objective>, name: &str, limit: Option<f64>, measured: f64) {
    if let Some(limit) = limit {
        let held = measured >= limit;
        found.push(Objective { name: name.to_owned(), bound: "at least", limit, measured, held });
    }
}

/// Jain's index of what each key got by what was its fair part: 1 if all got theirs, 1/n if one got everything.
///
/// The fair part is max-min: nobody is given more than he asks for, and what he leaves is shared by the others
/// (Jain, Chiu, Hawe 1984; Bertsekas and Gallager on max-min).
#[must_use]
pub fn fairness(keys: &[KeyMeasure]) -> f64 {
    let asking: Vec<&KeyMeasure> = keys.iter().filter(|key| key.offered > 0).collect();
    let served: u64 = asking.iter().map(|key| key.served).sum();
    if asking.len() < 2 || served == 0 {
        return if asking.len() < 2 { 1.0 } else { 0.0 };
    }
    let mut offered: Vec<u64> = asking.iter().map(|key| key.offered).collect();
    offered.sort_unstable();
    let (mut left, mut level) = (served as f64, 0.0);
    for (at, &offer) in offered.iter().enumerate() {
        level = left / (offered.len() - at) as f64;
        if offer as f64 >= level {
            break;
        }
        left -= offer as f64;
    }
    let (mut sum, mut squares) = (0.0, 0.0);
    for key in &asking {
        let part = key.served as f64 / (key.offered as f64).min(level).max(1e-9);
        sum += part;
        squares += part * part;
    }
    sum * sum / (asking.len() as f64 * squares)
}

/// The median latency of the last quarter of the seconds by that of the first.
fn drift(run: &Run) -> f64 {
    let busy: Vec<_> = run.seconds.iter().filter(|second| second.ok > 0).collect();
    let quarter = busy.len() / 4;
    let (mut first, mut last) = (Times::new(2), Times::new(2));
    busy.iter().take(quarter).for_each(|second| first.add(&second.latency));
    busy.iter().rev().take(quarter).for_each(|second| last.add(&second.latency));
    if first.count() == 0 { f64::INFINITY } else { last.quantile_ms(0.5) / first.quantile_ms(0.5).max(1e-3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(u64, u64)]) -> Vec<KeyMeasure> {
        pairs.iter().map(|&(offered, served)| KeyMeasure { offered, served }).collect()
    }

    #[test]
    fn fairness_is_by_what_one_may_expect() {
        let close = |pairs: &[(u64, u64)], index: f64| {
            let found = fairness(&keys(pairs));
            assert!((found - index).abs() < 0.001, "{pairs:?}: {found}");
        };
        close(&[(100, 50), (100, 50)], 1.0);
        close(&[(100, 100), (100, 0)], 0.5);
        close(&[(1000, 90), (10, 10)], 1.0); // the modest one got all he wanted, the greedy one the rest
        close(&[(1000, 99), (100, 1)], 0.51);
        close(&[(100, 0), (100, 0)], 0.0);
        close(&[(100, 7), (0, 0)], 1.0);
    }
}
