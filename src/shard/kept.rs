//! What becomes of an answer besides going to its client: it is stored, and equal requests share it.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::Shard;
use super::access::Record;
use super::payment::Payment;
use super::source::Source;
use crate::api::{Failure, FailureKind, Task, Usage, answer};
use crate::cache::flight::Head;
use crate::cache::{self, Follower, Lead, Stored};
use crate::net::task;
use crate::world::Reservation;

/// An answer that is to come, for others too.
pub struct Kept {
    shard: Rc<Shard>,
    lead: Lead,
    stores: Option<Duration>,
    task: Task,
    choices: u64,
    wants_stream: bool,
    held: Reservation,
    content_type: Vec<u8>,
    payment: Option<Rc<Payment>>,
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// What kind of answer.
    pub task: Task,
    /// Answers beside each other.
    pub choices: u64,
    /// Whether a stream.
    pub stream: bool,
}

impl Kept {
    /// For the one that leads; the answer is stored for so long.
    #[must_use]
    pub fn new(shard: &Rc<Shard>, lead: Lead, stores: Option<Duration>, wanted: Wanted) -> Box<Self> {
        Box::new(Self {
            shard: Rc::clone(shard),
            lead,
            stores,
            task: wanted.task,
            choices: wanted.choices,
            wants_stream: wanted.stream,
            held: shard.process.reservation(shard.world.config.server.buffered_bytes_max.0),
            content_type: Vec::new(),
            payment: None,
        })
    }

    /// Whether others wait for it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.lead.has_followers()
    }

    /// One more that follows, from what comes next on.
    #[must_use]
    pub fn follow(&self) -> Follower {
        self.lead.follow()
    }

    /// From here on it is on its way to several, and the exchange of `record` pays for all of it.
    #[must_use]
    pub fn paid_by(mut self: Box<Self>, record: &mut Record) -> Box<Self> {
        self.payment = record.payment(&self.shard);
        self
    }

    /// Who pays for it.
    #[must_use]
    pub fn payment(&self) -> Option<Rc<Payment>> {
        self.payment.clone()
    }

    /// Gives it up, unless somebody follows: then it comes back.
    #[must_use]
    pub fn retire(self) -> Option<Box<Self>> {
        let Self { shard, lead, stores, task, choices, wants_stream, held, content_type, payment } = self;
        let lead = lead.retire()?;
        Some(Box::new(Self { shard, lead, stores, task, choices, wants_stream, held, content_type, payment }))
    }

    /// Whether one of those who follow could take more, or there are none left.
    pub fn poll_wanted(&self, cx: &Context<'_>) -> Poll<bool> {
        self.lead.poll_wanted(cx)
    }

    /// Waits until nobody follows any more.
    pub fn poll_left(&self, cx: &Context<'_>) -> Poll<()> {
        self.lead.poll_left(cx)
    }

    /// Waits until anybody follows.
    pub fn poll_joined(&self, cx: &Context<'_>) -> Poll<()> {
        self.lead.poll_joined(cx)
    }

    /// Runs `op`; `None`: others have joined before it ended, and it goes on.
    pub async fn unless_joined<F: Future>(&self, mut op: Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| match op.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.lead.poll_joined(cx).map(|()| None),
        })
        .await
    }

    /// A stream begins; `fit`: it is a good answer.
    pub fn begin(&mut self, head: Head, fit: bool) {
        if !fit || head.model.is_some() || !self.wants_stream {
            self.stores = None; // another model's answer is not this one's
        }
        self.content_type.clone_from(&head.content_type);
        self.lead.begin(head);
    }

    /// More of the stream; `false`: nobody needs to hear of it any more.
    #[must_use]
    pub fn push(&mut self, events: &[u8]) -> bool {
        if !self.lead.push(events) {
            return false;
        }
        if !self.held.raise_to(self.lead.bytes()) {
            self.stores = None;
            self.lead.hold_little();
        }
        true
    }

    /// The stream has come to its end.
    pub fn done(self, source: &Source) {
        let is_clean = source.screen.as_ref().is_none_or(|screen| screen.is_clean());
        if let Some(ttl) = self.stores.filter(|_| is_clean && source.stream.has_finished(self.choices))
            && let Some(body) = self.lead.streamed()
            && body.len() as u64 <= self.shard.world.config.cache.answer_bytes_max.0
        {
            let stored = self.stored(true, &self.content_type, body.into(), source.stream.usage(), ttl);
            self.store(Arc::new(stored));
        }
        self.lead.done(source.stream.usage(), source.stream.said());
    }

    /// The answer is whole; `fit`: it is a good one.
    pub fn whole(self, shard: &Shard, head: Head, body: &[u8], usage: Usage, fit: bool) {
        let bytes_max = shard.world.config.cache.answer_bytes_max.0;
        let may_store = fit
            && !self.wants_stream
            && head.model.is_none()
            && body.len() as u64 <= bytes_max
            && answer::is_complete(body, self.task, self.choices);
        let stores = self.stores.filter(|_| may_store);
        if stores.is_none() && !self.lead.has_followers() {
            return drop(self);
        }
        let ttl = stores.unwrap_or_default();
        let stored =
            Arc::new(self.stored(false, &head.content_type, Bytes::copy_from_slice(body), usage, ttl));
        if stores.is_some() {
            self.store(Arc::clone(&stored));
        }
        self.lead.whole(head, stored);
    }

    /// There is no answer, or no more of it. A failure that is the request's, or of the guard, is everybody's; after
    /// any other one somebody else tries.
    pub fn refused(self, failure: &Failure) {
        let is_everybodys = match failure.kind {
            FailureKind::ResponseBlocked => true,
            FailureKind::UpstreamStatus => matches!(failure.status, 400 | 413 | 422),
            _ => self.lead.has_begun(),
        };
        if is_everybodys {
            self.lead.refused(failure);
        }
    }

    fn stored(
        &self,
        is_stream: bool,
        content_type: &[u8],
        body: Bytes,
        usage: Usage,
        ttl: Duration,
    ) -> Stored {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Stored { is_stream, content_type: content_type.into(), body, usage, made_ms: wall_ms(), ttl_ms }
    }

    fn store(&self, stored: Arc<Stored>) {
        let (shard, key) = (&self.shard, self.lead.key());
        shard.metrics().cache.stored.add(1);
        if let Some(redis) = shard.answers_in_redis() {
            let (shard, redis, stored) = (Rc::clone(shard), Rc::clone(redis), Arc::clone(&stored));
            task::spawn(&Rc::clone(&shard.tasks), async move {
                if cache::redis::put(&redis, key, &stored).await.is_err() {
                    shard.metrics().cache.redis_failed.add(1);
                }
            });
        }
        if let Some(memory) = shard.world.answers.as_ref().and_then(|answers| answers.memory.as_ref()) {
            memory.put(key, stored);
        }
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
