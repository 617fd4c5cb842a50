use super::*;

/// What every fixture holds, except where its comment says otherwise.
const TEXT: &[u8] =
    b"{\"model\":\"llama3.1:8b\",\"messages\":[{\"role\":\"user\",\"content\":\"Say hello, hello, \
    hello to the whole world.\"}],\"stream\":true}";

/// `gzip -9 --no-name`
const GZIP: &[u8] = b"\
    \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03U\x8b1\x0a\xc3@\x0c\x04\xbfrl}\x18L\x9ap\xdfH\x19\x5c(\xb1\
    \xc8\x15:\x0b$\x19\x13\x8c\xff\x1e\xb5\x81\x85\x85\xd9\xd9\x13CW\x164\x88\xd0\xa0\xdb4\xb7\xfb\x0b\
    \x15\x83\xdd\xe9\xc3\x8e\xf6<a*\x9c\xc6\xeel9\xbdu\x0b\xde\x22\xc1\x83\xbe\xa5\xb3\x88\xd6\xbf*\
    \x91\xe9\x5c\x8e\x9e\xbfr\xa8\xc9:\xe1Z*<\x8ci\xa0\x85\xed|\xfd\x00\xact\xeb\x8dz\x00\x00\x00";

/// `gzip --name t`
const GZIP_NAMED: &[u8] = b"\
    \x1f\x8b\x08\x08\x00\xf1Se\x00\x03t\x00U\x8b1\x0a\xc3@\x0c\x04\xbfrl}\x18L\x9ap\xdfH\x19\x5c(\xb1\
    \xc8\x15:\x0b$\x19\x13\x8c\xff\x1e\xb5\x81\x85\x85\xd9\xd9\x13CW\x164\x88\xd0\xa0\xdb4\xb7\xfb\x0b\
    \x15\x83\xdd\xe9\xc3\x8e\xf6<a*\x9c\xc6\xeel9\xbdu\x0b\xde\x22\xc1\x83\xbe\xa5\xb3\x88\xd6\xbf*\
    \x91\xe9\x5c\x8e\x9e\xbfr\xa8\xc9:\xe1Z*<\x8ci\xa0\x85\xed|\xfd\x00\xact\xeb\x8dz\x00\x00\x00";

/// `gzip` of nothing.
const GZIP_EMPTY: &[u8] = b"\
    \x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";

/// Python's `zlib.compress`.
const ZLIB: &[u8] = b"\
    x\x9cU\x8b1\x0a\xc3@\x0c\x04\xbfrl}\x18L\x9ap\xdfH\x19\x5c(\xb1\xc8\x15:\x0b$\x19\x13\x8c\xff\x1e\
    \xb5\x81\x85\x85\xd9\xd9\x13CW\x164\x88\xd0\xa0\xdb4\xb7\xfb\x0b\x15\x83\xdd\xe9\xc3\x8e\xf6<a*\
    \x9c\xc6\xeel9\xbdu\x0b\xde\x22\xc1\x83\xbe\xa5\xb3\x88\xd6\xbf*\x91\xe9\x5c\x8e\x9e\xbfr\xa8\xc9:\
    \xe1Z*<\x8ci\xa0\x85\xed|\xfd\x00\x9fa)7";

/// `zstd t`: one segment that declares its size, with a checksum.
const ZSTD_FILE: &[u8] = b"\
    (\xb5/\xfd$z\x05\x03\x00\xd2\xc6\x15\x19\x809m\xfd\xa6V\xce\xedV(N\xec{\xa4\x98\x14\xa4\xc6\xd1\
    \x16H\x9b\x90\x02\x01\xcb\x11]3\xba\xeb&\x9b\xc2\xe2\xc2@\xcd\xa4\x8ey\x92\xfa\xd9\xca-\x93\x88?\
    \x95\xb8\x81\xcd{|\x8f<\xd8X\x9f\x10\x9b\x8f\xa9V\x08\xe6t\xc4\xa5tdc\x83\xc0\x00E\xe0\xd0!\xda\
    \x8c7\x12Y\x09\x01\x00\x87\x8e\x12\x05\x9en\x7f\xbb";

/// `zstd -19` from a pipe: no size, a window of 8 MiB.
const ZSTD_PIPE: &[u8] = b"\
    (\xb5/\xfd\x04h\xed\x02\x00r\x06\x14\x11\x90}\xd4\x1e\x1e\x04\xaa\x9b\xd9\xfeC\x85\x80\x99\xee^!\
    \xfb/\xb5\xc6\xa3zj\xab\x87\xb4]4H'\x9c\x0f\x83\x7f\x16\x84\x09\xe1?\x90\xd5q\xe3V\xbe\x95\x93yp\
    \xfa\xf5\xba\xf1\x87\x93\xbaF\xc6\xeb;U\xebG\x0f\xbe\x8a\x19\x82\xa8\xa8 t\xe3\xf0\xdb\x8c\xae\x03\
    \x03\x00)\x80\xd1\x01x\xe8(g\x9en\x7f\xbb";

/// `zstd --no-check` from a pipe.
const ZSTD_BARE: &[u8] = b"\
    (\xb5/\xfd\x00X\x05\x03\x00\xd2\xc6\x15\x19\x809m\xfd\xa6V\xce\xedV(N\xec{\xa4\x98\x14\xa4\xc6\xd1\
    \x16H\x9b\x90\x02\x01\xcb\x11]3\xba\xeb&\x9b\xc2\xe2\xc2@\xcd\xa4\x8ey\x92\xfa\xd9\xca-\x93\x88?\
    \x95\xb8\x81\xcd{|\x8f<\xd8X\x9f\x10\x9b\x8f\xa9V\x08\xe6t\xc4\xa5tdc\x83\xc0\x00E\xe0\xd0!\xda\
    \x8c7\x12Y\x09\x01\x00\x87\x8e\x12\x05";

/// `zstd` of nothing.
const ZSTD_EMPTY: &[u8] = b"(\xb5/\xfd$\x00\x01\x00\x00\x99\xe9\xd8Q";

/// `zstd` of 1 MiB of zeros.
const ZSTD_ZEROS: &[u8] = b"\
    (\xb5/\xfd\x04XT\x00\x00\x10\x00\x00\x01\x00\xfb\xff9\xc0\x02\x02\x00\x10\x00\x02\x00\x10\x00\x02\
    \x00\x10\x00\x02\x00\x10\x00\x02\x00\x10\x00\x02\x00\x10\x00\x03\x00\x10\x00\xf1>\x16\xe1";

const FIXTURES: [(&str, Coding, &[u8]); 6] = [
    ("GZIP", Coding::Gzip, GZIP),
    ("GZIP_NAMED", Coding::Gzip, GZIP_NAMED),
    ("ZLIB", Coding::Deflate, ZLIB),
    ("ZSTD_FILE", Coding::Zstd, ZSTD_FILE),
    ("ZSTD_PIPE", Coding::Zstd, ZSTD_PIPE),
    ("ZSTD_BARE", Coding::Zstd, ZSTD_BARE),
];

const MIB: usize = 1024 * 1024;

/// Decodes `body` that comes in pieces of `piece` bytes, in steps of `step_bytes`.
fn pieces(
    coding: Coding,
    body: &[u8],
    piece: usize,
    step_bytes: usize,
    bytes_max: usize,
) -> (Result<(), Broken>, Vec<u8>) {
    let (mut decoder, mut out) = (Decoder::new(coding, bytes_max), Vec::new());
    for part in body.chunks(piece) {
        let mut rest = part;
        loop {
            let before = out.len();
            let step = match decoder.step(rest, &mut out, step_bytes) {
                Ok(step) => step,
                Err(broken) => {
                    assert_eq!(decoder.step(b"x", &mut out, step_bytes), Err(broken), "it stays broken");
                    assert_eq!(decoder.finish(), Err(broken));
                    return (Err(broken), out);
                }
            };
            assert!(step.used <= step_bytes && out.len() - before <= step_bytes, "{step:?}");
            rest = &rest[step.used..];
            if !step.again {
                assert!(rest.is_empty(), "{step:?} leaves {}", rest.len());
                break;
            }
        }
    }
    (decoder.finish(), out)
}

fn whole(coding: Coding, body: &[u8]) -> Result<Vec<u8>, Broken> {
    let (verdict, out) = pieces(coding, body, usize::MAX, 64 * 1024, 16 * MIB);
    verdict.map(|()| out)
}

fn encoded(body: &[u8], piece: usize, step_bytes: usize) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    let mut parts = body.chunks(piece).peekable();
    loop {
        let (mut rest, last) = (parts.next().unwrap_or_default(), parts.peek().is_none());
        loop {
            let before = out.len();
            let step = encoder.step(rest, last, &mut out, step_bytes).unwrap();
            assert!(step.used <= step_bytes && out.len() - before <= step_bytes, "{step:?}");
            rest = &rest[step.used..];
            if !step.again {
                assert!(rest.is_empty() && step.done == last, "{step:?}");
                break;
            }
        }
        if last {
            return out;
        }
    }
}

/// Bytes of which no format makes much.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(byte).take(bytes).collect()
}

/// A zstd frame of blocks made by hand: window descriptor, then (kind, size, bytes).
fn frame(window: u8, blocks: &[(u32, usize, &[u8])]) -> Vec<u8> {
    let mut out = [&FRAME_MAGIC[..], &[0, window]].concat();
    for (at, (kind, size, bytes)) in blocks.iter().enumerate() {
        let last = u32::from(at + 1 == blocks.len());
        let head = last | (kind << 1) | (u32::try_from(*size).unwrap() << 3);
        out.extend_from_slice(&head.to_le_bytes()[..3]);
        out.extend_from_slice(bytes);
    }
    out
}

#[test]
fn what_tools_write_is_read_in_every_step() {
    for (name, coding, body) in FIXTURES {
        assert_eq!(whole(coding, body).as_deref(), Ok(TEXT), "{name}");
        for piece in [1, 2, 7, usize::MAX] {
            for step_bytes in [0, 1, 2, 13, 4096, usize::MAX] {
                let got = pieces(coding, body, piece, step_bytes.max(1), TEXT.len());
                assert_eq!(got, (Ok(()), TEXT.to_vec()), "{name}, {piece} a piece, steps of {step_bytes}");
            }
        }
    }
    assert_eq!(whole(Coding::Identity, TEXT).as_deref(), Ok(TEXT));
    assert_eq!(whole(Coding::Gzip, GZIP_EMPTY).as_deref(), Ok(&b""[..]));
    assert_eq!(whole(Coding::Zstd, ZSTD_EMPTY).as_deref(), Ok(&b""[..]));
    assert_eq!(whole(Coding::Zstd, ZSTD_ZEROS), Ok(vec![0; MIB]));
}

#[test]
fn a_step_of_nothing_moves_on() {
    let (mut decoder, mut out) = (Decoder::new(Coding::Gzip, 9), Vec::new());
    assert_eq!(decoder.step(GZIP, &mut out, 0), Ok(Step { used: 1, again: true, done: false }));
    assert_eq!(decoder.step(b"", &mut out, 0), Ok(Step { used: 0, again: false, done: false }));
}

#[test]
fn every_truncation_is_seen() {
    for (name, coding, body) in FIXTURES {
        for cut in 1..body.len() {
            for piece in [1, usize::MAX] {
                let (verdict, out) = pieces(coding, &body[..cut], piece, 4096, MIB);
                assert_eq!(verdict, Err(Broken::Truncated), "{name} cut at {cut}");
                assert!(TEXT.starts_with(&out), "{name} cut at {cut}");
            }
        }
    }
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
        assert_eq!(whole(coding, b""), Err(Broken::Malformed), "{coding:?} has no empty form");
    }
    assert_eq!(whole(Coding::Identity, b""), Ok(Vec::new()));
}

#[test]
fn no_flipped_bit_changes_the_text() {
    for (name, coding, body) in FIXTURES {
        let mut refused = 0;
        for at in 0..body.len() * 8 {
            let mut body = body.to_vec();
            body[at / 8] ^= 1 << (at % 8);
            match whole(coding, &body) {
                Ok(text) => assert!(name == "ZSTD_BARE" || text == TEXT, "{name}, bit {at}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > body.len() * 4, "{name}: {refused} refused");
    }
}

#[test]
fn checksums_and_lengths_are_checked() {
    for (name, coding, body, from_end) in [
        ("CRC-32", Coding::Gzip, GZIP, 8),
        ("length", Coding::Gzip, GZIP, 4),
        ("Adler-32", Coding::Deflate, ZLIB, 1),
        ("XXH64", Coding::Zstd, ZSTD_FILE, 1),
        ("XXH64 from a pipe", Coding::Zstd, ZSTD_PIPE, 4),
    ] {
        let mut body = body.to_vec();
        let at = body.len() - from_end;
        body[at] ^= 0x40;
        assert_eq!(whole(coding, &body), Err(Broken::Malformed), "{name}");
    }
    for declared in [121, 123] {
        let mut body = ZSTD_FILE.to_vec();
        assert_eq!(body[5], 122);
        body[5] = declared;
        assert_eq!(whole(Coding::Zstd, &body), Err(Broken::Malformed), "declares {declared}");
    }
}

#[test]
fn members_and_frames_are_read_to_the_end() {
    let twice = [TEXT, TEXT].concat();
    let skippable = b"\x5e\x2a\x4d\x18\x03\0\0\0abc";
    for (coding, body) in [
        (Coding::Gzip, [GZIP, GZIP_NAMED].concat()),
        (Coding::Gzip, [GZIP, GZIP_EMPTY, GZIP].concat()),
        (Coding::Zstd, [ZSTD_FILE, ZSTD_PIPE].concat()),
        (Coding::Zstd, [ZSTD_BARE, skippable, ZSTD_EMPTY, ZSTD_BARE].concat()),
        (Coding::Zstd, [skippable, ZSTD_BARE, b"\x50\x2a\x4d\x18\0\0\0\0", ZSTD_BARE].concat()),
    ] {
        for (piece, step_bytes) in [(1, 1), (5, 3), (usize::MAX, 1), (usize::MAX, MIB)] {
            assert_eq!(pieces(coding, &body, piece, step_bytes, twice.len()), (Ok(()), twice.clone()));
            let short = pieces(coding, &body, piece, step_bytes, twice.len() - 1);
            assert_eq!(short, (Err(Broken::TooLarge), twice[..twice.len() - 1].to_vec()));
        }
        assert_eq!(whole(coding, &body[..body.len() - 1]), Err(Broken::Truncated));
    }
}

#[test]
fn rubbish_behind_the_end_is_refused() {
    for (name, coding, body) in FIXTURES {
        for rubbish in [&b"x"[..], b"\0", b"\0\0\0\0", b"\r\n", b"\x1e", b"\x29\xb5", b"\x60\x2a\x4d\x18"] {
            for piece in [1, usize::MAX] {
                let body = [body, rubbish].concat();
                let (verdict, _) = pieces(coding, &body, piece, 4096, MIB);
                assert_eq!(verdict, Err(Broken::Malformed), "{name} and {rubbish:?}");
            }
        }
    }
    let deflate_twice = [ZLIB, ZLIB].concat();
    assert_eq!(whole(Coding::Deflate, &deflate_twice), Err(Broken::Malformed));
}

#[test]
fn what_is_no_such_coding_is_malformed() {
    let bare_deflate = &ZLIB[2..];
    for (coding, body) in [
        (Coding::Gzip, TEXT),
        (Coding::Gzip, ZLIB),
        (Coding::Gzip, ZSTD_FILE),
        (Coding::Deflate, GZIP),
        (Coding::Deflate, bare_deflate),
        (Coding::Zstd, GZIP),
        (Coding::Zstd, TEXT),
        (Coding::Gzip, b"\x1f\x8b\x07\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0"), // another method
        (Coding::Zstd, b"\x28\xb5\x2f\xfd\x08\x58\x01\0\0"),                   // the reserved bit
        (Coding::Zstd, b"\x28\xb5\x2f\xfd\x01\x58\x07\x01\0\0"),               // a dictionary
    ] {
        assert_eq!(whole(coding, body), Err(Broken::Malformed), "{coding:?} of {}", body.escape_ascii());
    }
}

#[test]
fn blocks_keep_to_their_kinds_and_sizes() {
    let (raw, rle, compressed, reserved) = (0, 1, 2, 3);
    let window_1_kib = 0;
    assert_eq!(whole(Coding::Zstd, &frame(window_1_kib, &[(raw, 3, b"abc")])).as_deref(), Ok(&b"abc"[..]));
    assert_eq!(whole(Coding::Zstd, &frame(window_1_kib, &[(rle, 1024, b"a")])), Ok(vec![b'a'; 1024]));
    let large = frame(0x58, &[(rle, BLOCK_BYTES_MAX, b"a"), (raw, 0, b"")]);
    assert_eq!(whole(Coding::Zstd, &large), Ok(vec![b'a'; BLOCK_BYTES_MAX]));
    for block in [
        (reserved, 1, &b"a"[..]),
        (compressed, 0, b""),
        (compressed, 2, b"\0\0\0"),
        (rle, 1025, b"a"), // more than the window
    ] {
        let body = frame(window_1_kib, &[block]);
        assert_eq!(whole(Coding::Zstd, &body), Err(Broken::Malformed), "{block:?}");
    }
    // Literals of one repeated byte, and no sequences: 128 KiB are a block, a byte more is not.
    let repeated = |bytes: u32| {
        let head = (bytes << 4) | 0b1101;
        let block = [&head.to_le_bytes()[..3], b"a\0"].concat();
        whole(Coding::Zstd, &frame(0x58, &[(compressed, block.len(), &block)]))
    };
    assert_eq!(repeated(131_072), Ok(vec![b'a'; BLOCK_BYTES_MAX]));
    assert_eq!(repeated(131_073), Err(Broken::Malformed));
    assert_eq!(repeated(1_048_575), Err(Broken::Malformed));
    let over = frame(0x58, &[(rle, BLOCK_BYTES_MAX + 1, b"a")]);
    assert_eq!(whole(Coding::Zstd, &over), Err(Broken::Malformed));
}

#[test]
fn windows_above_eight_mib_are_refused() {
    for (window, verdict) in [
        (0x68, Ok(b"abc".to_vec())), // 8 MiB
        (0x69, Err(Broken::TooLarge)),
        (0x70, Err(Broken::TooLarge)),
        (0xff, Err(Broken::TooLarge)),
    ] {
        assert_eq!(whole(Coding::Zstd, &frame(window, &[(0, 3, b"abc")])), verdict, "{window:x}");
    }
    // A segment that declares 12 MiB needs a window as large; one that declares 2^63 is refused by `bytes_max`.
    for head in [&b"\x28\xb5\x2f\xfd\xa0\0\0\xc0\0"[..], b"\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\0\0\x80"] {
        assert_eq!(whole(Coding::Zstd, head), Err(Broken::TooLarge));
    }
}

#[test]
fn the_bound_is_exact() {
    for (name, coding, body) in FIXTURES.into_iter().chain([("TEXT", Coding::Identity, TEXT)]) {
        for (piece, step_bytes) in [(1, 1), (1, MIB), (usize::MAX, 1), (usize::MAX, MIB)] {
            for bytes_max in [0, 1, 60, TEXT.len() - 1] {
                let (verdict, out) = pieces(coding, body, piece, step_bytes, bytes_max);
                assert_eq!(verdict, Err(Broken::TooLarge), "{name} in {bytes_max}");
                assert!(out.len() <= bytes_max && TEXT.starts_with(&out), "{name} in {bytes_max}");
            }
            assert_eq!(pieces(coding, body, piece, step_bytes, TEXT.len()).0, Ok(()), "{name}");
        }
    }
    assert_eq!(pieces(Coding::Gzip, GZIP_EMPTY, 1, 1, 0), (Ok(()), Vec::new()));
    assert_eq!(pieces(Coding::Zstd, ZSTD_EMPTY, 1, 1, 0), (Ok(()), Vec::new()));
}

/// Feeds what `next` makes until it is refused; the bytes that were fed.
fn refused_after(coding: Coding, bytes_max: usize, mut next: impl FnMut() -> Vec<u8>) -> usize {
    let (mut decoder, mut out, mut fed) = (Decoder::new(coding, bytes_max), Vec::new(), 0);
    loop {
        let part = next();
        assert!(!part.is_empty(), "the bomb went off: {} bytes", out.len());
        fed += part.len();
        let mut rest = &part[..];
        loop {
            match decoder.step(rest, &mut out, 64 * 1024) {
                Ok(step) => rest = &rest[step.used..],
                Err(broken) => {
                    assert_eq!(broken, Broken::TooLarge);
                    assert!(out.len() <= bytes_max && out.capacity() <= 2 * bytes_max + 128 * 1024);
                    return fed;
                }
            }
            if rest.is_empty() {
                break;
            }
        }
    }
}

/// 10 GB of zeros, 1 MiB a call, ended by an empty piece.
fn ten_gigabytes(mut encode: impl FnMut(&[u8]) -> Vec<u8>) -> impl FnMut() -> Vec<u8> {
    let (zeros, mut left) = (vec![0; MIB], 10_000);
    move || {
        loop {
            if left == 0 {
                return Vec::new();
            }
            left -= 1;
            let part = encode(&zeros);
            if !part.is_empty() {
                return part;
            }
        }
    }
}

#[test]
fn bombs_are_refused_at_the_bound() {
    let mut encoder = Encoder::default();
    let member = ten_gigabytes(|zeros| {
        let (mut out, mut rest) = (Vec::new(), zeros);
        while !rest.is_empty() {
            let step = encoder.step(rest, false, &mut out, MIB).unwrap();
            rest = &rest[step.used..];
        }
        out
    });
    assert!(refused_after(Coding::Gzip, 32 * MIB, member) < MIB);
    let members = ten_gigabytes(|zeros| encoded(zeros, MIB, MIB));
    assert!(refused_after(Coding::Gzip, 32 * MIB, members) < MIB);
    let frames = ten_gigabytes(|_| ZSTD_ZEROS.to_vec());
    assert_eq!(refused_after(Coding::Zstd, 32 * MIB, frames), 33 * ZSTD_ZEROS.len());
    // One frame of RLE blocks, whose window of 8 MiB is full before anything is handed out.
    let mut head = Some([&FRAME_MAGIC[..], &[0, 0x68]].concat());
    let blocks = ten_gigabytes(|_| head.take().unwrap_or_else(|| b"\x02\0\x10\0".repeat(8)));
    assert!(refused_after(Coding::Zstd, 32 * MIB, blocks) < (32 + 8 + 2) * 8 * 4);
}

#[test]
fn a_step_does_one_block_and_one_member() {
    let (mut decoder, mut out) = (Decoder::new(Coding::Zstd, MIB), Vec::new());
    let body = frame(0, &[(0, 0, b""), (0, 0, b""), (0, 3, b"abc")]);
    let (mut rest, mut steps) = (&body[..], Vec::new());
    while !rest.is_empty() {
        let step = decoder.step(rest, &mut out, MIB).unwrap();
        rest = &rest[step.used..];
        steps.push(step.used);
    }
    assert_eq!((steps, out.as_slice()), (vec![6, 3, 3, 6], &b"abc"[..]));
    let (mut decoder, members) = (Decoder::new(Coding::Gzip, MIB), GZIP_EMPTY.repeat(3));
    let step = decoder.step(&members, &mut out, MIB);
    assert_eq!(step, Ok(Step { used: GZIP_EMPTY.len(), again: true, done: true }));
    assert_eq!(decoder.finish(), Err(Broken::Truncated), "a step was asked for");
}

#[test]
fn what_is_encoded_comes_back_in_every_step() {
    for body in [Vec::new(), b"a".to_vec(), TEXT.to_vec(), TEXT.repeat(700), noise(100_000), vec![0; 300_000]]
    {
        let mut all = b"kept".to_vec();
        assert!(gzip(&body, &mut all));
        assert_eq!(&all[..4], b"kept");
        assert_eq!(whole(Coding::Gzip, &all[4..]).as_ref(), Ok(&body));
        for (piece, step_bytes) in [(1, 1), (1000, 7), (usize::MAX, 61), (70_000, 65_536), (5, usize::MAX)] {
            let all = encoded(&body, piece, step_bytes);
            assert_eq!(
                whole(Coding::Gzip, &all).as_ref(),
                Ok(&body),
                "{piece} a piece, steps of {step_bytes}"
            );
            assert!(all.len() <= body.len() + body.len() / 500 + 64, "{} of {}", all.len(), body.len());
        }
    }
    let mut small = Vec::new();
    assert!(gzip(&TEXT.repeat(30), &mut small) && small.len() < 250, "{} bytes", small.len());
}

#[test]
fn an_encoder_is_used_again() {
    let (mut encoder, mut first, mut second) = (Encoder::default(), Vec::new(), Vec::new());
    encoder.step(&noise(5000), false, &mut Vec::new(), MIB).unwrap(); // a body that was given up
    for out in [&mut first, &mut second] {
        encoder.reset();
        let step = encoder.step(TEXT, true, out, MIB);
        assert_eq!(step, Ok(Step { used: TEXT.len(), again: false, done: true }));
        assert_eq!(encoder.step(b"", true, out, MIB), Ok(Step { used: 0, again: false, done: true }));
        assert_eq!(encoder.step(b"more", true, out, MIB), Err(Broken::Malformed));
    }
    assert_eq!(whole(Coding::Gzip, &first).as_deref(), Ok(TEXT));
    assert_eq!(first, second);
}

#[test]
fn one_coding_is_read() {
    for (value, coding) in [
        ("gzip", Some(Coding::Gzip)),
        ("GZip", Some(Coding::Gzip)),
        (" x-gzip\t", Some(Coding::Gzip)),
        ("ZSTD", Some(Coding::Zstd)),
        ("deflate", Some(Coding::Deflate)),
        ("identity", Some(Coding::Identity)),
        ("", Some(Coding::Identity)),
        ("br", None),
        ("gzip, zstd", None),
        ("identity, gzip", None),
        ("gzip,", None),
        ("gzip;q=1", None),
        ("g zip", None),
        ("*", None),
        ("compress", None),
    ] {
        assert_eq!(Coding::read(value.as_bytes()), coding, "{value:?}");
    }
}

#[test]
fn gzip_is_accepted_as_weighed() {
    for (value, accepted) in [
        ("gzip", true),
        ("GZIP", true),
        ("x-gzip", true),
        ("gzip, deflate, br, zstd", true),
        ("deflate,gzip;q=0.5", true),
        ("br;q=1.0, gzip;q=0.001, *;q=0", true),
        ("gzip ; Q=1.000", true),
        ("*", true),
        ("*;q=0.1", true),
        ("identity, *", true),
        (",, gzip ,", true),
        ("", false),
        ("identity", false),
        ("br", false),
        ("gzip;q=0", false),
        ("gzip;q=0.000", false),
        ("gzip;q=0, *", false),
        ("*, gzip;q=0.0", false),
        ("gzip, x-gzip;q=0", false),
        ("*;q=0", false),
        ("identity;q=1, *;q=0", false),
        ("gzip;q=", false),
        ("gzip;q=0.", false),
        ("gzip;q=0.0001", false),
        ("gzip;q=1.001", false),
        ("gzip;q=2", false),
        ("gzip;q=-1", false),
        ("gzip;q=0.x", false),
        ("gzip;q=0x1", false),
        ("gzip;level=9", false),
        ("gzipped", false),
        ("\"gzip\"", false),
    ] {
        assert_eq!(accepts_gzip(value.as_bytes()), accepted, "{value:?}");
    }
}
