//! What the tests share: a model server that misbehaves on request, the gateway's binary, and small readers.
//!
//! Blocking `std` only: the tests must not rest on the code they judge. Ports are of the kernel's choosing.
#![allow(dead_code)] // each test file uses its own part of this module
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test code

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use corelane_load::drive::{self, Options, Run};
use corelane_load::net::dial::Dial;
use corelane_load::plan::{Plan, Target};
use corelane_load::scenario::Scenario;
use serde_json::Value;

/// A request as the server has read it.
pub struct Heard {
    pub path: String,
    pub body: Value,
    /// Which request of its connection, from 0.
    pub turn: usize,
}

/// What the server does then.
pub struct Reply {
    pub wait: Duration,
    pub bytes: Vec<u8>,
    pub then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
    /// Closed so that the peer gets a reset.
    Reset,
    /// Nothing more comes, and the connection stays.
    Hang,
}

impl Reply {
    pub fn new(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self { wait: Duration::ZERO, bytes: bytes.into(), then }
    }
}

/// Starts a server that answers as `reply` says. It ends with the process.
pub fn serve<F: Fn(&Heard) -> Reply + Send + Sync + 'static>(reply: F) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let reply = Arc::new(reply);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let reply = Arc::clone(&reply);
            thread::spawn(move || connection(stream, &*reply));
        }
    });
    addr
}

fn connection(stream: TcpStream, reply: &dyn Fn(&Heard) -> Reply) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for turn in 0.. {
        let Some(mut heard) = hear(&mut reader) else { return };
        heard.turn = turn;
        let reply = reply(&heard);
        thread::sleep(reply.wait);
        if (&stream).write_all(&reply.bytes).is_err() {
            return;
        }
        match reply.then {
            Then::Keep => {}
            Then::Close => {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            Then::Reset => {
                // Bytes that were sent and never read make the kernel reset a connection that is closed.
                socket_reset(&stream);
                return;
            }
            Then::Hang => {
                let _ = reader.read(&mut [0]);
                return;
            }
        }
    }
}

fn socket_reset(stream: &TcpStream) {
    use std::os::fd::AsFd as _;
    rustix::net::sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO)).unwrap();
}

fn hear(reader: &mut BufReader<TcpStream>) -> Option<Heard> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Heard { path, body: serde_json::from_slice(&body).ok()?, turn: 0 })
}

/// What the simulated server would say: the text of an answer, word by word.
pub fn words(body: &Value) -> Vec<String> {
    let text = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    let tokens = body["max_tokens"].as_u64().unwrap() as usize;
    let mut words: Vec<String> =
        format!("You said: {text}").split(' ').map(|word| format!(" {word}")).collect();
    words[0].remove(0);
    words.resize(tokens, " word".to_owned());
    words
}

/// A whole answer with its head.
pub fn whole(body: &Value) -> String {
    let said = words(body).concat();
    plain(200, &format!(r#"{{"choices":[{{"message":{{"content":"{said}"}},"finish_reason":"stop"}}]}}"#))
}

/// An answer with a length.
pub fn plain(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The events of a stream; the last two are the end.
pub fn events(body: &Value) -> Vec<String> {
    let event = |word: &String| {
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}]}}\n\n")
    };
    let mut events: Vec<String> = words(body).iter().map(event).collect();
    events.push("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n".to_owned());
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// A stream of these events in chunks; `whole`: with its last chunk.
pub fn chunked(events: &[String], whole: bool) -> String {
    let mut out =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    events.iter().for_each(|event| out += &format!("{:x}\r\n{event}\r\n", event.len()));
    if whole {
        out += "0\r\n\r\n";
    }
    out
}

/// The right answer, whole or streamed.
pub fn right(heard: &Heard) -> Reply {
    let streams = heard.body["stream"].as_bool().unwrap_or(false);
    let bytes = if streams { chunked(&events(&heard.body), true) } else { whole(&heard.body) };
    Reply::new(bytes, Then::Keep)
}

/// Sends the load of a scenario in this process.
pub fn run(scenario: &str, addr: SocketAddr, threads: usize) -> (Arc<Plan>, Run) {
    let target = Target::parse(&format!("http://{addr}")).unwrap();
    let plan = Arc::new(Plan::new(Scenario::parse(scenario).unwrap(), target));
    let options = Options { dial: Dial { addr, tls: None }, threads, h2: None, stop: Arc::default() };
    let run = drive::run(&plan, &options, |_| {}).unwrap();
    (plan, run)
}

/// Runs `corelane-load` with these arguments.
pub fn load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corelane-load")).args(arguments).output().unwrap()
}

/// A file of this test process.
pub fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("corelane-load-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// The folder of this crate.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The gateway's binary: `CORELANE`, or beside the one of the load test.
pub fn corelane() -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_corelane-load")).with_file_name("corelane");
    let path = std::env::var_os("CORELANE").map_or(beside, PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: build the workspace (cargo build), or set CORELANE",
        path.display()
    );
    path
}

/// A process of the gateway's binary; killed when dropped.
pub struct Process {
    child: Child,
    /// The words of its `ready` line.
    pub ready: String,
}

impl Process {
    /// Starts it and waits for the `ready` line.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(corelane())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        while !ready.starts_with("ready ") {
            ready.clear();
            let count = reader.read_line(&mut ready).unwrap();
            assert!(count > 0, "{arguments:?} ended before it was ready");
        }
        thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        Self { child, ready }
    }

    /// A simulated server; its address.
    pub fn sim(arguments: &[&str]) -> (Self, String) {
        let process = Self::start(&[&["sim", "--tokens", "4096", "--slots", "64"], arguments].concat());
        let addr = process.word("http=");
        (process, addr)
    }

    /// What stands behind `name` in the `ready` line.
    pub fn word(&self, name: &str) -> String {
        let found = self.ready.split_whitespace().find_map(|word| word.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no {name} in {:?}", self.ready)).to_owned()
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway configuration of `scenarios/gateway/` with addresses of the kernel's choosing.
pub fn gateway(name: &str, sims: &[String], more: &[(&str, &str)]) -> Process {
    let mut text = std::fs::read_to_string(folder().join("scenarios/gateway").join(name)).unwrap();
    for address in ["127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8443"] {
        text = text.replace(address, "127.0.0.1:0");
    }
    for (at, sim) in sims.iter().enumerate() {
        text = text.replace(&format!("127.0.0.1:{}", 11434 + at), sim);
    }
    more.iter().for_each(|(from, to)| text = text.replace(from, to));
    let path = scratch(name);
    std::fs::write(&path, text).unwrap();
    Process::start(&["serve", "-c", path.to_str().unwrap()])
}
