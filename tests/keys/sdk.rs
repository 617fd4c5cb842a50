//! The SDKs of OpenAI: what they make of refusals, and that they wait as told. `scripts/test` installs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::fleet::{Fleet, model, quick};
use super::{SECRET, key, quota};

#[test]
fn openai_python() {
    play("keys_openai.py", |script| {
        let mut command = Command::new(installed("venv/bin/python"));
        command.arg(script);
        command
    });
}

#[test]
fn openai_node() {
    play("keys_openai.mjs", |script| {
        // Node looks for packages beside the script, so it is copied to where they are.
        let copy = installed("node/node_modules").with_file_name("keys_openai.mjs");
        fs::copy(script, &copy).unwrap();
        let mut command = Command::new("node");
        command.arg(copy);
        command
    });
}

fn play(script: &str, command: impl Fn(&Path) -> Command) {
    quota::room_in_minute(15);
    let rest = model("llama3.2", &["e0"], "")
        + &model("mistral", &["e0"], "")
        + &key("a", SECRET, "models = [\"llama3.2\"]")
        + &key("few", "sk-few-requests", "requests_per_minute = 1")
        + &key("paced", "sk-paced-requests", "")
        + "[[limits.zones]]\nname = \"pace\"\nrate = \"40r/m\"\nkey = \"header:x-pace\"\nroutes = [\"/v1/chat/\"]\nburst = 0\n";
    let server = "shards = 2\ntrusted_proxies = [\"127.0.0.1\"]";
    let fleet = Fleet::start(quick(1), server, &rest).ready();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let output = command(&script)
        .env_clear() // no proxy, key or address of the machine's own
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C.UTF-8")
        .env("CORELANE_URL", format!("http://{}", fleet.gateway.addr))
        .env("CORELANE_KEY", SECRET)
        .output()
        .expect("run the client");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    fleet.assert_quiet();
}

/// A file that `scripts/test` installs.
fn installed(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-clients").join(path);
    assert!(path.exists(), "{} is missing: run scripts/test, which installs the clients", path.display());
    path
}
