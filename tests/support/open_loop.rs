//! An open-loop client: requests leave at their times, whether or not earlier ones are answered, and every outcome is
//! told apart. A closed loop would send less while the gateway is in trouble, and so hide what the trouble costs.
//!
//! Each request has a mark in its prompt that no other one has, and the servers of these tests say it back in a way
//! that is known beforehand ([`said`], the words of `corelane sim`). So an answer is right, or cut where that can be
//! seen ([`Outcome::Broken`]), or cut where it cannot ([`Outcome::Truncated`], the worst), or somebody else's.
//! Times count from when a request was due, not from when a thread got round to it.
//!
//! A worker is a thread with one kept-alive connection; there are as many as requests are open at once. A connection
//! that is found closed before a request is written is replaced, as every HTTP client does ([`Sample::reopened`]). One
//! that is closed behind the request, without any byte of an answer, is tried once more on a new connection if it was
//! a reused one (RFC 9112 section 9.3.1) and under another mark, so that the servers can tell whether the first one
//! had come to them: then it was no idle connection that was closed, but a request that was lost.
#![allow(clippy::disallowed_types)] // test code: no shard runs here

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answer::{find, show};

/// Explanations of each bad kind in a report.
const EXPLAINED_MAX: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The gateway.
    pub addr: SocketAddr,
    /// Requests a second.
    pub per_second: u32,
    /// For how long.
    pub time: Duration,
    /// Share of streams, in percent.
    pub streams: u32,
    /// Share of requests with a connection of their own, in percent.
    pub fresh: u32,
    /// The model.
    pub model: String,
    /// Tokens of an answer of that model.
    pub tokens: usize,
    /// More field lines, each with its CRLF.
    pub fields: String,
    /// The beginning of every mark; unlike that of any other plan of the test.
    pub tag: String,
    /// How long an answer may take, from its writing to its last byte.
    pub patience: Duration,
}

impl Plan {
    /// So many a second for so long, three of ten streamed, on kept-alive connections.
    pub fn new(addr: SocketAddr, per_second: u32, time: Duration) -> Plan {
        Plan {
            addr,
            per_second,
            time,
            streams: 30,
            fresh: 0,
            model: "m".into(),
            tokens: 12,
            fields: String::new(),
            tag: "q".into(),
            patience: Duration::from_secs(20),
        }
    }

    /// Begins to send; `epoch` is when the times of the report count from.
    pub fn start(self, epoch: Instant) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let its_stop = Arc::clone(&stop);
        let thread = thread::spawn(move || dispatch(Arc::new(self), epoch, &its_stop));
        Load { stop, thread }
    }
}

/// The text that the servers of these tests answer.
pub fn said(mark: &str, tokens: usize) -> String {
    format!("You said: {mark}{}", " word".repeat(tokens.saturating_sub(3)))
}

/// Requests on their way.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

impl Load {
    /// Sends no more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Waits until all is sent and answered.
    pub fn join(self) -> Report {
        self.thread.join().expect("the dispatcher")
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The right answer, whole.
    Ok,
    /// Another status.
    Refused(String),
    /// A stream had begun and ends with an error event, or its connection is cut; there is no `[DONE]`.
    Broken(String),
    /// It looks whole and is not.
    Truncated(String),
    /// Content that was never said to this request.
    Wrong(String),
    /// No answer: closed or reset before any byte, or nothing more came in time.
    Lost(String),
    /// Nobody listened.
    Unreached(String),
}

impl Outcome {
    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Refused(_) => "refused",
            Outcome::Broken(_) => "broken",
            Outcome::Truncated(_) => "truncated",
            Outcome::Wrong(_) => "wrong",
            Outcome::Lost(_) => "lost",
            Outcome::Unreached(_) => "unreached",
        }
    }

    fn why(&self) -> &str {
        match self {
            Outcome::Ok => "",
            Outcome::Refused(why)
            | Outcome::Broken(why)
            | Outcome::Truncated(why)
            | Outcome::Wrong(why)
            | Outcome::Lost(why)
            | Outcome::Unreached(why) => why,
        }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its mark.
    pub mark: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// When it was due, since the epoch.
    pub due: Duration,
    /// From then to the last byte of the answer.
    pub took: Duration,
    /// The status; 0: none.
    pub status: u16,
    /// What the gateway says of it: endpoint, attempts.
    pub told: (String, String),
    /// Whether there was a `Retry-After`.
    pub retry_after: bool,
    /// The kept-alive connection was found closed before anything was written.
    pub reopened: bool,
    /// The mark that went over a kept-alive connection which was then closed without a byte.
    pub reconnected: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
}

impl Sample {
    /// When its answer ended, since the epoch.
    pub fn ended(&self) -> Duration {
        self.due + self.took
    }
}

/// Something that was done to the gateway or to an endpoint.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, since the epoch.
    pub at: Duration,
    /// What.
    pub what: String,
}

/// All requests of a load.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order of their ends.
    pub samples: Vec<Sample>,
    /// How late the worst request was sent, because this machine was busy.
    pub behind: Duration,
}

impl Report {
    /// Requests with this outcome.
    pub fn count(&self, name: &str) -> usize {
        self.samples.iter().filter(|sample| sample.outcome.name() == name).count()
    }

    /// Requests sent again over a new connection.
    pub fn reconnected(&self) -> usize {
        self.samples.iter().filter(|sample| sample.reconnected.is_some()).count()
    }

    /// Both together.
    pub fn with(mut self, other: Report) -> Report {
        self.samples.extend(other.samples);
        self.behind = self.behind.max(other.behind);
        self
    }

    /// Milliseconds that `share` of those with this outcome have stayed below.
    pub fn quantile(&self, name: &str, share: f64) -> f64 {
        let chosen = self.samples.iter().filter(|sample| sample.outcome.name() == name);
        let mut times: Vec<Duration> = chosen.map(|sample| sample.took).collect();
        times.sort_unstable();
        let at = (times.len() as f64 * share).ceil() as usize;
        times.get(at.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    }

    /// The head of a table of [`Report::line`]s.
    pub fn head() -> String {
        format!(
            "{:24} {:>7} {:>7} {:>7} {:>6} {:>6} {:>5} {:>5} {:>6} {:>6} {:>8} {:>8} {:>8}",
            "",
            "sent",
            "ok",
            "refused",
            "broken",
            "trunc",
            "wrong",
            "lost",
            "unrch",
            "recon",
            "p50 ms",
            "p99 ms",
            "max ms"
        )
    }

    /// One line of a table.
    pub fn line(&self, name: &str) -> String {
        format!(
            "{name:24} {:7} {:7} {:7} {:6} {:6} {:5} {:5} {:6} {:6} {:8.1} {:8.1} {:8.1}",
            self.samples.len(),
            self.count("ok"),
            self.count("refused"),
            self.count("broken"),
            self.count("truncated"),
            self.count("wrong"),
            self.count("lost"),
            self.count("unreached"),
            self.reconnected(),
            self.quantile("ok", 0.5),
            self.quantile("ok", 0.99),
            self.quantile("ok", 1.0),
        )
    }

    /// The first of each bad kind, with what had happened before.
    pub fn explain(&self, events: &[Event]) -> String {
        let mut text = String::new();
        for kind in ["lost", "unreached", "truncated", "wrong", "broken", "refused"] {
            let mut bad: Vec<&Sample> = self.samples.iter().filter(|s| s.outcome.name() == kind).collect();
            bad.sort_by_key(|sample| sample.due);
            for sample in bad.iter().take(EXPLAINED_MAX) {
                let _ = writeln!(text, "  {kind}: {}", explained(sample, events));
            }
        }
        for sample in self.samples.iter().filter(|s| s.reconnected.is_some()).take(EXPLAINED_MAX) {
            let _ = writeln!(text, "  reconnected: {}", explained(sample, events));
        }
        text
    }
}

fn explained(sample: &Sample, events: &[Event]) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let near = |time: Duration| {
        let before = events.iter().filter(|event| event.at <= time).max_by_key(|event| event.at);
        before.map_or("before everything".to_owned(), |event| {
            format!("{:.0} ms after '{}'", ms(time - event.at), event.what)
        })
    };
    let kind = if sample.stream { "stream" } else { "whole" };
    let (endpoint, attempts) = &sample.told;
    format!(
        "{} ({kind}) due at {:.0} ms, {}; took {:.0} ms, ended {}; status {}, endpoint {endpoint:?}, attempts {attempts:?}: {}",
        sample.mark,
        ms(sample.due),
        near(sample.due),
        ms(sample.took),
        near(sample.ended()),
        sample.status,
        sample.outcome.why()
    )
}

struct Job {
    number: usize,
    due: Instant,
}

/// Workers that wait, the last one used on top.
#[derive(Default)]
struct Idle {
    waiting: Vec<Sender<Job>>,
    closed: bool,
}

fn dispatch(plan: Arc<Plan>, epoch: Instant, stop: &AtomicBool) -> Report {
    let (done, samples) = channel();
    let idle = Arc::new(Mutex::new(Idle::default()));
    let start = Instant::now();
    let (mut threads, mut behind) = (Vec::new(), Duration::ZERO);
    let step = Duration::from_secs(1) / plan.per_second.max(1);
    for number in 0.. {
        let due = start + step * number;
        if due - start >= plan.time || stop.load(Ordering::Acquire) {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        behind = behind.max(due.elapsed());
        let mut job = Job { number: number as usize, due };
        let waiting = idle.lock().unwrap().waiting.pop();
        if let Some(worker) = waiting {
            match worker.send(job) {
                Ok(()) => continue,
                Err(back) => job = back.0,
            }
        }
        let (plan, idle, done) = (Arc::clone(&plan), Arc::clone(&idle), done.clone());
        let thread = thread::Builder::new().stack_size(256 << 10);
        let spawned = thread.spawn(move || Worker { plan, epoch, link: None }.run(job, &idle, &done));
        threads.push(spawned.expect("a thread for a request"));
    }
    drop(done);
    let mut pool = idle.lock().unwrap();
    pool.closed = true;
    pool.waiting.clear();
    drop(pool);
    let samples = samples.into_iter().collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a worker"));
    Report { samples, behind }
}

/// A kept-alive connection.
struct Link {
    stream: TcpStream,
    ahead: Vec<u8>,
    used: bool,
}

struct Worker {
    plan: Arc<Plan>,
    epoch: Instant,
    link: Option<Link>,
}

/// How an answer ended.
#[derive(Debug)]
pub enum End {
    /// By its framing.
    Whole,
    /// The connection was closed or reset first.
    Cut(String),
    /// Nothing more came.
    Late,
    /// The framing breaks the rules.
    Malformed(String),
}

/// What came.
#[derive(Debug)]
pub struct Got {
    /// The status; 0: none.
    pub status: u16,
    /// Fields in order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The content, chunks joined, as far as it came.
    pub body: Vec<u8>,
    /// How it ended.
    pub end: End,
}

impl Got {
    fn nothing(end: End) -> Got {
        Got { status: 0, fields: Vec::new(), body: Vec::new(), end }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl Worker {
    fn run(mut self, mut job: Job, idle: &Mutex<Idle>, done: &Sender<Sample>) {
        loop {
            let sample = self.serve(&job);
            if done.send(sample).is_err() {
                return;
            }
            let next: Receiver<Job>;
            {
                let mut idle = idle.lock().unwrap();
                if idle.closed {
                    return;
                }
                let (send, receive) = channel();
                idle.waiting.push(send);
                next = receive;
            }
            match next.recv() {
                Ok(one) => job = one,
                Err(_) => return,
            }
        }
    }

    fn serve(&mut self, job: &Job) -> Sample {
        let plan = Arc::clone(&self.plan);
        // Spread evenly: a hundred numbers in a row hold exactly the share.
        let within = |share: u32, step: u32| (job.number as u32 % 100) * step % 100 < share;
        let stream = within(plan.streams, 37);
        let fresh = within(plan.fresh, 59);
        let mark = format!("{}{:06}z", plan.tag, job.number);
        let mut sample = Sample {
            mark,
            stream,
            due: job.due.saturating_duration_since(self.epoch),
            took: Duration::ZERO,
            status: 0,
            told: (String::new(), String::new()),
            retry_after: false,
            reopened: false,
            reconnected: None,
            outcome: Outcome::Ok,
        };
        if fresh {
            self.link = None;
        }
        sample.outcome = self.ask(&mut sample);
        sample.took = job.due.elapsed();
        if fresh {
            self.link = None;
        }
        sample
    }

    fn ask(&mut self, sample: &mut Sample) -> Outcome {
        if self.link.as_mut().is_some_and(Link::is_closed) {
            self.link = None;
            sample.reopened = true;
        }
        loop {
            let mut link = match self.link.take() {
                Some(link) => link,
                None => match Link::open(self.plan.addr) {
                    Ok(link) => link,
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                        return Outcome::Unreached(error.to_string());
                    }
                    Err(error) => return Outcome::Lost(format!("connect: {error}")),
                },
            };
            let reused = std::mem::replace(&mut link.used, true);
            let got = link.exchange(&self.plan, &sample.mark, sample.stream);
            if got.status == 0 && reused && sample.reconnected.is_none() && matches!(got.end, End::Cut(_)) {
                let again = format!("{}r", sample.mark);
                sample.reconnected = Some(std::mem::replace(&mut sample.mark, again));
                continue;
            }
            sample.status = got.status;
            let told = |name: &str| got.field(name).unwrap_or_default().to_owned();
            sample.told = (told("x-corelane-endpoint"), told("x-corelane-attempts"));
            sample.retry_after = got.field("retry-after").is_some();
            let close = got.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            if matches!(got.end, End::Whole) && !close && link.ahead.is_empty() {
                self.link = Some(link);
            }
            return judge(&got, sample.stream, &sample.mark, self.plan.tokens);
        }
    }
}

impl Link {
    fn open(addr: SocketAddr) -> std::io::Result<Link> {
        let stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Link { stream, ahead: Vec::new(), used: false })
    }

    /// Whether the other side has closed it while nothing was asked.
    fn is_closed(&mut self) -> bool {
        let _ = self.stream.set_nonblocking(true);
        let peeked = self.stream.peek(&mut [0]);
        let _ = self.stream.set_nonblocking(false);
        !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    fn exchange(&mut self, plan: &Plan, mark: &str, stream: bool) -> Got {
        let body =
            json!({"model": plan.model, "stream": stream, "messages": [{"role": "user", "content": mark}]});
        let body = body.to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n{body}",
            plan.fields,
            body.len()
        );
        // Also behind a failed write there may be an answer: a refusal before the body was read.
        let wrote = self.stream.write_all(request.as_bytes());
        let got = self.answer(Instant::now() + plan.patience);
        match (wrote, got) {
            (Err(error), got) if got.status == 0 => Got::nothing(End::Cut(format!("write: {error}"))),
            (_, got) => got,
        }
    }

    fn answer(&mut self, deadline: Instant) -> Got {
        let head = loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
                break head;
            }
            if let Err(end) = self.more(deadline) {
                let cut = !self.ahead.is_empty() && matches!(end, End::Cut(_));
                return Got::nothing(if cut { End::Malformed("cut in the head".into()) } else { end });
            }
        };
        let text = String::from_utf8_lossy(&head);
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let fields: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let Some(status) = status else {
            return Got::nothing(End::Malformed(format!("head {}", show(&head))));
        };
        let mut got = Got { status, fields, body: Vec::new(), end: End::Whole };
        let length = got.field("content-length").map(|text| text.parse::<usize>().ok());
        let chunked = got.field("transfer-encoding") == Some("chunked");
        let ended = match (length, chunked) {
            (Some(Some(length)), false) => self.take(length, &mut got.body, deadline),
            (None, true) => self.chunks(&mut got.body, deadline),
            _ => Err(End::Malformed(format!("framing of {:?}", got.fields))),
        };
        if let Err(end) = ended {
            got.end = end;
        }
        got
    }

    fn chunks(&mut self, body: &mut Vec<u8>, deadline: Instant) -> Result<(), End> {
        loop {
            let line = self.line(deadline)?;
            let size = usize::from_str_radix(&line, 16)
                .map_err(|_| End::Malformed(format!("chunk line {line:?}")))?;
            if size == 0 {
                return if self.line(deadline)?.is_empty() {
                    Ok(())
                } else {
                    Err(End::Malformed("trailer".into()))
                };
            }
            self.take(size, body, deadline)?;
            if !self.line(deadline)?.is_empty() {
                return Err(End::Malformed("bytes behind a chunk".into()));
            }
        }
    }

    fn line(&mut self, deadline: Instant) -> Result<String, End> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more(deadline)?;
        }
    }

    /// Moves `count` bytes to `body`; as many as there are, if the connection ends first.
    fn take(&mut self, count: usize, body: &mut Vec<u8>, deadline: Instant) -> Result<(), End> {
        let mut left = count;
        loop {
            let part = left.min(self.ahead.len());
            body.extend(self.ahead.drain(..part));
            left -= part;
            if left == 0 {
                return Ok(());
            }
            self.more(deadline)?;
        }
    }

    fn more(&mut self, deadline: Instant) -> Result<(), End> {
        let mut buffer = [0; 8 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(End::Late);
            }
            let _ = self.stream.set_read_timeout(Some(left));
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(End::Cut("closed".into())),
                Ok(count) => {
                    self.ahead.extend_from_slice(&buffer[..count]);
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(End::Late),
                    _ => return Err(End::Cut(error.to_string())),
                },
            }
        }
    }
}

/// The verdict on an answer to the request with this mark.
pub fn judge(got: &Got, stream: bool, mark: &str, tokens: usize) -> Outcome {
    let ended = match &got.end {
        End::Whole => None,
        End::Cut(why) => Some(format!("{why} after {} bytes of content", got.body.len())),
        End::Late => {
            return Outcome::Lost(format!("nothing more came after {} bytes of content", got.body.len()));
        }
        End::Malformed(why) => return Outcome::Wrong(format!("malformed: {why}")),
    };
    if got.status == 0 {
        return Outcome::Lost(ended.unwrap_or_default());
    }
    if got.status != 200 {
        let what = format!("{} {}", got.status, show(&got.body));
        return if ended.is_some() {
            Outcome::Broken(format!("cut refusal {what}"))
        } else {
            Outcome::Refused(what)
        };
    }
    let expected = said(mark, tokens);
    if stream { judge_stream(got, ended, &expected) } else { judge_whole(got, ended, &expected) }
}

fn judge_whole(got: &Got, ended: Option<String>, expected: &str) -> Outcome {
    if let Some(why) = ended {
        return Outcome::Broken(why);
    }
    let Ok(body) = serde_json::from_slice::<Value>(&got.body) else {
        return Outcome::Truncated(format!("no JSON: {}", show(&got.body)));
    };
    let content = body["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    compare(content, expected)
}

fn compare(content: &str, expected: &str) -> Outcome {
    if content == expected {
        Outcome::Ok
    } else if expected.starts_with(content) {
        Outcome::Truncated(format!("{content:?} is only the beginning of {expected:?}"))
    } else {
        Outcome::Wrong(format!("{content:?} instead of {expected:?}"))
    }
}

fn judge_stream(got: &Got, ended: Option<String>, expected: &str) -> Outcome {
    let text = String::from_utf8_lossy(&got.body);
    let (mut content, mut done, mut finished, mut error) = (String::new(), false, false, None);
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    for event in whole.split("\n\n").filter(|event| !event.is_empty()) {
        let data: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let data = data.join("\n");
        if data.is_empty() {
            continue; // a comment
        }
        if done {
            return Outcome::Wrong(format!("an event behind [DONE]: {data}"));
        }
        if data == "[DONE]" {
            done = true;
            continue;
        }
        let Ok(value) = serde_json::from_str::<Value>(&data) else {
            return Outcome::Wrong(format!("an event that is no JSON: {data}"));
        };
        if value.get("error").is_some() {
            error = Some(value["error"]["message"].to_string());
        }
        content += value["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        finished |= value["choices"][0]["finish_reason"].is_string();
    }
    if !expected.starts_with(&content) {
        return Outcome::Wrong(format!("{content:?} instead of {expected:?}"));
    }
    match (done, error, ended) {
        (false, Some(error), _) => Outcome::Broken(format!("error event {error} after {content:?}")),
        (false, None, Some(why)) => Outcome::Broken(why),
        (true, None, None) if finished => compare(&content, expected),
        (true, None, Some(why)) => Outcome::Broken(format!("{why}, behind [DONE]")),
        (done, error, _) => Outcome::Truncated(format!(
            "a proper end of {content:?}: [DONE] {done}, finish_reason {finished}, error {error:?}"
        )),
    }
}
