//! What became of each line of the imported files, in words.
//!
//! Invariants: a message never repeats a secret, nor the value of a key that nobody knows: who adds an entry says only
//! what he has understood. Text from the files stands in messages quoted and cut.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::rc::Rc;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file as it was named, or as an `include` names it.
    pub file: Rc<str>,
    /// Counted from 1; 0: the whole file.
    pub line: u32,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// The gateway does what the line says.
    Exact,
    /// It does something else in its place.
    Changed,
    /// It does nothing in its place.
    Ignored,
    /// It cannot do what the line says, and doing without would be another gateway.
    Refused,
}

impl Fate {
    /// All of them, the harmless first.
    pub const ALL: [Self; 4] = [Self::Exact, Self::Changed, Self::Ignored, Self::Refused];

    /// As the report writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Changed => "changed",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
        }
    }
}

/// One line's fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which line.
    pub origin: Origin,
    /// What stands there: the path of a key, the name of a directive.
    pub path: String,
    /// What became of it.
    pub fate: Fate,
    /// Where it went, how it was changed, or why it was not taken.
    pub text: String,
}

impl fmt::Display for Entry {
    /// `litellm_config.yaml:12: changed: router_settings.num_retries: …`
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.origin.file)?;
        if self.origin.line > 0 {
            write!(out, ":{}", self.origin.line)?;
        }
        write!(out, ": {}: ", self.fate.word())?;
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path)?;
        }
        out.write_str(&self.text)
    }
}

/// All entries so far.
#[derive(Debug, Default)]
pub struct Report {
    entries: RefCell<Vec<Entry>>,
    /// Lines that an entry names.
    told: RefCell<HashSet<Origin>>,
    /// Where the entry of a key stands.
    keys: RefCell<HashMap<(Origin, String), usize>>,
    /// Files in the order in which they were read.
    files: RefCell<Vec<Rc<str>>>,
}

impl Report {
    /// Notes what became of a key. Of several fates the worst counts: a line that is taken and changed is changed.
    pub(super) fn key(&self, origin: &Origin, path: &str, fate: Fate, text: impl Into<String>) {
        let next = self.entries.borrow().len();
        let at = *self.keys.borrow_mut().entry((origin.clone(), shown(path))).or_insert(next);
        if at == next {
            return self.add(origin, path, fate, text);
        }
        if let Some(entry) = self.entries.borrow_mut().get_mut(at).filter(|entry| fate > entry.fate) {
            (entry.fate, entry.text) = (fate, text.into());
        }
    }

    /// Notes what became of a line.
    pub(super) fn add(&self, origin: &Origin, path: &str, fate: Fate, text: impl Into<String>) {
        self.told.borrow_mut().insert(origin.clone());
        let entry = Entry { origin: origin.clone(), path: shown(path), fate, text: text.into() };
        self.entries.borrow_mut().push(entry);
    }

    /// Notes that a file is read; entries come in the order of files.
    pub(super) fn file(&self, file: &Rc<str>) {
        let mut files = self.files.borrow_mut();
        if !files.contains(file) {
            files.push(Rc::clone(file));
        }
    }

    /// Whether an entry names the line.
    pub(super) fn tells(&self, origin: &Origin) -> bool {
        self.told.borrow().contains(origin)
    }

    /// Every entry, by file and line.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = self.entries.borrow().clone();
        let files = self.files.borrow();
        let place = |entry: &Entry| files.iter().position(|file| *file == entry.origin.file);
        entries.sort_by_key(|entry| (place(entry).unwrap_or(usize::MAX), entry.origin.line));
        entries
    }

    /// Entries of one fate.
    #[must_use]
    pub fn count(&self, fate: Fate) -> usize {
        self.entries.borrow().iter().filter(|entry| entry.fate == fate).count()
    }
}

impl fmt::Display for Report {
    /// A line an entry, and how many there are of each fate.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.entries() {
            writeln!(out, "{entry}")?;
        }
        let [exact, changed, ignored, refused] = Fate::ALL.map(|fate| self.count(fate));
        write!(out, "{exact} exact, {changed} changed, {ignored} ignored, {refused} refused")
    }
}

/// Characters of a path that are shown.
const PATH_CHARS_MAX: usize = 160;

/// Text of a file as it may stand in a line of the report or in a comment: without control characters, and cut.
pub(super) fn shown(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { '?' } else { letter };
    let mut out: String = text.chars().take(PATH_CHARS_MAX).map(plain).collect();
    if text.chars().nth(PATH_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_by_file_and_line_and_are_counted() {
        let report = Report::default();
        let (first, second): (Rc<str>, Rc<str>) = ("b.yaml".into(), "a.conf".into());
        report.file(&first);
        report.file(&second);
        let at = |file: &Rc<str>, line| Origin { file: Rc::clone(file), line };
        report.add(&at(&second, 1), "listen", Fate::Ignored, "why");
        report.add(&at(&first, 9), "x\ny", Fate::Exact, "to");
        report.add(&at(&first, 2), "", Fate::Refused, "because");
        let text = report.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "b.yaml:2: refused: because",
                "b.yaml:9: exact: x?y: to",
                "a.conf:1: ignored: listen: why",
                "1 exact, 0 changed, 1 ignored, 1 refused"
            ]
        );
        assert!(report.tells(&at(&first, 2)) && !report.tells(&at(&first, 3)));
        report.key(&at(&first, 5), "k", Fate::Exact, "to");
        report.key(&at(&first, 5), "k", Fate::Changed, "how");
        report.key(&at(&first, 5), "k", Fate::Exact, "to");
        let told: Vec<String> = report.entries().iter().map(Entry::to_string).collect();
        assert_eq!(told[1], "b.yaml:5: changed: k: how");
        assert_eq!(told.len(), 4);
    }
}
