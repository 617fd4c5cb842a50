//! The classifiers: small linear models over hashed n-grams that share one pass over the folded text.
//!
//! A score is a sum of weights over the root of their number, plus the weights of rules, made a probability
//! by a calibration for the group of scripts the window is written in, so that a threshold means the same
//! in all of them. Sums are kept a segment ([`features`]); when one ends, it and the stretches of segments
//! before it are scored ([`windows`]): where the text is cut changes nothing, and a long text has no blind
//! tail. A finding's span is the segment that completed the evidence.
//!
//! Cost: O(1) a character, one look-up a feature for all heads, a few hundred operations a segment. The
//! refusal head reads the opening only; alone, it stops there.

pub mod features;
pub mod lexicon;
pub mod model;
mod reason;
pub mod script;
pub mod windows;

use std::sync::{Arc, OnceLock};

use crate::config::guard::{NoRefusal, PromptInjection, ScannerName, TextMatch, Threshold, Toxicity};
use crate::guard::text::{Folded, Folder, Level};
use crate::guard::verdict::{Finding, Found};
use features::{Pass, Shape, Sink};
use lexicon::Lexicon;
use model::{LANES, Model, ModelError, Models};
use script::{Group, Scripts};
use windows::Windows;

/// Heads.
pub const HEADS: usize = 3;
/// Units of a text's opening, which is what the refusal head reads.
const OPENING: u64 = 400;
/// Findings of a head in one text.
const FINDINGS_MAX: u8 = 4;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Head {
    /// Attempts to take over the model.
    Injection,
    /// Insults, threats, hate, obscenity.
    Toxicity,
    /// Answers that refuse.
    Refusal,
}

impl Head {
    /// In the order of their lanes.
    pub const ALL: [Self; HEADS] = [Self::Injection, Self::Toxicity, Self::Refusal];

    /// As files and tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Injection => "injection",
            Self::Toxicity => "toxicity",
            Self::Refusal => "refusal",
        }
    }

    /// Whose findings it makes.
    #[must_use]
    pub fn scanner(self) -> ScannerName {
        match self {
            Self::Injection => ScannerName::PromptInjection,
            Self::Toxicity => ScannerName::Toxicity,
            Self::Refusal => ScannerName::NoRefusal,
        }
    }
}

#[derive(Debug, Clone)]
struct Active {
    head: Head,
    threshold: Threshold,
    sentences: bool,
    /// A raw score below is under the limit in any language.
    least: f32,
}

/// The classifiers of a direction.
#[derive(Debug, Clone)]
pub struct Classifiers {
    models: Arc<Models>,
    active: Vec<Active>,
    only_opening: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    weights: [i32; LANES],
    rules: [i32; LANES],
    features: u32,
    segments: u32,
    scripts: Scripts,
}

/// Where a text stands.
#[derive(Debug, Clone, Default)]
pub struct State {
    at: usize,
    segment: usize,
    units: u64,
    pass: Pass,
    sums: Sums,
    before: Sums,
    windows: Windows<Sums>,
    reported: [u8; HEADS],
    best: [f32; HEADS],
    /// The highest calibrated score, of which `best` is the probability.
    peaks: [Option<f32>; HEADS],
}

/// Adds weights, two lanes a word: bytes that are 128 too large, in sums of 16 bits that are emptied in time.
struct Adder<'a> {
    models: &'a Models,
    even: u32,
    all: u64,
    waiting: u32,
    weights: [i32; LANES],
    rules: [i32; LANES],
}

impl Adder<'_> {
    #[cold]
    fn empty(&mut self) {
        let odd = (self.all - u64::from(self.even)) >> 8;
        let even = u64::from(self.even);
        let sums = [even & 0xFFFF, odd & 0xFFFF, even >> 16, odd >> 16].map(|sum| sum as u32);
        for (weight, sum) in self.weights.iter_mut().zip(sums) {
            *weight = weight.wrapping_add(sum.cast_signed() - 128 * self.waiting.cast_signed());
        }
        (self.even, self.all, self.waiting) = (0, 0, 0);
    }

    /// The sums so far.
    fn store(&mut self, sums: &mut Sums) {
        self.empty();
        (sums.weights, sums.rules) = (self.weights, self.rules);
    }
}

impl Sink for Adder<'_> {
    #[inline]
    fn reserve(&mut self, features: u32) {
        if self.waiting + features > 256 {
            self.empty();
        }
    }

    #[inline]
    fn feature(&mut self, bucket: usize, shape: Shape) {
        self.features(std::iter::once((bucket, shape)));
    }

    #[inline]
    fn features(&mut self, features: impl Iterator<Item = (usize, Shape)>) {
        let (models, mut even, mut all, mut waiting) = (self.models, self.even, self.all, self.waiting);
        for (bucket, _) in features {
            let weights = models.packed(bucket);
            even += weights & 0x00FF_00FF;
            all += u64::from(weights);
            waiting += 1;
        }
        (self.even, self.all, self.waiting) = (even, all, waiting);
    }

    fn rule(&mut self, rule: usize) {
        for (sum, weight) in self.rules.iter_mut().zip(self.models.rule(rule)) {
            *sum = sum.wrapping_add(i32::from(weight));
        }
    }
}

/// The models that are compiled in, laid side by side once a process.
///
/// # Errors
/// A file does not belong to this program.
pub fn embedded() -> Result<Arc<Models>, ModelError> {
    static MODELS: OnceLock<Result<Arc<Models>, ModelError>> = OnceLock::new();
    MODELS
        .get_or_init(|| {
            let files: [&[u8]; HEADS] = [
                include_bytes!("models/injection.bin"),
                include_bytes!("models/toxicity.bin"),
                include_bytes!("models/refusal.bin"),
            ];
            let models = files.into_iter().map(Model::decode).collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(Models::new(&models)))
        })
        .clone()
}

impl State {
    /// Notes probabilities of the same text in another form.
    pub fn raise(&mut self, best: [f32; HEADS]) {
        for (highest, new) in self.best.iter_mut().zip(best) {
            *highest = highest.max(new);
        }
    }
}

impl Classifiers {
    /// With the models that are compiled in.
    ///
    /// # Errors
    /// A file does not belong to this program.
    pub fn new(
        injection: Option<&PromptInjection>,
        toxicity: Option<&Toxicity>,
        refusal: Option<&NoRefusal>,
    ) -> Result<Self, ModelError> {
        Ok(Self::with(embedded()?, injection, toxicity, refusal))
    }

    /// With other models.
    #[must_use]
    pub fn with(
        models: Arc<Models>,
        injection: Option<&PromptInjection>,
        toxicity: Option<&Toxicity>,
        refusal: Option<&NoRefusal>,
    ) -> Self {
        let active = |head, threshold: &Threshold, sentences| Active {
            head,
            threshold: *threshold,
            sentences,
            least: least(threshold),
        };
        let heads = [
            injection
                .map(|set| active(Head::Injection, &set.threshold, set.match_type == TextMatch::Sentence)),
            toxicity.map(|set| active(Head::Toxicity, &set.threshold, set.match_type == TextMatch::Sentence)),
            refusal.map(|set| active(Head::Refusal, &set.threshold, false)),
        ];
        let active: Vec<Active> = heads.into_iter().flatten().collect();
        let only_opening = active.iter().all(|active| active.head == Head::Refusal);
        Self { models, active, only_opening }
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// At the start of a text.
    #[must_use]
    pub fn start(&self) -> State {
        State::default()
    }

    /// Reads what is new in `folded`, which must be folded at [`Level::Strict`].
    pub fn push(&self, state: &mut State, folded: &Folded, found: &mut Found) {
        self.read(state, folded, found);
    }

    /// The text is over.
    pub fn finish(&self, state: &mut State, folded: &Folded, found: &mut Found) {
        self.read(state, folded, found);
        if self.is_done(state) || state.pass.is_empty() {
            return;
        }
        let mut adder = self.adder(state);
        state.pass.end(Lexicon::get(), &mut adder);
        adder.store(&mut state.sums);
        self.close(state, folded, found);
    }

    /// Bytes of the original from its start that no finding to come can touch any more.
    #[must_use]
    pub fn settled(&self, state: &State, folded: &Folded) -> usize {
        let open = if self.is_done(state) { folded.end() } else { state.segment };
        folded.original(open)
    }

    /// The offset of the folded text before which nothing is looked at again.
    #[must_use]
    pub fn needs(&self, state: &State, folded: &Folded) -> usize {
        if self.is_done(state) { folded.end() } else { state.segment }
    }

    /// The highest probability of each head so far, of the heads that are looked for.
    #[must_use]
    pub fn best(&self, state: &State) -> [f32; HEADS] {
        state.best
    }

    /// The highest probability of each head over the windows of a text.
    #[must_use]
    pub fn score(&self, text: &str) -> [f32; HEADS] {
        let (mut folder, mut folded) = (Folder::new(Level::Strict), Folded::default());
        folder.push(text, &mut folded);
        folder.finish(&mut folded);
        let (mut state, mut found) = (self.start(), Found::default());
        self.finish(&mut state, &folded, &mut found);
        state.best
    }

    /// Whether the rest of the text makes no difference.
    #[must_use]
    pub fn is_done(&self, state: &State) -> bool {
        self.only_opening && state.units >= OPENING
    }

    fn adder(&self, state: &State) -> Adder<'_> {
        let Sums { weights, rules, .. } = state.sums;
        Adder { models: &self.models, even: 0, all: 0, waiting: 0, weights, rules }
    }

    fn read(&self, state: &mut State, folded: &Folded, found: &mut Found) {
        let lexicon = Lexicon::get();
        let from = state.at;
        let text = folded.tail(from);
        let mut adder = self.adder(state);
        let (mut at, mut block) = (0, None);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            at += state.pass.block(rest, &mut block, lexicon, &mut adder);
            let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) else { break };
            at += c.len_utf8();
            if !state.pass.step(c, lexicon, &mut adder) {
                continue;
            }
            state.at = from + at;
            adder.store(&mut state.sums);
            self.close(state, folded, found);
            if self.is_done(state) {
                break;
            }
        }
        adder.store(&mut state.sums);
        state.at = folded.end();
    }

    /// A segment ends at `state.at`.
    fn close(&self, state: &mut State, folded: &Folded, found: &mut Found) {
        let segment = state.pass.take_segment();
        state.sums.features = state.sums.features.wrapping_add(segment.features);
        state.sums.segments = state.sums.segments.wrapping_add(1);
        state.sums.scripts.add(&segment.scripts);
        let [alone, middle, long] = state.windows.close(segment.units, state.before);
        // In short texts stretches are the same.
        let is_new = [true, long.segments != middle.segments, alone.segments != middle.segments];
        let starts = [&middle, &long, &alone];
        let groups = starts.map(|start| state.sums.scripts.since(&start.scripts).group());
        let (whole, all, opening) = (Sums::default(), state.sums.scripts.group(), state.units < OPENING);
        for active in &self.active {
            let mut best: (f32, Group) = (0.0, Group::En);
            let mut score = |start: &Sums, group: Group| {
                let scored = self.window(active, state, start, group);
                best = scored.filter(|scored| *scored > best.0).map_or(best, |scored| (scored, group));
            };
            match active.head {
                Head::Refusal if opening => score(&whole, all),
                Head::Refusal => {}
                // An attack hides in other text: its sentence always counts by itself.
                head => {
                    let stretches = if head == Head::Injection || active.sentences { 3 } else { 2 };
                    for ((start, group), is_new) in starts.iter().zip(groups).zip(is_new).take(stretches) {
                        if is_new {
                            score(start, group);
                        }
                    }
                }
            }
            if let Some(highest) = state.best.get_mut(active.head as usize) {
                *highest = highest.max(best.0);
            }
            if best.0 > limit(&active.threshold, best.1) {
                self.report(active.head, best.0, state, folded, found);
            }
        }
        state.units += u64::from(segment.units);
        state.before = state.sums;
        state.segment = state.at;
    }

    /// The probability of what came since `start`, if it can matter: if it may be above a limit or is the
    /// highest so far.
    fn window(&self, active: &Active, state: &mut State, start: &Sums, group: Group) -> Option<f32> {
        let (lane, sums) = (active.head as usize, &state.sums);
        let difference = |now: &[i32; LANES], then: &[i32; LANES]| match (now.get(lane), then.get(lane)) {
            (Some(now), Some(then)) => now.wrapping_sub(*then),
            _ => 0,
        };
        let (scale, peak) = (self.models.scales.get(lane)?, state.peaks.get_mut(lane)?);
        let raw = scale.raw(
            difference(&sums.weights, &start.weights),
            sums.features.wrapping_sub(start.features),
            difference(&sums.rules, &start.rules),
            sums.segments.wrapping_sub(start.segments),
        );
        let (slope, offset) = scale.groups.get(group as usize).copied().unwrap_or((1.0, 0.0));
        let calibrated = slope * raw + offset;
        if calibrated < active.least && peak.is_some_and(|peak| calibrated <= peak) {
            return None;
        }
        *peak = Some(peak.map_or(calibrated, |peak| peak.max(calibrated)));
        Some(scale.probability(raw, group))
    }

    fn report(&self, head: Head, score: f32, state: &mut State, folded: &Folded, found: &mut Found) {
        let Some(reported) = state.reported.get_mut(head as usize).filter(|count| **count < FINDINGS_MAX)
        else {
            return;
        };
        *reported += 1;
        let text = folded.tail(state.segment);
        let text = text.get(..state.at.saturating_sub(state.segment)).unwrap_or(text);
        let (rule, reason) = reason::explain(&self.models, head, text);
        let span = folded.span(state.segment..state.at);
        found.add(Finding { scanner: head.scanner(), rule: rule.into(), span, score, reason });
    }
}

fn limit(threshold: &Threshold, group: Group) -> f32 {
    group.language().map_or(threshold.base, |language| threshold.of(language))
}

/// A calibrated score that is below all limits, with room for rounding.
fn least(threshold: &Threshold) -> f32 {
    let lowest = threshold.by_language.iter().flatten().copied().fold(threshold.base, f32::min);
    if lowest > 0.0 { (lowest / (1.0 - lowest).max(0.0)).ln() - 1.0 } else { f32::NEG_INFINITY }
}

#[cfg(test)]
mod tests;
