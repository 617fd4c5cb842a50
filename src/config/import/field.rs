//! A typed walk over a YAML tree in which nothing is passed over: what is not asked for is told of.
//!
//! Invariants: whoever takes a `Field` says what became of it (`exact`, `changed`, `ignored`, `refused`), for a list or
//! a map of every line in it; a getter that returns `None` has refused the field; what a `Section` has that nobody took is
//! told by `rest`. `sweep` finds what was forgotten all the same.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use super::report::{Fate, Origin, Report};
use super::vars::{Vars, is_name};
use super::yaml::{Node, Value, is_null, truth};
use crate::config::render::quoted;

/// How a value names a variable.
const ENVIRON: &str = "os.environ/";
/// Longest time that is taken, in seconds: our longest.
const SECONDS_MAX: f64 = 24.0 * 60.0 * 60.0;

/// What every reader of a file needs.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) report: &'a Report,
    pub(super) vars: &'a Vars<'a>,
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub(super) around: Around<'a>,
    pub(super) node: &'a Node,
    pub(super) path: String,
    line: u32,
}

/// A map while it is read.
pub(super) struct Section<'a> {
    field: Field<'a>,
    taken: Vec<String>,
}

/// A secret as the configuration writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Secret {
    /// In a variable of this name.
    Variable(String),
    /// Itself.
    Literal(String),
}

impl Secret {
    /// As `api_key` and `secret` of the configuration have it.
    pub(super) fn toml(&self) -> String {
        match self {
            Self::Variable(name) => quoted(format_args!("env:{name}")),
            Self::Literal(text) => quoted(text),
        }
    }

    /// What its comment says.
    pub(super) fn note(&self) -> &'static str {
        match self {
            Self::Variable(_) => "",
            Self::Literal(_) => "; a secret in a file: move it to \"env:NAME\" or \"file:PATH\"",
        }
    }

    /// What the report says of where it went.
    pub(super) fn told(&self, to: &str) -> String {
        match self {
            Self::Variable(name) => format!("{to} = \"env:{name}\""),
            Self::Literal(_) => {
                format!("{to}, in clear as it stood here: move it to \"env:NAME\" or \"file:PATH\"")
            }
        }
    }
}

impl<'a> Field<'a> {
    /// The whole document.
    pub(super) fn root(around: Around<'a>, node: &'a Node) -> Self {
        Self { around, node, path: String::new(), line: node.line }
    }

    /// A value of a map that stands in no document any more.
    pub(super) fn at(around: Around<'a>, node: &'a Node, path: &str, line: u32) -> Self {
        Self { around, node, path: path.to_owned(), line }
    }

    pub(super) fn origin(&self) -> Origin {
        Origin { file: Rc::clone(&self.node.file), line: self.line }
    }

    /// Notes the fate of every line in it.
    fn tell(&self, fate: Fate, text: &str) {
        if self.node.is_leaf() {
            self.around.report.key(&self.origin(), &self.path, fate, text);
        }
        self.children().iter().for_each(|child| child.tell(fate, text));
    }

    fn children(&self) -> Vec<Self> {
        match &self.node.value {
            Value::Scalar { .. } => Vec::new(),
            Value::List(_) => self.items(),
            Value::Map(entries) => {
                let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
                keys.into_iter().filter_map(|key| self.get(key)).collect()
            }
        }
    }

    pub(super) fn exact(&self, to: impl AsRef<str>) {
        self.tell(Fate::Exact, to.as_ref());
    }

    pub(super) fn changed(&self, how: impl AsRef<str>) {
        self.tell(Fate::Changed, how.as_ref());
    }

    pub(super) fn ignored(&self, why: impl AsRef<str>) {
        self.tell(Fate::Ignored, why.as_ref());
    }

    pub(super) fn refused(&self, why: impl AsRef<str>) {
        self.tell(Fate::Refused, why.as_ref());
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.refused(format!("expected {what}"));
        None
    }

    /// The value of a key, without a word if this has none.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &self.node.value else { return None };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Some(Self { around: self.around, node: &entry.node, path, line: entry.line })
    }

    /// The values of a list; a single value is a list of one.
    pub(super) fn items(&self) -> Vec<Self> {
        match &self.node.value {
            Value::List(items) => {
                let items = items.iter().enumerate().map(|(index, node)| Self {
                    around: self.around,
                    node,
                    path: format!("{}[{index}]", self.path),
                    line: node.line,
                });
                items.collect()
            }
            _ if self.is_null() => Vec::new(),
            _ => vec![self.clone()],
        }
    }

    /// A map's keys and values.
    pub(super) fn pairs(&self) -> Option<Vec<(&'a str, Self)>> {
        match &self.node.value {
            Value::Map(entries) => {
                let pairs =
                    entries.iter().filter_map(|entry| Some((entry.key.as_str(), self.get(&entry.key)?)));
                Some(pairs.collect())
            }
            _ if self.is_null() => Some(Vec::new()),
            _ => self.expected("a map"),
        }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Whether nothing stands there.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.node.value, Value::Scalar { text, plain: true } if is_null(text))
    }

    /// Reads a map to its end by `read`, which takes what it knows and says what became of the rest.
    pub(super) fn section(&self) -> Option<Section<'a>> {
        match &self.node.value {
            Value::Map(_) => Some(Section { field: self.clone(), taken: Vec::new() }),
            _ if self.is_null() => Some(Section { field: self.clone(), taken: Vec::new() }),
            _ => self.expected("a map"),
        }
    }

    /// A word as it stands, without looking up variables.
    pub(super) fn raw(&self) -> Option<(&'a str, bool)> {
        match &self.node.value {
            Value::Scalar { text, plain } => Some((text, *plain)),
            _ => None,
        }
    }

    /// The name of the variable that stands here.
    pub(super) fn variable(&self) -> Option<&'a str> {
        self.raw()?.0.strip_prefix(ENVIRON)
    }

    /// A word, a variable looked up.
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        let Some((text, plain)) = self.raw().filter(|_| !self.is_null()) else {
            return self.expected("a word");
        };
        let Some(name) = text.strip_prefix(ENVIRON) else { return Some(Cow::Borrowed(text)) };
        let value = self.around.vars.get(name).filter(|_| plain || is_name(name));
        match value {
            Some(value) => Some(Cow::Owned(value)),
            None => {
                self.refused(format!(
                    "the variable {} is not set here: name its file by --env, or set it",
                    quoted(name)
                ));
                None
            }
        }
    }

    /// A secret: a variable stays one.
    pub(super) fn secret(&self) -> Option<Secret> {
        let Some((text, _)) = self.raw().filter(|_| !self.is_null()) else {
            return self.expected("a word");
        };
        if let Some(name) = text.strip_prefix(ENVIRON) {
            if !is_name(name) {
                return self.expected("the name of a variable behind os.environ/");
            }
            self.around.vars.want(name);
            return Some(Secret::Variable(name.to_owned()));
        }
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic()) && text.len() <= 4096;
        if !visible || text.is_empty() || text.starts_with("env:") || text.starts_with("file:") {
            return self.expected("a secret of visible ASCII without blanks");
        }
        Some(Secret::Literal(text.to_owned()))
    }

    /// A truth.
    pub(super) fn flag(&self) -> Option<bool> {
        let text = self.text()?;
        match truth(&text) {
            None => self.expected("true or false"),
            flag => flag,
        }
    }

    /// A number from 0 on.
    pub(super) fn number(&self) -> Option<f64> {
        let text = self.text()?;
        let number = text.replace('_', "").parse::<f64>().ok();
        match number.filter(|number| number.is_finite() && *number >= 0.0) {
            // Adding 0.0 makes 0.0 of -0.0.
            Some(number) => Some(number + 0.0),
            None => self.expected("a number from 0 on"),
        }
    }

    /// A whole number from `min` to `max`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "checked to be whole and within the bounds, which are far below 2^53"
    )]
    pub(super) fn integer(&self, min: u64, max: u64) -> Option<u64> {
        let number = self.number()?;
        if number.fract() != 0.0 || number < min as f64 || number > max as f64 {
            return self.expected(&format!("a whole number from {min} to {max}"));
        }
        Some(number as u64)
    }

    /// Seconds, as LiteLLM gives times, to the millisecond; up to a day. Zero is no time.
    pub(super) fn seconds(&self) -> Option<Duration> {
        self.seconds_within(SECONDS_MAX)
    }

    /// The same, up to `most`; more is told of.
    pub(super) fn seconds_within(&self, most: f64) -> Option<Duration> {
        let number = self.number()?;
        if number > most {
            self.changed(format!("{most} seconds are the most"));
        }
        let time = Duration::try_from_secs_f64(number.min(most)).ok();
        match time.map(|time| Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))) {
            Some(time) if !time.is_zero() => Some(time),
            _ => self.expected("a time of at least a millisecond, in seconds"),
        }
    }
}

impl<'a> Section<'a> {
    /// The value of a key that says something; a null says nothing, and nothing comes of it.
    pub(super) fn take(&mut self, key: &str) -> Option<Field<'a>> {
        self.taken.push(key.to_owned());
        let field = self.field.get(key)?;
        if field.is_null() {
            field.exact("nothing stands here");
            return None;
        }
        Some(field)
    }

    /// Takes keys of which nothing comes, each with the reason.
    pub(super) fn ignore(&mut self, keys: &[&str], why: &str) {
        for key in keys {
            self.take(key).iter().for_each(|field| field.ignored(why));
        }
    }

    /// Takes a key that says what the gateway always does.
    pub(super) fn always(&mut self, key: &str, on: bool, exact: &str, otherwise: &str) {
        let Some(field) = self.take(key) else { return };
        match field.flag() {
            Some(flag) if flag == on => field.exact(exact),
            Some(_) => field.ignored(otherwise),
            None => {}
        }
    }

    /// Says of everything that nobody took that it is ignored.
    pub(super) fn rest(&self, why: &str) {
        self.left().iter().for_each(|field| field.ignored(why));
    }

    /// What nobody took.
    pub(super) fn left(&self) -> Vec<Field<'a>> {
        let all = self.field.children();
        let key = |field: &Field<'a>| {
            let own = field.path.strip_prefix(&self.field.path).unwrap_or(&field.path);
            own.strip_prefix('.').unwrap_or(own).to_owned()
        };
        all.into_iter().filter(|field| !self.taken.contains(&key(field))).collect()
    }

    /// The map itself.
    pub(super) fn field(&self) -> &Field<'a> {
        &self.field
    }
}

/// Tells of every line that no reader has told of that it is ignored.
pub(super) fn sweep(root: &Field<'_>, why: &str) {
    if root.node.is_leaf() && !root.around.report.tells(&root.origin()) && !root.path.is_empty() {
        root.ignored(why);
    }
    root.children().iter().for_each(|child| sweep(child, why));
}

/// One of several lines that say the same thing.
pub(super) struct Candidate<'a, T> {
    pub(super) field: Field<'a>,
    pub(super) value: T,
    /// How it differs from what the line says; `None`: not at all.
    pub(super) how: Option<String>,
}

/// Of several lines that say the same thing the first counts; all are told what became of them.
pub(super) fn settle<T: PartialEq + Clone>(candidates: &[Candidate<'_, T>], to: &str) -> Option<(T, Origin)> {
    let first = candidates.first()?;
    for candidate in candidates {
        match &candidate.how {
            _ if candidate.value != first.value => {
                let (path, line) = (&first.field.path, first.field.origin().line);
                candidate.field.ignored(format!("{path} in line {line} counts"));
            }
            Some(how) => candidate.field.changed(format!("{to}: {how}")),
            None => candidate.field.exact(to),
        }
    }
    Some((first.value.clone(), first.field.origin()))
}
