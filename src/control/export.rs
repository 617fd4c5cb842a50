//! Spans to the collector: one task that empties the queue in batches and sends them by OTLP/HTTP.
//!
//! A batch goes when it is full or a second old. A collector that cannot take it now (no connection, 429, 502, 503, 504)
//! is asked again, after what it says or twice as long each time; after [`TRIES`] the batch is lost and counted, as is
//! one that it refuses. Meanwhile the queue fills and drops: no shard ever waits. The settings are those of the newest
//! configuration at each try. At the end of the process all that is left has [`FLUSH`].
//! Source: OTLP specification 1.x, "OTLP/HTTP Request", "Failures", "Throttling".

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::Control;
use super::probe::within;
use crate::config::Level;
use crate::net::{clock, fetch, task, tls};
use crate::telemetry::trace::{Span, Spans, otlp};

/// Spans sent at once.
const BATCH: usize = 512;
/// How old a batch may become.
const LINGER: Duration = Duration::from_secs(1);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(50);
/// How long a collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a batch is tried.
const TRIES: usize = 5;
/// Before the second try; doubled by each.
const BACKOFF: Duration = Duration::from_millis(500);
/// What a collector may ask for at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// What is left at the end of the process has so long.
const FLUSH: Duration = Duration::from_secs(2);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The task, as the control core sees it.
#[derive(Default)]
pub struct Exporting {
    /// The process ends: no more waiting.
    ending: Cell<bool>,
    /// A batch is on its way.
    busy: Cell<bool>,
    /// All is sent, or lost.
    done: Cell<bool>,
    /// The collector took nothing last time, which the log has said.
    silent: Cell<bool>,
}

/// What became of a batch.
enum Sent {
    /// It was taken, but for so many spans.
    Taken(u64),
    /// It may be taken later: after so long, if the collector says so.
    Later(Option<Duration>, String),
    /// It will not be taken.
    Refused(String),
}

/// Begins to export.
pub fn start(control: &Rc<Control>) {
    task::spawn(&control.tasks, run(Rc::clone(control)));
}

/// Sends what is left, if that takes no longer than [`FLUSH`].
pub async fn flush(control: &Control) {
    let state = &control.exporting;
    state.ending.set(true);
    if control.world().spans.waiting() == 0 && !state.busy.get() {
        return;
    }
    let done = async {
        while !state.done.get() {
            clock::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = within(FLUSH, done).await;
}

async fn run(control: Rc<Control>) {
    let process = std::sync::Arc::clone(&control.world().process);
    let spans = &process.spans;
    let state = &control.exporting;
    let mut since_us = None;
    while !state.ending.get() || spans.waiting() > 0 {
        let now_us = control.clock.now_us();
        let age_us = match spans.waiting() {
            0 => {
                since_us = None;
                0
            }
            _ => now_us - *since_us.get_or_insert(now_us),
        };
        let old = u128::from(age_us) >= LINGER.as_micros();
        if spans.waiting() < BATCH && !old && !state.ending.get() {
            clock::sleep(LOOK).await;
            continue;
        }
        since_us = None;
        let batch: Vec<_> = std::iter::from_fn(|| spans.pop()).take(BATCH).collect();
        if !batch.is_empty() {
            state.busy.set(true);
            export(&control, spans, &batch).await;
            state.busy.set(false);
        }
    }
    state.done.set(true);
}

/// Sends a batch, as often as it takes.
async fn export(control: &Control, spans: &Spans, batch: &[Box<Span>]) {
    let count = batch.len() as u64;
    let (mut tries, mut wait) = (0, BACKOFF);
    let why = loop {
        tries += 1;
        match send(control, batch, tries).await {
            Sent::Taken(rejected) => {
                let rejected = rejected.min(count);
                spans.export(count - rejected);
                spans.lose(rejected);
                if control.exporting.silent.replace(false) {
                    tell(control, Level::Info, "the collector takes spans again");
                }
                return;
            }
            Sent::Refused(why) => break why,
            Sent::Later(_, why) if tries >= TRIES || control.exporting.ending.get() => break why,
            Sent::Later(asked, _) => {
                pause(control, asked.unwrap_or_else(|| jittered(wait))).await;
                wait *= 2;
            }
        }
    };
    spans.lose(count);
    if !control.exporting.silent.replace(true) {
        tell(control, Level::Warn, &format!("spans are lost: {why}"));
    }
}

/// Sends a batch once; the addresses of a name take turns.
async fn send(control: &Control, batch: &[Box<Span>], turn: usize) -> Sent {
    let world = control.world();
    let Some(collector) = &world.collector else {
        return Sent::Refused("there is no collector any more".to_owned());
    };
    let Some(address) = collector.address(turn) else {
        return Sent::Later(None, "the collector's name has not been resolved".to_owned());
    };
    let path = format!("{}/v1/traces", collector.url.path);
    let (connector, authority) = (collector.connector.as_ref(), collector.authority.as_str());
    let target = fetch::Target { address, connector, authority, path: &path, key: None };
    let settings = &world.config.tracing;
    let fields = settings.headers.iter().map(|(name, value)| (name.as_str(), value.expose()));
    let body = otlp::request(&settings.service_name, batch);
    match within(TIMEOUT, fetch::post(target, fields, &body, ANSWER_BYTES_MAX)).await {
        None => Sent::Later(None, format!("the collector has not answered within {TIMEOUT:?}")),
        Some(Err(error)) => Sent::Later(None, format!("the collector cannot be asked: {error}")),
        Some(Ok(answer)) => {
            let why = || format!("the collector has answered {}", answer.status);
            match answer.status {
                200..=299 => Sent::Taken(otlp::rejected(&answer.body)),
                429 | 502 | 503 | 504 => Sent::Later(retry_after(&answer.retry_after), why()),
                _ => Sent::Refused(why()),
            }
        }
    }
}

fn tell(control: &Control, level: Level, text: &str) {
    control.world().log.write(level, format_args!("tracing: {text}"));
}

/// Waits, unless the process ends.
async fn pause(control: &Control, time: Duration) {
    let end_us = control.clock.now_us() + u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2);
    while control.clock.now_us() < end_us && !control.exporting.ending.get() {
        clock::sleep(LOOK.min(time)).await;
    }
}

/// From half of `time` to all of it, so that many gateways do not come back in the same moment.
fn jittered(time: Duration) -> Duration {
    time / 2 + time / 2 * u32::from(random()) / 255
}

/// Eight bits of chance, rarely asked for.
fn random() -> u8 {
    tls::random().map_or(128, |bits| bits[0])
}

/// What `Retry-After` asks for: seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let asked = seconds.or_else(|| {
        let date = httpdate::parse_http_date(text).ok()?;
        Some(date.duration_since(SystemTime::now()).unwrap_or_default())
    });
    asked.map(|asked| asked.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("86400"), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!((retry_after(""), retry_after("-1"), retry_after("soon")), (None, None, None));
        for _ in 0..100 {
            let wait = jittered(BACKOFF);
            assert!(wait >= BACKOFF / 2 && wait <= BACKOFF, "{wait:?}");
        }
    }
}
