//! From texts to a model: instances, naive-Bayes weighting, rounds over the hardest windows, calibration.

use std::collections::BTreeMap;

use corelane::guard::linear::Head;
use corelane::guard::linear::features::{BUCKETS, RULES};
use corelane::guard::linear::model::{Model, Scale, feature_value};
use corelane::guard::linear::script::{Group, Scripts};

use crate::Options;
use crate::data::Use;
use crate::report::progress;
use crate::solver::{Instance, Random, solve};
use crate::texts::Text;

/// What can be tuned.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Cost of an error against the norm.
    pub cost: f32,
    /// How large a rule is beside the n-grams.
    pub rule_gain: f32,
    /// Rounds over the hardest windows.
    pub rounds: usize,
}

impl Tuning {
    /// What was found best for a head, on sources that it was not trained on.
    #[must_use]
    pub fn of(head: Head) -> Self {
        match head {
            Head::Injection => Self { cost: 10.0, rule_gain: 0.35, rounds: 2 },
            Head::Toxicity => Self { cost: 0.7, rule_gain: 0.25, rounds: 2 },
            Head::Refusal => Self { cost: 8.0, rule_gain: 0.15, rounds: 2 },
        }
    }
}

/// Weights before they are made bytes.
pub struct Linear {
    buckets: Vec<f32>,
    rules: Vec<f32>,
    bias: f32,
}

const BIAS: usize = BUCKETS + RULES;

impl Linear {
    fn window(&self, text: &Text, first: usize, last: usize) -> f32 {
        let pieces = text.pieces.get(first..=last).unwrap_or_default();
        let (mut sum, mut rules, mut count) = (0.0_f32, 0.0_f32, 0);
        for piece in pieces {
            sum += piece.features.iter().map(|bucket| self.buckets[*bucket as usize]).sum::<f32>();
            rules += piece.rules.iter().map(|rule| self.rules[usize::from(*rule)]).sum::<f32>();
            count += piece.segment.features;
        }
        sum * feature_value(count) + rules / (pieces.len().max(1) as f32).sqrt() + self.bias
    }

    /// The highest window and its score.
    pub fn best(&self, text: &Text, head: Head) -> (f32, (usize, usize)) {
        let mut best = (f32::NEG_INFINITY, (0, 0));
        for window in windows(text, head) {
            let score = self.window(text, window.0, window.1);
            if score > best.0 {
                best = (score, window);
            }
        }
        best
    }
}

/// The windows of a text that a head looks at.
pub fn windows(text: &Text, head: Head) -> Vec<(usize, usize)> {
    match head {
        Head::Injection => {
            let alone = (0..text.pieces.len()).map(|piece| (piece, piece));
            return alone
                .filter(|window| !text.windows.contains(window))
                .chain(text.windows.iter().copied())
                .collect();
        }
        Head::Toxicity => return text.windows.clone(),
        Head::Refusal => {}
    }
    let mut units = 0;
    let mut windows = Vec::new();
    for (last, piece) in text.pieces.iter().enumerate() {
        if units >= 400 {
            break;
        }
        windows.push((0, last));
        units += piece.segment.units;
    }
    windows
}

/// The group of a window.
pub fn group(text: &Text, window: (usize, usize)) -> Group {
    let mut scripts = Scripts::default();
    for piece in text.pieces.get(window.0..=window.1).unwrap_or_default() {
        scripts.add(&piece.segment.scripts);
    }
    scripts.group()
}

/// A weight each text: sources count less the larger they are, and each group's attacks as much as a share
/// of its rest.
fn costs(texts: &[&Text], head: Head) -> Vec<f64> {
    let mut sources: BTreeMap<(&str, bool), f64> = BTreeMap::new();
    for text in texts {
        *sources.entry((&text.row.source, text.row.label)).or_default() += 1.0;
    }
    let own = |text: &Text| {
        let size = sources.get(&(text.row.source.as_str(), text.row.label)).copied().unwrap_or(1.0);
        let made = if text.made { 0.5 } else { 1.0 };
        // What a person wrote says more than what a grammar made.
        let mine = match text.row.source.as_str() {
            source if source.starts_with("own:injection") => 2.5,
            source if source.starts_with("own:grammar_") => 0.4,
            _ if text.row.own && head == Head::Injection => 0.7,
            _ if text.row.own => 1.5,
            _ => 1.0,
        };
        made * mine * (size / 300.0).max(1.0).powf(-0.35)
    };
    let mut sums = vec![[0.0_f64; 2]; Group::ALL.len()];
    for text in texts {
        sums[text.group as usize][usize::from(text.row.label)] += own(text);
    }
    let share = if head == Head::Injection { 0.6 } else { 0.8 };
    texts
        .iter()
        .map(|text| {
            let [benign, attacks] = sums[text.group as usize];
            let factor = if text.row.label && attacks > 0.0 {
                (share * benign / attacks).clamp(0.5, 6.0)
            } else if attacks > benign && benign > 0.0 {
                (attacks / benign).clamp(1.0, 3.0)
            } else {
                1.0
            };
            own(text) * factor
        })
        .collect()
}

/// |log ratio| of each feature between the labels.
fn ratios(texts: &[&Text], costs: &[f64], head: Head) -> Vec<f32> {
    let mut counts = vec![[0.0_f32; 2]; BIAS + 1];
    let mut totals = [0.0_f32; 2];
    let mut seen = vec![u32::MAX; BIAS + 1];
    for (index, (text, cost)) in texts.iter().zip(costs).enumerate() {
        let label = usize::from(text.row.label);
        totals[label] += *cost as f32;
        let last = windows(text, head).last().map_or(0, |window| window.1);
        for piece in text.pieces.iter().take(last + 1) {
            let rules = piece.rules.iter().map(|rule| BUCKETS + usize::from(*rule));
            for feature in piece.features.iter().map(|bucket| *bucket as usize).chain(rules) {
                if seen[feature] != index as u32 {
                    seen[feature] = index as u32;
                    counts[feature][label] += *cost as f32;
                }
            }
        }
    }
    // Many languages share the buckets of these heads: rare features are trusted less.
    let (smooth, least, most) = if head == Head::Injection { (0.5, 0.0, 6.0) } else { (1.0, 0.3, 3.0) };
    let mut ratios: Vec<f32> = counts
        .iter()
        .map(|[benign, attacks]| {
            let attack = (attacks + smooth) / (totals[1] + 2.0 * smooth);
            let rest = (benign + smooth) / (totals[0] + 2.0 * smooth);
            least + (attack / rest).ln().abs().min(most)
        })
        .collect();
    ratios[BIAS] = 1.0;
    ratios
}

fn instance(text: &Text, window: (usize, usize), cost: f64, ratios: &[f32], tuning: Tuning) -> Instance {
    let pieces = text.pieces.get(window.0..=window.1).unwrap_or_default();
    let count: u32 = pieces.iter().map(|piece| piece.segment.features).sum();
    let value = feature_value(count);
    let rule_value = tuning.rule_gain / (pieces.len().max(1) as f32).sqrt();
    let mut features: Vec<u32> = pieces.iter().flat_map(|piece| piece.features.iter().copied()).collect();
    features.extend(
        pieces.iter().flat_map(|piece| piece.rules.iter().map(|rule| BUCKETS as u32 + u32::from(*rule))),
    );
    features.sort_unstable();
    let mut sparse: Vec<(u32, f32)> = Vec::with_capacity(features.len() + 1);
    for feature in features {
        let unit = if feature < BUCKETS as u32 { value } else { rule_value };
        let more = unit * ratios[feature as usize];
        match sparse.last_mut() {
            Some((last, sum)) if *last == feature => *sum += more,
            _ => sparse.push((feature, more)),
        }
    }
    sparse.push((BIAS as u32, 1.0));
    Instance::new(sparse, text.row.label, cost)
}

/// Fits weights to `texts`.
pub fn fit(texts: &[&Text], head: Head, tuning: Tuning, seed: u64, label: &str) -> Linear {
    let costs = costs(texts, head);
    let ratios = ratios(texts, &costs, head);
    let mut random = Random::new(seed);
    let mut weights = vec![0.0_f32; BIAS + 1];
    let mut instances = Vec::new();
    let mut taken: Vec<Vec<(usize, usize)>> = vec![Vec::new(); texts.len()];
    let steps = tuning.rounds + 1;
    for round in 0..steps {
        progress(label, round, steps);
        let linear = unfold(&weights, &ratios, tuning);
        for ((text, cost), taken) in texts.iter().zip(&costs).zip(&mut taken) {
            let mut chosen = Vec::new();
            let all = windows(text, head);
            if round == 0 {
                chosen.extend(all.last().copied());
                if !text.row.label && head == Head::Injection && all.len() > 3 {
                    chosen.extend([all[all.len() / 3], all[2 * all.len() / 3]]);
                } else if !text.row.label && head != Head::Injection {
                    // Scoring takes the highest window, so harmless texts must be harmless in each.
                    chosen.extend(all.iter().step_by(all.len().div_ceil(8).max(1)).copied());
                }
            } else {
                let (score, window) = linear.best(text, head);
                if text.row.label || score > if head == Head::Injection { -1.5 } else { -3.0 } {
                    chosen.push(window);
                }
            }
            for window in chosen {
                if !taken.contains(&window) {
                    taken.push(window);
                    let cost = f64::from(tuning.cost) * cost;
                    instances.push(instance(text, window, cost, &ratios, tuning));
                }
            }
        }
        solve(&mut instances, &mut weights, if round == 0 { 12 } else { 6 }, &mut random);
    }
    progress(label, steps, steps);
    unfold(&weights, &ratios, tuning)
}

fn unfold(weights: &[f32], ratios: &[f32], tuning: Tuning) -> Linear {
    let scaled: Vec<f32> = weights.iter().zip(ratios).map(|(weight, ratio)| weight * ratio).collect();
    let (buckets, rest) = scaled.split_at(BUCKETS);
    Linear {
        buckets: buckets.to_vec(),
        rules: rest[..RULES].iter().map(|rule| rule * tuning.rule_gain).collect(),
        bias: weights[BIAS],
    }
}

fn quantise(weights: &[f32]) -> (f32, Vec<i8>) {
    let mut sizes: Vec<f32> = weights.iter().map(|weight| weight.abs()).filter(|size| *size > 0.0).collect();
    sizes.sort_unstable_by(f32::total_cmp);
    let top = sizes.get((sizes.len() as f32 * 0.9995) as usize).copied().unwrap_or(1.0).max(1e-6);
    let scale = top / 127.0;
    (scale, weights.iter().map(|weight| (weight / scale).round().clamp(-127.0, 127.0) as i8).collect())
}

/// Trains a head: folds over sources for the calibration, then all of it.
pub fn train(texts: &[Text], head: Head, options: &Options) -> Model {
    let all: Vec<&Text> = texts.iter().filter(|text| text.row.usage == Use::Train).collect();
    let mut scores: Vec<(Group, f32, f32)> = Vec::new();
    let mut by_source: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
    let mut sources: Vec<&str> = all.iter().map(|text| text.row.source.as_str()).collect();
    sources.sort_unstable();
    sources.dedup();
    // A large plain source is a language's only one of its kind: it is split by text, the others stay
    // whole. Our own rows but everyday talk are hard on
    // purpose and like nothing that is measured: they always train.
    let fold = |text: &Text| {
        let source = text.row.source.as_str();
        let index = sources.iter().position(|known| *known == source).unwrap_or(0);
        let by_text = || text.row.text.bytes().map(usize::from).sum::<usize>() % options.folds;
        match source {
            _ if source.starts_with("own:talk_ordinary") => by_text(),
            _ if text.row.own => usize::MAX,
            "xquad" | "lingua-sentences" | "arena-hard-v0.1" | "arena-hard-answers" | "tldr-docs"
            | "tech-docs" => by_text(),
            _ => index % options.folds,
        }
    };
    for part in 0..options.folds {
        let (kept, left): (Vec<&Text>, Vec<&Text>) = all.iter().partition(|text| fold(text) != part);
        let linear = fit(&kept, head, options.tuning(head), options.seed, &format!("fold {}", part + 1));
        for text in left.into_iter().filter(|text| !text.made && is_traffic(text)) {
            let (score, window) = linear.best(text, head);
            by_source.entry(&text.row.source).or_default().push(score);
            scores.push((group(text, window), score, traffic_weight(&text.row.source)));
        }
    }
    let linear = fit(&all, head, options.tuning(head), options.seed, "fit");
    let (weight_scale, weights) = quantise(&linear.buckets);
    let (rule_scale, rules) = quantise(&linear.rules);
    let groups = calibrate(&scores, head);
    for (source, scores) in by_source {
        let share =
            scores.iter().filter(|score| groups[6].0 * **score + groups[6].1 > anchor(head).0).count();
        eprintln!("calibration: {source:<32} {share}/{}", scores.len());
    }
    let scale = Scale { weights: weight_scale, rules: rule_scale, bias: linear.bias, groups };
    Model { scale, rules, weights }
}

/// Whether a text is like what ordinary people send to models: these decide where a threshold lies.
fn is_traffic(text: &Text) -> bool {
    const UNLIKE: [&str; 8] = [
        "deepset-prompt-injections",
        "COLD",
        "davidson-tweets",
        "kocohub",
        "paradetox",
        "gptfuzz-labeled",
        "japanese-toxic-subset",
        "refusal-direction-ablated",
    ];
    !text.row.label && !UNLIKE.contains(&text.row.source.as_str())
}

/// Prompts that play, or speak of prompts, are part of the traffic, but a small one.
fn traffic_weight(source: &str) -> f32 {
    const RARE: [&str; 4] = ["gpteacher-roleplay", "awesome-prompts-zh", "prompts-book", "code-prompts"];
    if RARE.contains(&source) { 0.2 } else { 1.0 }
}

/// The logit of a head's default threshold and the share of benign texts that may lie above it.
fn anchor(head: Head) -> (f32, f32) {
    let (threshold, share): (f32, f32) = match head {
        Head::Injection => (0.92, 0.010),
        Head::Toxicity => (0.5, 0.003),
        Head::Refusal => (0.75, 0.008),
    };
    ((threshold / (1.0 - threshold)).ln(), share)
}

/// Where a share of the scores' weight lies above.
fn quantile(scores: &[(f32, f32)], share: f32) -> Option<f32> {
    let total: f32 = scores.iter().map(|(_, weight)| weight).sum();
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(|left, right| right.0.total_cmp(&left.0));
    let mut above = 0.0;
    for (score, weight) in sorted {
        above += weight;
        if above > share * total {
            return Some(score);
        }
    }
    None
}

/// Slope and offset a group: the default threshold lies where a small share of benign texts is above.
fn calibrate(scores: &[(Group, f32, f32)], head: Head) -> [(f32, f32); 9] {
    let (anchor, share) = anchor(head);
    let benign = |wanted: Option<Group>| -> Vec<(f32, f32)> {
        let of = |(group, _, _): &&(Group, f32, f32)| wanted.is_none_or(|wanted| wanted == *group);
        scores.iter().filter(of).map(|(_, score, weight)| (*score, *weight)).collect()
    };
    let pooled = quantile(&benign(None), share).unwrap_or(0.0);
    let slope = 1.4;
    let mut groups = [(slope, anchor - slope * pooled); 9];
    for group in Group::ALL {
        let own = benign(Some(group));
        // Few texts say little about a share this small: the group's quantile counts as far as it has texts.
        let trust = own.len() as f32 / (own.len() as f32 + 150.0);
        let at = quantile(&own, share).map_or(pooled, |at| trust * at + (1.0 - trust) * pooled);
        eprintln!("calibration: {} {} texts, {at:.2}", group.name(), own.len());
        groups[group as usize] = (slope, anchor - slope * at);
    }
    groups
}
