//! The line of an exchange in the access log: what only the log wants, and how it is written.
//!
//! JSON for machines, words for people. Every text that comes from outside is escaped, so a line cannot be forged: control
//! characters, and what a terminal or an editor obeys. What an endpoint says is never repeated; bodies stand in the line
//! only where `log.bodies` asks for them, masked unless `log.mask` is off, and cut at `log.body_bytes_max`.
//! Times are those of nginx: `rt` the whole exchange, `uct` connecting, `uht` until the answer's head, `urt` until its end, in
//! seconds; the last three count from where the last attempt began.
//!
//! Cost without bodies: no allocation, two short copies and one writing of the line (PERFORMANCE.md, "Being observed"). With
//! them: a JSON parse and one scan by the masker.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::net::IpAddr;

use serde_json::Value;

use super::access::Record;
use super::head::micros;
use super::reply::number;
use super::{Core, Shard};
use crate::api::speech::{self, Part, Voice};
use crate::api::{Failure, FailureKind, Task};
use crate::config::observe::Format;
use crate::config::{Access, Config};
use crate::wire::{json, ndjson, sse};

/// Bodies larger than this are not taken apart for the log; their size is told.
const BODY_READ_MAX: usize = 1 << 20;

/// Changes of voice in one answer that the log follows.
const CHANNELS_MAX: usize = 64;

/// Texts of an [`Entry`] whose memory the next one may use, in bytes each.
const KEPT_MAX: usize = 256;

/// What is gathered for the line while the exchange runs.
#[derive(Default)]
pub struct Entry {
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Method.
    pub method: &'static str,
    /// Path, without its query.
    pub path: String,
    /// What was asked for.
    pub model: String,
    /// What went wrong, in our words.
    pub error: Option<String>,
    /// What the guard found: members of a JSON array.
    pub guard: String,
    /// The line is written even if all goes well.
    pub sampled: bool,
    /// `None`: bodies are not logged.
    pub bodies: Option<Box<Bodies>>,
}

impl Entry {
    /// Makes it an empty one; a text that has grown long gives its memory back.
    pub fn clear(&mut self) {
        let mut kept = [&mut self.path, &mut self.model, &mut self.guard].map(std::mem::take);
        for text in &mut kept {
            text.clear();
            text.shrink_to(KEPT_MAX);
        }
        let [path, model, guard] = kept;
        *self = Self { path, model, guard, ..Self::default() };
    }
}

/// Bodies for the log.
#[derive(Default)]
pub struct Bodies {
    request: Vec<u8>,
    request_bytes: usize,
    said: Vec<(Voice, String)>,
    said_bytes: usize,
    answer: Vec<u8>,
}

impl Bodies {
    /// The request, as it came.
    pub fn request(&mut self, body: &[u8]) {
        self.request_bytes = body.len();
        if body.len() <= BODY_READ_MAX {
            self.request = body.to_vec();
        }
    }

    /// A whole answer, as the endpoint gave it.
    pub fn answer(&mut self, body: &[u8]) {
        self.said_bytes = body.len();
        if body.len() <= BODY_READ_MAX {
            self.answer = body.to_vec();
        }
    }

    /// Whole events of a stream, or lines of JSON.
    pub fn events(&mut self, task: Task, ndjson: bool, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            let next = if ndjson { ndjson::next(rest) } else { sse::next(rest).map(|event| event.raw) };
            let Some(raw) = next else { return };
            rest = rest.get(raw.len()..).unwrap_or_default();
            if ndjson {
                self.event(task, raw.trim_ascii());
            } else if let Some(data) = (sse::Event { raw }).data() {
                self.event(task, &data);
            }
        }
    }

    fn event(&mut self, task: Task, data: &[u8]) {
        self.said_bytes += data.len();
        speech::parts(task, data, &mut |part| {
            let Part::Text(channel, span) = part else { return };
            if channel.voice == Voice::Whole {
                return;
            }
            let text = json::text_of(&[b"\"", span.of_bytes(data), b"\""].concat()).unwrap_or_default();
            let full = self.said.len() >= CHANNELS_MAX;
            match self.said.last_mut() {
                Some((voice, said)) if *voice == channel.voice => {
                    if said.len() + text.len() <= BODY_READ_MAX {
                        said.push_str(&text);
                    }
                }
                _ if full => {}
                _ => self.said.push((channel.voice, text)),
            }
        });
    }
}

/// Whether lines are for people: as configured, or where standard error is a terminal and they go there.
#[must_use]
pub fn for_people(config: &Config) -> bool {
    match config.log.format {
        Format::Json => false,
        Format::Text => true,
        Format::Auto => config.log.access == Access::Stderr && std::io::stderr().is_terminal(),
    }
}

impl Record {
    /// Writes the line of the exchange, which ended at `now_us`, if it is to be written.
    pub(super) fn log(&self, shard: &Shard, entry: &Entry, request_id: &str, now_us: u64) {
        let well = self.status < 400 && entry.guard.is_empty() && entry.error.is_none();
        if well && !entry.sampled {
            return;
        }
        shard.lines.add(&shard.world.log, now_us, |out| {
            if shard.world.log_is_text {
                out.extend_from_slice(self.words(shard, entry, request_id, now_us).as_bytes());
            } else {
                self.json(shard, entry, request_id, now_us, out);
            }
        });
    }

    fn json(&self, shard: &Shard, entry: &Entry, request_id: &str, now_us: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        shard.timestamp(now_us, out);
        text(out, b"\",\"id\":", request_id);
        out.extend_from_slice(b",\"client\":\"");
        entry.client.into_iter().for_each(|client| address(out, client));
        out.push(b'"');
        if let Some(caller) = &self.caller {
            text(out, b",\"key\":", &caller.name);
        }
        out.extend_from_slice(b",\"request\":\"");
        out.extend_from_slice(entry.method.as_bytes());
        out.push(b' ');
        escaped(out, &entry.path);
        count(out, b"\",\"status\":", u64::from(self.status));
        text(out, b",\"model\":", &entry.model);
        text(out, b",\"endpoint\":", self.endpoint_name(shard));
        count(out, b",\"attempts\":", u64::from(self.attempts));
        if let Some(deployment) = self.deployment.as_ref().filter(|_| self.fallbacks > 0) {
            count(out, b",\"fallbacks\":", u64::from(self.fallbacks));
            text(out, b",\"served_by\":", &deployment.name);
        }
        out.extend_from_slice(if self.stream { b",\"stream\":true" } else { b",\"stream\":false" });
        if let Some(used) = &self.cache {
            text(out, b",\"cache\":", used.name());
        }
        self.times(out, now_us);
        self.tokens(out);
        if !entry.guard.is_empty() {
            out.extend_from_slice(b",\"guard\":[");
            out.extend_from_slice(entry.guard.as_bytes());
            out.push(b']');
        }
        if let Some(error) = &entry.error {
            text(out, b",\"error\":", error);
        }
        if let Some(bodies) = &entry.bodies {
            write_bodies(out, shard, bodies);
        }
        out.push(b'}');
    }

    fn times(&self, out: &mut Vec<u8>, now_us: u64) {
        seconds(out, b",\"rt\":", now_us - self.since_us);
        let of = |at_us: u64| at_us.checked_sub(self.attempt_us).filter(|_| at_us > 0 && self.attempt_us > 0);
        for (name, at_us) in [
            (&b",\"uct\":"[..], self.connected_us),
            (b",\"uht\":", self.upstream_head_us),
            (b",\"urt\":", self.upstream_end(now_us)),
        ] {
            if let Some(us) = of(at_us) {
                seconds(out, name, us);
            }
        }
        if self.content_us > 0 {
            seconds(out, b",\"first_token\":", self.content_us.saturating_sub(self.request_end_us));
        }
        if self.queued_us > 0 {
            seconds(out, b",\"queued\":", self.queued_us);
        }
        if self.head_us > 0 {
            count(out, b",\"overhead_us\":", self.overhead_us());
        }
    }

    fn tokens(&self, out: &mut Vec<u8>) {
        let usage = &self.usage;
        count(out, b",\"tokens_in\":", usage.input_all());
        count(out, b",\"tokens_out\":", usage.output);
        for (name, tokens) in [
            (&b",\"tokens_cached\":"[..], usage.cached.saturating_add(usage.cache_read)),
            (b",\"tokens_reasoning\":", usage.reasoning),
        ] {
            if tokens > 0 {
                count(out, name, tokens);
            }
        }
        if usage.estimated {
            out.extend_from_slice(b",\"estimated\":true");
        }
        let cost = self.cost();
        if cost > 0.0 {
            let _ = std::io::Write::write_fmt(out, format_args!(",\"cost\":{cost}"));
        }
    }

    /// A line for people.
    fn words(&self, shard: &Shard, entry: &Entry, request_id: &str, now_us: u64) -> String {
        let mut time = Vec::new();
        shard.timestamp(now_us, &mut time);
        let mut out = String::from_utf8(time).unwrap_or_default();
        let shown = |text: &str| {
            let mut shown = Vec::new();
            escaped(&mut shown, text);
            String::from_utf8(shown).unwrap_or_default()
        };
        let _ = write!(out, " {} {} {}", self.status, entry.method, shown(&entry.path));
        if !entry.model.is_empty() {
            let _ = write!(out, " {} -> {}", shown(&entry.model), self.endpoint_name(shard));
        }
        let _ = write!(out, " {:.1} ms", real_ms(now_us - self.since_us));
        if self.content_us > 0 {
            let first = self.content_us.saturating_sub(self.request_end_us);
            let about = if self.usage.estimated { "~" } else { "" };
            let (input, output) = (self.usage.input_all(), self.usage.output);
            let _ = write!(out, ", first {:.1} ms, {about}{input}+{output} tokens", real_ms(first));
        }
        if let Some(used) = &self.cache {
            let _ = write!(out, ", cache {}", used.name());
        }
        if self.attempts > 1 {
            let _ = write!(out, ", {} attempts", self.attempts);
        }
        if let Some(deployment) = self.deployment.as_ref().filter(|_| self.fallbacks > 0) {
            let _ = write!(out, ", served by {}", deployment.name);
        }
        if let Some(caller) = &self.caller {
            let _ = write!(out, ", key {}", caller.name);
        }
        let mut client = Vec::new();
        entry.client.into_iter().for_each(|from| address(&mut client, from));
        let client = String::from_utf8(client).unwrap_or_default();
        let _ = write!(out, ", from {client} id {}", shown(request_id));
        if !entry.guard.is_empty() {
            let _ = write!(out, ", guard [{}]", entry.guard);
        }
        if let Some(error) = &entry.error {
            let _ = write!(out, ": {}", shown(error));
        }
        if let Some(bodies) = &entry.bodies {
            let mut json = Vec::new();
            write_bodies(&mut json, shard, bodies);
            out.push_str(&String::from_utf8(json).unwrap_or_default());
        }
        out
    }

    fn endpoint_name<'a>(&self, shard: &'a Shard) -> &'a str {
        self.endpoint.map_or("-", |at| shard.world.registry[at].config.name.as_str())
    }
}

/// The wall clock as the lines tell it. Read every [`WALL_US`]; between, the shard's own clock says what has passed.
#[derive(Debug, Default)]
pub struct Stamp {
    /// Microseconds since 1970, and the shard's time, when the wall clock was read.
    read: Option<(u64, u64)>,
    second: u64,
    /// RFC 3339 of that second, without its fraction.
    text: String,
}

/// How old a reading of the wall clock may be: what it is corrected by meanwhile stays below a millisecond, or shows this late.
const WALL_US: u64 = 50_000;

impl Core {
    /// UTC in RFC 3339 with milliseconds, at `now_us`; the part down to seconds is made once a second.
    fn timestamp(&self, now_us: u64, out: &mut Vec<u8>) {
        let mut stamp = self.stamp.borrow_mut();
        let kept = stamp.read.filter(|(_, read_us)| now_us.saturating_sub(*read_us) < WALL_US);
        let (wall_us, read_us) = kept.unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
            (since.map_or(0, micros), now_us)
        });
        stamp.read = Some((wall_us, read_us));
        let wall_ms = (wall_us + now_us.saturating_sub(read_us)) / 1000;
        let (second, millis) = (wall_ms / 1000, wall_ms % 1000);
        if stamp.second != second || stamp.text.is_empty() {
            stamp.text = crate::telemetry::log::rfc3339(second, 0);
            let whole = stamp.text.len().saturating_sub("000Z".len());
            stamp.text.truncate(whole);
            stamp.second = second;
        }
        out.extend_from_slice(stamp.text.as_bytes());
        three(out, millis);
        out.push(b'Z');
    }
}

/// What a failure is told in the log. An endpoint's words may repeat the request: they are for who asked.
#[must_use]
pub fn sentence(failure: &Failure) -> String {
    match failure.kind {
        FailureKind::UpstreamStatus => format!("The endpoint answered {}.", failure.status),
        _ => failure.message.clone(),
    }
}

/// One finding of the guard for the line: whose and by which rule, never of what.
pub fn finding(out: &mut String, direction: &str, scanner: &str, rule: &str, action: &str) {
    let comma = if out.is_empty() { "" } else { "," };
    let rule = String::from_utf8(json::quoted(rule)).unwrap_or_default();
    let _ = write!(
        out,
        r#"{comma}{{"direction":"{direction}","scanner":"{scanner}","rule":{rule},"action":"{action}"}}"#
    );
}

fn write_bodies(out: &mut Vec<u8>, shard: &Shard, bodies: &Bodies) {
    let request = shown(shard, &bodies.request, bodies.request_bytes);
    text(out, b",\"request_body\":", &request);
    let answer = if bodies.said.is_empty() {
        shown(shard, &bodies.answer, bodies.said_bytes)
    } else {
        let mut said = String::new();
        for (voice, part) in &bodies.said {
            let part = masked(shard, part).unwrap_or_else(|| part.clone());
            let name = match voice {
                Voice::Content | Voice::Whole => "",
                Voice::Reasoning => "[reasoning] ",
                Voice::Refusal => "[refusal] ",
                Voice::Arguments => "[arguments] ",
            };
            let gap = if said.is_empty() { "" } else { "\n" };
            let _ = write!(said, "{gap}{name}{part}");
        }
        cut(said, shard)
    };
    text(out, b",\"answer_body\":", &answer);
}

/// A JSON body with each of its strings masked, cut.
fn shown(shard: &Shard, body: &[u8], bytes: usize) -> String {
    if body.is_empty() && bytes > 0 {
        return format!("[{bytes} bytes]");
    }
    let Some(_) = &shard.world.masker else {
        return cut(String::from_utf8_lossy(body).into_owned(), shard);
    };
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            mask_strings(shard, &mut value);
            cut(value.to_string(), shard)
        }
        Err(_) => format!("[{bytes} bytes, not JSON]"), // who knows what it holds
    }
}

fn mask_strings(shard: &Shard, value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(masked) = masked(shard, text) {
                *text = masked;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask_strings(shard, item)),
        Value::Object(members) => {
            let old = std::mem::take(members);
            members.extend(old.into_iter().map(|(key, mut value)| {
                mask_strings(shard, &mut value);
                (masked(shard, &key).unwrap_or(key), value)
            }));
        }
        _ => {}
    }
}

fn masked(shard: &Shard, text: &str) -> Option<String> {
    shard.world.masker.as_ref().and_then(|masker| masker.mask(text))
}

fn cut(mut text: String, shard: &Shard) -> String {
    let max = usize::try_from(shard.world.config.log.body_bytes_max.0).unwrap_or(usize::MAX);
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.push('…');
    }
    text
}

/// Appends `name` and a JSON string.
fn text(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.extend_from_slice(name);
    out.push(b'"');
    escaped(out, value);
    out.push(b'"');
}

/// Appends `name` and a number.
fn count(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    number(out, value);
}

/// Appends `name` and microseconds as seconds with three decimals, rounded down, as nginx writes them.
fn seconds(out: &mut Vec<u8>, name: &[u8], us: u64) {
    count(out, name, us / 1_000_000);
    out.push(b'.');
    three(out, us / 1000 % 1000);
}

/// Appends three digits.
fn three(out: &mut Vec<u8>, value: u64) {
    for digit in [value / 100, value / 10, value] {
        out.push(b'0' + u8::try_from(digit % 10).unwrap_or(0));
    }
}

/// The inside of a JSON string, with escapes also for what JSON leaves as it is and a terminal or an editor obeys: DEL, the C1 controls,
/// line and paragraph separators, and marks that turn the direction of text.
fn escaped(out: &mut Vec<u8>, text: &str) {
    // No branch in the loop: several bytes are looked at in one instruction.
    let is_plain = |byte: u8| byte.wrapping_sub(0x20) < 0x5f && byte != b'"' && byte != b'\\';
    if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        return out.extend_from_slice(text.as_bytes());
    }
    let mut utf8 = [0; 4];
    for c in text.chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                let _ = std::io::Write::write_fmt(out, format_args!("\\u{:04x}", u32::from(c)));
            }
            c => json::escape_into(out, c.encode_utf8(&mut utf8)),
        }
    }
}

/// Appends an address as people write it.
fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            number(out, u64::from(a));
            for part in [b, c, d] {
                out.push(b'.');
                number(out, u64::from(part));
            }
        }
        IpAddr::V6(address) => {
            let _ = std::io::Write::write_fmt(out, format_args!("{address}"));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of one exchange")]
fn real_ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_as_nginx_writes_them() {
        assert_eq!(all(|out| seconds(out, b"rt=", 1_234_999)), "rt=1.234");
        assert_eq!(all(|out| seconds(out, b"rt=", 999)), "rt=0.000");
    }

    #[test]
    fn addresses_as_people_write_them() {
        for shown in ["0.0.0.0", "10.203.7.255", "2001:db8::1", "::ffff:1.2.3.4"] {
            assert_eq!(all(|out| address(out, shown.parse().unwrap())), shown);
        }
    }

    #[test]
    fn an_entry_is_cleared_for_the_next_exchange() {
        let mut entry =
            Entry { path: "/v1".to_owned(), model: "m".repeat(1000), sampled: true, ..Entry::default() };
        entry.error = Some("it failed".to_owned());
        entry.clear();
        assert!(entry.path.is_empty() && entry.model.is_empty() && entry.error.is_none() && !entry.sampled);
        assert!(entry.path.capacity() > 0 && entry.model.capacity() <= KEPT_MAX);
    }

    #[test]
    fn texts_cannot_end_a_line() {
        let shown = all(|out| text(out, b"x:", "a\"\n\u{7f}\u{202e}é\u{85}"));
        assert_eq!(shown, "x:\"a\\\"\\n\\u007f\\u202eé\\u0085\"");
        for byte in 0..=0x7f_u8 {
            let plain = (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
            let one = char::from(byte).to_string();
            assert_eq!(all(|out| escaped(out, &one)) == one, plain, "{byte}");
        }
    }

    #[test]
    fn a_streams_texts_are_put_together() {
        let mut bodies = Bodies::default();
        for content in ["ghp_16C7e42F292c69", "12E7710c838347Ae178B4a", "\\u00e9"] {
            let event = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{content}"}}}}]}}"#);
            bodies.event(Task::Chat, event.as_bytes());
        }
        assert_eq!(bodies.said, [(Voice::Content, "ghp_16C7e42F292c6912E7710c838347Ae178B4aé".to_owned())]);
    }
}
