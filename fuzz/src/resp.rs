//! Replies of Redis: the same at every cut, within their bounds, and as long as a second, simple reader finds them.

use bytes::Bytes;
use corelane::wire::resp::{Broken, Limits, Reply, Scanner, Version};

use super::cut;

/// Small bounds, so that inputs reach them.
const LIMITS: Limits =
    Limits { depth_max: 4, elements_max: 24, bulk_bytes_max: 300, line_bytes_max: 120, reply_bytes_max: 600 };

/// The first byte chooses the version.
pub fn target(data: &[u8]) {
    let (choice, data) = cut::choice(data);
    let version = if choice.is_multiple_of(2) { Version::Resp2 } else { Version::Resp3 };
    let whole = read(version, &[data]);
    for parts in cut::all(data) {
        let cut = read(version, &parts);
        // NaN is like nothing: texts are compared.
        assert_eq!(format!("{cut:?}"), format!("{whole:?}"), "cut after {}", parts[0].len());
    }
    for (reply, raw) in &whole.0 {
        assert!(raw.len() <= LIMITS.reply_bytes_max, "{} bytes", raw.len());
        assert!(elements(reply) <= LIMITS.elements_max && depth(reply) <= LIMITS.depth_max);
        assert_eq!(simple(raw), Some(raw.len()), "{}", raw.escape_ascii());
    }
}

/// A reply and its bytes.
type Read = (Reply, Vec<u8>);

/// The replies up to the first mistake, that mistake, and the bytes behind the last reply.
fn read(version: Version, parts: &[&[u8]]) -> (Vec<Read>, Option<Broken>) {
    let (mut scanner, mut kept, mut all) = (Scanner::new(version, LIMITS), Vec::new(), Vec::new());
    for part in parts {
        kept.extend_from_slice(part);
        loop {
            match scanner.scan(&kept) {
                Ok(None) => break,
                Err(broken) => return (all, Some(broken)),
                Ok(Some(length)) => {
                    assert!(length > 0, "no progress");
                    let raw: Vec<u8> = kept.drain(..length).collect();
                    match version.decode(&Bytes::copy_from_slice(&raw)) {
                        Ok(reply) => all.push((reply, raw)),
                        Err(broken) => return (all, Some(broken)),
                    }
                }
            }
        }
    }
    (all, None)
}

fn elements(reply: &Reply) -> usize {
    1 + match reply {
        Reply::Array(values) => values.iter().map(elements).sum(),
        Reply::Map(pairs) => pairs.iter().map(|(key, value)| elements(key) + elements(value)).sum(),
        _ => 0,
    }
}

fn depth(reply: &Reply) -> usize {
    match reply {
        Reply::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Reply::Map(pairs) => {
            1 + pairs.iter().map(|(key, value)| depth(key).max(depth(value))).max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// Where the value at the start of `data` ends, found without bounds; only for what was accepted.
fn simple(data: &[u8]) -> Option<usize> {
    let end = data.windows(2).position(|pair| pair == b"\r\n")?;
    let number = || std::str::from_utf8(&data[1..end]).ok()?.parse::<i64>().ok();
    let inside = match data[0] {
        b'$' | b'!' | b'=' => match number()? {
            -1 => return Some(end + 2),
            length => return Some(end + 2 + usize::try_from(length).ok()? + 2),
        },
        b'*' | b'~' => number()?.max(0),
        b'%' => number()? * 2,
        _ => 0,
    };
    (0..inside).try_fold(end + 2, |at, _| Some(at + simple(data.get(at..)?)?))
}
