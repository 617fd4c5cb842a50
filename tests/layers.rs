//! Promise: the rooms of `src/` import each other only as the table says (`ARCHITECTURE.md` quotes it).
//!
//! Every `crate::…` path of every source file is read, test code included, comments left out. A room is the longest
//! entry of [`ROOMS`] that a file's module path begins with. The way around, through `super::`, is closed too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test code

use std::fs;
use std::path::{Path, PathBuf};

/// A part of `src/`, what it may name, and why.
struct Room {
    name: &'static str,
    may: &'static [&'static str],
    why: &'static str,
}

const fn room(name: &'static str, may: &'static [&'static str], why: &'static str) -> Room {
    Room { name, may, why }
}

/// Who may import whom, the ground first.
const ROOMS: [Room; 39] = [
    room("wire", &[], "sans-io parsers: bytes in, values out, fuzzed alone"),
    room("telemetry::metric", &[], "counters, and nothing that is counted"),
    room("telemetry::histogram", &[], "arithmetic"),
    room("telemetry::keys", &["usage"], "arithmetic"),
    room("telemetry::failures", &[], "a ring of what failed, and nobody who fails"),
    room("config", &[], "types everybody reads and a parser nobody shares"),
    room("usage", &[], "counts and sums; the time is an argument"),
    room("health", &[], "decides on marks; the time is an argument"),
    room("breaker", &[], "decides on failures; the time is an argument"),
    room("budget", &[], "decides on retries; the time is an argument"),
    room("queue", &[], "decides who goes next; the time is an argument"),
    room("balance", &["config"], "decides who is picked, by the strategy's name and numbers"),
    room("api", &["config", "usage", "wire"], "dialects and bodies, spliced on the wire's scanners"),
    room("api::models", &["catalog", "config", "wire"], "the lists of models, written from the catalog"),
    room("cache", &["api", "config", "usage"], "what is equal, kept and shared; the time is an argument"),
    room("cache::redis", &["net::redis"], "answers on their way to Redis and back"),
    room("route", &["api", "wire"], "a method and a path to a task"),
    room("telemetry::log", &["config", "journal::queue"], "levels, and the place of access lines"),
    room("journal::queue", &[], "what the shards push and the journal pops"),
    room(
        "journal",
        &["config", "net::clock", "net::cpu", "net::runtime", "telemetry::log"],
        "lines into files, by a thread of its own; of the net only the clock, and whether there is io_uring",
    ),
    room("telemetry::trace", &["wire"], "contexts, spans and how they are written; chance is an argument"),
    room(
        "registry",
        &["breaker", "config", "health", "net::tls", "queue"],
        "what is known of each endpoint, and how to speak to it",
    ),
    room("retry", &["api", "breaker", "config"], "decides what follows a failure"),
    room(
        "catalog",
        &["api", "balance", "breaker", "config", "health", "queue", "registry", "telemetry"],
        "names to deployments, and the pick",
    ),
    room("guard", &["config", "wire"], "judges texts; the clock is an argument"),
    room(
        "limit",
        &["config", "queue", "usage"],
        "decides on rates, counts and keys; the time is an argument",
    ),
    room(
        "refusal",
        &["api", "catalog", "config", "guard", "limit", "route", "usage"],
        "the sentences of refusals, each made of its decision",
    ),
    room(
        "reading",
        &["api", "config", "guard", "refusal", "wire"],
        "the texts of a body through the guard; turns and memory are arguments",
    ),
    room("net", &["config", "wire"], "sockets, clock and runtime, with settings; decides nothing"),
    room(
        "world",
        &[
            "cache",
            "catalog",
            "config",
            "guard",
            "health",
            "limit",
            "net::handoff",
            "net::listener",
            "net::tls",
            "queue",
            "registry",
            "telemetry",
        ],
        "what the shards share; of the net only the door between them, and settings of listeners and TLS",
    ),
    room(
        "explain",
        &[
            "api", "breaker", "cache", "catalog", "config", "guard", "limit", "reading", "refusal",
            "registry", "retry", "route", "wire", "world",
        ],
        "asks every decision without effect; the time is an argument",
    ),
    room(
        "telemetry",
        &["breaker", "cache", "config", "journal::queue", "net::clock", "usage", "world"],
        "the pages of metrics are written from the world, now",
    ),
    room(
        "shard",
        &[
            "api",
            "balance",
            "breaker",
            "budget",
            "cache",
            "catalog",
            "config",
            "explain",
            "guard",
            "health",
            "limit",
            "net",
            "queue",
            "reading",
            "refusal",
            "registry",
            "retry",
            "route",
            "telemetry",
            "usage",
            "wire",
            "world",
        ],
        "one core's work; never the control core",
    ),
    room(
        "control",
        &[
            "api",
            "breaker",
            "catalog",
            "config",
            "explain",
            "health",
            "limit::client",
            "limit::key",
            "net",
            "reading",
            "registry",
            "route",
            "shard::head",
            "shard::reply",
            "telemetry",
            "usage",
            "wire",
            "world",
        ],
        "probes and the admin API; of a shard only how answers are written",
    ),
    room("sim", &["config", "net", "wire"], "a simulated endpoint: knows no gateway"),
    room("production", &["config"], "decides on a configuration; what the machine says is an argument"),
    room(
        "boot",
        &["config", "control", "guard", "journal", "net", "production", "shard", "telemetry", "world"],
        "starts and stops everything",
    ),
    room(
        "cli",
        &["boot", "config", "guard", "net", "production", "sim", "world"],
        "one file a command; of the net also what looks for the servers of a machine",
    ),
    room("main", &[], "calls cli"),
];

/// Crates that only `net` may name, and who else does, with the reason.
const RUNTIME: [&str; 7] = ["glommio", "io_uring", "libc", "monoio", "monoio_http", "rustls", "socket2"];
const LEAKS: [(&str, &str, &str); 2] = [
    ("journal/direct.rs", "glommio", "the journal's own executor, on its own thread; no shard knows of it"),
    ("sim/connection.rs", "socket2", "resets a connection, as a crashed endpoint does"),
];

#[test]
fn imports_follow_the_table() {
    let mut broken = Vec::new();
    for source in sources() {
        let module = source.module();
        if module.is_empty() {
            continue; // lib.rs names every room
        }
        let room = room_of(&module);
        for path in crate_paths(&source.code) {
            let own = room.name.split("::").next() == path.split("::").next();
            if !own && !room.may.iter().any(|allowed| within(&path, allowed)) {
                broken.push(format!("{}: crate::{path} ({}: {})", source.name, room.name, room.why));
            }
        }
    }
    assert!(broken.is_empty(), "imports that the table does not allow:\n{}", broken.join("\n"));
}

#[test]
fn the_root_is_reached_by_name_only() {
    let mut broken = Vec::new();
    for source in sources() {
        let depth = source.module().split("::").count();
        for line in source
            .code
            .lines()
            .filter_map(|line| line.strip_prefix("use ").or_else(|| line.strip_prefix("pub use ")))
        {
            if line.matches("super::").count() >= depth {
                broken.push(format!("{}: {line}", source.name));
            }
        }
    }
    assert!(broken.is_empty(), "write crate:: instead, so that it can be seen:\n{}", broken.join("\n"));
}

#[test]
fn only_net_touches_the_runtime() {
    let mut named = Vec::new();
    for source in sources().into_iter().filter(|source| !source.name.starts_with("net/")) {
        let holds = |word: &str| {
            source.code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
        };
        assert!(!holds("unsafe"), "{}: unsafe belongs into net", source.name);
        let paths = |word: &&str| source.code.contains(&format!("{word}::"));
        named.extend(RUNTIME.into_iter().filter(paths).map(|word| (source.name.clone(), word)));
    }
    let known = LEAKS.map(|(file, word, _)| (file.to_owned(), word));
    assert_eq!(named, known, "who names the runtime; the exceptions and their reasons: {LEAKS:?}");
}

#[test]
fn every_file_has_a_room() {
    for source in sources() {
        let module = source.module();
        assert!(module.is_empty() || within(&module, room_of(&module).name), "{}", source.name);
    }
    assert!(ROOMS.iter().all(|room| !room.why.is_empty()));
}

#[test]
fn paths_are_read_in_every_form() {
    let code = "use crate::a::b;\nuse crate::net::{\n    clock, task,\n};\nuse crate::{c, d::e};\nlet x = crate::f::g();";
    assert_eq!(crate_paths(code), ["a::b", "net::clock", "net::task", "c", "d::e", "f::g"]);
    assert_eq!(without_comments("//! [`crate::a`]\nx // crate::b"), "\nx ");
    assert!(within("net::clock::Timer", "net::clock") && !within("network", "net"));
    assert_eq!((room_of("api::models").name, room_of("api::body").name), ("api::models", "api"));
}

/// A file below `src/`, its comments left out.
struct Source {
    name: String,
    code: String,
}

impl Source {
    /// `shard/mod.rs` is `shard`, `shard/head.rs` is `shard::head`, `lib.rs` the root.
    fn module(&self) -> String {
        let path = self.name.strip_suffix(".rs").unwrap_or_default();
        let path = path.strip_suffix("/mod").unwrap_or(path);
        if path == "lib" { String::new() } else { path.replace('/', "::") }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let read = |path: PathBuf| Source {
        name: path.strip_prefix(&root).unwrap().display().to_string(),
        code: without_comments(&fs::read_to_string(&path).unwrap()),
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| line.split_once("//").map_or(line, |(code, _)| code).to_owned();
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// The paths behind `crate::`, groups in braces taken apart.
fn crate_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        let rest = &code[at + start.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches(':');
        match rest[end..].strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().unwrap_or_default();
                let words = group.split(',').filter_map(|item| item.split_whitespace().next());
                paths.extend(
                    words.map(
                        |word| if path.is_empty() { word.to_owned() } else { format!("{path}::{word}") },
                    ),
                );
            }
            None => paths.push(path.to_owned()),
        }
    }
    paths
}

/// Whether `path` is `of` or lies below it.
fn within(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn room_of(module: &str) -> &'static Room {
    let fits = ROOMS.iter().filter(|room| within(module, room.name));
    fits.max_by_key(|room| room.name.len())
        .unwrap_or_else(|| panic!("{module} is in no room: add it to the table"))
}
