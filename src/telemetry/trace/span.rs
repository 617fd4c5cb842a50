//! Spans that are over, on their way to the collector: a bounded queue that shards push to and the control core empties.
//!
//! A span that does not fit is dropped and counted; nobody waits. Bound: [`QUEUE`] spans of a few hundred bytes, at most
//! some 2 KiB each: texts are cut at [`TEXT_BYTES_MAX`].

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

/// Spans that may wait.
pub const QUEUE: usize = 4096;
/// Bytes of a text that are kept.
pub const TEXT_BYTES_MAX: usize = 256;

/// Which side of a request a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was asked.
    Server,
    /// It has asked.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Words of our own.
    Word(&'static str),
    /// A text.
    Text(String),
    /// A count.
    Number(u64),
    /// Seconds.
    Real(f64),
    /// Yes or no.
    Flag(bool),
}

impl Value {
    /// A text, cut at [`TEXT_BYTES_MAX`].
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(cut(text).to_owned())
    }
}

/// `text`, no longer than [`TEXT_BYTES_MAX`].
#[must_use]
pub fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}

/// One span, over.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Of its trace.
    pub trace_id: u128,
    /// Its own.
    pub span_id: u64,
    /// The span that it is part of; `None`: the trace begins with it.
    pub parent: Option<u64>,
    /// Whether that one is another process's.
    pub remote: bool,
    /// `tracestate` as it came.
    pub state: Option<String>,
    /// Few different ones.
    pub name: String,
    /// Its side.
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    /// Nanoseconds since 1970.
    pub end_ns: u64,
    /// Names of the conventions, or our own.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it counts as failed.
    pub failed: bool,
}

/// The queue, and what became of spans.
#[derive(Debug)]
pub struct Spans {
    queue: ArrayQueue<Box<Span>>,
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Default for Spans {
    fn default() -> Self {
        Self { queue: ArrayQueue::new(QUEUE), exported: AtomicU64::new(0), dropped: AtomicU64::new(0) }
    }
}

impl Spans {
    /// Takes a span, or drops it.
    pub fn push(&self, span: Span) {
        if self.queue.push(Box::new(span)).is_err() {
            self.lose(1);
        }
    }

    /// The oldest one.
    #[must_use]
    pub fn pop(&self) -> Option<Box<Span>> {
        self.queue.pop()
    }

    /// Spans that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// A collector has taken so many.
    pub fn export(&self, count: u64) {
        self.exported.fetch_add(count, Ordering::Relaxed);
    }

    /// So many are lost.
    pub fn lose(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Taken by a collector, and lost, since the start.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.exported.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_texts_are_cut() {
        let spans = Spans::default();
        let span = Span {
            trace_id: 1,
            span_id: 2,
            parent: None,
            remote: false,
            state: None,
            name: String::new(),
            kind: Kind::Server,
            start_ns: 0,
            end_ns: 0,
            attributes: Vec::new(),
            failed: false,
        };
        (0..QUEUE + 3).for_each(|_| spans.push(span.clone()));
        assert_eq!((spans.waiting(), spans.counts()), (QUEUE, (0, 3)));
        assert!(spans.pop().is_some());
        let Value::Text(text) = Value::text(&"ü".repeat(200)) else { panic!("a text") };
        assert_eq!(text.len(), TEXT_BYTES_MAX);
        assert_eq!(cut(&format!("{}ü", "a".repeat(255))).len(), 255);
        assert_eq!(cut("short"), "short");
    }
}
