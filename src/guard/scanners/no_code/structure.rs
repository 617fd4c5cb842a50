//! Signs of code in running text, cheap enough for every byte of every answer.
//!
//! A sign never is a finding: it makes the scanner hold the paragraph until the model has read it. Which byte a sign
//! stands at depends on the bytes before it alone. Prose hardly has them: a brace, an equals sign, `f(`, `a_b`, `a[`,
//! `::`, `->`, `#include`, `<div`, `$x`, a semicolon at a line's end, a line whose first word is a keyword.

/// What a byte of running text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A line ends.
    Line,
    /// A backtick.
    Tick,
    /// A sign of code.
    Sign,
}

const PLAIN: u8 = 0;
const LINE: u8 = 1;
const TICK: u8 = 2;
const SIGN: u8 = 3;
/// A sign if the byte before says so.
const AFTER: u8 = 4;
/// The byte after it may be a sign.
const BEFORE: u8 = 8;

static KINDS: [u8; 256] = kinds();

const fn kinds() -> [u8; 256] {
    let mut kinds = [PLAIN; 256];
    let mut at = 0;
    while at < 256 {
        kinds[at] = match at as u8 {
            b'\n' => LINE,
            b'`' => TICK,
            b'{' | b'}' | b'=' | b'\\' => SIGN,
            b'(' | b')' | b'[' | b'_' => AFTER,
            b':' | b'>' | b'+' | b'&' | b'|' | b'*' => AFTER | BEFORE,
            b'$' | b'#' | b'<' | b'-' | b'/' | b'.' => BEFORE,
            _ => PLAIN,
        };
        at += 1;
    }
    kinds
}

/// Finds the first mark in `text` at `from` or after it.
#[inline]
#[must_use]
pub fn next(text: &[u8], from: usize) -> Option<(usize, Mark)> {
    let mut last = from.checked_sub(1).and_then(|at| text.get(at)).copied().unwrap_or(b'\n');
    let mut armed = KINDS[usize::from(last)] & BEFORE;
    for (offset, &byte) in text.get(from..)?.iter().enumerate() {
        let kind = KINDS[usize::from(byte)];
        if kind | armed != PLAIN {
            let mark = match kind {
                LINE if last == b';' => Some(Mark::Sign),
                LINE => Some(Mark::Line),
                TICK => Some(Mark::Tick),
                SIGN => Some(Mark::Sign),
                _ => sign(last, byte).then_some(Mark::Sign),
            };
            if let Some(mark) = mark {
                return Some((from + offset, mark));
            }
            armed = kind & BEFORE;
        }
        last = byte;
    }
    None
}

/// Whether `byte` after `last` is a sign.
fn sign(last: u8, byte: u8) -> bool {
    match byte {
        b'(' | b'_' => last.is_ascii_alphanumeric() || last == b'_',
        b'[' => last.is_ascii_alphanumeric() || last == b'.',
        b':' | b'+' | b'&' | b'|' | b')' => last == byte,
        b'>' => matches!(last, b'-' | b'|'),
        b'*' => last == b'/',
        _ => match last {
            b'$' => byte.is_ascii_alphabetic(),
            b'<' => byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'?' | b'!' | b'-' | b'<'),
            b'#' => byte == b'!' || byte.is_ascii_lowercase(),
            _ => false,
        },
    }
}

/// What the first word of a line is, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It may still become a keyword.
    Open,
    /// A keyword: a sign of code.
    Keyword,
    /// Something else.
    Plain,
}

/// Judges the start of a line, from its first letter on.
#[must_use]
pub fn first_word(rest: &[u8]) -> Word {
    let length =
        rest.iter().take(WORD_MAX).take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-').count();
    let word = rest.get(..length).unwrap_or_default();
    let at = KEYWORDS.partition_point(|keyword| keyword.as_bytes() < word);
    let found =
        KEYWORDS.get(at).map(|keyword| keyword.as_bytes()).filter(|keyword| keyword.starts_with(word));
    match found {
        None => Word::Plain,
        Some(_) if length == rest.len() => Word::Open,
        Some(keyword) if keyword.len() == length => Word::Keyword,
        Some(_) => Word::Plain,
    }
}

const WORD_MAX: usize = 16;

/// First words of lines of code, in the order of their bytes. Words that begin sentences are left out as far as lines
/// with them show another sign.
pub(super) static KEYWORDS: [&str; 159] = [
    "ACCEPT",
    "ADD",
    "ALTER",
    "AREA",
    "BEGIN",
    "CALL",
    "CLOSE",
    "COMPUTE",
    "CREATE",
    "DATA",
    "DECLARE",
    "DELETE",
    "DISPLAY",
    "DROP",
    "END",
    "END-IF",
    "END-PERFORM",
    "ENVIRONMENT",
    "EVALUATE",
    "EXEC",
    "FD",
    "FROM",
    "Get",
    "IDENTIFICATION",
    "IF",
    "INSERT",
    "INTEGER",
    "MOVE",
    "Module",
    "New",
    "OPEN",
    "PERFORM",
    "PRINT",
    "PROCEDURE",
    "PROGRAM",
    "PROGRAM-ID",
    "Private",
    "Public",
    "REAL",
    "SELECT",
    "SET",
    "STOP",
    "SUBROUTINE",
    "Sub",
    "UPDATE",
    "WITH",
    "WORKING-STORAGE",
    "WRITE",
    "add",
    "alias",
    "apt",
    "apt-get",
    "async",
    "await",
    "begin",
    "bl",
    "break",
    "brew",
    "call",
    "cargo",
    "case",
    "catch",
    "cd",
    "chmod",
    "class",
    "cmp",
    "const",
    "curl",
    "data",
    "def",
    "defmodule",
    "display",
    "do",
    "docker",
    "echo",
    "elif",
    "else",
    "end",
    "enum",
    "export",
    "fn",
    "for",
    "from",
    "fun",
    "func",
    "function",
    "git",
    "go",
    "grep",
    "if",
    "impl",
    "implicit",
    "import",
    "include",
    "int",
    "integer",
    "interface",
    "kubectl",
    "ldr",
    "let",
    "library",
    "local",
    "ls",
    "main",
    "match",
    "mkdir",
    "mod",
    "module",
    "mov",
    "namespace",
    "npm",
    "object",
    "open",
    "package",
    "pip",
    "print",
    "private",
    "proc",
    "procedure",
    "program",
    "public",
    "push",
    "puts",
    "raise",
    "real",
    "repeat",
    "require",
    "return",
    "scp",
    "select",
    "set",
    "source",
    "ssh",
    "static",
    "struct",
    "sub",
    "subroutine",
    "sudo",
    "switch",
    "systemctl",
    "tar",
    "tell",
    "throw",
    "trait",
    "try",
    "type",
    "unit",
    "unless",
    "until",
    "use",
    "using",
    "val",
    "var",
    "void",
    "wget",
    "while",
    "with",
    "write",
    "yield",
];
