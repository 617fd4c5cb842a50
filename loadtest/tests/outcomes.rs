//! Promise: what goes wrong is told apart, each by its own name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test code

mod support;

use std::net::TcpListener;

use corelane_load::outcome::Outcome;
use support::{Heard, Reply, Then, chunked, events, plain, right, run, serve, whole};

/// Kind, path, and what requests to it become.
const CASES: [(&str, &str, Outcome); 21] = [
    ("chat", "/right", Outcome::Ok),
    ("stream", "/right", Outcome::Ok),
    ("chat", "/until-close", Outcome::Ok),
    ("chat", "/shed", Outcome::Shed),
    ("chat", "/status", Outcome::BadStatus),
    ("chat", "/reset", Outcome::Reset),
    ("chat", "/close", Outcome::Reset),
    ("chat", "/cut-head", Outcome::Cut),
    ("chat", "/cut-body", Outcome::Cut),
    ("stream", "/cut-stream", Outcome::Cut),
    ("stream", "/reset-stream", Outcome::Cut),
    ("stream", "/no-done", Outcome::Cut),
    ("stream", "/error-event", Outcome::ErrorEvent),
    ("chat", "/hang", Outcome::Timeout),
    ("stream", "/hang-stream", Outcome::Timeout),
    ("chat", "/no-http", Outcome::Malformed),
    ("chat", "/no-json", Outcome::Malformed),
    ("stream", "/garbage", Outcome::Malformed),
    ("chat", "/another", Outcome::Wrong),
    ("stream", "/skips", Outcome::Wrong),
    ("embeddings", "/vector", Outcome::Wrong),
];

fn answer(heard: &Heard) -> Reply {
    let body = &heard.body;
    let close = |bytes: &str| Reply::new(bytes, Then::Close);
    match heard.path.as_str() {
        "/until-close" => {
            let text = whole(body);
            close(&format!("HTTP/1.0 200 OK\r\n\r\n{}", text.split_once("\r\n\r\n").unwrap().1))
        }
        "/shed" => Reply::new(plain(429, "{}"), Then::Keep),
        "/status" => Reply::new(plain(500, "{}"), Then::Keep),
        "/reset" => Reply::new("", Then::Reset),
        "/close" => close(""),
        "/cut-head" => close("HTTP/1.1 200 OK\r\nContent-Le"),
        "/cut-body" => close(&whole(body)[..90]),
        "/cut-stream" => close(&chunked(&events(body)[..4], false)),
        "/reset-stream" => Reply::new(chunked(&events(body)[..4], false), Then::Reset),
        "/no-done" => Reply::new(chunked(&events(body)[..4], true), Then::Keep),
        "/error-event" => {
            let mut events = events(body);
            events.truncate(3);
            events.push("data: {\"error\":{\"message\":\"upstream died\"}}\n\n".to_owned());
            close(&chunked(&events, true))
        }
        "/hang" => Reply::new("", Then::Hang),
        "/hang-stream" => Reply::new(chunked(&events(body)[..4], false), Then::Hang),
        "/no-http" => close("lorem ipsum\r\n\r\n"),
        "/no-json" => Reply::new(plain(200, "<html>"), Then::Keep),
        "/garbage" => {
            let mut events = events(body);
            events[2] = "data: {\"choices\":[{\n\n".to_owned();
            Reply::new(chunked(&events, true), Then::Keep)
        }
        "/another" => {
            let mut body = body.clone();
            body["messages"][0]["content"] = "qffff somebody else's words".into();
            Reply::new(whole(&body), Then::Keep)
        }
        "/skips" => {
            let mut events = events(body);
            events.remove(3);
            Reply::new(chunked(&events, true), Then::Keep)
        }
        "/vector" => Reply::new(plain(200, r#"{"data":[{"embedding":[0.5,0.5,0.5,0.5]}]}"#), Then::Keep),
        _ => right(heard),
    }
}

#[test]
fn every_failure_has_its_name() {
    let mut text =
        "about = ''\n[load]\nmode = 'open'\narrivals = 'constant'\nphases = [{ time = '2s', rate = 300 }]\n\
                    connections = 600\ntimeout = '3s'\n"
            .to_owned();
    for (kind, path, _) in CASES {
        text += &format!(
            "[[work]]\nname = '{kind} {path}'\nkind = '{kind}'\nmodel = 'm'\npath = '{path}'\nwords = {{ law = 'constant', value = 6 }}\nanswer_tokens = 10\n"
        );
    }
    text += "[sla]\nshed = [429]\n";
    let (_, run) = run(&text, serve(answer), 1);
    for ((kind, path, outcome), measured) in CASES.iter().zip(&run.measures.works) {
        let all: u64 = measured.outcomes.iter().sum();
        let named = measured.outcomes[*outcome as usize];
        assert!(all > 5, "{kind} {path}: {all} requests");
        assert_eq!(named, all, "{kind} {path}: {outcome:?} expected, found {:?}", measured.outcomes);
    }
    assert_eq!(run.measures.count_if(|_| true), 600, "each request has one outcome");
    let statuses: Vec<u16> = run.measures.statuses.iter().map(|status| status.status).collect();
    assert!([200, 429, 500].iter().all(|status| statuses.contains(status)), "{statuses:?}");
}

#[test]
fn nobody_listens() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // closed again at once
    let text = "about = ''\n[load]\nmode = 'open'\nphases = [{ time = '1s', rate = 50 }]\n[[work]]\nname = 'a'\nkind = 'chat'\nmodel = 'm'\n";
    let (_, run) = run(text, addr, 1);
    assert_eq!(run.measures.count(Outcome::Connect), run.measures.count_if(|_| true));
    assert!(run.measures.count(Outcome::Connect) > 20);
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced() {
    // The server closes each connection behind its second answer, without saying so.
    let addr =
        serve(|heard| Reply { then: if heard.turn == 1 { Then::Close } else { Then::Keep }, ..right(heard) });
    let text = "about = ''\n[load]\nmode = 'closed'\ntime = '1s'\nconnections = 4\nthink = '5ms'\n\
                [[work]]\nname = 'a'\nkind = 'chat'\nmodel = 'm'\nanswer_tokens = 5\n";
    let (_, run) = run(text, addr, 2);
    let all = run.measures.count_if(|_| true);
    assert!(all > 100, "{all}");
    assert_eq!(run.measures.count(Outcome::Ok), all, "{:?}", run.measures.works[0].outcomes);
    assert!(run.measures.resent > all / 4, "{} of {all} sent again", run.measures.resent);
}
