//! What is wrong with a file, in words for the operator.
//!
//! Invariant: text from the file stands in messages only quoted and cut by `quote`, and secrets never do.

use std::fmt;

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as given to `load`; empty if the text came from elsewhere.
    pub file: String,
    /// Place in the file's tree, e.g. `endpoints[1].url`, counted from 0; empty if it is the whole file.
    pub path: String,
    /// Line, counted from 1; 0 if there is none.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// All mistakes of a configuration, in the order of their lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problem {
    /// `corelane.toml:12: endpoints[1].url: … (hint: …)`
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", 0) => {}
            ("", line) => write!(out, "line {line}: ")?,
            (file, 0) => write!(out, "{file}: ")?,
            (file, line) => write!(out, "{file}:{line}: ")?,
        }
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path)?;
        }
        out.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(out, " (hint: {})", self.hint)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    /// One problem a line, without a final line break.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            problem.fmt(out)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Characters of the file's text that a message repeats at most.
const QUOTE_CHARS_MAX: usize = 60;

/// `text` in quotes, escaped, and cut if long: safe for a terminal and a log line.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// Hint for a word that is none of `known`: the nearest one, else all of them.
pub(super) fn choices(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => String::new(),
        None if known.len() > CHOICES_MAX => {
            format!("known: {}, …", known.get(..CHOICES_MAX).unwrap_or_default().join(", "))
        }
        None => format!("known: {}", known.join(", ")),
    }
}

/// Words that a hint lists at most.
const CHOICES_MAX: usize = 40;

/// The one of `known` that is at most a third of its letters away from `word`, or begins as it does, if any.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > 64 {
        return None;
    }
    let word = folded(word);
    let begins = |long: &[char], short: &[char]| short.len() >= 3 && long.starts_with(short);
    let rank = |&candidate: &&'k str| {
        let folded = folded(candidate);
        let steps = distance(&word, &folded);
        let close = steps <= folded.len().div_ceil(3).min(3) && steps < word.len();
        (close || begins(&word, &folded) || begins(&folded, &word)).then_some((!close, steps, candidate))
    };
    known.iter().filter_map(rank).min().map(|(_, _, candidate)| candidate)
}

fn folded(word: &str) -> Vec<char> {
    word.chars().map(|letter| if letter == '-' { '_' } else { letter.to_ascii_lowercase() }).collect()
}

/// Levenshtein's edit distance, one row at a time; O(a·b) time, both are short here.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut last = i + 1;
        for (slot, right) in row.iter_mut().skip(1).zip(b) {
            let changed = diagonal + usize::from(left != right);
            diagonal = *slot;
            last = changed.min(diagonal + 1).min(last + 1);
            *slot = last;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(a: &str, b: &str) -> usize {
        distance(&folded(a), &folded(b))
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(steps("", ""), 0);
        assert_eq!(steps("", "abc"), 3);
        assert_eq!(steps("abc", ""), 3);
        assert_eq!(steps("kitten", "sitting"), 3);
        assert_eq!(steps("wieght", "weight"), 2);
        assert_eq!(steps("Least-Busy", "least_busy"), 0);
    }

    #[test]
    fn a_hint_names_the_nearest_word_else_all() {
        let known = ["round_robin", "least_busy", "weighted"];
        assert_eq!(choices("leastbusy", &known), "did you mean `least_busy`?");
        assert_eq!(choices("least", &known), "did you mean `least_busy`?");
        assert_eq!(choices("listeners", &["listen", "list"]), "did you mean `listen`?");
        assert_eq!(choices("random", &known), "known: round_robin, least_busy, weighted");
        assert_eq!(choices("x", &["url"]), "known: url");
        assert_eq!(choices(&"a".repeat(100_000), &["a"]), "known: a");
        assert_eq!(choices("x", &[]), "");
    }

    #[test]
    fn quotes_are_escaped_and_cut() {
        assert_eq!(quote("a\r\n\u{1b}[2J"), r#""a\r\n\u{1b}[2J""#);
        assert_eq!(quote(&"é".repeat(61)), format!("\"{}\"…", "é".repeat(60)));
    }

    #[test]
    fn a_problem_is_one_line() {
        let mut problem = Problem {
            file: "corelane.toml".to_owned(),
            path: "endpoints[1].url".to_owned(),
            line: 12,
            message: "no host".to_owned(),
            hint: "write one".to_owned(),
        };
        assert_eq!(problem.to_string(), "corelane.toml:12: endpoints[1].url: no host (hint: write one)");
        problem.file.clear();
        problem.hint.clear();
        assert_eq!(problem.to_string(), "line 12: endpoints[1].url: no host");
        problem.line = 0;
        problem.path.clear();
        assert_eq!(Problems(vec![problem.clone(), problem]).to_string(), "no host\nno host");
    }
}
