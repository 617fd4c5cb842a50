//! The journal's work: lines from the queue into segments, whichever writer they go by.
//!
//! Invariants: lines stand in a file whole, in the order of the queue, none in two segments; after a write that failed
//! the file is cut back to its last whole line, and the same lines are tried again. Nothing here stops for an error:
//! lines wait in the queue, which drops what it cannot hold, and a write is tried again after 0.1 s, and at last every 5 s.
//! Every change of that state is told once. A tick costs a few comparisons; once a second the path is looked at.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::archive::{Archive, Care};
use super::buffered::Writer;
use super::names::Names;
use super::plan::{Every, Trial, is_aged, is_full};
use super::queue::{self, Counts, Queue};
use super::segment::{Now, Segment};
use crate::config::Level;
use crate::config::observe::Journal;
use crate::net::clock;

/// How long a line waits at most before it is written.
const TICK: Duration = Duration::from_millis(50);
/// Bytes of one write, about: the lines that pass them are in it.
const BATCH: usize = 1024 * 1024;
/// Writes between two looks at everything else.
const BATCHES: usize = 16;
/// How often the path is looked at.
const LOOK_MS: u64 = 1_000;
/// The journal's time when the process begins: files it finds are older than that.
const BEGIN_MS: u64 = 1 << 40;

/// Where the journal says what people should know.
pub type Tell = dyn Fn(Level, fmt::Arguments<'_>) + Send;

/// When a segment is closed, and how often it is synced; zero: never.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Bytes of a segment.
    pub bytes_max: u64,
    /// Age of a segment.
    pub age_max_ms: u64,
    /// Between two syncs.
    pub sync_ms: u64,
    /// What becomes of closed segments.
    pub care: Care,
}

impl Rules {
    /// As configured.
    #[must_use]
    pub fn of(config: &Journal) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (segments_max, compress, sync) = (config.segments_max, config.compress, !config.sync.is_zero());
        Self {
            bytes_max: config.segment_bytes_max.0,
            age_max_ms: millis(config.segment_age_max),
            sync_ms: if sync { millis(config.sync).max(1) } else { 0 },
            care: Care { segments_max, compress, sync },
        }
    }
}

/// Both clocks.
pub fn now() -> Now {
    Now { ms: BEGIN_MS + clock::now_ms(), wall: SystemTime::now() }
}

/// The open segment and all that is known of it.
pub struct Recorder<'a> {
    /// What is written, and counted.
    pub queue: &'a Queue,
    /// Where it says what people should know.
    pub tell: &'a Tell,
    /// The segment that is written to.
    pub segment: Segment,
    names: &'a Names,
    rules: Rules,
    batch: Vec<u8>,
    batch_lines: u64,
    /// Lines from the queue that are not in the batch yet; the first may belong into the next segment.
    rest: Box<[u8]>,
    /// Where they begin.
    rest_at: usize,
    is_broken: bool,
    unsynced: bool,
    writing: Trial,
    closing: Trial,
    syncing: Trial,
    finding: Trial,
    archiving: Trial,
    look: Every,
    sync: Every,
    archive: Option<Archive>,
}

impl<'a> Recorder<'a> {
    /// Nothing is written yet.
    pub fn new(queue: &'a Queue, tell: &'a Tell, names: &'a Names, rules: Rules, segment: Segment) -> Self {
        let archive = segment.is_regular.then(|| Archive::new(names.clone(), rules.care));
        let mut recorder = Self {
            queue,
            tell,
            segment,
            names,
            rules,
            batch: Vec::new(),
            batch_lines: 0,
            rest: Box::default(),
            rest_at: 0,
            is_broken: false,
            unsynced: false,
            writing: Trial::default(),
            closing: Trial::default(),
            syncing: Trial::default(),
            finding: Trial::default(),
            archiving: Trial::default(),
            look: Every::default(),
            sync: Every::default(),
            archive,
        };
        recorder.end_cut_line();
        recorder
    }

    /// Writes until `stop` is set and nothing waits, or cannot be written.
    pub async fn run<W: Writer>(&mut self, writer: &mut W, stop: &AtomicBool) {
        loop {
            let stopping = stop.load(Ordering::Acquire); // what was pushed before is seen below
            let now = now();
            if stopping || self.writing.is_due(now.ms) {
                let outcome = self.pass(writer, now).await;
                self.note_write(&outcome, now.ms);
            }
            self.sync_if_due(writer, now.ms).await;
            self.archive_if_due(now.ms);
            if stopping && (self.is_idle() || self.writing.is_failing()) {
                break;
            }
            if self.is_idle() || self.writing.is_failing() {
                writer.rest(TICK).await;
            }
        }
        self.finish(writer).await;
    }

    /// After a writer that has panicked: what it was writing is cut off, and written again by the next one.
    pub fn recover(&mut self) {
        self.is_broken = true;
    }

    fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.rest().is_empty() && self.queue.waiting() == 0
    }

    async fn pass<W: Writer>(&mut self, writer: &mut W, now: Now) -> io::Result<()> {
        if self.segment.is_regular && self.look.is_due(now.ms, LOOK_MS) {
            self.look_at_path(writer, now).await;
        }
        for _ in 0..BATCHES {
            let may_close = self.segment.is_regular && self.closing.is_due(now.ms);
            let is_old = may_close && is_aged(self.segment.begun_ms, now.ms, self.rules.age_max_ms);
            let is_full = !is_old && self.gather(may_close);
            self.flush(writer, now).await?;
            if is_old || is_full {
                self.close_segment(writer, now).await;
            } else if self.rest().is_empty() && self.queue.waiting() == 0 {
                break;
            }
        }
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        self.rest.get(self.rest_at..).unwrap_or_default()
    }

    /// Fills the batch; `true`: the next line belongs into the next segment.
    fn gather(&mut self, may_close: bool) -> bool {
        while self.batch.len() < BATCH {
            if self.rest().is_empty() {
                let Some(lines) = self.queue.pop() else { return false };
                (self.rest, self.rest_at) = (lines, 0);
            }
            let rest = self.rest.get(self.rest_at..).unwrap_or_default();
            let length = self.segment.length + self.batch.len() as u64;
            let all_fit = !may_close || length + rest.len() as u64 <= self.rules.bytes_max;
            let end = if all_fit {
                rest.len()
            } else {
                memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)
            };
            let lines = rest.get(..end).unwrap_or_default();
            if may_close && is_full(length, end as u64, self.rules.bytes_max) {
                return true;
            }
            self.batch.extend_from_slice(lines);
            self.batch_lines += queue::count(lines);
            self.rest_at += end;
        }
        false
    }

    async fn flush<W: Writer>(&mut self, writer: &mut W, now: Now) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if self.segment.is_regular {
            if self.is_broken {
                self.mend()?;
            }
            self.segment.measure(now)?;
        }
        self.is_broken = true; // until it is known to be whole
        if let Err(error) = writer.write(&self.segment.file, &self.batch, self.segment.length).await {
            if self.segment.is_regular {
                let _ = self.keep_whole_lines(now).and_then(|()| self.mend()); // tried again before the next write
            }
            return Err(error);
        }
        self.is_broken = false;
        self.written(self.batch.len(), self.batch_lines, now);
        self.batch.shrink_to(2 * BATCH); // a line may have been long
        Ok(())
    }

    /// The first `bytes` of the batch, so many lines, are in the file.
    fn written(&mut self, bytes: usize, lines: u64, now: Now) {
        self.unsynced = true;
        self.segment.length += bytes as u64;
        self.segment.begun_ms.get_or_insert(now.ms);
        self.segment.is_cut = false;
        Counts::add(&self.queue.counts.bytes, bytes as u64);
        Counts::add(&self.queue.counts.lines, lines);
        self.batch_lines -= lines;
        self.batch.drain(..bytes);
    }

    /// A write has failed on the way. Writers write in order, so the lines that fitted stay: a disk that has less room than
    /// waits takes what it can.
    fn keep_whole_lines(&mut self, now: Now) -> io::Result<()> {
        let more = self.segment.file.metadata()?.len().saturating_sub(self.segment.length);
        let more = usize::try_from(more).unwrap_or(usize::MAX).min(self.batch.len());
        let part = self.batch.get(..more).unwrap_or_default();
        let Some(end) = part.iter().rposition(|&byte| byte == b'\n') else { return Ok(()) };
        // The end of a line that was cut before is no line of ours.
        let ends = part.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let lines = (ends - u64::from(self.segment.is_cut)).min(self.batch_lines);
        self.written(end + 1, lines, now);
        Ok(())
    }

    /// Cuts the file back to its whole lines.
    fn mend(&mut self) -> io::Result<()> {
        if self.segment.file.metadata()?.len() > self.segment.length {
            self.segment.file.set_len(self.segment.length)?;
        }
        self.is_broken = false;
        Ok(())
    }

    /// A line that a process before this one has begun is ended before the first of ours.
    fn end_cut_line(&mut self) {
        if self.segment.is_cut {
            self.batch.insert(0, b'\n');
        }
    }

    fn note_write(&mut self, outcome: &io::Result<()>, now_ms: u64) {
        let dropped = self.queue.counts.dropped.load(Ordering::Relaxed);
        match outcome {
            Ok(()) if self.writing.went_well() => {
                let text =
                    format_args!("the journal is written again; {dropped} lines were lost since the start");
                (self.tell)(Level::Warn, text);
            }
            Ok(()) => {}
            Err(error) => {
                Counts::add(&self.queue.counts.errors, 1);
                if self.writing.failed(now_ms) {
                    let path = self.names.path.display();
                    let text = format_args!(
                        "the journal cannot be written: {path}: {error}; lines wait, then are lost"
                    );
                    (self.tell)(Level::Error, text);
                }
            }
        }
    }

    async fn close_segment<W: Writer>(&mut self, writer: &mut W, now: Now) {
        let next = self.segment.close(self.names, now).and_then(|()| Segment::next(self.names, now));
        if self.told_once(|all| &mut all.closing, "the segment cannot be closed; it grows on", &next, now.ms)
            && let Ok(next) = next
        {
            Counts::add(&self.queue.counts.segments, 1);
            self.adopt(next, writer).await;
        }
    }

    /// Opens another segment where the path leads elsewhere, unless another process has that.
    async fn look_at_path<W: Writer>(&mut self, writer: &mut W, now: Now) {
        if self.segment.stands_at(self.names) {
            return;
        }
        let found = Segment::take(self.names, now);
        if self.told_once(|all| &mut all.finding, "the path cannot be opened", &found, now.ms)
            && let Ok(Some(next)) = found
        {
            (self.tell)(Level::Info, format_args!("the access log was moved: a new segment is open"));
            self.adopt(next, writer).await;
        }
    }

    async fn adopt<W: Writer>(&mut self, next: Segment, writer: &mut W) {
        let old = std::mem::replace(&mut self.segment, next);
        (self.is_broken, self.unsynced) = (false, false);
        self.end_cut_line();
        if let Some(archive) = &mut self.archive {
            archive.take(old.file);
        }
        if let Err(error) = writer.open(&self.segment.file).await {
            Counts::add(&self.queue.counts.errors, 1);
            (self.tell)(Level::Warn, format_args!("this segment is written by the kernel's cache: {error}"));
        }
    }

    async fn sync_if_due<W: Writer>(&mut self, writer: &mut W, now_ms: u64) {
        if self.unsynced && self.rules.sync_ms > 0 && self.sync.is_due(now_ms, self.rules.sync_ms) {
            self.unsynced = false;
            let outcome = writer.sync(&self.segment.file, false).await;
            self.told_once(|all| &mut all.syncing, "what was written may not be durable", &outcome, now_ms);
        }
    }

    fn archive_if_due(&mut self, now_ms: u64) {
        if let Some(errors) = self.archive.as_mut().and_then(|archive| archive.step(now_ms)) {
            self.note_archive(&errors, now_ms);
        }
    }

    fn note_archive(&mut self, errors: &[String], now_ms: u64) {
        Counts::add(&self.queue.counts.errors, errors.len() as u64);
        match errors.first() {
            None => drop(self.archiving.went_well()),
            Some(first) if self.archiving.failed(now_ms) => {
                (self.tell)(Level::Warn, format_args!("closed segments: {first}"));
            }
            Some(_) => {}
        }
    }

    /// Notes what became of an attempt; `true`: it went well.
    fn told_once<T>(
        &mut self,
        which: impl FnOnce(&mut Self) -> &mut Trial,
        what: &str,
        outcome: &io::Result<T>,
        now_ms: u64,
    ) -> bool {
        let trial = which(self);
        match outcome {
            Ok(_) => {
                trial.went_well();
                true
            }
            Err(error) => {
                if trial.failed(now_ms) {
                    (self.tell)(Level::Warn, format_args!("{}: {what}: {error}", self.names.path.display()));
                }
                Counts::add(&self.queue.counts.errors, 1);
                false
            }
        }
    }

    async fn finish<W: Writer>(&mut self, writer: &mut W) {
        let left = self.batch_lines + queue::count(self.rest()) + self.queue.waiting();
        if left > 0 {
            Counts::add(&self.queue.counts.dropped, left);
            (self.tell)(
                Level::Error,
                format_args!("{left} lines of the journal are lost: it cannot be written"),
            );
        }
        let now_ms = now().ms;
        if self.rules.sync_ms > 0 && self.segment.is_regular {
            let outcome = writer.sync(&self.segment.file, true).await;
            self.told_once(|all| &mut all.syncing, "what was written may not be durable", &outcome, now_ms);
        }
        let errors = self.archive.take().map(Archive::finish).unwrap_or_default();
        self.note_archive(&errors, now_ms);
    }
}
