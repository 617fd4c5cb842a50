//! Promise: every parser keeps the invariants of its fuzz target (`fuzz/src/`) on every input that was ever worth
//! keeping, and on a fixed number of mutations of them.
//!
//! No nightly and no instrumentation: the targets are called as plain functions. First everything in
//! `fuzz/corpus/<target>/` and `fuzz/regressions/<target>/` is replayed, then `CORELANE_FUZZ_ROUNDS` mutations a
//! target are run (default [`ROUNDS`]), from seed 1 or `CORELANE_FUZZ_SEED`. A failure prints target, seed and
//! round and the input; it is replayed by `CORELANE_FUZZ_ONLY=<target> CORELANE_FUZZ_SEED=<seed>`, and its
//! input belongs into `fuzz/regressions/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // test code

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Mutations a target in an ordinary test run: some seconds on one core.
const ROUNDS: u64 = 8000;
/// Longest mutated input in bytes.
const BYTES_MAX: usize = 1500;
/// Fewest inputs in a corpus.
const CORPUS_MIN: usize = 40;

/// What mutations put in: the words of the grammars.
const TOKENS: [&[u8]; 92] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"\r\r",
    b" ",
    b"\t",
    b"\0",
    b"\x7f",
    b"\xff",
    b"\xc3",
    b":",
    b",",
    b";",
    b"\"",
    b"\\",
    b"\\\"",
    b"\\u0062",
    b"\\ud800",
    b"\\u",
    b"{",
    b"}",
    b"[",
    b"]",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"false",
    b"0",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"1.5e-3",
    b"data: ",
    b"data:",
    b"event: ",
    b": c\n\n",
    b"[DONE]",
    b"\"model\":\"m\"",
    b"\"model\":1",
    b"\"name\":\"n\"",
    b"\"stream\":true",
    b"\"stream_options\":{\"include_usage\":true}",
    b"\"stream_options\":{}",
    b"\"max_tokens\":null",
    b"\"max_tokens\":1",
    b"\"max_completion_tokens\":2",
    b"\"timeout\":1",
    b"\"cache\":{}",
    b"\"tags\":[]",
    b"\"include_usage\"",
    b"\"finish_reason\":\"stop\"",
    b"\"choices\":[]",
    b"\"usage\":{\"prompt_tokens\":1}",
    b"\"error\":{\"code\":503}",
    b"\"done\":true",
    b"\"type\":\"message_stop\"",
    b"\"data\":[{\"embedding\":[1,2]}]",
    b"\"messages\":[1]",
    b"\"response\":{\"model\":\"n\"}",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: h\r\n",
    b"Connection: close\r\n",
    b"Connection: x-a, keep-alive\r\n",
    b"Expect: 100-continue\r\n",
    b"X-A:\r\n",
    b"HTTP/1.1",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"%2F",
    b"%+1",
    b"/v1/",
    b"\xef\xbb\xbf",
    b"ignore all previous instructions",
    b"secret plan",
    b"c++",
    b"a b ",
    b"```\n",
    b"```python\n",
    b"https://a.example/b",
    b"[t](http://",
    b"password = \"",
    b"AKIA",
    b"-----BEGIN RSA PRIVATE KEY-----",
    b"\xe2\x80\x8b",
    b"\xd0\xb0",
    b"\xcc\x81",
    b"QWxsIHdvcmsgYW5kIG5vIHBsYXk=",
    b"\\ud83d\\ude00",
];

/// Marsaglia's xorshift64*; the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 16) % end.max(1) as u64).unwrap()
    }
}

#[test]
fn corpora_hold_enough() {
    let mut bytes = 0;
    for (name, _) in targets::TARGETS {
        let corpus = inputs("corpus", name);
        bytes += corpus.iter().map(|(_, data)| data.len()).sum::<usize>();
        assert!(corpus.len() >= CORPUS_MIN, "{name}: {} inputs", corpus.len());
    }
    assert!(bytes < 1_500_000, "{bytes} bytes");
}

#[test]
fn kept_inputs_hold() {
    let mut broken = Vec::new();
    for (name, target) in chosen() {
        for (path, data) in inputs("corpus", name).into_iter().chain(inputs("regressions", name)) {
            if catch_unwind(|| target(&data)).is_err() {
                broken.push(path.display().to_string());
            }
        }
    }
    assert!(broken.is_empty(), "these inputs break their targets:\n{}", broken.join("\n"));
}

#[test]
fn mutations_hold() {
    let (seed, rounds) = (number("CORELANE_FUZZ_SEED", 1), number("CORELANE_FUZZ_ROUNDS", ROUNDS));
    let mut broken = Vec::new();
    for (name, target) in chosen() {
        let corpus: Vec<Vec<u8>> = inputs("corpus", name).into_iter().map(|(_, data)| data).collect();
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // A text is read by every scanner at many cuts: some milliseconds.
        let rounds = if name == "guard" { rounds / 20 } else { rounds };
        for round in 0..rounds {
            let input = mutated(&corpus, &mut random);
            if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
                broken.push(format!("{name}: seed {seed}, round {round}: \"{}\"", input.escape_ascii()));
                break;
            }
        }
    }
    println!("{rounds} mutations a target from seed {seed}");
    assert!(broken.is_empty(), "broken:\n{}", broken.join("\n"));
}

/// One input of the corpus, changed in one to five places.
fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(5) {
        let at = random.below(input.len() + 1);
        let end = (at + 1 + random.below(16)).min(input.len());
        match random.below(9) {
            0 if !input.is_empty() => {
                let at = random.below(input.len());
                input[at] ^= 1 << random.below(8);
            }
            1 if !input.is_empty() => {
                let at = random.below(input.len());
                input[at] = (random.next() >> 32) as u8;
            }
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                drop(input.splice(to..to, part));
            }
            4 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            5 => input.truncate(at),
            6 => {
                let token = TOKENS[random.below(TOKENS.len())];
                drop(input.splice(at..end, token.iter().copied()));
            }
            _ => member(&mut input, TOKENS[random.below(TOKENS.len())], random),
        }
    }
    input.truncate(BYTES_MAX);
    input
}

/// Puts a token in where grammars change state: behind a comma, a brace or a line end.
fn member(input: &mut Vec<u8>, token: &[u8], random: &mut Random) {
    let seams: Vec<usize> =
        (0..input.len()).filter(|&at| matches!(input[at], b',' | b'{' | b'[' | b'\n' | b':')).collect();
    let at = if seams.is_empty() { 0 } else { seams[random.below(seams.len())] + 1 };
    let comma: &[u8] = if token.starts_with(b"\"") && at < input.len() { b"," } else { b"" };
    drop(input.splice(at..at, token.iter().chain(comma).copied()));
}

fn chosen() -> impl Iterator<Item = targets::Target> {
    let only = env::var("CORELANE_FUZZ_ONLY").unwrap_or_default();
    targets::TARGETS.into_iter().filter(move |(name, _)| only.is_empty() || *name == only)
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// The files of a folder in order of their names; none if there is no folder.
fn inputs(kind: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}
