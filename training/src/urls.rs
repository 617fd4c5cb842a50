//! The model of hosts' names for the MaliciousURLs scanner: logistic regression by stochastic gradient
//! descent.
//!
//! Trained on rows whose licence lets weights ship (classes P and S): hosts of malware against popular ones
//! and those of documentation, each once. The thresholds are those that one in a hundred and one in a
//! thousand benign hosts of the development split pass. Same rows and seed: same bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use corelane::guard::scanners::malicious_urls::model::{BUCKETS, HEAD, MAGIC, features};
use flate2::read::GzDecoder;
use serde::Deserialize;

/// Passes over the rows.
const PASSES: usize = 8;
/// What a row of malware counts, beside one of the many benign ones.
const MALWARE: f32 = 2.5;

#[derive(Deserialize)]
struct Line {
    text: String,
    label: u8,
    lic: String,
}

/// Features of a host, and whether it is malware's.
struct Row {
    features: Vec<usize>,
    malware: bool,
}

/// Trains on the URLs of `data_dir` and writes the model to `out_path`.
///
/// # Errors
/// A file cannot be read or written.
pub fn train(data_dir: &Path, out_path: &Path, seed: u64) -> Result<(), String> {
    let mut rows = read(&data_dir.join("malicious_urls.train.jsonl.gz"))?;
    let benign = read(&data_dir.join("malicious_urls.dev.jsonl.gz"))?;
    let (weights, bias) = fit(&mut rows, seed);
    let largest = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
    let small: Vec<i8> = weights.iter().map(|weight| (weight / scale).round() as i8).collect();
    let score = |row: &Row| {
        let sum: i32 =
            row.features.iter().filter_map(|bucket| small.get(*bucket)).map(|w| i32::from(*w)).sum();
        bias + scale * sum as f32 / (row.features.len().max(1) as f32).sqrt()
    };
    let mut scores: Vec<f32> = benign.iter().filter(|row| !row.malware).map(score).collect();
    scores.sort_unstable_by(f32::total_cmp);
    let passed_by =
        |share: usize| scores.get(scores.len() - 1 - scores.len() / share).copied().unwrap_or(f32::MAX);
    if scores.is_empty() {
        return Err(format!("{}: no benign rows to set thresholds with", data_dir.display()));
    }
    let mut file = Vec::with_capacity(HEAD + BUCKETS);
    file.extend(MAGIC);
    for number in [bias, scale, passed_by(100), passed_by(1000)] {
        file.extend(number.to_le_bytes());
    }
    file.extend(small.iter().map(|weight| weight.cast_unsigned()));
    fs::write(out_path, file).map_err(|error| format!("{}: {error}", out_path.display()))
}

/// The rows of `path` that weights may be made of, each host once.
fn read(path: &Path) -> Result<Vec<Row>, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut hosts: BTreeMap<String, bool> = BTreeMap::new();
    for line in BufReader::new(GzDecoder::new(File::open(path).map_err(wrong)?)).lines() {
        let line: Line = serde_json::from_str(&line.map_err(wrong)?)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if matches!(line.lic.as_str(), "P" | "S") {
            *hosts.entry(host(&line.text)).or_default() |= line.label == 1;
        }
    }
    let row = |(host, malware): (String, bool)| {
        let mut all = Vec::new();
        features(&host, |bucket| all.push(bucket));
        Row { features: all, malware }
    };
    Ok(hosts.into_iter().map(row).collect())
}

/// The name in a URL of the data, which are plain ones.
fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#', ':']).next().unwrap_or_default().to_ascii_lowercase();
    host.strip_prefix("www.").map(str::to_owned).unwrap_or(host)
}

/// Weights and bias, by AdaGrad in an order that `seed` makes.
fn fit(rows: &mut [Row], seed: u64) -> (Vec<f32>, f32) {
    let (mut weights, mut squares, mut bias) = (vec![0.0_f32; BUCKETS], vec![1e-3_f32; BUCKETS], 0.0_f32);
    let mut state = seed;
    for _ in 0..PASSES {
        for at in (1..rows.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            rows.swap(at, (state >> 33) as usize % (at + 1));
        }
        for row in rows.iter() {
            let share = 1.0 / (row.features.len().max(1) as f32).sqrt();
            let sum: f32 = row.features.iter().map(|bucket| weights[*bucket]).sum();
            let guess = 1.0 / (1.0 + (-(bias + sum * share)).exp());
            let error = if row.malware { (guess - 1.0) * MALWARE } else { guess };
            bias -= 0.02 * error;
            for bucket in &row.features {
                let slope = error * share + 2e-5 * weights[*bucket];
                squares[*bucket] += slope * slope;
                weights[*bucket] -= 0.3 * slope / squares[*bucket].sqrt();
            }
        }
    }
    (weights, bias)
}
