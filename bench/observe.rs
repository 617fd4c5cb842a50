//! What being observed costs a shard: `cargo bench --bench observe`.
//!
//! One shard under a real configuration lives through the record of a whole exchange, from its head to its line, without a
//! socket. Gateways take turns, record by record: one that logs nothing, one whose JSON lines go to a journal that
//! runs, and then what all metrics of the exchange cost at its end alone, without and with those of pairs. "Warm": record after record. "Cold": half a mebibyte is walked through
//! between two records, as a request's other work does; that is not timed. Medians of the records, and of the differences
//! paired by record; looking at the clock costs the same in both and falls out of the differences.
//!
//! At last the page of metrics of 200 models on 20 endpoints is written, without a socket.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)] // a bench

use std::fs;
use std::hint::black_box;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use corelane::api::answer::Answer;
use corelane::api::body::Scratch;
use corelane::api::{Task, View};
use corelane::boot;
use corelane::catalog::Deployment;
use corelane::config::{self, Driver};
use corelane::journal;
use corelane::shard::access::Record;
use corelane::shard::answered::{Answered, Content};
use corelane::shard::head::Incoming;
use corelane::shard::reply::Manner;
use corelane::shard::{Core, Shard};
use corelane::telemetry::log::Log;
use corelane::telemetry::prometheus;
use corelane::world::{Bound, Current, Process, World};

#[global_allocator]
static ALLOCATOR: corelane::net::memory::Allocator = corelane::net::memory::Allocator;

const HEAD: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8000\r\ncontent-type: application/json\r\ncontent-length: 75\r\n\r\n";
const BODY: &str = r#"{"model":"ollama/llama3.2","messages":[{"role":"user","content":"hello"}]}"#;
const ANSWER: &str = r#"{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":26,"completion_tokens":64}}"#;
/// Records of a run; few enough that the journal's queue holds their lines.
const RECORDS: usize = 20_000;
const RUNS: usize = 7;

/// A shard that serves each of the models by each of the endpoints.
fn shard(access: &str, endpoints: &[String], models: &[String], pairs: bool) -> Rc<Shard> {
    let mut text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\n[log]\naccess = \"{access}\"\nformat = \"json\"\n[metrics]\npairs = {pairs}\n"
    );
    for name in endpoints {
        text +=
            &format!("[[endpoints]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:1\"\nkind = \"openai\"\n");
    }
    for name in models {
        text += &format!("[[models]]\nname = \"{name}\"\nendpoints = {endpoints:?}\n");
    }
    let config = config::parse(&text).unwrap();
    let process = Process::new(1, Log::new(config.log.level, &config.log.access));
    let made = boot::make(&config, None).unwrap();
    let admin = "127.0.0.1:1".parse().unwrap();
    let bound = Bound { listening: vec![], listening_tls: vec![], admin, sockets: vec![vec![]] };
    let current = Current::new(World::new(&process, config, made, bound, None));
    Core::new(0, process, current).shard()
}

/// A shard and what its exchanges are made of.
struct Stage {
    shard: Rc<Shard>,
    incoming: Incoming,
    manner: Manner,
    view: View,
    answered: Box<Answered>,
    peer: SocketAddr,
}

impl Stage {
    fn set(access: &str, pairs: bool) -> Stage {
        let shard = shard(access, &["gpu-1".to_owned()], &["ollama/llama3.2".to_owned()], pairs);
        let incoming = Incoming::of_stream(&shard, HEAD.as_bytes().to_vec(), false).unwrap();
        let manner = Manner::of(&shard, &incoming, false);
        let view = View::read(&mut Scratch::default(), BODY.as_bytes(), Task::Chat).unwrap();
        let mut answered = Answered::new(200, vec![], vec![], Arc::from(&b""[..]));
        answered.content = Content::Whole {
            buffer: ANSWER.as_bytes().to_vec(),
            start: 0,
            answer: Answer::read(ANSWER.as_bytes(), Task::Chat, None).unwrap(),
            model: vec![],
            base64: false,
        };
        Stage {
            shard,
            incoming: *incoming,
            manner,
            view,
            answered,
            peer: "10.11.12.13:45678".parse().unwrap(),
        }
    }

    /// The record of an exchange that went well, before it is counted.
    fn lived(&self) -> Record {
        let deployment = self.shard.deployment(&self.view.model).unwrap();
        self.lived_with(&deployment, 0)
    }

    fn lived_with(&self, deployment: &Arc<Deployment>, candidate: usize) -> Record {
        let shard = &self.shard;
        let mut record = Record::new(shard, &self.incoming, &self.manner, self.peer);
        record.body(BODY.as_bytes());
        record.request_ends(shard);
        record.model(deployment, &self.view);
        record.attempt(shard, &deployment.candidates[candidate]);
        record.sent(shard);
        record.upstream_head(shard);
        record.content(shard, &self.answered);
        record.count(shard);
        record.status = 200;
        record
    }

    /// All of it.
    fn record(&self) {
        self.end(self.lived());
    }

    fn record_of(&self, deployment: &Arc<Deployment>, candidate: usize) {
        self.end(self.lived_with(deployment, candidate));
    }

    fn end(&self, record: Record) {
        record.attempt_ends(&self.shard, true);
        record.finish(&self.shard, &self.manner.request_id);
    }
}

/// Nanoseconds of a call, the clock's own included.
fn time(call: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    call();
    begin.elapsed().as_nanos() as f64
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Walks through memory.
fn walk(memory: &mut [u8]) {
    memory.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
    black_box(memory);
}

fn row(name: &str, memory: &mut [u8], [off, logged, paired]: [&Stage; 3]) {
    let queue = Arc::clone(logged.shard.process.log.journal().unwrap());
    let (mut without, mut with, mut more, mut counted, mut pairs) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..RUNS {
        for _ in 0..RECORDS {
            walk(memory);
            let a = time(|| off.record());
            walk(memory);
            let b = time(|| logged.record());
            walk(memory);
            let record = off.lived();
            let c = time(|| off.end(record));
            walk(memory);
            let record = paired.lived();
            pairs.push(time(|| paired.end(record)));
            without.push(a);
            with.push(b);
            more.push(b - a);
            counted.push(c);
        }
        while queue.waiting() > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let clock = median((0..RECORDS).map(|_| time(|| {})).collect());
    println!(
        "| {name} | {:.0} | {:.0} | **{:.0}** | {:.0} | {:.0} |",
        median(without) - clock,
        median(with) - clock,
        median(more),
        median(counted) - clock,
        median(pairs) - clock,
    );
}

/// One read of a stream is counted where its model and its endpoint are.
fn gaps(off: &Stage) {
    let record = off.lived();
    let mut last_us = off.shard.clock.now_us();
    let spent = time(|| (0..RECORDS).for_each(|_| record.gap(&off.shard, &mut last_us)));
    let clock = time(|| (0..RECORDS).for_each(|_| _ = black_box(off.shard.clock.now_us())));
    let each = |ns: f64| ns / RECORDS as f64;
    println!("\nOne read of a stream: {:.0} ns, of which the clock has {:.0}.", each(spent), each(clock));
}

/// The page of metrics, of models that nobody has asked for yet and of models that all endpoints have served.
fn scrape() {
    let names = |word: &str, count: usize| (0..count).map(|n| format!("{word}-{n}")).collect::<Vec<_>>();
    println!("\n| page of 200 models on 20 endpoints | MB | ms |\n|---|---|---|");
    for (what, used, pairs) in [
        ("nothing was asked for yet", false, false),
        ("all were asked for", true, false),
        ("the same, with pairs", true, true),
    ] {
        let shard = shard("off", &names("e", 20), &names("model", 200), pairs);
        if used {
            let stage = Stage { shard: Rc::clone(&shard), ..Stage::set("off", false) };
            for model in names("model", 200) {
                let deployment = shard.deployment(&model).unwrap();
                (0..20).for_each(|at| stage.record_of(&deployment, at));
            }
        }
        let bytes = prometheus::render(&shard.world).len();
        let spent =
            median((0..21).map(|_| time(|| drop(black_box(prometheus::render(&shard.world))))).collect());
        println!("| {what} | {:.2} | {:.1} |", bytes as f64 / 1e6, spent / 1e6);
    }
}

fn main() {
    let folder = std::env::temp_dir().join(format!("corelane-observe-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("access.log");
    let (off, logged) = (Stage::set("off", false), Stage::set(path.to_str().unwrap(), false));
    let paired = Stage::set("off", true);
    let settings = &logged.shard.world.config.log.journal;
    let queue = Arc::clone(logged.shard.process.log.journal().unwrap());
    let tell = |_, text: std::fmt::Arguments<'_>| println!("({text})");
    let thread = journal::start(&path, settings, Driver::Auto, Arc::clone(&queue), tell).unwrap();
    println!(
        "| ns an exchange | record without a line | with | the line | counted at the end | with pairs |\n|---|---|---|---|---|---|"
    );
    row("warm", &mut [], [&off, &logged, &paired]);
    row("cold", &mut vec![0; 512 * 1024], [&off, &logged, &paired]);
    gaps(&off);
    scrape();
    logged.shard.lines.hand_over(&logged.shard.process.log, logged.shard.clock.now_us());
    thread.finish();
    let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let text = fs::read_to_string(&path).unwrap();
    println!(
        "\nLines written: {}, dropped: {}. One:\n\n```json\n{}\n```",
        read(&queue.counts.lines),
        read(&queue.counts.dropped),
        text.lines().last().unwrap()
    );
    fs::remove_dir_all(folder).unwrap();
}
