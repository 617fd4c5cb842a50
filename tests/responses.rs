//! Promise: no bytes of an upstream become a wrong answer.
//!
//! Each case of `tests/data/framing/upstream_*.toml` is what a bad upstream sends to one request. The
//! client must get the answer if it is valid, else a 502 (504 when nothing comes), or a stream that is
//! visibly cut; never another's answer, never a cut one that looks whole. A clean request follows on
//! another client connection: it must get its own answer, and over a new upstream connection where the
//! old one is not to be trusted. A case fails with a kind:
//!   - wrong: the outcome is not one the case allows;
//!   - poisoned: somebody got an answer that is not theirs, or the clean request failed;
//!   - reused: the upstream connection was used again;
//!   - dirty: a field of one hop came through to the client.
//!
//! Then everything runs again with the upstream's bytes cut at three random places, for two seeds.
//! `CORELANE_FRAMING_ONLY` runs the cases whose names contain it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code
#![allow(clippy::print_stdout)] // the totals are the test's report

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::answer::{Answer, Trouble};
use support::corpus::{After, Case, Piece};
use support::lane::{ANSWER_DEADLINE, Lane, Random, answer_id};
use support::upstream::{Record, Reply, Then, echo};

/// Gateways, each with a thread that runs cases on it.
const LANES: usize = 4;
/// Runs with cut bytes; the number of the round is the seed.
const CUT_ROUNDS: u64 = 2;
/// Short waits for upstreams that stop; one attempt, as every lane has one endpoint only.
const CONFIG: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nshards = 1\n\
                      [timeouts]\nfirst_byte = \"1s\"\nidle = \"1s\"\n[retry]\nattempts = 1\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Wrong,
    Poisoned,
    Reused,
    Dirty,
}

type Findings = Vec<(Kind, String)>;

#[test]
fn bad_upstreams() {
    let only = std::env::var("CORELANE_FRAMING_ONLY").unwrap_or_default();
    let mut cases = support::corpus::load(true);
    assert!(cases.len() >= 60, "{} cases", cases.len());
    cases.retain(|c| c.name.contains(&only));
    let cases = Arc::new(cases);
    let script = Arc::clone(&cases);
    let mut lanes = Lane::start_all(LANES, CONFIG, move |record: &Record| scripted(&script, record));

    let mut failed = false;
    for round in 0..=CUT_ROUNDS {
        failed |= report(round, &cases, &run_all(&mut lanes, &cases, round));
    }
    for lane in &lanes {
        if let Some(gateway) = &lane.gateway {
            support::assert_gauges_zero(gateway);
        }
    }
    assert!(!failed, "cases failed, see above");
}

/// Runs every case once, the lanes side by side; findings in the order of the cases.
fn run_all(lanes: &mut [Lane], cases: &[Case], round: u64) -> Vec<Findings> {
    let next = AtomicUsize::new(0);
    let work = |lane: &Lane| {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else { return done };
            let id = format!("{index:04}-{round:02}");
            done.push((index, Run { lane, case, id, findings: Vec::new() }.run()));
        }
    };
    let mut all: Vec<(usize, Findings)> = thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(move || work(lane))).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, findings)| findings).collect()
}

/// The upstream: what the case of this mark says, else the good answer.
fn scripted(cases: &[Case], record: &Record) -> Reply {
    let user = record.user().unwrap_or_default();
    let Some(id) = user.strip_prefix("case-") else { return echo(record) };
    let case = id.get(..4).and_then(|index| index.parse::<usize>().ok()).and_then(|index| cases.get(index));
    let Some(case) = case else { return echo(record) };
    let mut reply = Reply { writes: Vec::new(), then: Then::Keep };
    for piece in case.pieces(id) {
        match piece {
            Piece::Bytes(bytes) => reply.writes.extend(cut(&bytes, id)),
            Piece::Fin => reply.then = Then::Close,
            Piece::Continue => {}
        }
    }
    reply
}

/// The bytes as they are in round 0, else cut at three places that the mark determines.
fn cut(bytes: &[u8], id: &str) -> Vec<Vec<u8>> {
    let number = |part: Option<&str>| part.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let (index, round) = (number(id.get(..4)), number(id.get(5..)));
    if round == 0 || bytes.len() < 2 {
        return vec![bytes.to_vec()];
    }
    let mut random = Random(index * 1000 + round);
    let mut places: Vec<usize> = (0..3).map(|_| 1 + random.below(bytes.len() - 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

/// Prints the totals and every failing case; whether there is one.
fn report(round: u64, cases: &[Case], all: &[Findings]) -> bool {
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut passed = 0;
    for (case, found) in cases.iter().zip(all) {
        passed += usize::from(found.is_empty());
        for kind in [Kind::Wrong, Kind::Poisoned, Kind::Reused, Kind::Dirty] {
            *kinds.entry(kind).or_default() += usize::from(found.iter().any(|(k, _)| *k == kind));
        }
        for (kind, text) in found {
            println!("  round {round}: {} ({:?}, {}): {kind:?}: {text}", case.name, case.class, case.source);
        }
    }
    println!("round {round}: {} answers: passed {passed}, {kinds:?}", cases.len());
    passed != cases.len()
}

/// One case on one lane.
struct Run<'a> {
    lane: &'a Lane,
    case: &'a Case,
    id: String,
    findings: Findings,
}

impl Run<'_> {
    fn run(mut self) -> Findings {
        // The pool holds a connection before the case, so that a fresh one is a decision.
        self.clean("first");
        self.lane.seen();
        let mut client = self.lane.connect();
        let _ = client.stream().write_all(&self.request());
        let answer = client.answer(false, Instant::now() + ANSWER_DEADLINE);
        let outcome = self.outcome(answer);
        if !self.case.expect.contains(&outcome) {
            let wanted = self.case.expect.join(" or ");
            self.findings.push((Kind::Wrong, format!("{outcome}, not {wanted}")));
        }
        thread::sleep(Duration::from_millis(40)); // bytes that come late are there now
        self.clean("clean");
        self.judge_reuse();
        self.findings
    }

    fn mark(&self, mark: &str) -> String {
        format!("{mark}-{}", self.id)
    }

    fn request(&self) -> Vec<u8> {
        let messages = json!([{"role": "user", "content": "hi"}]);
        let body =
            json!({"model": "m", "messages": messages, "stream": self.streams(), "user": self.mark("case")});
        let body = body.to_string();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\nContent-Type: application/json";
        format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn streams(&self) -> bool {
        self.case.name.starts_with("stream-")
    }

    fn clean(&mut self, mark: &str) {
        let mut client = self.lane.connect();
        match self.lane.ask(&mut client, mark, &self.id) {
            Ok(answer) if answer_id(&answer) == Some(self.mark(mark)) => {}
            other => self.findings.push((Kind::Poisoned, format!("the request {mark} got {other:?}"))),
        }
    }

    /// The outcome as the case files name it.
    fn outcome(&mut self, answer: Result<Answer, Trouble>) -> String {
        let answer = match answer {
            Ok(answer) => answer,
            Err(Trouble::Broken(_)) => return "broken".into(),
            Err(trouble) => return format!("{trouble:?}"),
        };
        for name in &self.case.absent {
            if answer.field(name).is_some() {
                self.findings.push((Kind::Dirty, format!("the field {name} came through")));
            }
        }
        if String::from_utf8_lossy(&answer.body).contains("evil-") {
            self.findings.push((Kind::Poisoned, "the answer holds bytes of another".into()));
        }
        match (answer.status, self.streams()) {
            (200, true) => stream_outcome(&answer.body, &self.mark("case")),
            (200, false) => match serde_json::from_slice::<Value>(&answer.body) {
                Err(_) => "no-json".into(),
                Ok(_) if answer_id(&answer) == Some(self.mark("case")) => self.whole(&answer),
                Ok(_) => format!("an answer of {:?}", answer_id(&answer)),
            },
            (status, _) => status.to_string(),
        }
    }

    /// Whether the content is what the upstream sent.
    fn whole(&self, answer: &Answer) -> String {
        let sent: Option<Value> = serde_json::from_slice(&self.case.body(&self.id)).ok();
        let got: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let part = |v: &Option<Value>| v.as_ref().and_then(|v| v.get("choices").cloned());
        if part(&sent) == part(&got) { "own".into() } else { format!("changed: {got:?}") }
    }

    /// Judges over which upstream connection the clean request went.
    fn judge_reuse(&mut self) {
        let seen = self.lane.seen();
        let marked = |mark: &str| -> Vec<&Record> {
            seen.iter().filter(|r| r.user() == Some(self.mark(mark))).collect()
        };
        let (bad, clean) = (marked("case"), marked("clean"));
        let mut found = Vec::new();
        let reused = clean.iter().any(|c| bad.iter().any(|b| b.connection == c.connection));
        if self.case.after == Some(After::Closed) && reused {
            found.push((Kind::Reused, "the upstream connection was used again".into()));
        }
        if self.case.after == Some(After::Open) && clean.iter().any(|c| c.turn == 1) {
            found.push((Kind::Wrong, "the upstream connection was not used again".into()));
        }
        // A second time is fair when a pooled connection was closed without a byte.
        if bad.is_empty() || bad.len() > 2 {
            found.push((Kind::Wrong, format!("sent upstream {} times", bad.len())));
        }
        self.findings.extend(found);
        for record in seen.iter().filter(|r| !r.faults.is_empty()) {
            self.findings.push((Kind::Dirty, record.summary()));
        }
    }
}

/// Reads the events of a stream that ended properly.
fn stream_outcome(body: &[u8], id: &str) -> String {
    let Ok(text) = std::str::from_utf8(body) else { return "not UTF-8".into() };
    let text = text.replace("\r\n", "\n");
    let mut content = String::new();
    let mut finished = false;
    for event in text.split_inclusive("\n\n") {
        let data: Vec<&str> =
            event.lines().filter_map(|l| l.strip_prefix("data:")).map(str::trim_start).collect();
        let data = data.join("\n");
        if event.contains("event: error") || data.starts_with("{\"error\"") {
            return "broken".into();
        }
        if data.is_empty() || !event.ends_with("\n\n") {
            continue;
        }
        if data == "[DONE]" {
            let whole = content == "Hello" && finished;
            return if whole { "own".into() } else { format!("[DONE] behind {content:?}") };
        }
        let Ok(value) = serde_json::from_str::<Value>(&data) else { return format!("event {data:?}") };
        if value["id"] != id {
            return format!("an event of {}", value["id"]);
        }
        content.push_str(value["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        finished |= value["choices"][0]["finish_reason"] == "stop";
    }
    "undone".into()
}
