//! The cases of `tests/data/framing/*.toml`: bytes with a small notation, and what must become of them.
//!
//! A file holds `[[group]]` tables; a group gives its cases their class, source, bytes and outcomes,
//! and each case may give its own. Notation of the bytes (`raw`, `it`, `body`):
//!   - escapes `\r \n \t \0 \\ \xHH`; real line breaks in the TOML text mean nothing;
//!   - `<line> <host> <json> <post> <cl> <te> <end> <last> <chunks>`: see `MACROS`;
//!   - `<it>`: the case's own part within the group's bytes; `<id>`: the mark of this run;
//!   - `<body>`, its first 16 bytes `<a>` and the rest `<b>`, its first byte `<c>` and the rest `<d>`;
//!   - `<evil>`: a whole request no honest reading may find; `<next>`: a whole request that follows honestly;
//!   - `<size X>`, `<hex X>`, `<hexup X>`: the length of X in bytes, in decimal or hex; `<chunk X>`: X as one chunk;
//!   - `<repeat X N>`: X many times; `<fill X N>`: X until the head has N bytes, its last CRLF CRLF included;
//!   - `<fin>`: the client half-closes; `<continue>`: the client waits for a 100; `<lt>`: the character itself.
//!
//! Files named `upstream_*.toml` hold answers of a bad upstream, for `tests/responses.rs`; there `<fin>`
//! closes the connection, `<continue>` is a pause, `<wrong>` an answer nobody asked for, and see `MACROS`.

use serde::Deserialize;
use std::fs;
use std::path::Path;

/// How binding the source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The RFC says MUST.
    Must,
    /// The RFC says SHOULD.
    Should,
    /// The RFC leaves it open; the case holds the safe readings.
    May,
    /// Ours: stricter than the RFC, or a limit.
    Policy,
}

/// What must hold for the connection behind the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum After {
    /// Usable for another request.
    Open,
    /// Closed by the gateway.
    Closed,
    /// Either.
    Any,
}

/// A case, complete.
#[derive(Debug, Clone)]
pub struct Case {
    /// Unique over all files.
    pub name: String,
    /// How binding the source is.
    pub class: Class,
    /// An RFC section, an advisory, or "limit".
    pub source: String,
    /// Acceptable first outcomes: `forwarded`, a status, `4xx`, `waits`, `closed`.
    pub expect: Vec<String>,
    /// Acceptable outcomes of each further answer on the connection.
    pub then: Vec<Vec<String>>,
    /// The connection behind the answers; `None`: by the last status.
    pub after: Option<After>,
    /// Field names the upstream must not see.
    pub absent: Vec<String>,
    /// The interim answers that must come before the first final one.
    pub interim: Option<Vec<u16>>,
    raw: String,
    it: String,
    body: String,
    body_bytes: usize,
}

/// A piece of what the client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes to write.
    Bytes(Vec<u8>),
    /// Wait for a 100 answer.
    Continue,
    /// Half-close.
    Fin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    group: Vec<Group>,
}

/// A group's members are the defaults of its cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "about")]
    _about: String,
    class: Class,
    source: String,
    #[serde(default)]
    raw: String,
    #[serde(default)]
    body: Option<String>,
    expect: Vec<String>,
    #[serde(default)]
    then: Vec<Vec<String>>,
    after: Option<After>,
    #[serde(default)]
    absent: Vec<String>,
    interim: Option<Vec<u16>>,
    cases: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    class: Option<Class>,
    source: Option<String>,
    raw: Option<String>,
    #[serde(default)]
    it: String,
    body: Option<String>,
    #[serde(default)]
    body_bytes: usize,
    expect: Option<Vec<String>>,
    then: Option<Vec<Vec<String>>>,
    after: Option<After>,
    absent: Option<Vec<String>>,
    interim: Option<Vec<u16>>,
}

/// Names that stand for text.
const MACROS: [(&str, &str); 19] = [
    ("line", r"POST /v1/chat/completions HTTP/1.1\r\n"),
    ("host", r"Host: gw.test\r\n"),
    ("json", r"Content-Type: application/json\r\n"),
    ("post", r"<line><host><json>"),
    ("cl", r"Content-Length: <size body>\r\n"),
    ("te", r"Transfer-Encoding: chunked\r\n"),
    ("end", r"<cl>\r\n<body>"),
    ("last", r"0\r\n\r\n"),
    ("chunks", r"<chunk body><last>"),
    ("lt", r"\x3c"),
    ("ok", r"HTTP/1.1 200 OK\r\n<json>"),
    ("sse", r"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"),
    ("huge", r"data: <repeat x 2000000>"),
    (
        "chunk-of",
        r#"data: {"id":"case-<id>","object":"chat.completion.chunk","created":1,"model":"m","choices""#,
    ),
    (
        "e1",
        r#"<chunk-of>:[{"index":0,"delta":{"role":"assistant","content":"Hel"},"finish_reason":null}]}\n\n"#,
    ),
    ("e2", r#"<chunk-of>:[{"index":0,"delta":{"content":"lo"},"finish_reason":null}]}\n\n"#),
    ("e3", r#"<chunk-of>:[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n"#),
    ("done", r"data: [DONE]\n\n"),
    ("events", r"<e1><e2><e3><done>"),
];

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi<pad>"}],"user":"case-<id>"}"#;

/// Every case of the request files, or of the answer files, in the order of file names.
///
/// # Panics
/// With the file and the fault, also for a name used twice.
pub fn load(answers: bool) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/framing");
    let mut paths: Vec<_> = fs::read_dir(&folder).expect("corpus").map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    let of_answers = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("upstream_"));
    paths.retain(|p| of_answers(p) == answers);
    paths.sort();
    let mut cases: Vec<Case> = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let file: File = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for group in file.group {
            for entry in &group.cases {
                let case = complete(&group, entry);
                assert!(cases.iter().all(|c| c.name != case.name), "two cases named {}", case.name);
                cases.push(case);
            }
        }
    }
    cases
}

fn complete(group: &Group, entry: &Entry) -> Case {
    let body = entry.body.clone().or_else(|| group.body.clone());
    Case {
        name: entry.name.clone(),
        class: entry.class.unwrap_or(group.class),
        source: entry.source.clone().unwrap_or_else(|| group.source.clone()),
        expect: entry.expect.clone().unwrap_or_else(|| group.expect.clone()),
        then: entry.then.clone().unwrap_or_else(|| group.then.clone()),
        after: entry.after.or(group.after),
        absent: entry.absent.clone().unwrap_or_else(|| group.absent.clone()),
        interim: entry.interim.clone().or_else(|| group.interim.clone()),
        raw: entry.raw.clone().unwrap_or_else(|| group.raw.clone()),
        it: entry.it.clone(),
        body: body.unwrap_or_else(|| CHAT.to_owned()),
        body_bytes: entry.body_bytes,
    }
}

impl Case {
    /// Whether the case must be accepted.
    pub fn good(&self) -> bool {
        let accepted = |e: &String| e == "forwarded" || e.starts_with('2');
        self.expect.iter().all(accepted)
    }

    /// Whether the first answer has no content, whatever its fields say.
    pub fn to_head(&self) -> bool {
        self.raw.starts_with("HEAD ")
    }

    /// The content of the case's own request in this run.
    pub fn body(&self, id: &str) -> Vec<u8> {
        let text = self.body.replace("<pad>", &"p".repeat(self.padding(id)));
        flat(&self.expand(&text, id, 0))
    }

    /// What the client does in this run.
    pub fn pieces(&self, id: &str) -> Vec<Piece> {
        let pieces = self.expand(&self.raw, id, 0);
        if !self.raw.contains("<fill ") && !self.it.contains("<fill ") {
            return pieces;
        }
        let bytes = flat(&pieces);
        let head = super::answer::find(&bytes, b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
        self.expand(&self.raw, id, head)
    }

    fn padding(&self, id: &str) -> usize {
        let plain = flat(&self.expand(&self.body.replace("<pad>", ""), id, 0));
        self.body_bytes.saturating_sub(plain.len())
    }

    /// `head`: the size of the head without its filling, 0 while that is being found out.
    fn expand(&self, text: &str, id: &str, head: usize) -> Vec<Piece> {
        let mut out = vec![Piece::Bytes(Vec::new())];
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '\\' => escape(rest, tail(&mut out)),
                '<' => {
                    let close = rest.find('>').unwrap_or_else(|| panic!("{}: open macro", self.name));
                    self.replace(&rest[1..close], id, head, &mut out);
                    close + 1
                }
                '\n' => 1,
                other => {
                    tail(&mut out).extend_from_slice(&rest.as_bytes()[..other.len_utf8()]);
                    other.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        out
    }

    fn replace(&self, name: &str, id: &str, head: usize, out: &mut Vec<Piece>) {
        let words: Vec<&str> = name.split(' ').collect();
        let value = |name: &str| flat(&self.expand(&format!("<{name}>"), id, head));
        match words[..] {
            ["fin"] => out.extend([Piece::Fin, Piece::Bytes(Vec::new())]),
            ["continue"] => out.extend([Piece::Continue, Piece::Bytes(Vec::new())]),
            ["id"] => tail(out).extend_from_slice(id.as_bytes()),
            ["it"] => self.expand(&self.it, id, head).into_iter().for_each(|piece| join(out, piece)),
            ["body"] => tail(out).extend(self.body(id)),
            ["a"] => tail(out).extend_from_slice(&self.body(id)[..16]),
            ["b"] => tail(out).extend_from_slice(&self.body(id)[16..]),
            ["evil" | "next"] => tail(out).extend(follower(words[0], id)),
            ["c"] => tail(out).extend(&self.body(id)[..1]),
            ["d"] => tail(out).extend(&self.body(id)[1..]),
            ["wrong"] => {
                let body = super::upstream::completion(&format!("evil-{id}")).to_string();
                tail(out).extend(super::upstream::plain(&body));
            }
            ["size", x] => tail(out).extend(value(x).len().to_string().bytes()),
            ["hex", x] => tail(out).extend(format!("{:x}", value(x).len()).bytes()),
            ["hexup", x] => tail(out).extend(format!("{:X}", value(x).len()).bytes()),
            ["chunk", x] => {
                let data = value(x);
                tail(out).extend(format!("{:x}\r\n", data.len()).bytes());
                tail(out).extend([&data, &b"\r\n"[..]].concat());
            }
            ["repeat", x, count] => {
                let once = flat(&self.expand(x, id, head));
                tail(out).extend(once.repeat(count.parse().unwrap()));
            }
            ["fill", x, size] => {
                let missing = size.parse::<usize>().unwrap() - head;
                let count = if head == 0 { 0 } else { missing };
                tail(out).extend(x.as_bytes().repeat(count));
            }
            [name] => {
                let text = MACROS.iter().find(|(n, _)| *n == name);
                let (_, text) = text.unwrap_or_else(|| panic!("{}: no macro <{name}>", self.name));
                self.expand(text, id, head).into_iter().for_each(|piece| join(out, piece));
            }
            _ => panic!("{}: macro <{name}>", self.name),
        }
    }
}

/// A whole chat request with this mark.
pub fn follower(mark: &str, id: &str) -> Vec<u8> {
    let body =
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"user":"{mark}-{id}"}}"#);
    let length = body.len();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// Writes the character of an escape; its length in the text.
fn escape(text: &str, out: &mut Vec<u8>) -> usize {
    let (byte, length) = match text.as_bytes().get(1) {
        Some(b'r') => (b'\r', 2),
        Some(b'n') => (b'\n', 2),
        Some(b't') => (b'\t', 2),
        Some(b'0') => (0, 2),
        Some(b'\\') => (b'\\', 2),
        Some(b'x') => (u8::from_str_radix(&text[2..4], 16).expect("hex escape"), 4),
        other => panic!("escape {other:?} in {text}"),
    };
    out.push(byte);
    length
}

fn tail(out: &mut [Piece]) -> &mut Vec<u8> {
    match out.last_mut() {
        Some(Piece::Bytes(bytes)) => bytes,
        _ => panic!("bytes come last"),
    }
}

fn join(out: &mut Vec<Piece>, piece: Piece) {
    match piece {
        Piece::Bytes(more) => tail(out).extend(more),
        other => out.extend([other, Piece::Bytes(Vec::new())]),
    }
}

fn flat(pieces: &[Piece]) -> Vec<u8> {
    let bytes = |piece: &Piece| if let Piece::Bytes(bytes) = piece { bytes.clone() } else { Vec::new() };
    pieces.iter().flat_map(bytes).collect()
}
