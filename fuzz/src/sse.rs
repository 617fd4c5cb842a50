//! Events: the same at every cut, nothing lost, and their data what the standard's algorithm yields.

use corelane::wire::sse::{self, Event};

use super::cut;

/// An event's bytes, data and name.
pub type Seen = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

/// Reads `data` as a stream of events.
pub fn target(data: &[u8]) {
    let (whole, rest) = events(&[data]);
    for parts in cut::all(data) {
        assert_eq!(events(&parts), (whole.clone(), rest.clone()), "cut after {}", parts[0].len());
    }
    let mut all: Vec<u8> = whole.iter().flat_map(|event| event.0.clone()).collect();
    all.extend_from_slice(&rest);
    assert_eq!(all, data, "bytes are lost");
    if !data.starts_with(b"\xef\xbb\xbf") {
        let ours: Vec<_> = whole.into_iter().filter_map(|(_, data, name)| Some((data?, name))).collect();
        assert_eq!(ours, standard(data));
    }
}

/// The events, the unfinished last one included, and the bytes that are none.
pub fn events(parts: &[&[u8]]) -> (Vec<Seen>, Vec<u8>) {
    let (mut kept, mut all) = (Vec::new(), Vec::new());
    for part in parts {
        kept.extend_from_slice(part);
        while let Some(event) = sse::next(&kept) {
            all.push(seen(event));
            let length = event.raw.len();
            kept.drain(..length);
        }
    }
    match sse::last(&kept) {
        Some(event) => all.push(seen(event)),
        None => return (all, kept),
    }
    (all, Vec::new())
}

fn seen(event: Event<'_>) -> Seen {
    let (data, name) = (event.data(), event.name().map(<[u8]>::to_vec));
    assert!(!event.raw.is_empty(), "no progress");
    if let Some(plain) = event.plain_data() {
        assert_eq!((data.as_deref(), &name), (Some(plain), &None), "plain is not plain");
    }
    (event.raw.to_vec(), data, name)
}

/// WHATWG HTML section 9.2.6, line by line; an event without its blank line is taken at the end, as ours does.
fn standard(data: &[u8]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let (mut all, mut lines, mut name) = (Vec::new(), Vec::<Vec<u8>>::new(), None);
    let unified = replace(&replace(data, b"\r\n", b'\n'), b"\r", b'\n');
    for line in unified.split(|&byte| byte == b'\n').chain([&b""[..]]) {
        if line.is_empty() {
            if !lines.is_empty() {
                all.push((lines.join(&b'\n'), name.take()));
            }
            (lines, name) = (Vec::new(), None);
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let (field, value) = colon.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match field {
            b"data" => lines.push(value),
            b"event" => name = Some(value),
            _ => {}
        }
    }
    all
}

fn replace(text: &[u8], from: &[u8], to: u8) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let hit = text[at..].starts_with(from);
        out.push(if hit { to } else { text[at] });
        at += if hit { from.len() } else { 1 };
    }
    out
}
