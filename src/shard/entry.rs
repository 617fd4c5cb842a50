//! The line of an exchange in the access log: what only the log wants, and how it is written.
//!
//! JSON for machines, words for people. Every text that comes from outside is escaped, so a line cannot be forged: control
//! characters, and what a terminal or an editor obeys. What an endpoint says is never repeated; bodies stand in the line
//! only where `log.bodies` asks for them, masked unless `log.mask` is off, and cut at `log.body_bytes_max`.
//! Times are those of nginx: `rt` the whole exchange, `uct` connecting, `uht` until the answer's head, `urt` until its end, in
//! seconds; the last three count from where the last attempt began.
//!
//! Cost without bodies: four allocations and about 0.7 µs. With them: a JSON parse and one scan by the masker.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::net::IpAddr;

use serde_json::Value;

use super::access::Record;
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

/// What is gathered for the line while the exchange runs.
pub struct Entry {
    /// The exchange's id.
    pub request_id: String,
    /// The client's address.
    pub client: IpAddr,
    /// Name of the caller's key.
    pub caller: String,
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
    pub(super) fn log(&self, shard: &Shard, now_us: u64) {
        let Some(entry) = &self.entry else { return };
        let well = self.status < 400 && entry.guard.is_empty() && entry.error.is_none();
        if well && !entry.sampled {
            return;
        }
        let line = if shard.world.log_is_text {
            self.words(shard, entry, now_us)
        } else {
            self.json(shard, entry, now_us)
        };
        shard.world.log.access(line);
    }

    fn json(&self, shard: &Shard, entry: &Entry, now_us: u64) -> String {
        let mut out = Vec::with_capacity(640);
        out.extend_from_slice(b"{\"time\":\"");
        shard.timestamp(&mut out);
        text(&mut out, b"\",\"id\":", &entry.request_id);
        out.extend_from_slice(b",\"client\":\"");
        out.extend_from_slice(entry.client.to_string().as_bytes());
        out.push(b'"');
        if !entry.caller.is_empty() {
            text(&mut out, b",\"key\":", &entry.caller);
        }
        out.extend_from_slice(b",\"request\":\"");
        out.extend_from_slice(entry.method.as_bytes());
        out.push(b' ');
        escaped(&mut out, &entry.path);
        count(&mut out, b"\",\"status\":", u64::from(self.status));
        text(&mut out, b",\"model\":", &entry.model);
        text(&mut out, b",\"endpoint\":", self.endpoint_name(shard));
        count(&mut out, b",\"attempts\":", u64::from(self.attempts));
        if let Some(deployment) = self.deployment.as_ref().filter(|_| self.fallbacks > 0) {
            count(&mut out, b",\"fallbacks\":", u64::from(self.fallbacks));
            text(&mut out, b",\"served_by\":", &deployment.name);
        }
        out.extend_from_slice(if self.stream { b",\"stream\":true" } else { b",\"stream\":false" });
        if let Some(used) = self.cache {
            text(&mut out, b",\"cache\":", used.name());
        }
        self.times(&mut out, now_us);
        self.tokens(&mut out);
        if !entry.guard.is_empty() {
            out.extend_from_slice(b",\"guard\":[");
            out.extend_from_slice(entry.guard.as_bytes());
            out.push(b']');
        }
        if let Some(error) = &entry.error {
            text(&mut out, b",\"error\":", error);
        }
        if let Some(bodies) = &entry.bodies {
            write_bodies(&mut out, shard, bodies);
        }
        out.push(b'}');
        String::from_utf8(out).unwrap_or_default()
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
    fn words(&self, shard: &Shard, entry: &Entry, now_us: u64) -> String {
        let mut time = Vec::new();
        shard.timestamp(&mut time);
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
        if let Some(used) = self.cache {
            let _ = write!(out, ", cache {}", used.name());
        }
        if self.attempts > 1 {
            let _ = write!(out, ", {} attempts", self.attempts);
        }
        if let Some(deployment) = self.deployment.as_ref().filter(|_| self.fallbacks > 0) {
            let _ = write!(out, ", served by {}", deployment.name);
        }
        if !entry.caller.is_empty() {
            let _ = write!(out, ", key {}", entry.caller);
        }
        let _ = write!(out, ", from {} id {}", entry.client, shown(&entry.request_id));
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

impl Core {
    /// UTC in RFC 3339 with milliseconds; the part down to seconds is made once a second.
    fn timestamp(&self, out: &mut Vec<u8>) {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut stamp = self.stamp.borrow_mut();
        if stamp.0 != since.as_secs() || stamp.1.is_empty() {
            let mut text = crate::telemetry::log::rfc3339(since.as_secs(), 0);
            text.truncate(text.len().saturating_sub("000Z".len()));
            *stamp = (since.as_secs(), text);
        }
        out.extend_from_slice(stamp.1.as_bytes());
        three(out, u64::from(since.subsec_millis()));
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
    if text.bytes().all(|byte| byte.is_ascii() && byte != 0x7f) {
        return json::escape_into(out, text);
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
    fn texts_cannot_end_a_line() {
        let shown = all(|out| text(out, b"x:", "a\"\n\u{7f}\u{202e}é\u{85}"));
        assert_eq!(shown, "x:\"a\\\"\\n\\u007f\\u202eé\\u0085\"");
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
