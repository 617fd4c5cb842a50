//! Promise: the command line, the configuration and the life of the process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "process/first.rs"]
mod first;
mod support;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use corelane::sim::Options;
use support::fleet::{Fleet, chat, connect, model, post, quick, send, until};
use support::{Gateway, get, metrics};

fn corelane(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corelane")).args(args).output().unwrap()
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("corelane-process-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn check_tells_all_errors_at_once() {
    let path = file(
        "bad",
        "[server]\nlissten = [\"127.0.0.1:0\"]\nbody_bytes_max = \"20 bananas\"\n[[endpoints]]\nname = \"a\"\nurl = \"ftp://x\"\n[[models]]\nname = \"m\"\nendpoints = [\"b\"]\n",
    );
    let output = corelane(&["check", path.to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    for part in [
        ":2: server.lissten",
        "listen",
        ":3: server.body_bytes_max",
        ":6: endpoints[0].url",
        ":9: models[0].endpoints",
    ] {
        assert!(text.contains(part), "no '{part}' in:\n{text}");
    }
    assert_eq!(corelane(&["serve", "-c", path.to_str().unwrap()]).status.code(), Some(2));
    assert_eq!(corelane(&["nonsense"]).status.code(), Some(2));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn config_prints_what_takes_effect() {
    let path = file(
        "good",
        "[[endpoints]]\nname = \"a\"\nurl = \"http://127.0.0.1:1\"\napi_key = \"sk-very-secret-key\"\n",
    );
    let output = corelane(&["config", "-c", path.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("max_concurrent_requests = 1000") && text.contains("interval = \"30s\""), "{text}");
    assert!(!text.contains("very-secret"), "{text}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn every_example_checks() {
    let folder = std::env::temp_dir().join(format!("corelane-examples-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("ssl")).unwrap(); // what the examples name is relative
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("ssl/cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("ssl/key.pem"), made.signing_key.serialize_pem()).unwrap();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_corelane"));
            let output = check.current_dir(&folder).arg("check").arg(&path).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {told}", path.display());
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_taken_port_ends_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "[server]\nlisten = [\"{}\"]\nadmin_listen = \"127.0.0.1:0\"\n[[endpoints]]\nname = \"a\"\nurl = \"http://127.0.0.1:1\"\n",
        taken.local_addr().unwrap()
    );
    let path = file("taken", &text);
    let output = corelane(&["serve", "-c", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("cannot listen on") && told.contains("ss -ltnp") && told.contains("server.listen"),
        "{told}"
    );
    std::fs::remove_file(path).unwrap();
}

#[test]
fn term_finishes_what_runs_and_exits_with_0() {
    let mut options = quick(1);
    options[0].token_interval = Duration::from_millis(50);
    let mut fleet = Fleet::start(options, "", "").ready();
    let mut stream = connect(fleet.gateway.addr);
    send(&mut stream, "/v1/chat/completions", &chat("llama3.2", true));
    let mut idle = connect(fleet.gateway.addr);
    let mut late = connect(fleet.gateway.addr);
    support::fleet::send_part(&mut late, "/v1/chat/completions", &chat("llama3.2", false));
    until("it runs", || metrics(&fleet.gateway).contains("in_flight{endpoint=\"e0\"} 1").then_some(()));
    let killed = Command::new("kill").args(["-TERM", &fleet.gateway.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    until("it drains", || support::fleet::draining(&fleet.gateway).then_some(()));
    support::fleet::send_rest(&mut late, &chat("llama3.2", false));
    let ten_s = Duration::from_secs(10);
    let served = late.answer(false, Instant::now() + ten_s).expect("what had begun to come is served");
    assert_eq!(served.status, 200);
    assert_eq!(support::fleet::raw(&mut late), "", "and its connection closed");
    let answer =
        stream.answer(false, Instant::now() + Duration::from_secs(10)).expect("the stream is finished");
    assert!(answer.body.ends_with(b"data: [DONE]\n\n"));
    drop(stream);
    assert_eq!(support::fleet::raw(&mut idle), "", "an idle connection is closed");
    until("it exits", || (!fleet.gateway.alive()).then_some(()));
    assert_eq!(fleet.gateway.exit_code(), Some(0));
}

/// A process that drains ends with what runs: what comes on a connection whose answer has just ended would be cut with it.
#[test]
fn a_connection_ends_with_the_answer_that_a_drain_has_waited_for() {
    let options = Options { tokens: 50, token_interval: Duration::from_millis(50), ..quick(1).remove(0) };
    let mut fleet = Fleet::start(vec![options], "drain_timeout = \"30s\"", "").ready();
    let mut stream = connect(fleet.gateway.addr);
    send(&mut stream, "/v1/chat/completions", &chat("llama3.2", true));
    until("it runs", || metrics(&fleet.gateway).contains("in_flight{endpoint=\"e0\"} 1").then_some(()));
    let killed = Command::new("kill").args(["-TERM", &fleet.gateway.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    let answer =
        stream.answer(false, Instant::now() + Duration::from_secs(20)).expect("the stream is finished");
    assert!(answer.body.ends_with(b"data: [DONE]\n\n"));
    let another = "POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Length: 2\r\n\r\n{}";
    let _ = stream.stream().write_all(another.as_bytes()); // it may be closed already
    assert_eq!(support::fleet::raw(&mut stream), "", "nothing more is served here");
    until("it exits", || (!fleet.gateway.alive()).then_some(()));
    assert_eq!(fleet.gateway.exit_code(), Some(0));
}

#[test]
fn drain_by_command() {
    let mut fleet = Fleet::start(quick(1), "", "").ready();
    let admin = fleet.gateway.admin.to_string();
    let status = corelane(&["status", "--admin", &admin]);
    assert!(status.status.success());
    assert!(String::from_utf8_lossy(&status.stdout).contains("\"draining\":false"));
    let reload = corelane(&["reload", "--admin", &admin]);
    assert!(reload.status.success() && String::from_utf8_lossy(&reload.stdout).contains("\"generation\":2"));
    assert!(corelane(&["drain", "--admin", &admin]).status.success());
    until("it exits", || (!fleet.gateway.alive()).then_some(()));
    assert_eq!(fleet.gateway.exit_code(), Some(0));
    assert_eq!(corelane(&["status", "--admin", &admin]).status.code(), Some(1));
}

#[test]
fn connections_are_shared_out_over_shards() {
    let mut options = quick(1);
    options[0].slots = 1000;
    let rest = model("m", &["e0"], "upstream_model = \"fault-hang\"");
    let fleet = Fleet::start(options, "shards = 4", &rest).ready();
    let mut held = Vec::new();
    for _ in 0..120 {
        let mut reader = connect(fleet.gateway.addr);
        send(&mut reader, "/v1/chat/completions", &chat("m", false));
        held.push(reader);
    }
    until("all are running", || {
        metrics(&fleet.gateway).contains("in_flight{endpoint=\"e0\"} 120").then_some(())
    });
    let page = metrics(&fleet.gateway);
    let counts: Vec<u64> = page
        .lines()
        .filter_map(|line| line.strip_prefix("corelane_client_connections{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(counts.iter().sum::<u64>(), 120);
    let most = counts.iter().max().unwrap();
    assert!(*most <= 30 + 30 / 4, "no shard holds much more than its share: {counts:?}");
    drop(held);
    fleet.assert_quiet();
}

#[test]
fn serves_without_probes_and_without_models() {
    let server = corelane::sim::start(quick(1).remove(0)).unwrap();
    let toml = support::fleet::configuration(&[server.addr], "shards = 1", "[health]\nenabled = false\n");
    let gateway = Gateway::start(&toml);
    assert_eq!(post(gateway.addr, "/v1/chat/completions", &chat("llama3.2", false)).status, 200);
    assert_eq!(post(gateway.addr, "/v1/chat/completions", &chat("ollama/llama3.2", false)).status, 200);
    assert_eq!(get(gateway.addr, "/health").0, 200);
}

#[test]
fn a_scrape_that_never_reads_stops_nobody() {
    let fleet = Fleet::start(quick(1), "shards = 1", "").ready();
    let mut stuck: Vec<_> = (0..20).map(|_| connect(fleet.gateway.admin)).collect();
    for reader in &mut stuck {
        for _ in 0..50 {
            let _ = std::io::Write::write_all(reader.stream(), b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        }
    }
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(post(fleet.gateway.addr, "/v1/chat/completions", &chat("llama3.2", false)).status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(get(fleet.gateway.admin, "/status").0, 200);
}
