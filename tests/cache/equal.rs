//! What makes two requests equal, and what they may ask of the cache.

use serde_json::json;

use super::support::fleet::{Fleet, model, quick};
use super::{CHAT, Stand, ask, hi, with};

#[test]
fn every_dialect_is_given_again_byte_for_byte() {
    let rest = format!("[cache]\nstore = \"memory\"\n{}", model("*", &["e0"], ""));
    let fleet = Fleet::start(quick(1), "shards = 2", &rest).ready();
    let message = r#""messages":[{"role":"user","content":"one two three"}]"#;
    let mut asked = 0;
    for (path, body) in [
        (CHAT, format!(r#"{{"model":"llama3.2",{message}}}"#)),
        (CHAT, format!(r#"{{"model":"llama3.2",{message},"stream":true}}"#)),
        (
            CHAT,
            format!(
                r#"{{"model":"llama3.2",{message},"stream":true,"stream_options":{{"include_usage":true}}}}"#
            ),
        ),
        ("/v1/completions", r#"{"model":"llama3.2","prompt":"one two"}"#.into()),
        ("/v1/completions", r#"{"model":"llama3.2","prompt":"one two","stream":true}"#.into()),
        ("/v1/embeddings", r#"{"model":"nomic-embed-text","input":["a","b"]}"#.into()),
        ("/v1/embeddings", r#"{"model":"nomic-embed-text","input":"a","encoding_format":"base64"}"#.into()),
        ("/v1/messages", format!(r#"{{"model":"llama3.2","max_tokens":50,{message}}}"#)),
        ("/v1/messages", format!(r#"{{"model":"llama3.2","max_tokens":50,{message},"stream":true}}"#)),
        ("/api/chat", format!(r#"{{"model":"llama3.2",{message}}}"#)),
        ("/api/chat", format!(r#"{{"model":"llama3.2",{message},"stream":false}}"#)),
        ("/api/generate", r#"{"model":"llama3.2","prompt":"one"}"#.into()),
        ("/api/embed", r#"{"model":"nomic-embed-text","input":"one"}"#.into()),
        ("/api/embeddings", r#"{"model":"nomic-embed-text","prompt":"one"}"#.into()),
    ] {
        let first = ask(&fleet.gateway, path, "", &body);
        assert_eq!((first.status, first.field("x-corelane-cache")), (200, Some("miss")), "{path} {body}");
        asked += 1;
        let again = ask(&fleet.gateway, path, "", &body);
        assert_eq!((again.status, again.field("x-corelane-cache")), (200, Some("hit")), "{path} {body}");
        assert_eq!(again.body, first.body, "{path} {body}");
        assert_eq!(again.field("content-type"), first.field("content-type"));
        assert_eq!(again.field("transfer-encoding"), first.field("transfer-encoding"));
        assert_eq!(again.field("age"), Some("0"));
        let key = again.field("x-corelane-cache-key").unwrap();
        assert_eq!((key.len(), Some(key)), (64, again.field("x-litellm-cache-key")));
        assert_eq!(first.field("x-corelane-cache-key"), Some(key));
        assert_eq!(again.field("x-corelane-attempts"), Some("0"));
        assert_eq!(fleet.shares(), [asked], "{path} {body}");
    }
    // Where the endpoint keeps something, or is asked about itself, nothing is given again.
    for (path, body) in
        [("/v1/responses", r#"{"model":"llama3.2","input":"hi"}"#), ("/api/show", r#"{"model":"llama3.2"}"#)]
    {
        for _ in 0..2 {
            let answer = ask(&fleet.gateway, path, "", body);
            assert_eq!((answer.status, answer.field("x-corelane-cache")), (200, None), "{path}");
        }
    }
    fleet.assert_quiet();
}

#[test]
fn only_equal_requests_share() {
    let stand = Stand::new("", "");
    assert_eq!(stand.used("", &hi()), "miss");
    assert_eq!(stand.used("", &hi()), "hit");
    // The same said otherwise.
    let same = r#" { "timeout": 30, "messages" : [ {"content":"h\u0069" , "role":"user"} ], "model":"m" }"#;
    assert_eq!(ask(&stand.gateway, CHAT, "", same).field("x-corelane-cache"), Some("hit"));
    assert_eq!(stand.used("User-Agent: other\r\nX-Request-Id: 7\r\n", &hi()), "hit");
    // Something else.
    for other in [
        with(&hi(), "temperature", json!(0.5)),
        with(&hi(), "temperature", json!(0.25)),
        with(&hi(), "seed", json!(1)),
        with(&hi(), "user", json!("u")),
        with(&hi(), "model", json!("n")),
        with(&hi(), "tools", json!([])),
        with(&hi(), "messages", json!([{"role": "system", "content": "hi"}])),
        with(&hi(), "messages", json!([{"role": "user", "content": "hi "}])),
        with(&hi(), "cache", json!({"namespace": "a"})),
        with(&hi(), "cache", json!({"namespace": "b"})),
    ] {
        assert_eq!(stand.used("", &other), "miss", "{other}");
        assert_eq!(stand.used("", &other), "hit", "{other}");
    }
    assert_eq!(stand.used("Anthropic-Beta: x\r\n", &hi()), "miss");
    let completions = json!({"model": "m", "prompt": "hi"});
    assert_eq!(stand.post("/v1/completions", "", &completions).field("x-corelane-cache"), Some("miss"));
    assert_eq!(stand.asked(), 13);
}

#[test]
fn keys_share_only_what_they_may() {
    let key = |name: &str, more: &str| {
        format!("[[keys]]\nname = \"{name}\"\nsecret = \"secret-of-{name}\"\n{more}\n")
    };
    let group = "cache_group = \"team\"";
    let keys = [key("a", ""), key("b", ""), key("c", group), key("d", group)].concat();
    let stand = Stand::new("", &keys);
    let used =
        |stand: &Stand, name: &str| stand.used(&format!("Authorization: Bearer secret-of-{name}\r\n"), &hi());
    assert_eq!(used(&stand, "a"), "miss");
    assert_eq!(used(&stand, "a"), "hit");
    assert_eq!(used(&stand, "b"), "miss");
    assert_eq!(used(&stand, "c"), "miss");
    assert_eq!(used(&stand, "d"), "hit");
    assert_eq!(used(&stand, "b"), "hit");
    assert_eq!(stand.asked(), 3);
    let stand = Stand::new("shared = true", &keys);
    assert_eq!(["a", "b", "d"].map(|name| used(&stand, name)), ["miss", "hit", "hit"]);
}

#[test]
fn requests_say_what_they_want_of_it() {
    let stand = Stand::new("", "");
    let says = |cache| with(&hi(), "cache", cache);
    assert_eq!(stand.post(CHAT, "Cache-Control: only-if-cached\r\n", &hi()).status, 504);
    assert_eq!(stand.used("Cache-Control: no-store\r\n", &hi()), "miss");
    assert_eq!(stand.used("", &says(json!({"no-store": true}))), "miss");
    assert_eq!(stand.used("", &hi()), "miss", "nothing was stored");
    let old = stand.chat(&hi());
    assert_eq!(old.field("x-corelane-cache"), Some("hit"));
    assert_eq!(stand.used("Cache-Control: only-if-cached\r\n", &hi()), "hit");
    assert_eq!(stand.used("Cache-Control: no-store\r\n", &hi()), "hit", "it may be read");
    assert_eq!(stand.used("Cache-Control: no-cache\r\n", &hi()), "miss");
    let new = stand.chat(&hi());
    assert_eq!(new.field("x-corelane-cache"), Some("hit"));
    assert_ne!(new.body, old.body, "the new answer has taken the old one's place");
    assert_eq!(stand.used("", &says(json!({"no-cache": true}))), "miss");
    assert_eq!(stand.used("Cache-Control: max-age=0\r\n", &hi()), "miss");
    assert_eq!(stand.used("Cache-Control: max-age=3600\r\n", &hi()), "hit");
    assert_eq!(stand.used("", &says(json!({"s-maxage": 0}))), "miss");
    assert_eq!(stand.used("", &says(json!({"use-cache": false}))), "none");
    assert_eq!(stand.used("", &says(json!({"ttl": 1}))), "hit");
    for bad in [json!(1), json!({"ttl": "x"}), json!({"no-cache": 1}), json!({"shared": true})] {
        let answer = stand.chat(&says(bad.clone()));
        assert_eq!(answer.status, 400, "{bad}");
        assert!(String::from_utf8_lossy(&answer.body).contains("\"param\":\"cache\""), "{bad}");
    }
    let quiet = Stand::new("mode = \"default_off\"", "");
    assert_eq!([quiet.used("", &hi()), quiet.used("", &hi())], ["none", "none"]);
    let wants = with(&hi(), "cache", json!({"use-cache": true}));
    assert_eq!([quiet.used("", &wants), quiet.used("", &wants)], ["miss", "hit"]);
    let few = Stand::new(
        "tasks = [\"embeddings\"]",
        "[[models]]\nname = \"m\"\n[[models]]\nname = \"e\"\ncache = false",
    );
    assert_eq!([few.used("", &hi()), few.used("", &hi())], ["none", "none"]);
    let left_out = json!({"model": "e", "input": "x"});
    assert_eq!(few.post("/v1/embeddings", "", &left_out).field("x-corelane-cache"), None);
}
