//! The n-gram pass: folded characters in, hashed features and rules out, one step a character.
//!
//! Scripts with spaces give 4-grams of characters over word borders, and words, word pairs and triples;
//! scripts without give 1- to 3-grams. White space counts as one space, digits as one digit, a run of one
//! mark as one mark. Concepts ([`super::lexicon`]) that stand near each other give rules: "ignore …
//! previous" is one whatever stands between. The pass also cuts the text into segments, at sentence ends
//! and at 200 units at the latest; a unit is a character, half of one in scripts without spaces. Training
//! and scoring share this code.
//!
//! A text is read in blocks where it can be ([`Block`]), else character by character, which comes to the
//! same; features of a segment come in any order.
//!
//! Cost: O(1) a character; its state is a few hundred bytes.

mod block;

use self::block::mark_key;
pub use self::block::{Block, Kinds};
use super::lexicon::{CONCEPTS, Lexicon};
use super::script::{Script, Scripts, is_ideograph, script};

/// Two to this many buckets hold the weights.
pub const BUCKET_BITS: u32 = 18;
/// Buckets.
pub const BUCKETS: usize = 1 << BUCKET_BITS;
/// A rule is an ordered pair of concepts, or one with itself: it alone.
pub const RULES: usize = CONCEPTS * CONCEPTS;
/// A segment has at least so many units, if the text goes on.
const UNITS_MIN: u32 = 24;
/// From so many on, a segment ends at the next word border.
const UNITS_SOFT: u32 = 160;
/// And here it ends in any case.
const UNITS_MAX: u32 = 200;
/// Concepts are near each other within so many ticks (a word is two, a character without spaces one).
const REACH: u32 = 24;

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
const FOURGRAM: u64 = 0x0000_FFFF_FFFF_FFFF;
const FIVEGRAM: u64 = 0x0FFF_FFFF_FFFF_FFFF;

/// What a feature is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The last so many characters.
    Characters(u8),
    /// The last so many words.
    Words(u8),
    /// The last word and the last but two.
    Skip,
}

/// What the pass calls.
pub trait Sink {
    /// At most so many features come before the next such call.
    fn reserve(&mut self, _features: u32) {}
    /// A feature ends here.
    fn feature(&mut self, bucket: usize, shape: Shape);
    /// Features end here, one after the other; a sink that only adds them up is faster at many.
    #[inline]
    fn features(&mut self, features: impl Iterator<Item = (usize, Shape)>) {
        for (bucket, shape) in features {
            self.feature(bucket, shape);
        }
    }
    /// A rule holds, the first time in this segment.
    fn rule(&mut self, rule: usize);
}

/// What a segment was, besides its features.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its length.
    pub units: u32,
    /// Features that it gave.
    pub features: u32,
    /// Its letters by script.
    pub scripts: Scripts,
}

/// The pass between two characters.
#[derive(Debug, Clone)]
pub struct Pass {
    grams: u64,
    ideographs: u64,
    run: u32,
    word: u64,
    in_word: bool,
    words: [u64; 3],
    last: char,
    marks: u32,
    tick: u32,
    seen: [u32; CONCEPTS],
    near: u64,
    held: [u64; RULES.div_ceil(64)],
    segment: Segment,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    Mark,
    Letter,
    Ideograph,
}

fn kind(c: char) -> Kind {
    match c {
        '\u{4E00}'..='\u{9FFF}' => Kind::Ideograph,
        '\0'..=' ' | '\u{7F}' => Kind::Space,
        _ if is_ideograph(c) => Kind::Ideograph,
        '_' | '\u{300}'..='\u{36F}' | '\u{64B}'..='\u{65F}' => Kind::Letter,
        _ if c.is_alphanumeric() => Kind::Letter,
        _ if c.is_whitespace() => Kind::Space,
        _ => Kind::Mark,
    }
}

fn ends_sentence(c: char) -> bool {
    matches!(c, '\n' | '。' | '！' | '？' | '｡' | '…' | '؟' | '।')
}

fn bucket(key: u64, multiplier: u64) -> usize {
    (key.wrapping_mul(multiplier) >> (64 - BUCKET_BITS)) as usize
}

/// The last four characters: longer and shorter ones beside them were not worth their time.
#[inline]
fn characters<S: Sink>(grams: u64, sink: &mut S) {
    sink.feature(gram_bucket(grams), Shape::Characters(4));
}

#[inline]
fn gram_bucket(grams: u64) -> usize {
    bucket(grams & FOURGRAM, 0xD6E8_FEB8_6659_FD93)
}

/// The place of the lowest bit that is set, and the others.
fn lowest(bits: u64) -> Option<(usize, u64)> {
    (bits != 0).then(|| (bits.trailing_zeros() as usize, bits & bits.wrapping_sub(1)))
}

/// Mixes two hashes, not commutatively.
pub(super) fn mix(left: u64, right: u64) -> u64 {
    (left.rotate_left(23) ^ right).wrapping_mul(MULTIPLIER)
}

/// One more letter of a word.
pub(super) fn letter(word: u64, c: char) -> u64 {
    word.wrapping_add(u64::from(u32::from(c))).wrapping_mul(0x2545_F491_4F6C_DD1D)
}

impl Default for Pass {
    fn default() -> Self {
        Self {
            grams: u64::from(b' '),
            ideographs: 0,
            run: 0,
            word: 0,
            in_word: false,
            words: [0; 3],
            last: ' ',
            marks: 0,
            tick: 2 * REACH,
            seen: [0; CONCEPTS],
            near: 0,
            held: [0; RULES.div_ceil(64)],
            segment: Segment::default(),
        }
    }
}

impl Pass {
    /// Takes a character; whether a segment ends behind it.
    #[inline]
    pub fn step<S: Sink>(&mut self, c: char, lexicon: &Lexicon, sink: &mut S) -> bool {
        let before = self.last;
        let kind = lexicon.kinds().of(c);
        self.last = c;
        self.segment.units += 1;
        match kind {
            Kind::Letter => self.letter(c, lexicon, sink),
            Kind::Space => {
                self.end_word(lexicon, sink);
                if !before.is_whitespace() {
                    self.gram(' ', sink);
                }
            }
            Kind::Mark => {
                self.end_word(lexicon, sink);
                self.run = 0;
                if c != before {
                    self.marks = 5;
                    self.gram(c, sink);
                    self.mark_concept(lexicon, sink);
                }
            }
            Kind::Ideograph => self.ideograph(c, lexicon, sink),
        }
        self.ends(kind, c, before)
    }

    /// The text, or what is looked at of it, is over: the last word counts.
    pub fn end<S: Sink>(&mut self, lexicon: &Lexicon, sink: &mut S) {
        self.end_word(lexicon, sink);
        self.gram(' ', sink);
    }

    /// The segment that just ended; the next begins.
    pub fn take_segment(&mut self) -> Segment {
        self.held = [0; RULES.div_ceil(64)];
        std::mem::take(&mut self.segment)
    }

    /// Whether nothing stands in the open segment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segment.units == 0
    }

    /// Units of the open segment.
    #[must_use]
    pub fn units(&self) -> u32 {
        self.segment.units
    }

    fn ends(&self, kind: Kind, c: char, before: char) -> bool {
        let units = self.segment.units;
        if units < UNITS_MIN {
            return false;
        }
        match kind {
            Kind::Letter | Kind::Ideograph => units >= UNITS_MAX,
            Kind::Space => c == '\n' || units >= UNITS_SOFT || matches!(before, '.' | '!' | '?' | ';'),
            Kind::Mark => units >= UNITS_SOFT || ends_sentence(c),
        }
    }

    #[inline]
    fn letter<S: Sink>(&mut self, c: char, lexicon: &Lexicon, sink: &mut S) {
        let c = if c.is_ascii_digit() { '0' } else { c };
        self.segment.scripts.count(script(c), 1);
        self.run = 0;
        self.word = letter(self.word, c);
        self.in_word = true;
        self.gram(c, sink);
        if lexicon.may_begin(self.word) {
            self.concept(self.word, lexicon, sink);
        }
        if self.marks > 0 {
            self.marks -= 1;
            self.mark_concept(lexicon, sink);
        }
    }

    #[inline]
    fn gram<S: Sink>(&mut self, c: char, sink: &mut S) {
        sink.reserve(1);
        self.grams = (self.grams << 12) | u64::from(u32::from(c) & 0xFFF);
        characters(self.grams, sink);
        self.segment.features += 1;
    }

    fn ideograph<S: Sink>(&mut self, c: char, lexicon: &Lexicon, sink: &mut S) {
        let script = script(c);
        self.segment.scripts.count(script, 1);
        self.segment.units += 1;
        self.tick += 1;
        self.grams = 0;
        self.run += 1;
        self.ideographs = (self.ideographs << 16) | u64::from(u32::from(c) & 0xFFFF);
        if script == Script::Hangul {
            self.word = letter(self.word, c);
            self.in_word = true;
        } else {
            self.end_word(lexicon, sink);
        }
        sink.reserve(3);
        let features = [
            (0xFFFF, 0x8EBC_6AF0_9C88_C6E3),
            (0xFFFF_FFFF, 0x5895_5E09_A8D6_1B57),
            (0xFFFF_FFFF_FFFF, 0xC2B2_AE3D_27D4_EB4F),
        ];
        sink.features((1..).zip(features).map(|(length, (mask, multiplier))| {
            (bucket(self.ideographs & mask, multiplier), Shape::Characters(length))
        }));
        self.segment.features += 3;
        let mut mask = 0xFFFF;
        for length in 1..=self.run.min(4) {
            let key = mix(u64::from(length) + 16, self.ideographs & mask);
            if lexicon.may_hold(key) {
                self.concept(key, lexicon, sink);
            }
            mask = (mask << 16) | 0xFFFF;
        }
    }

    #[inline]
    fn end_word<S: Sink>(&mut self, lexicon: &Lexicon, sink: &mut S) {
        if !self.in_word {
            return;
        }
        sink.reserve(4);
        let [third, second, first] = self.words;
        let word = mix(1, self.word);
        let pair = mix(first, word);
        let triple = mix(mix(second, first), word);
        let features = [
            (word, Shape::Words(1)),
            (pair, Shape::Words(2)),
            (mix(second, word) ^ 7, Shape::Skip),
            (triple, Shape::Words(3)),
        ];
        sink.features(features.into_iter().map(|(key, shape)| (bucket(key, MULTIPLIER), shape)));
        self.segment.features += 4;
        let keys = [word, pair, triple, mix(mix(mix(third, second), first), word)];
        let [one, two, three, four] = keys.map(|key| lexicon.may_hold(key));
        if one | two | three | four {
            for key in keys.into_iter().filter(|key| lexicon.may_hold(*key)) {
                self.concept(key, lexicon, sink);
            }
        }
        self.tick += 2;
        self.words = [second, first, word];
        self.word = 0;
        self.in_word = false;
    }

    fn mark_concept<S: Sink>(&mut self, lexicon: &Lexicon, sink: &mut S) {
        let key = mark_key(self.grams);
        if lexicon.may_hold(key) {
            self.concept(key, lexicon, sink);
        }
    }

    /// What `key` stands for, if anything, is near.
    #[cold]
    #[inline(never)]
    fn concept<S: Sink>(&mut self, key: u64, lexicon: &Lexicon, sink: &mut S) {
        let Some(concept) = lexicon.find(key) else { return };
        let now = self.tick;
        if let Some(seen) = self.seen.get_mut(concept) {
            *seen = now;
        }
        self.near |= 1 << concept;
        let mut rest = self.near;
        while let Some((earlier, left)) = lowest(rest) {
            rest = left;
            if self.seen.get(earlier).is_none_or(|at| now.wrapping_sub(*at) > REACH) {
                self.near &= !(1 << earlier);
                continue;
            }
            let rule = earlier * CONCEPTS + concept;
            let Some(held) = self.held.get_mut(rule / 64) else { continue };
            if *held & (1 << (rule % 64)) == 0 {
                *held |= 1 << (rule % 64);
                sink.rule(rule);
            }
        }
    }
}
