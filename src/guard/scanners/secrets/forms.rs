//! Secrets that their surroundings give away: key blocks, user information in URLs, command lines,
//! manifests.
//!
//! Every look around is bounded, and ends at the next text of the same kind, so that repeated openings
//! stay linear.

use std::ops::Range;

use memchr::memmem;

use super::assignment::{Assignment, Operator, byte};
use super::lexicon::Lexicon;
use super::names::Class;
use super::{allow, generic, proof};

/// Forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// PEM, OpenSSH, PGP, also in one line.
    KeyBlock,
    /// The lines that PuTTY keeps private.
    Putty,
    /// `scheme://user:password@host`.
    Url,
    /// `curl -u user:password`.
    CurlUser,
    /// `Bearer …`, `Basic …`.
    Header,
    /// `mysql -p…`, `sshpass -p …`.
    ShortFlag,
    /// `ConvertTo-SecureString "…"`.
    SecureString,
    /// `net user name password`.
    NetUser,
    /// A Kubernetes manifest of a Secret.
    Manifest,
}

/// What begins them.
pub(super) const WORDS: &[(Form, &str)] = &[
    (Form::KeyBlock, "PRIVATE KEY"),
    (Form::Putty, "Private-Lines:"),
    (Form::Url, "://"),
    (Form::CurlUser, " -u"),
    (Form::CurlUser, "--user"),
    (Form::Header, "bearer "),
    (Form::Header, "basic "),
    (Form::ShortFlag, " -p"),
    (Form::SecureString, "ConvertTo-SecureString"),
    (Form::NetUser, "net user "),
    (Form::Manifest, "kind: Secret"),
    (Form::Manifest, "kind: \"Secret\""),
    (Form::Manifest, "kind: 'Secret'"),
    (Form::Manifest, "\"kind\": \"Secret\""),
    (Form::Manifest, "\"kind\":\"Secret\""),
];

/// Rules of forms.
pub(super) const RULES: &[&str] = &[
    "private-key",
    "url-credentials",
    "curl-user",
    "authorization-header",
    "cli-password",
    "kubernetes-secret",
];

/// Bytes of a key block.
const BLOCK_MAX: usize = 20_000;
/// Characters of base64 that a key block has at least.
const BLOCK_MIN: usize = 40;
/// Bytes around other forms.
const REACH: usize = 256;
/// Bytes of a manifest on either side of its kind.
const MANIFEST_MAX: usize = 4096;

/// Calls `each` with the rule and the span of every secret of the form whose word is at `hit`.
pub(super) fn find(
    form: Form,
    text: &[u8],
    hit: Range<usize>,
    lexicon: &Lexicon,
    mut each: impl FnMut(&'static str, Range<usize>),
) {
    let mut tell = |rule, span: Option<Range<usize>>| {
        if let Some(span) = span {
            each(rule, span);
        }
    };
    match form {
        Form::KeyBlock => tell("private-key", key_block(text, &hit)),
        Form::Putty => tell("private-key", putty(text, hit.end)),
        Form::Url => tell("url-credentials", url(text, hit.end, lexicon)),
        Form::CurlUser => tell("curl-user", curl_user(text, &hit, lexicon)),
        Form::Header => tell("authorization-header", header(text, &hit, lexicon)),
        Form::ShortFlag => tell("cli-password", short_flag(text, &hit, lexicon)),
        Form::SecureString => tell("cli-password", secure_string(text, hit.end, lexicon)),
        Form::NetUser => tell("cli-password", net_user(text, hit.end, lexicon)),
        Form::Manifest => manifest(text, &hit, lexicon, |span| each("kubernetes-secret", span)),
    }
}

fn made_up(value: &[u8], lexicon: &Lexicon) -> bool {
    allow::code(value, true) || allow::filler(value) || lexicon.refuses(value, true)
}

/// From `-----BEGIN` to the end of `-----END …-----`, or as far as base64 goes.
fn key_block(text: &[u8], hit: &Range<usize>) -> Option<Range<usize>> {
    let from = hit.start.saturating_sub(40);
    let begin = memmem::rfind(text.get(from..hit.start)?, b"BEGIN")? + from;
    let dashes =
        text.get(..begin)?.iter().rev().take(8).take_while(|byte| matches!(byte, b'-' | b' ')).count();
    let body =
        hit.end + text.get(hit.end..text.len().min(hit.end + 16))?.iter().position(|byte| *byte == b'-')?;
    let body = body + text.get(body..)?.iter().take(5).take_while(|byte| **byte == b'-').count();
    if dashes < 4
        || text.get(from..hit.start)?.contains(&b'\n')
            && memmem::find(text.get(begin..hit.start)?, b"\n").is_some()
    {
        return None;
    }
    let rest = text.get(body..text.len().min(body + BLOCK_MAX))?;
    let start = begin - dashes;
    let end = match memmem::find(rest, b"----") {
        Some(at) if rest.get(at..at + 12).is_some_and(|end| memmem::find(end, b"END").is_some()) => {
            let footer = body + at;
            let line = text.get(footer..text.len().min(footer + 64)).unwrap_or_default();
            let close = memmem::find(line.get(10..).unwrap_or_default(), b"----")
                .map_or(at, |found| at + 10 + found + 4);
            let extra = text.get(body + close..).unwrap_or_default().first() == Some(&b'-');
            if material(rest.get(..at)?) < BLOCK_MIN {
                return None;
            }
            body + close + usize::from(extra)
        }
        _ => body + run(rest)?,
    };
    Some(start..end)
}

/// How many bytes of base64, with blanks, line breaks and their escapes, `rest` begins with.
fn run(rest: &[u8]) -> Option<usize> {
    let part = |byte: &u8| is_base64(*byte) || byte.is_ascii_whitespace() || b"\\\"',:-".contains(byte);
    let stop = memmem::find(rest, b"----").unwrap_or(rest.len());
    let length = rest.get(..stop)?.iter().position(|byte| !part(byte)).unwrap_or(stop);
    let kept = rest.get(..length)?.iter().rposition(|byte| is_base64(*byte)).map_or(0, |last| last + 1);
    (longest_line(rest.get(..kept)?) >= BLOCK_MIN).then_some(kept)
}

fn longest_line(body: &[u8]) -> usize {
    body.split(|byte| !is_base64(*byte)).map(<[u8]>::len).max().unwrap_or_default()
}

fn material(body: &[u8]) -> usize {
    if memmem::find(body, b"${").is_some() || memmem::find(body, b"{{").is_some() {
        return 0;
    }
    body.iter().filter(|byte| is_base64(**byte)).count()
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// As many lines as the number behind the mark says.
fn putty(text: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = text.get(at..text.len().min(at + BLOCK_MAX))?;
    let start = rest.iter().position(|byte| *byte == b'\n')? + 1;
    let lines: usize = std::str::from_utf8(rest.get(..start)?.trim_ascii()).ok()?.parse().ok()?;
    let body = rest.get(start..)?;
    let length: usize = body.split_inclusive(|byte| *byte == b'\n').take(lines).map(<[u8]>::len).sum();
    let body = body.get(..length)?.trim_ascii_end();
    let whole = body.iter().all(|byte| is_base64(*byte) || byte.is_ascii_whitespace());
    (whole && material(body) >= BLOCK_MIN).then(|| at + start..at + start + body.len())
}

/// The password of a URL's user information, or its user if that alone is a key.
fn url(text: &[u8], at: usize, lexicon: &Lexicon) -> Option<Range<usize>> {
    let rest = text.get(at..text.len().min(at + REACH))?;
    let stop = rest
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || b"/?#\"'<>`".contains(byte))
        .unwrap_or(rest.len());
    let sign = memchr::memrchr(b'@', rest.get(..stop)?)?;
    let user = rest.get(..sign)?;
    let host = byte(text, at + sign + 1);
    if !(host.is_ascii_alphanumeric() || matches!(host, b'[' | b'{' | b'$' | b'(' | b'<' | b'%')) {
        return None;
    }
    let span = match memchr::memchr(b':', user) {
        Some(colon) => colon + 1..sign,
        None => 0..sign,
    };
    let value = user.get(span.clone())?;
    let named = span.start > 0 && value.len() >= 3 && !value.iter().all(|byte| *byte == b'*');
    let alone = span.start == 0
        && value.len() >= 20
        && proof::entropy(value) >= 3.3
        && proof::passes(super::rules::Check::Mixed, value);
    if !(named || alone) || made_up(value, lexicon) || value.contains(&b';') {
        return None;
    }
    Some(at + span.start..at + span.end)
}

/// The password behind the first colon of what follows `-u`.
fn curl_user(text: &[u8], hit: &Range<usize>, lexicon: &Lexicon) -> Option<Range<usize>> {
    let blanks = text.get(hit.end..)?.iter().take(4).take_while(|byte| matches!(byte, b' ' | b'=')).count();
    let (start, end) = argument(text, hit.end + blanks)?;
    let value = text.get(start..end)?;
    let colon = memchr::memchr(b':', value)?;
    let (user, password) = (value.get(..colon)?, value.get(colon + 1..)?);
    let before = text.get(hit.start.saturating_sub(REACH)..hit.start)?.to_ascii_lowercase();
    let command =
        ["curl", "wget", "http"].iter().any(|name| memmem::rfind(&before, name.as_bytes()).is_some());
    let key_alone = password.is_empty()
        && user.len() >= 8
        && user.iter().any(u8::is_ascii_digit)
        && proof::entropy(user) >= 3.0;
    let refused = |part: &[u8]| made_up(part, lexicon) || matches!(part.first(), Some(b'$' | b'<'));
    if !command || colon == 0 && password.len() < 8 {
        return None;
    }
    if key_alone && !refused(user) {
        return Some(start..start + colon);
    }
    (password.len() >= 3 && !refused(password)).then_some(start + colon + 1..end)
}

/// An argument of a command line, without its quotes.
fn argument(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = text.get(at..text.len().min(at + REACH))?;
    let quote = rest.first().copied().filter(|byte| matches!(byte, b'"' | b'\''));
    let inside = usize::from(quote.is_some());
    let ends = |byte: &u8| match quote {
        Some(quote) => *byte == quote || *byte == b'\n',
        None => byte.is_ascii_whitespace() || b"\"'`".contains(byte),
    };
    let length = rest.get(inside..)?.iter().position(ends).unwrap_or(rest.len() - inside);
    (length > 0).then_some((at + inside, at + inside + length))
}

/// A credential behind an authentication scheme.
fn header(text: &[u8], hit: &Range<usize>, lexicon: &Lexicon) -> Option<Range<usize>> {
    let (start, mut end) = argument(text, hit.end)?;
    while end > start && matches!(byte(text, end - 1), b',' | b';' | b'.' | b')' | b']' | b'}') {
        end -= 1;
    }
    let value = text.get(start..end)?;
    if text.get(hit.start).is_some_and(|byte| byte.eq_ignore_ascii_case(&b'b')) && hit.end - hit.start == 6 {
        let decoded = proof::base64(value).filter(|_| value.len() >= 8)?;
        let readable = decoded.iter().all(|byte| byte.is_ascii_graphic()) && decoded.contains(&b':');
        return readable.then_some(start..end);
    }
    let assignment = Assignment {
        at: hit.start,
        operator: Operator::Flag,
        value: start..end,
        quoted: false,
        tight: false,
        line: false,
    };
    (value.len() >= 16 && !lexicon.refuses(value, false) && generic::secret(&assignment, value, Class::Key))
        .then_some(start..end)
}

/// Passwords of commands that take them behind `-p`.
fn short_flag(text: &[u8], hit: &Range<usize>, lexicon: &Lexicon) -> Option<Range<usize>> {
    let glued = byte(text, hit.end) != b' ';
    let (start, end) = argument(text, hit.end + usize::from(!glued))?;
    let value = text.get(start..end)?;
    if value.len() < 4 || value.first() == Some(&b'-') || value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let before = text.get(hit.start.saturating_sub(REACH / 2)..hit.start)?;
    let line = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(before, |at| before.get(at + 1..).unwrap_or_default());
    let named = |names: &[&str]| names.iter().any(|name| memmem::find(line, name.as_bytes()).is_some());
    let takes = if glued {
        named(&["mysql", "mariadb", "sshpass", "7z "])
    } else {
        named(&[
            "sshpass",
            "docker login",
            "psexec",
            "PsExec",
            "mongo",
            "crackmapexec",
            "az login",
            "helm registry login",
        ])
    };
    (takes && !made_up(value, lexicon)).then_some(start..end)
}

fn secure_string(text: &[u8], at: usize, lexicon: &Lexicon) -> Option<Range<usize>> {
    let rest = text.get(at..text.len().min(at + REACH))?;
    let quote = rest.iter().position(|byte| matches!(byte, b'"' | b'\'' | b'\n'))?;
    let (start, end) = argument(text, at + quote)?;
    let value = text.get(start..end)?;
    (quote <= 12 && value.len() >= 4 && !made_up(value, lexicon)).then_some(start..end)
}

fn net_user(text: &[u8], at: usize, lexicon: &Lexicon) -> Option<Range<usize>> {
    let (_, end) = argument(text, at)?;
    let (start, end) = argument(text, end + usize::from(byte(text, end) != b' ') + 1)?;
    let value = text.get(start..end)?;
    let refused =
        value.len() < 4 || matches!(value.first(), Some(b'/' | b'*' | b'-')) || made_up(value, lexicon);
    let symbol = value.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_punctuation());
    (!refused && symbol).then_some(start..end)
}

/// Values under `data` and `stringData` of the document that says it is a Secret.
fn manifest(text: &[u8], hit: &Range<usize>, lexicon: &Lexicon, mut each: impl FnMut(Range<usize>)) {
    if byte(text, hit.end).is_ascii_alphanumeric() {
        return;
    }
    let before = text.get(hit.start.saturating_sub(MANIFEST_MAX)..hit.start).unwrap_or_default();
    let part = memmem::rfind(before, b"kind:").map_or(before, |at| before.get(at..).unwrap_or_default());
    let part = memmem::rfind(part, b"---").map_or(part, |at| part.get(at..).unwrap_or_default());
    let start = hit.start - part.len();
    let after = text.get(hit.end..text.len().min(hit.end + MANIFEST_MAX)).unwrap_or_default();
    let part = memmem::find(after, b"kind:").map_or(after, |at| after.get(..at).unwrap_or_default());
    let end = hit.end + memmem::find(part, b"\n---").unwrap_or(part.len());
    let mut inside: Option<usize> = None;
    let mut at = start;
    for line in text.get(start..end).unwrap_or_default().split(|byte| *byte == b'\n') {
        let indent = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let key = line.trim_ascii().trim_ascii_start();
        let opens = [&b"data:"[..], b"stringData:", b"\"data\": {", b"\"stringData\": {"].contains(&key);
        if opens {
            inside = Some(indent);
        } else if inside.is_some_and(|outer| indent <= outer && !key.is_empty()) {
            inside = None;
        } else if inside.is_some()
            && let Some(span) = entry(text, at, at + line.len(), lexicon)
        {
            each(span);
        }
        at += line.len() + 1;
    }
}

/// The value of a line `key: value`, if it is one to hide.
fn entry(text: &[u8], start: usize, end: usize, lexicon: &Lexicon) -> Option<Range<usize>> {
    let line = text.get(start..end)?;
    let colon = memmem::find(line, b":")?;
    let key = line.get(..colon)?.trim_ascii();
    let rest = line.get(colon + 1..)?;
    let skip = rest.iter().take_while(|byte| b" \t\"'".contains(byte)).count();
    let kept = rest.iter().rposition(|byte| !b" \t\r\"',".contains(byte))? + 1;
    let value = rest.get(skip..kept)?;
    let open =
        [&b"username"[..], b"user", b"host", b"port", b"ca.crt", b"tls.crt", b"type", b"name"].contains(&key);
    let hidden = value.len() >= 4 && !value.contains(&b' ') && !open && !key.starts_with(b"#");
    let from = start + colon + 1;
    (hidden && !made_up(value, lexicon)).then_some(from + skip..from + kept)
}
