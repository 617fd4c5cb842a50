//! Configurations of LiteLLM and nginx become one of ours, with a report of what became of each line.
//!
//! Both files are read into a [`Plan`](plan::Plan), which is written as commented TOML. Nothing is passed over: each key and each
//! directive has an entry in the report. Secrets that stand in variables stay there (`os.environ/X` becomes `env:X`); those in
//! clear are copied, marked, and never told. No file can make this panic, and what it holds in memory is bounded: files have a
//! megabyte at most, and aliases and includes are counted.
//! It does no I/O: who calls it brings [`Files`]. Cost: linear in the files, a command's work, never a request's.

mod field;
mod litellm;
mod nginx;
mod plan;
mod report;
mod toml;
mod vars;
mod yaml;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use self::toml::from;
use field::{Around, Field};
use plan::Plan;
pub use report::{Entry, Fate, Origin, Report};
use vars::Vars;
use yaml::{Document, Node, Value};

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Files that LiteLLM's `include` may bring, and how deep.
const INCLUDES_MAX: usize = 64;

/// Where other files come from.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// A few words for the operator, without the file's name.
    fn read(&self, path: &Path) -> Result<String, String>;

    /// The files that fit a pattern with `*` and `?`, in their order.
    fn glob(&self, pattern: &Path) -> Vec<PathBuf>;

    /// A variable of the process.
    fn variable(&self, name: &str) -> Option<String>;
}

/// What is imported; one of the first two at least.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// LiteLLM's configuration, YAML.
    pub litellm: Option<PathBuf>,
    /// nginx's configuration, or a part of it.
    pub nginx: Option<PathBuf>,
    /// The environment of the deployment, `NAME=value` a line.
    pub env: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub struct Imported {
    /// The configuration.
    pub toml: String,
    /// Each line's fate.
    pub report: Report,
    /// Variables that the gateway will ask for.
    pub variables: Vec<String>,
}

/// A file that cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Which file.
    pub file: PathBuf,
    /// Line, counted from 1; 0 if there is none.
    pub line: u32,
    /// Why.
    pub message: String,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.file.display(), self.message),
            line => write!(out, "{}:{line}: {}", self.file.display(), self.message),
        }
    }
}

/// Imports the files.
///
/// # Errors
/// A file that cannot be read, or that is no YAML, or no configuration of nginx.
pub fn import(sources: &Sources, files: &dyn Files) -> Result<Imported, Unreadable> {
    let report = Report::default();
    let process = |name: &str| files.variable(name);
    let vars = Vars::new(&process);
    let mut plan = Plan::default();
    let around = Around { report: &report, vars: &vars };
    let litellm = sources.litellm.as_deref().map(|path| document(path, files, around)).transpose()?;
    if let Some(path) = &sources.nginx {
        let text = read(path, files)?;
        nginx::read(path, &text, files, &report, litellm.is_some(), &mut plan)
            .map_err(|cause| Unreadable { file: path.clone(), line: cause.line, message: cause.message })?;
    }
    let lines = match &sources.env {
        None => Vec::new(),
        Some(path) => {
            let name: Rc<str> = path.display().to_string().into();
            report.file(&name);
            let lines = vars::lines(&read(path, files)?, &name);
            for line in &lines {
                line.name.iter().for_each(|name| vars.add(name, line.origin.clone(), line.value.clone()));
            }
            lines
        }
    };
    if let Some(root) = &litellm {
        let field = Field::root(around, root);
        litellm::read(&field, &mut plan);
        field::sweep(&field, "not read");
    }
    if let (true, Some(path)) = (plan.endpoints.is_empty() && litellm.is_none(), &sources.nginx) {
        let origin = Origin { file: path.display().to_string().into(), line: 0 };
        let text = "there is no server behind: name LiteLLM's file by --litellm, or add [[endpoints]]";
        report.add(&origin, "", Fate::Refused, text);
    }
    litellm::read_environment(&lines, around, &mut plan);
    head(&mut plan, sources, &vars);
    Ok(Imported { toml: plan.doc.render(), variables: vars.wanted(), report })
}

/// The comment at the head of the file.
fn head(plan: &mut Plan, sources: &Sources, vars: &Vars<'_>) {
    let names: Vec<String> = [&sources.litellm, &sources.nginx, &sources.env]
        .into_iter()
        .flatten()
        .map(|path| path.display().to_string())
        .collect();
    plan.doc.head(format!("Imported by `corelane import` from {}.", names.join(", ")));
    plan.doc.head("Behind each key stands the line that it is from. What is left out has its default: `corelane config -c FILE`.");
    let wanted: Vec<String> = vars
        .wanted()
        .iter()
        .map(|name| match vars.origin(name) {
            Some(origin) => format!("{name} ({})", from(&origin)),
            None => name.clone(),
        })
        .collect();
    if !wanted.is_empty() {
        plan.doc.head(format!("Set in the environment of the gateway: {}.", wanted.join(", ")));
    }
}

fn read(path: &Path, files: &dyn Files) -> Result<String, Unreadable> {
    files.read(path).map_err(|message| Unreadable { file: path.to_owned(), line: 0, message })
}

/// LiteLLM's file with those that it includes.
fn document(path: &Path, files: &dyn Files, around: Around<'_>) -> Result<Rc<Node>, Unreadable> {
    let report = around.report;
    let text = read(path, files)?;
    let main = parsed(path, &text, report)?;
    let Some(list) = main.root.get("include").cloned() else { return Ok(main.root) };
    let Value::Map(entries) = &main.root.value else { return Ok(main.root) };
    let mut entries = entries.clone();
    let items: Vec<Rc<Node>> = match &list.value {
        Value::List(items) => items.clone(),
        _ => vec![Rc::clone(&list)],
    };
    for item in items.into_iter().take(INCLUDES_MAX) {
        let origin = Origin { file: Rc::clone(&item.file), line: item.line };
        let tell = |fate: Fate, text: &str| report.add(&origin, "include", fate, text);
        let Value::Scalar { text: name, .. } = &item.value else {
            tell(Fate::Refused, "expected a file");
            continue;
        };
        let other = path.parent().unwrap_or(Path::new("")).join(name);
        let included = match files.read(&other) {
            Ok(text) => parsed(&other, &text, report)?,
            Err(why) => {
                tell(Fate::Refused, &format!("{} {why}", report::shown(name)));
                continue;
            }
        };
        tell(Fate::Exact, &format!("{} is read", report::shown(name)));
        merge(&mut entries, &included.root, around);
    }
    let root = Node::made(Value::Map(entries), main.root.line, &main.root.file);
    match root.is_too_large() {
        true => {
            let message = "too many values in all files together".to_owned();
            Err(Unreadable { file: path.to_owned(), line: 0, message })
        }
        false => Ok(Rc::new(root)),
    }
}

/// As LiteLLM merges them: lists get longer, all else is replaced.
fn merge(entries: &mut Vec<yaml::Entry>, other: &Node, around: Around<'_>) {
    let Value::Map(more) = &other.value else { return };
    for entry in more {
        let known = entries.iter_mut().find(|known| known.key == entry.key);
        match (known, &entry.node.value) {
            (None, _) => entries.push(entry.clone()),
            (Some(known), Value::List(items)) => match &known.node.value {
                Value::List(own) => {
                    let all = own.iter().chain(items).cloned().collect();
                    known.node = Rc::new(Node::made(Value::List(all), known.node.line, &known.node.file));
                }
                _ => replace(known, entry, around),
            },
            (Some(known), _) => replace(known, entry, around),
        }
    }
}

/// Puts an included value in the place of one, of which every line is told.
fn replace(known: &mut yaml::Entry, entry: &yaml::Entry, around: Around<'_>) {
    let why = format!("{} says it again, and that counts", report::shown(&entry.node.file));
    Field::at(around, &known.node, &known.key, known.line).ignored(why);
    *known = entry.clone();
}

fn parsed(path: &Path, text: &str, report: &Report) -> Result<Document, Unreadable> {
    let name: Rc<str> = path.display().to_string().into();
    report.file(&name);
    let document = yaml::parse(text, &name).map_err(|mistake| Unreadable {
        file: path.to_owned(),
        line: mistake.line,
        message: mistake.message,
    })?;
    for (key, line, counts) in &document.doubles {
        let origin = Origin { file: Rc::clone(&name), line: *line };
        report.add(&origin, key, Fate::Ignored, format!("it stands again in line {counts}, and that counts"));
    }
    match &document.root.value {
        Value::Map(_) => Ok(document),
        _ => {
            let (file, message) = (path.to_owned(), "expected a map".to_owned());
            Err(Unreadable { file, line: document.root.line, message })
        }
    }
}
