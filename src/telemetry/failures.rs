//! The last exchanges that failed: a bounded ring that shards push to, and the control core empties when it is asked.
//!
//! Only failures come here: an exchange that went well never touches it. What is held are names of the configuration,
//! the request's id and our own sentences, never an endpoint's words or the client's text. Bound: [`RING`] entries of
//! at most some 600 bytes; the oldest goes first. No lock: a push that finds the ring full takes the oldest out.

use std::time::SystemTime;

use crossbeam_queue::ArrayQueue;

/// Failures that are remembered.
pub const RING: usize = 128;
/// Longest text of an entry, in bytes.
const TEXT_MAX: usize = 200;

/// One exchange that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// When it ended.
    pub at: SystemTime,
    /// Its request id.
    pub request_id: String,
    /// The status that was told, 502 for a stream that broke, 499 for a client that left.
    pub status: u16,
    /// The deployment that was asked, if one was.
    pub model: Option<String>,
    /// The endpoint of the last attempt, if there was one.
    pub endpoint: Option<String>,
    /// The name of the key that was shown, if one was.
    pub key: Option<String>,
    /// What went wrong, in our words.
    pub error: String,
}

/// The ring.
#[derive(Debug)]
pub struct Failures(ArrayQueue<Failed>);

impl Default for Failures {
    fn default() -> Self {
        Self(ArrayQueue::new(RING))
    }
}

impl Failures {
    /// Notes one; texts that are too long are cut.
    pub fn note(&self, mut failed: Failed) {
        cut(&mut failed.request_id);
        cut(&mut failed.error);
        for name in [&mut failed.model, &mut failed.endpoint, &mut failed.key].into_iter().flatten() {
            cut(name);
        }
        drop(self.0.force_push(failed));
    }

    /// Takes the oldest one out.
    #[must_use]
    pub fn take(&self) -> Option<Failed> {
        self.0.pop()
    }
}

fn cut(text: &mut String) {
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.push('\u{2026}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_long_texts_cut() {
        let ring = Failures::default();
        for n in 0..RING + 3 {
            ring.note(Failed {
                at: SystemTime::UNIX_EPOCH,
                request_id: format!("r{n}"),
                status: 502,
                model: Some("\u{e9}".repeat(300)),
                endpoint: None,
                key: None,
                error: String::new(),
            });
        }
        let kept: Vec<_> = std::iter::from_fn(|| ring.take()).collect();
        assert_eq!((kept.len(), kept[0].request_id.as_str()), (RING, "r3"));
        assert_eq!(kept[0].model.as_ref().unwrap().chars().count(), TEXT_MAX / 2 + 1);
    }
}
