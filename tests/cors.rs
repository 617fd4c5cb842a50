//! Promise: pages of browsers are told what the configuration says and nothing else, before a request and with every
//! answer (Fetch standard, section 3.2); the operator's security headers are on every answer, errors too, on each
//! version of HTTP, and `strict-transport-security` only where RFC 6797 section 7.2 allows it: over TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use support::answer::Answer;
use support::fleet::{Fleet, chat, connect, model, quick};

const PAGE: &str = "https://chat.example";

/// One request on a connection of its own; `fields` are whole lines.
fn ask(addr: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let mut reader = connect(addr);
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: gw\r\n{fields}{length}\r\n{body}");
    reader.stream().write_all(request.as_bytes()).unwrap();
    reader.answer(method == "HEAD", Instant::now() + Duration::from_secs(10)).expect("an answer")
}

/// The values of a field, joined.
fn all(answer: &Answer, name: &str) -> String {
    let values: Vec<&str> =
        answer.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect();
    values.join(", ")
}

/// What a page of `origin` may read: the value of `access-control-allow-origin`.
fn allowed(answer: &Answer) -> String {
    all(answer, "access-control-allow-origin")
}

fn varies_by_origin(answer: &Answer) -> bool {
    all(answer, "vary").to_ascii_lowercase().split(", ").any(|name| name == "origin")
}

fn origin(value: &str) -> String {
    format!("Origin: {value}\r\n")
}

/// A gateway with a server that has the models of `kinds`.
fn fleet(server: &str, rest: &str) -> Fleet {
    let breaks = model("breaks", &["e0"], "upstream_model = \"fault-503\"");
    Fleet::start(quick(1), server, &format!("{rest}{breaks}{}", model("*", &["e0"], ""))).ready()
}

/// Every kind of answer: path, body and status of each.
fn kinds() -> Vec<(&'static str, &'static str, String, u16)> {
    vec![
        ("GET", "/v1/models", String::new(), 200),
        ("GET", "/health", String::new(), 200),
        ("HEAD", "/v1/models", String::new(), 200),
        ("POST", "/v1/chat/completions", chat("llama3.2", false), 200),
        ("POST", "/v1/chat/completions", chat("llama3.2", true), 200),
        ("POST", "/api/chat", chat("llama3.2", true), 200),
        ("POST", "/v1/chat/completions", chat("nobody-has-this", false), 404),
        ("POST", "/v1/chat/completions", "{".to_owned(), 400),
        ("POST", "/v1/chat/completions", chat("breaks", false), 503),
        ("GET", "/nothing/here", String::new(), 404),
        ("GET", "/v1/chat/completions", String::new(), 405),
        ("POST", "/v1/chat/completions", String::new(), 411),
    ]
}

#[test]
fn any_page_may_call_by_default() {
    let fleet = fleet("shards = 1", "");
    for (method, path, body, status) in kinds() {
        let answer = ask(fleet.gateway.addr, method, path, &origin(PAGE), &body);
        let what = format!("{method} {path} {body}");
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(allowed(&answer), "*", "{what}");
        assert_eq!(all(&answer, "access-control-expose-headers"), "*", "{what}");
        assert_eq!(all(&answer, "access-control-allow-credentials"), "", "{what}");
    }
    fleet.assert_quiet();
}

#[test]
fn a_preflight_is_answered_without_a_key_and_asks_no_endpoint() {
    let keys = "[[keys]]\nname = \"k\"\nsha256 = \"00000000000000000000000000000000000000000000000000000000000000ff\"\n";
    let fleet = fleet("shards = 1\ncors = { max_age = \"10m\" }", keys);
    let before = fleet.shares()[0];
    let fields = format!(
        "{}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n",
        origin(PAGE)
    );
    for path in ["/v1/chat/completions", "/api/chat", "/v1/models", "/nothing/here"] {
        let answer = ask(fleet.gateway.addr, "OPTIONS", path, &fields, "");
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.field("content-length"), None, "RFC 9110 section 8.6");
        assert!(answer.body.is_empty());
        assert_eq!(allowed(&answer), "*");
        assert_eq!(all(&answer, "access-control-max-age"), "600");
        let methods = all(&answer, "access-control-allow-methods");
        assert!(["GET", "POST"].iter().all(|method| methods.contains(method)), "{methods}");
        // A star does not stand for `authorization` (Fetch standard, section 4.8), so the names must come back.
        assert_eq!(all(&answer, "access-control-allow-headers"), "authorization,content-type");
    }
    let request = ask(fleet.gateway.addr, "POST", "/v1/chat/completions", &fields, &chat("llama3.2", false));
    assert_eq!(request.status, 401, "the request itself needs its key");
    assert_eq!(allowed(&request), "*", "and the page may read that");
    assert_eq!(fleet.shares()[0], before);
    fleet.assert_quiet();
}

#[test]
fn only_listed_pages_are_told_that_they_may() {
    let server = format!("shards = 1\ncors = {{ origins = [\"{PAGE}\", \"http://localhost:3000\"] }}");
    let fleet = fleet(&server, "");
    let addr = fleet.gateway.addr;
    for listed in [PAGE, "http://localhost:3000"] {
        for (method, path, body, _) in kinds() {
            let answer = ask(addr, method, path, &origin(listed), &body);
            assert_eq!(allowed(&answer), listed, "{method} {path}");
            assert!(varies_by_origin(&answer), "{method} {path}");
            assert_eq!(all(&answer, "access-control-allow-credentials"), "");
        }
    }
    let strangers = [
        "null",
        "https://chat.example.evil.example",
        "https://evil-chat.example",
        "https://chat.example:8443",
        "http://chat.example",
        "https://a.chat.example",
        "http://localhost:3001",
        "*",
        "https://chat.example, https://evil.example",
    ];
    for stranger in strangers {
        let preflight = format!("{}Access-Control-Request-Method: POST\r\n", origin(stranger));
        for (method, fields) in [("GET", origin(stranger)), ("OPTIONS", preflight)] {
            let answer = ask(addr, method, "/v1/models", &fields, "");
            let told = answer.fields.iter().find(|(name, _)| name.starts_with("access-control-"));
            assert_eq!(told, None, "{method} by {stranger}");
            assert!(varies_by_origin(&answer), "{method} by {stranger}: a cache would mix the answers up");
        }
    }
    fleet.assert_quiet();
}

/// Fetch standard, section 3.2.5: who varies by origin says so to everyone, or a cache gives a page the answer that
/// was made for somebody who is no page.
#[test]
fn an_answer_to_no_page_varies_too() {
    let server = format!("shards = 1\ncors = {{ origins = [\"{PAGE}\"] }}");
    let fleet = fleet(&server, "");
    assert!(varies_by_origin(&ask(fleet.gateway.addr, "GET", "/v1/models", "", "")));
}

#[test]
fn credentials_are_allowed_to_listed_pages_by_name() {
    let server = format!("shards = 1\ncors = {{ origins = [\"{PAGE}\"], credentials = true }}");
    let fleet = fleet(&server, "");
    let answer = ask(fleet.gateway.addr, "GET", "/v1/models", &origin(PAGE), "");
    assert_eq!(allowed(&answer), PAGE);
    assert_eq!(all(&answer, "access-control-allow-credentials"), "true");
    assert!(!all(&answer, "access-control-expose-headers").contains('*'), "a star counts for nothing here");
    let fields = format!(
        "{}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n",
        origin(PAGE)
    );
    let answer = ask(fleet.gateway.addr, "OPTIONS", "/v1/models", &fields, "");
    assert_eq!(all(&answer, "access-control-allow-credentials"), "true");
    assert_eq!(all(&answer, "access-control-allow-headers"), "content-type");
    assert!(!all(&answer, "access-control-allow-methods").contains('*'));
}

#[test]
fn no_page_may_call_if_none_is_listed() {
    let fleet = fleet("shards = 1\ncors = { origins = [] }", "");
    for method in ["GET", "OPTIONS"] {
        let fields = format!("{}Access-Control-Request-Method: POST\r\n", origin(PAGE));
        let answer = ask(fleet.gateway.addr, method, "/v1/models", &fields, "");
        let told = answer.fields.iter().find(|(name, _)| name.starts_with("access-control-"));
        assert_eq!(told, None, "{method}");
    }
}

#[test]
fn what_a_page_asks_for_cannot_break_the_answer() {
    let fleet = fleet("shards = 1", "");
    for asked in ["a\tb: c", "x\u{e9}", "a;b", "\"", &"x".repeat(10_000)] {
        let fields = format!(
            "{}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: {asked}\r\n",
            origin(PAGE)
        );
        // The strict reader refuses control characters; a 4xx is as good as an answer.
        let answer = ask(fleet.gateway.addr, "OPTIONS", "/v1/models", &fields, "");
        assert!(answer.status == 204 || (400..500).contains(&answer.status), "{asked:?}: {}", answer.status);
        let told = all(&answer, "access-control-allow-headers");
        assert!(told.is_empty() || told == "*" || told == asked, "{asked:?} became {told:?}");
    }
}

#[test]
fn a_star_with_credentials_is_refused_when_the_file_is_read() {
    let file = std::env::temp_dir().join(format!("corelane-cors-{}.toml", std::process::id()));
    for (cors, good) in [
        ("origins = [\"*\"], credentials = true", false),
        ("origins = [\"https://a.example/path\"]", false),
        ("origins = [\"https://a.example\"], credentials = true", true),
    ] {
        let toml = format!(
            "[server]\ncors = {{ {cors} }}\n[[endpoints]]\nname = \"a\"\nurl = \"http://127.0.0.1:1\"\n"
        );
        std::fs::write(&file, toml).unwrap();
        let checked = Command::new(env!("CARGO_BIN_EXE_corelane")).arg("check").arg(&file).output().unwrap();
        assert_eq!(checked.status.success(), good, "{cors}: {}", String::from_utf8_lossy(&checked.stderr));
    }
    std::fs::remove_file(&file).unwrap();
}

const STRICT: &str = "strict-transport-security";

/// `server.headers` of `config/edge.toml`: as lines of TOML, and as pairs.
fn edge_headers() -> (String, Vec<(String, String)>) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/edge.toml")).unwrap();
    let edge: toml::Table = text.parse().unwrap();
    let headers = edge["server"]["headers"].as_table().unwrap();
    let pairs: Vec<_> =
        headers.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    assert!(pairs.len() >= 6 && pairs.iter().any(|(name, _)| name == STRICT), "{pairs:?}");
    (format!("[server.headers]\n{headers}\n"), pairs)
}

/// The headers that are not as `wanted` on an answer with these fields.
fn wrong(fields: &[(String, String)], wanted: &[(String, String)], secure: bool) -> Vec<String> {
    let there =
        |name: &str| fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    let bad = |(name, value): &&(String, String)| {
        let want = if name == STRICT && !secure { vec![] } else { vec![value.as_str()] };
        there(name) != want
    };
    wanted.iter().filter(bad).map(|(name, _)| format!("{name}: {:?}", there(name))).collect()
}

#[test]
fn security_headers_are_on_every_answer() {
    let (table, wanted) = edge_headers();
    let server = format!("shards = 1\nbody_bytes_max = \"64KiB\"\n{table}");
    let fleet = fleet(&server, "");
    let addr = fleet.gateway.addr;
    for (method, path, body, status) in kinds() {
        let answer = ask(addr, method, path, "", &body);
        assert_eq!(answer.status, status);
        assert_eq!(wrong(&answer.fields, &wanted, false), [""; 0], "{method} {path} {status}");
    }
    let long = "x".repeat(20_000);
    let unfit = [
        ("GET", "/v1/models", format!("X-Long: {long}\r\n"), 431),
        ("GET", "no-slash", String::new(), 400),
        ("POST", "/v1/chat/completions", "Content-Length: 99999999\r\n".to_owned(), 413),
        ("POST", "/v1/chat/completions", "Content-Length: 1\r\nContent-Encoding: br\r\n".to_owned(), 415),
        ("POST", "/v1/chat/completions", "Expect: miracles\r\n".to_owned(), 417),
        ("BREW", "/", String::new(), 501),
        ("OPTIONS", "/v1/models", origin(PAGE), 204),
    ];
    for (method, path, fields, status) in unfit {
        let answer = ask(addr, method, path, &fields, "");
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(wrong(&answer.fields, &wanted, false), [""; 0], "{method} {path} {status}");
    }
}

/// A certificate for localhost and its key, as files.
fn certificate() -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let place =
        |what: &str| std::env::temp_dir().join(format!("corelane-cors-{}.{what}", std::process::id()));
    let (cert, key) = (place("crt"), place("key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

/// curl's answer: version of HTTP, status, fields.
fn curl(url: &str, version: &str, more: &[&str]) -> (String, u16, Vec<(String, String)>) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--include", "--max-time", "10", version])
        .args(more)
        .arg(url)
        .output()
        .expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    let mut lines = text.lines();
    let status_line = lines.next().unwrap();
    let mut words = status_line.split(' ');
    let (version, status) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
    let fields = lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(": "));
    (
        version.to_owned(),
        status,
        fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect(),
    )
}

#[test]
fn over_tls_and_http_2_they_are_the_same_and_transport_is_strict() {
    let (table, wanted) = edge_headers();
    let (cert, key) = certificate();
    let tls = format!(
        "[server.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = {cert:?}\nkey = {key:?}\nredirect_http = true\n"
    );
    let fleet = fleet(&format!("shards = 1\n{table}{tls}"), "");
    let tls = fleet.gateway.tls.expect("a TLS listener");
    let base = format!("https://{tls}");
    for (flag, version) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2")] {
        for (path, body, status) in [
            ("/v1/models", None, 200),
            ("/v1/chat/completions", Some(chat("llama3.2", false)), 200),
            ("/v1/chat/completions", Some(chat("llama3.2", true)), 200),
            ("/v1/chat/completions", Some("{".to_owned()), 400),
            ("/v1/chat/completions", None, 405),
            ("/nothing/here", None, 404),
        ] {
            let page = format!("Origin: {PAGE}");
            let mut more = vec!["--header", page.as_str()];
            body.iter().for_each(|body| more.extend(["--data-binary", body]));
            let (spoken, got, fields) = curl(&format!("{base}{path}"), flag, &more);
            assert_eq!((spoken.as_str(), got), (version, status), "{path}");
            assert_eq!(wrong(&fields, &wanted, true), [""; 0], "{version} {path} {status}");
            assert!(
                fields.contains(&("access-control-allow-origin".to_owned(), "*".to_owned())),
                "{fields:?}"
            );
        }
    }
    let (_, status, fields) = curl(&format!("http://{}/v1/models", fleet.gateway.addr), "--http1.1", &[]);
    assert_eq!(status, 308, "the plain listener redirects");
    assert_eq!(wrong(&fields, &wanted, false), [""; 0], "the redirect");
    let _ = (std::fs::remove_file(cert), std::fs::remove_file(key));
    fleet.assert_quiet();
}
