//! Three endpoints, a gateway, a load and faults that strike in turn; and what must hold behind every one of them.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::endpoint::{Fault, Script, Seen, Target};
use super::kernel;
use crate::support::fleet::until;
use crate::support::open_loop::{Event, Plan, Report};
use crate::support::{Gateway, get};

/// Gauges that are zero when nothing goes on; the last one once idle connections to endpoints are closed.
const GAUGES: [&str; 6] = [
    "corelane_exchanges_in_flight",
    "corelane_streams_in_flight",
    "corelane_endpoint_in_flight",
    "corelane_client_connections",
    "corelane_buffered_bytes",
    "corelane_upstream_idle_connections",
];

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Dose {
    /// Requests a second.
    pub per_second: u32,
    /// For how long.
    pub time: Duration,
}

impl Dose {
    /// What the tests take; soaks take more.
    pub fn small() -> Dose {
        Dose { per_second: 100, time: Duration::from_secs(6) }
    }
}

/// Held while a test runs: these tests disturb each other, also across processes.
pub fn alone() -> File {
    let path = std::env::temp_dir().join("corelane-chaos.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
    file.lock().expect("the lock of these tests");
    file
}

/// The configuration: short limits, so that a fault has its whole course within a test. `server` is the inside of
/// `[server]`, `rest` the end of the file.
pub fn configuration(
    listen: &str,
    admin: &str,
    addresses: &[SocketAddr],
    server: &str,
    rest: &str,
) -> String {
    let mut toml = format!(
        "[server]\nlisten = [\"{listen}\"]\nadmin_listen = \"{admin}\"\nupstream_keep_alive = \"1s\"\n{server}\n\
         [timeouts]\nconnect = \"300ms\"\nfirst_byte = \"1s\"\nidle = \"5s\"\ntotal = \"120s\"\n\
         [retry]\nattempts = 3\nbackoff = \"10ms\"\n"
    );
    if !rest.contains("[health]") {
        toml += "[health]\ninterval = \"500ms\"\ntimeout = \"1s\"\n";
    }
    if !rest.contains("[log]") {
        toml += "[log]\naccess = \"off\"\n";
    }
    for (at, address) in addresses.iter().enumerate() {
        let slots = if rest.contains("#slots=4") { "slots = 4\n" } else { "" };
        toml += &format!(
            "[[endpoints]]\nname = \"e{at}\"\nurl = \"http://{address}\"\nkind = \"openai\"\n{slots}"
        );
    }
    toml + rest
}

/// As [`configuration`], on ports of the kernel's choosing.
pub fn anywhere(addresses: &[SocketAddr], server: &str, rest: &str) -> String {
    configuration("127.0.0.1:0", "127.0.0.1:0", addresses, server, rest)
}

/// Waits until probes have found all endpoints.
pub fn wait_probed(admin: SocketAddr) {
    until("every endpoint probed", || {
        let (_, _, body) = get(admin, "/status");
        let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
        status["endpoints"].as_array()?.iter().all(|endpoint| endpoint["health"] == "healthy").then_some(())
    });
}

/// What a process holds when nothing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

/// Waits until all gauges are zero, and tells what the process then holds.
pub fn at_rest(pid: u32, admin: SocketAddr) -> Held {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let page = String::from_utf8(get(admin, "/metrics").2).unwrap();
        let busy: Vec<&str> = page
            .lines()
            .filter(|line| GAUGES.iter().any(|gauge| line.starts_with(gauge)) && !line.ends_with(" 0"))
            .collect();
        if busy.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "gauges are not zero after 3 s:\n{}", busy.join("\n"));
        thread::sleep(Duration::from_millis(20));
    }
    // Probes and scrapes come and go: the least of some looks.
    let look = |_| {
        thread::sleep(Duration::from_millis(10));
        kernel::descriptors(pid)
    };
    let descriptors = (0..20).map(look).min().unwrap_or(0);
    Held { descriptors, threads: kernel::threads(pid).len() }
}

/// All gauges are zero within 3 s, and the process holds what it held before.
pub fn assert_at_rest(pid: u32, admin: SocketAddr, before: Held) {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let now = at_rest(pid, admin);
        if now.descriptors <= before.descriptors && now.threads == before.threads {
            return;
        }
        let open = kernel::open_files(pid).join("\n");
        assert!(
            Instant::now() < deadline,
            "{now:?} are held 3 s after the test, {before:?} before it:\n{open}"
        );
    }
}

/// Everything of one run.
pub struct Storm {
    /// What became of the requests.
    pub report: Report,
    /// What was done when.
    pub events: Vec<Event>,
    /// What each endpoint has seen.
    pub seen: Option<Vec<Vec<Seen>>>,
}

impl Storm {
    /// Prints the line of the table, and the explanations of what went wrong.
    pub fn print(&self, name: &str) {
        println!("{}\n{}", Report::head(), self.report.line(name));
        if let Some(attempts) = self.attempts() {
            let (again, sent) = (self.same_again(), self.report.samples.len());
            println!(
                "{name}: {attempts} attempts, {:.3} a request; {again} on the endpoint tried just before; sent at most {} ms late",
                attempts as f64 / sent.max(1) as f64,
                self.report.behind.as_millis()
            );
        }
        print!("{}", self.report.explain(&self.events));
    }

    /// Requests that have come to the endpoints.
    pub fn attempts(&self) -> Option<usize> {
        self.seen.as_ref().map(|seen| seen.iter().map(Vec::len).sum())
    }

    /// Attempts that followed one of the same request on the same endpoint.
    pub fn same_again(&self) -> usize {
        let mut by_mark: HashMap<&str, Vec<(u64, usize)>> = HashMap::new();
        for (endpoint, seen) in self.seen.iter().flatten().enumerate() {
            for (mark, at) in seen {
                by_mark.entry(mark).or_default().push((*at, endpoint));
            }
        }
        by_mark.values_mut().for_each(|all| all.sort_unstable());
        by_mark.values().map(|all| all.windows(2).filter(|two| two[0].1 == two[1].1).count()).sum()
    }

    /// Requests sent again over a new connection although the first sending had come to an endpoint: these were lost.
    pub fn hidden_losses(&self) -> Vec<&str> {
        let seen: HashSet<&str> =
            self.seen.iter().flatten().flatten().map(|(mark, _)| mark.as_str()).collect();
        let first = self.report.samples.iter().filter_map(|sample| sample.reconnected.as_deref());
        first.filter(|mark| seen.contains(mark)).collect()
    }

    /// What is never allowed, whatever the fault: losses, refusals, and answers that are wrong without looking so.
    /// `but` are outcomes that the test judges itself.
    pub fn assert_sound(&self, but: &[&str]) {
        for kind in ["lost", "unreached", "truncated", "wrong", "refused", "broken"] {
            let found = self.report.count(kind);
            assert!(
                but.contains(&kind) || found == 0,
                "{found} {kind}:\n{}",
                self.report.explain(&self.events)
            );
        }
        let whole = |sample: &&_| {
            let sample: &crate::support::open_loop::Sample = sample;
            sample.outcome.name() == "broken" && !sample.stream
        };
        let cut = self.report.samples.iter().filter(whole).count();
        assert_eq!(cut, 0, "whole answers are checked before they are passed on");
        assert_eq!(self.hidden_losses(), Vec::<&str>::new(), "closed although it had come to an endpoint");
        assert!(self.report.count("ok") > 0);
    }
}

/// How often a fault strikes. An attempt that hangs is given up after a second: a fault each second would meet the same
/// request three times, on one endpoint after the other, and no order of retries could save it.
fn pace(fault: Fault) -> Duration {
    Duration::from_millis(if fault == Fault::Hang { 1300 } else { 1000 })
}

/// A fault each second, half a second long, on one of three endpoints in turn.
pub fn storm<T: Target>(name: &str, fault: Fault, dose: Dose, endpoints: &[T]) -> Storm {
    let pace = pace(fault);
    let addresses: Vec<SocketAddr> = endpoints.iter().map(Target::addr).collect();
    let mut gateway = Gateway::start(&anywhere(&addresses, "", "[[models]]\nname = \"m\"\n"));
    wait_probed(gateway.admin);
    let before = at_rest(gateway.pid(), gateway.admin);
    let resident = kernel::resident_kib(gateway.pid());
    let epoch = Instant::now();
    let load = Plan::new(gateway.addr, dose.per_second, dose.time).start(epoch);
    let mut events = Vec::new();
    let mut note = |what: String| events.push(Event { at: epoch.elapsed(), what });
    // On this thread, not one of its own: processes end with the thread that has started them.
    for (round, endpoint) in (0..).zip((0..endpoints.len()).cycle()) {
        let begin = epoch + Duration::from_millis(300) + pace * round;
        if begin + pace > epoch + dose.time {
            break;
        }
        thread::sleep(begin.saturating_duration_since(Instant::now()));
        note(format!("{fault:?} e{endpoint}"));
        endpoints[endpoint].strike(fault);
        let end = begin + Duration::from_millis(500);
        thread::sleep(end.saturating_duration_since(Instant::now()));
        endpoints[endpoint].heal(fault);
        note(format!("end of {fault:?} e{endpoint}"));
    }
    let report = load.join();
    let seen = endpoints.iter().map(Target::seen).collect();
    let storm = Storm { report, events, seen };
    storm.print(name);
    println!("{name}: resident {resident} KiB before, {} after", kernel::resident_kib(gateway.pid()));
    assert!(gateway.alive(), "{}", gateway.log());
    assert_at_rest(gateway.pid(), gateway.admin, before);
    storm
}

/// Three servers on threads.
pub fn scripts() -> Vec<Script> {
    (0..3).map(|_| Script::start()).collect()
}
