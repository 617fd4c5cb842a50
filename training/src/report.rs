//! Tables: area under the curve, recall at a share of false alarms, false alarms at the default threshold.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use corelane::guard::linear::Head;
use corelane::guard::linear::model::Model;
use corelane::guard::linear::script::Group;

use crate::Options;
use crate::data::Use;
use crate::fit::{fit, group, windows};
use crate::texts::Text;

/// A bar on standard error.
pub fn progress(what: &str, done: usize, total: usize) {
    let filled = 30 * done / total.max(1);
    let bar: String = (0..30).map(|at| if at < filled { '#' } else { '.' }).collect();
    eprint!("\r{what:<24} [{bar}] {done}/{total}");
    if done == total {
        eprintln!();
    }
    let _ = std::io::stderr().flush();
}

/// The highest probability over a text's windows, by the bytes of the model.
pub fn score(model: &Model, text: &Text, head: Head) -> (f32, Group) {
    let mut best = (0.0, text.group);
    for window in windows(text, head) {
        let (mut weights, mut rules, mut features, mut segments) = (0, 0, 0, 0);
        for piece in text.pieces.get(window.0..=window.1).unwrap_or_default() {
            weights +=
                piece.features.iter().map(|bucket| i32::from(model.weights[*bucket as usize])).sum::<i32>();
            rules += piece.rules.iter().map(|rule| i32::from(model.rules[usize::from(*rule)])).sum::<i32>();
            features += piece.segment.features;
            segments += 1;
        }
        let group = group(text, window);
        let score = model.scale.probability(model.scale.raw(weights, features, rules, segments), group);
        if score > best.0 {
            best = (score, group);
        }
    }
    best
}

fn area(benign: &[f32], attacks: &[f32]) -> f32 {
    let mut all: Vec<(f32, bool)> = benign.iter().map(|score| (*score, false)).collect();
    all.extend(attacks.iter().map(|score| (*score, true)));
    all.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
    let (mut below, mut sum, mut at) = (0.0_f64, 0.0_f64, 0);
    while at < all.len() {
        let end =
            all[at..].iter().position(|(score, _)| *score != all[at].0).map_or(all.len(), |more| at + more);
        let ties = all[at..end].iter().filter(|(_, label)| !label).count() as f64;
        sum += (end - at) as f64 * (below + ties / 2.0) - ties * (below + ties / 2.0);
        below += ties;
        at = end;
    }
    (sum / (benign.len() as f64 * attacks.len() as f64)) as f32
}

fn above(scores: &[f32], limit: f32) -> f32 {
    scores.iter().filter(|score| **score > limit).count() as f32 / scores.len().max(1) as f32
}

fn limit_at(benign: &[f32], share: f32) -> f32 {
    let mut sorted = benign.to_vec();
    sorted.sort_unstable_by(|left, right| right.total_cmp(left));
    sorted.get((share * sorted.len() as f32) as usize).copied().unwrap_or(0.0)
}

fn line(name: &str, benign: &[f32], attacks: &[f32], limit: f32) {
    let show = |value: f32, there: bool| if there { format!("{value:.3}") } else { "-".to_owned() };
    let both = !benign.is_empty() && !attacks.is_empty();
    println!(
        "{name:<34} {:>6} {:>6}  AUC {:>5}  R@1% {:>5}  FPR {:>6}  recall {:>5}",
        benign.len(),
        attacks.len(),
        show(if both { area(benign, attacks) } else { 0.0 }, both),
        show(if both { above(attacks, limit_at(benign, 0.01)) } else { 0.0 }, both),
        if benign.is_empty() { "-".to_owned() } else { format!("{:.4}", above(benign, limit)) },
        show(above(attacks, limit), !attacks.is_empty()),
    );
}

fn threshold(head: Head) -> f32 {
    match head {
        Head::Injection => 0.92,
        Head::Toxicity => 0.5,
        Head::Refusal => 0.75,
    }
}

/// All tables of a model; with `dump`, each measured text with its score.
pub fn tables(texts: &[Text], head: Head, model: &Model, dump: Option<&Path>) -> Result<(), String> {
    let limit = threshold(head);
    let mut dumped = String::new();
    let mut by: BTreeMap<(u8, String), [Vec<f32>; 2]> = BTreeMap::new();
    for text in texts.iter().filter(|text| !text.made) {
        let (score, group) = score(model, text, head);
        let label = usize::from(text.row.label);
        let split = match text.row.usage {
            Use::Train => "train",
            Use::Dev => "dev",
            Use::Unseen => "unseen",
        };
        if dump.is_some() {
            dumped += &format!(
                "{}\n",
                serde_json::json!({"score": score, "label": label, "split": split, "source": text.row.source,
                    "group": group.name(), "text": text.row.text})
            );
        }
        let mut add = |order: u8, name: String| by.entry((order, name)).or_default()[label].push(score);
        add(0, format!("{split} all"));
        add(1, format!("{split} group {}", text.group.name()));
        if text.row.usage != Use::Train || text.row.own {
            add(2, format!("{split} {}", text.row.source));
        }
    }
    println!("== {} at {limit}", head.name());
    for ((_, name), [benign, attacks]) in &by {
        line(name, benign, attacks, limit);
    }
    // Unseen attacks against the benign texts of the development split, a group.
    for group in Group::ALL {
        let name = group.name();
        let get = |split: &str| by.get(&(1, format!("{split} group {name}")));
        let benign = get("dev").map(|[benign, _]| benign.as_slice()).unwrap_or_default();
        if let Some([_, attacks]) = get("unseen").filter(|[_, attacks]| !attacks.is_empty()) {
            line(&format!("unseen attacks, dev benign {name}"), benign, attacks, limit);
        }
    }
    match dump {
        Some(path) => std::fs::write(path, dumped).map_err(|error| format!("{}: {error}", path.display())),
        None => Ok(()),
    }
}

/// Each large source of attacks left out of the training and then measured against the benign development
/// split.
pub fn leave_out(texts: &[Text], head: Head, options: &Options) {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for text in texts.iter().filter(|text| text.row.usage == Use::Train && text.row.label && !text.made) {
        *sizes.entry(&text.row.source).or_default() += 1;
    }
    let mut sizes: Vec<(&str, usize)> = sizes.into_iter().filter(|(_, size)| *size >= 40).collect();
    sizes.sort_unstable_by_key(|(name, size)| (usize::MAX - size, *name));
    println!("== {}: left out", head.name());
    for (source, _) in sizes.into_iter().take(10) {
        let train: Vec<&Text> =
            texts.iter().filter(|text| text.row.usage == Use::Train && text.row.source != source).collect();
        let linear = fit(&train, head, options.tuning(head), options.seed, source);
        let scores = |label: bool| -> Vec<f32> {
            let measured = texts.iter().filter(|text| {
                !text.made
                    && text.row.label == label
                    && if label { text.row.source == source } else { text.row.usage == Use::Dev }
            });
            measured.map(|text| linear.best(text, head).0).collect()
        };
        line(source, &scores(false), &scores(true), 0.0);
    }
}
