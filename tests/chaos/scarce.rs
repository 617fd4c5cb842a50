//! A machine that gives less than was asked for: no space for the log, no descriptors, no io_uring, a thread that does
//! not run, a wall clock that jumps.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::endpoint::{Script, Target};
use super::kernel;
use super::scene::{Storm, alone, anywhere, assert_at_rest, at_rest, scripts, wait_probed};
use crate::support::answer::Answer;
use crate::support::fleet::{chat, connect, send};
use crate::support::open_loop::{Event, Plan, Report};
use crate::support::{Gateway, get};

const MODEL: &str = "[[models]]\nname = \"m\"\n";

fn addresses(endpoints: &[Script]) -> Vec<SocketAddr> {
    endpoints.iter().map(Target::addr).collect()
}

/// The end of a run.
fn storm(name: &str, report: Report, events: Vec<Event>, endpoints: &[Script]) -> Storm {
    let seen = Some(endpoints.iter().map(|endpoint| endpoint.seen().unwrap()).collect());
    let storm = Storm { report, events, seen };
    storm.print(name);
    storm
}

/// Processor time in two seconds without work, in hundredths of a second.
fn idle_ticks(pid: u32) -> u64 {
    let before = kernel::ticks(pid);
    thread::sleep(Duration::from_secs(2));
    kernel::ticks(pid) - before
}

/// A gateway whose access log is `log`, under load.
fn with_log(name: &str, log: &Path, between: impl FnOnce()) {
    let endpoints = scripts();
    let rest = format!("[log]\naccess = \"{}\"\n{MODEL}", log.display());
    let mut gateway = Gateway::start(&anywhere(&addresses(&endpoints), "", &rest));
    wait_probed(gateway.admin);
    let before = at_rest(gateway.pid(), gateway.admin);
    let epoch = Instant::now();
    let load = Plan::new(gateway.addr, 200, Duration::from_secs(5)).start(epoch);
    thread::sleep(Duration::from_secs(3));
    between();
    let storm = storm(name, load.join(), Vec::new(), &endpoints);
    storm.assert_sound(&[]);
    assert!(gateway.alive(), "{}", gateway.log());
    assert_at_rest(gateway.pid(), gateway.admin, before);
    let idle = idle_ticks(gateway.pid());
    assert!(idle < 120, "{idle} of 200 ticks without work");
}

#[test]
fn a_log_that_takes_nothing() {
    let _alone = alone();
    with_log("/dev/full", Path::new("/dev/full"), || {});
}

/// A file system of 64 KiB; unmounted when dropped.
struct Tiny(PathBuf);

impl Tiny {
    /// `None`: this user may not mount.
    fn mount() -> Option<Tiny> {
        let folder = std::env::temp_dir().join(format!("corelane-chaos-full-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let tiny = Tiny(folder);
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "corelane-chaos"]).arg(&tiny.0).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(tiny)
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).stderr(Stdio::null()).status();
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_disk_that_is_full_and_then_is_not() {
    let _alone = alone();
    let Some(tiny) = Tiny::mount() else {
        println!("mounting is not allowed here: /dev/full is what is tried, by the test above");
        return;
    };
    let (log, filler) = (tiny.0.join("access.log"), tiny.0.join("filler"));
    let mut full = File::create(&filler).unwrap();
    while full.write_all(&[b'x'; 4096]).is_ok() {}
    drop(full);
    let last = std::cell::Cell::new(0);
    with_log("full disk", &log, || {
        last.set(fs::metadata(&log).map_or(0, |data| data.len()));
        fs::remove_file(&filler).unwrap();
    });
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.len() as u64 > last.get(), "nothing is written after there is space again");
    let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
    let all = text.lines().count();
    println!("full disk: {whole} whole lines of {all}, {} bytes before there was space", last.get());
    assert!(all - whole <= 1, "a line that did not fit may be cut, once: {whole} of {all} are whole");
}

#[test]
fn no_descriptors() {
    let _alone = alone();
    let endpoints = scripts();
    let server = "shards = 1\nmax_connections = 100000";
    let toml = anywhere(&addresses(&endpoints), server, MODEL);
    let mut gateway = Gateway::start_limited(&toml, 100);
    wait_probed(gateway.admin);
    let before = at_rest(gateway.pid(), gateway.admin);
    let epoch = Instant::now();
    let load = Plan::new(gateway.addr, 50, Duration::from_secs(6)).start(epoch);
    thread::sleep(Duration::from_secs(1));
    let mut events = vec![Event { at: epoch.elapsed(), what: "200 connections take all".into() }];
    let held: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(gateway.addr).unwrap()).collect();
    thread::sleep(Duration::from_secs(2));
    events.push(Event { at: epoch.elapsed(), what: "they are closed".into() });
    let freed = epoch.elapsed();
    drop(held);
    let storm = storm("no descriptors", load.join(), events, &endpoints);
    storm.assert_sound(&["refused"]);
    // What was due a second after all was free again is served.
    let late = storm.report.samples.iter().filter(|s| s.due > freed + Duration::from_secs(1));
    let bad: Vec<_> = late.filter(|sample| sample.outcome.name() != "ok").collect();
    assert!(bad.is_empty(), "it has not recovered: {bad:?}");
    // Without clients, but with its descriptors taken, it waits and does not spin.
    let mut kept = connect(gateway.addr);
    let mut served = || {
        send(&mut kept, CHAT, &chat("m", false));
        kept.answer(false, Instant::now() + Duration::from_secs(10)).expect("an answer").status
    };
    assert_eq!(served(), 200);
    let held: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(gateway.addr).unwrap()).collect();
    let idle = idle_ticks(gateway.pid());
    println!("no descriptors: {idle} of 200 ticks of a processor while it waits");
    assert!(idle < 120, "{idle} of 200 ticks");
    // By now no connection to an endpoint is left, and none can be made: that is no endpoint's fault.
    let statuses: Vec<u16> = (0..8).map(|_| served()).collect();
    println!("no descriptors: a client that is connected is told {statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    let log = gateway.log();
    let blamed: Vec<&str> = log.lines().filter(|line| line.contains(" rests: ")).collect();
    assert!(blamed.is_empty(), "its own want is no endpoint's fault:\n{}", blamed.join("\n"));
    drop(kept);
    drop(held);
    assert!(gateway.alive());
    assert_at_rest(gateway.pid(), gateway.admin, before);
}

#[test]
fn io_uring_that_is_denied() {
    let _alone = alone();
    for errno in [libc::EPERM, libc::ENOSYS] {
        let endpoints = scripts();
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.env_remove("MONOIO_FORCE_LEGACY_DRIVER");
        kernel::deny_io_uring(&mut command, errno);
        let mut gateway = Gateway::start_by(&anywhere(&addresses(&endpoints), "", MODEL), command);
        wait_probed(gateway.admin);
        let page = String::from_utf8(get(gateway.admin, "/metrics").2).unwrap();
        assert!(page.contains("driver=\"epoll\"") && !page.contains("driver=\"io_uring\""), "{page}");
        let before = at_rest(gateway.pid(), gateway.admin);
        let load = Plan::new(gateway.addr, 100, Duration::from_secs(2)).start(Instant::now());
        let storm = storm(&format!("io_uring denied ({errno})"), load.join(), Vec::new(), &endpoints);
        storm.assert_sound(&[]);
        assert_eq!(storm.report.reconnected(), 0);
        assert!(gateway.alive());
        assert_at_rest(gateway.pid(), gateway.admin, before);
    }
}

#[test]
fn io_uring_that_is_denied_and_demanded() {
    let toml = anywhere(&["127.0.0.1:9".parse().unwrap()], "driver = \"io_uring\"", MODEL);
    let path = std::env::temp_dir().join(format!("corelane-chaos-uring-{}.toml", std::process::id()));
    fs::write(&path, toml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.env_remove("MONOIO_FORCE_LEGACY_DRIVER").arg("serve").arg("-c").arg(&path);
    kernel::deny_io_uring(&mut command, libc::EPERM);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("io_uring demanded and denied: exit {:?}, {told}", output.status.code());
    assert!(output.status.code().is_some_and(|code| code != 0), "{output:?}");
    assert!(told.contains("io_uring") && !told.contains("panicked"), "it says what is missing: {told}");
    fs::remove_file(path).unwrap();
}

#[test]
fn a_shard_that_stands_still() {
    let _alone = alone();
    let endpoints = scripts();
    let mut gateway = Gateway::start(&anywhere(&addresses(&endpoints), "shards = 2", MODEL));
    wait_probed(gateway.admin);
    let before = at_rest(gateway.pid(), gateway.admin);
    let shard = kernel::threads(gateway.pid()).into_iter().find(|(_, name)| name == "shard-0");
    let shard = shard.expect("a thread of this name").0;
    let epoch = Instant::now();
    let plan = Plan { fresh: 30, ..Plan::new(gateway.addr, 100, Duration::from_secs(5)) };
    let load = plan.start(epoch);
    thread::sleep(Duration::from_secs(2));
    let frozen = kernel::Frozen::stop(shard).expect("ptrace of a process of one's own");
    let from = epoch.elapsed();
    thread::sleep(Duration::from_secs(1));
    drop(frozen);
    let to = epoch.elapsed();
    let events = vec![
        Event { at: from, what: "shard 0 stands".into() },
        Event { at: to, what: "shard 0 runs".into() },
    ];
    let storm = storm("a shard stands 1 s", load.join(), events, &endpoints);
    storm.assert_sound(&[]);
    assert_eq!(storm.report.reconnected(), 0);
    let during = || storm.report.samples.iter().filter(|s| s.due >= from && s.ended() < to);
    let due = storm.report.samples.iter().filter(|s| s.due >= from && s.due < to).count();
    println!("a shard stands: {} of {due} due meanwhile were served meanwhile", during().count());
    assert!(during().count() * 5 > due, "the other shard serves: {} of {due}", during().count());
    assert!(gateway.alive());
    assert_at_rest(gateway.pid(), gateway.admin, before);
}

/// The wall clock of a process.
struct Clock {
    folder: PathBuf,
}

impl Clock {
    fn make() -> Clock {
        let folder = std::env::temp_dir().join(format!("corelane-chaos-clock-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/chaos/clock.c");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(folder.join("clock.so"))
            .arg(source);
        assert!(cc.status().expect("cc is installed").success(), "{cc:?}");
        let clock = Clock { folder };
        clock.set(0);
        clock
    }

    /// Seconds that it is off by.
    fn set(&self, seconds: i64) {
        use std::os::unix::fs::FileExt as _;
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(self.folder.join("offset"));
        file.unwrap().write_all_at(&(seconds * 1000).to_ne_bytes(), 0).unwrap();
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const CHAT: &str = "/v1/chat/completions";

/// Asks with a key; a refusal must not send anybody away for longer than a minute or two.
fn ask(addr: SocketAddr, key: &str, method: &str, path: &str) -> Answer {
    let mut reader = connect(addr);
    let body = if method == "POST" { chat("m", false) } else { String::new() };
    let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {key}\r\n{length}\r\n{body}");
    reader.stream().write_all(request.as_bytes()).unwrap();
    let answer = reader.answer(false, Instant::now() + Duration::from_secs(10)).expect("an answer");
    assert!(matches!(answer.status, 200 | 429), "{answer:?}");
    if answer.status == 429 {
        let wait: u64 = answer.field("retry-after").and_then(|text| text.parse().ok()).expect("Retry-After");
        assert!(wait <= 120, "sent away for {wait} s");
    }
    answer
}

#[test]
fn a_wall_clock_that_jumps() {
    let _alone = alone();
    let endpoints = scripts();
    let clock = Clock::make();
    let keys = "[[keys]]\nname = \"free\"\nsecret = \"sk-chaos-free\"\nexpires = \"2199-01-01T00:00:00Z\"\n\
                [[keys]]\nname = \"minute\"\nsecret = \"sk-chaos-minute\"\nrequests_per_minute = 5\n";
    let zone = "[[limits.zones]]\nname = \"list\"\nrate = \"10r/s\"\nburst = 5\nnodelay = true\nroutes = [\"/v1/models\"]\n";
    let toml = anywhere(&addresses(&endpoints), "", &format!("{zone}{MODEL}{keys}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command
        .env("LD_PRELOAD", clock.folder.join("clock.so"))
        .env("TEST_CLOCK_OFFSET", clock.folder.join("offset"));
    let mut gateway = Gateway::start_by(&toml, command);
    wait_probed(gateway.admin);
    let before = at_rest(gateway.pid(), gateway.admin);
    let epoch = Instant::now();
    let plan = Plan {
        fields: "Authorization: Bearer sk-chaos-free\r\n".into(),
        ..Plan::new(gateway.addr, 100, Duration::from_secs(7))
    };
    let load = plan.start(epoch);
    let (mut passed, mut events) = (0, Vec::new());
    for hour in [0, 1, -1, 0, 1, 0] {
        clock.set(hour * 3600);
        events.push(Event { at: epoch.elapsed(), what: format!("the clock jumps to {hour} h") });
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            passed += u64::from(ask(gateway.addr, "sk-chaos-free", "GET", "/v1/models").status == 200);
            thread::sleep(Duration::from_millis(20));
        }
    }
    let (low, high) =
        (epoch.elapsed().as_secs() * 10 * 7 / 10, 6 + epoch.elapsed().as_millis() as u64 / 100 + 1);
    let date = get(gateway.addr, "/health/liveliness").1;
    println!("clock: {passed} of 10 a second passed, {low} to {high} allowed; {date:?}");
    let storm = storm("clock jumps of 1 h", load.join(), events, &endpoints);
    storm.assert_sound(&[]);
    assert_eq!(storm.report.reconnected(), 0);
    assert!((low..=high).contains(&passed), "{passed} passed, {low} to {high} allowed");
    minutes(gateway.addr, &clock);
    clock.set(0);
    assert!(gateway.alive(), "{}", gateway.log());
    assert_at_rest(gateway.pid(), gateway.admin, before);
}

/// Five requests of each minute of the wall clock, whichever way it got there.
fn minutes(addr: SocketAddr, clock: &Clock) {
    for hour in [0, 1, -1, 1, 0] {
        clock.set(hour * 3600);
        let statuses: Vec<u16> = (0..8).map(|_| ask(addr, "sk-chaos-minute", "POST", CHAT).status).collect();
        let passed = statuses.iter().filter(|status| **status == 200).count();
        // A minute may end on the way.
        assert!((5..=8).contains(&passed), "at {hour} h: {statuses:?}");
        assert!(hour == 0 || passed < 8, "no minute was counted: {statuses:?}");
    }
}
