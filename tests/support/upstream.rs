//! A model server that records what it gets and trusts nothing: the oracle of the framing tests.
//!
//! Every request is parsed by the letter of RFC 9112; what breaks a rule is noted as a fault of
//! whoever sent it. The answer comes from a function, so that the same server can also misbehave.
//! Records go through a channel, in the order in which the requests were complete.

use super::answer::{find, show};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Which connection, counted from 1.
    pub connection: usize,
    /// Which request on its connection, counted from 1.
    pub turn: usize,
    /// The method.
    pub method: String,
    /// The target, unchanged.
    pub target: String,
    /// Fields in order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The content.
    pub body: Vec<u8>,
    /// Rules that the sender broke.
    pub faults: Vec<String>,
    /// Whether the place of the next request is in doubt.
    pub lost: bool,
}

impl Record {
    /// The `user` member of a JSON body: the mark by which tests know their requests.
    pub fn user(&self) -> Option<String> {
        Some(self.json()?.get("user")?.as_str()?.to_owned())
    }

    /// The body as JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// One line for a message.
    pub fn summary(&self) -> String {
        let (user, body) = (self.user().unwrap_or_default(), show(&self.body));
        format!("{} {} user {user:?} body {body} faults {:?}", self.method, self.target, self.faults)
    }

    fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }
}

/// What the upstream sends back.
pub struct Reply {
    /// Raw bytes, in writes with a pause of 5 ms between them.
    pub writes: Vec<Vec<u8>>,
    /// What happens then.
    pub then: Then,
}

/// What happens to a connection behind a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next request is awaited.
    Keep,
    /// The connection is closed.
    Close,
}

/// A recording upstream; its threads end with the connections.
pub struct Upstream {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Each request, when it is complete or has broken a rule.
    pub records: Receiver<Record>,
}

impl Upstream {
    /// Listens on `listen` (port 0: the kernel's choice) and answers with what `reply` returns.
    pub fn start<F>(listen: SocketAddr, reply: F) -> Upstream
    where
        F: Fn(&Record) -> Reply + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(listen).expect("bind the upstream");
        let addr = listener.local_addr().unwrap();
        let (send, records) = channel();
        let reply: Arc<dyn Fn(&Record) -> Reply + Send + Sync> = Arc::new(reply);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let (send, reply) = (send.clone(), Arc::clone(&reply));
                thread::spawn(move || serve(stream, number + 1, &send, &*reply));
            }
        });
        Upstream { addr, records }
    }
}

/// The fixed good answer; its `id` is the `user` of the request, so that a client knows whose it is.
pub fn echo(record: &Record) -> Reply {
    let body = if record.method == "GET" {
        json!({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]})
    } else {
        completion(&record.user().unwrap_or_else(|| "x".into()))
    };
    Reply { writes: vec![plain(&body.to_string())], then: Then::Keep }
}

/// A chat completion with this id.
pub fn completion(id: &str) -> Value {
    json!({
        "id": id, "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    })
}

/// A 200 with this JSON text.
pub fn plain(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into()
}

fn serve(mut stream: TcpStream, connection: usize, send: &Sender<Record>, reply: &dyn Fn(&Record) -> Reply) {
    let _ = stream.set_nodelay(true);
    let mut ahead = Vec::new();
    for turn in 1.. {
        let Some(mut record) = read(&mut stream, &mut ahead) else { return };
        (record.connection, record.turn) = (connection, turn);
        let lost = record.lost;
        let reply = reply(&record);
        if send.send(record).is_err() {
            return;
        }
        for (index, bytes) in reply.writes.iter().enumerate() {
            if index > 0 {
                thread::sleep(Duration::from_millis(5));
            }
            if stream.write_all(bytes).is_err() {
                return;
            }
        }
        match reply.then {
            Then::Keep if !lost => {}
            _ => {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

/// One request; `None` when the peer closed between requests.
fn read(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> Option<Record> {
    let end = loop {
        if let Some(end) = find(ahead, b"\r\n\r\n") {
            break end;
        }
        if !more(stream, ahead) {
            return (!ahead.is_empty()).then(|| cut(ahead, "cut within the head"));
        }
    };
    let head: Vec<u8> = ahead.drain(..end + 4).collect();
    let mut record = parse_head(&head[..end]);
    let length = match record.values("content-length")[..] {
        [] => 0,
        [one] if !one.is_empty() && one.bytes().all(|b| b.is_ascii_digit()) => one.parse().unwrap_or(0),
        ref other => {
            let fault = format!("lengths {other:?}");
            record.faults.push(fault);
            record.lost = true;
            0
        }
    };
    while ahead.len() < length {
        if !more(stream, ahead) {
            record.faults.push(format!("cut within the content: {} of {length}", ahead.len()));
            record.body = std::mem::take(ahead);
            record.lost = true;
            return Some(record);
        }
    }
    record.body = ahead.drain(..length).collect();
    Some(record)
}

fn cut(ahead: &mut Vec<u8>, why: &str) -> Record {
    let bytes = std::mem::take(ahead);
    Record { faults: vec![format!("{why}: {}", show(&bytes))], lost: true, ..Record::default() }
}

fn more(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer) {
        Ok(count) if count > 0 => {
            ahead.extend_from_slice(&buffer[..count]);
            true
        }
        _ => false,
    }
}

/// Request line and fields, with every fault noted.
fn parse_head(head: &[u8]) -> Record {
    let mut record = Record::default();
    let text: String = head.iter().map(|&b| char::from(b)).collect();
    let mut lines = text.split("\r\n");
    let request_line = lines.next().unwrap_or_default();
    let parts: Vec<&str> = request_line.split(' ').collect();
    match parts[..] {
        [method, target, "HTTP/1.1"]
            if token(method) && target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            record.method = method.into();
            record.target = target.into();
        }
        _ => record.faults.push(format!("request line {}", show(request_line.as_bytes()))),
    }
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, "\0"));
        if !token(name) || value.chars().any(|c| c < ' ' && c != '\t' || c == '\x7f') {
            record.faults.push(format!("field line {}", show(line.as_bytes())));
        }
        record.fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    note_field_faults(&mut record);
    record
}

/// Fields that a gateway which re-serialises requests never sends on.
fn note_field_faults(record: &mut Record) {
    const HOP: [&str; 7] =
        ["transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "proxy-connection", "expect"];
    let mut faults = Vec::new();
    for (name, value) in &record.fields {
        let own = matches!(value.to_ascii_lowercase().as_str(), "close" | "keep-alive");
        if HOP.contains(&name.as_str()) || (name == "connection" && !own) {
            faults.push(format!("hop-by-hop field {name}: {value}"));
        }
    }
    match record.values("host")[..] {
        [host] if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', ',']) => {}
        ref other => faults.push(format!("hosts {other:?}")),
    }
    if record.method == "POST" && record.values("content-length").is_empty() {
        faults.push("POST without a length".into());
    }
    record.faults.extend(faults);
}

fn token(text: &str) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || special.contains(&b))
}
