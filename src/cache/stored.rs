//! An answer as it is kept, in memory or as bytes elsewhere.
//!
//! The bytes begin with the form's number and carry the key they were kept under: bytes that came back for another key,
//! are cut, of another form, or were written by somebody else are no answer. Times are of the wall clock, in milliseconds
//! since 1970, because another machine may read them; an answer from the future is as old as its machine's clock is wrong,
//! so it counts as made now.

use bytes::Bytes;

use super::key::Key;
use crate::api::Usage;

/// The first bytes of the form.
const MARK: &[u8; 4] = b"clc1";
/// Bytes before the texts.
const FIXED: usize = 4 + 32 + 1 + 8 + 8 + 7 * 8 + 2 + 4;
/// What an answer in memory takes beside its body, about.
const OVERHEAD: u64 = 256;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Whether it is a stream: `body` is its events, else one JSON text.
    pub is_stream: bool,
    /// `Content-Type` of the endpoint.
    pub content_type: Box<[u8]>,
    /// As clients get it, before framing and compression.
    pub body: Bytes,
    /// What it has cost.
    pub usage: Usage,
    /// When it was made.
    pub made_ms: u64,
    /// For how long it may be given again.
    pub ttl_ms: u64,
}

impl Stored {
    /// Its age in milliseconds.
    #[must_use]
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.made_ms)
    }

    /// Milliseconds that it may still be given again, to who takes it up to an age of `age_max_s`; 0: it may not.
    #[must_use]
    pub fn left_ms(&self, now_ms: u64, age_max_s: Option<u64>) -> u64 {
        let most_ms = age_max_s.map_or(u64::MAX, |seconds| seconds.saturating_mul(1000));
        self.ttl_ms.min(most_ms).saturating_sub(self.age_ms(now_ms))
    }

    /// Bytes that it takes in memory.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.body.len() as u64 + self.content_type.len() as u64 + OVERHEAD
    }

    /// Writes it for `key`.
    #[must_use]
    pub fn encode(&self, key: Key) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED + self.content_type.len() + self.body.len());
        out.extend_from_slice(MARK);
        out.extend_from_slice(&key.0);
        out.push(
            u8::from(self.is_stream) | u8::from(self.usage.told) << 1 | u8::from(self.usage.estimated) << 2,
        );
        let usage = &self.usage;
        let numbers = [self.made_ms, self.ttl_ms, usage.input, usage.output, usage.cached, usage.cache_read]
            .into_iter()
            .chain([usage.cache_written, usage.reasoning, usage.work_ns]);
        numbers.for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        let kind_bytes = u16::try_from(self.content_type.len()).unwrap_or(0);
        out.extend_from_slice(&kind_bytes.to_le_bytes());
        out.extend_from_slice(&u32::try_from(self.body.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(self.content_type.get(..usize::from(kind_bytes)).unwrap_or_default());
        out.extend_from_slice(&self.body);
        out
    }

    /// Reads what [`Stored::encode`] wrote for `key`; `None`: it is anything else.
    #[must_use]
    pub fn decode(key: Key, bytes: &Bytes) -> Option<Self> {
        let mut rest: &[u8] = bytes;
        let mut take = |count: usize| {
            let (taken, more) = rest.split_at_checked(count)?;
            rest = more;
            Some(taken)
        };
        if take(4)? != MARK || take(32)? != key.0 {
            return None;
        }
        let [flags] = *take(1)? else { return None };
        let mut numbers = [0u64; 9];
        for number in &mut numbers {
            *number = u64::from_le_bytes(take(8)?.try_into().ok()?);
        }
        let kind_bytes = u16::from_le_bytes(take(2)?.try_into().ok()?);
        let body_bytes = u32::from_le_bytes(take(4)?.try_into().ok()?);
        let content_type = take(usize::from(kind_bytes))?.into();
        let at = bytes.len().checked_sub(usize::try_from(body_bytes).ok()?)?;
        let is_empty = body_bytes == 0;
        if is_empty || take(usize::try_from(body_bytes).ok()?).is_none() || !rest.is_empty() || flags > 7 {
            return None;
        }
        let [made_ms, ttl_ms, input, output, cached, cache_read, cache_written, reasoning, work_ns] = numbers;
        let (told, estimated) = (flags & 2 != 0, flags & 4 != 0);
        let usage =
            Usage { input, output, cached, cache_read, cache_written, reasoning, work_ns, told, estimated };
        let body = bytes.slice(at..);
        Some(Self { is_stream: flags & 1 != 0, content_type, body, usage, made_ms, ttl_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        Stored {
            is_stream: true,
            content_type: b"text/event-stream"[..].into(),
            body: Bytes::from_static(b"data: 1\n\n"),
            usage: Usage { input: 1, output: 2, cached: 3, work_ns: 9, told: true, ..Usage::default() },
            made_ms: 1_000_000,
            ttl_ms: 60_000,
        }
    }

    #[test]
    fn bytes_are_an_answer_only_for_their_key_and_whole() {
        let (key, other) = (Key([7; 32]), Key([8; 32]));
        let bytes = Bytes::from(stored().encode(key));
        assert_eq!(Stored::decode(key, &bytes), Some(stored()));
        assert_eq!(Stored::decode(other, &bytes), None);
        for end in 0..bytes.len() {
            assert_eq!(Stored::decode(key, &bytes.slice(..end)), None, "cut at {end}");
        }
        assert_eq!(Stored::decode(key, &Bytes::from([&bytes[..], b"x"].concat())), None);
        assert_eq!(Stored::decode(key, &Bytes::from_static(b"WRONGTYPE")), None);
        for at in 0..bytes.len() {
            let mut wrong = bytes.to_vec();
            wrong[at] ^= 0x55;
            let _ = Stored::decode(key, &Bytes::from(wrong)); // anything but a panic
        }
    }

    #[test]
    fn it_is_given_again_for_its_time() {
        let stored = stored();
        assert_eq!(stored.left_ms(1_000_000, None), 60_000);
        assert_eq!(stored.left_ms(1_059_999, None), 1);
        assert_eq!(stored.left_ms(1_060_000, None), 0);
        assert_eq!(stored.left_ms(900_000, None), 60_000, "its clock is ahead of ours");
        assert_eq!(stored.left_ms(1_004_000, Some(5)), 1_000);
        assert_eq!(stored.left_ms(1_005_000, Some(5)), 0);
        assert_eq!(stored.left_ms(1_000_000, Some(0)), 0);
        assert_eq!(stored.left_ms(u64::MAX, Some(u64::MAX)), 0);
    }
}
