//! Prompts that are too long for a model, in the words of the servers that people run.

use serde_json::{Value, json};

use super::scripted::{Ask, CHAT, good, refusal_of, text, value};
use super::support::fleet::{chat, json as json_of, model, post};
use super::support::upstream::Reply;
use super::{ONCE, Stage};

/// Status and body of a server that cannot take the prompt.
fn words() -> Vec<(&'static str, u16, Value)> {
    let openai =
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.";
    let vllm = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the messages, 100 in the completion). Please reduce the length of the messages or completion.";
    let decoder = "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller than the number of text tokens.";
    let llama = "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it";
    let llama_before = "the request exceeds the available context size. try increasing the context size or enable context shift";
    let error = |message: &str, kind: &str, code: Value| json!({"error": {"message": message, "type": kind, "code": code}});
    vec![
        ("a code alone", 400, error("Too much.", "invalid_request_error", json!("context_length_exceeded"))),
        ("OpenAI", 400, error(openai, "invalid_request_error", json!("context_length_exceeded"))),
        ("vLLM", 400, error(vllm, "BadRequestError", json!(400))),
        (
            "vLLM, flat",
            400,
            json!({"object": "error", "message": vllm, "type": "BadRequestError", "code": 400}),
        ),
        ("vLLM, decoder", 400, error(decoder, "BadRequestError", json!(400))),
        ("llama.cpp", 400, error(llama, "exceed_context_size_error", json!(400))),
        ("llama.cpp, before", 500, error(llama_before, "server_error", json!(500))),
        (
            "Anthropic",
            400,
            error("prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error", Value::Null),
        ),
    ]
}

fn stage(status: u16, body: Value, fallbacks: &str) -> Stage {
    let small = move |ask: &Ask| -> Reply {
        if ask.model == "small" { refusal_of(status, "", &body) } else { good(ask) }
    };
    let rest = format!(
        "{ONCE}{}{}{}",
        model("small", &["e"], fallbacks),
        model("large", &["e"], ""),
        model("other", &["e"], "")
    );
    Stage::with(&rest, small)
}

#[test]
fn a_longer_model_is_asked() {
    assert_longer(words());
}

#[test]
fn a_longer_model_is_asked_in_ollamas_words() {
    let body = || json!({"error": "the input length exceeds the context length"});
    assert_longer(vec![("Ollama", 400, body()), ("Ollama, before", 500, body())]);
}

fn assert_longer(words: Vec<(&'static str, u16, Value)>) {
    let mut wrong = Vec::new();
    for (whose, status, body) in words {
        let both = "fallbacks = [\"other\"]\ncontext_window_fallbacks = [\"large\"]";
        let stage = stage(status, body, both);
        for stream in [false, true] {
            let answer = post(stage.gateway.addr, CHAT, &chat("small", stream));
            let (asked, by) = (stage.journal.take(), answer.field("x-corelane-model"));
            if (answer.status, by) != (200, Some("large")) || asked != ["e/small", "e/large"] {
                wrong.push(format!("{whose}, stream {stream}: {} by {by:?}, asked {asked:?}", answer.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_one_the_client_hears_of_it() {
    for (whose, status, body) in words().into_iter().filter(|(_, status, _)| *status == 400) {
        let stage = stage(status, body, "fallbacks = [\"other\"]");
        for _ in 0..4 {
            let answer = post(stage.gateway.addr, CHAT, &chat("small", false));
            assert_eq!((answer.status, stage.journal.take()), (400, vec!["e/small".to_owned()]), "{whose}");
            assert!(json_of(&answer)["error"]["message"].is_string(), "{whose}: {}", text(&answer));
        }
        let state = "corelane_breaker_state{endpoint=\"e\",model=\"\",reason=\"none\"}";
        assert!(value(&stage.gateway, state).abs() < 0.1, "{whose}: it is the client's");
        assert_eq!(post(stage.gateway.addr, CHAT, &chat("other", false)).status, 200);
    }
}

/// The list of longer models goes on along itself, and what fails otherwise there falls back otherwise.
#[test]
fn longer_and_longer() {
    let answer = |ask: &Ask| {
        let too_long = json!({"error": {"message": "x", "code": "context_length_exceeded"}});
        match &*ask.model {
            "small" | "middle" => refusal_of(400, "", &too_long),
            "large" => refusal_of(500, "", &json!({"error": "invented"})),
            _ => good(ask),
        }
    };
    let rest = format!(
        "{ONCE}{}{}{}{}",
        model("small", &["e"], "context_window_fallbacks = [\"middle\"]"),
        model("middle", &["e"], "context_window_fallbacks = [\"large\"]"),
        model("large", &["e"], "fallbacks = [\"last\"]"),
        model("last", &["e"], "")
    );
    let stage = Stage::with(&rest, answer);
    assert_eq!(post(stage.gateway.addr, CHAT, &chat("small", false)).status, 200);
    assert_eq!(stage.journal.take(), ["e/small", "e/middle", "e/large", "e/last"]);
}
