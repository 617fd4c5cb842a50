//! Promise: arrivals are what the scenario says, in mean, variance and shape, and the same for a seed.
#![allow(clippy::unwrap_used)] // test code

use corelane_load::plan::Schedule;
use corelane_load::scenario::Scenario;

fn due(arrivals: &str, phases: &str, seed: u64) -> Vec<u64> {
    let text = format!(
        "about = ''\n[load]\nmode = 'open'\narrivals = '{arrivals}'\nphases = [{phases}]\n[[work]]\nname = 'a'\nkind = 'chat'\nmodel = 'm'\n"
    );
    Schedule::new(&Scenario::parse(&text).unwrap().load, seed).collect()
}

/// Mean and variance of the counts in windows of so many microseconds.
fn counts(due: &[u64], window_us: u64, windows: usize) -> (f64, f64) {
    let mut counts = vec![0.0; windows];
    due.iter().for_each(|&due| counts[(due / window_us) as usize] += 1.0);
    let mean = counts.iter().sum::<f64>() / windows as f64;
    (mean, counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / windows as f64)
}

#[test]
fn poisson_gaps_are_exponential() {
    let due = due("poisson", "{time = '1000s', rate = 200}", 4);
    assert!(due.is_sorted());
    assert!((due.len() as f64 - 200_000.0).abs() < 3.0 * 200_000f64.sqrt(), "{}", due.len());
    let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    assert!((mean / 5000.0 - 1.0).abs() < 0.01, "{mean}");
    assert!(
        (variance.sqrt() / mean - 1.0).abs() < 0.01,
        "the deviation of an exponential is its mean: {variance}"
    );
    let beyond = gaps.iter().filter(|gap| **gap > 3.0 * mean).count() as f64 / gaps.len() as f64;
    assert!((beyond / (-3f64).exp() - 1.0).abs() < 0.06, "{beyond}");
    // No memory: neighbouring gaps do not know of each other.
    let product = gaps.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>();
    let correlation = product / gaps.len() as f64 / variance;
    assert!(correlation.abs() < 0.01, "{correlation}");
    let (mean, variance) = counts(&due, 1_000_000, 1000);
    assert!((variance / mean - 1.0).abs() < 0.15, "counts a second: mean {mean}, variance {variance}");
}

#[test]
fn constant_arrivals_do_not_vary() {
    let due = due("constant", "{time = '100s', rate = 250}", 1);
    assert_eq!(due.len(), 25_000);
    assert_eq!(counts(&due, 1_000_000, 100), (250.0, 0.0));
}

#[test]
fn ramps_are_linear_in_the_rate() {
    for (arrivals, off) in [("constant", 2.0), ("poisson", 160.0)] {
        let due =
            due(arrivals, "{time = '100s', rate = 0, to = 400}, {time = '50s', rate = 400, to = 100}", 9);
        // The integral of the rate up to t seconds is 2 t² in the first part.
        for seconds in [10u64, 25, 50, 75, 100] {
            let before = due.iter().filter(|&&due| due < seconds * 1_000_000).count() as f64;
            let expected = 2.0 * (seconds * seconds) as f64;
            assert!(
                (before - expected).abs() <= off + expected * 0.004,
                "{arrivals} {seconds} s: {before} of {expected}"
            );
        }
        let all = 20_000.0 + 12_500.0;
        assert!((due.len() as f64 - all).abs() <= off * 3.0, "{arrivals}: {}", due.len());
    }
}

#[test]
fn a_seed_is_one_schedule() {
    let phases = "{time = '20s', rate = 50, to = 100, burst = 10, every = '3s'}";
    assert_eq!(due("poisson", phases, 1), due("poisson", phases, 1));
    assert_ne!(due("poisson", phases, 1), due("poisson", phases, 2));
    assert_eq!(due("constant", phases, 1), due("constant", phases, 2), "nothing in it is left to chance");
}
