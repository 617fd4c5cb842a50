//! What weighed most in a segment, for the operator: made again from its text, for findings only.

use super::Head;
use super::features::{Pass, Shape, Sink};
use super::lexicon::{CONCEPTS, Lexicon, NAMES};
use super::model::{Models, feature_value};
use crate::guard::scanners::{no_refusal, prompt_injection, toxicity};

/// Pieces of evidence that a reason names.
const NAMED: usize = 4;
/// Bytes of a quoted piece.
const QUOTED: usize = 48;

struct Recorder<'a> {
    models: &'a Models,
    head: Head,
    at: usize,
    words: Vec<(usize, usize)>,
    pieces: Vec<(usize, usize, i32)>,
    rules: Vec<usize>,
    features: u32,
    gathered: i32,
    dense: bool,
}

impl Recorder<'_> {
    fn weight(&self, lanes: &[i8]) -> i32 {
        lanes.get(self.head as usize).map_or(0, |weight| i32::from(*weight))
    }
}

impl Sink for Recorder<'_> {
    fn feature(&mut self, bucket: usize, shape: Shape) {
        self.features += 1;
        let weight = self.weight(&self.models.weights(bucket));
        let end = self.words.last().map_or(self.at, |(_, end)| *end);
        match shape {
            Shape::Characters(length) if self.dense => {
                self.pieces.push((usize::from(length), self.at, weight));
            }
            Shape::Characters(_) => self.gathered += weight,
            Shape::Words(count) => {
                let from =
                    self.words.len().checked_sub(usize::from(count)).and_then(|index| self.words.get(index));
                if let Some((start, _)) = from {
                    let own = if count == 1 { self.gathered } else { 0 };
                    self.pieces.push((*start, end, weight + own));
                }
            }
            Shape::Skip => {}
        }
    }

    fn rule(&mut self, rule: usize) {
        self.rules.push(rule);
    }
}

/// The category of the finding and what weighed most in `text`.
pub(super) fn explain(models: &Models, head: Head, text: &str) -> (&'static str, String) {
    let lexicon = Lexicon::get();
    let mut recorder = Recorder {
        models,
        head,
        at: 0,
        words: Vec::new(),
        pieces: Vec::new(),
        rules: Vec::new(),
        features: 0,
        gathered: 0,
        dense: false,
    };
    let mut pass = Pass::default();
    let mut starts: Vec<usize> = Vec::new();
    let mut word = None;
    for (index, c) in text.char_indices() {
        starts.push(index);
        let dense = super::script::is_ideograph(c);
        if !dense && (c.is_alphanumeric() || c == '_') {
            word.get_or_insert_with(|| {
                recorder.gathered = 0;
                index
            });
        } else if let Some(start) = word.take() {
            recorder.words.push((start, index));
        }
        (recorder.at, recorder.dense) = (starts.len(), dense);
        pass.step(c, lexicon, &mut recorder);
        if dense {
            resolve(&mut recorder.pieces, &starts, index + c.len_utf8());
        }
    }
    if let Some(start) = word {
        recorder.words.push((start, text.len()));
    }
    recorder.dense = false;
    pass.end(lexicon, &mut recorder);
    let rule = category(models, head, &recorder);
    (rule, name(models, head, &recorder, text))
}

/// Pieces of the last character hold a length; they get their start.
fn resolve(pieces: &mut [(usize, usize, i32)], starts: &[usize], end: usize) {
    for piece in pieces.iter_mut().rev().take(3).filter(|piece| piece.1 == starts.len() && piece.0 <= 3) {
        let start =
            starts.len().checked_sub(piece.0).and_then(|index| starts.get(index)).copied().unwrap_or(0);
        (piece.0, piece.1) = (start, end);
    }
}

fn category(models: &Models, head: Head, recorder: &Recorder<'_>) -> &'static str {
    let weigh = |rule: usize| recorder.weight(&models.rule(rule));
    match head {
        Head::Injection => prompt_injection::category(&recorder.rules, weigh),
        Head::Toxicity => toxicity::category(&recorder.rules, weigh),
        Head::Refusal => no_refusal::category(&recorder.rules, weigh),
    }
}

fn name(models: &Models, head: Head, recorder: &Recorder<'_>, text: &str) -> String {
    let Some(scale) = models.scales.get(head as usize) else { return String::new() };
    let value = scale.weights * feature_value(recorder.features);
    let mut pieces: Vec<(f32, String)> = Vec::new();
    for (start, end, weight) in &recorder.pieces {
        let quoted = text.get(*start..*end).unwrap_or_default();
        if *weight > 0 && !quoted.is_empty() && quoted.len() <= QUOTED {
            pieces.push((*weight as f32 * value, quoted.to_owned()));
        }
    }
    for rule in &recorder.rules {
        let weight = recorder.weight(&models.rule(*rule));
        let concept = |index: usize| NAMES.get(index).copied().unwrap_or("?");
        let (first, second) = (concept(rule / CONCEPTS), concept(rule % CONCEPTS));
        if weight > 0 {
            let label =
                if first == second { format!("[{first}]") } else { format!("[{first} … {second}]") };
            pieces.push((weight as f32 * scale.rules, label));
        }
    }
    pieces.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    let mut named: Vec<String> = Vec::new();
    let mut quoted: Vec<&str> = Vec::new();
    for (weight, piece) in &pieces {
        if named.len() == NAMED {
            break;
        }
        if !quoted.iter().any(|known| known.contains(piece.as_str()) || piece.contains(known)) {
            named.push(format!("{piece} (+{weight:.1})"));
            quoted.push(piece);
        }
    }
    named.join(", ")
}
