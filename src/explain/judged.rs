//! The guard's verdict on a request, with what each scanner came to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Ask, Report, Sight, Stage};
use crate::api::{Texts, View};
use crate::config::guard::{Action, ScannerName};
use crate::guard::Profile;
use crate::guard::chain::{Chain, Inspection};
use crate::guard::verdict::{Found, Tally};
use crate::reading::{self, Ground, Turns};

/// Reasons that are shown of one scanner.
const REASONS_MAX: usize = 3;

/// Ground on which scores are noted and nothing is remembered.
struct Noted<'a, T> {
    turns: &'a mut T,
    /// Whether what weighed most is shown: it is for operators.
    whole: bool,
    scores: HashMap<ScannerName, f32>,
    reasons: HashMap<ScannerName, Vec<String>>,
}

impl<T: Turns> Turns for Noted<'_, T> {
    fn now_ns(&self) -> u64 {
        self.turns.now_ns()
    }

    async fn step(&mut self) {
        self.turns.step().await;
    }
}

impl<T: Turns> Ground for Noted<'_, T> {
    type Key = Infallible;

    fn key(&self, _: &Profile, _: &str) -> Option<Infallible> {
        None
    }

    fn known(&self, key: &Infallible) -> Option<Arc<Found>> {
        match *key {}
    }

    fn learn(&self, key: Infallible, _: &Arc<Found>) {
        match key {}
    }

    fn note(&mut self, chain: &Chain, inspection: &Inspection) {
        for name in chain.scanners() {
            let score = chain.score(&inspection.reading, name);
            let best = self.scores.entry(name).or_default();
            *best = best.max(score);
        }
        for finding in &inspection.reading.found.findings {
            let rule = finding.rule.as_ref();
            let shown = self.whole && !finding.reason.is_empty() && finding.reason != rule;
            let reason = if shown { format!("{rule}: {}", finding.reason) } else { rule.to_owned() };
            let reasons = self.reasons.entry(finding.scanner).or_default();
            if reasons.len() < REASONS_MAX && !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
    }
}

/// Reads the request by a profile; `view` takes its redactions. `false`: it is blocked.
pub async fn judge<T: Turns>(
    ask: &Ask<'_>,
    profile: Option<&Arc<Profile>>,
    (view, texts): (&mut View, &Texts),
    model: &str,
    turns: &mut T,
    report: &mut Report,
) -> bool {
    let Some(profile) = profile else {
        report.step("guard", "off", "no profile is on for this model and key", json!({"model": model}));
        return true;
    };
    let whole = ask.sight == Sight::Operator;
    let mut ground = Noted { turns, whole, scores: HashMap::new(), reasons: HashMap::new() };
    let mut tally = Tally::default();
    let body = ask.body.unwrap_or_default();
    let read = reading::request(&mut ground, profile, texts, body, view, &mut tally).await;
    let scanners: Vec<Value> =
        profile.input.scanners().map(|name| scanner(&profile.input, name, &tally, &ground)).collect();
    let more = json!({"model": model, "profile": profile.name, "scanners": scanners});
    match read {
        Err(failure) => {
            let mut more = more;
            more["result"] = json!("block");
            report.refuse(Stage::Guard, "guard", failure, more);
            false
        }
        Ok(_) => {
            let (result, why) = match tally.actions.iter().flatten().max() {
                Some(Action::Redact) => ("redact", "what was found is masked before it leaves"),
                Some(_) => ("monitor", "what was found is counted only"),
                None => ("pass", "nothing was found"),
            };
            report.step("guard", result, why, more);
            true
        }
    }
}

fn scanner<T>(chain: &Chain, name: ScannerName, tally: &Tally, ground: &Noted<'_, T>) -> Value {
    let at = name as usize;
    if tally.failed[at] {
        let valid = !chain.failure_blocks(name);
        return json!({"name": name.name(), "valid": valid, "score": 0.0, "reason": "failed"});
    }
    let found = tally.actions[at].is_some();
    let noted = ground.scores.get(&name).copied().unwrap_or_default();
    let rule = tally.rules.iter().find(|(of, _)| *of == name).map_or("", |(_, rule)| rule.as_ref());
    json!({
        "name": name.name(),
        "valid": !found,
        "score": if found && noted == 0.0 { 1.0 } else { noted },
        "reason": ground.reasons.get(&name).map_or_else(|| rule.to_owned(), |reasons| reasons.join("; ")),
    })
}
