//! What a scenario must not say, although it can be written.

use super::{Check, Kind, Law, Load, Mode, Prefix, Scenario, Work};
use crate::plan::corpus;

/// Longest prompt or prefix, in words: some 300 kB.
const WORDS_MAX: u32 = 50_000;
/// Most connections: more than one address can open to one port.
const CONNECTIONS_MAX: usize = 60_000;
/// Highest rate of arrivals, a second.
const RATE_MAX: f64 = 5e6;

/// Every mistake, a line each with its place in the file.
#[must_use]
pub fn check(scenario: &Scenario) -> Vec<String> {
    let mut problems = Vec::new();
    check_load(&scenario.load, &mut problems);
    if scenario.time().is_zero() {
        problems.push("load: it lasts no time".into());
    } else if scenario.load.warm_up >= scenario.time() {
        problems.push("load.warm_up: nothing is left to judge".into());
    }
    if scenario.work.is_empty() {
        problems.push("work: there is none".into());
    }
    if scenario.work.iter().map(|work| work.weight).sum::<f64>() <= 0.0 {
        problems.push("work: all weights are zero".into());
    }
    for (at, work) in scenario.work.iter().enumerate() {
        let names = scenario.work.iter().filter(|other| other.name == work.name).count();
        if names > 1 {
            problems.push(format!("work[{at}].name: {:?} is there {names} times", work.name));
        }
        check_work(&format!("work[{at}]"), work, &mut problems);
    }
    for (at, key) in scenario.keys.iter().enumerate() {
        let plain = !key.secret.is_empty() && key.secret.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain {
            problems.push(format!("keys[{at}].secret: printable ASCII only"));
        }
        if !(key.weight > 0.0 && key.weight.is_finite()) {
            problems.push(format!("keys[{at}].weight: above zero"));
        }
    }
    let sla = &scenario.sla;
    let shares = [
        ("error_share_max", sla.error_share_max),
        ("shed_share_max", sla.shed_share_max),
        ("fairness_min", sla.fairness_min),
    ];
    for (name, share) in shares {
        if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            problems.push(format!("sla.{name}: from 0 to 1"));
        }
    }
    if sla.fairness_min.is_some() && scenario.keys.len() < 2 {
        problems.push("sla.fairness_min: needs at least two keys".into());
    }
    problems
}

fn check_load(load: &Load, problems: &mut Vec<String>) {
    if load.connections == 0 || load.connections > CONNECTIONS_MAX {
        problems.push(format!("load.connections: from 1 to {CONNECTIONS_MAX}"));
    }
    if load.timeout.is_zero() {
        problems.push("load.timeout: above zero".into());
    }
    match load.mode {
        Mode::Open => {
            if load.phases.is_empty() {
                problems.push("load.phases: an open loop needs one".into());
            }
            if load.time.is_some() || !load.think.is_zero() || !load.ramp_up.is_zero() {
                problems.push("load: time, think and ramp_up belong to a closed loop".into());
            }
        }
        Mode::Closed => {
            if load.time.is_none() {
                problems.push("load.time: a closed loop needs it".into());
            }
            if !load.phases.is_empty() {
                problems.push("load.phases: belong to an open loop".into());
            }
        }
    }
    for (at, phase) in load.phases.iter().enumerate() {
        let rates = [phase.rate, phase.to.unwrap_or(0.0)];
        if rates.iter().any(|rate| !(0.0..=RATE_MAX).contains(rate)) {
            problems.push(format!("load.phases[{at}]: rates from 0 to {RATE_MAX}"));
        }
        if phase.time.is_zero() {
            problems.push(format!("load.phases[{at}].time: above zero"));
        }
        let spaced = phase.every.is_some_and(|every| every.as_micros() > 0 && every < phase.time);
        if phase.burst > 0 && !spaced {
            problems.push(format!("load.phases[{at}].every: a burst needs it, shorter than the phase"));
        }
        if phase.burst == 0 && phase.every.is_some() {
            problems.push(format!("load.phases[{at}].burst: every what?"));
        }
    }
}

fn check_work(place: &str, work: &Work, problems: &mut Vec<String>) {
    if !(work.weight >= 0.0 && work.weight.is_finite()) {
        problems.push(format!("{place}.weight: zero or more"));
    }
    if !(0.0..=1.0).contains(&work.hit_share) {
        problems.push(format!("{place}.hit_share: from 0 to 1"));
    }
    if !(200..600).contains(&work.hit_status) {
        problems.push(format!("{place}.hit_status: a status"));
    }
    if !is_plain(&work.model) || work.model.is_empty() {
        problems.push(format!("{place}.model: a name without quotes, backslashes and controls"));
    }
    if work
        .path
        .as_ref()
        .is_some_and(|path| !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()))
    {
        problems.push(format!("{place}.path: begins with a slash, without blanks"));
    }
    if work.check == Check::Sim && work.kind != Kind::Embeddings && work.answer_tokens < 3 {
        problems.push(format!("{place}.answer_tokens: 3 or more, or check = \"shape\""));
    }
    if work.hits.iter().any(|text| text.is_empty() || !is_plain(text)) {
        problems.push(format!("{place}.hits: without quotes, backslashes and controls"));
    }
    if work.kind == Kind::Embeddings && work.prefix.is_some() {
        problems.push(format!("{place}.prefix: belongs to chats and streams"));
    }
    check_words(place, work.words, problems);
    if let Some(Prefix { pool, words, share, skew }) = work.prefix {
        let ranges = [(1..=10_000).contains(&pool), (1..=WORDS_MAX).contains(&words)];
        if ranges.contains(&false) || !(0.0..=1.0).contains(&share) || !(0.0..=10.0).contains(&skew) {
            problems.push(format!(
                "{place}.prefix: pool from 1 to 10000, words from 1 to {WORDS_MAX}, share from 0 to 1, skew from 0 to 10"
            ));
        }
    }
    for (language, weight) in &work.languages {
        if !corpus::LANGUAGES.contains(&language.as_str()) {
            problems
                .push(format!("{place}.languages: {language:?} is none of {}", corpus::LANGUAGES.join(", ")));
        }
        if !(*weight >= 0.0 && weight.is_finite()) {
            problems.push(format!("{place}.languages.{language}: zero or more"));
        }
    }
}

fn check_words(place: &str, words: Law, problems: &mut Vec<String>) {
    let (min, max, fits) = match words {
        Law::Constant { value } => (value, value, true),
        Law::Uniform { min, max } => (min, max, true),
        Law::Lognormal { median, sigma, min, max } => {
            (min, max, median >= 1.0 && median.is_finite() && (0.0..=5.0).contains(&sigma))
        }
    };
    if min < 1 || max > WORDS_MAX || min > max || !fits {
        problems.push(format!(
            "{place}.words: from 1 to {WORDS_MAX}, min not above max, median from 1, sigma from 0 to 5"
        ));
    }
}

/// Whether a text stands in JSON as it is.
fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || c == '"' || c == '\\')
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    const GOOD: &str = r#"
        about = "a test"
        [load]
        mode = "open"
        phases = [{ time = "2s", rate = 10, to = 20 }, { time = "3s", rate = 20.5, burst = 5, every = "1s" }]
        [[work]]
        name = "chat"
        kind = "chat"
        model = "m"
        words = { law = "uniform", min = 1, max = 5 }
        languages = { en = 3, vi = 1 }
    "#;

    #[test]
    fn a_good_one_is_read_and_scaled() {
        let mut scenario = Scenario::parse(GOOD).unwrap();
        assert_eq!(scenario.time().as_secs(), 5);
        assert!((scenario.peak() - 20.5).abs() < 1e-9);
        scenario.scale_time(std::time::Duration::from_secs(10));
        scenario.scale_rate(41.0);
        let phase = &scenario.load.phases[1];
        assert_eq!((phase.time.as_secs(), phase.burst, phase.every.unwrap().as_secs()), (6, 10, 1));
        assert!((phase.rate - 41.0).abs() < 1e-9);
        scenario.scale_time(std::time::Duration::from_secs(1));
        assert_eq!(scenario.load.phases[1].every.unwrap().as_millis(), 300);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let bad = GOOD
            .replace("rate = 10,", "rate = -1,")
            .replace("every = \"1s\"", "every = \"9s\"")
            .replace("max = 5", "max = 0")
            .replace("vi = 1", "xx = 1")
            .replace("model = \"m\"", "model = \"\"\nhit_share = 2.0");
        let problems = Scenario::parse(&bad).unwrap_err();
        for part in ["phases[0]", "phases[1].every", "work[0].words", "xx", "work[0].model", "hit_share"] {
            assert!(problems.contains(part), "{part} in:\n{problems}");
        }
        assert!(Scenario::parse(&GOOD.replace("mode = ", "mood = ")).unwrap_err().contains("mood"));
        assert!(Scenario::parse(&GOOD.replace("\"2s\"", "\"2 days\"")).unwrap_err().contains("no time"));
    }
}
