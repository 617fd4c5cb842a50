//! Counts the instructions of the hot paths, and of whole exchanges, and compares them with `bench/record/instructions.toml`.
//!
//! `scripts/instructions` builds and runs it; valgrind's callgrind counts. Counts do not depend on what else the machine does, so a change of
//! a few percent shows that no clock would show here. They depend on the compiler and its options: the record has a table
//! for the profile that tests are built with, and one for `release`.
//!
//! A path runs [`CALLS`] times after it has run [`WARM`] times uncounted; the figure is the mean, everything that it calls included.
//! A figure above its record by more than the tolerance fails. One below it by more than that is told: it should be
//! recorded, so that it cannot be lost again unseen.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)] // a bench

mod exchange;
mod paths;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const CALLS: u64 = 20;
const WARM: u64 = 2;
const PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };
/// What callgrind calls the function inside which it counts.
const COUNTED: &str = "instructions::counted";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("run") => run(),
        Some("check") => return check(&measure()),
        Some("record") => record(&measure()),
        _ => {
            println!("usage: instructions check | record | run");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// What runs under the profiler.
fn run() {
    let mut stage = paths::Stage::set();
    for _ in 0..WARM {
        counted_not(&mut stage);
    }
    for _ in 0..CALLS {
        counted(&mut stage);
    }
}

#[inline(never)]
fn counted_not(stage: &mut paths::Stage) {
    for (_, path) in black_box(paths::ALL) {
        path(stage);
    }
}

#[inline(never)]
fn counted(stage: &mut paths::Stage) {
    for (_, path) in black_box(paths::ALL) {
        path(stage);
    }
}

/// Instructions of a call of each path.
fn measure() -> BTreeMap<String, u64> {
    let out = std::env::temp_dir().join(format!("corelane-callgrind-{}", std::process::id()));
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--compress-strings=no", "--compress-pos=no"])
        .args([format!("--toggle-collect={COUNTED}"), format!("--callgrind-out-file={}", out.display())])
        .arg(std::env::current_exe().unwrap())
        .arg("run")
        .status()
        .unwrap_or_else(|error| panic!("valgrind: {error}"));
    assert!(status.success(), "valgrind: {status}");
    let counted = inclusive(&std::fs::read_to_string(&out).unwrap());
    std::fs::remove_file(out).unwrap();
    let of = |name: &str| counted.get(&format!("instructions::paths::{name}")).copied();
    let mut all: BTreeMap<String, u64> = paths::ALL
        .iter()
        .map(|(name, _)| {
            let (calls, total) = of(name).unwrap_or_else(|| panic!("callgrind has not seen {name}"));
            assert_eq!(calls, CALLS, "calls of {name}");
            ((*name).to_owned(), total / calls)
        })
        .collect();
    let gateway = std::env::current_exe().unwrap().with_file_name("../corelane");
    all.extend(exchange::measure(&gateway).map(|(name, count)| (name.to_owned(), count)));
    all
}

/// Of each function that is called: how often, and what that cost with all that it calls (callgrind's format: after `calls=` a line with the
/// position and the cost).
fn inclusive(profile: &str) -> HashMap<String, (u64, u64)> {
    let mut found: HashMap<String, (u64, u64)> = HashMap::new();
    let (mut callee, mut lines) = (String::new(), profile.lines());
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("cfn=") {
            callee = name.to_owned();
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            let calls = number(calls.split(' ').next());
            let cost = number(lines.next().and_then(|line| line.split(' ').nth(1)));
            let sum = found.entry(callee.clone()).or_default();
            *sum = (sum.0 + calls, sum.1 + cost);
        }
    }
    found
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/record/instructions.toml")
}

fn recorded() -> toml::Table {
    std::fs::read_to_string(file()).map_or_else(|_| toml::Table::new(), |text| text.parse().unwrap())
}

fn check(counts: &BTreeMap<String, u64>) -> ExitCode {
    let all = recorded();
    if !all.contains_key(PROFILE) {
        println!("nothing is recorded for the profile {PROFILE}: scripts/instructions --record");
    }
    let (mut worse, mut better) = (Vec::<&str>::new(), Vec::<&str>::new());
    println!("{:24} {:>10} {:>10}  profile {PROFILE}", "instructions a call", "recorded", "now");
    for (name, now) in counts {
        let known = all.get(PROFILE).and_then(|table| table.get(name)).and_then(toml::Value::as_integer);
        let Some(known) = known else {
            println!("{name:24} {:>10} {now:>10}  not recorded", "");
            // A path that is new in a record that is there was forgotten.
            worse.extend(all.contains_key(PROFILE).then_some(name.as_str()));
            continue;
        };
        let change = (*now as f64 / known as f64 - 1.0) * 100.0;
        println!("{name:24} {known:>10} {now:>10}  {change:+.1} %");
        let tolerance = tolerance(&all, name);
        if change > tolerance {
            worse.push(name);
        } else if change < -tolerance {
            better.push(name);
        }
    }
    if !better.is_empty() {
        println!("less than recorded: {}. Keep it: scripts/instructions --record", better.join(", "));
    }
    if worse.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("above the record by more than the tolerance: {}", worse.join(", "));
    println!("If it must be so, say why in the commit and run scripts/instructions --record");
    ExitCode::FAILURE
}

/// What a figure may differ from its record, in percent. A whole exchange has ticks of a clock in it, and they come more often on a
/// slow machine.
fn tolerance(all: &toml::Table, name: &str) -> f64 {
    let timed = name.starts_with("exchange_") || name == "record_with_line"; // lines go after so many milliseconds
    let (key, usual) = if timed { ("exchange", 10) } else { ("path", 3) };
    let own = all.get("tolerance_percent").and_then(|table| table.get(key));
    own.and_then(toml::Value::as_integer).unwrap_or(usual) as f64
}

fn record(counts: &BTreeMap<String, u64>) {
    let mut all = recorded();
    let table = counts.iter().map(|(name, count)| (name.clone(), toml::Value::Integer(*count as i64)));
    all.insert(PROFILE.to_owned(), toml::Value::Table(table.collect()));
    let mut page = String::from(
        "# Instructions of a call of each hot path (bench/paths.rs), by callgrind: scripts/instructions [--record] [--release].\n\
         # dev: the profile that tests are built with.\n\n",
    );
    for (key, name) in [("path", "request_head"), ("exchange", "exchange_unary")] {
        let _ = writeln!(page, "tolerance_percent.{key} = {}", tolerance(&all, name));
    }
    for profile in ["dev", "release"] {
        let Some(table) = all.get(profile).and_then(toml::Value::as_table) else { continue };
        let _ = writeln!(page, "\n[{profile}]");
        for (name, count) in table {
            let _ = writeln!(page, "{name} = {count}");
        }
    }
    std::fs::write(file(), page).unwrap();
    println!("{} paths recorded for the profile {PROFILE}", counts.len());
}
