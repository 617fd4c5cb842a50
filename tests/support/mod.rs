//! What the black-box tests share: a gateway process under test, and small readers for its answers.
//!
//! Everything here is blocking `std`: the tests must not rest on the code they judge. Each `Gateway`
//! takes ports of the kernel's choosing, so that tests may run side by side, and dies with its value.
//! `CORELANE_TEST_DRIVER` (`epoll` or `io_uring`) sets the driver of every gateway started here.
//! The other files: `answer` reads HTTP answers strictly, `upstream` is a recording model server,
//! `corpus` reads the cases of `tests/data/framing/`, `lane` is a gateway with its own upstream.
#![allow(dead_code)] // each test file uses its own part of this module
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

pub mod answer;
pub mod corpus;
pub mod fleet;
pub mod h2;
pub mod lane;
pub mod open_loop;
pub mod prometheus;
pub mod tls;
pub mod upstream;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a gateway may take from its start to the `ready` line.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long the gauges may take to fall to zero once the last test connection is closed.
const GAUGE_DEADLINE: Duration = Duration::from_secs(3);
/// The gauges that must be zero when nothing is going on.
const GAUGES: [&str; 5] = [
    "corelane_exchanges_in_flight",
    "corelane_streams_in_flight",
    "corelane_endpoint_in_flight",
    "corelane_client_connections",
    "corelane_buffered_bytes",
];

/// A running gateway process; killed, and its files removed, when dropped.
pub struct Gateway {
    child: Child,
    config: PathBuf,
    log: PathBuf,
    /// The data listener.
    pub addr: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
    /// The TLS listener, if there is one.
    pub tls: Option<SocketAddr>,
}

impl Gateway {
    /// Starts `corelane serve -c FILE` with this configuration and waits for its `ready` line.
    ///
    /// # Panics
    /// When no `ready` line comes within 20 s; the message holds what the process wrote to stderr.
    pub fn start(toml: &str) -> Gateway {
        Gateway::run(toml, Command::new(env!("CARGO_BIN_EXE_corelane")))
    }

    /// As `start`, with so many open files at most.
    pub fn start_limited(toml: &str, files: u32) -> Gateway {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_corelane")]);
        Gateway::run(toml, shell)
    }

    fn run(toml: &str, mut command: Command) -> Gateway {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let stem = format!("corelane-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let config = std::env::temp_dir().join(format!("{stem}.toml"));
        let log = std::env::temp_dir().join(format!("{stem}.log"));
        fs::write(&config, with_driver(toml)).unwrap();
        let mut child = command
            .arg("serve")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .expect("spawn the gateway");
        let ready = ready_line(&mut child);
        let Some((addr, admin, tls)) = ready.as_deref().and_then(addresses) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!(
                "no ready line (got {ready:?}); stderr:\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
        };
        Gateway { child, config, log, addr, admin, tls }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the gateway wrote to stderr so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether the process still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How the process ended; `None` while it runs or when a signal ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }

    /// The configuration file, for tests that rewrite it and reload.
    pub fn config_path(&self) -> &PathBuf {
        &self.config
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
        let _ = fs::remove_file(&self.log);
    }
}

/// `GET path` on a connection of its own: status, fields (names in lower case), body.
pub fn get(addr: SocketAddr, path: &str) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut stream = TcpStream::connect(addr).expect("connect");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let answer = answer::Reader::new(stream).answer(false, deadline).expect("an answer to GET");
    (answer.status, answer.fields, answer.body)
}

/// The metrics page of the admin listener.
pub fn metrics(gateway: &Gateway) -> String {
    let (status, _, body) = get(gateway.admin, "/metrics");
    assert_eq!(status, 200, "GET /metrics");
    String::from_utf8(body).expect("metrics are UTF-8")
}

/// Waits up to 3 s until every gauge of things in flight is zero. Call it when all connections of
/// the test are closed.
///
/// # Panics
/// With the samples that are not zero; also when a gauge has no sample at all.
pub fn assert_gauges_zero(gateway: &Gateway) {
    let deadline = Instant::now() + GAUGE_DEADLINE;
    loop {
        let page = metrics(gateway);
        let wrong = gauges_not_zero(&page);
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "gauges are not zero after 3 s:\n{}", wrong.join("\n"));
        thread::sleep(Duration::from_millis(20));
    }
}

/// The samples of `GAUGES` that are not zero, and a line for each gauge without samples.
fn gauges_not_zero(page: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in GAUGES {
        let samples: Vec<&str> = page
            .lines()
            .filter(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
            })
            .collect();
        if samples.is_empty() {
            wrong.push(format!("{name}: no sample"));
        }
        let zero = |line: &&str| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()) == Some(0.0);
        wrong.extend(samples.iter().filter(|line| !zero(line)).map(|line| (*line).to_owned()));
    }
    wrong
}

/// The configuration with the driver that the environment asks for.
fn with_driver(toml: &str) -> String {
    match std::env::var("CORELANE_TEST_DRIVER") {
        Ok(driver) if !driver.is_empty() => {
            toml.replacen("[server]\n", &format!("[server]\ndriver = \"{driver}\"\n"), 1)
        }
        _ => toml.to_owned(),
    }
}

/// The first line of stdout that begins with `ready`. The pipe is read to its end by a thread, so
/// that the process never blocks on it.
fn ready_line(child: &mut Child) -> Option<String> {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if line.starts_with("ready ") {
                let _ = send.send(line);
            }
        }
    });
    receive.recv_timeout(START_DEADLINE).ok()
}

/// The addresses of a ready line: plain (unspecified if there is only TLS), admin, TLS; the first of each.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr, Option<SocketAddr>)> {
    let value = |key: &str| -> Option<SocketAddr> {
        line.split(' ').find_map(|word| word.strip_prefix(key))?.split(',').next()?.parse().ok()
    };
    let tls = value("https=");
    let plain = value("http=").or_else(|| tls.map(|_| SocketAddr::from(([0, 0, 0, 0], 0))));
    Some((plain?, value("admin=")?, tls))
}

impl Gateway {
    /// As `start`, by a command that was given an environment or limits of its own; its arguments follow.
    pub fn start_by(toml: &str, command: Command) -> Gateway {
        Gateway::run(toml, command)
    }
}

/// The configuration with the driver that the environment asks for, for processes that are started otherwise.
pub fn configured(toml: &str) -> String {
    with_driver(toml)
}
