//! Variables that LiteLLM's files refer to: those of an environment file, of `environment_variables`, of the process.
//!
//! An environment file has a `NAME=value` a line, as Docker and `dotenv` read it. Its values are never told.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::report::Origin;

/// Lines of an environment file that are read.
const LINES_MAX: usize = 10_000;

/// What is known of the environment.
pub(super) struct Vars<'a> {
    /// Of the environment file and of `environment_variables`, with where they stand.
    named: RefCell<HashMap<String, (Origin, String)>>,
    process: &'a dyn Fn(&str) -> Option<String>,
    /// Names that the gateway itself will ask for.
    wanted: RefCell<BTreeSet<String>>,
    /// Names that were looked up.
    read: RefCell<BTreeSet<String>>,
}

/// A line of an environment file.
pub(super) struct Line {
    pub(super) origin: Origin,
    /// `None`: no `NAME=value`.
    pub(super) name: Option<String>,
    pub(super) value: String,
}

impl<'a> Vars<'a> {
    pub(super) fn new(process: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { named: RefCell::default(), process, wanted: RefCell::default(), read: RefCell::default() }
    }

    /// Adds a variable; what was there stays.
    pub(super) fn add(&self, name: &str, origin: Origin, value: String) {
        self.named.borrow_mut().entry(name.to_owned()).or_insert((origin, value));
    }

    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.read.borrow_mut().insert(name.to_owned());
        let named = self.named.borrow().get(name).map(|(_, value)| value.clone());
        named.or_else(|| (self.process)(name))
    }

    /// Where a variable stands in a file.
    pub(super) fn origin(&self, name: &str) -> Option<Origin> {
        self.named.borrow().get(name).map(|(origin, _)| origin.clone())
    }

    /// Notes that the gateway will ask for a variable.
    pub(super) fn want(&self, name: &str) {
        self.wanted.borrow_mut().insert(name.to_owned());
    }

    /// Whether the gateway will ask for a variable.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.wanted.borrow().contains(name)
    }

    /// Whether somebody looked a variable up.
    pub(super) fn was_read(&self, name: &str) -> bool {
        self.read.borrow().contains(name)
    }

    /// All variables that the gateway will ask for.
    pub(super) fn wanted(&self) -> Vec<String> {
        self.wanted.borrow().iter().cloned().collect()
    }
}

/// The lines of an environment file that say something.
pub(super) fn lines(text: &str, file: &Rc<str>) -> Vec<Line> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().take(LINES_MAX).enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let origin = Origin { file: Rc::clone(file), line: u32::try_from(number + 1).unwrap_or(u32::MAX) };
        let pair = line.split_once('=').map(|(name, value)| (name.trim(), unquoted(value.trim())));
        let pair = pair.filter(|(name, _)| is_name(name));
        let (name, value) =
            pair.map_or((None, String::new()), |(name, value)| (Some(name.to_owned()), value));
        lines.push(Line { origin, name, value });
    }
    lines
}

/// Whether a shell would take it as a variable's name.
pub(super) fn is_name(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.len() <= 256 && name.bytes().all(inside) && !name.as_bytes()[0].is_ascii_digit()
}

/// A value without its quotes, or without a comment behind it.
fn unquoted(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some((inside, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inside.to_owned();
        }
    }
    value.split(" #").next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_dotenv_does() {
        let text = "# head\nA=1\nexport B = \"two # words\"\n\nC='x' # c\nD=y # c\n1X=3\nnonsense\nE=\n";
        let read: Vec<(u32, Option<String>, String)> = lines(text, &"f".into())
            .into_iter()
            .map(|line| (line.origin.line, line.name, line.value))
            .collect();
        let some = |name: &str| Some(name.to_owned());
        let expected = [
            (2, some("A"), "1"),
            (3, some("B"), "two # words"),
            (5, some("C"), "x"),
            (6, some("D"), "y"),
            (7, None, ""),
            (8, None, ""),
            (9, some("E"), ""),
        ];
        assert_eq!(read, expected.map(|(line, name, value)| (line, name, value.to_owned())));
    }

    #[test]
    fn files_come_before_the_process() {
        let process = |name: &str| (name == "P").then(|| "process".to_owned());
        let vars = Vars::new(&process);
        let origin = Origin { file: "f".into(), line: 2 };
        vars.add("A", origin.clone(), "file".to_owned());
        vars.add("A", origin.clone(), "later".to_owned());
        assert_eq!(vars.get("A").as_deref(), Some("file"));
        assert_eq!(vars.get("P").as_deref(), Some("process"));
        assert_eq!((vars.get("X"), vars.origin("A"), vars.origin("P")), (None, Some(origin), None));
        vars.want("K");
        assert!(vars.is_wanted("K") && !vars.is_wanted("A"));
        assert_eq!(vars.wanted(), ["K"]);
    }
}
