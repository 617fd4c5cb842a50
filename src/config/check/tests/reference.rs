//! docs/configuration.md and config/corelane.schema.json, made of what the readers ask for and of the types' comments.
//!
//! `full.toml` says every key, so reading it shows how each is read and within which bounds; what `effective` writes of
//! `short.toml` are the defaults. Both files fail their test when they are not what is made of the sources now;
//! `CORELANE_WRITE=1 cargo test --lib reference` writes them.

mod notes;
mod schema;
mod source;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use toml::Value;

use super::super::super::reader::trace::Shape;
use super::super::super::units::Bytes;
use super::super::super::{builtin, effective, needs_restart, parse};
use super::super::{DeTable, Problem, Report, Table, read_file};
use super::problems;
use notes::{DEFAULTS, LAST, MEANINGS, SECTIONS, Section, VALUES};
use source::Types;

const FULL: &str = include_str!("reference/full.toml");
const SHORT: &str = include_str!("reference/short.toml");

/// Every key with what is known of it, in the order in which readers ask.
struct Keys(Vec<(String, Vec<Shape>)>);

impl Keys {
    fn read() -> Self {
        let report = Report::new(FULL);
        let document = DeTable::parse(FULL).unwrap();
        Table::root(&report, document.get_ref(), read_file);
        let mut keys: Vec<(String, Vec<Shape>)> = Vec::new();
        for (path, shape) in report.trace.asked.take() {
            let path = without_numbers(&path);
            match keys.iter_mut().find(|(known, _)| *known == path) {
                Some((_, shapes)) => shapes.push(shape),
                None => keys.push((path, vec![shape])),
            }
        }
        let repeats = |path: &str| {
            let direction =
                ["guard.input.scanner.", "guard.output.scanner."].iter().find_map(|at| path.strip_prefix(at));
            path.starts_with("guard.profiles.") || direction.is_some_and(|rest| rest.contains('.'))
        };
        keys.retain(|(path, _)| !repeats(path));
        Self(keys)
    }

    fn shapes(&self, path: &str) -> &[Shape] {
        self.0.iter().find(|(known, _)| known == path).map_or(&[], |(_, shapes)| shapes)
    }

    /// How a value is read: the shape that says most.
    fn shape(&self, path: &str) -> Shape {
        let weight = |shape: &&Shape| match shape {
            Shape::Key | Shape::Required => 0,
            Shape::Table => 1,
            Shape::Text => 2,
            _ => 3,
        };
        self.shapes(path).iter().max_by_key(weight).cloned().unwrap_or(Shape::Key)
    }

    fn is_required(&self, path: &str) -> bool {
        self.shapes(path).contains(&Shape::Required)
    }

    /// The keys of a table, without those of tables in it.
    fn below(&self, table: &str) -> Vec<&str> {
        let own = |path: &&str| {
            let rest = path.strip_prefix(table).and_then(|rest| rest.strip_prefix('.'));
            rest.is_some_and(|rest| !rest.contains(['.', '[']))
        };
        self.0.iter().map(|(path, _)| path.as_str()).filter(own).collect()
    }
}

/// `endpoints[3].name` as `endpoints[].name`.
fn without_numbers(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for letter in path.chars() {
        inside = (inside && letter != ']') || letter == '[';
        if !inside || letter == '[' {
            out.push(letter);
        }
    }
    out
}

#[test]
fn the_reference_is_what_the_sources_say() {
    let (keys, types) = (Keys::read(), Types::read());
    same("docs/configuration.md", &page(&keys, &types));
    same("config/corelane.schema.json", &schema::text(&keys, &types));
}

/// The tracked file has this text; it is written if that is asked for.
fn same(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("CORELANE_WRITE").is_some() {
        fs::write(&path, text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        found == text,
        "{name} is not what the sources say, from line {} on: run CORELANE_WRITE=1 cargo test --lib reference",
        differs.unwrap_or_else(|| found.lines().count().min(text.lines().count())) + 1
    );
}

#[test]
fn every_key_stands_in_the_full_file_and_is_accepted() {
    parse(FULL).unwrap_or_else(|problems| panic!("{problems}"));
    let tree: toml::Table = FULL.parse().unwrap();
    let known: BTreeSet<String> = Keys::read().0.into_iter().map(|(path, _)| path).collect();
    // The two places for a scanner's own settings of a direction are read, and shown under [guard.scanner.X].
    let other = ["guard.profiles", "guard.input.scanner", "guard.output.scanner"];
    let missing: Vec<&String> = known
        .iter()
        .filter(|path| at(&tree, path).is_none() && !other.iter().any(|prefix| path.starts_with(prefix)))
        .collect();
    assert!(missing.is_empty(), "keys that are read, and do not stand in full.toml: {missing:?}");
}

#[test]
fn an_unknown_key_is_refused_in_every_section() {
    let whole: toml::Table = FULL.parse().unwrap();
    let root = with_stranger(&whole, "");
    assert!(problems(&root).iter().any(|problem| problem.path == "no_such_key"));
    for Section(path, ..) in SECTIONS.iter().chain(&LAST) {
        let found = problems(&with_stranger(&whole, path));
        let stranger = |problem: &Problem| {
            without_numbers(&problem.path) == format!("{path}.no_such_key")
                && problem.message == "unknown key"
        };
        assert!(found.iter().any(stranger), "{path}: {found:?}");
    }
}

/// The file with `no_such_key` in the table at `path`.
fn with_stranger(whole: &toml::Table, path: &str) -> String {
    let mut tree = Value::Table(whole.clone());
    let mut place = &mut tree;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        place = place.get_mut(part.trim_end_matches("[]")).unwrap();
        if part.ends_with("[]") {
            place = place.get_mut(0).unwrap();
        }
    }
    place.as_table_mut().unwrap().insert("no_such_key".to_owned(), Value::Integer(1));
    toml::to_string(&tree).unwrap()
}

/// A value of a tree; of an array's tables the first that has it.
fn at<'a>(tree: &'a toml::Table, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let key = first.trim_end_matches("[]").trim_matches('"');
    let value = tree.get(key)?;
    match (first.ends_with("[]"), rest.is_empty()) {
        (false, true) => Some(value),
        (true, true) => value.as_array()?.first(),
        (false, false) => at(value.as_table()?, rest),
        (true, false) => {
            let mut tables = value.as_array()?.iter().filter_map(Value::as_table);
            tables.find_map(|table| at(table, rest))
        }
    }
}

const HEAD: &str = "# Configuration reference

This page is made from the sources by `CORELANE_WRITE=1 cargo test --lib reference`, and a test fails when it is not what they say.
Whole files to begin with are in [config/](../config/). The binary prints this page, and a JSON Schema of the file for editors, the same as
[config/corelane.schema.json](../config/corelane.schema.json) (`#:schema PATH` in the first line of the file):

```sh
corelane config --reference | head -1
corelane config --schema > corelane.schema.json
```

```text
# Configuration reference
```

- The file is TOML. An unknown key is an error, with the nearest known one as a hint; `corelane check FILE` tells all errors at once, `corelane config -c FILE` what takes effect.
- **time**: a whole number with its unit in quotes, `\"100ms\"`, `\"30s\"`, `\"2m\"`, `\"1h\"`, `\"30d\"`. **size**: `\"20MiB\"`, `\"64KiB\"`, `\"1GB\"`, or a number of bytes.
- **secret**: itself, `\"env:NAME\"` (the environment variable) or `\"file:PATH\"`; it is never printed.
- Paths are relative to the working directory.
- `corelane reload`, HUP or `server.watch` apply a changed file to a running gateway. Keys marked **restart** need a new process: a restart, or an upgrade in place ([reliability.md](reliability.md)).
";

fn page(keys: &Keys, types: &Types) -> String {
    let config = parse(FULL).unwrap();
    let restart = needs_restart(&builtin(), &config);
    let short = parse(SHORT).unwrap_or_else(|problems| panic!("{problems}"));
    let defaults: toml::Table = effective(&short).parse().unwrap();
    let mut out = HEAD.to_owned();
    let mut seen = BTreeSet::new();
    for Section(path, header, owner, about) in SECTIONS.iter().chain(&LAST) {
        let _ = write!(out, "\n## `{header}`\n\n{about}\n\n| key | value | default | |\n|---|---|---|---|\n");
        for key in keys.below(path) {
            seen.insert(key.to_owned());
            if has_section(key) {
                continue;
            }
            let name = key.rsplit('.').next().unwrap_or_default();
            let restarts =
                restart.iter().any(|restart| key == *restart || key.starts_with(&format!("{restart}.")));
            let marks = if restarts { " **restart**" } else { "" };
            let meaning = meaning(keys, types, owner, key).replace('|', "\\|").replace("\\\\|", "\\|");
            let _ = writeln!(
                out,
                "| `{name}` | {} | {} | {meaning}{marks} |",
                value(keys, key),
                default(keys, &defaults, key)
            );
        }
    }
    let unseen: Vec<&String> = keys
        .0
        .iter()
        .map(|(path, _)| path)
        .filter(|path| {
            let own = path.split('.').count() > 1 && !path.ends_with("[]");
            let inside = keys.0.iter().any(|(table, shapes)| {
                shapes.contains(&Shape::Free) && path.starts_with(&format!("{table}."))
            });
            own && !has_section(path) && !inside && !seen.contains(*path)
        })
        .collect();
    assert!(unseen.is_empty(), "keys under no section of notes.rs: {unseen:?}");
    out
}

/// Whether a key is shown as sections of its own.
fn has_section(key: &str) -> bool {
    let headed = |section: &Section| section.0.trim_end_matches("[]") == key && section.1.starts_with('[');
    headed_by_words(key) || SECTIONS.iter().any(headed)
}

/// Tables of scanners and profiles: the text of a section tells of them.
fn headed_by_words(key: &str) -> bool {
    key == "guard.profiles"
        || key.ends_with(".scanner")
        || key.starts_with("guard.input.scanner.")
        || key.starts_with("guard.output.scanner.")
}

/// What a key means: our own words, or the comment of the field that it fills, and what its words mean.
fn meaning(keys: &Keys, types: &Types, owner: &str, key: &str) -> String {
    let name = key.rsplit('.').next().unwrap_or_default();
    let scanner = key.starts_with("guard.scanner.").then(|| types.field("Scanner", name)).flatten();
    let field = types.field(owner, name).or(scanner);
    let own = MEANINGS.iter().find(|(path, _)| *path == key).map(|(_, meaning)| (*meaning).to_owned());
    let owners = [
        ("min_version", ""),
        ("roles", "Role"),
        ("tasks", "Cached"),
        ("on_error", "OnError"),
        ("stream", "StreamMode"),
    ];
    let kind = owners.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    let kind = kind.or(field.map(|field| field.kind.as_str())).unwrap_or_default();
    let text = own.unwrap_or_else(|| {
        if owner.is_empty() {
            return String::new();
        }
        plain(&field.unwrap_or_else(|| panic!("notes.rs says nothing of {key}, nor does a field")).doc)
    });
    let shape = match keys.shape(key) {
        Shape::Array => keys.shape(&format!("{key}[]")),
        shape => shape,
    };
    let Shape::Words(words) = shape else { return text };
    let known: Vec<String> = words
        .iter()
        .filter_map(|word| types.word(kind, word).map(|doc| format!("`{word}`: {}", plain(doc))))
        .collect();
    if known.is_empty() { text } else { format!("{text} {}", known.join(" ")) }
}

/// A comment for readers of the sources as operators read it.
fn plain(doc: &str) -> String {
    let mut text =
        doc.replace("[`", "`").replace("`]", "`").replace("`None`", "left out").replace(". left", ". Left");
    for (from, to) in [
        ("`Limits::", "`limits."),
        ("`Config::timeouts`", "`[timeouts]`"),
        ("`reliability::Fallbacks`", "`[fallbacks]`"),
    ] {
        text = text.replace(from, to);
    }
    text
}

fn value(keys: &Keys, key: &str) -> String {
    if let Some((_, value)) = VALUES.iter().find(|(path, _)| *path == key) {
        return (*value).to_owned();
    }
    if key.ends_with(".threshold") || key.contains(".thresholds.") {
        return "0 to 1".to_owned();
    }
    match keys.shape(key) {
        Shape::Text => "string".to_owned(),
        Shape::Flag => "`true`, `false`".to_owned(),
        Shape::Integer(min, max) => format!("{min} to {max}"),
        Shape::Amount => "number, 0 or more".to_owned(),
        Shape::Time(min, max) => format!("time, {} to {}", time(min), time(max)),
        Shape::Moment => "date, time and offset".to_owned(),
        Shape::Size(min, max) => format!("size, {} to {}", size(min), size(max)),
        Shape::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Shape::Array => match keys.shape(&format!("{key}[]")) {
            Shape::Words(words) => {
                format!(
                    "array of {}",
                    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
                )
            }
            Shape::Table => "array of tables".to_owned(),
            _ => "array of strings".to_owned(),
        },
        Shape::Table | Shape::Free => "table".to_owned(),
        Shape::Key | Shape::Required => panic!("{key} is asked for and not read"),
    }
}

fn default(keys: &Keys, defaults: &toml::Table, key: &str) -> String {
    if let Some((_, default)) = DEFAULTS.iter().find(|(path, _)| *path == key) {
        return (*default).to_owned();
    }
    if keys.is_required(key) {
        return "needed".to_owned();
    }
    if let Some(rest) = key.strip_prefix("models[].timeouts.") {
        return format!("`[timeouts]`' `{rest}`");
    }
    if key.contains(".thresholds.") {
        return "`threshold`".to_owned();
    }
    let is_time = matches!(keys.shape(key), Shape::Time(..));
    let shown = |path: &str| {
        let value = at(defaults, path)?;
        let seconds =
            value.as_str().filter(|_| is_time).and_then(|text| text.strip_suffix('s')?.parse().ok());
        Some(
            seconds
                .map_or_else(|| format!("`{value}`"), |s| format!("`\"{}\"`", time(Duration::from_secs(s)))),
        )
    };
    if let Some(rest) = key.strip_prefix("guard.scanner.") {
        let (input, output) =
            (shown(&format!("guard.input.scanner.{rest}")), shown(&format!("guard.output.scanner.{rest}")));
        return match (input, output) {
            (Some(input), Some(output)) if input != output => format!("{input}, for answers {output}"),
            (Some(one), _) | (_, Some(one)) => one,
            (None, None) => "–".to_owned(),
        };
    }
    let zone = key.strip_prefix("limits.zones[].").map(|rest| format!("limits.zones[].routes[].{rest}"));
    shown(key).or_else(|| zone.and_then(|path| shown(&path))).unwrap_or_else(|| "–".to_owned())
}

fn time(time: Duration) -> String {
    let ms = time.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let fitting = units.iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit));
    fitting.map_or_else(|| "0s".to_owned(), |(unit, name)| format!("{}{name}", ms / unit))
}

fn size(size: Bytes) -> String {
    match size.0 {
        bytes if bytes >= 1 << 40 && bytes.is_multiple_of(1 << 40) => format!("{}TiB", bytes >> 40),
        _ => size.to_string(),
    }
}
