//! Model servers that answer as a test says, and note in one journal what each was asked and in which order.
//!
//! What they speak is OpenAI's `/v1`. An answer says whose it is (`from NAME`) and carries the model that was asked for.
//! [`Gate`] holds answers back until a test opens it. `support::upstream` reads the requests, strictly.
#![allow(dead_code)] // each test file uses its own part of this module

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::answer::{Answer, Reader};
use crate::support::fleet::{chat, connect, raw, until};
use crate::support::upstream::{Record, Reply, Then, Upstream, plain};
use crate::support::{Gateway, metrics};

/// What is said of every chat.
pub const CHAT: &str = "/v1/chat/completions";
/// How long an answer may take in any test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request for a model's work.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The server's name.
    pub server: String,
    /// The model that the server was asked for.
    pub model: String,
    /// The whole body.
    pub body: Value,
}

/// What all servers of a test were asked, in order.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Ask>>>);

impl Journal {
    /// `server/model` of every request since the last call.
    pub fn take(&self) -> Vec<String> {
        self.take_asks().iter().map(|ask| format!("{}/{}", ask.server, ask.model)).collect()
    }

    /// Every request since the last call.
    pub fn take_asks(&self) -> Vec<Ask> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// How many since the last call of the others.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// A server of this name, on a port of its own.
    pub fn server<F>(&self, name: &str, answer: F) -> SocketAddr
    where
        F: Fn(&Ask) -> Reply + Send + Sync + 'static,
    {
        let (journal, server) = (self.clone(), name.to_owned());
        let reply = move |record: &Record| {
            if record.method == "GET" {
                let list = json!({"object": "list", "data": [{"id": "m", "object": "model"}]});
                return whole(&list.to_string());
            }
            let body = record.json().unwrap_or_default();
            let model = body["model"].as_str().unwrap_or_default().to_owned();
            let ask = Ask { server: server.clone(), model, body };
            journal.0.lock().unwrap().push(ask.clone());
            answer(&ask)
        };
        Upstream::start("127.0.0.1:0".parse().unwrap(), reply).leaked()
    }
}

impl Upstream {
    /// Where it listens; it goes on with the test's process, and its records are dropped.
    fn leaked(self) -> SocketAddr {
        let Upstream { addr, records } = self;
        std::thread::spawn(move || records.iter().for_each(drop));
        addr
    }
}

/// A 200 with this JSON.
pub fn whole(body: &str) -> Reply {
    Reply { writes: vec![plain(body)], then: Then::Keep }
}

/// A right answer, whole or as a stream, of 3 prompt and 5 completion tokens.
pub fn good(ask: &Ask) -> Reply {
    let text = format!("from {}", ask.server);
    if ask.body["stream"] == true {
        return Reply { writes: vec![events(ask, true)], then: Then::Keep };
    }
    let body = json!({
        "id": "x", "object": "chat.completion", "created": 1, "model": ask.model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    });
    whole(&body.to_string())
}

/// A stream of two events and, if it is to be `ended`, its end.
pub fn events(ask: &Ask, ended: bool) -> Vec<u8> {
    let event = |choices: Value, usage: Value| {
        let value = json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": ask.model,
            "choices": choices, "usage": usage});
        chunk(&format!("data: {value}\n\n"))
    };
    let delta = |delta: Value, reason: Value| json!([{"index": 0, "delta": delta, "finish_reason": reason}]);
    let mut text =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    text += &event(delta(json!({"role": "assistant", "content": "from "}), Value::Null), Value::Null);
    text += &event(delta(json!({"content": ask.server}), Value::Null), Value::Null);
    if ended {
        text += &event(delta(json!({}), json!("stop")), Value::Null);
        text += &event(json!([]), json!({"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}));
        text += &chunk("data: [DONE]\n\n");
        text += "0\r\n\r\n";
    }
    text.into_bytes()
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// An error in OpenAI's shape, with more field lines.
pub fn refusal(status: u16, fields: &str, message: &str, code: Option<&str>) -> Reply {
    refusal_of(status, fields, &json!({"error": {"message": message, "type": "t", "code": code}}))
}

/// An error with this body.
pub fn refusal_of(status: u16, fields: &str, body: &Value) -> Reply {
    let (body, kind) = (body.to_string(), "Content-Type: application/json");
    let head = format!("HTTP/1.1 {status} X\r\n{kind}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    Reply { writes: vec![(head + &body).into_bytes()], then: Then::Keep }
}

/// The connection is closed without a byte.
pub fn death() -> Reply {
    Reply { writes: Vec::new(), then: Then::Close }
}

/// Holds whoever passes until it is open; counts who is held.
#[derive(Clone, Default)]
pub struct Gate {
    open: Arc<(Mutex<usize>, Condvar)>,
    held: Arc<AtomicUsize>,
}

impl Gate {
    /// Waits for one of the passes, for 30 s at most.
    pub fn pass(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
        let (passes, bell) = &*self.open;
        let guard = passes.lock().unwrap();
        let wait = bell.wait_timeout_while(guard, Duration::from_secs(30), |passes| *passes == 0);
        let mut passes = wait.unwrap().0;
        *passes = passes.saturating_sub(1);
        drop(passes);
        self.held.fetch_sub(1, Ordering::SeqCst);
    }

    /// Lets so many pass, now or later.
    pub fn let_pass(&self, count: usize) {
        let mut passes = self.open.0.lock().unwrap();
        *passes = passes.saturating_add(count);
        self.open.1.notify_all();
    }

    /// Lets everybody pass from now on.
    pub fn open(&self) {
        self.let_pass(usize::MAX / 2);
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

/// The configuration of a gateway in front of servers `(name, address)`, without probes. Servers are of kind `openai`,
/// but those whose names begin with `ollama`.
pub fn config(servers: &[(&str, SocketAddr)], server: &str, rest: &str) -> String {
    let mut toml =
        format!("[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\n{server}\n");
    if !rest.contains("[health]") {
        toml += "[health]\nenabled = false\n";
    }
    for (name, address) in servers {
        let kind = if name.starts_with("ollama") { "ollama" } else { "openai" };
        toml += &format!("[[endpoints]]\nname = \"{name}\"\nurl = \"http://{address}\"\nkind = \"{kind}\"\n");
    }
    toml + rest
}

/// POSTs with field lines on a connection of its own.
pub fn post_with(addr: SocketAddr, path: &str, fields: &str, body: &str) -> Answer {
    read(&mut posted(addr, path, fields, body))
}

/// A connection on which a POST was written.
pub fn posted(addr: SocketAddr, path: &str, fields: &str, body: &str) -> Reader {
    use std::io::Write as _;
    let mut reader = connect(addr);
    let length = body.len();
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: gw\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
    reader.stream().write_all(request.as_bytes()).unwrap();
    reader
}

/// The whole answer.
pub fn read(reader: &mut Reader) -> Answer {
    reader.answer(false, Instant::now() + PATIENCE).expect("an answer")
}

/// The sum over all samples that begin so: a name alone, or with labels up to their end. At least one is there.
pub fn value(gateway: &Gateway, series: &str) -> f64 {
    let page = metrics(gateway);
    let begins = |line: &&str| {
        line.strip_prefix(series).is_some_and(|rest| series.ends_with('}') || rest.starts_with([' ', '{']))
    };
    let values: Vec<f64> = page
        .lines()
        .filter(begins)
        .map(|line| line.rsplit(' ').next().unwrap().parse().expect("a number"))
        .collect();
    assert!(!values.is_empty(), "no sample of {series}");
    values.iter().sum()
}

/// All that comes of a stream, broken or not, without the framing of its chunks.
pub fn streamed(addr: SocketAddr, model: &str) -> String {
    let mut reader = posted(addr, CHAT, "Connection: close\r\n", &chat(model, true));
    let text = raw(&mut reader);
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    text
}

/// Text of the answer's body.
pub fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// The head of a stream.
pub fn chunk_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()
}

/// The configuration with so many slots at every endpoint.
pub fn with_slots(toml: &str, slots: u32) -> String {
    let more = format!("[[endpoints]]\nslots = {slots}\n");
    toml.replace("[[endpoints]]\n", &more)
}

/// Requests that wait now.
pub fn waiting(gateway: &Gateway) -> usize {
    value(gateway, "corelane_queue_waiting") as usize
}

/// Waits until so many wait.
pub fn until_waiting(gateway: &Gateway, count: usize) {
    until(&format!("{count} wait"), || (waiting(gateway) == count).then_some(()));
}
