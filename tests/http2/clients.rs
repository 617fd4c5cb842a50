//! Clients that people use, over HTTP/2: scripts of `tests/clients/`, which say what they expect.
//!
//! As in `tests/clients.rs`, `scripts/test` installs them; the Debian package `nghttp2-client` has h2load and nghttp.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use corelane::sim::Options;

use super::edge::{Edge, metric};
use super::support::fleet::until;
use super::support::get;

/// What the simulated server lists.
const MODELS: [&str; 3] = ["llama3.2", "nomic-embed-text", "fault-cut"];
/// Seconds a client may take for all it has to say; each takes less than ten.
const CLIENT_DEADLINE_S: &str = "60";

#[test]
fn curl_h2load_and_nghttp() {
    play(Path::new("bash"), &scripts().join("curl_http2.sh"));
}

#[test]
fn node_and_its_openai_sdk() {
    let copy = installed("node/node_modules").with_file_name("http2_node.mjs");
    fs::copy(scripts().join("http2_node.mjs"), &copy).expect("copy the script");
    play(Path::new("node"), &copy);
}

#[test]
fn python_openai_sdk() {
    play(&installed("venv/bin/python"), &scripts().join("http2_python.py"));
}

/// Runs a client to its end; then nothing of it may be left in the gateway.
fn play(program: &Path, script: &Path) {
    let options = Options {
        models: MODELS.map(|name| format!("{name}:latest")).into(),
        slots: 256,
        token_interval: Duration::from_millis(1),
        tokens: 12,
        ..Options::default()
    };
    let rest = "[[models]]\nname = \"ollama/*\"\nupstream_model = \"*\"\n[[models]]\nname = \"*\"\nupstream_model = \"*\"\n\
                [retry]\nattempts = 1\n";
    let edge = Edge::start(vec![options], "shards = 2", rest);
    let gateway = &edge.fleet.gateway;
    until("its models are known", || {
        String::from_utf8_lossy(&get(gateway.addr, "/v1/models").2).contains("ollama/llama3.2").then_some(())
    });
    let output = Command::new("timeout")
        .arg(CLIENT_DEADLINE_S)
        .args([program, script])
        .env_clear() // no proxy, key or address of the machine's own
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C.UTF-8")
        .env("CORELANE_URL", format!("https://{}", edge.addr()))
        .env("CORELANE_CA", edge.certificate.path())
        .output()
        .expect("run the client");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    print!("{said}");
    assert!(
        output.status.success(),
        "{}: {}\n{said}{complained}\nthe gateway says:\n{}",
        script.display(),
        output.status,
        gateway.log(),
    );
    edge.fleet.assert_quiet();
    assert_eq!(metric(gateway, "corelane_http2_abuses_total"), 0.0, "an honest client was cut off");
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// A file that `scripts/test` installs.
fn installed(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-clients").join(path);
    assert!(path.exists(), "{} is missing: run scripts/test, which installs the clients", path.display());
    path
}
