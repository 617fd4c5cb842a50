//! The SDK of OpenAI reads streams with comments before them as if there were none. `scripts/test` installs it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use corelane::sim::Options;

use super::support::fleet::Fleet;

#[test]
fn openai_python() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-clients/venv/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/test, which installs it", python.display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/queueing/heartbeats_openai.py");
    let options = Options {
        load_time: Duration::from_millis(800),
        models: ["llama3.2", "mistral", "fault-500"].map(|name| format!("{name}:latest")).into(),
        ..Options::default()
    };
    let rest = "[queue]\nheartbeat = \"100ms\"\n[retry]\nattempts = 1\n[breaker]\nenabled = false\n";
    let fleet = Fleet::start(vec![options], "shards = 1", rest).ready();
    let output = Command::new("timeout")
        .arg("60")
        .args([&python, &script])
        .env_clear() // no proxy, key or address of the machine's own
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C.UTF-8")
        .env("CORELANE_URL", format!("http://{}", fleet.gateway.addr))
        .output()
        .expect("run the client");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    fleet.assert_quiet();
}
