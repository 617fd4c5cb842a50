//! What readers ask of a file, noted while unit tests run: docs/configuration.md is made of it.
//!
//! Invariant: outside of tests it holds nothing and does nothing, so a running gateway pays nothing for it.

use std::time::Duration;

use super::super::units::Bytes;

/// How a key is read, or what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) enum Shape {
    /// The key is known.
    Key,
    /// It has to be there.
    Required,
    Text,
    Flag,
    /// A whole number: least and largest.
    Integer(i64, i64),
    /// A number from 0 on.
    Amount,
    /// Shortest and longest.
    Time(Duration, Duration),
    /// A date and time.
    Moment,
    /// Least and largest.
    Size(Bytes, Bytes),
    /// One of a closed set.
    Words(Vec<String>),
    Array,
    Table,
    /// A table whose keys are free.
    Free,
}

/// What was asked for, in order.
#[derive(Default)]
pub(in crate::config) struct Trace {
    #[cfg(test)]
    pub(in crate::config) asked: std::cell::RefCell<Vec<(String, Shape)>>,
}

impl Trace {
    /// Notes that the value at a path is read as a shape.
    pub(super) fn note(&self, asked: impl FnOnce() -> (String, Shape)) {
        #[cfg(test)]
        self.asked.borrow_mut().push(asked());
        #[cfg(not(test))]
        let _ = asked;
    }
}
