//! Promise: the APIs of OpenAI, Ollama and Anthropic, byte for byte where nothing has to change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::io::Write as _;
use std::time::{Duration, Instant};

use corelane::sim::Recorded;
use support::fleet::{Fleet, chat, connect, json, model, post, quick, raw};
use support::{Gateway, get};

fn fleet(rest: &str) -> Fleet {
    Fleet::start(quick(1), "shards = 1", rest).ready()
}

/// What the server got for this request.
fn received(fleet: &Fleet, path: &str, body: &str) -> Recorded {
    let _ = fleet.servers[0].stats.take_recorded();
    let answer = post(fleet.gateway.addr, path, body);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    last(&fleet.servers[0])
}

/// The last request that a server has got; it is noted after its answer.
fn last(server: &corelane::sim::Handle) -> Recorded {
    support::fleet::until("a request is noted", || server.stats.take_recorded().pop())
}

#[test]
fn bodies_pass_byte_for_byte() {
    let fleet = fleet("[[models]]\nname = \"ollama/*\"\n");
    let body = "{ \"model\" : \"ollama/llama3.2\",\t\"messages\":[{\"role\":\"user\",\"content\":\"caf\\u00e9 \u{1F600}\",\"x\":1.50}],\n \"seed\":12345678901234567, \"unknown\": {\"model\":\"ollama/llama3.2\", \"n\": [1e5]} }";
    let got = received(&fleet, "/v1/chat/completions", body);
    assert_eq!(String::from_utf8(got.body).unwrap(), body.replacen("ollama/llama3.2", "llama3.2:latest", 1));
}

#[test]
fn what_only_the_gateway_understands_stays_here() {
    let fleet = fleet("");
    let body = r#"{"model":"llama3.2","messages":[{"role":"user","content":"hi"}],"timeout":60,"num_retries":3,"fallbacks":["x"],"cache":{"no-cache":true},"guardrails":["g"],"tags":["t"],"mock_response":"m","max_completion_tokens":7,"metadata":{"k":"v"}}"#;
    let got = received(&fleet, "/v1/chat/completions", body);
    let want = r#"{"model":"llama3.2","messages":[{"role":"user","content":"hi"}],"max_tokens":7,"metadata":{"k":"v"}}"#;
    let got = String::from_utf8(got.body).unwrap();
    assert_eq!(got.replace("llama3.2:latest", "llama3.2"), want);
}

#[test]
fn heads_are_made_anew() {
    let fleet = fleet("");
    let _ = fleet.servers[0].stats.take_recorded();
    let body = chat("llama3.2", false);
    let mut reader = connect(fleet.gateway.addr);
    let request = format!(
        "POST /chat/completions HTTP/1.1\r\nHost: somewhere.else\r\nAuthorization: Bearer sk-canary\r\nx-api-key: sk-canary\r\napi-key: sk-canary\r\nCookie: a=sk-canary\r\nX-Request-Id: mine-1\r\nX-Forwarded-For: 9.9.9.9\r\nConnection: close, x-private\r\nx-private: sk-canary\r\nTE: trailers\r\nUser-Agent: t/1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    reader.stream().write_all(request.as_bytes()).unwrap();
    let answer = reader.answer(false, Instant::now() + Duration::from_secs(5)).unwrap();
    assert_eq!(answer.field("x-request-id"), Some("mine-1"));
    assert_eq!(answer.field("connection"), Some("close"));
    let got = last(&fleet.servers[0]);
    assert!(!got.head_text().contains("sk-canary"), "{}", got.head_text());
    assert_eq!(got.field("host"), Some(fleet.servers[0].addr.to_string()));
    assert_eq!(got.field("x-forwarded-for").as_deref(), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(got.field("user-agent").as_deref(), Some("t/1"));
    assert!(got.head_text().starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
    assert!(got.field("te").is_none() && got.field("connection").is_none());
}

#[test]
fn an_endpoints_own_key_is_sent() {
    let server = corelane::sim::start(quick(1).remove(0)).unwrap();
    let toml = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nshards = 1\n[log]\naccess = \"stderr\"\nlevel = \"debug\"\n[[endpoints]]\nname = \"a\"\nurl = \"http://{}/v1\"\nkind = \"openai\"\napi_key = \"sk-endpoint-secret-1234\"\n[[models]]\nname = \"m\"\nupstream_model = \"llama3.2\"\n",
        server.addr
    );
    let gateway = Gateway::start(&toml);
    assert_eq!(post(gateway.addr, "/v1/chat/completions", &chat("m", false)).status, 200);
    let got = last(&server);
    assert_eq!(got.field("authorization").as_deref(), Some("Bearer sk-endpoint-secret-1234"));
    for page in ["/metrics", "/status"] {
        let (_, _, body) = get(gateway.admin, page);
        assert!(!String::from_utf8_lossy(&body).contains("secret"), "{page} shows a key");
    }
    assert!(!gateway.log().contains("secret"), "the log shows a key");
}

#[test]
fn embeddings_honour_base64() {
    let fleet = fleet("");
    let plain = json(&post(
        fleet.gateway.addr,
        "/v1/embeddings",
        r#"{"model":"nomic-embed-text","input":["a","b"]}"#,
    ));
    let coded = json(&post(
        fleet.gateway.addr,
        "/v1/embeddings",
        r#"{"model":"nomic-embed-text","input":["a","b"],"encoding_format":"base64"}"#,
    ));
    for at in 0..2 {
        let numbers: Vec<f32> = plain["data"][at]["embedding"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_f64().unwrap() as f32)
            .collect();
        let text = coded["data"][at]["embedding"].as_str().expect("a string");
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
        let decoded: Vec<f32> =
            bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(decoded, numbers);
    }
}

#[test]
fn errors_speak_the_dialect_of_the_path() {
    let fleet = fleet("");
    let addr = fleet.gateway.addr;
    let openai = json(&post(addr, "/v1/chat/completions", &chat("nobody", false)));
    assert_eq!(openai["error"]["code"], "model_not_found");
    assert!(
        openai["error"]["message"].as_str().unwrap().contains("Invalid model name passed in model=nobody")
    );
    let native = json(&post(addr, "/api/chat", &chat("nobody", false)));
    assert!(native["error"].is_string());
    let anthropic = json(&post(
        addr,
        "/v1/messages",
        r#"{"model":"nobody","max_tokens":1,"messages":[{"role":"user","content":"x"}]}"#,
    ));
    assert_eq!(
        (anthropic["type"].as_str(), anthropic["error"]["type"].as_str()),
        (Some("error"), Some("not_found_error"))
    );
    for (body, param) in
        [("{", "request_body"), ("{\"model\":\"llama3.2\"}", "messages"), ("{\"messages\":[1]}", "model")]
    {
        let answer = post(addr, "/v1/chat/completions", body);
        assert_eq!((answer.status, answer.field("x-should-retry")), (400, Some("false")));
        assert_eq!(json(&answer)["error"]["param"], param);
        assert_eq!(json(&answer)["error"]["type"], "invalid_request_error");
    }
    let twice = r#"{"model":"llama3.2","messages":[{"role":"user","content":"x"}],"model":"other"}"#;
    assert_eq!(post(addr, "/v1/chat/completions", twice).status, 400);
    assert_eq!(post(addr, "/api/pull", r#"{"model":"x"}"#).status, 403);
    assert_eq!(post(addr, "/v1/files", "{}").status, 404);
    let (status, fields, _) = get(addr, "/v1/chat/completions");
    assert_eq!(status, 405);
    assert!(fields.iter().any(|(name, value)| name == "allow" && value.contains("POST")));
}

#[test]
fn error_words_of_endpoints_are_kept() {
    let statuses = [400, 401, 403, 404, 422, 429, 500, 503];
    let rest: String = statuses
        .iter()
        .map(|s| model(&format!("s{s}"), &["e0"], &format!("upstream_model = \"fault-{s}\"")))
        .collect();
    let fleet = fleet(&("[retry]\nattempts = 1\n".to_owned() + &rest));
    for status in statuses {
        let answer = post(fleet.gateway.addr, "/v1/chat/completions", &chat(&format!("s{status}"), false));
        assert_eq!(answer.status, status);
        assert!(json(&answer)["error"]["message"].is_string());
        assert_eq!(answer.field("x-corelane-endpoint"), Some("e0"));
    }
}

#[test]
fn other_paths_of_openai_and_anthropic_pass() {
    let fleet = fleet("[[models]]\nname = \"ollama/*\"\n");
    let addr = fleet.gateway.addr;
    let responses = json(&post(addr, "/v1/responses", r#"{"model":"ollama/llama3.2","input":"hi"}"#));
    assert_eq!(responses["model"], "ollama/llama3.2");
    let streamed = post(addr, "/responses", r#"{"model":"ollama/llama3.2","input":"hi","stream":true}"#);
    let text = String::from_utf8(streamed.body).unwrap();
    assert!(text.contains("event: response.completed") && !text.contains("[DONE]"), "{text}");
    assert!(!text.contains("\"model\":\"llama3.2"), "the name asked for, inside of `response` too: {text}");
    let messages = r#"{"model":"ollama/llama3.2","max_tokens":4,"messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    let text = String::from_utf8(post(addr, "/v1/messages", messages).body).unwrap();
    assert!(text.starts_with("event: message_start") && text.contains("event: message_stop"), "{text}");
    let count = json(&post(addr, "/v1/messages/count_tokens", &messages.replace(",\"stream\":true", "")));
    assert!(count["input_tokens"].is_u64(), "{count}");
    let completion = json(&post(addr, "/completions", r#"{"model":"llama3.2","prompt":"hi"}"#));
    assert_eq!(completion["object"], "text_completion");
}

#[test]
fn ollamas_own_paths_answer_for_all_endpoints() {
    let mut options = quick(2);
    options[1].models = vec!["only-here:latest".to_owned()];
    let fleet = Fleet::start(options, "", "[[models]]\nname = \"*\"\n").ready();
    let addr = fleet.gateway.addr;
    let names = |path: &str| -> Vec<String> {
        let (status, _, body) = get(addr, path);
        assert_eq!(status, 200, "{path}");
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        value["models"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(names("/api/tags").contains(&"only-here:latest".to_owned()));
    assert!(names("/api/tags").contains(&"llama3.2:latest".to_owned()));
    assert_eq!(
        post(addr, "/api/generate", r#"{"model":"only-here","prompt":"x","stream":false}"#).status,
        200
    );
    assert_eq!(names("/api/ps"), ["only-here:latest"]);
    assert_eq!(get(addr, "/api/version").2, br#"{"version":"0.12.6"}"#);
    assert_eq!(get(addr, "/").2, b"Ollama is running");
    assert_eq!(post(addr, "/api/show", r#"{"name":"only-here"}"#).status, 200);
    assert_eq!(get(addr, "/v1/models/ollama%2Fllama3.2").0, 200);
    assert_eq!(get(addr, "/v1/models/nobody").0, 404);
    assert_eq!(get(addr, "/health/liveliness").2, br#""I'm alive!""#);
    assert!(String::from_utf8(get(addr, "/metrics").2).unwrap().contains("corelane_requests_total"));
    let mut head = connect(addr);
    head.stream().write_all(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let text = raw(&mut head);
    assert!(text.contains("content-length: 17\r\n") && text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn requests_in_a_row_are_answered_in_order() {
    let fleet = fleet("");
    let mut reader = connect(fleet.gateway.addr);
    let one = |user: &str| {
        let body = format!(r#"{{"model":"llama3.2","messages":[{{"role":"user","content":"{user}"}}]}}"#);
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let all: String = (0..5).map(|n| one(&format!("number-{n}"))).collect();
    reader.stream().write_all(all.as_bytes()).unwrap();
    let began = Instant::now();
    for n in 0..5 {
        let answer = reader.answer(false, Instant::now() + Duration::from_secs(5)).unwrap();
        assert!(String::from_utf8_lossy(&answer.body).contains(&format!("number-{n}")));
    }
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "what was sent early did not wait: {:?}",
        began.elapsed()
    );
    drop(reader);
    fleet.assert_quiet();
}

/// Sends raw bytes on a connection of its own and reads to its end.
fn exchange(addr: std::net::SocketAddr, request: &str) -> String {
    let mut reader = connect(addr);
    reader.stream().write_all(request.as_bytes()).unwrap();
    raw(&mut reader)
}

#[test]
fn browsers_are_told_what_they_may() {
    let fleet = fleet("[server.headers]\n\"x-frame-options\" = \"DENY\"\n");
    let ask = "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\nAccess-Control-Request-Headers: authorization, x-stainless-os\r\nConnection: close\r\n\r\n";
    let told = exchange(fleet.gateway.addr, ask);
    assert!(told.starts_with("HTTP/1.1 204 "), "{told}");
    assert!(told.contains("access-control-allow-origin: *\r\n"), "{told}");
    assert!(told.contains("access-control-allow-headers: authorization, x-stainless-os\r\n"), "{told}");
    for path in ["/v1/models", "/nowhere"] {
        let (_, fields, _) = get(fleet.gateway.addr, path);
        assert!(fields.iter().any(|(name, value)| name == "x-frame-options" && value == "DENY"), "{path}");
    }
}

#[test]
fn the_log_names_the_client_that_trusted_proxies_name() {
    for (server, client) in [("trusted_proxies = [\"127.0.0.0/8\"]", "9.9.9.9"), ("", "127.0.0.1")] {
        let fleet = Fleet::start(quick(1), server, "[log]\naccess = \"stderr\"\n").ready();
        let ask = "GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.1.1.1, 9.9.9.9\r\nConnection: close\r\n\r\n";
        let _ = exchange(fleet.gateway.addr, ask);
        let want = format!("\"client\":\"{client}\"");
        support::fleet::until("the line is written", || fleet.gateway.log().contains(&want).then_some(()));
    }
}

#[test]
fn native_paths_need_an_ollama_endpoint() {
    let server = corelane::sim::start(quick(1).remove(0)).unwrap();
    let toml = support::fleet::configuration(
        &[server.addr],
        "",
        "kind = \"openai\"\n[[models]]\nname = \"m\"\nupstream_model = \"llama3.2\"\n",
    );
    let gateway = Gateway::start(&toml);
    assert_eq!(post(gateway.addr, "/v1/chat/completions", &chat("m", false)).status, 200);
    let answer = post(gateway.addr, "/api/chat", &chat("m", false));
    assert_eq!(answer.status, 404);
    assert!(json(&answer)["error"].as_str().unwrap().contains("/v1/chat/completions"));
}

#[test]
fn a_header_may_shorten_the_deadline() {
    let fleet = fleet(&model("m", &["e0"], "upstream_model = \"fault-hang\""));
    let body = chat("m", false);
    let ask = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-litellm-timeout: 0.2\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let told = exchange(fleet.gateway.addr, &ask);
    assert!(told.starts_with("HTTP/1.1 504 "), "{told}");
    fleet.assert_quiet();
}

#[test]
fn the_same_endpoint_is_tried_again_only_after_a_5xx() {
    let rest = model("s500", &["e0"], "upstream_model = \"fault-500\"")
        + &model("s429", &["e0"], "upstream_model = \"fault-429\"");
    let fleet = fleet(&("[retry]\nattempts = 3\nbackoff = \"1ms\"\n".to_owned() + &rest));
    for (name, attempts) in [("s500", "3"), ("s429", "1")] {
        let answer = post(fleet.gateway.addr, "/v1/chat/completions", &chat(name, false));
        assert_eq!(answer.field("x-corelane-attempts"), Some(attempts), "{name}");
    }
}
