//! Tokens of answers that end without a count: a client left, the endpoint broke, or it never counts.
//!
//! The only tokenizer that counts as the model's endpoint does is the endpoint's own, so its counts are learned from the
//! answers that come to their end: tokens an event with text, tokens a byte of text, and tokens a byte of a request, each as a
//! moving average with its mean deviation (Jacobson's estimator, RFC 6298). An answer that is cut is counted by whichever
//! of the first two has deviated less. Until one answer has been whole, an event with little text counts as one token (so Ollama,
//! vLLM and llama.cpp send them), and text by [`PER_BYTE`].
//!
//! Cost: some multiplications an answer; 40 bytes a model and shard. One writer; the time plays no part.

use std::cell::Cell;

/// Tokens of a byte of text before anything is known: four bytes a token is usual for English.
const PER_BYTE: f32 = 0.25;
/// Events with more text than this hold more than one token.
const TOKEN_BYTES_MAX: u64 = 16;
/// Weight of the newest sample, and of its deviation.
const GAIN: f32 = 1.0 / 8.0;
const DEVIATION_GAIN: f32 = 1.0 / 4.0;

/// Text of a model that has come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said {
    /// Events that held text.
    pub events: u64,
    /// Bytes of text, as JSON escapes it.
    pub bytes: u64,
}

/// A ratio and how much it varies.
#[derive(Debug, Default)]
struct Average {
    mean: Cell<f32>,
    deviation: Cell<f32>,
}

impl Average {
    fn learn(&self, tokens: u64, of: u64) {
        if of == 0 {
            return;
        }
        let (sample, mean) = (real(tokens) / real(of), self.mean.get());
        if mean == 0.0 {
            self.mean.set(sample);
            self.deviation.set(sample / 2.0);
        } else {
            let off = (sample - mean).abs();
            self.deviation.set(self.deviation.get() + (off - self.deviation.get()) * DEVIATION_GAIN);
            self.mean.set(mean + (sample - mean) * GAIN);
        }
    }

    fn known(&self) -> Option<f32> {
        Some(self.mean.get()).filter(|mean| *mean > 0.0)
    }

    /// How much it varies, in parts of itself.
    fn spread(&self) -> f32 {
        self.known().map_or(f32::INFINITY, |mean| self.deviation.get() / mean)
    }
}

/// What whole answers of one model have taught.
#[derive(Debug, Default)]
pub struct Learned {
    per_event: Average,
    per_byte: Average,
    per_input_byte: Average,
}

impl Learned {
    /// A whole answer: what was said, the bytes of its request, and the endpoint's counts. Events are those of a stream;
    /// a whole text has none.
    pub fn learn(&self, said: Said, request_bytes: u64, input: u64, output: u64) {
        if output > 0 {
            self.per_event.learn(output, said.events);
            self.per_byte.learn(output, said.bytes);
        }
        if input > 0 {
            self.per_input_byte.learn(input, request_bytes);
        }
    }

    /// Tokens of what was said.
    #[must_use]
    pub fn output(&self, said: Said) -> u64 {
        if said.bytes == 0 {
            return 0;
        }
        let events = |ratio: f32| whole(real(said.events) * ratio);
        let bytes = |ratio: f32| whole(real(said.bytes) * ratio).max(1);
        match (self.per_event.known().filter(|_| said.events > 0), self.per_byte.known()) {
            (Some(ratio), _) if self.per_event.spread() <= self.per_byte.spread() => events(ratio),
            (_, Some(ratio)) => bytes(ratio),
            _ if said.events > 0 && said.bytes <= said.events.saturating_mul(TOKEN_BYTES_MAX) => said.events,
            _ => bytes(PER_BYTE),
        }
    }

    /// Tokens of a request of so many bytes.
    #[must_use]
    pub fn input(&self, request_bytes: u64) -> u64 {
        whole(real(request_bytes) * self.per_input_byte.known().unwrap_or(PER_BYTE))
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn real(count: u64) -> f32 {
    count as f32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; never negative")]
fn whole(tokens: f32) -> u64 {
    tokens.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(events: u64, bytes: u64) -> Said {
        Said { events, bytes }
    }

    #[test]
    fn nothing_is_known_at_first() {
        let learned = Learned::default();
        assert_eq!(learned.output(said(50, 250)), 50, "a token an event");
        assert_eq!(learned.output(said(2, 400)), 100, "long events");
        assert_eq!(learned.output(said(0, 400)), 100, "a whole text");
        assert_eq!(learned.output(Said::default()), 0);
        assert_eq!(learned.input(400), 100);
    }

    #[test]
    fn the_steadier_ratio_counts() {
        // Three tokens an event always; bytes vary.
        let events = Learned::default();
        for bytes in [500, 900, 300, 700, 1200, 400] {
            events.learn(said(100, bytes), 1000, 300, 300);
        }
        assert_eq!(events.output(said(40, 1000)), 120);
        assert_eq!(events.input(1000), 300);
        // Events of any length, four bytes a token always.
        let bytes = Learned::default();
        for events in [10, 50, 20, 80, 5, 40] {
            bytes.learn(said(events, 400), 800, 0, 100);
        }
        assert_eq!(bytes.output(said(7, 1000)), 250);
        assert_eq!(bytes.input(400), 100, "no count of a prompt was ever given");
    }
}
