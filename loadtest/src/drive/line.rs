//! One request after the other, over one HTTP/1.1 connection, or as one of several at once over HTTP/2 ([`super::h2`]).
//!
//! Everything a request needs is kept by the line and used again: once its buffers have grown, a request allocates nothing.
//! A kept connection that turns out to be closed before a byte of the answer came is replaced and the request sent
//! once more (RFC 9112 section 9.3.1, as clients do); that is counted, and its latency counts on from when it was due.

use std::io;
use std::rc::Rc;

use super::worker::Worker;
use crate::answer::http1::Reader;
use crate::answer::judge::{ANSWER_MAX, Judge};
use crate::measure::Sample;
use crate::net::link::Link;
use crate::net::watch::Watch;
use crate::outcome::Outcome;
use crate::plan::Request;

/// A connection, or the place of one.
pub struct Line {
    pub(super) worker: Rc<Worker>,
    pub(super) watch: Rc<Watch>,
    /// Which line of its thread it is.
    pub(super) number: usize,
    link: Option<Link>,
    pub(super) request: Request,
    /// Received, not read yet; over HTTP/2 the fields that are sent.
    pub(super) raw: Vec<u8>,
    /// Content, not judged yet.
    pub(super) body: Vec<u8>,
}

/// How an attempt went.
pub(super) enum Attempt {
    Ended(Outcome),
    /// The kept connection was closed before any answer.
    Stale,
}

impl Line {
    /// A place without connection.
    pub fn new(worker: &Rc<Worker>) -> Self {
        Self {
            watch: worker.watches.add(),
            number: worker.lines.replace(worker.lines.get() + 1),
            worker: Rc::clone(worker),
            link: None,
            request: Request::default(),
            raw: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Sends request number `index`, which was due at `due_us`, and waits for its end.
    pub async fn run(&mut self, index: u64, due_us: u64) -> Outcome {
        let Self { worker, request, .. } = self;
        worker.plan.write(index, request);
        self.body.clear();
        let mut sample = Sample {
            work: request.work,
            key: request.key,
            due_us,
            sent_us: due_us,
            end_us: due_us,
            first_us: None,
            outcome: Outcome::Timeout,
            status: 0,
            resent: false,
            events: 0,
            bytes_in: 0,
        };
        if worker.clock.now_us() < due_us.saturating_add(worker.timeout_us) {
            sample.outcome = match self.attempt(&mut sample).await {
                Attempt::Ended(outcome) => outcome,
                Attempt::Stale => {
                    sample.resent = true;
                    match self.attempt(&mut sample).await {
                        Attempt::Ended(outcome) => outcome,
                        Attempt::Stale => Outcome::Reset,
                    }
                }
            };
        }
        self.watch.clear();
        sample.end_us = self.worker.clock.now_us();
        self.worker.end(&sample, self.request.hit);
        if sample.outcome.is_error() {
            let work = self.worker.plan.scenario.work.get(sample.work).map_or("", |work| work.name.as_str());
            self.worker.measures.borrow_mut().note_example(&sample, index, work, &self.body);
        }
        sample.outcome
    }

    async fn attempt(&mut self, sample: &mut Sample) -> Attempt {
        if self.worker.h2.is_some() {
            return self.attempt_h2(sample).await;
        }
        let deadline = sample.due_us.saturating_add(self.worker.timeout_us);
        let (mut link, kept) = match self.link.take() {
            Some(link) => (link, true),
            None => match self.connect(deadline).await {
                Ok(link) => (link, false),
                Err(error) if error.kind() == io::ErrorKind::TimedOut || self.watch.is_fired() => {
                    return Attempt::Ended(Outcome::Timeout);
                }
                Err(_) => return Attempt::Ended(Outcome::Connect),
            },
        };
        self.watch.set(deadline);
        self.note_sent(sample);
        let (written, bytes) = link.write(self.request.take(), &self.watch).await;
        self.request.give_back(bytes);
        if written.is_err() {
            return self.unanswered(kept, sample);
        }
        self.answer(link, kept, sample).await
    }

    async fn connect(&mut self, deadline: u64) -> io::Result<Link> {
        let begin = self.worker.clock.now_us();
        let link = self.worker.dial.connect(&self.watch, begin, deadline).await?;
        let took = self.worker.clock.now_us().saturating_sub(begin);
        self.worker.measures.borrow_mut().connects.record(took);
        Ok(link)
    }

    /// Its first byte leaves.
    pub(super) fn note_sent(&self, sample: &mut Sample) {
        if !sample.resent {
            sample.sent_us = self.worker.clock.now_us();
            self.worker.measures.borrow_mut().note_sent(sample.due_us, sample.sent_us);
        }
    }

    /// The connection ended before a byte of the answer.
    pub(super) fn unanswered(&self, kept: bool, sample: &Sample) -> Attempt {
        if self.watch.is_fired() {
            Attempt::Ended(Outcome::Timeout)
        } else if kept && !sample.resent {
            Attempt::Stale
        } else {
            Attempt::Ended(Outcome::Reset)
        }
    }

    async fn answer(&mut self, mut link: Link, kept: bool, sample: &mut Sample) -> Attempt {
        let (mut reader, mut judge) = (Reader::default(), Judge::new(self.request.expected));
        self.raw.clear();
        self.body.clear();
        let mut last_event = None;
        loop {
            let (result, raw) = link.read(std::mem::take(&mut self.raw), &self.watch).await;
            self.raw = raw;
            match result {
                Ok(count) if count > 0 => sample.bytes_in += count as u64,
                Ok(_) if reader.ends_whole() => break,
                _ if sample.bytes_in == 0 => return self.unanswered(kept, sample),
                _ if self.watch.is_fired() => return Attempt::Ended(judge.cut(Outcome::Timeout)),
                _ => return Attempt::Ended(judge.cut(Outcome::Cut)),
            }
            let Ok(used) = reader.feed(&self.raw, &mut self.body) else {
                return Attempt::Ended(Outcome::Malformed);
            };
            if used == self.raw.len() {
                self.raw.clear();
            } else {
                self.raw.drain(..used);
            }
            sample.status = reader.status();
            if judge.streams(sample.status) {
                self.note_events(&mut judge, sample, &mut last_event);
            } else if self.body.len() > ANSWER_MAX {
                return Attempt::Ended(Outcome::Malformed);
            }
            if reader.is_done() {
                break;
            }
        }
        if !reader.closes() && self.raw.is_empty() {
            self.link = Some(link);
        }
        let shed = &self.worker.plan.scenario.sla.shed;
        Attempt::Ended(judge.end(sample.status, &self.body, self.request.text(), shed))
    }

    pub(super) fn note_events(&mut self, judge: &mut Judge, sample: &mut Sample, last: &mut Option<u64>) {
        let count = judge.read_events(&mut self.body, self.request.text());
        if count == 0 {
            return;
        }
        let now = self.worker.clock.now_us();
        let gap = last.replace(now).map(|last| now.saturating_sub(last));
        sample.first_us.get_or_insert(now);
        sample.events += count;
        let since = now.saturating_sub(sample.due_us);
        self.worker.measures.borrow_mut().note_events(sample.work, sample.due_us, gap, count, since);
    }
}
