//! The model: a dictionary of features, each with a row of weights, one a class.
//!
//! A multinomial logistic regression over which features are there, divided by the root of their number, so that a
//! line and a page are measured alike. Features that training did not keep weigh nothing. Two probes a feature;
//! a row that was added once is not added again (a bit a row on the stack). About 7 ns a byte.
//!
//! Layout of `code.bin`, little endian: `CLNC`, u32 slots, u32 rows, f32 scale, 40 × f32 bias, slots × (u16 check,
//! u16 row), rows × 40 × i8. A slot with check 0 is empty.

use super::features::{Features, features};
use super::languages::CLASS_COUNT;

/// Evidence for each class, as logarithms.
pub type Scores = [f32; CLASS_COUNT];

/// Slots of the dictionary.
pub const SLOTS: usize = 1 << 14;

/// The row of features that training did not keep; rows are below.
const NO_ROW: u32 = 12_287;

/// Rows that are added up at a time.
const BATCH: usize = 255;

/// A trained classifier.
#[derive(Debug)]
pub struct Model {
    slots: Box<[u32; SLOTS]>,
    rows: Box<[[i8; CLASS_COUNT]]>,
    scale: f32,
    bias: Scores,
}

impl Model {
    /// Reads the layout above.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"CLNC")?;
        let (slots, rest) = word(rest)?;
        let (rows, rest) = word(rest)?;
        let (scale, mut rest) = word(rest)?;
        if slots as usize != SLOTS || rows >= NO_ROW {
            return None;
        }
        let mut bias = [0.0; CLASS_COUNT];
        for value in &mut bias {
            let (bits, after) = word(rest)?;
            *value = f32::from_bits(bits);
            rest = after;
        }
        let (table, weights) = rest.split_at_checked(SLOTS * 4)?;
        let table: Box<[u32]> = table.as_chunks().0.iter().map(|entry| u32::from_le_bytes(*entry)).collect();
        let (weights, []) = weights.as_chunks::<CLASS_COUNT>() else { return None };
        let in_range = table.iter().all(|entry| *entry == 0 || *entry >> 16 < rows);
        if weights.len() != rows as usize || !in_range {
            return None;
        }
        let weights = weights.iter().map(|row| row.map(|byte| byte as i8)).collect();
        Some(Self { slots: table.try_into().ok()?, rows: weights, scale: f32::from_bits(scale), bias })
    }

    /// The row of `hash`, or [`NO_ROW`]. Without branches: they could not be foreseen.
    #[inline]
    fn row(&self, hash: u32) -> usize {
        let (slot, check) = place(hash);
        let first = self.slots.get(slot).copied().unwrap_or_default();
        let second = self.slots.get(slot ^ 1).copied().unwrap_or_default();
        let row = if second & 0xFFFF == check { second >> 16 } else { NO_ROW };
        (if first & 0xFFFF == check { first >> 16 } else { row }) as usize
    }

    /// What speaks for each class in `text`; the classes' frequencies where there is nothing.
    #[must_use]
    pub fn scores(&self, text: &[u8]) -> Scores {
        let mut seen = [0_u64; (NO_ROW as usize + 1).div_ceil(64)];
        if let Some(bits) = seen.last_mut() {
            *bits = !0;
        }
        let mut fresh = [0_u16; BATCH];
        let mut length = 0;
        let mut total = [0_i32; CLASS_COUNT];
        let mut count = 0_usize;
        features(text, |token| {
            for row in token.hashes.map(|hash| self.row(hash)) {
                let Some(bits) = seen.get_mut(row / 64) else { return };
                let bit = 1_u64 << (row % 64);
                if let Some(next) = fresh.get_mut(length) {
                    *next = row as u16;
                }
                length += usize::from(*bits & bit == 0);
                *bits |= bit;
            }
            // Room for the three of the next token.
            if length > BATCH - 3 {
                self.add(&fresh, length, &mut total);
                count += length;
                length = 0;
            }
        });
        self.add(&fresh, length, &mut total);
        count += length;
        let factor = self.scale / (count.max(1) as f32).sqrt();
        std::array::from_fn(|class| {
            let weight = total.get(class).copied().unwrap_or_default() as f32 * factor;
            weight + self.bias.get(class).copied().unwrap_or_default()
        })
    }

    /// Adds `length` rows to `total`: at most [`BATCH`] of at most 127 fit 16 bits.
    fn add(&self, rows: &[u16; BATCH], length: usize, total: &mut [i32; CLASS_COUNT]) {
        let mut sum = [0_i16; CLASS_COUNT];
        for row in rows.iter().take(length) {
            let Some(weights) = self.rows.get(usize::from(*row)) else { continue };
            for (sum, weight) in sum.iter_mut().zip(weights) {
                *sum += i16::from(*weight);
            }
        }
        for (total, sum) in total.iter_mut().zip(sum) {
            *total += i32::from(sum);
        }
    }

    /// The three features that speak most for `class` in `text`, as they are written there.
    #[must_use]
    pub fn reason(&self, text: &str, class: usize) -> String {
        let mut best: Vec<(i8, &str)> = Vec::with_capacity(4);
        features(text.as_bytes(), |Features { hashes, starts, end }| {
            for (hash, start) in hashes.into_iter().zip(starts) {
                let row = self.rows.get(self.row(hash));
                let weight = row.and_then(|row| row.get(class)).copied().unwrap_or_default();
                let piece = text.get(start..end).unwrap_or_default().trim();
                if weight > 0 && !piece.is_empty() && best.iter().all(|(_, other)| *other != piece) {
                    let at = best.partition_point(|(other, _)| *other >= weight);
                    best.insert(at, (weight, piece));
                    best.truncate(3);
                }
            }
        });
        let short = |piece: &str| piece.chars().take(24).flat_map(char::escape_debug).collect::<String>();
        let pieces: Vec<String> = best.iter().map(|(_, piece)| short(piece)).collect();
        pieces.join(" | ")
    }
}

/// Slot and check of a feature's hash; the trainer places features by it too.
#[inline]
#[must_use]
pub fn place(hash: u32) -> (usize, u32) {
    ((hash >> 16) as usize % SLOTS, (hash & 0xFFFF).max(1))
}

/// Probabilities out of `scores`.
#[must_use]
pub fn probabilities(scores: &Scores) -> Scores {
    let top = scores.iter().copied().fold(f32::MIN, f32::max);
    // Below e^-16 it adds nothing, and an exponential costs more than the sum of a row.
    let powers = scores.map(|score| if score - top < -16.0 { 0.0 } else { (score - top).exp() });
    let sum: f32 = powers.iter().sum();
    powers.map(|power| power / sum)
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*head), rest))
}
