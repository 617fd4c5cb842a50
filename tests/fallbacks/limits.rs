//! When no other model is asked: what is the client's, what the guard has judged, what a key may not use.

use std::time::Duration;

use serde_json::json;

use super::scripted::{Ask, CHAT, config, good, post_with, refusal, text, value};
use super::support::Gateway;
use super::support::fleet::{chat, json as json_of, model, post};
use super::{ONCE, Stage, models};
use crate::scripted::Journal;

#[test]
fn what_the_client_got_wrong_stays_so() {
    for status in [400, 405, 413, 415, 422, 501] {
        let answer = move |ask: &Ask| match &*ask.model {
            "bad-a" => refusal(status, "", "your fault", Some("c")),
            _ => good(ask),
        };
        let stage = Stage::with(&format!("{ONCE}{}", models("bad-a > good-b, good-b")), answer);
        let answer = post(stage.gateway.addr, CHAT, &chat("bad-a", false));
        let asked = stage.journal.take();
        if status == 501 {
            continue; // an endpoint that cannot do it: another may
        }
        assert_eq!((answer.status, asked), (status, vec!["e/bad-a".to_owned()]));
        assert_eq!(json_of(&answer)["error"]["message"], "your fault");
        assert!(value(&stage.gateway, "corelane_fallbacks_total").abs() < 0.1);
    }
}

#[test]
fn the_clients_own_time_is_not_prolonged() {
    let answer = |ask: &Ask| {
        if ask.model == "bad-a" {
            std::thread::sleep(Duration::from_secs(2));
        }
        good(ask)
    };
    let stage = Stage::with(&format!("{ONCE}{}", models("bad-a > good-b, good-b")), answer);
    let body = chat("bad-a", false).replace("\"stream\"", "\"timeout\":0.2,\"stream\"");
    let answer = post(stage.gateway.addr, CHAT, &body);
    assert_eq!((answer.status, stage.journal.take()), (504, vec!["e/bad-a".to_owned()]));
    let answer = post_with(stage.gateway.addr, CHAT, "x-litellm-timeout: 0.2\r\n", &chat("bad-a", true));
    assert_eq!((answer.status, stage.journal.take()), (504, vec!["e/bad-a".to_owned()]));
}

#[test]
fn a_key_opens_no_more_by_a_fallback() {
    let keys = "[[keys]]\nname = \"k\"\nsecret = \"sk-fallback-test-1\"\nmodels = [\"bad-a\", \"good-c\"]\n\
                [[keys]]\nname = \"one\"\nsecret = \"sk-fallback-test-2\"\nmodels = [\"bad-a\"]\n";
    let rest = format!("{ONCE}{}{keys}", models("bad-a > good-b good-c, good-b, good-c"));
    let stage = Stage::set(&rest);
    let ask = |secret: &str| {
        let fields = format!("Authorization: Bearer {secret}\r\n");
        post_with(stage.gateway.addr, CHAT, &fields, &chat("bad-a", false))
    };
    let answer = ask("sk-fallback-test-1");
    assert_eq!((answer.status, answer.field("x-corelane-model")), (200, Some("good-c")));
    assert_eq!(stage.journal.take(), ["e/bad-a", "e/good-c"], "good-b is passed over");
    let answer = ask("sk-fallback-test-2");
    assert_eq!((answer.status, stage.journal.take()), (500, vec!["e/bad-a".to_owned()]));
}

/// Two profiles: `lax` reads nothing that matters here, `strict` bans a word.
const PROFILES: &str = "[guard]\n[guard.input]\nscanners = [\"BanSubstrings\"]\n[guard.output]\nscanners = []\n\
    [guard.scanner.BanSubstrings]\nsubstrings = [\"moonlight\"]\n\
    [guard.profiles.lax]\ninput.scanners = [\"BanSubstrings\"]\n\
    [guard.profiles.lax.scanner.BanSubstrings]\nsubstrings = [\"sunshine\"]\naction = \"redact\"\n\
    [guard.profiles.strict]\ninput.scanners = [\"BanSubstrings\"]\n\
    [guard.profiles.strict.scanner.BanSubstrings]\nsubstrings = [\"starlight\"]\n";

fn guarded() -> Stage {
    let rest = format!(
        "{ONCE}{}{}{}{PROFILES}",
        model("bad-a", &["e"], "guard = \"lax\"\nfallbacks = [\"good-b\", \"good-c\"]"),
        model("good-b", &["e"], "guard = \"strict\""),
        model("good-c", &["e"], "guard = \"lax\"")
    );
    Stage::set(&rest)
}

fn say(text: &str) -> String {
    chat("bad-a", false).replace("hi", text)
}

#[test]
fn what_a_guard_has_blocked_is_asked_of_nobody() {
    let rest = format!(
        "{ONCE}{}{}{PROFILES}",
        model("bad-a", &["e"], "guard = \"strict\"\nfallbacks = [\"good-b\"]"),
        model("good-b", &["e"], "guard = \"lax\"")
    );
    let stage = Stage::set(&rest);
    let answer = post(stage.gateway.addr, CHAT, &say("starlight"));
    assert_eq!((answer.status, stage.journal.len()), (400, 0));
    assert_eq!(json_of(&answer)["error"]["type"], "prompt_blocked");
}

#[test]
fn the_fallbacks_own_guard_reads_the_request() {
    let stage = guarded();
    assert_eq!(post(stage.gateway.addr, CHAT, &say("clouds")).status, 200);
    assert_eq!(stage.journal.take(), ["e/bad-a", "e/good-b"]);
    // The first model's profile lets it pass, the fallback's does not: nobody else is asked.
    let answer = post(stage.gateway.addr, CHAT, &say("by starlight"));
    assert_eq!((answer.status, stage.journal.take()), (400, vec!["e/bad-a".to_owned()]), "{}", text(&answer));
    assert_eq!(json_of(&answer)["error"]["code"], "content_filter");
}

#[test]
fn what_was_redacted_stays_under_its_guard() {
    let stage = guarded();
    let answer = post(stage.gateway.addr, CHAT, &say("in sunshine"));
    assert_eq!((answer.status, answer.field("x-corelane-model")), (200, Some("good-c")));
    let asks = stage.journal.take_asks();
    let of: Vec<&str> = asks.iter().map(|ask| &*ask.model).collect();
    assert_eq!(of, ["bad-a", "good-c"], "good-b is under another profile");
    for ask in &asks {
        assert!(!ask.body.to_string().contains("sunshine"), "{}", ask.body);
    }
}

/// What the answer holds is judged by the profile of the model that gave it.
#[test]
fn the_fallbacks_own_guard_reads_the_answer() {
    let rest = format!(
        "{ONCE}{}{}[guard]\n[guard.input]\nscanners = []\n[guard.output]\nscanners = []\n\
         [guard.profiles.strict]\noutput.scanners = [\"BanSubstrings\"]\n\
         [guard.profiles.strict.scanner.BanSubstrings]\nsubstrings = [\"from e\"]\n",
        model("bad-a", &["e"], "fallbacks = [\"good-b\"]"),
        model("good-b", &["e"], "guard = \"strict\"")
    );
    let stage = Stage::set(&rest);
    for stream in [false, true] {
        let answer = post(stage.gateway.addr, CHAT, &chat("bad-a", stream));
        assert_eq!(stage.journal.take(), ["e/bad-a", "e/good-b"]);
        assert!(text(&answer).contains("response_blocked"), "{}", text(&answer));
        assert!(!text(&answer).contains("from e"), "{}", text(&answer));
    }
}

#[test]
fn other_kinds_of_endpoints_are_passed_over() {
    let journal = Journal::default();
    let addr = journal.server("both", |ask| {
        if ask.model == "good-c" { good(ask) } else { refusal(500, "", "invented", None) }
    });
    let rest = format!(
        "{ONCE}{}{}{}",
        model("bad-a", &["ollama"], "fallbacks = [\"good-b\", \"good-c\"]"),
        model("good-b", &["e"], ""),
        model("good-c", &["ollama"], "")
    );
    let gateway = Gateway::start(&config(&[("e", addr), ("ollama", addr)], "shards = 1", &rest));
    let body = json!({"model": "bad-a", "messages": [{"role": "user", "content": "hi"}], "stream": false});
    let _ = post(gateway.addr, "/api/chat", &body.to_string());
    assert_eq!(journal.take(), ["both/bad-a", "both/good-c"], "an openai endpoint has no /api/chat");
}
