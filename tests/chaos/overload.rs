//! Three times as much as the endpoints can do, by four keys that ask for unequal shares.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::endpoint::{Script, Target};
use super::scene::{Storm, alone, anywhere, assert_at_rest, at_rest, wait_probed};
use crate::support::Gateway;
use crate::support::open_loop::{Load, Plan, Report};

const KEYS: usize = 4;
/// Of a whole answer.
const SERVICE: Duration = Duration::from_millis(100);
/// What three endpoints with four slots each can do in a second.
const CAPACITY: u32 = 120;
/// The beginning of a run does not count: queues fill.
const WARM: Duration = Duration::from_secs(2);

/// All keys at these rates, one report each.
fn run(addr: SocketAddr, rates: [u32; KEYS], time: Duration, tag: &str) -> Vec<Report> {
    let epoch = Instant::now();
    let start = |(key, rate): (usize, u32)| {
        let plan = Plan {
            streams: 0,
            fields: format!("Authorization: Bearer sk-chaos-key-{key}\r\n"),
            tag: format!("{tag}{key}k"),
            ..Plan::new(addr, rate, time)
        };
        plan.start(epoch)
    };
    let loads: Vec<Load> = rates.into_iter().enumerate().map(start).collect();
    loads.into_iter().map(Load::join).collect()
}

/// Answers a second that were right, between the warm-up and the end of the load.
fn goodput(report: &Report, time: Duration) -> f64 {
    let within = |at: Duration| at > WARM && at <= time;
    let good = report.samples.iter().filter(|s| s.outcome.name() == "ok" && within(s.ended())).count();
    good as f64 / (time - WARM).as_secs_f64()
}

/// Jain's index: 1 when all are equal, one over their number when one has all.
fn jain(shares: &[f64]) -> f64 {
    let (sum, squares): (f64, f64) = (shares.iter().sum(), shares.iter().map(|share| share * share).sum());
    if squares == 0.0 { 0.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

#[test]
fn what_fair_means() {
    assert!((jain(&[5.0; 4]) - 1.0).abs() < 1e-9);
    assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
    assert!(jain(&[36.0, 72.0, 108.0, 144.0]) < 0.84, "shares as they were asked for are not fair");
}

#[test]
fn three_times_too_much() {
    let _alone = alone();
    let endpoints: Vec<Script> = (0..3).map(|_| Script::taking(SERVICE)).collect();
    let addresses: Vec<SocketAddr> = endpoints.iter().map(Target::addr).collect();
    let keys: String = (0..KEYS)
        .map(|key| format!("[[keys]]\nname = \"k{key}\"\nsecret = \"sk-chaos-key-{key}\"\n"))
        .collect();
    let rest = format!("#slots=4\n[queue]\nmax = 40\ntimeout = \"1s\"\n[[models]]\nname = \"m\"\n{keys}");
    let mut gateway = Gateway::start(&anywhere(&addresses, "", &rest));
    wait_probed(gateway.admin);
    let before = at_rest(gateway.pid(), gateway.admin);
    let time = Duration::from_secs(6);
    let full = run(gateway.addr, [CAPACITY * 5 / 16; KEYS], time, "p");
    let peak: f64 = full.iter().map(|report| goodput(report, time)).sum();
    // Each asks for more than a quarter of the capacity.
    let rates = [3, 6, 9, 12].map(|tenths| CAPACITY * tenths / 10);
    let reports = run(gateway.addr, rates, time, "o");
    let shares: Vec<f64> = reports.iter().map(|report| goodput(report, time)).collect();
    let (sum, fair) = (shares.iter().sum::<f64>(), jain(&shares));
    let all = reports.into_iter().fold(Report::default(), Report::with);
    let seen = Some(endpoints.iter().map(|endpoint| endpoint.seen().unwrap()).collect());
    let storm = Storm { report: all, events: Vec::new(), seen };
    storm.print("overload");
    println!(
        "overload: peak {peak:.1}/s, at three times {sum:.1}/s, by key {shares:.1?}, Jain {fair:.3}; refusals p50 {:.1} ms, p99 {:.1} ms",
        storm.report.quantile("refused", 0.5),
        storm.report.quantile("refused", 0.99)
    );
    storm.assert_sound(&["refused"]);
    for sample in storm.report.samples.iter().filter(|sample| sample.outcome.name() == "refused") {
        assert!(matches!(sample.status, 429 | 503) && sample.retry_after, "{sample:?}");
    }
    assert!(storm.report.count("refused") > 0, "three times too much cannot all be served");
    assert!(sum >= 0.9 * peak, "goodput {sum:.1}/s, {peak:.1}/s at capacity");
    assert!(fair >= 0.95, "Jain's index {fair:.3} of {shares:.1?}");
    assert!(gateway.alive());
    assert_at_rest(gateway.pid(), gateway.admin, before);
}
