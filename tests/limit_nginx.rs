//! Promise: rate limits answer as nginx does, to the millisecond and the thousandth of a request.
//!
//! A real nginx with one worker runs on a clock that the test moves (`tests/data/limit/clock.c`, preloaded).
//! Each random arrival is sent to it and judged by `limit::bucket` at the same millisecond; compared are the
//! status, of a refusal also the zone and the excess, of a delay its milliseconds: nginx's log tells them,
//! its debug lines the timers that it sets.
//!
//! The order in which nginx sees requests is kept by waiting: for every answer, and of a delayed request for
//! its timer in the log. nginx reads the clock once a turn of its event loop, after it has learned of new
//! bytes; but a connection whose answer has just gone out is read once more in the same turn. So no
//! connection is used twice in a row. Needs `nginx` (with debug lines, as Debian's) and `cc`; without them it
//! fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)] // test code

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use corelane::limit::bucket::{Use, Verdict, Zone, decide};
use corelane::limit::table::Clients;

const CLIENTS: u64 = 50;
const GROUP: u64 = 5;
/// Where the clock begins: nginx's rule for a first request counts on a machine that has been up for a while.
const BEGIN_MS: u64 = 1_000_000_000;
/// When nginx starts and all connections are made: it ends connections that are younger than the clock
/// allows.
const START_MS: u64 = BEGIN_MS - 10_000_000;
/// Delayed requests at one time, at most.
const DELAYED_MAX: usize = 300;
const DEADLINE: Duration = Duration::from_secs(10);

/// Rates of `z0` to `z5` in `nginx.conf`.
const RATES: [u32; 6] = [5000, 10_000, 20_000, 100_000 / 60, 3000, 10_000 / 60];
/// The zone whose key is the client's group.
const GROUPED: usize = 3;

/// The locations of `nginx.conf`: zone, burst, delay.
const LOCATIONS: [&[(usize, u32, Option<u32>)]; 8] = [
    &[(0, 20, None)],
    &[(1, 30, Some(8))],
    &[(2, 25, None), (3, 12, None)],
    &[(4, 5, None)],
    &[(4, 12, Some(3))],
    &[(5, 5, None)],
    &[(2, 20, Some(2)), (1, 15, Some(0)), (0, 9, None)],
    &[(0, 0, Some(0))],
];

#[test]
fn random_arrivals_get_nginxs_answers() {
    let mut random = Random(0x5eed);
    let mut both = Both::start("forward");
    let mut now = BEGIN_MS;
    while both.tally.arrivals < 120_000 {
        now += gap(&mut random);
        both.compare(now, &batch(&mut random));
    }
    both.finish();
}

#[test]
fn a_clock_that_goes_back_gets_nginxs_answers() {
    let mut random = Random(0xbac4);
    let mut both = Both::start("back");
    let mut now = BEGIN_MS;
    // nginx forgets clients only when a new one comes; far back in time that would change its answers. So all
    // come first.
    let all = (0..CLIENTS).flat_map(|client| (0..LOCATIONS.len()).map(move |location| (location, client)));
    both.compare(now, &all.collect::<Vec<_>>());
    while both.tally.arrivals < 40_000 {
        now += gap(&mut random);
        now -= match random.below(100) {
            0..4 => random.below(3000),
            4 => random.below(80_000),
            _ => 0,
        };
        let arrivals = batch(&mut random);
        both.compare(now, &arrivals);
        if random.below(30) == 0 {
            now -= 59_999 + random.below(3); // nginx's own border is 60 000
            both.compare(now, &arrivals);
        }
    }
    both.finish();
}

/// Milliseconds to the next batch.
fn gap(random: &mut Random) -> u64 {
    match random.below(100) {
        0..10 => 1,
        10..50 => random.below(60),
        50..80 => random.below(500),
        80..95 => random.below(3000),
        95..99 => random.below(20_000),
        _ => 55_000 + random.below(100_000),
    }
}

/// Arrivals of one millisecond, location and client: a mix, or a rush of one client, or of one at one
/// location.
fn batch(random: &mut Random) -> Vec<(usize, u64)> {
    let (kind, location, client) = (random.below(3), random.below(8) as usize, random.below(CLIENTS));
    let count = 1 + random.below(if kind == 2 { 40 } else { 12 });
    let mut arrival = || match kind {
        0 => (random.below(8) as usize, random.below(CLIENTS)),
        1 => (random.below(8) as usize, client),
        _ => (location, client),
    };
    (0..count).map(|_| arrival()).collect()
}

/// nginx and the module under test.
struct Both {
    nginx: Nginx,
    zones: [Zone; 6],
    clients: Clients,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    arrivals: usize,
    passed: usize,
    delayed: usize,
    /// By the position of the zone that refused.
    refused: [usize; 3],
}

impl Both {
    fn start(name: &str) -> Self {
        let zones = RATES.map(|rate| Zone::new(rate, 1000));
        Self { nginx: Nginx::start(name), zones, clients: Clients::default(), tally: Tally::default() }
    }

    /// Sends the arrivals to nginx, in this order, at this time; every answer must be as decided here.
    fn compare(&mut self, now: u64, arrivals: &[(usize, u64)]) {
        self.nginx.set_clock(now);
        let mut together = Vec::new();
        for &(location, client) in arrivals {
            let verdict = self.decide(location, client, now);
            self.tally.note(verdict);
            let zone = |at: usize| LOCATIONS[location][at].0;
            let request = Request { location, client };
            match verdict {
                Verdict::Pass { delay_ms: 0, .. } => together.push((request, Expected::Pass)),
                Verdict::Reject { zone: at, excess, .. } => {
                    together.push((request, Expected::Refused { zone: zone(at), excess }));
                }
                Verdict::Pass { delay_ms, .. } => {
                    self.nginx.exchange(now, &std::mem::take(&mut together));
                    self.nginx.delay(now, request, delay_ms);
                }
            }
        }
        self.nginx.exchange(now, &together);
        self.nginx.collect(now);
    }

    fn decide(&self, location: usize, client: u64, now: u64) -> Verdict {
        let each = |&(zone, burst, delay): &(usize, u32, Option<u32>)| {
            let key = if zone == GROUPED { client / GROUP } else { client };
            let client = self.clients.hash(u8::from(zone == GROUPED), &key.to_ne_bytes());
            Use { zone: &self.zones[zone], client, burst, delay }
        };
        let uses: Vec<Use<'_>> = LOCATIONS[location].iter().map(each).collect();
        decide(&uses, now)
    }

    /// Every kind of answer has been seen often.
    fn finish(self) {
        let tally = &self.tally;
        println!("{} arrivals compared: {tally:?}", tally.arrivals);
        let least = tally.arrivals / 200;
        assert!(tally.passed > tally.arrivals / 5, "{tally:?}");
        assert!(tally.delayed > tally.arrivals / 50, "{tally:?}");
        assert!(tally.refused.iter().all(|count| *count > least), "{tally:?}");
    }
}

impl Tally {
    fn note(&mut self, verdict: Verdict) {
        self.arrivals += 1;
        match verdict {
            Verdict::Pass { delay_ms: 0, .. } => self.passed += 1,
            Verdict::Pass { .. } => self.delayed += 1,
            Verdict::Reject { zone, .. } => self.refused[zone] += 1,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Request {
    location: usize,
    client: u64,
}

/// What is decided here of a request that nginx must answer at once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    Pass,
    Refused { zone: usize, excess: u64 },
}

/// What nginx's log tells, in the order of requests.
#[derive(Debug, PartialEq)]
enum Record {
    Refused { zone: usize, excess: u64 },
    Delayed { ms: u64 },
}

struct Nginx {
    child: Child,
    dir: PathBuf,
    clock: File,
    log: Log,
    /// Used in turn, the second one next.
    main: [Connection; 2],
    /// A delayed request holds its connection until nginx has been at that time.
    waiting: Vec<(u64, Connection)>,
    /// Answered in the last turn.
    cooling: Vec<Connection>,
    idle: Vec<Connection>,
}

impl Nginx {
    fn start(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("corelane-limit-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/limit");
        let shim = dir.join("clock.so");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&shim).arg(data.join("clock.c"));
        assert!(cc.status().expect("cc is installed").success(), "{cc:?}");
        let conf = fs::read_to_string(data.join("nginx.conf")).unwrap().replace("DIR", dir.to_str().unwrap());
        fs::write(dir.join("nginx.conf"), conf).unwrap();
        fs::write(dir.join("clock"), START_MS.to_ne_bytes()).unwrap();
        let path = format!("{}:/usr/local/sbin:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut child = Command::new("nginx")
            .arg("-p")
            .arg(&dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .arg("-e")
            .arg(dir.join("error.log"))
            .env("PATH", path)
            .env("LD_PRELOAD", &shim)
            .env("TEST_CLOCK", dir.join("clock"))
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx is installed");
        let socket = dir.join("socket");
        until("nginx listens", || {
            assert_eq!(
                child.try_wait().unwrap(),
                None,
                "nginx ended: {:?}",
                fs::read_to_string(dir.join("error.log"))
            );
            UnixStream::connect(&socket).ok()
        });
        let clock = File::options().write(true).open(dir.join("clock")).unwrap();
        let idle = (0..DELAYED_MAX).map(|_| Connection::open(&socket)).collect();
        let (earlier, latest) = (Connection::open(&socket), Connection::open(&socket));
        let log =
            Log { file: File::open(dir.join("error.log")).unwrap(), rest: String::new(), delaying: false };
        Self {
            child,
            dir,
            clock,
            log,
            main: [latest, earlier],
            waiting: Vec::new(),
            cooling: Vec::new(),
            idle,
        }
    }

    fn set_clock(&self, now: u64) {
        self.clock.write_all_at(&now.to_ne_bytes(), 0).unwrap();
    }

    /// Sends requests in one piece and compares the answers, and what the log says of them.
    fn exchange(&mut self, now: u64, requests: &[(Request, Expected)]) {
        if requests.is_empty() {
            return;
        }
        self.main.swap(0, 1);
        self.main[0].send(requests.iter().map(|(request, _)| request.target()));
        let mut expected_records = Vec::new();
        for (request, expected) in requests {
            let status = self.main[0].status();
            let wanted = if *expected == Expected::Pass { 200 } else { 429 };
            assert_eq!(status, Some(wanted), "at {now}, {request:?} should be {expected:?}");
            if let Expected::Refused { zone, excess } = *expected {
                expected_records.push(Record::Refused { zone, excess });
            }
        }
        let records = self.log.read();
        assert_eq!(records, expected_records, "at {now}: {requests:?}");
    }

    /// Sends a request that must wait so long.
    fn delay(&mut self, now: u64, request: Request, ms: u64) {
        let mut connection = self.idle.pop().expect("fewer delayed requests at one time");
        connection.send([request.target()].into_iter());
        let log = &mut self.log;
        let records = until(&format!("at {now}, {request:?} is delayed by {ms} ms"), || {
            Some(log.read()).filter(|records| !records.is_empty())
        });
        assert_eq!(records, [Record::Delayed { ms }], "at {now}: {request:?}");
        self.waiting.push((now + ms, connection));
    }

    /// Reads the answers that nginx must have sent when it was `now`.
    fn collect(&mut self, now: u64) {
        self.idle.append(&mut self.cooling);
        for (_, mut connection) in self.waiting.extract_if(.., |(due, _)| *due <= now) {
            assert_eq!(connection.status(), Some(200), "a delayed request passes in the end");
            self.cooling.push(connection);
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.dir.join("error.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(20).collect();
            println!("the end of nginx's log, last line first:\n{}", lines.join("\n"));
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Request {
    fn target(self) -> String {
        let Self { location, client } = self;
        format!("/{location}?client={client}&group={}", client / GROUP)
    }
}

/// nginx's error log, read as it grows.
struct Log {
    file: File,
    rest: String,
    /// The next timer is that of a delayed request.
    delaying: bool,
}

impl Log {
    fn read(&mut self) -> Vec<Record> {
        self.file.read_to_string(&mut self.rest).unwrap();
        let mut records = Vec::new();
        let end = self.rest.rfind('\n').map_or(0, |at| at + 1);
        for line in self.rest[..end].lines() {
            if let Some((_, text)) = line.split_once("limiting requests, excess: ") {
                let (excess, text) = text.split_once(" by zone \"z").unwrap();
                let (zone, _) = text.split_once('"').unwrap();
                let excess = excess.replace('.', "").parse().unwrap();
                records.push(Record::Refused { zone: zone.parse().unwrap(), excess });
            } else if line.contains("delaying request, excess: ") {
                self.delaying = true;
            } else if let Some((_, text)) = line.split_once("event timer add: ").filter(|_| self.delaying) {
                let ms = text.split(':').nth(1).unwrap().trim().parse().unwrap();
                records.push(Record::Delayed { ms });
                self.delaying = false;
            } else {
                assert!(!line.contains("[alert]") && !line.contains("[crit]"), "{line}");
            }
        }
        self.rest.drain(..end);
        records
    }
}

struct Connection(BufReader<UnixStream>);

impl Connection {
    /// Connected, and known to nginx's event loop.
    fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut connection = Self(BufReader::new(stream));
        connection.send(["/".to_owned()].into_iter());
        assert_eq!(connection.status(), Some(200));
        connection
    }

    fn send(&mut self, targets: impl Iterator<Item = String>) {
        let text: String =
            targets.map(|target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Reads an answer to its end; `None`: none came in time.
    fn status(&mut self) -> Option<u16> {
        let (mut status, mut length, mut line) = (None, 0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line).ok().filter(|read| *read > 0)?;
            match line.trim_end().split_once([' ', ':']) {
                Some(("HTTP/1.1", text)) => status = text.get(..3)?.parse().ok(),
                Some(("Content-Length", text)) => length = text.trim().parse().ok()?,
                Some(_) => {}
                None => break,
            }
        }
        self.0.read_exact(&mut vec![0; length]).ok()?;
        status
    }
}

/// Asks again and again, up to a deadline.
fn until<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::yield_now();
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % n
    }
}
