//! Series of callers' keys: at most so many have their own, the others are counted as one.
//!
//! Which keys have series may change, and a counter must not fall: what a key uses while it has series of its own is
//! added to these, what it uses while it has none to those of `other`. So every sum over all keys stays right, and each
//! series only grows. A key that comes back goes on where its series were. The order is by requests, then by name.
//! Read and written by whoever renders the page; cost: one pass over all keys and a sort.

use std::collections::HashMap;

use crate::usage::spend::Spent;

/// What the series hold, between two pages.
#[derive(Debug, Default)]
pub struct KeySeries {
    /// All that each key had used at the last page.
    seen: HashMap<String, Spent>,
    /// What each key's own series hold.
    own: HashMap<String, Spent>,
    other: Spent,
}

/// The series now.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// By name, those with most requests first.
    pub keys: Vec<(String, Spent)>,
    /// All others; `None`: there are none, and never were.
    pub other: Option<Spent>,
}

impl KeySeries {
    /// Takes what all keys have used until now, and shows at most `max` of them.
    pub fn update(&mut self, mut now: Vec<(&str, Spent)>, max: usize) -> Shown {
        now.sort_by(|(a, x), (b, y)| y.requests.cmp(&x.requests).then(a.cmp(b)));
        let mut keys = Vec::new();
        for (place, (name, spent)) in now.iter().enumerate() {
            let more = spent.since(&self.seen.get(*name).copied().unwrap_or_default());
            self.seen.insert((*name).to_owned(), *spent);
            if place < max {
                let own = self.own.entry((*name).to_owned()).or_default();
                own.add(&more);
                keys.push(((*name).to_owned(), *own));
            } else {
                self.other.add(&more);
            }
        }
        let other = (now.len() > max || self.other.requests > 0).then_some(self.other);
        Shown { keys, other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(requests: u64) -> Spent {
        Spent { requests, input: requests * 10, ..Spent::default() }
    }

    fn requests(shown: &Shown) -> (Vec<(&str, u64)>, Option<u64>) {
        let keys = shown.keys.iter().map(|(name, spent)| (name.as_str(), spent.requests));
        (keys.collect(), shown.other.map(|other| other.requests))
    }

    #[test]
    fn no_series_falls_and_nothing_is_lost() {
        let mut series = KeySeries::default();
        let shown = series.update(vec![("a", spent(5)), ("b", spent(3)), ("c", spent(1))], 2);
        assert_eq!(requests(&shown), (vec![("a", 5), ("b", 3)], Some(1)));
        let shown = series.update(vec![("a", spent(5)), ("b", spent(3)), ("c", spent(9))], 2);
        assert_eq!(requests(&shown), (vec![("c", 8), ("a", 5)], Some(1)), "b steps back, c begins");
        let shown = series.update(vec![("a", spent(5)), ("b", spent(20)), ("c", spent(9))], 2);
        assert_eq!(requests(&shown), (vec![("b", 20), ("c", 8)], Some(1)), "b goes on where it was");
        let shown = series.update(vec![("a", spent(7)), ("b", spent(20)), ("c", spent(9))], 2);
        assert_eq!(requests(&shown), (vec![("b", 20), ("c", 8)], Some(3)));
        assert_eq!(shown.keys[0].1.input, 200);
    }

    #[test]
    fn few_keys_have_no_others() {
        let mut series = KeySeries::default();
        assert_eq!(requests(&series.update(vec![("a", spent(0))], 20)), (vec![("a", 0)], None));
        assert_eq!(requests(&series.update(Vec::new(), 20)), (vec![], None));
        assert_eq!(requests(&series.update(vec![("a", spent(2))], 0)), (vec![], Some(2)));
    }
}
