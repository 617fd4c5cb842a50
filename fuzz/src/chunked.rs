//! The chunked coding: followed, decoded in place, cut anywhere, and what an encoder of ours would write.

use corelane::wire::http1::{ChunkError, Chunked};

use super::{cut, reading};

/// Reads `data` as a chunked body, then writes it as one.
pub fn target(data: &[u8]) {
    let whole = follow(&[data]);
    for parts in cut::all(data) {
        assert_eq!(follow(&parts), whole, "cut after {}", parts[0].len());
        in_place(&parts, &whole);
    }
    match (&whole, reading::dechunk(data)) {
        (Ok((data, used, true)), Ok(Some(simple))) => assert_eq!((data, *used), (&simple.0, simple.1)),
        (Ok((_, _, true)), simple) => panic!("done, but not to a simple reader: {simple:?}"),
        (Ok((_, _, false)), simple) => assert_eq!(simple, Ok(None), "a simple reader is done"),
        (Err(_), _) => {}
    }
    written(data);
}

/// The data, the bytes used, and whether the body is done.
type Followed = Result<(Vec<u8>, usize, bool), ChunkError>;

fn follow(parts: &[&[u8]]) -> Followed {
    let (mut chunked, mut data, mut used) = (Chunked::default(), Vec::new(), 0);
    for part in parts {
        let mut at = 0;
        while at < part.len() && !chunked.done() {
            let step = chunked.next(&part[at..])?;
            assert!(step.skip + step.data > 0, "no progress");
            data.extend_from_slice(&part[at + step.skip..at + step.skip + step.data]);
            at += step.skip + step.data;
        }
        used += at;
    }
    Ok((data, used, chunked.done()))
}

fn in_place(parts: &[&[u8]], whole: &Followed) {
    let (mut chunked, mut buffer, mut end) = (Chunked::default(), b"head".to_vec(), 4);
    for part in parts {
        buffer.extend_from_slice(part);
        match chunked.decode(&mut buffer, end) {
            Ok(at) => end = at,
            Err(error) => return assert_eq!(whole.as_ref().err(), Some(&error)),
        }
    }
    let (data, used, done) = whole.as_ref().expect("in place it was read");
    let all = parts.concat();
    assert_eq!((&buffer[..4], &buffer[4..end], chunked.done()), (&b"head"[..], data.as_slice(), *done));
    assert_eq!(&buffer[end..], &all[*used..], "what stands behind the body");
}

/// Any bytes, put into chunks of changing sizes with an extension and a trailer, come back.
fn written(data: &[u8]) {
    let mut coded = Vec::new();
    let (mut rest, mut size) = (data, 1 + data.len() % 7);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        coded.extend_from_slice(format!("{:X};n=\"{}\"\r\n", chunk.len(), size % 10).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
        (rest, size) = (after, size * 3);
    }
    coded.extend_from_slice(b"0\r\nx-end: 1\r\n\r\n");
    assert_eq!(follow(&[&coded, b"behind"]), Ok((data.to_vec(), coded.len(), true)));
}
