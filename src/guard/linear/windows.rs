//! Which stretches of consecutive segments are scored when a segment ends.
//!
//! Three: the segment itself, the longest stretch up to it of at most 400 units, and that of at most 2000.
//! `T` is what had been summed up before a segment began, so a stretch costs one subtraction. Memory: at
//! most as many entries as segments fit into 2000 units.

use std::collections::VecDeque;

/// Units of the middle stretch.
pub const MIDDLE: u64 = 400;
/// Units of the longest stretch.
pub const LONG: u64 = 2000;

/// Sums at the beginnings of the last segments.
#[derive(Debug, Clone, Default)]
pub struct Windows<T> {
    starts: VecDeque<(u64, T)>,
    middle: usize,
    units: u64,
}

impl<T: Copy> Windows<T> {
    /// A segment of `units` ended, before which `sums` stood. Answers the sums before: the segment, the
    /// middle stretch, the long one.
    pub fn close(&mut self, units: u32, sums: T) -> [T; 3] {
        self.starts.push_back((self.units, sums));
        self.units += u64::from(units);
        while self.starts.len() > 1 && self.starts.front().is_some_and(|(at, _)| self.units - at > LONG) {
            self.starts.pop_front();
            self.middle = self.middle.saturating_sub(1);
        }
        while self.middle + 1 < self.starts.len()
            && self.starts.get(self.middle).is_some_and(|(at, _)| self.units - at > MIDDLE)
        {
            self.middle += 1;
        }
        let before = |index: usize| self.starts.get(index).map_or(sums, |(_, sums)| *sums);
        [sums, before(self.middle), before(0)]
    }
}
