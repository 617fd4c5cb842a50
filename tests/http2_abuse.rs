//! Promise: whatever one HTTP/2 connection sends, or does not read, it is closed within a second or at its deadline, at
//! flat memory, and nobody else notices.
//!
//! Each test is an attack, most of them a CVE of other servers, made by several connections one after the other while a
//! clean client is served. It prints a row: connections, frames a second, the longest time until one was closed, how far
//! resident memory rose, and the clean client's p99 beside the one it had before.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout
)] // test code
#![allow(clippy::disallowed_types)] // threads of a test share what they found

#[path = "http2/edge.rs"]
mod edge;
#[path = "http2/floods.rs"]
mod floods;
#[path = "http2/noise.rs"]
mod noise;
#[path = "http2/patience.rs"]
mod patience;
mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use corelane::sim::Options;
use edge::{Edge, H2, descriptors, metric, resident_kib};
use support::fleet::{chat, model, until};

const CHAT: &str = "/v1/chat/completions";
/// How much resident memory an attack may add: what a busy machine has read before it judges, and half of the goal of
/// 32 MiB.
const GROWTH_KIB_MAX: u64 = 16 * 1024;
/// How long a connection may live on once its attack has begun.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
/// Connections of an attack.
const ROUNDS: u32 = 10;
/// Requests of the clean client before the attack.
const CALM_REQUESTS: usize = 150;

/// What must become of the attackers' connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The guard closes them, and counts each.
    Abuse,
    /// They are closed, by whichever rule.
    Closed,
    /// What they do is allowed, and bounded.
    Served,
}

/// What the clean client has met so far.
#[derive(Default)]
struct Clean {
    times: Vec<Duration>,
    wrong: Vec<String>,
}

/// A gateway under attack.
struct Siege {
    edge: Edge,
    calm_p99: Duration,
    descriptors: usize,
    clean: Arc<Mutex<Clean>>,
    /// The most resident memory seen since it was set to 0.
    peak_kib: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Siege {
    /// A gateway, warm, with a clean client at work. `server` is the inside of `[server]`, `options` are those of the
    /// server that attackers ask.
    fn lay(server: &str, options: Options) -> Siege {
        let rest = model("hang", &["e0"], "upstream_model = \"fault-hang\"")
            + &model("llama3.2", &["e0"], "")
            + &model("quick", &["e1"], "upstream_model = \"llama3.2\"");
        let quick = Options { slots: 64, tokens: 8, ..Options::default() };
        let edge = Edge::start(vec![options, quick], server, &rest);
        let mut client = edge.connect();
        let calm = (0..CALM_REQUESTS).map(|_| ask(&mut client).expect("a calm answer")).collect();
        let mut warm: Vec<H2> = (0..16).map(|_| edge.connect()).collect();
        warm.iter_mut().for_each(|client| assert!(ask(client).is_ok()));
        drop(warm);
        until("the warm connections are closed", || {
            (metric(&edge.fleet.gateway, "corelane_client_connections") == 1.0).then_some(())
        });
        let mut siege = Siege {
            calm_p99: p99(calm),
            descriptors: descriptors(&edge.fleet.gateway),
            clean: Arc::default(),
            peak_kib: Arc::default(),
            over: Arc::default(),
            threads: Vec::new(),
            edge,
        };
        siege.watch(client);
        siege
    }

    /// Starts the clean client, and who looks at the memory.
    fn watch(&mut self, mut client: H2) {
        let (over, clean) = (Arc::clone(&self.over), Arc::clone(&self.clean));
        self.threads.push(thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let result = ask(&mut client);
                let mut clean = clean.lock().unwrap();
                match result {
                    Ok(time) => clean.times.push(time),
                    Err(what) => return clean.wrong.push(what),
                }
                drop(clean);
                thread::sleep(Duration::from_millis(2));
            }
        }));
        let (over, peak, pid) =
            (Arc::clone(&self.over), Arc::clone(&self.peak_kib), self.edge.fleet.gateway.pid());
        self.threads.push(thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(edge::resident_kib_of(pid), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        }));
    }

    /// Runs `attack` on some connections, one after the other. It returns the frames it has sent; the connection must
    /// then be closed, unless its `fate` is to be served.
    fn run(&self, name: &str, fate: Fate, mut attack: impl FnMut(&mut H2) -> u64) {
        let mark = self.mark();
        let (mut frames, mut longest, mut spent) = (0, Duration::ZERO, Duration::ZERO);
        for round in 0..ROUNDS {
            let mut client = self.edge.shaken();
            let began = Instant::now();
            frames += attack(&mut client);
            spent += began.elapsed();
            if fate != Fate::Served {
                client.polite = false;
                let closed = client.closed(began + Duration::from_secs(8));
                assert!(closed.is_ok() || floods::is_cut(&closed), "{name} {round}: still open: {closed:?}");
                longest = longest.max(began.elapsed());
            }
        }
        self.judge(
            name,
            fate,
            mark,
            &format!("{:>8.0} frames/s", frames as f64 / spent.as_secs_f64()),
            longest,
        );
        assert!(longest <= CLOSED_WITHIN, "{name}: closed after {longest:?}");
    }

    /// Where the counters stand before an attack.
    fn mark(&self) -> Mark {
        self.clean.lock().unwrap().times.clear();
        self.peak_kib.store(0, Ordering::Relaxed);
        Mark {
            resident_kib: resident_kib(&self.edge.fleet.gateway),
            abuses: metric(&self.edge.fleet.gateway, "corelane_http2_abuses_total"),
        }
    }

    /// Prints the row of an attack, and checks what it must not have done.
    fn judge(&self, name: &str, fate: Fate, mark: Mark, rate: &str, longest: Duration) {
        let gateway = &self.edge.fleet.gateway;
        until("its connections are closed", || {
            (metric(gateway, "corelane_client_connections") <= 1.0).then_some(())
        });
        until("no endpoint works for it", || self.edge.fleet.servers[0].stats.is_quiet().then_some(()));
        until("some clean requests", || (self.clean.lock().unwrap().times.len() >= 5).then_some(()));
        let (times, wrong) = {
            let mut clean = self.clean.lock().unwrap();
            (std::mem::take(&mut clean.times), clean.wrong.clone())
        };
        let grown = self.peak_kib.load(Ordering::Relaxed).saturating_sub(mark.resident_kib);
        println!(
            "{name:<32} {rate}, closed after {:>6.1} ms, memory +{grown:>4} KiB, clean p99 {:>5.2} ms (calm {:.2} ms)",
            longest.as_secs_f64() * 1e3,
            p99(times).as_secs_f64() * 1e3,
            self.calm_p99.as_secs_f64() * 1e3,
        );
        assert!(wrong.is_empty(), "{name}: the clean client met {wrong:?}");
        assert!(grown <= GROWTH_KIB_MAX, "{name}: memory rose by {grown} KiB");
        let counted = metric(gateway, "corelane_http2_abuses_total") - mark.abuses;
        match fate {
            Fate::Abuse => assert_eq!(counted, f64::from(ROUNDS), "{name}: abuses counted"),
            Fate::Served => assert_eq!(counted, 0.0, "{name}: abuses counted"),
            Fate::Closed => {}
        }
    }

    /// The attackers have gone, and so has all that was theirs.
    fn lift(self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let gateway = &self.edge.fleet.gateway;
        self.edge.fleet.assert_quiet();
        until("descriptors are back, but for those of pools", || {
            let pooled = metric(gateway, "corelane_upstream_idle_connections") as usize;
            (descriptors(gateway) <= self.descriptors + pooled).then_some(())
        });
        assert_eq!(metric(gateway, "corelane_task_panics_total"), 0.0);
    }
}

/// See [`Siege::mark`].
struct Mark {
    resident_kib: u64,
    abuses: f64,
}

/// One clean request.
fn ask(client: &mut H2) -> Result<Duration, String> {
    let began = Instant::now();
    let body = chat("quick", false);
    let stream = client.open("POST", CHAT, &[], false).map_err(|error| error.to_string())?;
    client.send_body(stream, body.as_bytes(), edge::soon()).map_err(|gone| format!("{gone:?}"))?;
    match client.answer(stream, edge::soon()) {
        Ok(answer) if answer.status == 200 && answer.ended => Ok(began.elapsed()),
        other => Err(format!("{other:?}")),
    }
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}
