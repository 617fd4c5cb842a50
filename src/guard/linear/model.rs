//! A head's weights as a file, and the heads of a process side by side.
//!
//! The file, little-endian: `CLLM`, version, fingerprint of the phrase lists, scale of the weights, scale
//! of the rules, bias, slope and offset of each group, a byte each rule, a byte each bucket, and FNV-1a
//! over all of it. The weights of the heads are laid side by side, so that a text that several heads read
//! costs one look-up a feature.

use super::features::{BUCKETS, RULES};
use super::lexicon::Lexicon;
use super::script::Group;

/// Heads that share the pass, and room for one more.
pub const LANES: usize = 4;
/// Version of the format and of the features.
pub const VERSION: u32 = 1;
/// Bytes of a file.
pub const FILE_BYTES: usize = HEAD_BYTES + RULES + BUCKETS + 8;
const HEAD_BYTES: usize = 4 + 4 + 8 + 4 * 3 + 8 * Group::ALL.len();
/// Added to the number of features: short texts say little.
const SHRINK: f32 = 24.0;

/// Why a model cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelError {
    /// Not of this format's size or mark.
    Format,
    /// Of another version of the format.
    Version,
    /// Trained with other phrase lists.
    Phrases,
    /// Its hash is not that of its content.
    Damaged,
}

impl std::fmt::Display for ModelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Format => "not a model file",
            Self::Version => "a model of another version",
            Self::Phrases => "a model trained with other phrase lists",
            Self::Damaged => "a damaged model file",
        })
    }
}

impl std::error::Error for ModelError {}

/// What makes a probability of a sum, a head.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Of the buckets' bytes.
    pub weights: f32,
    /// Of the rules' bytes.
    pub rules: f32,
    /// Added.
    pub bias: f32,
    /// Slope and offset of each group of [`Group::ALL`].
    pub groups: [(f32, f32); Group::ALL.len()],
}

impl Scale {
    /// The score before calibration.
    #[must_use]
    pub fn raw(&self, weights: i32, features: u32, rules: i32, segments: u32) -> f32 {
        let features = (features as f32 + SHRINK).sqrt();
        let segments = (segments.max(1) as f32).sqrt();
        self.weights * weights as f32 / features + self.rules * rules as f32 / segments + self.bias
    }

    /// The probability of a score of a text of `group`.
    #[must_use]
    pub fn probability(&self, raw: f32, group: Group) -> f32 {
        let (slope, offset) = self.groups.get(group as usize).copied().unwrap_or((1.0, 0.0));
        1.0 / (1.0 + (-(slope * raw + offset)).exp())
    }
}

/// A feature's value in a text of so many features.
#[must_use]
pub fn feature_value(features: u32) -> f32 {
    1.0 / (features as f32 + SHRINK).sqrt()
}

/// One head.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// How its bytes are read.
    pub scale: Scale,
    /// A weight each rule.
    pub rules: Vec<i8>,
    /// A weight each bucket.
    pub weights: Vec<i8>,
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3))
}

impl Model {
    /// The file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut file = Vec::with_capacity(FILE_BYTES);
        file.extend_from_slice(b"CLLM");
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&Lexicon::fingerprint().to_le_bytes());
        let Scale { weights, rules, bias, groups } = &self.scale;
        for value in [weights, rules, bias].into_iter().chain(groups.iter().flat_map(|(a, b)| [a, b])) {
            file.extend_from_slice(&value.to_le_bytes());
        }
        file.extend(self.rules.iter().chain(&self.weights).map(|weight| weight.cast_unsigned()));
        let hash = fnv(&file);
        file.extend_from_slice(&hash.to_le_bytes());
        file
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It is not a model that this program's features were trained for.
    pub fn decode(file: &[u8]) -> Result<Self, ModelError> {
        if file.len() != FILE_BYTES || !file.starts_with(b"CLLM") {
            return Err(ModelError::Format);
        }
        let (content, hash) = file.split_at(FILE_BYTES - 8);
        let (head, bytes) = content.split_at(HEAD_BYTES);
        let word = |at: usize| head.get(at..at + 4).and_then(|four| four.try_into().ok()).unwrap_or([0; 4]);
        let long = |from: &[u8]| from.try_into().map_or(0, u64::from_le_bytes);
        if u32::from_le_bytes(word(4)) != VERSION {
            return Err(ModelError::Version);
        }
        if head.get(8..16).map_or(0, long) != Lexicon::fingerprint() {
            return Err(ModelError::Phrases);
        }
        if long(hash) != fnv(content) {
            return Err(ModelError::Damaged);
        }
        let number = |index: usize| f32::from_le_bytes(word(16 + 4 * index));
        let mut groups = [(0.0, 0.0); Group::ALL.len()];
        for (index, group) in groups.iter_mut().enumerate() {
            *group = (number(3 + 2 * index), number(4 + 2 * index));
        }
        let (rules, weights) = bytes.split_at(RULES);
        let signed = |bytes: &[u8]| bytes.iter().map(|byte| byte.cast_signed()).collect();
        Ok(Self {
            scale: Scale { weights: number(0), rules: number(1), bias: number(2), groups },
            rules: signed(rules),
            weights: signed(weights),
        })
    }
}

fn pack(weights: [i8; LANES]) -> u32 {
    u32::from_le_bytes(weights.map(|weight| weight.cast_unsigned().wrapping_add(128)))
}

/// Weights of all heads side by side.
#[derive(Debug)]
pub struct Models {
    weights: Box<[u32; BUCKETS]>,
    rules: Vec<[i8; LANES]>,
    /// A scale each head.
    pub scales: Vec<Scale>,
}

impl Models {
    /// Lays `models` side by side; those beyond [`LANES`] are left out.
    #[must_use]
    pub fn new(models: &[Model]) -> Self {
        let mut weights = vec![[0; LANES]; BUCKETS];
        let mut rules = vec![[0; LANES]; RULES];
        for (lane, model) in models.iter().take(LANES).enumerate() {
            for (target, source) in [(&mut weights, &model.weights), (&mut rules, &model.rules)] {
                for (lanes, weight) in target.iter_mut().zip(source) {
                    if let Some(place) = lanes.get_mut(lane) {
                        *place = *weight;
                    }
                }
            }
        }
        let packed: Box<[u32]> = weights.into_iter().map(pack).collect();
        let weights = packed.try_into().unwrap_or_else(|_| Box::new([pack([0; LANES]); BUCKETS]));
        Self { weights, rules, scales: models.iter().map(|model| model.scale.clone()).collect() }
    }

    /// The weights of a bucket, each 128 more than it is, the first lane in the lowest byte.
    #[inline]
    #[must_use]
    pub fn packed(&self, bucket: usize) -> u32 {
        self.weights[bucket % BUCKETS]
    }

    /// The weights of a bucket.
    #[must_use]
    pub fn weights(&self, bucket: usize) -> [i8; LANES] {
        self.packed(bucket).to_le_bytes().map(|byte| byte.wrapping_sub(128).cast_signed())
    }

    /// The weights of a rule.
    #[must_use]
    pub fn rule(&self, rule: usize) -> [i8; LANES] {
        self.rules.get(rule).copied().unwrap_or_default()
    }
}
