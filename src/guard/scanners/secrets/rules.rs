//! Rules of credentials that a vendor gives a shape of its own: what they look like, as data.
//!
//! A rule is found by one of its keywords, ASCII case ignored, and then proved by its shape, a regular
//! expression that is anchored: where the keyword (or what stands right before it) begins, or, for
//! shapes too common to stand alone, at the value of an assignment whose name holds the keyword. So no
//! expression ever searches. Shapes are written from the vendors' documentation.

mod cloud;
mod code;
mod data;
mod finance;
mod hashes;
mod models;
mod talk;
mod web;
mod work;

/// Where a rule's shape begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// At the keyword.
    Keyword,
    /// So many bytes before the keyword.
    Before(usize),
    /// At the first of the decimal digits right before the keyword.
    Digits,
    /// At the value of an assignment whose name holds the keyword.
    Value,
}

/// What is proved besides the shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing.
    None,
    /// The last six characters may be the CRC-32 of the ones between the last `_` and them, in base 62
    /// (GitHub, npm): then it is one even if letters stand right before or behind it.
    Crc32,
    /// It begins with base64 of a JSON object that names an algorithm.
    Jwt,
    /// It has a digit and letters of both cases, so it is neither a word nor a hash in hexadecimal.
    Mixed,
}

/// A kind of credential.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Its name in findings and settings.
    pub(super) id: &'static str,
    /// One of these must be there.
    pub(super) keywords: &'static [&'static str],
    /// The credential, all of it.
    pub(super) shape: &'static str,
    /// Where the shape begins.
    pub(super) anchor: Anchor,
    /// Shannon entropy in bits a character that it must have.
    pub(super) entropy: f32,
    /// What else is proved.
    pub(super) check: Check,
    /// Whether letters right before it don't matter.
    pub(super) inside: bool,
}

/// Entropy that every credential has: placeholders of one or two characters have less.
const ENTROPY_MIN: f32 = 2.0;
/// Entropy of values that only their name gives away.
const ENTROPY_VALUE: f32 = 2.8;

/// A UUID.
const UUID: &str = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}";

/// A credential that begins with one of `keywords`.
const fn token(id: &'static str, keywords: &'static [&'static str], shape: &'static str) -> Rule {
    let (anchor, check) = (Anchor::Keyword, Check::None);
    Rule { id, keywords, shape, anchor, entropy: ENTROPY_MIN, check, inside: false }
}

/// A credential that is assigned to a name with one of `keywords` in it.
const fn value(id: &'static str, keywords: &'static [&'static str], shape: &'static str) -> Rule {
    let (anchor, check) = (Anchor::Value, Check::None);
    Rule { id, keywords, shape, anchor, entropy: ENTROPY_VALUE, check, inside: false }
}

impl Rule {
    const fn entropy(self, entropy: f32) -> Self {
        Self { entropy, ..self }
    }

    const fn check(self, check: Check) -> Self {
        Self { check, ..self }
    }

    const fn anchor(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    const fn inside(self) -> Self {
        Self { inside: true, ..self }
    }
}

/// All tables. Of two rules that fit at one place, the first is reported.
pub(super) const TABLES: [&[Rule]; 9] = [
    models::RULES,
    cloud::RULES,
    code::RULES,
    talk::RULES,
    finance::RULES,
    data::RULES,
    work::RULES,
    web::RULES,
    hashes::RULES,
];
