//! Promise: the house rules hold, as they can be read from the tracked files.
//!
//! Lengths are counted without unit tests: a file up to its `#[cfg(test)]`, a function from `fn` to the brace that
//! closes it. `tests/`, `fuzz/`, `bench/` and test modules are read for what concerns every file only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test code

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest file and longest function, in lines.
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Marks of work that is not done. Put together here, so that this file does not hold them.
const UNDONE: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("unimple", "mented!(")];

/// Folders of a developer's machine.
const MACHINE: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Hosts of package registries and their mirrors: which one a build uses is the builder's business.
const REGISTRIES: [&str; 7] = [
    concat!("artifac", "tory/"),
    concat!("jf", "rog.io"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("registry.npm", "js"),
    concat!("pypi", ".org"),
    concat!("pythonho", "sted"),
];

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for (name, text) in shipped() {
        let lines = without_tests(&text);
        if lines.len() > FILE_LINES_MAX {
            long.push(format!("{name}: {} lines", lines.len()));
        }
        for (at, function, length) in functions(&lines) {
            if length > FUNCTION_LINES_MAX {
                long.push(format!("{name}:{at}: {function} has {length} lines"));
            }
        }
    }
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn every_module_says_what_it_is() {
    let headless = |(name, text): &(String, String)| {
        let unit_tests = name.contains("src/") && name.ends_with("tests.rs");
        !unit_tests && !text.trim_start_matches("#!/usr/bin/env").starts_with("//!")
    };
    let found: Vec<_> = sources().into_iter().filter(headless).map(|(name, _)| name).collect();
    assert!(found.is_empty(), "no //! at the head of:\n{}", found.join("\n"));
}

#[test]
fn nothing_shipped_panics_by_choice() {
    let mut found = Vec::new();
    for (name, text) in shipped() {
        for (at, line) in without_tests(&text).iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if [".unwrap()", ".expect(", "panic!("].iter().any(|call| code.contains(call)) {
                found.push(format!("{name}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "outside of tests:\n{}", found.join("\n"));
}

#[test]
fn nothing_is_left_undone() {
    // Texts that train classifiers say what people say.
    let texts = ["training/data/", "training/eval/", "tests/data/guard/"];
    let mut undone = holding(&UNDONE);
    undone.retain(|name| !texts.iter().any(|folder| name.starts_with(folder)));
    assert_eq!(undone, Vec::<String>::new());
}

#[test]
fn no_machine_of_a_developer_shows() {
    assert_eq!(holding(&MACHINE), Vec::<String>::new());
}

#[test]
fn no_registry_is_named() {
    assert_eq!(holding(&REGISTRIES), Vec::<String>::new());
}

#[test]
fn every_example_configuration_loads() {
    let folder = root().join("config");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "toml")).collect();
    assert!(!files.is_empty());
    for file in files {
        if let Err(problems) = corelane::config::load(&file) {
            panic!("{problems}");
        }
    }
}

/// Vocabularies, models, lists and pages are compiled in: without a bound one of them makes a binary that nobody wants to copy.
#[test]
fn little_data_is_compiled_in() {
    const CONSTANTS_MAX: u64 = 6 << 20;
    let file = fs::read(env!("CARGO_BIN_EXE_corelane")).unwrap();
    let bytes = section(&file, ".rodata").expect("an ELF file has constants");
    assert!(bytes <= CONSTANTS_MAX, "{bytes} bytes of constants in the binary, {CONSTANTS_MAX} at most");
}

#[test]
fn lengths_are_counted() {
    let text = "impl A {\n    pub(crate) async fn long(\n        &self,\n    ) {\n        if x {\n        }\n    }\n}\nfn one() {}\n\
                fn two() {\n}\n#[cfg(test)]\nmod tests {}\n";
    let lines = without_tests(text);
    assert_eq!(lines.len(), 11);
    assert_eq!(functions(&lines), [(2, "long", 5), (10, "two", 1)]);
}

/// Bytes of a section of a 64-bit ELF file, little-endian.
fn section(file: &[u8], name: &str) -> Option<u64> {
    let number = |at: usize, bytes: usize| {
        let field = file.get(at..at + bytes)?;
        Some(field.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let (table, entry) = (number(0x28, 8)? as usize, number(0x3a, 2)? as usize);
    let (count, names) = (number(0x3c, 2)? as usize, number(0x3e, 2)? as usize);
    let names = number(table + names * entry + 0x18, 8)? as usize;
    let is_named = |at: &usize| {
        let text = number(*at, 4).and_then(|offset| file.get(names + offset as usize..));
        text.is_some_and(|text| text.starts_with(name.as_bytes()) && text.get(name.len()) == Some(&0))
    };
    let found = (0..count).map(|section| table + section * entry).find(is_named)?;
    number(found + 0x20, 8)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names of the tracked files that are still there.
fn tracked() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    names.split('\0').filter(|name| root().join(name).is_file()).map(str::to_owned).collect()
}

/// Tracked Rust files and their texts.
fn sources() -> Vec<(String, String)> {
    let read = |name: String| (fs::read_to_string(root().join(&name)).unwrap(), name);
    tracked()
        .into_iter()
        .filter(|name| name.ends_with(".rs"))
        .map(read)
        .map(|(text, name)| (name, text))
        .collect()
}

/// Those that are part of the gateway or of the load test.
fn shipped() -> Vec<(String, String)> {
    let beside = ["tests/", "fuzz/", "bench/", "loadtest/tests/"];
    let kept = |name: &str| !beside.iter().any(|folder| name.starts_with(folder)) && !name.contains("tests");
    sources().into_iter().filter(|(name, _)| kept(name)).collect()
}

/// The lines before the unit tests.
fn without_tests(text: &str) -> Vec<&str> {
    text.lines().take_while(|line| !line.trim_start().starts_with("#[cfg(test)]")).collect()
}

/// Line, name and length of each function that has a body of several lines.
fn functions<'a>(lines: &[&'a str]) -> Vec<(usize, &'a str, usize)> {
    let (mut found, mut open) = (Vec::new(), None);
    for (at, &line) in lines.iter().enumerate() {
        if let Some((indent, name)) = function(line) {
            open = Some((at, indent, name));
        }
        if let Some((start, indent, name)) = open
            && line.trim_end().strip_prefix(indent) == Some("}")
        {
            found.push((start + 1, name, at - start));
            open = None;
        }
    }
    found
}

/// Indentation and name, if a function begins in this line.
fn function(line: &str) -> Option<(&str, &str)> {
    let code = line.trim_start();
    let (before, after) = code.split_once("fn ")?;
    let words = before.split_whitespace();
    let prefix = |word: &str| word.starts_with("pub") || matches!(word, "const" | "async" | "unsafe");
    let name = after.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    words.into_iter().all(prefix).then_some((&line[..line.len() - code.len()], name))
}

/// Tracked files that hold one of `words`; compiled files and data are read as text.
fn holding(words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for name in tracked() {
        let text = String::from_utf8_lossy(&fs::read(root().join(&name)).unwrap()).into_owned();
        if let Some(word) = words.iter().find(|word| text.contains(**word)) {
            found.push(format!("{name}: {word}"));
        }
    }
    found
}
