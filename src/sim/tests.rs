//! A simulated server over real sockets: a plain blocking client asks, and looks at every byte.

mod faults;
mod load;
mod shapes;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Handle, Options, start};
use crate::net::clock;
use crate::wire::http1::Chunked;

/// An answer, as far as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// The framing was kept to the end.
    whole: bool,
    /// The connection ended in a reset.
    reset: bool,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The `data:` of each event, `[DONE]` as a string.
    fn events(&self) -> Vec<Value> {
        assert!(self.head.contains("text/event-stream"), "{}", self.head);
        let events = self.text().split_terminator("\n\n");
        let data = events.map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap());
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data))).collect()
    }

    /// The names of named events.
    fn names(&self) -> Vec<&str> {
        self.text().lines().filter_map(|line| line.strip_prefix("event: ")).collect()
    }

    fn lines(&self) -> Vec<Value> {
        assert!(self.head.contains("application/x-ndjson"), "{}", self.head);
        assert!(self.body.ends_with(b"\n"));
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn server(options: Options) -> Handle {
    start(options).unwrap()
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

/// Sends a POST and does not wait.
fn begin(addr: SocketAddr, path: &str, body: &Value) -> TcpStream {
    let (mut stream, body) = (connect(addr), body.to_string());
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream
}

fn post(addr: SocketAddr, path: &str, body: &Value) -> Answer {
    finish(begin(addr, path, body))
}

fn get(addr: SocketAddr, path: &str) -> Answer {
    send(addr, &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"))
}

fn send(addr: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(addr);
    stream.write_all(request.as_bytes()).unwrap();
    finish(stream)
}

/// Reads to the end of the connection.
fn finish(mut stream: TcpStream) -> Answer {
    let mut all = Vec::new();
    let reset = stream.read_to_end(&mut all).is_err();
    let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Answer {
            status: 0,
            head: String::from_utf8(all).unwrap(),
            body: Vec::new(),
            whole: false,
            reset,
        };
    };
    let mut body = all.split_off(end + 4);
    let head = String::from_utf8(all).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let whole = match length {
        Some(length) => length.parse() == Ok(body.len()),
        None => {
            let mut chunked = Chunked::default();
            let decoded = chunked.decode(&mut body, 0);
            decoded.is_ok_and(|end| end == body.len()) && chunked.done()
        }
    };
    Answer { status: head[9..12].parse().unwrap(), head, body, whole, reset }
}

/// Waits for something that must come to be within five seconds.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = clock::now() + Duration::from_secs(5);
    while !is() {
        assert!(clock::now() < end, "{what} did not come to be");
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn chat(model: &str, text: &str, stream: bool) -> Value {
    json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": text }] })
}

fn load(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::Acquire)
}
