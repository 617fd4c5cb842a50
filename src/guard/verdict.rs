//! What scanners find, and what becomes of it.
//!
//! Spans are byte ranges of the original text, on character borders. A verdict is derived from findings, never from a
//! rounded risk. Findings carry no text of the user but in `reason`, which is for operators who ask for it.

use std::borrow::Cow;
use std::ops::Range;

use crate::config::guard::{Action, ScannerName};

/// Findings kept of one text and scanner: a text of nothing but secrets costs no more memory than this.
pub const FINDINGS_MAX: usize = 512;

/// Something that a scanner found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Who found it.
    pub scanner: ScannerName,
    /// Rule, category or language: a word of a closed set.
    pub rule: Cow<'static, str>,
    /// Where, in bytes of the original text.
    pub span: Range<usize>,
    /// How sure, 0 to 1; 1 for rules.
    pub score: f32,
    /// What weighed most, for operators.
    pub reason: String,
}

/// Findings of one text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// In the order in which they were found.
    pub findings: Vec<Finding>,
    kept: [u16; ScannerName::ALL.len()],
}

impl Found {
    /// Whether more may have been found by `name` than is kept: then not all of it can be redacted.
    #[must_use]
    pub fn is_full(&self, name: ScannerName) -> bool {
        self.kept.get(name as usize).is_some_and(|kept| usize::from(*kept) >= FINDINGS_MAX)
    }

    /// Keeps `finding`, if there is room for one more of its scanner.
    pub fn add(&mut self, finding: Finding) {
        if let Some(kept) = self.kept.get_mut(finding.scanner as usize)
            && usize::from(*kept) < FINDINGS_MAX
        {
            *kept += 1;
            self.findings.push(finding);
        }
    }
}

/// What became of the texts of one exchange, in one direction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// The strongest action that each scanner's findings led to; `None`: it found nothing.
    pub actions: [Option<Action>; ScannerName::ALL.len()],
    /// Scanners that failed.
    pub failed: [bool; ScannerName::ALL.len()],
    /// Nanoseconds that each scanner took.
    pub spent_ns: [u64; ScannerName::ALL.len()],
    /// The first rule of each scanner that found something.
    pub rules: Vec<(ScannerName, Cow<'static, str>)>,
}

impl Tally {
    /// Notes a finding and what it led to.
    pub fn find(&mut self, finding: &Finding, action: Action) {
        if let Some(strongest) = self.actions.get_mut(finding.scanner as usize) {
            if strongest.is_none() {
                self.rules.push((finding.scanner, finding.rule.clone()));
            }
            *strongest = (*strongest).max(Some(action));
        }
    }

    /// Notes a failure; `true`: it is the scanner's first.
    pub fn fail(&mut self, name: ScannerName) -> bool {
        self.failed.get_mut(name as usize).is_some_and(|failed| !std::mem::replace(failed, true))
    }

    /// Adds time.
    pub fn spent(&mut self, spent_ns: &[u64; ScannerName::ALL.len()]) {
        for (sum, spent) in self.spent_ns.iter_mut().zip(spent_ns) {
            *sum += spent;
        }
    }
}
