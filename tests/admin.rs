//! Promise: who may see and change a running gateway. Without a token: whoever reaches the admin listener may look, and
//! only this machine may change anything, and of pages of a browser only the gateway's own. With one: nobody without it, but for `/health`;
//! keys of callers don't open the admin listener, and the token opens nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::answer::Answer;
use support::fleet::{Fleet, chat, configuration, connect, draining, json, quick, until};
use support::{Gateway, assert_gauges_zero};

const TOKEN: &str = "canary-admin-token-4f";
const KEY: &str = "[[keys]]\nname = \"a\"\nsecret = \"sk-data-key-of-a\"\n";
const READS: [&str; 3] = ["/metrics", "/metrics/", "/status"];
const CHANGES: [&str; 4] = ["/reload", "/endpoints/e0/disable", "/endpoints/e0/enable", "/drain"];

fn ask(addr: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    ask_at(addr, "admin", method, path, fields, body)
}

/// As [`ask`], of this `Host`.
fn ask_at(addr: SocketAddr, host: &str, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let mut reader = connect(addr);
    let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}{length}\r\n{body}");
    reader.stream().write_all(request.as_bytes()).unwrap();
    reader.answer(method == "HEAD", Instant::now() + Duration::from_secs(10)).expect("an answer")
}

fn status(addr: SocketAddr, method: &str, path: &str, fields: &str) -> u16 {
    ask(addr, method, path, fields, "").status
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Whether the first endpoint is switched off.
fn disabled(addr: SocketAddr, fields: &str) -> bool {
    json(&ask(addr, "GET", "/status", fields, ""))["endpoints"][0]["disabled"] == true
}

#[test]
fn without_a_token_this_machine_may_do_all_but_its_browsers_may_not() {
    let fleet = Fleet::start(quick(1), "shards = 1", KEY).ready();
    let admin = fleet.gateway.admin;
    for path in READS.iter().chain(&["/health", "/health/liveliness"]) {
        assert_eq!(status(admin, "GET", path, ""), 200, "{path}");
        assert_eq!(status(admin, "HEAD", path, ""), 200, "{path}");
    }
    for origin in ["https://evil.example", "http://localhost:3000", "http://127.0.0.1", "null", "file://"] {
        for path in CHANGES {
            let fields = format!("Origin: {origin}\r\nContent-Type: text/plain\r\n");
            assert_eq!(status(admin, "POST", path, &fields), 403, "{path} {origin}");
            assert!(ask(admin, "OPTIONS", path, &fields, "").field("access-control-allow-origin").is_none());
        }
    }
    assert!(!disabled(admin, "") && !draining(&fleet.gateway), "nothing was done");
    assert_eq!(status(admin, "POST", "/endpoints/e0/disable", ""), 200);
    assert!(disabled(admin, ""));
    assert_eq!(status(admin, "POST", "/endpoints/e0/enable", ""), 200);
    assert!(!disabled(admin, ""));
    for (method, path, expected) in [
        ("GET", "/drain", 405),
        ("GET", "/endpoints/e0/disable", 405),
        ("HEAD", "/reload", 405),
        ("POST", "/status", 405),
        ("POST", "/endpoints/none/disable", 404),
        ("GET", "/nothing", 404),
        ("GET", "/v1/models", 404),
    ] {
        assert_eq!(status(admin, method, path, ""), expected, "{method} {path}");
    }
    assert!(!draining(&fleet.gateway) && !disabled(admin, ""));
    fleet.assert_quiet();
    assert_eq!(status(admin, "POST", "/drain", ""), 202);
    until("it drains", || connect_refused(fleet.gateway.addr).then_some(()));
}

fn connect_refused(addr: SocketAddr) -> bool {
    std::net::TcpStream::connect(addr).is_err()
}

#[test]
fn a_token_is_asked_for_everywhere_but_for_health() {
    let server = format!("shards = 1\nadmin_token = \"{TOKEN}\"");
    let toml = |addresses: &[SocketAddr]| configuration(addresses, &server, KEY);
    let endpoint = corelane::sim::start(quick(1).remove(0)).unwrap();
    let gateway = Gateway::start(&toml(&[endpoint.addr]));
    let admin = gateway.admin;
    for path in ["/health", "/health/liveliness"] {
        assert_eq!(status(admin, "GET", path, ""), 200);
        assert_eq!(status(admin, "HEAD", path, &bearer("wrong")), 200);
    }
    let longer = format!("{TOKEN}x");
    let wrong = [
        String::new(),
        bearer("wrong"),
        bearer(""),
        bearer("sk-data-key-of-a"),
        bearer(&longer),
        bearer(&TOKEN[..TOKEN.len() - 1]),
        bearer(&TOKEN.to_uppercase()),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("X-Api-Key: {TOKEN}\r\n"),
        format!("api-key: {TOKEN}\r\nx-litellm-api-key: {TOKEN}\r\n"),
        format!("Cookie: token={TOKEN}\r\n"),
    ];
    for fields in &wrong {
        for path in READS {
            let answer = ask(admin, "GET", path, fields, "");
            assert_eq!(answer.status, 401, "{path} {fields}");
            assert_eq!(answer.field("www-authenticate"), Some("Bearer"));
            assert!(!String::from_utf8_lossy(&answer.body).contains(TOKEN));
            assert_eq!(status(admin, "HEAD", path, fields), 401);
        }
        for path in CHANGES.iter().chain(&["/nothing", "/health"]) {
            assert_eq!(status(admin, "POST", path, fields), 401, "{path} {fields}");
        }
        assert_eq!(status(admin, "GET", "/nothing", fields), 401, "what there is, is not told");
    }
    let doubled = bearer("wrong") + &bearer(TOKEN);
    assert_eq!(status(admin, "GET", "/status", &doubled), 400);
    for fields in [bearer(TOKEN), format!("authorization: bearer  {TOKEN} \r\n")] {
        for path in READS {
            assert_eq!(status(admin, "GET", path, &fields), 200, "{path}");
        }
        assert!(!disabled(admin, &fields));
        assert_eq!(
            status(
                admin,
                "POST",
                "/endpoints/e0/disable",
                &(fields.clone() + "Origin: http://a.example\r\n")
            ),
            403
        );
        assert!(!disabled(admin, &fields));
        assert_eq!(status(admin, "POST", "/endpoints/e0/disable", &fields), 200);
        assert!(disabled(admin, &fields));
        assert_eq!(status(admin, "POST", "/endpoints/e0/enable", &fields), 200);
    }
    // The token is no key.
    for fields in [bearer(TOKEN), format!("x-api-key: {TOKEN}\r\n")] {
        assert_eq!(
            ask(gateway.addr, "POST", "/v1/chat/completions", &fields, &chat("llama3.2", false)).status,
            401
        );
        assert_eq!(status(gateway.addr, "GET", "/metrics", &fields), 401);
    }
    assert!(!gateway.log().contains(TOKEN));
}

#[test]
fn only_the_page_of_this_address_may_change_anything() {
    let fleet = Fleet::start(quick(1), "shards = 1", KEY).ready();
    let admin = fleet.gateway.admin;
    let port = admin.port();
    let post = |host: &str, origin: &str| {
        let fields = format!("Origin: {origin}\r\n");
        ask_at(admin, host, "POST", "/endpoints/e0/disable", &fields, "").status
    };
    let (own, name) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    for (host, origin) in [
        (own.as_str(), "http://127.0.0.1".to_owned()), // a server on another port
        (&own, format!("http://127.0.0.1:{}", port ^ 1)),
        (&own, format!("http://{name}")), // another origin, though the same machine
        (&own, format!("https://{own}")),
        (&own, "null".to_owned()),
        (&own, "http://evil.example".to_owned()),
        (&own, format!("http://{own}.evil.example")),
        (&own, format!("http://{own}, http://{own}")),
        ("evil.example", "http://evil.example".to_owned()), // a name that was pointed at this machine
        ("127.0.0.1.evil.example", "http://127.0.0.1.evil.example".to_owned()),
        ("10.9.8.7:8001", "http://10.9.8.7:8001".to_owned()),
    ] {
        assert_eq!(post(host, &origin), 403, "{host} {origin}");
        let fields = format!("Origin: {origin}\r\n");
        for path in ["/drain", "/reload"] {
            assert_eq!(ask_at(admin, host, "POST", path, &fields, "").status, 403, "{path} {host} {origin}");
        }
    }
    assert!(!disabled(admin, "") && !draining(&fleet.gateway), "nothing was done");
    for host in [own.as_str(), &name, &format!("[::1]:{port}"), "127.0.0.1"] {
        assert_eq!(post(host, &format!("http://{host}")), 200, "{host}");
        assert!(disabled(admin, ""));
        assert_eq!(status(admin, "POST", "/endpoints/e0/enable", ""), 200);
    }
    fleet.assert_quiet();
}

#[test]
fn the_own_page_needs_the_token_too() {
    let server = format!("shards = 1\nadmin_token = \"{TOKEN}\"");
    let gateway = Gateway::start(&configuration(&["127.0.0.1:9".parse().unwrap()], &server, KEY));
    let host = gateway.admin.to_string();
    let own = format!("Origin: http://{host}\r\n");
    let post =
        |fields: &str| ask_at(gateway.admin, &host, "POST", "/endpoints/e0/disable", fields, "").status;
    assert_eq!(post(&own), 401);
    assert_eq!(post(&(own.clone() + &bearer("wrong"))), 401);
    assert_eq!(post(&(own + &bearer(TOKEN))), 200);
    assert_eq!(post(&(bearer(TOKEN) + "Origin: http://evil.example\r\n")), 403);
}

#[test]
fn the_metrics_of_the_data_listener_need_a_key_and_no_token() {
    let server = format!("shards = 1\nadmin_token = \"{TOKEN}\"");
    let toml = configuration(&["127.0.0.1:9".parse().unwrap()], &server, KEY);
    let gateway = Gateway::start(&toml);
    assert_eq!(status(gateway.addr, "GET", "/metrics", ""), 401);
    let answer = ask(gateway.addr, "GET", "/metrics", &bearer("sk-data-key-of-a"), "");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let page = String::from_utf8(answer.body).unwrap();
    assert!(page.contains("corelane_client_connections") && !page.contains(TOKEN));
}

#[test]
fn others_may_look_and_not_change() {
    let toml = configuration(&["127.0.0.1:9".parse().unwrap()], "shards = 1", "");
    let open = toml.replace("admin_listen = \"127.0.0.1:0\"", "admin_listen = \"0.0.0.0:0\"");
    let gateway = Gateway::start(&open);
    let port = gateway.admin.port();
    let here = SocketAddr::from(([127, 0, 0, 1], port));
    // The machine's own address, as another machine would reach it. No packet is sent for it.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let routed = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr()).map(|own| own.ip());
    match routed {
        Ok(own @ IpAddr::V4(_)) if !own.is_loopback() && !own.is_unspecified() => {
            let there = SocketAddr::new(own, port);
            for path in READS {
                assert_eq!(status(there, "GET", path, ""), 200, "{path}");
            }
            for path in CHANGES {
                assert_eq!(status(there, "POST", path, ""), 403, "{path}");
                assert_eq!(status(there, "POST", path, &bearer("")), 403, "{path}");
                assert_eq!(status(there, "POST", path, "X-Forwarded-For: 127.0.0.1\r\n"), 403, "{path}");
            }
        }
        _ => println!("this machine has no address but its own: only that is tried"),
    }
    assert!(!disabled(here, ""));
    assert_eq!(status(here, "POST", "/endpoints/e0/disable", ""), 200);
    assert!(disabled(here, ""));
    assert_gauges_zero_of(&gateway, here);
}

/// The gauges by an address that can be connected to.
fn assert_gauges_zero_of(gateway: &Gateway, admin: SocketAddr) {
    assert!(gateway.admin.ip().is_unspecified() && admin.port() == gateway.admin.port());
    assert_gauges_zero(gateway);
}

fn corelane(command: &str, config: Option<&std::path::Path>, admin: SocketAddr) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_corelane"));
    process.arg(command).arg("--admin").arg(admin.to_string());
    if let Some(config) = config {
        process.arg("-c").arg(config);
    }
    process.output().unwrap()
}

#[test]
fn the_command_line_shows_the_token_of_its_configuration() {
    let server = format!("shards = 1\nadmin_token = \"{TOKEN}\"");
    let toml = configuration(&["127.0.0.1:9".parse().unwrap()], &server, "");
    let mut gateway = Gateway::start(&toml);
    let other = std::env::temp_dir().join(format!("corelane-admin-{}.toml", std::process::id()));
    std::fs::write(&other, toml.replace(TOKEN, "another-token-9a")).unwrap();
    let config = gateway.config_path().clone();
    for command in ["status", "reload", "drain"] {
        for config in [None, Some(other.as_path())] {
            let output = corelane(command, config, gateway.admin);
            assert_eq!(output.status.code(), Some(1), "{command} {config:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains("admin_token"), "{output:?}");
        }
    }
    let status = corelane("status", Some(&config), gateway.admin);
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let value: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&value["draining"], &value["endpoints"][0]["name"]), (&false.into(), &"e0".into()));
    let reload = corelane("reload", Some(&config), gateway.admin);
    let told = String::from_utf8_lossy(&reload.stdout);
    assert!(reload.status.success() && told.contains("generation"), "{told}");
    let drain = corelane("drain", Some(&config), gateway.admin);
    assert_eq!(drain.status.code(), Some(0), "{drain:?}");
    until("it is gone", || gateway.exit_code());
    assert_eq!(gateway.exit_code(), Some(0));
    assert!(!gateway.log().contains(TOKEN));
    std::fs::remove_file(other).unwrap();
}
