//! Each endpoint's answer has the shape that its clients expect.

use std::io::Write as _;

use serde_json::{Value, json};

use super::{Options, chat, connect, get, load, post, send, server};

const PAD: usize = 6;

fn options() -> Options {
    Options { tokens: PAD, ..Options::default() }
}

/// `You said: hi there` has four tokens; two are added.
const SAID: &str = "You said: hi there word word";

#[test]
fn chat_completions() {
    let sim = server(options());
    let whole = post(sim.addr, "/v1/chat/completions", &chat("llama3.2", "hi there", false));
    assert!(whole.whole && whole.status == 200);
    let answer = whole.json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "llama3.2");
    assert_eq!(answer["choices"][0]["message"], json!({ "role": "assistant", "content": SAID }));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8 }));

    let mut body = chat("llama3.2", "hi there", true);
    body["stream_options"] = json!({ "include_usage": true });
    body["n"] = json!(2);
    let streamed = post(sim.addr, "/v1/chat/completions", &body);
    let events = streamed.events();
    assert!(streamed.whole);
    assert_eq!(events.last().unwrap(), "[DONE]");
    let usage = &events[events.len() - 2];
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 12);
    let chunks = &events[..events.len() - 2];
    for index in 0..2 {
        let own = |event: &&Value| event["choices"][0]["index"] == index;
        let text: String = chunks
            .iter()
            .filter(own)
            .map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap())
            .collect();
        assert_eq!(text, SAID);
        let last = chunks.iter().rfind(own).unwrap();
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
    }
    assert!(
        chunks
            .iter()
            .all(|event| event["id"] == chunks[0]["id"] && event["object"] == "chat.completion.chunk")
    );
    sim.stop();
}

#[test]
fn chat_with_tools_json_limits_and_reasoning() {
    let sim = server(options());
    let mut body = chat("llama3.2", "what is the weather", false);
    body["tools"] = json!([{ "type": "function", "function": { "name": "get_weather" } }]);
    let choice = &post(sim.addr, "/v1/chat/completions", &body).json()["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let function = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(function, &json!({ "name": "get_weather", "arguments": "{\"city\":\"Paris\"}" }));
    body["stream"] = json!(true);
    let events = post(sim.addr, "/v1/chat/completions", &body).events();
    let calls: Vec<_> =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    assert!(
        calls[0]["id"].is_string()
            && calls.iter().skip(1).all(|call| call["id"].is_null() && call["index"] == 0)
    );
    let arguments: String =
        calls.iter().map(|call| call["function"]["arguments"].as_str().unwrap()).collect();
    assert_eq!(arguments, "{\"city\":\"Paris\"}");

    let mut body = chat("llama3.2", "say \"it\"", false);
    body["response_format"] = json!({ "type": "json_object" });
    let answer = post(sim.addr, "/v1/chat/completions", &body).json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap()["answer"], "You said: say \"it\"");

    let mut body = chat("llama3.2", "hi there", false);
    body["max_tokens"] = json!(2);
    let choice = &post(sim.addr, "/v1/chat/completions", &body).json()["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("length"), &json!("You said:"))
    );

    let events = post(sim.addr, "/v1/chat/completions", &chat("think-1", "hi", true)).events();
    assert_eq!(events[0]["choices"][0]["delta"]["reasoning"], "Let");
    sim.stop();
}

#[test]
fn completions_and_embeddings() {
    let sim = server(options());
    let mut body = json!({ "model": "mistral", "prompt": "hi there" });
    let answer = post(sim.addr, "/v1/completions", &body).json();
    assert_eq!((&answer["object"], &answer["choices"][0]["text"]), (&json!("text_completion"), &json!(SAID)));
    body["stream"] = json!(true);
    let events = post(sim.addr, "/v1/completions", &body).events();
    let texts = events.iter().filter_map(|event| event["choices"][0]["text"].as_str());
    assert_eq!(texts.collect::<String>(), SAID);

    let body = json!({ "model": "nomic-embed-text", "input": ["a b", "c"], "encoding_format": "base64" });
    let answer = post(sim.addr, "/v1/embeddings", &body).json();
    assert_eq!(answer["data"][1]["index"], 1);
    assert_eq!(answer["data"][0]["embedding"].as_array().unwrap().len(), 8);
    assert_ne!(answer["data"][0]["embedding"], answer["data"][1]["embedding"]);
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 3, "total_tokens": 3 }));
    let native = post(sim.addr, "/api/embed", &json!({ "model": "nomic-embed-text", "input": "a b" })).json();
    assert_eq!(native["embeddings"][0], answer["data"][0]["embedding"]);
    let old =
        post(sim.addr, "/api/embeddings", &json!({ "model": "nomic-embed-text", "prompt": "a b" })).json();
    assert_eq!(old["embedding"], answer["data"][0]["embedding"]);
    let tokens = post(sim.addr, "/v1/embeddings", &json!({ "model": "nomic-embed-text", "input": [[1, 2]] }));
    assert_eq!((tokens.status, &tokens.json()["error"]["message"]), (400, &json!("invalid input type")));
    sim.stop();
}

#[test]
fn responses_and_messages() {
    let sim = server(options());
    let mut body = json!({ "model": "mistral", "input": [{ "role": "user", "content": "hi there" }] });
    let answer = post(sim.addr, "/v1/responses", &body).json();
    assert_eq!(answer["output"][0]["content"][0]["text"], SAID);
    assert_eq!(answer["usage"]["output_tokens"], 6);
    body["stream"] = json!(true);
    let streamed = post(sim.addr, "/v1/responses", &body);
    let (names, events) = (streamed.names(), streamed.events());
    assert_eq!((names[0], *names.last().unwrap()), ("response.created", "response.completed"));
    assert!(
        events
            .iter()
            .enumerate()
            .all(|(at, event)| event["sequence_number"] == at && event["type"] == names[at])
    );
    assert_eq!(events.last().unwrap()["response"]["output"][0]["content"][0]["text"], SAID);

    let mut body = chat("mistral", "hi there", false);
    assert_eq!(post(sim.addr, "/v1/messages", &body).status, 400, "max_tokens is missing");
    body["max_tokens"] = json!(100);
    let answer = post(sim.addr, "/v1/messages", &body).json();
    assert_eq!((&answer["type"], &answer["content"][0]["text"]), (&json!("message"), &json!(SAID)));
    assert_eq!(answer["stop_reason"], "end_turn");
    body["stream"] = json!(true);
    let streamed = post(sim.addr, "/v1/messages", &body);
    let names = streamed.names();
    assert_eq!(names[..3], ["message_start", "ping", "content_block_start"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let events = streamed.events();
    let text = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect::<String>();
    assert_eq!(text, SAID);
    body["tools"] = json!([{ "name": "get_weather" }]);
    body["tool_choice"] = json!({ "type": "any" });
    let events = post(sim.addr, "/v1/messages", &body).events();
    let json = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect::<String>();
    assert_eq!(json, "{\"city\":\"Paris\"}");
    let count = post(sim.addr, "/v1/messages/count_tokens", &chat("mistral", "a b c", false)).json();
    assert_eq!(count, json!({ "input_tokens": 3 }));
    sim.stop();
}

#[test]
fn native_chat_and_generate() {
    let sim = server(options());
    let mut body = chat("llama3.2", "hi there", true);
    body.as_object_mut().unwrap().remove("stream");
    let lines = post(sim.addr, "/api/chat", &body).lines();
    let text = lines.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect::<String>();
    assert_eq!(text, SAID);
    assert!(lines.iter().all(|line| line["created_at"].as_str().unwrap().ends_with('Z')));
    let last = lines.last().unwrap();
    assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("stop")));
    assert_eq!((&last["eval_count"], &last["prompt_eval_count"]), (&json!(6), &json!(2)));
    assert!(last.get("prompt_eval_duration").is_none() || last["prompt_eval_duration"] != 0);

    body["stream"] = json!(false);
    body["options"] = json!({ "num_predict": 2 });
    let answer = post(sim.addr, "/api/chat", &body).json();
    assert_eq!(
        (&answer["message"]["content"], &answer["done_reason"]),
        (&json!("You said:"), &json!("length"))
    );
    body["messages"][0]["content"] = json!("weather?");
    body["tools"] = json!([{}]);
    let answer = post(sim.addr, "/api/chat", &body).json();
    assert_eq!(answer["message"]["tool_calls"][0]["function"]["arguments"], json!({ "city": "Paris" }));

    let lines = post(sim.addr, "/api/generate", &json!({ "model": "think", "prompt": "hi there" })).lines();
    assert_eq!(lines[0]["thinking"], "Let");
    assert_eq!(lines.iter().map(|line| line["response"].as_str().unwrap()).collect::<String>(), SAID);
    assert!(lines.last().unwrap()["context"].is_array());

    let loaded = post(sim.addr, "/api/generate", &json!({ "model": "mistral" })).json();
    assert_eq!((&loaded["done_reason"], &loaded["response"]), (&json!("load"), &json!("")));
    assert!(get(sim.addr, "/api/ps").text().contains("mistral:latest"));
    let gone =
        post(sim.addr, "/api/chat", &json!({ "model": "mistral", "messages": [], "keep_alive": 0 })).json();
    assert_eq!(gone["done_reason"], "unload");
    assert!(!get(sim.addr, "/api/ps").text().contains("mistral"));
    sim.stop();
}

#[test]
fn listings() {
    let sim = server(options());
    assert_eq!(get(sim.addr, "/").text(), "Ollama is running");
    let head = send(sim.addr, &format!("HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", sim.addr));
    assert!(head.status == 200 && head.body.is_empty() && head.head.contains("Content-Length: 17"));
    assert_eq!(get(sim.addr, "/api/version").json(), json!({ "version": "0.12.6" }));
    let tags = get(sim.addr, "/api/tags").json();
    assert_eq!(tags["models"].as_array().unwrap().len(), 3);
    for key in ["name", "model", "modified_at", "size", "digest", "details"] {
        assert!(!tags["models"][0][key].is_null(), "{key}");
    }
    assert_eq!(get(sim.addr, "/v1/models").json()["data"][0]["id"], "llama3.2:latest");
    assert_eq!(get(sim.addr, "/v1/models/llama3.2%3Alatest").json()["object"], "model");
    assert_eq!(get(sim.addr, "/v1/models/a%2Fb").json()["error"]["message"], "model 'a/b' not found");
    let show = post(sim.addr, "/api/show", &json!({ "name": "llama3.2" })).json();
    assert!(show["template"].as_str().unwrap().contains(".Suffix") && show["capabilities"].is_array());
    assert_eq!(
        post(sim.addr, "/api/show", &json!({ "model": "x" })).json(),
        json!({ "error": "model 'x' not found" })
    );
    sim.stop();
}

#[test]
fn refusals() {
    let sim = server(options());
    let unknown = post(sim.addr, "/api/chat", &chat("x", "hi", true));
    assert_eq!((unknown.status, unknown.json()), (404, json!({ "error": "model 'x' not found" })));
    let unknown = post(sim.addr, "/v1/chat/completions", &chat("x", "hi", true));
    let error =
        json!({ "message": "model 'x' not found", "type": "not_found_error", "param": null, "code": null });
    assert_eq!((unknown.status, &unknown.json()["error"]), (404, &error));
    assert_eq!(
        post(sim.addr, "/v1/chat/completions", &json!([1])).json()["error"]["type"],
        "invalid_request_error"
    );
    assert_eq!(post(sim.addr, "/api/chat", &json!("x")).status, 400);
    assert_eq!(post(sim.addr, "/v1/chat/completions", &chat("nomic-embed-text", "hi", false)).status, 400);
    assert_eq!(post(sim.addr, "/v1/nothing", &json!({})).status, 404);
    let foreign = "GET /api/tags HTTP/1.1\r\nHost: ai.example.com\r\nConnection: close\r\n\r\n";
    assert_eq!(send(sim.addr, foreign).status, 403);
    assert_eq!(load(&sim.stats.foreign_hosts), 1);
    assert_eq!(send(sim.addr, "nonsense\r\n\r\n").status, 400);
    sim.stop();
}

#[test]
fn bodies_arrive_in_every_framing_and_are_recorded() {
    let sim = server(Options { answer: Some("x".repeat(600)), ..options() });
    let body = chat("llama3.2", "hi", false).to_string();
    let (left, right) = body.split_at(9);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nX-Mark: 7\r\n", sim.addr);
    let chunks = format!("{:x}\r\n{left}\r\n{:x}\r\n{right}\r\n0\r\n\r\n", left.len(), right.len());
    let mut stream = connect(sim.addr);
    let twice = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}");
    stream.write_all(twice.repeat(2).as_bytes()).unwrap();
    stream
        .write_all(
            format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        )
        .unwrap();
    let all = super::finish(stream);
    assert_eq!(String::from_utf8_lossy(&all.body).matches(&"x".repeat(600)).count(), 3);
    let recorded = sim.stats.take_recorded();
    assert_eq!(recorded.len(), 3);
    assert!(
        recorded.iter().all(|one| one.body == body.as_bytes() && one.field("x-mark").as_deref() == Some("7"))
    );
    assert_eq!(load(&sim.stats.connections_total), 1);
    sim.stop();
    assert!(std::net::TcpStream::connect(sim.addr).is_err(), "the listener is closed");
}
