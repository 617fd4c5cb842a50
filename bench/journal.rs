//! What the journal costs: `cargo bench --bench journal` prints a row for each writer.
//!
//! One thread pushes 100 000 lines of 400 bytes a second for five seconds, a bundle of [`BUNDLE`] at a time, as the shards do. CPU is that of every thread
//! of the process but the pushing one: the journal's, glommio's, and the kernel's workers for them. RSS is read before
//! the journal starts, once it rests, and after the load.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)] // a bench

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corelane::config::Driver;
use corelane::config::observe::{Journal, Writer};
use corelane::journal::{self, queue::Queue};

const RATE: u64 = 100_000;
const SECONDS: u64 = 5;
const LENGTH: usize = 400;
/// Lines that are pushed together.
const BUNDLE: u64 = 40;

/// Nanoseconds of CPU of the threads other than the calling one.
fn others_ns() -> u64 {
    let own = fs::read_link("/proc/thread-self").unwrap();
    let tasks = fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let others = tasks.filter(|task| Some(task.file_name().as_os_str()) != own.file_name());
    let spent = |task: fs::DirEntry| fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
    others.map(spent).filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
}

fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Pushes at the rate; how many lines.
fn push(queue: &Queue) -> u64 {
    let line = "x".repeat(LENGTH - 1) + "\n";
    let bundle = line.repeat(BUNDLE as usize);
    let (begin, mut pushed) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(SECONDS) {
        let due = begin.elapsed().as_micros() as u64 * RATE / 1_000_000;
        while pushed + BUNDLE <= due {
            queue.push(bundle.as_bytes());
            pushed += BUNDLE;
        }
        thread::sleep(Duration::from_millis(1));
    }
    pushed
}

fn row(name: &str, writer: Writer) {
    let folder = std::env::temp_dir().join(format!("corelane-journal-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let queue = Arc::new(Queue::default());
    let settings = Journal { writer, segments_max: 2, ..Journal::default() };
    let before_kib = rss_kib();
    let tell = |_, text: std::fmt::Arguments<'_>| println!("({text})");
    let started =
        journal::start(&folder.join("access.log"), &settings, Driver::Auto, Arc::clone(&queue), tell);
    let thread = match started {
        Ok(thread) => thread,
        Err(error) => return println!("| {name} | {error} |"),
    };
    thread::sleep(Duration::from_millis(300));
    let (resting_kib, begin_ns) = (rss_kib(), others_ns());
    let pushed = push(&queue);
    while queue.waiting() > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(200));
    let (spent_ns, loaded_kib) = (others_ns() - begin_ns, rss_kib());
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (lines, dropped) = (read(&queue.counts.lines), read(&queue.counts.dropped));
    println!(
        "| {name} ({}) | {pushed} | {lines} | {dropped} | {} | {:.1} % | +{:.1} MiB | +{:.1} MiB |",
        queue.counts.writer().name(),
        spent_ns / pushed,
        spent_ns as f64 / (SECONDS as f64 * 1e9) * 100.0,
        (resting_kib - before_kib) as f64 / 1024.0,
        loaded_kib.saturating_sub(before_kib) as f64 / 1024.0,
    );
    thread.finish();
    fs::remove_dir_all(folder).unwrap();
}

fn main() {
    println!(
        "| writer | pushed | written | dropped | CPU ns a line | of a core | RSS at rest | under load |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    row("buffered", Writer::Buffered);
    row("direct", Writer::Auto);
}
