//! A gateway with everything on that has a metric, and clients that never rest.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corelane::sim::{self, Fault, Handle, Options};

use crate::support::Gateway;
use crate::support::fleet::{chat, configuration, connect, model};
use crate::support::tls::Ca;

/// What the guard blocks.
const PHRASE: &str = "operation moonlight";
const RICH: &str = "sk-rich-key-1";
const POOR: &str = "sk-poor-key-1";
const CHAT: &str = "/v1/chat/completions";

/// The gateway and what is around it.
pub struct Stage {
    /// In front of four servers.
    pub gateway: Gateway,
    servers: Vec<Handle>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    folder: PathBuf,
    _ca: Ca,
}

impl Stage {
    /// Servers: `e0` answers, `e1` has one slot and takes its time, `e2` fails, `e3` says what it must not.
    pub fn set() -> Stage {
        let options = [
            Options { slots: 64, tokens: 8, ..Options::default() },
            Options {
                slots: 1,
                tokens: 8,
                prefill: Duration::from_millis(40),
                token_interval: Duration::from_millis(5),
                ..Options::default()
            },
            Options { fault: Fault::Status(500), ..Options::default() },
            Options { answer: Some(format!("That is {PHRASE}.")), ..Options::default() },
        ];
        let servers: Vec<Handle> = options.into_iter().map(|options| sim::start(options).unwrap()).collect();
        let addresses: Vec<_> = servers.iter().map(|server| server.addr).collect();
        let ca = Ca::new();
        let pair = ca.issue("server", &["localhost"]);
        let folder = std::env::temp_dir().join(format!("corelane-dashboards-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let price = "price = { input_per_1k = 0.5, output_per_1k = 1.0 }";
        let models = [
            model("llama3.2", &["e0"], price),
            model("narrow", &["e1"], &format!("upstream_model = \"llama3.2\"\n{price}")),
            model("broken", &["e2"], "upstream_model = \"llama3.2\""),
            model("saved", &["e2"], "upstream_model = \"llama3.2\"\nfallbacks = [\"llama3.2\"]"),
            model("leaky", &["e3"], "upstream_model = \"llama3.2\""),
            model("nomic-embed-text", &["e0"], ""),
        ];
        let rest = format!(
            "[metrics]\npairs = true\n[log]\naccess = {:?}\n[guard]\n[guard.input]\nscanners = [\"BanSubstrings\", \"Secrets\"]\n\
             [guard.output]\nscanners = [\"BanSubstrings\"]\n\
             [guard.scanner.BanSubstrings]\nsubstrings = [\"{PHRASE}\"]\n\
             [[keys]]\nname = \"rich\"\nsecret = \"{RICH}\"\nbudget = 1000.0\n\
             [[keys]]\nname = \"poor\"\nsecret = \"{POOR}\"\nbudget = 0.000001\n{}",
            folder.join("access.log"),
            models.concat(),
        );
        let server = format!(
            "shards = 2\n[server.tls]\nlisten = [\"127.0.0.1:0\"]\n{}[queue]\nmax = 100",
            pair.toml()
        );
        let toml = configuration(&addresses, &server, &rest);
        let gateway = Gateway::start(&toml.replace("name = \"e1\"\n", "name = \"e1\"\nslots = 1\n"));
        Stage { gateway, servers, stop: Arc::default(), clients: Vec::new(), folder, _ca: ca }
    }

    /// Clients that ask until the stage goes: several for the narrow model, and one for everything else.
    pub fn load(&mut self) {
        let addr = self.gateway.addr;
        let narrow = move |_: &mut u64| ask(addr, RICH, CHAT, &chat("narrow", true), &[200]);
        for _ in 0..3 {
            self.client(narrow);
        }
        self.client(move |round| {
            everything(addr, *round);
            *round += 1;
        });
    }

    fn client(&mut self, mut turn: impl FnMut(&mut u64) + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.clients.push(thread::spawn(move || {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                turn(&mut round);
            }
        }));
    }

    /// Ends the clients; what one of them found wrong is told now.
    pub fn rest(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("a client's answers were as they should be");
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
        self.servers.iter_mut().for_each(|server| server.stop());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Answers, streams and embeddings; failures, with and without a fallback; blocks of both directions; bad keys.
fn everything(addr: std::net::SocketAddr, round: u64) {
    let about = |model: &str, text: &str| chat(model, false).replace("\"hi\"", &format!("\"{text}\""));
    ask(addr, RICH, CHAT, &chat("llama3.2", false), &[200]);
    ask(addr, RICH, CHAT, &about("llama3.2", &format!("a text of its own, {round}")), &[200]);
    ask(addr, RICH, CHAT, &chat("llama3.2", true), &[200]);
    ask(addr, RICH, "/api/chat", &chat("llama3.2", true), &[200]);
    ask(addr, RICH, "/v1/embeddings", r#"{"model":"nomic-embed-text","input":["one","two"]}"#, &[200]);
    ask(addr, RICH, CHAT, &chat("saved", false), &[200]);
    ask(addr, RICH, CHAT, &chat("broken", false), &[500, 502, 503]);
    ask(addr, RICH, CHAT, &about("llama3.2", PHRASE), &[400]);
    ask(addr, RICH, CHAT, &chat("leaky", false), &[400]);
    ask(addr, RICH, CHAT, "{", &[400]);
    ask(addr, "sk-nobody", CHAT, &chat("llama3.2", false), &[401]);
    ask(addr, POOR, CHAT, &chat("llama3.2", false), if round == 0 { &[200] } else { &[400, 402, 403, 429] });
}

/// One exchange on a connection of its own.
fn ask(addr: std::net::SocketAddr, key: &str, path: &str, body: &str, statuses: &[u16]) {
    let mut reader = connect(addr);
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {key}\r\nConnection: close");
    let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    reader.stream().write_all(request.as_bytes()).unwrap();
    let answer = reader.answer(false, Instant::now() + Duration::from_secs(20)).expect("an answer");
    let text = String::from_utf8_lossy(&answer.body);
    assert!(statuses.contains(&answer.status), "{path} {body}: {} {text}", answer.status);
}
