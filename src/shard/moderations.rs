//! `/v1/moderations`, answered by the scanners of the default profile in OpenAI's shape.
//!
//! `flagged` is what the gateway itself would do with such a prompt. Toxicity's categories are given under the nearest
//! of OpenAI's names; the verdicts of all scanners stand beside them under `scanners`.

use serde_json::{Map, Value, json};

use super::Shard;
use super::exchange::Exit;
use super::screen::Pace;
use crate::api::{Failure, FailureKind};
use crate::config::guard::ScannerName;
use crate::guard::chain::{Chain, Inspection};
use crate::reading::STEP;

/// Texts of one request at most.
const TEXTS_MAX: usize = 256;
/// OpenAI's categories.
const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// The answer's body.
///
/// # Errors
/// `body` has no `input` of texts.
pub async fn answer(shard: &Shard, body: &[u8]) -> Result<Vec<u8>, Exit> {
    let Some(profile) = shard.world.guard.profile(Some(0)) else {
        return Err(Some(Failure::new(FailureKind::UnknownPath, "The default profile of the guard is off.")));
    };
    let _permit = shard.process.running.take().ok_or_else(|| {
        let text = "The gateway is at its limit of concurrent requests.";
        Some(Failure::new(FailureKind::TooManyRequests, text).after(1))
    })?;
    let body: Value = serde_json::from_slice(body).map_err(|_| {
        Some(Failure::new(FailureKind::BadRequest, "The request body is not a valid JSON object."))
    })?;
    let Some(texts) = texts(&body["input"]).filter(|texts| texts.len() <= TEXTS_MAX) else {
        let what =
            format!("'input' must be a string, or an array of at most {TEXTS_MAX} strings or text parts.");
        return Err(Some(Failure::new(FailureKind::BadRequest, what).at("input")));
    };
    let mut pace = Pace::start();
    let mut results = Vec::new();
    for text in texts {
        let mut inspection = profile.input.inspect();
        while !profile.input.step(&mut inspection, text, STEP) {
            pace.step(shard).await;
        }
        results.push(result(&profile.input, &inspection));
    }
    let id = format!("modr-{:016x}", shard.random());
    let model = body["model"].as_str().unwrap_or("corelane-guard");
    Ok(json!({"id": id, "model": model, "results": results}).to_string().into_bytes())
}

/// The texts of `input`: strings are judged one by one, the parts of one message together.
fn texts(input: &Value) -> Option<Vec<&str>> {
    match input {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => items
            .iter()
            .filter(|item| item["type"] != "image_url")
            .map(|item| item.as_str().or_else(|| item["text"].as_str()))
            .collect(),
        _ => None,
    }
}

fn result(chain: &Chain, inspection: &Inspection) -> Value {
    let reading = &inspection.reading;
    let toxicity = chain.score(reading, ScannerName::Toxicity);
    let mut categories: Map<String, Value> =
        CATEGORIES.iter().map(|name| ((*name).to_owned(), json!(false))).collect();
    let mut scores: Map<String, Value> =
        CATEGORIES.iter().map(|name| ((*name).to_owned(), json!(0.0))).collect();
    scores.insert("harassment".to_owned(), json!(toxicity));
    for finding in reading.found.findings.iter().filter(|finding| finding.scanner == ScannerName::Toxicity) {
        let names: &[&str] = match finding.rule.as_ref() {
            "threat" => &["harassment/threatening", "violence"],
            "identity_attack" => &["hate"],
            "sexual" => &["sexual"],
            _ => &["harassment"],
        };
        for name in names {
            categories.insert((*name).to_owned(), json!(true));
            scores.insert((*name).to_owned(), json!(finding.score));
        }
    }
    let scanners: Vec<Value> = chain
        .scanners()
        .filter(|name| *name != ScannerName::TokenLimit)
        .map(|name| {
            let mut findings = reading.found.findings.iter().filter(|finding| finding.scanner == name);
            let rule = findings.next().map(|finding| finding.rule.as_ref());
            json!({"name": name.name(), "valid": rule.is_none(), "score": chain.score(reading, name), "rule": rule})
        })
        .collect();
    let failed = chain.scanners().any(|name| chain.has_failed(reading, name) && chain.failure_blocks(name));
    json!({
        "flagged": !reading.found.findings.is_empty() || failed,
        "categories": categories,
        "category_scores": scores,
        "scanners": scanners,
    })
}
