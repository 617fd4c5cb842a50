//! HTTP/2: several lines over one connection.
//!
//! A connection has two tasks: one reads frames and hands them to their streams, one writes what has gathered. Streams wait
//! for their own news only. Windows towards us are as wide as can be; towards the server they are kept to.
//! Bounds: [`ANSWER_MAX`] bytes of content that nobody has taken, for a stream; requests as long as their plans make them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::line::{Attempt, Line};
use super::worker::Worker;
use crate::answer::frames::{self, Event, FRAME_MAX, Frames, WINDOW};
use crate::answer::hpack::{self, Name};
use crate::answer::judge::{ANSWER_MAX, Judge};
use crate::measure::Sample;
use crate::net::clock::sleep;
use crate::net::link::{Link, Reading, Writing};
use crate::net::task;
use crate::net::watch::Watch;
use crate::outcome::Outcome;

/// The highest stream of a connection; then another one is made.
const STREAM_MAX: u32 = 1 << 30;
/// How often it is looked whether the connection that another line makes is there.
const LOOK: Duration = Duration::from_millis(1);
/// The window of streams and of the connection before anything is said of it.
const WINDOW_DEFAULT: i64 = 65_535;

/// The connections of a thread; each line has its place at one of them.
pub struct Pool {
    streams: usize,
    places: RefCell<Vec<Rc<Place>>>,
}

#[derive(Default)]
struct Place {
    conn: RefCell<Option<Rc<Conn>>>,
    connecting: Cell<bool>,
}

impl Pool {
    /// So many lines a connection.
    pub fn new(streams: usize) -> Self {
        Self { streams: streams.max(1), places: RefCell::default() }
    }

    fn place(&self, line: usize) -> Rc<Place> {
        let (mut places, at) = (self.places.borrow_mut(), line / self.streams);
        while places.len() <= at {
            places.push(Rc::default());
        }
        places.get(at).map(Rc::clone).unwrap_or_default()
    }
}

/// Why a stream ended without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The connection ended, or the server had not looked at the stream when it said that it goes.
    Gone,
    /// The server gave it up.
    Reset,
    /// The server breaks the protocol.
    Malformed,
}

/// What has come of an answer.
#[derive(Default)]
struct Part {
    status: u16,
    body: Vec<u8>,
    ended: bool,
    failure: Option<Failure>,
    /// Something has come since it was looked at.
    news: bool,
    waker: Option<Waker>,
    unsent: Vec<u8>,
    sent: usize,
    window: i64,
}

impl Part {
    fn wake(&mut self) {
        self.news = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

struct State {
    next: u32,
    /// New streams may begin.
    open: bool,
    streams: HashMap<u32, Rc<RefCell<Part>>>,
    out: Vec<u8>,
    writer: Option<Waker>,
    window: i64,
    window_of_streams: i64,
    /// Bytes that have come since the server was told that it may send more.
    taken: u32,
}

/// A connection.
struct Conn {
    state: RefCell<State>,
}

impl State {
    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Sends as much of the bodies as the windows let through.
    fn pump(&mut self) {
        let mut ids: Vec<u32> = self.streams.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter().for_each(|id| self.pump_one(id));
    }

    fn pump_one(&mut self, id: u32) {
        let Some(part) = self.streams.get(&id).map(Rc::clone) else { return };
        let mut part = part.borrow_mut();
        while part.sent < part.unsent.len() {
            let left = part.unsent.len() - part.sent;
            let most = self.window.min(part.window).max(0);
            let count = left.min(FRAME_MAX).min(usize::try_from(most).unwrap_or(usize::MAX));
            if count == 0 {
                break;
            }
            let bytes = part.unsent.get(part.sent..part.sent + count).unwrap_or_default();
            frames::data(&mut self.out, id, bytes, count == left);
            part.sent += count;
            part.window -= count as i64;
            self.window -= count as i64;
        }
        self.wake_writer();
    }

    fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::Fields { stream, status, end } => self.tell(stream, |part| {
                part.status = status.filter(|status| *status >= 200).unwrap_or(part.status);
                part.ended |= end;
            }),
            Event::Data { stream, data, size, end } => {
                self.taken += size;
                if self.taken > WINDOW / 2 {
                    frames::window(&mut self.out, std::mem::take(&mut self.taken));
                    self.wake_writer();
                }
                self.tell(stream, |part| {
                    part.body.extend_from_slice(data);
                    part.ended |= end;
                    if part.body.len() > ANSWER_MAX {
                        part.failure = Some(Failure::Malformed);
                    }
                });
            }
            Event::Reset { stream } => self.tell(stream, |part| part.failure = Some(Failure::Reset)),
            Event::Settings { window } => {
                if let Some(window) = window {
                    let more = i64::from(window) - self.window_of_streams;
                    self.window_of_streams += more;
                    self.streams.values().for_each(|part| part.borrow_mut().window += more);
                }
                frames::acknowledge(&mut self.out, None);
                self.wake_writer();
                self.pump();
            }
            Event::Ping(bytes) => {
                frames::acknowledge(&mut self.out, Some(bytes));
                self.wake_writer();
            }
            Event::GoAway { last } => {
                self.open = false;
                self.fail(Failure::Gone, last);
            }
            Event::Window { stream: 0, more } => {
                self.window += i64::from(more);
                self.pump();
            }
            Event::Window { stream, more } => {
                if let Some(part) = self.streams.get(&stream) {
                    part.borrow_mut().window += i64::from(more);
                }
                self.pump_one(stream);
            }
            Event::Other => {}
        }
    }

    fn tell(&self, stream: u32, news: impl FnOnce(&mut Part)) {
        if let Some(part) = self.streams.get(&stream) {
            let mut part = part.borrow_mut();
            news(&mut part);
            part.wake();
        }
    }

    /// Fails all streams above `last`.
    fn fail(&mut self, failure: Failure, last: u32) {
        for (_, part) in self.streams.iter().filter(|(id, _)| **id > last) {
            let mut part = part.borrow_mut();
            if !part.ended {
                part.failure.get_or_insert(failure);
            }
            part.wake();
        }
    }
}

impl Conn {
    fn start(link: Link) -> Rc<Self> {
        let mut out = Vec::new();
        frames::begin(&mut out);
        let state = State {
            next: 1,
            open: true,
            streams: HashMap::new(),
            out,
            writer: None,
            window: WINDOW_DEFAULT,
            window_of_streams: WINDOW_DEFAULT,
            taken: 0,
        };
        let conn = Rc::new(Self { state: RefCell::new(state) });
        let (reading, writing) = link.split();
        task::spawn(Rc::clone(&conn).read(reading));
        task::spawn(Rc::clone(&conn).write(writing));
        conn
    }

    fn is_open(&self) -> bool {
        let state = self.state.borrow();
        state.open && state.next < STREAM_MAX
    }

    fn end(&self, failure: Failure) {
        let mut state = self.state.borrow_mut();
        state.open = false;
        state.fail(failure, 0);
        state.wake_writer();
    }

    async fn read(self: Rc<Self>, mut reading: Reading) {
        let (mut raw, mut frames) = (Vec::new(), Frames::default());
        loop {
            let (result, bytes) = reading.read(raw).await;
            raw = bytes;
            if !matches!(result, Ok(count) if count > 0) {
                return self.end(Failure::Gone);
            }
            let mut used = 0;
            loop {
                match frames.next(raw.get(used..).unwrap_or_default()) {
                    Ok(Some((event, length))) => {
                        self.state.borrow_mut().handle(event);
                        used += length;
                    }
                    Ok(None) => break,
                    Err(_) => return self.end(Failure::Malformed),
                }
            }
            raw.drain(..used);
        }
    }

    async fn write(self: Rc<Self>, mut writing: Writing) {
        let mut spare = Vec::new();
        loop {
            let ready = poll_fn(|cx| {
                let mut state = self.state.borrow_mut();
                if !state.out.is_empty() {
                    return Poll::Ready(true);
                }
                if !state.open && state.streams.is_empty() {
                    return Poll::Ready(false);
                }
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            });
            if !ready.await {
                return;
            }
            let bytes = std::mem::replace(&mut self.state.borrow_mut().out, spare);
            let (result, bytes) = writing.write(bytes).await;
            if result.is_err() {
                return self.end(Failure::Gone);
            }
            spare = bytes;
            spare.clear();
        }
    }

    /// Begins a stream.
    fn begin(&self, block: &[u8], body: &[u8]) -> Option<(u32, Rc<RefCell<Part>>)> {
        let mut state = self.state.borrow_mut();
        if !state.open {
            return None;
        }
        let id = state.next;
        state.next += 2;
        let part = Part { unsent: body.to_vec(), window: state.window_of_streams, ..Part::default() };
        let part = Rc::new(RefCell::new(part));
        state.streams.insert(id, Rc::clone(&part));
        frames::fields(&mut state.out, id, block);
        state.pump_one(id);
        Some((id, part))
    }

    /// Lets go of a stream; `cancel`: tells the server.
    fn leave(&self, id: u32, cancel: bool) {
        let mut state = self.state.borrow_mut();
        state.streams.remove(&id);
        if cancel {
            frames::cancel(&mut state.out, id);
        }
        state.wake_writer();
    }
}

/// Waits until something has come, or the time is over.
async fn news(part: &RefCell<Part>, watch: &Watch) {
    poll_fn(|cx| {
        let mut part = part.borrow_mut();
        if std::mem::take(&mut part.news) || watch.poll_fired(cx) {
            return Poll::Ready(());
        }
        part.waker = Some(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

async fn connection(
    worker: &Worker,
    pool: &Pool,
    line: &Line,
    deadline: u64,
) -> io::Result<(Rc<Conn>, bool)> {
    let place = pool.place(line.number);
    loop {
        let known = place.conn.borrow().clone().filter(|conn| conn.is_open());
        if let Some(conn) = known {
            return Ok((conn, true));
        }
        let now = worker.clock.now_us();
        if !place.connecting.replace(true) {
            let made = worker.dial.connect(&line.watch, now, deadline).await;
            place.connecting.set(false);
            let link = made?;
            if !link.speaks_h2() {
                return Err(io::Error::other("the server does not speak HTTP/2"));
            }
            worker.measures.borrow_mut().connects.record(worker.clock.now_us().saturating_sub(now));
            let conn = Conn::start(link);
            place.conn.replace(Some(Rc::clone(&conn)));
            return Ok((conn, false));
        }
        if now >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        sleep(LOOK).await;
    }
}

impl Line {
    /// One attempt over HTTP/2.
    pub(super) async fn attempt_h2(&mut self, sample: &mut Sample) -> Attempt {
        let worker = Rc::clone(&self.worker);
        let Some(pool) = &worker.h2 else { return Attempt::Ended(Outcome::Connect) };
        let deadline = sample.due_us.saturating_add(worker.timeout_us);
        let (conn, kept) = match connection(&worker, pool, self, deadline).await {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::TimedOut || self.watch.is_fired() => {
                return Attempt::Ended(Outcome::Timeout);
            }
            Err(_) => return Attempt::Ended(Outcome::Connect),
        };
        self.watch.set(deadline);
        self.note_sent(sample);
        self.write_fields();
        let Some((id, part)) = conn.begin(&self.raw, self.request.body()) else {
            return self.unanswered(kept, sample);
        };
        let attempt = self.follow(&part, kept, sample).await;
        let done = part.borrow().ended || part.borrow().failure.is_some();
        conn.leave(id, !done);
        attempt
    }

    fn write_fields(&mut self) {
        let Self { worker, request, raw, .. } = self;
        let (target, scenario) = (&worker.plan.target, &worker.plan.scenario);
        raw.clear();
        hpack::begin(raw, target.tls);
        hpack::field(raw, Name::Authority, target.authority.as_bytes());
        let path = worker.plan.path(request.work);
        if target.base.is_empty() {
            hpack::field(raw, Name::Path, path.as_bytes());
        } else {
            hpack::field(raw, Name::Path, format!("{}{path}", target.base).as_bytes());
        }
        hpack::field(raw, Name::UserAgent, b"corelane-load");
        hpack::field(raw, Name::Accept, b"*/*");
        if let Some(key) = scenario.keys.get(request.key) {
            hpack::field(raw, Name::Authorization, format!("Bearer {}", key.secret).as_bytes());
        }
        hpack::field(raw, Name::ContentType, b"application/json");
        hpack::field(raw, Name::ContentLength, request.body().len().to_string().as_bytes());
    }

    async fn follow(&mut self, part: &RefCell<Part>, kept: bool, sample: &mut Sample) -> Attempt {
        let (mut judge, mut last_event) = (Judge::new(self.request.expected), None);
        self.body.clear();
        loop {
            news(part, &self.watch).await;
            let (ended, failure) = {
                let mut part = part.borrow_mut();
                sample.bytes_in += part.body.len() as u64;
                sample.status = part.status;
                self.body.append(&mut part.body);
                (part.ended, part.failure)
            };
            if judge.streams(sample.status) {
                self.note_events(&mut judge, sample, &mut last_event);
            } else if self.body.len() > ANSWER_MAX {
                return Attempt::Ended(Outcome::Malformed);
            }
            match failure {
                _ if ended => {
                    let shed = &self.worker.plan.scenario.sla.shed;
                    return Attempt::Ended(judge.end(sample.status, &self.body, self.request.text(), shed));
                }
                Some(Failure::Malformed) => return Attempt::Ended(Outcome::Malformed),
                Some(_) if sample.status > 0 => return Attempt::Ended(judge.cut(Outcome::Cut)),
                Some(Failure::Gone) => return self.unanswered(kept, sample),
                Some(Failure::Reset) => return Attempt::Ended(Outcome::Reset),
                None if self.watch.is_fired() => return Attempt::Ended(judge.cut(Outcome::Timeout)),
                None => {}
            }
        }
    }
}
