//! Model servers that fail when they are told to, and note every request that reaches them.
//!
//! [`Script`] runs on threads of the test; [`Process`] is the same server, or `corelane sim`, as a process, so that it
//! can be killed and stopped. What a process has seen stands in a file, a line a request: that outlives `kill -9`.
//! Answers are those of [`said`]; the model `slow` says more tokens, and slowly.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use socket2::SockRef;

use super::kernel;
use crate::support::answer::find;
use crate::support::fleet::until;
use crate::support::open_loop::said;

/// Tokens of the usual model, and how long a whole answer takes.
pub const TOKENS: usize = 12;
const WHOLE: Duration = Duration::from_millis(30);
const INTERVAL: Duration = Duration::from_millis(5);
/// The backlog while it listens, and while it is to be slow.
const BACKLOG: i32 = 512;
/// Names the server to the process that is one.
pub const ROLE: &str = "CORELANE_CHAOS_ENDPOINT";

/// What an endpoint does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`; started again when healed.
    Kill,
    /// SIGSTOP and SIGCONT.
    Stop,
    /// The connection is reset once the request is read.
    Reset,
    /// Status 500.
    Status,
    /// Status 500, after the time of a whole answer.
    SlowStatus,
    /// No answer.
    Hang,
    /// Connections are closed, and nobody listens.
    Refuse,
    /// A third of the answer, then the connection is closed or reset.
    Cut,
    /// Connections are closed, and new ones wait with the kernel.
    SlowConnect,
    /// 200 without content.
    Empty,
    /// A chunk line that is no number, in a stream behind some events.
    BadChunk,
}

const NONE: u16 = u16::MAX;

/// A request that came: its mark, and when, in nanoseconds of Unix time.
pub type Seen = (String, u64);

/// An endpoint of either kind.
pub trait Target: Send + Sync {
    /// Where it listens.
    fn addr(&self) -> SocketAddr;
    /// Begins to fail.
    fn strike(&self, fault: Fault);
    /// Ends that.
    fn heal(&self, fault: Fault);
    /// What has come so far; `None`: it does not tell.
    fn seen(&self) -> Option<Vec<Seen>>;
}

/// A port that nobody listens on, below those that the kernel gives to clients: it stays free while a server is away.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() as u16 % 10_000;
    loop {
        let port = 20_000 + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A server on threads of this process.
pub struct Script {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// Connections that fill the backlog.
    fillers: Mutex<Vec<socket2::Socket>>,
}

#[derive(Default)]
struct Shared {
    fault: AtomicU16,
    paused: AtomicBool,
    closing: AtomicBool,
    /// How long a whole answer takes, in milliseconds.
    whole_ms: AtomicU64,
    connections: Mutex<HashMap<u64, (TcpStream, bool)>>,
    seen: Mutex<Vec<Seen>>,
    file: Option<File>,
    /// Requests here now, and the most at once before the first right answer since [`Script::watch_trial`].
    active: AtomicU32,
    trial_max: AtomicU32,
    answered: AtomicBool,
}

impl Script {
    /// Listens on a port of its own.
    pub fn start() -> Script {
        Script::listen(SocketAddr::from(([127, 0, 0, 1], free_port())), None)
    }

    /// As [`Script::start`]; a whole answer takes so long.
    pub fn taking(whole: Duration) -> Script {
        let script = Script::start();
        script.set_whole(whole);
        script
    }

    fn listen(addr: SocketAddr, file: Option<File>) -> Script {
        let shared = Shared { file, ..Shared::default() };
        shared.fault.store(NONE, Ordering::Relaxed);
        shared.whole_ms.store(WHOLE.as_millis() as u64, Ordering::Relaxed);
        let script = Script { addr, shared: Arc::new(shared), fillers: Mutex::default() };
        script.open();
        script
    }

    /// How long a whole answer takes from now on.
    pub fn set_whole(&self, time: Duration) {
        self.shared.whole_ms.store(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// Counts anew how many requests are here at once, until the first right answer.
    pub fn watch_trial(&self) {
        self.shared.trial_max.store(0, Ordering::SeqCst);
        self.shared.answered.store(false, Ordering::SeqCst);
    }

    /// The most requests at once before the first right answer.
    pub fn trial_max(&self) -> u32 {
        self.shared.trial_max.load(Ordering::SeqCst)
    }

    fn open(&self) {
        let listener = until("the port of an endpoint", || TcpListener::bind(self.addr).ok());
        SockRef::from(&listener).listen(BACKLOG).unwrap();
        self.shared.closing.store(false, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || accept(&listener, &shared));
    }

    /// Wakes the thread that accepts, so that it looks at its orders; waits until it has if it is to end.
    fn wake(&self) {
        let _ = TcpStream::connect(self.addr);
    }

    /// Closes connections that nothing is asked on; those in use end with their answer.
    fn close_idle(&self) {
        for (stream, busy) in self.shared.connections.lock().unwrap().values() {
            if !busy {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Target for Script {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn strike(&self, fault: Fault) {
        self.shared.fault.store(fault as u16, Ordering::SeqCst);
        match fault {
            Fault::Refuse => {
                self.shared.closing.store(true, Ordering::SeqCst);
                self.wake();
                self.close_idle();
                until("nobody listens", || TcpStream::connect(self.addr).is_err().then_some(()));
            }
            Fault::SlowConnect => {
                self.shared.paused.store(true, Ordering::SeqCst);
                self.wake();
                self.close_idle();
                let mut fillers = self.fillers.lock().unwrap();
                for _ in 0..4 {
                    let socket =
                        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                    socket.set_nonblocking(true).unwrap();
                    let _ = socket.connect(&self.addr.into());
                    fillers.push(socket);
                }
            }
            Fault::Kill | Fault::Stop => panic!("{fault:?} needs a process"),
            _ => {}
        }
    }

    fn heal(&self, fault: Fault) {
        self.shared.fault.store(NONE, Ordering::SeqCst);
        self.shared.paused.store(false, Ordering::SeqCst);
        self.fillers.lock().unwrap().clear();
        if fault == Fault::Refuse {
            self.open();
        }
    }

    fn seen(&self) -> Option<Vec<Seen>> {
        Some(self.shared.seen.lock().unwrap().clone())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.paused.store(false, Ordering::SeqCst);
        self.wake();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for number in 0.. {
        let Ok((stream, _)) = listener.accept() else { return };
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        if shared.paused.load(Ordering::SeqCst) {
            let _ = SockRef::from(listener).listen(1);
            while shared.paused.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(2));
            }
            let _ = SockRef::from(listener).listen(BACKLOG);
        }
        let _ = stream.set_nodelay(true);
        let Ok(second) = stream.try_clone() else { return };
        shared.connections.lock().unwrap().insert(number, (second, false));
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new().stack_size(256 << 10);
        let spawned = thread.spawn(move || {
            let _ = serve(stream, number, &shared);
            shared.connections.lock().unwrap().remove(&number);
        });
        spawned.expect("a thread for a connection");
    }
}

/// Requests of one connection; the error ends it.
fn serve(mut stream: TcpStream, number: u64, shared: &Shared) -> std::io::Result<()> {
    let mut ahead = Vec::new();
    while let Some((get, body)) = request(&mut stream, &mut ahead)? {
        if get {
            let list = json!({"object": "list", "data": [
                {"id": "m", "object": "model", "created": 1, "owned_by": "x"},
                {"id": "slow", "object": "model", "created": 1, "owned_by": "x"}]});
            stream.write_all(&crate::support::upstream::plain(&list.to_string()))?;
            continue;
        }
        let busy = |now: bool| {
            if let Some(entry) = shared.connections.lock().unwrap().get_mut(&number) {
                entry.1 = now;
            }
        };
        busy(true);
        let active = shared.active.fetch_add(1, Ordering::SeqCst) + 1;
        if !shared.answered.load(Ordering::SeqCst) {
            shared.trial_max.fetch_max(active, Ordering::SeqCst);
        }
        let result = answer(&mut stream, &body, shared);
        shared.active.fetch_sub(1, Ordering::SeqCst);
        if !result? {
            return Ok(());
        }
        busy(false);
        let fault = shared.fault.load(Ordering::SeqCst);
        if fault == Fault::Refuse as u16 || fault == Fault::SlowConnect as u16 {
            return Ok(());
        }
    }
    Ok(())
}

/// The next request: whether it is a GET, and its content.
fn request(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> std::io::Result<Option<(bool, Vec<u8>)>> {
    let mut buffer = [0; 8 * 1024];
    loop {
        if let Some(end) = find(ahead, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&ahead[..end]).to_ascii_lowercase();
            let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
            let length = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            if ahead.len() >= end + 4 + length {
                let whole: Vec<u8> = ahead.drain(..end + 4 + length).collect();
                return Ok(Some((head.starts_with("get "), whole[end + 4..].to_vec())));
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            count => ahead.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Answers, or fails as told; `false`: the connection ends.
fn answer(stream: &mut TcpStream, body: &[u8], shared: &Shared) -> std::io::Result<bool> {
    let ask: Value = serde_json::from_slice(body).unwrap_or_default();
    let last = ask["messages"].as_array().and_then(|all| all.last()).unwrap_or(&Value::Null);
    let mark = last["content"].as_str().unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    if let Some(mut file) = shared.file.as_ref() {
        let _ = file.write_all(format!("{mark} {now}\n").as_bytes());
    }
    shared.seen.lock().unwrap().push((mark.to_owned(), now));
    let slow = ask["model"] == "slow";
    let tokens = if slow { slow_tokens() } else { TOKENS };
    let fault = shared.fault.load(Ordering::SeqCst);
    let is = |one: Fault| fault == one as u16;
    if is(Fault::Reset) {
        let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        return Ok(false);
    }
    if is(Fault::SlowStatus) {
        thread::sleep(Duration::from_millis(shared.whole_ms.load(Ordering::Relaxed)));
    }
    if is(Fault::Status) || is(Fault::SlowStatus) {
        let text = "{\"error\":{\"message\":\"invented\",\"type\":\"api_error\"}}";
        let head = format!(
            "HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all((head + text).as_bytes())?;
        return Ok(true);
    }
    if is(Fault::Hang) {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let _ = stream.read(&mut [0; 16]);
        return Ok(false);
    }
    if is(Fault::Empty) {
        let kind = if ask["stream"] == true { "text/event-stream" } else { "application/json" };
        stream.write_all(
            format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 0\r\n\r\n").as_bytes(),
        )?;
        return Ok(true);
    }
    let text = said(mark, tokens);
    let pause = if slow { Duration::from_millis(100) } else { INTERVAL };
    let kept =
        if ask["stream"] == true { say(stream, &text, pause, shared) } else { whole(stream, &text, shared) }?;
    if kept {
        shared.answered.store(true, Ordering::SeqCst);
    }
    Ok(kept)
}

/// Tokens of the model `slow`, one each 100 ms.
pub fn slow_tokens() -> usize {
    std::env::var("CORELANE_CHAOS_SLOW_TOKENS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

fn whole(stream: &mut TcpStream, text: &str, shared: &Shared) -> std::io::Result<bool> {
    thread::sleep(Duration::from_millis(shared.whole_ms.load(Ordering::Relaxed)));
    let body = json!({
        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 12, "total_tokens": 13}
    });
    let bytes = crate::support::upstream::plain(&body.to_string());
    let fault = shared.fault.load(Ordering::SeqCst);
    if fault == Fault::Cut as u16 {
        stream.write_all(&bytes[..bytes.len() * 2 / 3])?;
        return Ok(false);
    }
    if fault == Fault::BadChunk as u16 {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"id\"\r\nzz\r\n",
        )?;
        return Ok(false);
    }
    stream.write_all(&bytes)?;
    Ok(true)
}

fn say(stream: &mut TcpStream, text: &str, pause: Duration, shared: &Shared) -> std::io::Result<bool> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let event = |delta: Value, reason: Value| {
        let value = json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
        chunk(&format!("data: {value}\n\n"))
    };
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    for (at, word) in words.iter().enumerate() {
        thread::sleep(pause);
        let fault = shared.fault.load(Ordering::SeqCst);
        let bytes = event(json!({"role": "assistant", "content": word}), Value::Null);
        if at >= words.len() / 3 && fault == Fault::Cut as u16 {
            if at % 2 == 0 {
                let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            } else {
                stream.write_all(&bytes.as_bytes()[..bytes.len() / 2])?;
            }
            return Ok(false);
        }
        if at >= words.len() / 3 && fault == Fault::BadChunk as u16 {
            stream.write_all(b"zz\r\n")?;
            return Ok(false);
        }
        stream.write_all(bytes.as_bytes())?;
    }
    let end = event(json!({}), json!("stop")) + &chunk("data: [DONE]\n\n") + "0\r\n\r\n";
    stream.write_all(end.as_bytes())?;
    Ok(true)
}

/// What a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The server above.
    Script,
    /// `corelane sim`; it does not tell what it has seen.
    Sim,
}

/// A server in a process of its own.
pub struct Process {
    program: Program,
    addr: SocketAddr,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// Starts it on a port of its own.
    pub fn start(program: Program) -> Process {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let name = format!("corelane-chaos-{}-{}.seen", std::process::id(), addr.port());
        let log = std::env::temp_dir().join(name);
        let child = Mutex::new(launch(program, addr, &log));
        Process { program, addr, log, child }
    }

    fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }
}

fn launch(program: Program, addr: SocketAddr, log: &Path) -> Child {
    let mut command = match program {
        Program::Sim => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
            command.args(["sim", "--slots", "1000", "--tokens", &TOKENS.to_string(), "--token-ms", "3"]);
            command.args(["--model", "m", "--listen", &addr.to_string()]);
            command
        }
        Program::Script => {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "endpoint_process", "--ignored", "--nocapture"]);
            command.env(ROLE, format!("{addr} {}", log.display()));
            command
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    kernel::die_with_parent(&mut command);
    let mut child = command.spawn().expect("an endpoint's process");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("ready http=")), "an endpoint on {addr} does not start");
    child
}

/// The life of a process that is a [`Script`]: until it is killed.
pub fn be_one() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (addr, log) = role.split_once(' ').unwrap();
    let file = OpenOptions::new().create(true).append(true).open(log).unwrap();
    let _script = Script::listen(addr.parse().unwrap(), Some(file));
    let _ = std::io::stdout().write_all(format!("\nready http={addr}\n").as_bytes());
    loop {
        thread::park();
    }
}

impl Target for Process {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn strike(&self, fault: Fault) {
        match fault {
            Fault::Kill => {
                let mut child = self.child.lock().unwrap();
                child.kill().unwrap();
                child.wait().unwrap();
            }
            Fault::Stop => kernel::signal(self.pid(), libc::SIGSTOP),
            _ => panic!("{fault:?} needs a script"),
        }
    }

    fn heal(&self, fault: Fault) {
        match fault {
            Fault::Kill => *self.child.lock().unwrap() = launch(self.program, self.addr, &self.log),
            _ => kernel::signal(self.pid(), libc::SIGCONT),
        }
    }

    fn seen(&self) -> Option<Vec<Seen>> {
        if self.program == Program::Sim {
            return None;
        }
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let line = |line: &str| {
            let (mark, at) = line.split_once(' ')?;
            Some((mark.to_owned(), at.parse().ok()?))
        };
        Some(text.lines().filter_map(line).collect())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        let _ = fs::remove_file(&self.log);
    }
}
