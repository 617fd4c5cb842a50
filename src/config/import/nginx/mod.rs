//! nginx's configuration into the plan: where clients connect, what bounds them, which headers they get.
//!
//! A whole `nginx.conf` or a part of one (`conf.d/x.conf`). Servers that only redirect, only show metrics, or proxy are told
//! apart; of several that proxy the one with TLS counts. What guards access and cannot be had here is refused.
//! Source: nginx's documentation of each directive; inheritance as `ngx_http_merge_*`.

mod limits;
mod listen;
mod location;
mod parse;
mod plain;
mod server;
mod units;
mod upstream;
mod value;

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use super::Files;
use super::plan::Plan;
use super::report::{Fate, Origin, Report, shown};
use limits::Zone;
use parse::Directive;

/// Files that `include` may bring, and how deep they may include each other.
const FILES_MAX: usize = 256;
const INCLUDE_DEPTH_MAX: usize = 8;
/// Directives of all files together.
const DIRECTIVES_MAX: usize = 100_000;

/// What is read so far.
struct Reader<'p> {
    report: &'p Report,
    plan: &'p mut Plan,
    /// LiteLLM's file says what is behind: nginx's upstreams are LiteLLM itself.
    litellm: bool,
    zones: Vec<Zone>,
    /// Zones of `limit_conn_zone` and whether they tell clients apart.
    conn_zones: HashMap<String, bool>,
    /// Inside of a location: what holds there holds for all paths here.
    in_location: bool,
    /// Keys that were set, with their value and where.
    set: HashMap<String, (String, Origin)>,
}

/// Whether a file could be read, and whether there is something in it that could not.
pub(super) struct Unreadable {
    pub(super) line: u32,
    pub(super) message: String,
}

/// Reads a whole file and what it includes.
pub(super) fn read(
    file: &Path,
    text: &str,
    files: &dyn Files,
    report: &Report,
    litellm: bool,
    plan: &mut Plan,
) -> Result<(), Unreadable> {
    let name: Rc<str> = file.display().to_string().into();
    report.file(&name);
    let parsed = parse::parse(text, &name)
        .map_err(|mistake| Unreadable { line: mistake.line, message: mistake.message })?;
    let mut include =
        Include { base: file.parent().unwrap_or(Path::new("")), files, report, read: 0, directives: 0 };
    let directives = include.expand(parsed, 0);
    plan.edge.present = true;
    let mut reader = Reader {
        report,
        plan,
        litellm,
        zones: Vec::new(),
        conn_zones: HashMap::new(),
        in_location: false,
        set: HashMap::new(),
    };
    reader.read_main(&directives);
    reader.sweep(&directives);
    Ok(())
}

/// What `include` needs.
struct Include<'p> {
    base: &'p Path,
    files: &'p dyn Files,
    report: &'p Report,
    read: usize,
    directives: usize,
}

impl Include<'_> {
    /// The directives with those of included files in their place.
    fn expand(&mut self, directives: Vec<Directive>, depth: usize) -> Vec<Directive> {
        let mut out = Vec::with_capacity(directives.len());
        for mut directive in directives {
            self.directives += 1;
            if self.directives > DIRECTIVES_MAX {
                self.tell(&directive, Fate::Refused, "too many directives in all files together");
                return out;
            }
            if directive.name == "include" && directive.block.is_none() {
                out.extend(self.include(&directive, depth));
                continue;
            }
            directive.block = directive.block.map(|inside| self.expand(inside, depth));
            out.push(directive);
        }
        out
    }

    fn include(&mut self, directive: &Directive, depth: usize) -> Vec<Directive> {
        let Some(pattern) = directive.args.first().filter(|_| directive.args.len() == 1) else {
            self.tell(directive, Fate::Refused, "expected one file");
            return Vec::new();
        };
        if pattern.ends_with("mime.types") {
            self.tell(directive, Fate::Ignored, "the gateway serves no files");
            return Vec::new();
        }
        if depth >= INCLUDE_DEPTH_MAX {
            self.tell(directive, Fate::Refused, "files include each other too deep");
            return Vec::new();
        }
        let path = self.base.join(pattern);
        let wild = pattern.contains(['*', '?', '[']);
        let paths = if wild { self.files.glob(&path) } else { vec![path] };
        if paths.is_empty() {
            self.tell(directive, Fate::Exact, "no file fits it");
            return Vec::new();
        }
        let mut out = Vec::new();
        for path in paths {
            out.extend(self.file(directive, &path, depth));
        }
        out
    }

    fn file(&mut self, directive: &Directive, path: &Path, depth: usize) -> Vec<Directive> {
        self.read += 1;
        if self.read > FILES_MAX {
            self.tell(directive, Fate::Refused, "too many files are included");
            return Vec::new();
        }
        let shown_path = shown(&path.display().to_string());
        let text = match self.files.read(path) {
            Ok(text) => text,
            Err(why) => {
                self.tell(directive, Fate::Refused, &format!("{shown_path} {why}"));
                return Vec::new();
            }
        };
        let name: Rc<str> = path.display().to_string().into();
        self.report.file(&name);
        match parse::parse(&text, &name) {
            Ok(parsed) => {
                self.tell(directive, Fate::Exact, &format!("{shown_path} is read"));
                self.expand(parsed, depth + 1)
            }
            Err(mistake) => {
                let origin = Origin { file: name, line: mistake.line };
                self.report.add(&origin, "", Fate::Refused, mistake.message);
                Vec::new()
            }
        }
    }

    fn tell(&self, directive: &Directive, fate: Fate, text: &str) {
        self.report.add(&directive.origin, &directive.name, fate, text);
    }
}

impl Reader<'_> {
    fn tell(&self, directive: &Directive, fate: Fate, text: impl Into<String>) {
        self.report.add(&directive.origin, &directive.name, fate, text);
    }

    fn exact(&self, directive: &Directive, to: impl Into<String>) {
        self.tell(directive, Fate::Exact, to);
    }

    fn changed(&self, directive: &Directive, how: impl Into<String>) {
        self.tell(directive, Fate::Changed, how);
    }

    fn ignored(&self, directive: &Directive, why: impl Into<String>) {
        self.tell(directive, Fate::Ignored, why);
    }

    fn refused(&self, directive: &Directive, why: impl Into<String>) {
        self.tell(directive, Fate::Refused, why);
    }

    /// Tells of a block and everything in it.
    fn ignore_all(&self, directive: &Directive, why: &str) {
        self.ignored(directive, why);
        for inside in directive.block.iter().flatten() {
            self.ignore_all(inside, why);
        }
    }

    /// Tells of every line that no reader has told of.
    fn sweep(&self, directives: &[Directive]) {
        for directive in directives {
            if !self.report.tells(&directive.origin) {
                self.ignored(directive, "not read");
            }
            self.sweep(directive.block.as_deref().unwrap_or_default());
        }
    }

    /// Outside of `http`, and what may be a part of it.
    fn read_main(&mut self, directives: &[Directive]) {
        let mut http: Vec<&Directive> = Vec::new();
        for directive in directives {
            match directive.name.as_str() {
                "http" => {
                    self.exact(directive, "[server]");
                    http.extend(directive.block.iter().flatten());
                }
                "events" | "stream" | "mail" if directive.block.is_some() => {
                    let why = match directive.name.as_str() {
                        "events" => "the gateway has no workers: one shard a core",
                        _ => "only HTTP is served",
                    };
                    self.ignore_all(directive, why);
                }
                _ => http.push(directive),
            }
        }
        self.read_http(&http);
    }
}
