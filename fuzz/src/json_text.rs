//! Texts of JSON strings: what `serde_json` reads is read the same, at any cut, and the way back leads to the characters.

use corelane::wire::text::{Unescape, cut, raw_spans};

/// The bytes are the inside of a string.
pub fn target(data: &[u8]) {
    let whole = text(&[data]);
    let quoted = [b"\"", data, b"\""].concat();
    if let Ok(read) = serde_json::from_slice::<String>(&quoted) {
        assert_eq!(whole, read);
    }
    for bytes in [1, 2, 5, 17, 64] {
        let (mut pieces, mut rest) = (Vec::new(), data);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cut(rest, bytes));
            pieces.push(now);
            rest = later;
        }
        if std::str::from_utf8(data).is_ok() {
            assert_eq!(text(&pieces), whole, "pieces of {bytes}");
        }
    }
    if serde_json::from_slice::<String>(&quoted).is_ok() {
        back(data, &whole);
    }
}

fn text(pieces: &[&[u8]]) -> String {
    let (mut state, mut out) = (Unescape::default(), String::new());
    pieces.iter().for_each(|piece| state.push(piece, &mut out));
    state.finish(&mut out);
    out
}

/// Each character's place in the string reads as that character.
fn back(raw: &[u8], whole: &str) {
    let spans: Vec<_> = whole.char_indices().map(|(at, c)| at..at + c.len_utf8()).collect();
    let places = raw_spans(&Unescape::default(), raw, &spans);
    assert_eq!(places.len(), spans.len());
    for (span, place) in spans.into_iter().zip(places) {
        assert_eq!(text(&[place.of_bytes(raw)]), whole[span]);
    }
}
