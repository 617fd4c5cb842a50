//! Instructions of a whole exchange: the gateway's process under callgrind, a client and an endpoint that take turns with it.
//!
//! One connection, one request at a time, and one event at a time: the endpoint writes the next when the client has the last one, so every
//! run has the same reads, writes and wake-ups. Two runs differ only by the number of requests (or of events), and the slope between them
//! is the figure: the start, the end and most of the ticks fall out. Valgrind knows no io_uring, so the driver is epoll; at
//! saturation a request costs less, because wake-ups are shared.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

const FEW: u64 = 20;
const MORE: u64 = 200;
const EVENT: &str = "data: {\"id\":\"chatcmpl-123\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"llama3.2\",\
    \"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" harbour\"},\"finish_reason\":null}]}\n\n";
const LAST: &str = "data: {\"id\":\"chatcmpl-123\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"llama3.2\",\
    \"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
/// Nobody waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(180);

/// Instructions of a unary request, and of an event of a stream, of the gateway `binary`.
pub fn measure(binary: &Path) -> [(&'static str, u64); 2] {
    let base = total(binary, FEW, FEW);
    let slope = |more: u64| more.saturating_sub(base) / MORE;
    [
        ("exchange_unary", slope(total(binary, FEW + MORE, FEW))),
        ("exchange_event", slope(total(binary, FEW, FEW + MORE))),
    ]
}

/// Instructions of a process from its start to its end, with so many requests and a stream of so many events.
fn total(binary: &Path, requests: u64, events: u64) -> u64 {
    let (acknowledge, acknowledged) = sync_channel(1);
    let endpoint = endpoint(acknowledged);
    let folder = std::env::temp_dir().join(format!("corelane-exchange-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (mut gateway, address) = start(binary, &folder, endpoint);
    let mut client = Client { stream: BufReader::new(connect(address)), acknowledge };
    (0..requests).for_each(|_| client.ask());
    client.follow(events);
    drop(client);
    let kill = format!("kill {}", gateway.0.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    assert!(gateway.0.wait().unwrap().success());
    let profile = std::fs::read_to_string(folder.join("callgrind")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let totals = profile.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
    totals.parse().unwrap()
}

/// The gateway's process; what fails takes it along.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(binary: &Path, folder: &Path, endpoint: SocketAddr) -> (Gateway, SocketAddr) {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (listen, admin): (SocketAddr, SocketAddr) = (free(), free());
    let config: PathBuf = folder.join("corelane.toml");
    let text = format!(
        "[server]\nlisten = [\"{listen}\"]\nadmin_listen = \"{admin}\"\nshards = 1\n[health]\nenabled = false\n[guard]\nenabled = false\n\
         [log]\naccess = \"off\"\n[[endpoints]]\nname = \"a\"\nurl = \"http://{endpoint}\"\nkind = \"openai\"\n\
         [[models]]\nname = \"ollama/llama3.2\"\nupstream_model = \"llama3.2\"\nendpoints = [\"a\"]\n"
    );
    std::fs::write(&config, text).unwrap();
    let gateway = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", folder.join("callgrind").display()))
        .arg(binary)
        .args(["serve", "-c"])
        .arg(config)
        .env("MONOIO_FORCE_LEGACY_DRIVER", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("valgrind: {error}"));
    (Gateway(gateway), listen)
}

fn connect(address: SocketAddr) -> TcpStream {
    let end = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                return stream;
            }
            Err(error) if Instant::now() > end => panic!("the gateway does not listen: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

struct Client {
    stream: BufReader<TcpStream>,
    acknowledge: SyncSender<()>,
}

impl Client {
    fn send(&mut self, stream: bool) {
        let body = format!(
            r#"{{"model":"ollama/llama3.2","messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{}"}}],"temperature":0.7,"max_tokens":100000,"stream":{stream}}}"#,
            "y".repeat(240)
        );
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\nUser-Agent: OpenAI/Python 3.54\r\n\
             Accept: application/json\r\nAuthorization: Bearer none\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// A whole answer.
    fn ask(&mut self) {
        self.send(false);
        let length = head(&mut self.stream);
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).unwrap();
    }

    /// A stream, event by event.
    fn follow(&mut self, events: u64) {
        self.send(true);
        head(&mut self.stream);
        let mut line = String::new();
        for _ in 0..events {
            self.line_with(&mut line, "harbour");
            self.acknowledge.send(()).unwrap();
        }
        // The endpoint ends the stream when nobody wants more; one event may be on its way.
        self.acknowledge = sync_channel(1).0;
        self.line_with(&mut line, "[DONE]");
        self.line_with(&mut line, "0\r\n");
        self.stream.read_line(&mut line).unwrap();
    }

    fn line_with(&mut self, line: &mut String, what: &str) {
        loop {
            line.clear();
            assert!(self.stream.read_line(line).unwrap() > 0, "the stream is cut before {what}");
            if line.contains(what) {
                return;
            }
        }
    }
}

/// Reads a head; the length of what follows.
fn head(stream: &mut BufReader<TcpStream>) -> usize {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "no head");
        if line == "\r\n" {
            return length;
        }
        let field = line.to_ascii_lowercase();
        assert!(!field.starts_with("http/1.1 ") || field.starts_with("http/1.1 200 "), "{line}");
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
}

/// A server that answers every chat with the same, and streams an event for each acknowledged one.
fn endpoint(acknowledged: Receiver<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut stream = BufReader::new(stream);
        let answer = format!(
            r#"{{"id":"chatcmpl-123","object":"chat.completion","created":1700000000,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":26,"completion_tokens":64,"total_tokens":90}}}}"#,
            "x".repeat(330)
        );
        while !stream.fill_buf().unwrap_or_default().is_empty() {
            let mut body = vec![0; request_head(&mut stream)];
            stream.read_exact(&mut body).unwrap();
            let out = stream.get_mut();
            if !String::from_utf8_lossy(&body).contains("\"stream\":true") {
                let head = "HTTP/1.1 200 OK\r\nServer: sim\r\nContent-Type: application/json\r\n";
                let whole = format!("{head}Content-Length: {}\r\n\r\n{answer}", answer.len());
                out.write_all(whole.as_bytes()).unwrap();
                continue;
            }
            let head = "HTTP/1.1 200 OK\r\nServer: sim\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
            out.write_all(format!("{head}{}", chunk(EVENT)).as_bytes()).unwrap();
            while acknowledged.recv().is_ok() {
                out.write_all(chunk(EVENT).as_bytes()).unwrap();
            }
            out.write_all(format!("{}0\r\n\r\n", chunk(LAST)).as_bytes()).unwrap();
        }
    });
    address
}

fn request_head(stream: &mut BufReader<TcpStream>) -> usize {
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "no request");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    length
}
