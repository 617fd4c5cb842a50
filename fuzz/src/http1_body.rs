//! Bodies of answers: each framing, fed or decoded in place, yields the same data at any cut.

use corelane::wire::http1::Framing;
use corelane::wire::http1::body::{Fed, Reader};

use super::{cut, reading};

/// The first byte chooses the framing, and for a length how long it is.
pub fn target(data: &[u8]) {
    let (choice, data) = cut::choice(data);
    let framing = match choice {
        0x63 => Framing::Chunked, // "c"
        0x65 => Framing::Close,   // "e", until the end
        0x6e => Framing::None,    // "n"
        length => Framing::Length((length % 96) as u64),
    };
    let whole = fed(framing, &[data]);
    for parts in cut::all(data) {
        assert_eq!(fed(framing, &parts), whole, "cut after {}", parts[0].len());
        decoded(framing, &parts, &whole);
    }
    let Some((body, used, done)) = whole else { return };
    let all = |length: usize| (data[..length].to_vec(), length);
    match framing {
        Framing::None => assert!(done && used == 0),
        Framing::Close => assert_eq!((body, used), all(data.len())),
        Framing::Length(length) => {
            assert_eq!(done, data.len() as u64 >= length);
            assert_eq!((body, used), all(data.len().min(usize::try_from(length).unwrap_or(usize::MAX))));
        }
        Framing::Chunked => assert_eq!(reading::dechunk(data), Ok(done.then_some((body, used)))),
    }
}

/// The data, the bytes used and whether the body is done; `None`: its framing is broken.
type Read = Option<(Vec<u8>, usize, bool)>;

fn fed(framing: Framing, parts: &[&[u8]]) -> Read {
    let (mut reader, mut body, mut used) = (Reader::new(framing), Vec::new(), 0);
    for part in parts {
        let took = reader.feed(part, |data| {
            body.extend_from_slice(data);
            Ok::<(), ()>(())
        });
        match took {
            Ok(took) => used += took,
            Err(Fed::Framing(_)) => return None,
            Err(Fed::Sink(())) => panic!("the sink took it"),
        }
    }
    let done = reader.done();
    assert_eq!(reader.peer_ended().is_ok(), done || framing == Framing::Close);
    Some((body, used, done))
}

fn decoded(framing: Framing, parts: &[&[u8]], whole: &Read) {
    let (mut reader, mut buffer, mut end) = (Reader::new(framing), b"head".to_vec(), 4);
    for part in parts {
        // A reader that is done is not asked again; what comes then stays behind the body.
        let behind = buffer.len() - end;
        buffer.extend_from_slice(part);
        if reader.done() || behind > 0 {
            continue;
        }
        match reader.decode(&mut buffer, end) {
            Ok(at) => end = at,
            Err(_) => return assert!(whole.is_none()),
        }
    }
    let (body, used, done) = whole.as_ref().expect("decoded, so it could be fed");
    assert_eq!((&buffer[4..end], reader.done()), (body.as_slice(), *done));
    assert_eq!(&buffer[end..], &parts.concat()[*used..]);
}
