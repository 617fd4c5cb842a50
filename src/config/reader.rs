//! A typed walk over a parsed TOML file that notes every mistake and goes on.
//!
//! Invariants: each key a section asks for is known, every other one is reported when the section ends
//! (`Table::section` sees to it); a getter that returns `None` for a key that is there has noted why.
//! Cost: one binary search in the line table per key.

pub(super) mod trace;

use std::cell::RefCell;
use std::time::Duration;

use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::problem::{Problem, choices, quote};
use super::units::{self, Bytes};
use trace::{Shape, Trace};

/// The problems and warnings found so far, and the lines of the text they are in.
pub(super) struct Report {
    /// Offset of each line's first byte.
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    pub(super) trace: Trace,
}

impl Report {
    pub(super) fn new(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(breaks).collect();
        Self {
            line_starts,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            trace: Trace::default(),
        }
    }

    /// Line of a byte offset, counted from 1.
    pub(super) fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.line_starts.partition_point(|&start| start <= offset)).unwrap_or(u32::MAX)
    }

    /// Notes a mistake.
    pub(super) fn add(&self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.borrow_mut().push(problem(place, message.into(), hint.into()));
    }

    /// Notes what is allowed and still will not do what it says.
    pub(super) fn warn(&self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.warnings.borrow_mut().push(problem(place, message.into(), hint.into()));
    }

    /// Whether no mistake has been noted yet.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// Every mistake and every warning noted, each by line.
    pub(super) fn into_parts(self) -> (Vec<Problem>, Vec<Problem>) {
        let (mut problems, mut warnings) = (self.problems.into_inner(), self.warnings.into_inner());
        problems.sort_by_key(|problem| problem.line);
        warnings.sort_by_key(|warning| warning.line);
        (problems, warnings)
    }
}

fn problem(place: &Place, message: String, hint: String) -> Problem {
    Problem { file: String::new(), path: place.path.clone(), line: place.line, message, hint }
}

/// Where something stands in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) line: u32,
}

impl Place {
    fn key(&self, key: &str, line: u32) -> Self {
        let key = key_text(key);
        let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Self { path, line }
    }

    fn item(&self, index: usize, line: u32) -> Self {
        Self { path: format!("{}[{index}]", self.path), line }
    }
}

/// A key as it stands in a path: bare as TOML has it, else quoted.
pub(super) fn key_text(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { quote(key) }
}

/// One table while it is read.
pub(super) struct Table<'a> {
    pub(super) report: &'a Report,
    pub(super) place: Place,
    /// `None`: the file has no such table, every key is absent.
    entries: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// Reads the whole file's table and reports the keys that `read` did not ask for.
    pub(super) fn root<T>(
        report: &'a Report,
        entries: &'a DeTable<'a>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        Self::whole(report, Place::default(), Some(entries), read)
    }

    fn whole<T>(
        report: &'a Report,
        place: Place,
        entries: Option<&'a DeTable<'a>>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut table = Self { report, place, entries, known: Vec::new() };
        let result = read(&mut table);
        table.report_unknown();
        result
    }

    fn report_unknown(&self) {
        for (key, span) in self.keys() {
            if !self.known.contains(&key) {
                let place = self.place.key(key, self.report.line(span));
                self.report.add(&place, "unknown key", choices(key, &self.known));
            }
        }
    }

    fn keys(&self) -> impl Iterator<Item = (&'a str, usize)> {
        self.entries
            .into_iter()
            .flat_map(DeTable::iter)
            .map(|(key, _)| (key.get_ref().as_ref(), key.span().start))
    }

    /// The value of a key, which is known from now on.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.note(key, Shape::Key);
        let (found, value) = self.entries?.get_key_value(key)?;
        let place = self.place.key(key, self.report.line(found.span().start));
        Some(Value { report: self.report, place, value: value.get_ref() })
    }

    fn note(&self, key: &'static str, shape: Shape) {
        self.report.trace.note(|| (self.place.key(key, 0).path, shape));
    }

    /// The value of a key that has to be there.
    pub(super) fn require(&mut self, key: &'static str, hint: &str) -> Option<Value<'a>> {
        self.note(key, Shape::Required);
        let value = self.take(key);
        if value.is_none() {
            self.report.add(&self.place.key(key, self.place.line), "is missing", hint);
        }
        value
    }

    /// Reads a table in this one to its end; `read` sees an empty one if it is absent.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        let value = self.take(key);
        let place = value.as_ref().map_or_else(|| self.place.key(key, 0), |value| value.place.clone());
        Self::whole(self.report, place, value.and_then(|value| value.table()), read)
    }

    /// Reads each table of an array of tables to its end; empty if it is absent.
    pub(super) fn sections<T>(&mut self, key: &'static str, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let Some(value) = self.take(key) else { return Vec::new() };
        if value.value.is_table() {
            let hint = format!("write [[{}]]", value.place.path);
            value.wrong("expected an array of tables, found a table", hint);
            return Vec::new();
        }
        let items = value.items().unwrap_or_default();
        let tables = items.into_iter().filter_map(|item| item.table().map(|entries| (item.place, entries)));
        tables.map(|(place, entries)| Self::whole(self.report, place, Some(entries), &mut read)).collect()
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.take(key).and_then(|value| value.flag()).unwrap_or(default)
    }

    /// A whole number from `min` to `max`.
    pub(super) fn integer<T: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        min: i64,
        max: i64,
        default: T,
    ) -> T {
        self.take(key).and_then(|value| value.integer(min, max)).unwrap_or(default)
    }

    /// A time from `min` to a day.
    pub(super) fn time(&mut self, key: &'static str, min: Duration, default: Duration) -> Duration {
        self.take(key).and_then(|value| value.time(min)).unwrap_or(default)
    }

    /// A time from `min` to `max`.
    pub(super) fn time_within(
        &mut self,
        key: &'static str,
        min: Duration,
        max: Duration,
        default: Duration,
    ) -> Duration {
        self.take(key).and_then(|value| value.time_within(min, max)).unwrap_or(default)
    }

    /// A size from `min` to `max`.
    pub(super) fn size(&mut self, key: &'static str, min: Bytes, max: Bytes, default: Bytes) -> Bytes {
        self.take(key).and_then(|value| value.size(min, max)).unwrap_or(default)
    }

    /// One of the words of a closed set.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)], default: T) -> T {
        self.take(key).and_then(|value| value.word(words)).unwrap_or(default)
    }
}

/// One value while it is read.
pub(super) struct Value<'a> {
    report: &'a Report,
    pub(super) place: Place,
    value: &'a DeValue<'a>,
}

/// Longest time that the file may ask for.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl<'a> Value<'a> {
    /// Notes a mistake in this value.
    pub(super) fn wrong(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.report.add(&self.place, message, hint);
    }

    fn note(&self, shape: impl FnOnce() -> Shape) {
        self.report.trace.note(|| (self.place.path.clone(), shape()));
    }

    /// Notes that the value is of another type.
    fn expected<T>(&self, what: &str, hint: &str) -> Option<T> {
        let found = self.value.type_str();
        let article = if matches!(found, "integer" | "array") { "an" } else { "a" };
        self.wrong(format!("expected {what}, found {article} {found}"), hint);
        None
    }

    /// The text of a string, without a complaint about other types.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// A string.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.note(|| Shape::Text);
        self.as_text().or_else(|| self.expected("a string", "put it in double quotes"))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Option<bool> {
        self.note(|| Shape::Flag);
        self.value.as_bool().or_else(|| self.expected("true or false", "without quotes"))
    }

    /// A whole number from `min` to `max`.
    pub(super) fn integer<T: TryFrom<i64>>(&self, min: i64, max: i64) -> Option<T> {
        self.note(|| Shape::Integer(min, max));
        let Some(number) = self.value.as_integer() else {
            return self.expected("a whole number", &format!("from {min} to {max}, without quotes"));
        };
        let read = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let fits =
            read.filter(|number| (min..=max).contains(number)).and_then(|number| T::try_from(number).ok());
        if fits.is_none() {
            self.wrong(format!("{} is out of range", number.as_str()), format!("from {min} to {max}"));
        }
        fits
    }

    /// A number from 0 on.
    pub(super) fn amount(&self) -> Option<f64> {
        self.note(|| Shape::Amount);
        let text = match self.value {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => return self.expected("a number", "e.g. 0.002, without quotes"),
        };
        match text.parse::<f64>() {
            // Adding 0.0 makes 0.0 of -0.0.
            Ok(number) if number.is_finite() && number >= 0.0 => Some(number + 0.0),
            _ => {
                self.wrong(format!("{text} is out of range"), "0 or more, and finite");
                None
            }
        }
    }

    /// A time from `min` to a day.
    pub(super) fn time(&self, min: Duration) -> Option<Duration> {
        self.time_within(min, TIME_MAX)
    }

    /// A time from `min` to `max`.
    pub(super) fn time_within(&self, min: Duration, max: Duration) -> Option<Duration> {
        self.note(|| Shape::Time(min, max));
        let Some(text) = self.as_text() else {
            return self.expected(
                "a time",
                r#"a whole number with its unit, in quotes: "100ms", "30s", "2m", "1h""#,
            );
        };
        let Some(time) = units::parse_time(text) else {
            self.wrong(format!("{} is no time", quote(text)), r#"write it as "100ms", "30s", "2m" or "1h""#);
            return None;
        };
        if time < min || time > max {
            let range = format!("from {} to {}", units::time_text(min), units::time_text(max));
            self.wrong(format!("{} is out of range", quote(text)), range);
            return None;
        }
        Some(time)
    }

    /// A date and time, of TOML or in a string.
    pub(super) fn datetime(&self) -> Option<Datetime> {
        self.note(|| Shape::Moment);
        let hint = "e.g. 2030-12-31T23:59:59Z";
        match self.value {
            DeValue::Datetime(time) => Some(*time),
            DeValue::String(text) => match text.parse() {
                Ok(time) => Some(time),
                Err(_) => {
                    self.wrong(format!("{} is no date and time", quote(text)), hint);
                    None
                }
            },
            _ => self.expected("a date and time", hint),
        }
    }

    /// A size from `min` to `max`, with a unit or as a plain number of bytes.
    pub(super) fn size(&self, min: Bytes, max: Bytes) -> Option<Bytes> {
        self.note(|| Shape::Size(min, max));
        let hint = r#"write it as "20MiB", "64KiB", "1GB", or as a whole number of bytes"#;
        let (size, shown) = match self.value {
            DeValue::Integer(number) => {
                let bytes = u64::from_str_radix(number.as_str(), number.radix());
                (bytes.ok().map(Bytes), number.as_str().to_owned())
            }
            DeValue::String(text) => (Bytes::parse(text), quote(text)),
            _ => return self.expected("a size", hint),
        };
        let Some(size) = size else {
            self.wrong(format!("{shown} is no size"), hint);
            return None;
        };
        if size < min || size > max {
            self.wrong(format!("{shown} is out of range"), format!("from {min} to {max}"));
            return None;
        }
        Some(size)
    }

    /// One of the words of a closed set.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        self.note(|| Shape::Words(words.iter().map(|&(word, _)| word.to_owned()).collect()));
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|&(_, value)| value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
            self.wrong(format!("{} is not known here", quote(text)), choices(text, &known));
        }
        found
    }

    /// The values of an array, each with its own place.
    pub(super) fn items(&self) -> Option<Vec<Value<'a>>> {
        self.note(|| Shape::Array);
        let Some(array) = self.value.as_array() else {
            return self.expected("an array", "put it in square brackets");
        };
        let items = array.iter().enumerate().map(|(index, item)| Value {
            report: self.report,
            place: self.place.item(index, self.report.line(item.span().start)),
            value: item.get_ref(),
        });
        Some(items.collect())
    }

    /// Reads a table to its end; `None`: it is none.
    pub(super) fn as_section<T>(&self, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        self.table().map(|entries| Table::whole(self.report, self.place.clone(), Some(entries), read))
    }

    /// The values of a table whose keys are free, in the file's order.
    pub(super) fn pairs(&self) -> Option<Vec<(&'a str, Value<'a>)>> {
        self.note(|| Shape::Free);
        self.table().map(|_| self.quiet_pairs())
    }

    /// Like `pairs`, without a complaint about other types: they have none.
    pub(super) fn quiet_pairs(&self) -> Vec<(&'a str, Value<'a>)> {
        let mut entries: Vec<_> = self.value.as_table().into_iter().flat_map(DeTable::iter).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let pairs = entries.into_iter().map(|(key, value)| {
            let place = self.place.key(key.get_ref(), self.report.line(key.span().start));
            (key.get_ref().as_ref(), Value { report: self.report, place, value: value.get_ref() })
        });
        pairs.collect()
    }

    /// A value of this table, without a complaint if it is none or has no such key.
    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        let (found, value) = self.value.as_table()?.get_key_value(key)?;
        let place = self.place.key(key, self.report.line(found.span().start));
        Some(Value { report: self.report, place, value: value.get_ref() })
    }

    /// Whether this is an empty array or table.
    pub(super) fn is_empty(&self) -> bool {
        match self.value {
            DeValue::Array(array) => array.is_empty(),
            DeValue::Table(table) => table.is_empty(),
            _ => false,
        }
    }

    /// The entries of a table.
    pub(super) fn table(&self) -> Option<&'a DeTable<'a>> {
        self.note(|| Shape::Table);
        self.value.as_table().or_else(|| self.expected("a table", "see the example files in config/"))
    }
}
