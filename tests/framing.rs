//! Promise: no bytes of a client make the gateway and its upstream disagree about where a request
//! begins and ends.
//!
//! Every case of `tests/data/framing/` is sent to a gateway whose upstream records what it gets.
//! Behind the case's bytes comes a canary on the same connection, if it is still open, and a clean
//! request on another one. A case fails with a kind:
//!   - wrong: the answer, or the state of the connection behind it, is not one the case allows;
//!   - smuggled: the upstream saw a request that no honest reading of the bytes contains;
//!   - poisoned: somebody got an answer that is not theirs, or a clean request failed;
//!   - dirty: the upstream got bytes that break the rules, or a field it must not see.
//!
//! Then everything runs again, each case cut at three random places, for 3 seeds (`CORELANE_SEEDS`:
//! their number); the verdicts must be the same. `CORELANE_FRAMING_ONLY` runs the cases whose names
//! contain it. Method and kinds are those of section 3 of our reliability study.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code
#![allow(clippy::print_stdout)] // the totals are the test's report

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::answer::{Ending, Reader, Trouble};
use support::corpus::{After, Case, Class, Piece};
use support::lane::{ANSWER_DEADLINE, Lane, Random, answer_id};
use support::upstream::{Record, echo};

/// Gateways, each with a thread that runs cases on it.
const LANES: usize = 4;
/// How long a case that may be waited for is given.
const WAITS: Duration = Duration::from_millis(150);
/// How long the gateway may take to close.
const CLOSES: Duration = Duration::from_secs(1);
/// The body limit of the configuration; the cases of `limits.toml` rest on it.
const CONFIG: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nshards = 1\n\
                      body_bytes_max = \"64KiB\"\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Wrong,
    Smuggled,
    Poisoned,
    Dirty,
}

type Findings = Vec<(Kind, String)>;

/// How a case's bytes are written.
#[derive(Clone, Copy)]
enum Cut {
    Whole,
    Random(u64),
}

#[test]
fn corpus_is_complete() {
    let cases = support::corpus::load(false);
    let good = cases.iter().filter(|c| c.good()).count();
    println!("{} cases, {good} good", cases.len());
    assert!(cases.len() >= 330, "{} cases", cases.len());
    assert!(good >= 50, "{good} good cases");
    for case in &cases {
        assert!(!case.source.is_empty(), "{}: no source", case.name);
        case.pieces("0000-00");
    }
}

#[test]
fn framing_whole_and_cut() {
    let only = std::env::var("CORELANE_FRAMING_ONLY").unwrap_or_default();
    let mut cases = support::corpus::load(false);
    cases.retain(|c| c.name.contains(&only));
    let seeds = std::env::var("CORELANE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let mut lanes = Lane::start_all(LANES, CONFIG, echo);

    let mut failed = report("whole", &cases, &run_all(&mut lanes, &cases, 0, Cut::Whole));
    for seed in 1..=seeds {
        let findings = run_all(&mut lanes, &cases, usize::try_from(seed).unwrap(), Cut::Random(seed));
        failed |= report(&format!("cut, seed {seed}"), &cases, &findings);
    }
    for lane in &lanes {
        thread::sleep(Duration::from_millis(50));
        let late: Vec<String> = lane.seen().iter().map(Record::summary).collect();
        assert!(late.is_empty(), "seen behind the last case: {late:?}");
        if let Some(gateway) = &lane.gateway {
            support::assert_gauges_zero(gateway);
        }
    }
    assert!(!failed, "cases failed, see above");
}

/// The same bytes over TLS: records cut them elsewhere, and the end is said in another way.
#[test]
fn framing_over_tls() {
    if std::env::var_os("CORELANE_FRAMING_TARGETS").is_some() {
        return; // proxies that are not ours
    }
    let only = std::env::var("CORELANE_FRAMING_ONLY").unwrap_or_default();
    let mut cases = support::corpus::load(false);
    cases.retain(|c| c.name.contains(&only));
    let ca = support::tls::Ca::new();
    let tls = format!("[server.tls]\nlisten = [\"127.0.0.1:0\"]\n{}", ca.issue("gw", &["gw.test"]).toml());
    let mut lanes = Lane::start_all(LANES, &format!("{CONFIG}{tls}"), echo);
    for (lane, versions) in
        lanes.iter_mut().zip([support::tls::ONLY_12, support::tls::ONLY_13].into_iter().cycle())
    {
        let addr = lane.gateway.as_ref().and_then(|gateway| gateway.tls).expect("a TLS listener");
        lane.addr = support::tls::bridge(addr, &ca.client().versions(versions).config(), "gw.test");
    }
    let failed = report("TLS", &cases, &run_all(&mut lanes, &cases, 0, Cut::Whole))
        | report("TLS, cut", &cases, &run_all(&mut lanes, &cases, 1, Cut::Random(1)));
    for gateway in lanes.iter().filter_map(|lane| lane.gateway.as_ref()) {
        support::assert_gauges_zero(gateway);
    }
    assert!(!failed, "cases failed, see above");
}

/// Runs every case once, the lanes side by side; findings in the order of the cases.
fn run_all(lanes: &mut [Lane], cases: &[Case], round: usize, cut: Cut) -> Vec<Findings> {
    let next = AtomicUsize::new(0);
    let work = |lane: &Lane| {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else { return done };
            let id = format!("{index:04}-{round:02}");
            done.push((index, Run { lane, case, id, findings: Vec::new() }.run(cut)));
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

/// Prints the totals and every failing case; whether there is one.
fn report(title: &str, cases: &[Case], findings: &[Findings]) -> bool {
    let mut classes: BTreeMap<Class, (usize, usize)> = BTreeMap::new();
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    for (case, found) in cases.iter().zip(findings) {
        let (passed, all) = classes.entry(case.class).or_default();
        *all += 1;
        *passed += usize::from(found.is_empty());
        for kind in [Kind::Smuggled, Kind::Poisoned, Kind::Dirty] {
            *kinds.entry(kind).or_default() += usize::from(found.iter().any(|(k, _)| *k == kind));
        }
        for (kind, text) in found {
            println!("  {title}: {} ({:?}, {}): {kind:?}: {text}", case.name, case.class, case.source);
        }
    }
    let passed: usize = classes.values().map(|(passed, _)| passed).sum();
    let (count, of) = (cases.len(), |kind| kinds.get(&kind).copied().unwrap_or(0));
    let (smuggled, poisoned, dirty) = (of(Kind::Smuggled), of(Kind::Poisoned), of(Kind::Dirty));
    println!(
        "{title}: {count} cases: passed {passed}, smuggled {smuggled}, poisoned {poisoned}, dirty {dirty}"
    );
    println!("{title}: by class: {classes:?}");
    passed != count
}

/// One case on one lane.
struct Run<'a> {
    lane: &'a Lane,
    case: &'a Case,
    /// The mark of this run; the case's own request carries `case-<id>`.
    id: String,
    findings: Findings,
}

impl Run<'_> {
    fn run(mut self, cut: Cut) -> Findings {
        for record in self.lane.seen() {
            self.find(Kind::Smuggled, format!("seen behind its case: {}", record.summary()));
        }
        let mut reader = self.lane.connect();
        let fin = self.write(&mut reader, cut);
        let first = self.answers(&mut reader);
        if let Some(last) = self.last_outcome(&first) {
            self.behind(&mut reader, &last, fin);
        }
        drop(reader);
        let mut clean = self.lane.connect();
        match self.lane.ask(&mut clean, "clean", &self.id) {
            Ok(answer) if answer_id(&answer) == Some(self.mark("clean")) => {}
            other => self.find(Kind::Poisoned, format!("the clean request got {other:?}")),
        }
        self.judge_upstream(&first[0]);
        self.findings
    }

    fn find(&mut self, kind: Kind, text: String) {
        self.findings.push((kind, text));
    }

    fn mark(&self, mark: &str) -> String {
        format!("{mark}-{}", self.id)
    }

    /// Writes the case; errors are the gateway's right once it has answered. Whether it half-closed.
    fn write(&mut self, reader: &mut Reader, cut: Cut) -> bool {
        let pieces = self.case.pieces(&self.id);
        let total: usize = pieces.iter().map(|p| if let Piece::Bytes(b) = p { b.len() } else { 0 }).sum();
        let mut random = Random(if let Cut::Random(seed) = cut { seed ^ hash(&self.case.name) } else { 0 });
        let mut cuts: Vec<usize> = match cut {
            Cut::Whole => Vec::new(),
            Cut::Random(_) => (0..3).map(|_| random.below(total)).collect(),
        };
        cuts.sort_unstable();
        let mut at = 0;
        let mut fin = false;
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => {
                    let inside = cuts.iter().filter(|c| (at + 1..at + bytes.len()).contains(*c));
                    let mut ends: Vec<usize> = inside.map(|c| c - at).collect();
                    ends.push(bytes.len());
                    let mut from = 0;
                    for end in ends {
                        if from > 0 {
                            thread::sleep(Duration::from_micros(random.below(2000) as u64));
                        }
                        let _ = reader.stream().write_all(&bytes[from..end]);
                        from = end;
                    }
                    at += bytes.len();
                }
                Piece::Continue => match reader.head(Instant::now() + ANSWER_DEADLINE) {
                    Ok(head) if head.status == 100 => {}
                    other => self.find(Kind::Wrong, format!("100 awaited, got {other:?}")),
                },
                Piece::Fin => {
                    fin = true;
                    let _ = reader.stream().shutdown(Shutdown::Write);
                }
            }
        }
        fin
    }

    /// Reads the answers that the case lets one expect; their outcomes, at least one.
    fn answers(&mut self, reader: &mut Reader) -> Vec<String> {
        let mut outcomes = Vec::new();
        for (index, expected) in [&self.case.expect].into_iter().chain(&self.case.then).enumerate() {
            let wait = if expected.iter().any(|e| e == "waits") { WAITS } else { ANSWER_DEADLINE };
            let answer = reader.answer(index == 0 && self.case.to_head(), Instant::now() + wait);
            if let (0, Some(wanted), Ok(answer)) = (index, &self.case.interim, &answer)
                && answer.interim != *wanted
            {
                self.find(Kind::Wrong, format!("interim answers {:?}, not {wanted:?}", answer.interim));
            }
            let own = self.mark(if index == 0 { "case" } else { "next" });
            let outcome = match answer {
                Ok(answer) => match answer_id(&answer).filter(|id| id.ends_with(&self.id[4..])) {
                    Some(id) if id == own && answer.status == 200 => "forwarded".to_owned(),
                    Some(id) => {
                        self.find(Kind::Poisoned, format!("answer {index} is that of {id}"));
                        format!("foreign {id}")
                    }
                    None => answer.status.to_string(),
                },
                Err(Trouble::Silent) => "waits".to_owned(),
                Err(Trouble::Closed) => "closed".to_owned(),
                Err(trouble) => format!("{trouble:?}"),
            };
            let matches = |e: &String| {
                *e == outcome
                    || e.strip_suffix("xx").is_some_and(|c| outcome.len() == 3 && outcome.starts_with(c))
            };
            if !expected.iter().any(matches) {
                self.find(Kind::Wrong, format!("answer {index}: {outcome}, not {}", expected.join(" or ")));
            }
            let goes_on = outcome == "forwarded" || outcome.len() == 3;
            outcomes.push(outcome);
            if !goes_on {
                break;
            }
        }
        outcomes
    }

    /// The last outcome, if the connection may be open behind it.
    fn last_outcome(&self, outcomes: &[String]) -> Option<String> {
        let last = outcomes.last()?;
        (last == "forwarded" || last.len() == 3).then(|| last.clone())
    }

    /// Judges the connection behind the last answer, with a canary if it is open.
    fn behind(&mut self, reader: &mut Reader, last: &str, fin: bool) {
        let by_status = match last {
            "forwarded" | "200" | "204" if !fin => After::Open,
            "400" | "414" | "431" | "505" => After::Closed,
            _ => After::Any,
        };
        let after = self.case.after.unwrap_or(by_status);
        if after == After::Closed {
            match reader.ending(CLOSES) {
                Ending::Closed => return,
                Ending::Open => self.find(Kind::Wrong, "the connection is still open".into()),
                Ending::Bytes(bytes) => {
                    let text = format!("bytes behind the last answer: {}", support::answer::show(&bytes));
                    return self.find(Kind::Wrong, text);
                }
            }
        }
        if fin {
            return;
        }
        match self.lane.ask(reader, "canary", &self.id) {
            Ok(answer) => match answer_id(&answer) {
                Some(id) if id == self.mark("canary") => {}
                Some(id) => self.find(Kind::Poisoned, format!("the canary got the answer of {id}")),
                None if after == After::Open => {
                    self.find(Kind::Wrong, format!("the canary got {}", answer.status));
                }
                None => {}
            },
            Err(Trouble::Closed) if after == After::Any => {}
            Err(trouble) if after != After::Closed => {
                self.find(Kind::Wrong, format!("the canary got {trouble:?}"))
            }
            Err(_) => {}
        }
    }

    /// Judges what the upstream saw of this case.
    fn judge_upstream(&mut self, first: &str) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for record in self.lane.seen() {
            let user = record.user().unwrap_or_default();
            for fault in &record.faults {
                self.find(Kind::Dirty, fault.clone());
            }
            for name in &self.case.absent {
                if record.fields.iter().any(|(n, _)| n == name) {
                    self.find(Kind::Dirty, format!("the field {name} came through"));
                }
            }
            let count = seen.entry(user.clone()).or_default();
            *count += 1;
            if *count > self.allowed(&user, first) {
                self.find(Kind::Smuggled, format!("seen: {}", record.summary()));
            } else if record.target.split('?').next() != Some("/v1/chat/completions") {
                self.find(Kind::Dirty, format!("another target: {}", record.summary()));
            } else if user == self.mark("case") {
                self.judge_own(&record, first);
            }
        }
    }

    /// How many requests with this mark an honest reading finds.
    fn allowed(&self, user: &str, first: &str) -> usize {
        let one = |mark| usize::from(user == self.mark(mark));
        // A case whose length cuts its own mark off: wrong when it is answered, but no other's request.
        let unmarked = usize::from(user.is_empty() && ["200", "closed"].contains(&first));
        unmarked + one("case") + one("canary") + one("clean") + one("next") * self.case.then.len()
    }

    fn judge_own(&mut self, record: &Record, first: &str) {
        let sent = serde_json::from_slice(&self.case.body(&self.id)).ok();
        if record.json() != sent {
            let body = support::answer::show(&record.body);
            self.find(Kind::Wrong, format!("the body was changed: {body}"));
        }
        if first.len() == 3 {
            self.find(Kind::Wrong, format!("answered {first}, but forwarded"));
        }
    }
}

/// FNV-1a: gives each case its own cuts, whatever its place in the files.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
}
