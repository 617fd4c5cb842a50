//! A small linear model over the letters of a host's name: how much it looks like those of malware.
//!
//! It sees the name only, without `www.`, so that it cannot learn how a collection wrote its URLs; it is
//! trained on hosts of malware against popular ones and those of documentation. On sources that it never
//! saw it ranks (AUC 0.75) but does not convict, so it only adds to other evidence, and only above
//! thresholds that one benign host in a hundred and in a thousand passes. Weights are a file of the
//! repository, one byte each; `training` makes it.

/// Buckets of features.
pub const BUCKETS: usize = 1 << 15;
/// What the file starts with.
pub const MAGIC: [u8; 8] = *b"CLURLS1\n";
/// Bytes before the weights: the magic, bias, scale and both thresholds.
pub const HEAD: usize = MAGIC.len() + 16;

/// The model that comes with the program.
static EMBEDDED: &[u8] = include_bytes!("../../models/urls.bin");

/// Weights and thresholds.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    bias: f32,
    scale: f32,
    suspect: f32,
    likely: f32,
    weights: &'static [u8],
}

impl Model {
    /// The model that comes with the program; `None`: it has none, or one of another format.
    #[must_use]
    pub fn embedded() -> Option<Self> {
        Self::read(EMBEDDED)
    }

    /// Reads a model.
    #[must_use]
    pub fn read(file: &'static [u8]) -> Option<Self> {
        let body = file.strip_prefix(&MAGIC)?;
        let number = |at: usize| Some(f32::from_le_bytes(*body.get(4 * at..)?.first_chunk()?));
        let weights = file.get(HEAD..).filter(|weights| weights.len() == BUCKETS)?;
        Some(Self { bias: number(0)?, scale: number(1)?, suspect: number(2)?, likely: number(3)?, weights })
    }

    /// How much `host` looks like malware's.
    #[must_use]
    pub fn score(&self, host: &str) -> f32 {
        let (mut sum, mut count) = (0_i32, 0_u16);
        features(host, |bucket| {
            sum += self.weights.get(bucket).map_or(0, |weight| i32::from(weight.cast_signed()));
            count = count.saturating_add(1);
        });
        #[expect(clippy::cast_precision_loss, reason = "a few hundred small numbers")]
        let sum = sum as f32;
        self.bias + self.scale * sum / f32::from(count.max(1)).sqrt()
    }

    /// What the look of `host` weighs as evidence.
    #[must_use]
    pub fn weight(&self, host: &str) -> f32 {
        match self.score(host) {
            score if score > self.likely => 0.3,
            score if score > self.suspect => 0.15,
            _ => 0.0,
        }
    }
}

/// Calls `each` with the bucket of each feature of `host`: the 2 to 5 letters from every place on, and
/// whole words.
pub fn features(host: &str, mut each: impl FnMut(usize)) {
    let host = host.strip_prefix("www.").unwrap_or(host);
    let (mut word, mut bytes) = (SEED, [b'^'; 5]);
    let last = host.len() + 1;
    for (at, byte) in host.bytes().chain([b'$']).enumerate() {
        bytes.rotate_left(1);
        bytes[4] = byte;
        let mut hash = SEED;
        for (length, byte) in bytes.iter().rev().enumerate() {
            hash = mix(hash, *byte);
            // The name starts with one mark, which is no feature by itself.
            if length > 0 && length <= at + 1 {
                each(bucket(hash.wrapping_add(length as u64)));
            }
        }
        if byte.is_ascii_alphanumeric() {
            word = mix(word, byte);
        } else {
            each(bucket(!word));
            word = SEED;
        }
        debug_assert!(at < last);
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

fn mix(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

fn bucket(hash: u64) -> usize {
    usize::try_from((hash ^ hash >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - 15)).unwrap_or(0)
}
