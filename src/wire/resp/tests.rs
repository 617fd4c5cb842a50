use super::*;

/// All replies of `bytes`, given in the parts that `cuts` make.
fn read(version: Version, bytes: &[u8], cuts: &[usize]) -> Result<(Vec<Reply>, usize), Broken> {
    let mut scanner = Scanner::new(version, Limits::default());
    let (mut replies, mut at) = (Vec::new(), 0);
    for &end in cuts.iter().chain([&bytes.len()]) {
        while let Some(length) = scanner.scan(&bytes[at..end])? {
            replies.push(version.decode(&Bytes::copy_from_slice(&bytes[at..at + length]))?);
            at += length;
        }
    }
    Ok((replies, at))
}

fn one(text: &str) -> Result<Reply, Broken> {
    let (mut replies, end) = read(Version::Resp3, text.as_bytes(), &[])?;
    assert_eq!((replies.len(), end), (1, text.len()), "{text:?}");
    Ok(replies.remove(0))
}

fn bytes(text: &str) -> Reply {
    Reply::Bytes(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn every_kind_of_reply_is_read() {
    for (text, reply) in [
        ("+OK\r\n", Reply::Text("OK".to_owned())),
        ("-ERR no\r\n", Reply::Error("ERR no".to_owned())),
        ("!6\r\nERR\r\nx\r\n", Reply::Error("ERR\r\nx".to_owned())),
        (":-7\r\n", Reply::Int(-7)),
        ("$0\r\n\r\n", bytes("")),
        ("$4\r\na\r\nb\r\n", bytes("a\r\nb")),
        ("=7\r\ntxt:abc\r\n", bytes("abc")),
        ("_\r\n", Reply::Nil),
        ("#t\r\n", Reply::Bool(true)),
        (",1.5\r\n", Reply::Double(1.5)),
        (",-inf\r\n", Reply::Double(f64::NEG_INFINITY)),
        ("(12345678901234567890\r\n", Reply::Text("12345678901234567890".to_owned())),
        ("*0\r\n", Reply::Array(Vec::new())),
        ("*2\r\n*1\r\n:1\r\n$1\r\nx\r\n", Reply::Array(vec![Reply::Array(vec![Reply::Int(1)]), bytes("x")])),
        ("~1\r\n+a\r\n", Reply::Array(vec![Reply::Text("a".to_owned())])),
        ("%1\r\n$1\r\nk\r\n*1\r\n_\r\n", Reply::Map(vec![(bytes("k"), Reply::Array(vec![Reply::Nil]))])),
    ] {
        assert_eq!(one(text), Ok(reply), "{text:?}");
    }
    let old = b"$-1\r\n*-1\r\n*2\r\n$-1\r\n:1\r\n+OK\r\n-E\r\n";
    let (replies, _) = read(Version::Resp2, old, &[]).unwrap();
    let inside = Reply::Array(vec![Reply::Nil, Reply::Int(1)]);
    let last = [Reply::Text("OK".to_owned()), Reply::Error("E".to_owned())];
    assert_eq!(replies[..3], [Reply::Nil, Reply::Nil, inside]);
    assert_eq!(replies[3..], last);
    assert_eq!(one("-MOVED 1 \u{e9}:1\r\n").unwrap().error_code(), Some("MOVED"));
    assert_eq!((one("$2\r\n42\r\n").unwrap().as_int(), one("+OK\r\n").unwrap().is_ok()), (Some(42), true));
}

#[test]
fn what_is_no_reply_is_refused() {
    let many = format!("*2\r\n{}", "*40000\r\n".repeat(2));
    let deep = "*1\r\n".repeat(17);
    for (text, broken) in [
        ("?", Broken::Kind),
        ("H", Broken::Kind),
        (";1\r\nx\r\n", Broken::Kind),
        ("|1\r\n", Broken::Kind),
        (">1\r\n", Broken::Push),
        ("$\r\n", Broken::Length),
        ("$-1\r\n", Broken::Length),
        ("$?\r\n", Broken::Length),
        ("*?\r\n", Broken::Length),
        ("*+1\r\n", Broken::Length),
        ("$99999999999\r\n", Broken::Length),
        ("=3\r\ntxt\r\n", Broken::Length),
        ("=5\r\nhtm:a\r\n", Broken::Value),
        ("$67108865\r\n", Broken::Long),
        ("$1\r\nabc", Broken::End),
        ("+a\rb\r\n", Broken::Line),
        (":x\r\n", Broken::Value),
        (":99999999999999999999\r\n", Broken::Value),
        ("#x\r\n", Broken::Value),
        ("_x\r\n", Broken::Value),
        ("*65536\r\n", Broken::Many),
        ("%40000\r\n", Broken::Many),
        (&many, Broken::Many),
        (&deep, Broken::Deep),
    ] {
        assert_eq!(read(Version::Resp3, text.as_bytes(), &[]), Err(broken), "{text:?}");
    }
    let long = vec![b'x'; 70_000];
    assert_eq!(read(Version::Resp3, &[b"+", long.as_slice()].concat(), &[]), Err(Broken::Line));
    assert_eq!(read(Version::Resp2, b"_\r\n", &[]), Err(Broken::Kind));
    let two = "*2\r\n$60000000\r\n";
    let bulk = [two.as_bytes(), &vec![0; 60_000_000], b"\r\n$60000000\r\n"].concat();
    assert_eq!(read(Version::Resp3, &bulk, &[]), Err(Broken::Long));
}

#[test]
fn cuts_change_nothing() {
    let text =
        b"+OK\r\n*3\r\n$5\r\na\r\nbc\r\n%1\r\n+k\r\n=6\r\ntxt:ab\r\n_\r\n-ERR x\r\n$0\r\n\r\n#f\r\n:1\r\n";
    let whole = read(Version::Resp3, text, &[]).unwrap();
    assert_eq!((whole.0.len(), whole.1), (6, text.len()));
    for first in 0..text.len() {
        for second in first..text.len() {
            assert_eq!(read(Version::Resp3, text, &[first, second]).as_ref(), Ok(&whole), "{first} {second}");
        }
    }
    let single: Vec<usize> = (0..text.len()).collect();
    assert_eq!(read(Version::Resp3, text, &single), Ok(whole));
}

/// Mutations of good replies: never a panic, and the same at every cut.
#[test]
fn no_bytes_make_it_panic() {
    let seeds: [&[u8]; 4] = [
        b"*2\r\n$3\r\nfoo\r\n:12\r\n",
        b"%1\r\n+a\r\n~2\r\n,1.5\r\n#t\r\n",
        b"$10\r\n0123456789\r\n",
        b"*-1\r\n$-1\r\n=5\r\ntxt:a\r\n_\r\n(1\r\n!1\r\nE\r\n",
    ];
    let letters = b"+-:$*_#,(!=%~>|;.?0123456789\r\n\0\xffat";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 8) as usize % below.max(1)
    };
    for round in 0..60_000 {
        let mut input = seeds[round % 4].to_vec();
        for _ in 0..=random(4) {
            let at = random(input.len());
            match random(3) {
                0 => input[at] = letters[random(letters.len())],
                1 => input.insert(at, letters[random(letters.len())]),
                _ => drop(input.remove(at)),
            }
        }
        for version in [Version::Resp2, Version::Resp3] {
            let whole = read(version, &input, &[]);
            let cut = random(input.len());
            assert_eq!(read(version, &input, &[cut]), whole, "{:?}", input.escape_ascii().to_string());
        }
    }
}

#[test]
fn commands_are_written_as_arrays() {
    let command = Command::new("SET").key("k{a}").arg([0, 255]).number(-12);
    let mut out = Vec::new();
    command.encode(&mut out);
    assert_eq!(out, b"*4\r\n$3\r\nSET\r\n$4\r\nk{a}\r\n$2\r\n\0\xff\r\n$3\r\n-12\r\n");
    assert_eq!(command.bytes(), out.len());
    let long = (0..150).fold(Command::new("DEL"), |command, _| command.arg("x".repeat(1000)));
    let mut out = Vec::new();
    long.encode(&mut out);
    assert!(out.starts_with(b"*151\r\n$3\r\nDEL\r\n$1000\r\nx"));
    assert_eq!(long.bytes(), out.len());
}

#[test]
fn slots_are_those_of_the_specification() {
    let slot = |key: &str| Command::new("GET").key(key).slot();
    assert_eq!(slot("123456789"), Some(0x31c3));
    assert_eq!(slot("foo{123456789}bar"), Some(0x31c3));
    assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
    assert_eq!(slot("foo{}{bar}"), Some(8363), "as CLUSTER KEYSLOT says");
    assert_eq!(slot("foo{{bar}}zap"), slot("{bar"));
    assert_eq!((slot(""), slot("{"), slot("}{")), (Some(0), slot("{"), slot("}{")));
    assert_eq!(Command::new("PING").slot(), None);
    assert_eq!(Command::new("EVAL").arg("s").number(1).key("a").key("b").slot(), slot("a"));
}
