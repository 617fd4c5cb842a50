//! Promise: with keys in the configuration nobody asks a model without one; a key opens what it is for, in every
//! spelling that clients know, within its minute; and no key is seen by anyone but the gateway.
//!
//! Limits of a minute begin anew when the minute does: such a test begins with enough of one left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "keys/quota.rs"]
mod quota;
#[path = "keys/sdk.rs"]
mod sdk;
mod support;

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::answer::{Answer, Reader};
use support::fleet::{Fleet, chat, connect, json, model, quick};
use support::{get, metrics};

const CHAT: &str = "/v1/chat/completions";
const SECRET: &str = "sk-canary-of-team-a-5d1f";
const DEADLINE: Duration = Duration::from_secs(20);

/// A `[[keys]]` entry.
fn key(name: &str, secret: &str, more: &str) -> String {
    format!("[[keys]]\nname = \"{name}\"\nsecret = \"{secret}\"\n{more}\n")
}

/// Writes a request with these field lines.
fn write(reader: &mut Reader, method: &str, path: &str, fields: &str, body: &str) {
    let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: gw\r\n{fields}{length}\r\n{body}");
    reader.stream().write_all(request.as_bytes()).unwrap();
}

fn read(reader: &mut Reader) -> Answer {
    reader.answer(false, Instant::now() + DEADLINE).expect("an answer")
}

/// A request on a connection of its own.
fn ask(fleet: &Fleet, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let mut reader = connect(fleet.gateway.addr);
    write(&mut reader, method, path, fields, body);
    reader.answer(method == "HEAD", Instant::now() + DEADLINE).expect("an answer")
}

/// A chat with these field lines.
fn chat_with(fleet: &Fleet, fields: &str) -> Answer {
    ask(fleet, "POST", CHAT, fields, &chat("llama3.2", false))
}

fn bearer(secret: &str) -> String {
    format!("Authorization: Bearer {secret}\r\n")
}

fn number(answer: &Answer, name: &str) -> u64 {
    let field = answer.field(name).unwrap_or_else(|| panic!("no {name} in {:?}", answer.fields));
    field.parse().unwrap_or_else(|_| panic!("{name}: {field}"))
}

fn message(answer: &Answer) -> String {
    json(answer)["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn every_spelling_opens() {
    let fleet = Fleet::start(quick(1), "shards = 2", &key("a", SECRET, "")).ready();
    let basic = "Basic c2stY2FuYXJ5OnB3"; // another scheme of another system
    for (fields, status) in [
        ("Authorization: Bearer KEY", 200),
        ("authorization: bearer KEY", 200),
        ("AUTHORIZATION: BEARER KEY", 200),
        ("Authorization:Bearer   KEY  ", 200),
        ("Authorization: Bearer\tKEY", 200),
        ("Authorization: KEY", 200),
        ("x-api-key: KEY", 200),
        ("X-Api-Key: Bearer KEY", 200),
        ("api-key: KEY", 200),
        ("x-litellm-api-key: KEY", 200),
        ("X-LiteLLM-API-Key: Bearer KEY", 200),
        // The first one that is there counts: x-litellm-api-key, authorization, x-api-key, api-key.
        ("Authorization: BASIC\r\nx-litellm-api-key: KEY", 200),
        ("Authorization: Bearer KEY\r\nx-litellm-api-key: other-key", 401),
        ("x-api-key: other-key\r\napi-key: other-key\r\nAuthorization: Bearer KEY", 200),
        ("x-api-key: KEY\r\nAuthorization: Bearer other-key", 401),
        ("api-key: other-key\r\nx-api-key: KEY", 200),
        ("api-key: KEY\r\nx-api-key: other-key", 401),
        // What is empty is not there.
        ("Authorization: Bearer\r\nx-api-key: KEY", 200),
        ("Authorization: Bearer \r\nx-litellm-api-key:\r\napi-key: KEY", 200),
        ("Authorization:\r\nx-api-key: KEY", 200),
        // Nothing else opens.
        ("Accept: */*", 401),
        ("Authorization:", 401),
        ("Authorization: Bearer", 401),
        ("Authorization: BASIC", 401),
        ("Authorization: BearerKEY", 401),
        ("Authorization: Bearer Bearer KEY", 401),
        ("Authorization: Bearer KEYx", 401),
        ("Authorization: Bearer KEY, Bearer KEY", 401),
        ("Authorization: Bearer \"KEY\"", 401),
        ("Cookie: api-key=KEY", 401),
        ("Proxy-Authorization: Bearer KEY", 401),
        ("x-api-keys: KEY", 401),
        // Two of one name could be read as either.
        ("Authorization: Bearer KEY\r\nAuthorization: Bearer KEY", 400),
        ("Authorization: Bearer other-key\r\nauthorization: Bearer KEY", 400),
        ("x-api-key:\r\nx-api-key: KEY", 400),
        ("api-key: KEY\r\nAPI-Key:", 400),
        ("x-litellm-api-key: KEY\r\nx-litellm-api-key: KEY", 400),
        // No text of a field (RFC 9110 section 5.5).
        ("Authorization: Bearer KEY\0", 400),
        ("Authorization: Bearer KEY\r\n folded", 400),
    ] {
        let fields = fields.replace("KEY", SECRET).replace("BASIC", basic) + "\r\n";
        let answer = chat_with(&fleet, &fields);
        assert_eq!(answer.status, status, "{fields:?}: {}", String::from_utf8_lossy(&answer.body));
        assert!(!String::from_utf8_lossy(&answer.body).contains(SECRET), "{fields:?}");
    }
    for (secret, status) in [
        (SECRET.to_uppercase(), 401),
        (SECRET[..SECRET.len() - 1].to_owned(), 401),
        (SECRET.repeat(100), 401),
        ("x".repeat(4096), 401),
        ("x".repeat(4097), 401),
        ("\u{fc}\u{1f511}".repeat(10), 401),
    ] {
        let answer = chat_with(&fleet, &bearer(&secret));
        assert!(answer.status == status || answer.status == 431, "{}: {}", secret.len(), answer.status);
        assert!(message(&answer).starts_with("Incorrect API key") || answer.status == 431);
    }
    let query =
        ask(&fleet, "POST", &format!("{CHAT}?api_key={SECRET}&key={SECRET}"), "", &chat("llama3.2", false));
    assert_eq!(query.status, 401, "a key in a URL ends in logs: it is not looked at");
    // Nothing of it has reached the endpoint.
    let taken = fleet.servers[0].stats.take_recorded();
    assert!(taken.len() >= 15, "{}", taken.len());
    for request in taken {
        let head = request.head_text().to_ascii_lowercase();
        for name in ["authorization:", "api-key:", "cookie:", SECRET, "other-key", "c2sty"] {
            assert!(!head.contains(name), "{name} in {head}");
        }
    }
    fleet.assert_quiet();
}

#[test]
fn refusals_in_each_dialect() {
    let keys = key("a", SECRET, "") + &key("old", "sk-expired-key", "expires = 2020-01-01T00:00:00Z");
    let later = key("new", "sk-later-key-1", "expires = 2099-12-31T23:59:59+07:00");
    let fleet = Fleet::start(quick(1), "shards = 2", &(keys + &later)).ready();
    assert_eq!(chat_with(&fleet, &bearer("sk-later-key-1")).status, 200);
    for (secret, words) in
        [("wrong-key", "Incorrect API key"), ("", "Incorrect API key"), ("sk-expired-key", "expired")]
    {
        for path in [CHAT, "/api/chat", "/v1/messages", "/v1/embeddings", "/v1/responses"] {
            let answer = ask(&fleet, "POST", path, &bearer(secret), &chat("llama3.2", false));
            assert_eq!(answer.status, 401, "{path}");
            assert_eq!(answer.field("www-authenticate"), Some("Bearer"));
            assert_eq!(answer.field("x-should-retry"), Some("false"));
            let error = json(&answer);
            let text = match path {
                "/api/chat" => error["error"].as_str(),
                "/v1/messages" => {
                    assert_eq!(
                        (&error["type"], &error["error"]["type"]),
                        (&"error".into(), &"authentication_error".into())
                    );
                    error["error"]["message"].as_str()
                }
                _ => {
                    let words = (&error["error"]["type"], &error["error"]["code"], &error["error"]["param"]);
                    assert_eq!(words, (&"auth_error".into(), &"invalid_api_key".into(), &Value::Null));
                    error["error"]["message"].as_str()
                }
            };
            assert!(text.unwrap().contains(words), "{error}");
        }
    }
    let page = metrics(&fleet.gateway);
    assert!(page.contains("corelane_keys_refused_total 15\n"), "{page}");
    assert_eq!(fleet.shares(), [1]);
    fleet.assert_quiet();
}

#[test]
fn secrets_come_from_the_file_a_variable_another_file_or_a_sum() {
    let file = std::env::temp_dir().join(format!("corelane-keys-{}.secret", std::process::id()));
    std::fs::write(&file, "sk-in-a-file-77\n").unwrap();
    // CARGO_PKG_NAME is a variable that whoever runs the tests has set.
    let keys = key("text", "sk-as-text-77", "")
        + &key("variable", "env:CARGO_MANIFEST_DIR", "")
        + &key("file", &format!("file:{}", file.display()), "")
        + "[[keys]]\nname = \"sum\"\nsha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\n";
    let fleet = Fleet::start(quick(1), "", &keys).ready();
    let variable = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    for secret in ["sk-as-text-77", &variable, "sk-in-a-file-77", "abc"] {
        assert_eq!(chat_with(&fleet, &bearer(secret)).status, 200, "{secret}");
    }
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for wrong in [sum, "env:CARGO_MANIFEST_DIR", &format!("file:{}", file.display()), "text", "sum"] {
        assert_eq!(chat_with(&fleet, &bearer(wrong)).status, 401, "{wrong}");
    }
    std::fs::remove_file(file).unwrap();
    fleet.assert_quiet();
}

#[test]
fn a_key_is_for_its_models() {
    let rest = model("ollama/llama3.2", &["e0"], "")
        + &model("ollama/mistral", &["e0"], "")
        + &model("ollama/nomic-embed-text", &["e0"], "")
        + &key("one", "sk-only-llama", "models = [\"ollama/llama3.2\"]")
        + &key("some", "sk-only-m-and-n", "models = [\"mist*\", \"nomic-embed-text\"]")
        + &key("all", "sk-all-models", "");
    let fleet = Fleet::start(quick(1), "shards = 2", &rest).ready();
    let post = |secret: &str, path: &str, body: &str| ask(&fleet, "POST", path, &bearer(secret), body);
    for (secret, asked, status) in [
        ("sk-only-llama", "ollama/llama3.2", 200),
        ("sk-only-llama", "llama3.2", 200),
        ("sk-only-llama", "LLAMA3.2:latest", 200),
        ("sk-only-llama", "ollama/mistral", 403),
        ("sk-only-llama", "mistral", 403),
        ("sk-only-llama", "llama3.2-other", 403), // says nothing of whether there is one
        ("sk-only-m-and-n", "mistral", 200),
        ("sk-only-m-and-n", "ollama/mistral:latest", 200),
        ("sk-only-m-and-n", "llama3.2", 403),
        ("sk-all-models", "mistral", 200),
        ("sk-all-models", "nothing", 404),
    ] {
        for path in [CHAT, "/api/chat", "/v1/messages", "/v1/completions", "/api/generate", "/api/show"] {
            let extra = format!(r#"{{"model":"{asked}","prompt":"hi","max_tokens":5,"#);
            let answer = post(
                secret,
                path,
                &chat(asked, false).replacen(&format!(r#"{{"model":"{asked}","#), &extra, 1),
            );
            assert_eq!(
                answer.status,
                status,
                "{secret} {asked} {path}: {}",
                String::from_utf8_lossy(&answer.body)
            );
            if status == 403 {
                assert_eq!(answer.field("x-should-retry"), Some("false"));
                let error = json(&answer);
                let openai = !path.starts_with("/api/") && path != "/v1/messages";
                assert!(!openai || error["error"]["code"] == "model_not_allowed", "{error}");
                assert!(error.to_string().contains("not allowed to use the model"), "{error}");
            }
        }
    }
    // Which model is meant cannot be said twice.
    let _ = fleet.servers[0].stats.take_recorded();
    for (path, body) in [
        (CHAT, r#"{"model":"llama3.2","model":"mistral","messages":[{"role":"user","content":"hi"}]}"#),
        (CHAT, r#"{"model":"llama3.2","mod\u0065l":"mistral","messages":[{"role":"user","content":"hi"}]}"#),
        (
            "/api/chat",
            r#"{"model":"llama3.2","Model":"mistral","messages":[{"role":"user","content":"hi"}]}"#,
        ),
        ("/api/show", r#"{"name":"llama3.2","model":"mistral"}"#),
    ] {
        let answer = post("sk-only-llama", path, body);
        for request in fleet.servers[0].stats.take_recorded() {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            assert!(!text.contains("mistral"), "{path} {body}: {} and sent on as {text}", answer.status);
        }
    }
    for (secret, names) in [
        ("sk-only-llama", vec!["llama3.2"]),
        ("sk-only-m-and-n", vec!["mistral", "nomic-embed-text"]),
        ("sk-all-models", vec!["llama3.2", "mistral", "nomic-embed-text"]),
    ] {
        for (path, list, name) in [
            ("/v1/models", "data", "id"),
            ("/models", "data", "id"),
            ("/api/tags", "models", "name"),
            ("/model/info", "data", "model_name"),
            ("/model_group/info", "data", "model_group"),
        ] {
            let answer = ask(&fleet, "GET", path, &bearer(secret), "");
            let value = json(&answer);
            let shown = value[list].as_array().unwrap().iter().map(|entry| entry[name].as_str().unwrap());
            let bare = |name: &str| name.trim_start_matches("ollama/").trim_end_matches(":latest").to_owned();
            let mut shown: Vec<String> = shown.map(bare).collect();
            shown.sort();
            assert_eq!(shown, names, "{secret} {path}");
        }
        for id in ["llama3.2", "ollama/mistral", "ollama%2Fmistral"] {
            let answer = ask(&fleet, "GET", &format!("/v1/models/{id}"), &bearer(secret), "");
            let may = names.iter().any(|name| id.ends_with(name));
            assert_eq!(answer.status, if may { 200 } else { 404 }, "{secret} {id}");
        }
    }
    fleet.assert_quiet();
}

#[test]
fn probes_need_no_key_and_all_else_does() {
    let fleet = Fleet::start(quick(1), "shards = 2", &key("a", SECRET, "")).ready();
    let status = |method: &str, path: &str, fields: &str| ask(&fleet, method, path, fields, "{}").status;
    for path in ["/", "/health", "/health/liveliness", "/health/liveness", "/health/readiness"] {
        assert_eq!(status("GET", path, ""), 200, "{path}");
        assert_eq!(status("GET", path, &bearer("wrong-key")), 200, "{path}");
    }
    assert_eq!(
        status("OPTIONS", CHAT, "Origin: https://a.example\r\n"),
        204,
        "a browser asks without its key first"
    );
    for path in [
        "/v1/models",
        "/models",
        "/v1/models/llama3.2",
        "/model/info",
        "/v1/model/info",
        "/model_group/info",
        "/metrics",
        "/metrics/",
        "/api/tags",
        "/api/ps",
        "/api/version",
    ] {
        assert_eq!(status("GET", path, ""), 401, "{path}");
        assert_eq!(status("HEAD", path, ""), 401, "{path}");
        assert_eq!(status("GET", path, &bearer(SECRET)), 200, "{path}");
    }
    for path in [
        CHAT,
        "/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/moderations",
        "/v1/rerank",
        "/v2/rerank",
        "/v1/audio/speech",
        "/v1/any/thing",
        "/api/chat",
        "/api/generate",
        "/api/embed",
        "/api/embeddings",
        "/api/show",
    ] {
        assert_eq!(status("POST", path, ""), 401, "{path}");
    }
    for path in
        ["/health/x", "/nothing", "/v1", "//v1/models", "/v1/models/../models", "/%76%31/models", "/HEALTH"]
    {
        assert!(matches!(status("GET", path, ""), 401 | 404), "{path}");
    }
    assert_eq!(fleet.shares(), [0]);
    fleet.assert_quiet();
}

#[test]
fn a_key_is_seen_by_nobody() {
    let own = "sk-canary-of-the-endpoint-9c2e";
    let server = quick(1).into_iter().map(|options| corelane::sim::start(options).unwrap()).next().unwrap();
    let toml = support::fleet::configuration(
        &[server.addr],
        "shards = 2\nadmin_token = \"canary-of-the-admin-31aa\"",
        &("[log]\nlevel = \"debug\"\naccess = \"stderr\"\n".to_owned()
            + &key("team-a", SECRET, "requests_per_minute = 1000")),
    )
    .replace("name = \"e0\"", &format!("name = \"e0\"\napi_key = \"{own}\""));
    let fleet = Fleet { gateway: support::Gateway::start(&toml), servers: vec![server] };
    let listed = || {
        json(&ask(&fleet, "GET", "/v1/models", &bearer(SECRET), ""))["data"].as_array().map_or(0, Vec::len)
    };
    support::fleet::until("the models are known", || (listed() > 0).then_some(()));
    let guess = "sk-canary-guess-77e1";
    let mut seen = String::new();
    for (secret, model) in
        [(SECRET, "llama3.2"), (SECRET, "nothing"), (SECRET, "fault-500"), (guess, "llama3.2")]
    {
        for fields in
            [bearer(secret), format!("x-api-key: {secret}\r\n"), format!("Authorization: Basic {secret}\r\n")]
        {
            let answer = ask(&fleet, "POST", CHAT, &fields, &chat(model, false));
            seen += &format!("{:?} {}", answer.fields, String::from_utf8_lossy(&answer.body));
        }
    }
    seen += &String::from_utf8_lossy(&ask(&fleet, "POST", "/nothing", &bearer(SECRET), "{").body);
    for request in fleet.servers[0].stats.take_recorded() {
        let authorization = request.field("authorization");
        assert_eq!(authorization, Some(format!("Bearer {own}")), "the endpoint is shown its own key");
        assert!(
            !request.head_text().contains("canary-of-team") && !request.head_text().contains("canary-guess")
        );
    }
    let admin = |path: &str| {
        let mut reader = connect(fleet.gateway.admin);
        write(&mut reader, "GET", path, &bearer("canary-of-the-admin-31aa"), "");
        let answer = read(&mut reader);
        assert_eq!(answer.status, 200, "{path}");
        String::from_utf8(answer.body).unwrap()
    };
    seen += &admin("/metrics");
    seen += &admin("/status");
    support::fleet::until("the log has them", || {
        fleet.gateway.log().contains("\"key\":\"team-a\"").then_some(())
    });
    seen += &fleet.gateway.log();
    assert!(!seen.contains("canary"), "a key in: {}", &seen[seen.find("canary").unwrap_or(0)..]);
}

#[test]
fn a_key_may_have_a_guard_of_its_own() {
    let guard = "[guard.input]\nscanners = [\"BanSubstrings\"]\n[guard.output]\nscanners = []\n\
        [guard.scanner.BanSubstrings]\nsubstrings = [\"operation moonlight\"]\n\
        [guard.profiles.easy]\ninput.scanners = []\n[guard.profiles.hard.scanner.BanSubstrings]\nsubstrings = [\"sunshine\"]\n";
    let rest = guard.to_owned()
        + &model("plain", &["e0"], "upstream_model = \"llama3.2\"")
        + &model("easy", &["e0"], "upstream_model = \"llama3.2\"\nguard = \"easy\"")
        + &key("usual", "sk-usual-key", "")
        + &key("easy", "sk-easy-key", "guard = \"easy\"")
        + &key("hard", "sk-hard-key", "guard = \"hard\"");
    let fleet = Fleet::start(quick(1), "shards = 2", &rest).ready();
    for (secret, model, text, status) in [
        ("sk-usual-key", "plain", "operation moonlight", 400),
        ("sk-usual-key", "plain", "sunshine", 200),
        ("sk-usual-key", "easy", "operation moonlight", 200), // as the model says
        ("sk-easy-key", "plain", "operation moonlight", 200),
        ("sk-easy-key", "easy", "operation moonlight", 200),
        ("sk-hard-key", "plain", "sunshine", 400),
        ("sk-hard-key", "easy", "sunshine", 400), // the key's, not the model's
    ] {
        let body = chat(model, false).replace("hi", text);
        let answer = ask(&fleet, "POST", CHAT, &bearer(secret), &body);
        assert_eq!(answer.status, status, "{secret} {model} {text}");
        assert!(status == 200 || json(&answer)["error"]["type"] == "prompt_blocked");
    }
    assert_eq!(fleet.shares(), [4]);
    // Ollama takes a key in any case for its own, the last one counts: nothing may hide behind that.
    let mut recorded = 0; // a request is recorded behind its answer
    support::fleet::until("what passed is recorded", || {
        recorded += fleet.servers[0].stats.take_recorded().len();
        (recorded == 4).then_some(())
    });
    for message in [
        r#"{"role":"user","content":"a","Content":"operation moonlight"}"#,
        r#"{"role":"user","CONTENT":"operation moonlight"}"#,
        r#"{"role":"assistant","Role":"user","content":"operation moonlight"}"#,
        r#"{"role":"user","content":"a"}],"Messages":[{"role":"user","content":"operation moonlight"}"#,
        r#"{"role":"user","content":"a"}],"me\u017f\u017fages":[{"role":"user","content":"operation moonlight"}"#,
    ] {
        let body = format!(r#"{{"model":"plain","messages":[{message}],"stream":false}}"#);
        for path in [CHAT, "/api/chat"] {
            let answer = ask(&fleet, "POST", path, &bearer("sk-usual-key"), &body);
            let sent = fleet.servers[0].stats.take_recorded();
            let hidden =
                sent.iter().any(|request| String::from_utf8_lossy(&request.body).contains("moonlight"));
            assert!(!hidden && answer.status == 400, "{path} {message}: {}", answer.status);
        }
    }
    fleet.assert_quiet();
}

#[test]
fn keys_over_http2() {
    let dir = std::env::temp_dir().join(format!("corelane-keys-h2-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let tls = format!(
        "[server.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = \"{0}/cert.pem\"\nkey = \"{0}/key.pem\"\n",
        dir.display()
    );
    let rest = key("a", SECRET, "models = [\"llama3.2\"]\nrequests_per_minute = 6")
        + &key("b", "sk-another-key", "");
    quota::room_in_minute(8);
    let fleet = Fleet::start(quick(1), &format!("shards = 2\n{tls}"), &rest).ready();
    let url = format!("https://{}{CHAT}", fleet.gateway.tls.unwrap());
    let curl = |fields: &[&str], model: &str| {
        let mut command = std::process::Command::new("curl");
        command.args(["--silent", "--insecure", "--http2", "--max-time", "20", "--include", "--data"]);
        command.arg(chat(model, false)).args(fields.iter().flat_map(|field| ["--header", *field])).arg(&url);
        let output = command.output().expect("curl is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text
            .strip_prefix("HTTP/2 ")
            .and_then(|rest| rest.get(..3))
            .map(|status| status.parse::<u16>().unwrap());
        (status.unwrap_or_else(|| panic!("no HTTP/2: {output:?}")), text)
    };
    let (right, another) = (format!("authorization: Bearer {SECRET}"), format!("x-api-key: {SECRET}"));
    for (fields, model, status) in [
        (vec![right.as_str()], "llama3.2", 200),
        (vec![another.as_str()], "llama3.2", 200),
        (vec![right.as_str()], "mistral", 403),
        (vec![], "llama3.2", 401),
        (vec!["authorization: Bearer wrong-key"], "llama3.2", 401),
        (vec!["x-litellm-api-key: wrong-key", right.as_str()], "llama3.2", 401),
        (vec![right.as_str(), right.as_str()], "llama3.2", 400),
        (vec!["authorization: Bearer sk-another-key", another.as_str()], "mistral", 200),
    ] {
        let (answered, text) = curl(&fields, model);
        assert_eq!(answered, status, "{fields:?} {model}: {text}");
        assert_eq!(text.contains("www-authenticate: Bearer"), status == 401);
        assert!(!text.contains(SECRET));
    }
    let more: Vec<u16> = (0..5).map(|_| curl(&[right.as_str()], "llama3.2").0).collect();
    assert_eq!(more, [200, 200, 200, 200, 429], "six of a minute");
    for request in fleet.servers[0].stats.take_recorded() {
        assert!(request.field("authorization").is_none() && request.field("x-api-key").is_none());
    }
    std::fs::remove_dir_all(dir).unwrap();
    let _ = get(fleet.gateway.addr, "/health");
    fleet.assert_quiet();
}
