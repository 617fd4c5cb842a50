use super::*;
use crate::config;
use crate::guard::Guard;

fn chain(guard: &str) -> Arc<Chain> {
    let text = format!("{guard}\n[[endpoints]]\nname = \"a\"\nurl = \"http://h:1\"\n");
    let config = config::parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let guard = Guard::new(&config.guard, || 0).unwrap_or_else(|unfit| panic!("{unfit:?}"));
    Arc::clone(&guard.profile(Some(0)).unwrap().output)
}

fn ban(phrases: &str, action: &str) -> Arc<Chain> {
    chain(&format!(
        "[guard]\n[guard.output]\nscanners = [\"BanSubstrings\"]\n[guard.scanner.BanSubstrings]\nsubstrings = {phrases}\n\
         action = \"{action}\""
    ))
}

/// Sends each piece as an event `<piece>` of text 0; what has left after each, or where it was blocked.
fn run(chain: &Arc<Chain>, pieces: &[&str]) -> Result<Vec<String>, (usize, Blocked)> {
    let mut window = Window::new(Arc::clone(chain));
    let (mut out, mut left) = (Vec::new(), Vec::new());
    for (at, piece) in pieces.iter().enumerate() {
        let event = format!("<{piece}>");
        window.piece(0, Span::new(1, event.len() - 1)).map_err(|blocked| (at, blocked))?;
        window.read(piece.as_bytes()).map_err(|blocked| (at, blocked))?;
        window.event(event.as_bytes(), &mut out).map_err(|blocked| (at, blocked))?;
        left.push(String::from_utf8(out.clone()).unwrap());
    }
    window.finish(&mut out).map_err(|blocked| (pieces.len(), blocked))?;
    assert_eq!(window.held(), 0);
    left.push(String::from_utf8(out).unwrap());
    Ok(left)
}

#[test]
fn what_cannot_match_leaves_at_once() {
    let chain = ban("[\"secret plan\"]", "block");
    let left = run(&chain, &["Good ", "morning ", "all"]).unwrap();
    assert_eq!(left[0], "<Good >");
    assert_eq!(left[2], "<Good ><morning ><all>");
}

#[test]
fn what_may_become_a_match_waits() {
    let chain = ban("[\"secret plan\"]", "block");
    let left = run(&chain, &["our ", "sec", "ret ", "garden"]).unwrap();
    assert_eq!(
        left,
        ["<our >", "<our >", "<our >", "<our ><sec><ret ><garden>", "<our ><sec><ret ><garden>"]
    );
    let (at, blocked) = run(&chain, &["our ", "SEC", "ret p", "l", "an", " B"]).unwrap_err();
    assert_eq!(at, 4);
    assert!(matches!(blocked, Blocked::Found(findings) if findings.len() == 1));
}

#[test]
fn a_redaction_is_written_into_all_events_that_it_touches() {
    let chain = ban("[\"secret plan\", \"x\\\"y\"]", "redact");
    let left = run(&chain, &["our sec", "ret", " plan and x\\", "\"y."]);
    // An escape is not cut between events: each holds a whole JSON string.
    assert_eq!(
        left.unwrap().last().unwrap(),
        "<our [REDACTED]><>< and x\u{fffd}><\"y.>".replace('\u{fffd}', "\\").as_str()
    );
    let left = run(&chain, &["our sec", "ret", " plan and x", "\\\"y."]).unwrap();
    assert_eq!(left.last().unwrap(), "<our [REDACTED]><>< and [REDACTED]><.>");
}

#[test]
fn verdict_of_a_cut_stream_is_that_of_the_whole() {
    let guard = "[guard]\n[guard.output]\nscanners = [\"BanSubstrings\", \"MaliciousURLs\"]\n\
        [guard.scanner.BanSubstrings]\nsubstrings = [\"ab\", \"abcab\", \"größe\", \"漢字\"]\naction = \"redact\"\n\
        normalize = \"strict\"";
    let chain = chain(guard);
    let text = "x abcabcab Größe, GR\u{200b}ÖSSE? 漢字 a b c a b, see www.example.org/a_b and ab";
    let whole = run(&chain, &[text]).unwrap().pop().unwrap();
    assert!(whole.matches("[REDACTED]").count() >= 4, "{whole}");
    let plain = |text: &str| text.replace(['<', '>'], "");
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    for (first, _) in &chars[1..] {
        for (second, _) in chars.iter().filter(|(second, _)| second > first).step_by(5) {
            let left = run(&chain, &[&text[..*first], &text[*first..*second], &text[*second..]]).unwrap();
            assert_eq!(plain(left.last().unwrap()), plain(&whole), "{first} {second}");
        }
    }
}

#[test]
fn monitor_never_waits_and_notes() {
    let chain = ban("[\"secret plan\"]", "monitor");
    let mut window = Window::new(chain);
    let mut out = Vec::new();
    for piece in ["sec", "ret plan"] {
        window.piece(0, Span::new(0, piece.len())).unwrap();
        window.read(piece.as_bytes()).unwrap();
        window.event(piece.as_bytes(), &mut out).unwrap();
        assert_eq!(window.held(), 0);
    }
    window.finish(&mut out).unwrap();
    assert_eq!(out, b"secret plan");
    assert_eq!(window.tally().actions[ScannerName::BanSubstrings as usize], Some(Action::Monitor));
}

#[test]
fn running_texts_are_apart_and_events_keep_their_order() {
    let chain = ban("[\"secret\"]", "block");
    let mut window = Window::new(chain);
    let mut out = Vec::new();
    for (key, piece) in [(0, "sec"), (1, "ret"), (1, " fine"), (0, "ond")] {
        window.piece(key, Span::new(0, piece.len())).unwrap();
        window.read(piece.as_bytes()).unwrap();
        window.event(piece.as_bytes(), &mut out).unwrap();
        if key == 1 {
            assert_eq!(out, b"", "the first event still waits, and the later ones behind it");
        }
    }
    assert_eq!(out, b"secret fineond");
    window.finish(&mut out).unwrap();
}

#[test]
fn what_is_held_back_has_a_bound() {
    let chain = ban("[\"aaaaaaaaaaaaaaaaaaaa\"]", "block");
    let mut window = Window::new(chain);
    let mut out = Vec::new();
    window.piece(0, Span::new(0, 5)).unwrap();
    window.read(b"aaaaa").unwrap();
    window.event(b"aaaaa", &mut out).unwrap();
    let event = vec![b' '; HELD_BYTES_MAX / 3];
    let results: Vec<_> = (0..4).map(|_| window.event(&event, &mut out)).collect();
    assert!(results.contains(&Err(Blocked::Overflow)));
    let mut window = Window::new(ban("[\"a\"]", "block"));
    let results: Vec<_> = (0..=TEXTS_MAX as u32).map(|key| window.piece(key, Span::default())).collect();
    assert_eq!(results.last(), Some(&Err(Blocked::Overflow)));
}
