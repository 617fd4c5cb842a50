//! Promise: clients that people use notice no difference, neither when all is well nor when it is not.
//!
//! Each test starts a simulated Ollama, a gateway in front of it, and a real client in a process of its own: a
//! script of `tests/clients/` which says what it expects and fails with the first thing that is otherwise. The
//! scripts also run the code that `docs/clients.md` shows. The clients' versions are pinned in `requirements.txt` and
//! `package-lock.json` there; `scripts/test` installs them in `target/test-clients/`. Models named `fault-…` misbehave as their names say (`corelane::sim::Fault`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use corelane::sim::{self, Handle, Options};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use support::Gateway;

/// What the simulated server lists: a gateway that has probed it serves nothing else.
const MODELS: [&str; 21] = [
    "llama3.2",
    "nomic-embed-text",
    "think",
    "fault-none",
    "fault-400",
    "fault-401",
    "fault-403",
    "fault-422",
    "fault-429",
    "fault-500",
    "fault-503",
    "fault-reset",
    "fault-close",
    "fault-cut-head",
    "fault-cut",
    "fault-nodone",
    "fault-error-event",
    "fault-garbage",
    "fault-wrong-length",
    "fault-chunk-garbage",
    "fault-hang",
];
/// Between tokens: a stream's faults strike after its beginning has gone to the client.
const TOKEN_INTERVAL: Duration = Duration::from_millis(2);
/// How long a gateway may take to find the models of its endpoint.
const DISCOVERY_DEADLINE: Duration = Duration::from_secs(5);
/// Seconds a client may take for all it has to say; each takes less than ten, and at first a minute to compile.
const CLIENT_DEADLINE_S: &str = "200";

#[test]
fn openai_python() {
    python("openai_python.py");
}

#[test]
fn openai_node() {
    node("openai_node.mjs");
}

#[test]
fn ollama_python() {
    python("ollama_python.py");
}

#[test]
fn ollama_js() {
    node("ollama_js.mjs");
}

#[test]
fn langchain() {
    python("langchain_chat.py");
}

#[test]
fn llamaindex() {
    python("llamaindex_ollama.py");
}

#[test]
fn litellm() {
    python("litellm_sdk.py");
}

#[test]
fn anthropic_python() {
    python("anthropic_python.py");
}

#[test]
fn anthropic_node() {
    node("anthropic_node.mjs");
}

#[test]
fn vercel_ai() {
    node("vercel_ai.mjs");
}

#[test]
fn openwebui_calls() {
    python("openwebui_calls.py");
}

#[test]
fn continue_calls() {
    node("continue_calls.mjs");
}

#[test]
fn curl_bare() {
    Stage::set().play(Path::new("bash"), &scripts().join("curl_bare.sh"));
}

/// What docs/clients.md shows is what a script runs: no block of code stands there that none has taken.
#[test]
fn every_snippet_is_run() {
    let text = fs::read_to_string(page()).unwrap();
    let all =
        fs::read_dir(scripts()).unwrap().filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
    let all = all.collect::<Vec<_>>().concat();
    let mut blocks = 0;
    for section in text.split("\n## ").skip(1) {
        let heading = section.lines().next().unwrap();
        let fences = section.lines().filter(|line| ["```python", "```js", "```sh"].contains(line)).count();
        assert!(fences < 2, "{heading}: only the first block is run");
        let runs = [
            format!("documented.run(\"{heading}\")"),
            format!("documented(\"{heading}\""),
            format!("/^## {heading}$/"),
        ];
        assert!(fences == 0 || runs.iter().any(|call| all.contains(call)), "{heading}: no script runs it");
        blocks += fences;
    }
    assert_eq!(blocks, 11);
}

#[test]
fn requests_guide() {
    python("requests_guide.py");
}

#[test]
fn curl_guide() {
    Stage::set().play(Path::new("bash"), &scripts().join("curl_guide.sh"));
}

fn python(script: &str) {
    Stage::set().play(&installed("venv/bin/python"), &scripts().join(script));
}

/// Node looks for packages beside the script, so it is copied to where they are.
fn node(script: &str) {
    let copy = installed("node/node_modules").with_file_name(script);
    fs::copy(scripts().join(script), &copy).expect("copy the script");
    Stage::set().play(Path::new("node"), &copy);
}

/// A model server and a gateway in front of it.
struct Stage {
    sim: Handle,
    gateway: Gateway,
}

impl Stage {
    /// Starts both and waits until the gateway knows the models.
    fn set() -> Stage {
        let sim = sim::start(Options {
            models: MODELS.map(|name| format!("{name}:latest")).into(),
            slots: 64,
            token_interval: TOKEN_INTERVAL,
            ..Options::default()
        })
        .expect("start the simulated server");
        let gateway = Gateway::start(&format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nshards = 2\n\
             [[endpoints]]\nname = \"sim\"\nurl = \"http://{}\"\n\
             [[models]]\nname = \"ollama/*\"\nupstream_model = \"*\"\n\
             [[models]]\nname = \"*\"\nupstream_model = \"*\"\n\
             [retry]\nattempts = 2\nbackoff = \"10ms\"\n\
             [guard]\n[guard.input]\nscanners = [\"BanSubstrings\"]\n[guard.output]\nscanners = [\"BanSubstrings\"]\n\
             [guard.input.scanner.BanSubstrings]\nsubstrings = [\"forbidden question\"]\n\
             [guard.output.scanner.BanSubstrings]\nsubstrings = [\"forbidden answer\"]\n",
            sim.addr
        ));
        let deadline = Instant::now() + DISCOVERY_DEADLINE;
        while !String::from_utf8_lossy(&support::get(gateway.addr, "/v1/models").2)
            .contains("ollama/llama3.2")
        {
            assert!(Instant::now() < deadline, "no models after 5 s; the gateway says:\n{}", gateway.log());
            thread::sleep(Duration::from_millis(10));
        }
        Stage { sim, gateway }
    }

    /// Runs a client to its end; then nothing of it may be left in the gateway.
    fn play(self, program: &Path, script: &Path) {
        let output = Command::new("timeout")
            .arg(CLIENT_DEADLINE_S)
            .args([program, script])
            .env_clear() // no proxy, key or address of the machine's own
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C.UTF-8")
            .env("CORELANE_URL", format!("http://{}", self.gateway.addr))
            .env("PYTHONPYCACHEPREFIX", clients().join("pycache")) // none beside the scripts
            .env("CORELANE_DOCS", page())
            .env("CORELANE_SCRIPTS", scripts())
            .env("CORELANE_DIRECT", format!("http://{}", self.sim.addr))
            .output()
            .expect("run the client");
        assert!(
            output.status.success(),
            "{}: {}\n{}{}\nthe gateway says:\n{}",
            script.display(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.gateway.log(),
        );
        support::assert_gauges_zero(&self.gateway);
        self.sim.stop();
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// The page whose code the scripts run.
fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md")
}

/// Where `scripts/test` installs the clients.
fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-clients")
}

/// A file that `scripts/test` installs.
fn installed(path: &str) -> PathBuf {
    let path = clients().join(path);
    assert!(path.exists(), "{} is missing: run scripts/test, which installs the clients", path.display());
    path
}
