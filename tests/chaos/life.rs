//! The gateway's own life under load: reloads, bad files, upgrades in place, and the end.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::endpoint::{Script, Target, free_port, slow_tokens};
use super::kernel;
use super::scene::{
    Dose, Held, Storm, alone, anywhere, assert_at_rest, at_rest, configuration, scripts, wait_probed,
};
use crate::support::answer::{Answer, Reader, Trouble};
use crate::support::fleet::{connect, until};
use crate::support::open_loop::{Event, Load, Plan};
use crate::support::{self, Gateway, get};

/// Models of every configuration here.
const MODELS: &str = "[[models]]\nname = \"m\"\n[[models]]\nname = \"slow\"\n";
/// What is no configuration, each in a way of its own.
const BAD: [&str; 4] = [
    "",
    "[server\nlisten = 1",
    "[server]\nlissten = [\"127.0.0.1:0\"]",
    "[[endpoints]]\nname = \"e0\"\nurl = \"ftp://x\"",
];

/// A process with its whole family: those that it has started in its place, too.
pub struct Serving {
    child: Child,
    folder: PathBuf,
    /// The data listener.
    pub addr: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
}

impl Serving {
    /// Starts a gateway on ports of its own in front of these endpoints.
    pub fn start(endpoints: &[Script], server: &str, rest: &str) -> Serving {
        let folder =
            std::env::temp_dir().join(format!("corelane-chaos-{}-{}", std::process::id(), free_port()));
        fs::create_dir_all(&folder).unwrap();
        let [addr, admin] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let addresses: Vec<SocketAddr> = endpoints.iter().map(Target::addr).collect();
        let toml = configuration(&addr.to_string(), &admin.to_string(), &addresses, server, rest);
        fs::write(folder.join("corelane.toml"), support::configured(&toml)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.arg("serve").arg("-c").arg(folder.join("corelane.toml")).stdin(Stdio::null());
        command.stdout(File::create(folder.join("stdout")).unwrap());
        command.stderr(File::create(folder.join("stderr")).unwrap());
        let child = command.spawn().unwrap();
        let serving = Serving { child, folder, addr, admin };
        until("the ready line", || (serving.ready_lines() == 1).then_some(()));
        wait_probed(admin);
        serving
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("corelane.toml")
    }

    /// How often a process has said that it serves.
    pub fn ready_lines(&self) -> usize {
        let text = fs::read_to_string(self.folder.join("stdout")).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("ready ")).count()
    }

    /// What all of them wrote to stderr.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("stderr")).unwrap_or_default()).into_owned()
    }

    /// Processes alive, the oldest first.
    pub fn family(&self) -> Vec<u32> {
        kernel::with_argument(self.config().to_str().unwrap())
    }

    /// The first process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the newest process to be replaced, and waits until its successor serves. Both pids.
    pub fn upgrade(&self) -> (u32, u32) {
        let (old, ready) = (*self.family().last().expect("a process"), self.ready_lines());
        kernel::signal(old, libc::SIGUSR2);
        let new = until("the successor serves", || {
            let newest = *self.family().last()?;
            (newest != old && self.ready_lines() > ready).then_some(newest)
        });
        (old, new)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        for pid in self.family() {
            kernel::signal(pid, libc::SIGKILL);
        }
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// POST to the admin listener.
fn order(admin: SocketAddr, path: &str) -> Answer {
    let mut reader = connect(admin);
    let request = format!("POST {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\n\r\n");
    reader.stream().write_all(request.as_bytes()).unwrap();
    reader.answer(false, Instant::now() + Duration::from_secs(20)).expect("an answer of the admin listener")
}

/// Short requests, some on connections of their own, and long streams beside them.
pub fn mixed(addr: SocketAddr, dose: Dose, streams_per_second: u32, epoch: Instant) -> (Load, Load) {
    let slow_ms = slow_tokens() as u64 * 100;
    let short = Plan { fresh: 20, ..Plan::new(addr, dose.per_second, dose.time) };
    let long = Plan {
        streams: 100,
        fresh: 50,
        model: "slow".into(),
        tokens: slow_tokens(),
        tag: "s".into(),
        patience: Duration::from_millis(slow_ms) + Duration::from_secs(20),
        ..Plan::new(addr, streams_per_second, dose.time)
    };
    (short.start(epoch), long.start(epoch))
}

/// The end of a run: what became of both loads.
fn ended(name: &str, loads: (Load, Load), endpoints: &[Script], events: Vec<Event>) -> Storm {
    let (short, long) = (loads.0.join(), loads.1.join());
    println!("{}", long.line(&format!("{name}: streams")));
    let report = short.with(long);
    let seen = Some(endpoints.iter().map(|endpoint| endpoint.seen().unwrap()).collect());
    let storm = Storm { report, events, seen };
    storm.print(name);
    storm
}

/// Whether the models listed are these besides `m` and `slow`.
fn lists(addr: SocketAddr, alias: &str) -> bool {
    let (status, _, body) = get(addr, "/v1/models");
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{text}");
    text.contains(&format!("\"{alias}\""))
}

/// Reloads at this pace while requests run, every third file a bad one.
pub fn reloads(name: &str, dose: Dose, pace: Duration) {
    let endpoints = scripts();
    let addresses: Vec<SocketAddr> = endpoints.iter().map(Target::addr).collect();
    let gateway = Serving::start(&endpoints, "", MODELS);
    let before = at_rest(gateway.pid(), gateway.admin);
    let (addr, admin, resident) = (gateway.addr, gateway.admin, kernel::resident_kib(gateway.pid()));
    let listen = (addr.to_string(), admin.to_string());
    let good = |round: usize| {
        // An endpoint goes and comes, an alias has another name each time, a header changes.
        let some = &addresses[..if round.is_multiple_of(2) { 3 } else { 2 }];
        let server = format!("[server.headers]\nx-round = \"{round}\"\n");
        let alias = format!(
            "{MODELS}[[models]]\nname = \"alias-{round}\"\nendpoints = [\"e0\"]\nupstream_model = \"m\"\n"
        );
        support::configured(&configuration(&listen.0, &listen.1, some, "", &format!("{server}{alias}")))
    };
    let epoch = Instant::now();
    let loads = mixed(addr, dose, 4, epoch);
    let (mut events, mut last, mut done, mut refused) = (Vec::new(), None, 0, 0);
    for round in 0.. {
        let due = epoch + pace * (round as u32 + 1);
        if due - epoch > dose.time {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let bad = round % 3 == 2;
        let text = if bad { BAD[round / 3 % BAD.len()].to_owned() } else { good(round) };
        fs::write(gateway.config(), text).unwrap();
        events.push(Event {
            at: epoch.elapsed(),
            what: format!("reload {round}{}", if bad { ", bad" } else { "" }),
        });
        if round % 2 == 0 {
            let answer = order(admin, "/reload");
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(bad, answer.status >= 400, "round {round}: {} {told}", answer.status);
        } else {
            kernel::signal(gateway.pid(), libc::SIGHUP);
        }
        if bad {
            refused += 1;
        } else {
            until("the new file counts", || lists(addr, &format!("alias-{round}")).then_some(()));
            done += 1;
            last = Some(round);
        }
        let alias = format!("alias-{}", last.expect("the first file is good"));
        assert!(lists(addr, &alias), "round {round}: a bad file changed something");
    }
    let storm = ended(name, loads, &endpoints, events);
    println!(
        "{name}: {done} reloads, {refused} bad files, resident {resident} KiB before and {} KiB after",
        kernel::resident_kib(gateway.pid())
    );
    storm.assert_sound(&[]);
    assert_eq!(storm.report.reconnected(), 0, "a reload closes nobody's connection");
    assert!(done > 3 && refused > 1);
    assert_eq!((gateway.family(), gateway.ready_lines()), (vec![gateway.pid()], 1), "{}", gateway.log());
    assert_at_rest(gateway.pid(), admin, before);
}

#[test]
fn reloads_under_load() {
    let _alone = alone();
    reloads("reload each 200 ms", Dose::small(), Duration::from_millis(200));
}

/// Whether a new connection to `addr` is refused; `false`: it is answered. Anything else has failed.
fn is_refused(addr: SocketAddr) -> bool {
    let mut reader = match TcpStream::connect(addr) {
        Ok(stream) => Reader::new(stream),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return true,
        Err(error) => panic!("{addr}: {error}"),
    };
    let request = b"GET /health/liveliness HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n";
    let _ = reader.stream().write_all(request);
    match reader.answer(false, Instant::now() + Duration::from_secs(5)) {
        Ok(answer) if answer.status == 200 => false,
        Err(Trouble::Closed) => true, // it was in the queue when that was closed
        other => panic!("{addr} accepts and does not serve: {other:?}"),
    }
}

#[test]
fn listeners_that_come_and_go() {
    let _alone = alone();
    let endpoints = scripts();
    let gateway = Serving::start(&endpoints, "", MODELS);
    let before = at_rest(gateway.pid(), gateway.admin);
    let (one, second) = (gateway.addr, SocketAddr::from(([127, 0, 0, 1], free_port())));
    let alone = fs::read_to_string(gateway.config()).unwrap();
    let both =
        alone.replace(&format!("listen = [\"{one}\"]"), &format!("listen = [\"{one}\", \"{second}\"]"));
    assert_ne!(alone, both);
    let epoch = Instant::now();
    // Long streams hold on to the configurations that they began under.
    let loads = mixed(one, Dose { time: Duration::from_secs(5), ..Dose::small() }, 4, epoch);
    let mut events = Vec::new();
    for round in 0..4 {
        for (text, here) in [(&both, true), (&alone, false)] {
            fs::write(gateway.config(), text).unwrap();
            events.push(Event {
                at: epoch.elapsed(),
                what: format!("round {round}: a second listener {here}"),
            });
            let answer = order(gateway.admin, "/reload");
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            until("shards follow", || (is_refused(second) != here).then_some(()));
            for ask in 0..20 {
                assert_eq!(is_refused(second), !here, "round {round}, connection {ask}");
            }
            thread::sleep(Duration::from_millis(300));
        }
    }
    let storm = ended("listeners come and go", loads, &endpoints, events);
    storm.assert_sound(&[]);
    assert_eq!(storm.report.reconnected(), 0);
    assert_at_rest(gateway.pid(), gateway.admin, before);
}

/// Upgrades at this pace while requests and long streams run.
pub fn upgrades(name: &str, dose: Dose, pace: Duration) {
    kernel::adopt_orphans();
    let endpoints = scripts();
    let gateway = Serving::start(&endpoints, "drain_timeout = \"100s\"", MODELS);
    let before = at_rest(gateway.pid(), gateway.admin);
    let epoch = Instant::now();
    let loads = mixed(gateway.addr, dose, 4, epoch);
    let (mut events, mut replaced) = (Vec::new(), Vec::new());
    while epoch.elapsed() + pace < dose.time {
        let due = epoch + pace * (replaced.len() as u32 + 1);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        events.push(Event { at: epoch.elapsed(), what: "USR2".into() });
        let (old, new) = gateway.upgrade();
        events.push(Event { at: epoch.elapsed(), what: format!("{new} serves for {old}") });
        replaced.push(old);
    }
    let storm = ended(name, loads, &endpoints, events);
    println!("{name}: {} upgrades; left: {:?}", replaced.len(), gateway.family());
    storm.assert_sound(&[]);
    assert!(!replaced.is_empty());
    // All streams have ended, so all old processes have nothing left to do.
    for pid in replaced {
        let code = until(&format!("the end of process {pid}"), || kernel::reap(pid));
        assert_eq!(code, 0, "an old process; they wrote:\n{}", gateway.log());
    }
    let [last] = gateway.family()[..] else { panic!("left: {:?}", gateway.family()) };
    assert_at_rest(last, gateway.admin, Held { descriptors: before.descriptors + 2, ..before });
    kernel::signal(last, libc::SIGTERM);
    let code = until("the end of the last process", || kernel::reap(last));
    assert_eq!(code, 0);
}

#[test]
fn upgrades_under_load() {
    let _alone = alone();
    let dose = Dose { time: Duration::from_secs(11), ..Dose::small() };
    upgrades("upgrade every 2 s", dose, Duration::from_secs(2));
}

#[test]
fn an_upgrade_that_fails_changes_nothing() {
    let _alone = alone();
    let endpoints = scripts();
    let gateway = Serving::start(&endpoints, "", MODELS);
    let before = at_rest(gateway.pid(), gateway.admin);
    let epoch = Instant::now();
    let dose = Dose { time: Duration::from_secs(4), ..Dose::small() };
    let loads = mixed(gateway.addr, dose, 2, epoch);
    let good = fs::read_to_string(gateway.config()).unwrap();
    let mut events = Vec::new();
    for bad in BAD {
        fs::write(gateway.config(), bad).unwrap();
        events.push(Event { at: epoch.elapsed(), what: "USR2 with a bad file".into() });
        kernel::signal(gateway.pid(), libc::SIGUSR2);
        thread::sleep(Duration::from_millis(700));
    }
    fs::write(gateway.config(), good).unwrap();
    until("no other process is left", || (gateway.family() == [gateway.pid()]).then_some(()));
    let storm = ended("upgrades that fail", loads, &endpoints, events);
    storm.assert_sound(&[]);
    assert_eq!(storm.report.reconnected(), 0);
    assert_eq!(gateway.ready_lines(), 1);
    assert_at_rest(gateway.pid(), gateway.admin, before);
    // And the next one, with the good file, works.
    let (_, new) = gateway.upgrade();
    until("the old process ends", || (gateway.family() == [new]).then_some(()));
}

#[test]
fn term_under_load() {
    let _alone = alone();
    let endpoints = scripts();
    let addresses: Vec<SocketAddr> = endpoints.iter().map(Target::addr).collect();
    let mut gateway = Gateway::start(&anywhere(&addresses, "drain_timeout = \"20s\"", MODELS));
    wait_probed(gateway.admin);
    let epoch = Instant::now();
    let loads = mixed(gateway.addr, Dose { time: Duration::from_secs(3), ..Dose::small() }, 4, epoch);
    thread::sleep(Duration::from_secs(2));
    kernel::signal(gateway.pid(), libc::SIGTERM);
    let term = epoch.elapsed();
    let events = vec![Event { at: term, what: "TERM".into() }];
    let storm = ended("TERM", loads, &endpoints, events);
    let code = until("it exits", || (!gateway.alive()).then(|| gateway.exit_code()));
    assert_eq!(code, Some(0), "{}", gateway.log());
    // Who comes when nobody listens any more was never accepted. Nor was who is still with the kernel when the
    // listener is closed: the kernel resets it, and no endpoint has heard of it.
    let seen = |mark: &str| storm.seen.iter().flatten().flatten().any(|(one, _)| one == mark);
    let (mut queued, mut lost) = (0, Vec::new());
    for sample in &storm.report.samples {
        match sample.outcome.name() {
            "ok" => {}
            "unreached" => assert!(sample.ended() > term, "{sample:?}"),
            "lost" if sample.ended() > term && !seen(&sample.mark) => queued += 1,
            _ => lost.push(sample),
        }
    }
    println!(
        "TERM: {} came too late, {queued} were reset in the kernel's queue",
        storm.report.count("unreached")
    );
    assert!(lost.is_empty(), "{lost:#?}");
    assert_eq!(storm.hidden_losses(), Vec::<&str>::new());
    assert!(storm.report.count("unreached") > 0, "the listener is closed while clients still come");
    assert!(queued <= 2, "{queued} connections were reset in the queue");
}
