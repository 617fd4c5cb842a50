//! A gateway in front of simulated servers, and one-line requests to it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use corelane::sim::{self, Handle, Options};

use super::Gateway;
use super::answer::{Answer, Reader, Trouble};

/// Simulated servers `e0`, `e1`, … and the gateway in front of them.
pub struct Fleet {
    /// The gateway.
    pub gateway: Gateway,
    /// The servers in order.
    pub servers: Vec<Handle>,
}

impl Fleet {
    /// Starts one server per entry of `options`, and a gateway with `server` as the inside of `[server]` and `rest`
    /// at the end of the file. Probes run every 200 ms unless `rest` has its own `[health]`.
    pub fn start(options: Vec<Options>, server: &str, rest: &str) -> Fleet {
        let servers: Vec<Handle> = options.into_iter().map(|options| sim::start(options).unwrap()).collect();
        let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.addr).collect();
        Fleet { gateway: Gateway::start(&configuration(&addresses, server, rest)), servers }
    }

    /// Waits until probes have found every server, so that discovery plays no part in the test.
    pub fn ready(self) -> Fleet {
        until("every endpoint probed", || {
            let (_, _, body) = super::get(self.gateway.admin, "/status");
            let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let endpoints = status["endpoints"].as_array().unwrap();
            endpoints.iter().all(|endpoint| endpoint["health"] != "unknown").then_some(())
        });
        self
    }

    /// Exchanges each server has taken.
    pub fn shares(&self) -> Vec<u64> {
        let read = |server: &Handle| server.stats.model_requests.load(std::sync::atomic::Ordering::Relaxed);
        self.servers.iter().map(read).collect()
    }

    /// Every gauge of the gateway is zero and every server is quiet.
    pub fn assert_quiet(&self) {
        super::assert_gauges_zero(&self.gateway);
        until("servers quiet", || self.servers.iter().all(|server| server.stats.is_quiet()).then_some(()));
    }
}

/// The configuration of a gateway in front of `addresses`.
pub fn configuration(addresses: &[SocketAddr], server: &str, rest: &str) -> String {
    let mut toml =
        format!("[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\n{server}\n");
    if !rest.contains("[health]") {
        toml += "[health]\ninterval = \"200ms\"\ntimeout = \"1s\"\n";
    }
    if !rest.contains("[log]") {
        toml += "[log]\naccess = \"off\"\n";
    }
    for (at, address) in addresses.iter().enumerate() {
        let _ = write!(toml, "[[endpoints]]\nname = \"e{at}\"\nurl = \"http://{address}\"\n");
    }
    toml + rest
}

/// Options of servers that answer at once.
pub fn quick(n: usize) -> Vec<Options> {
    (0..n).map(|at| Options { name: format!("e{at}"), slots: 64, tokens: 8, ..Options::default() }).collect()
}

/// A chat body.
pub fn chat(model: &str, stream: bool) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"stream":{stream}}}"#)
}

/// A `[[models]]` entry.
pub fn model(name: &str, endpoints: &[&str], more: &str) -> String {
    format!("[[models]]\nname = \"{name}\"\nendpoints = {endpoints:?}\n{more}\n")
}

/// A connection to `addr` with a reader.
pub fn connect(addr: SocketAddr) -> Reader {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    Reader::new(stream)
}

/// Writes a POST on an open connection.
pub fn send(reader: &mut Reader, path: &str, body: &str) {
    let length = body.len();
    let request = format!("POST {path} HTTP/1.1\r\nHost: gw\r\nContent-Length: {length}\r\n\r\n{body}");
    reader.stream().write_all(request.as_bytes()).unwrap();
}

/// Writes a POST but for the last ten bytes of its body.
pub fn send_part(reader: &mut Reader, path: &str, body: &str) {
    let (length, part) = (body.len(), &body[..body.len() - 10]);
    let request = format!("POST {path} HTTP/1.1\r\nHost: gw\r\nContent-Length: {length}\r\n\r\n{part}");
    reader.stream().write_all(request.as_bytes()).unwrap();
}

/// Writes those last ten bytes.
pub fn send_rest(reader: &mut Reader, body: &str) {
    reader.stream().write_all(&body.as_bytes()[body.len() - 10..]).unwrap();
}

/// Whether the gateway has begun to drain.
pub fn draining(gateway: &Gateway) -> bool {
    let (_, _, body) = super::get(gateway.admin, "/status");
    serde_json::from_slice::<serde_json::Value>(&body).unwrap()["draining"] == true
}

/// POSTs on a connection of its own.
pub fn post(addr: SocketAddr, path: &str, body: &str) -> Answer {
    try_post(addr, path, body).expect("an answer to POST")
}

/// As [`post`], but a broken answer is a value.
pub fn try_post(addr: SocketAddr, path: &str, body: &str) -> Result<Answer, Trouble> {
    let mut reader = connect(addr);
    send(&mut reader, path, body);
    reader.answer(false, Instant::now() + Duration::from_secs(20))
}

/// The body as JSON.
pub fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&answer.body)))
}

/// Asks `ready` every 5 ms until it has an answer, for at most 10 s.
pub fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Everything that comes until the other side closes, as text.
pub fn raw(reader: &mut Reader) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    reader.stream().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = reader.stream().read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
