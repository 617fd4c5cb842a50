//! The cache at work: a stored answer, the answer of an equal request that is on its way, or neither.
//!
//! Order: memory; then the flight of equal requests, so that of a thousand one looks further; then Redis; then the endpoint. What a
//! request may do is [`Plan`]'s to say, what is equal [`Parts`]'s.

use std::pin::pin;
use std::sync::Arc;

use super::Shard;
use super::access::Record;
use super::exchange::{Exit, Streaming};
use super::fallback::Asked;
use super::framing;
use super::kept::{Kept, Wanted, wall_ms};
use super::limited::{Patience, Stopped, deadline_exceeded};
use super::relay;
use super::serve::After;
use super::shared::{self, Following, LOOK};
use crate::api::{Answer, Dialect, Failure, FailureKind};
use crate::cache::{self, flight::Head};
use crate::cache::{Boarding, Follower, Key, Parts, Plan, Step, Stored, Tenant};
use crate::wire::http1::request::Name;

/// Bytes of a stored stream that are written at once.
const PIECE: usize = 64 * 1024;

/// What the cache did for an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The endpoint is asked.
    Miss(Key),
    /// A stored answer of this age, in seconds.
    Hit(Key, u64),
    /// The answer of an equal request.
    Shared(Key),
}

impl Use {
    /// Its word in headers, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Miss(_) => "miss",
            Self::Hit(..) => "hit",
            Self::Shared(_) => "shared",
        }
    }

    /// Appends the header lines about it.
    pub fn lines(self, head: &mut Vec<u8>) {
        let (Self::Miss(key) | Self::Hit(key, _) | Self::Shared(key)) = self;
        head.extend_from_slice(
            format!("x-corelane-cache: {}\r\nx-corelane-cache-key: {key}\r\n", self.name()).as_bytes(),
        );
        if let Self::Hit(_, age_s) = self {
            head.extend_from_slice(format!("age: {age_s}\r\n").as_bytes());
        }
        if !matches!(self, Self::Miss(_)) {
            head.extend_from_slice(format!("x-litellm-cache-key: {key}\r\n").as_bytes());
        }
    }
}

/// What is to be done.
pub enum Found {
    /// It has its answer.
    Served(After),
    /// The endpoint is to be asked, and this is to be done with the answer.
    Ask(Option<Box<Kept>>),
}

/// Looks for an answer; gives it to the client if there is one.
///
/// # Errors
/// What the client is told; `None`: it has left.
pub async fn find(
    asked: &Asked<'_>,
    patience: &mut Patience<'_>,
    record: &mut Record,
) -> Result<Found, Exit> {
    let shard = asked.shard;
    let Some((plan, key)) = plan(asked) else { return Ok(Found::Ask(None)) };
    let Some(answers) = &shard.world.answers else { return Ok(Found::Ask(None)) };
    record.cache = Some(Box::new(Use::Miss(key)));
    let look = || {
        let memory = answers.memory.as_ref().filter(|_| plan.reads)?;
        memory.get(key, wall_ms(), plan.age_max_s)
    };
    if let Some(stored) = look() {
        return give(asked, patience, key, &stored, record).await;
    }
    if plan.only_if_cached {
        if let Some(stored) = look_in_redis(shard, &plan, key).await {
            return give(asked, patience, key, &stored, record).await;
        }
        let text = "There is no stored answer to this request, and it wants no other.";
        return Err(Some(Failure::new(FailureKind::NotCached, text)));
    }
    let wanted = Wanted {
        task: asked.task,
        choices: asked.view.choices.saturating_mul(asked.view.prompts),
        stream: asked.view.stream,
    };
    let lead = match plan.coalesces.then(|| answers.flights.board(key)) {
        None if plan.stores.is_none() => return Ok(Found::Ask(None)),
        None => answers.flights.alone(key),
        Some(Boarding::Lead(lead)) => lead,
        Some(Boarding::Follow(follower)) => {
            match wait(asked, patience, (&plan, key), follower, record).await? {
                Waited::Served(after) => return Ok(Found::Served(after)),
                Waited::Lead(lead) => lead,
                Waited::Alone => answers.flights.alone(key),
            }
        }
    };
    let stored = match look() {
        Some(stored) => Some(stored),
        None => look_in_redis(shard, &plan, key).await,
    };
    if let Some(stored) = stored {
        lead.whole(
            Head { content_type: stored.content_type.to_vec(), ..Head::default() },
            Arc::clone(&stored),
        );
        return give(asked, patience, key, &stored, record).await;
    }
    Ok(Found::Ask(Some(Kept::new(shard, lead, plan.stores, wanted))))
}

/// The answer that another gateway has stored, or this one before its memory forgot it.
async fn look_in_redis(shard: &Shard, plan: &Plan, key: Key) -> Option<Arc<Stored>> {
    let redis = shard.answers_in_redis().filter(|_| plan.reads)?;
    let counts = &shard.metrics().cache;
    let stored = match cache::redis::get(redis, key).await {
        Ok(Some(stored)) if stored.left_ms(wall_ms(), plan.age_max_s) > 0 => Arc::new(stored),
        Ok(_) => {
            counts.redis_missed.add(1);
            return None;
        }
        Err(_) => {
            counts.redis_failed.add(1);
            return None;
        }
    };
    counts.redis_found.add(1);
    if let Some(memory) = shard.world.answers.as_ref().and_then(|answers| answers.memory.as_ref()) {
        memory.put(key, Arc::clone(&stored));
    }
    Some(stored)
}

/// What the request may do with the cache, and its key; `None`: nothing.
#[must_use]
pub fn plan(asked: &Asked<'_>) -> Option<(Plan, Key)> {
    let world = &asked.shard.world;
    let settings = &world.config.cache;
    let body = asked.view.digest.as_ref().filter(|_| settings.is_on())?;
    let (buffer, request) = (&asked.incoming.buffer, &asked.incoming.request);
    let mut control = asked.view.cache.clone();
    if let Some(value) = request.field(buffer, Name::CacheControl) {
        control.read_header(value);
    }
    let plan = Plan::of(settings, asked.task, asked.deployment.cache, &control)?;
    let slot = asked.admitted.caller.as_ref().map(|caller| caller.slot);
    let tenant = match slot.and_then(|slot| world.config.keys.get(slot).zip(world.tenants.get(slot))) {
        Some((key, sum)) if !settings.shared => match &key.cache_group {
            Some(group) => Tenant::Group(group),
            None => Tenant::Caller(&key.name, sum),
        },
        _ => Tenant::Everyone,
    };
    let mut upstream: Vec<&str> =
        asked.deployment.candidates.iter().map(|candidate| candidate.upstream_model.as_str()).collect();
    upstream.sort_unstable();
    upstream.dedup();
    let field = |name| request.field(buffer, name).unwrap_or_default();
    let key = Parts {
        tenant,
        namespace: control.namespace.as_deref().unwrap_or_default(),
        task: asked.task.upstream_path().unwrap_or_default(),
        model: &asked.deployment.name,
        upstream: &upstream,
        guard: asked.profile.map_or(&[0; 32], |profile| &profile.version),
        manner: if world.config.usage.cost_in_answers { b"cost" } else { b"" },
        fields: &[field(Name::AnthropicVersion), field(Name::AnthropicBeta)],
        body,
    }
    .key();
    Some((plan, key))
}

/// Gives a stored answer.
async fn give(
    asked: &Asked<'_>,
    patience: &mut Patience<'_>,
    key: Key,
    stored: &Stored,
    record: &mut Record,
) -> Result<Found, Exit> {
    let age_s = stored.age_ms(wall_ms()) / 1000;
    record.given_again(asked.shard, Use::Hit(key, age_s), stored.usage);
    let head = Head { content_type: stored.content_type.to_vec(), ..Head::default() };
    write(asked, patience, &head, stored, record).await.map(Found::Served)
}

/// Writes a stored answer, whole or as the stream that it was.
async fn write(
    asked: &Asked<'_>,
    patience: &mut Patience<'_>,
    head: &Head,
    stored: &Stored,
    record: &mut Record,
) -> Result<After, Exit> {
    let (shard, task) = (asked.shard, asked.task);
    match record.bodies() {
        Some(bodies) if stored.is_stream => {
            bodies.events(task, task.dialect() == Dialect::Ollama, &stored.body);
        }
        Some(bodies) => bodies.answer(&stored.body),
        None => {}
    }
    if !stored.is_stream {
        if patience.manner.begun {
            let text = "The endpoint sent a whole answer where a stream was asked for.";
            return Err(Some(Failure::new(FailureKind::UpstreamBroken, text)));
        }
        let out = begin(shard, patience, head, record);
        let out =
            relay::whole(shard, out, &stored.body, &Answer::default(), (&[], false), patience.manner, |_| {});
        let out = patience.client.write(out).await.map_err(|_| None)?;
        shard.buffers.give(out);
        return Ok(if patience.manner.keep_alive { After::KeepAlive } else { After::Close });
    }
    let mut out = begin(shard, patience, head, record);
    if !patience.manner.begun {
        framing::end_stream_head(patience.manner, &mut out);
    }
    let mut pieces = stored.body.chunks(PIECE).peekable();
    while let Some(piece) = pieces.next() {
        framing::frame(patience.manner, piece, &mut out);
        if pieces.peek().is_none() {
            framing::end(patience.manner, &mut out);
        }
        out = patience.client.write(out).await.map_err(|_| None)?;
        out.clear();
    }
    shard.buffers.give(out);
    Ok(relay::after(patience.manner))
}

/// The head of an answer without its end; nothing if it has gone out.
fn begin(shard: &Shard, patience: &Patience<'_>, head: &Head, record: &mut Record) -> Vec<u8> {
    let mut out = shard.buffers.large();
    record.status = 200;
    if !patience.manner.begun {
        patience.manner.begin(shard, 200, &mut out);
        out.extend_from_slice(&head.endpoint_lines);
        record.lines(shard, &patience.manner.request_id, &mut out);
        if let Some(model) = &head.model {
            out.extend_from_slice(b"x-corelane-model: ");
            out.extend_from_slice(model.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        framing::kind_line(&head.content_type, &mut out);
    }
    out
}

/// What came of waiting for an equal request's answer.
enum Waited {
    Served(After),
    Lead(crate::cache::Lead),
    Alone,
}

async fn wait(
    asked: &Asked<'_>,
    patience: &mut Patience<'_>,
    (plan, key): (&Plan, Key),
    mut follower: Follower,
    record: &mut Record,
) -> Result<Waited, Exit> {
    let (shard, task) = (asked.shard, asked.task);
    // A stand-in's answer is only for those who may use it.
    let may = |head: &Head| head.model.as_ref().is_none_or(|model| asked.admitted.may_use(model));
    loop {
        let step = patience.limited(LOOK, pin!(std::future::poll_fn(|cx| follower.poll_next(cx)))).await;
        match step {
            Err(Stopped::Gone) => return Err(None),
            Err(Stopped::Total) => return Err(Some(deadline_exceeded())),
            Err(Stopped::Limit) => {}
            Ok(Step::Lead(lead)) => return Ok(Waited::Lead(lead)),
            Ok(Step::Alone) => return Ok(Waited::Alone),
            Ok(Step::Failed(failure)) => return Err(Some(failure)),
            Ok(Step::Begin(head) | Step::Whole(head, _)) if !may(&head) => return Ok(Waited::Alone),
            Ok(Step::Whole(head, stored)) => {
                // The one that was waited for may have found it stored.
                let age_s = stored.age_ms(wall_ms()) / 1000;
                if plan.age_max_s.is_some_and(|most| age_s >= most) {
                    return Ok(Waited::Alone);
                }
                let used = if age_s > 0 { Use::Hit(key, age_s) } else { Use::Shared(key) };
                record.given_again(shard, used, stored.usage);
                return write(asked, patience, &head, &stored, record).await.map(Waited::Served);
            }
            Ok(Step::Begin(head)) => {
                record.given_again(shard, Use::Shared(key), Default::default());
                let mut out = begin(shard, patience, &head, record);
                if !patience.manner.begun {
                    framing::end_stream_head(patience.manner, &mut out);
                    out = patience.client.write(out).await.map_err(|_| None)?;
                }
                shard.buffers.give(out);
                let ndjson = task.dialect() == Dialect::Ollama;
                let following = Following { follower, task, ndjson, deadline_us: patience.deadline_us };
                let _streaming = Streaming::new(shard);
                let after =
                    shared::follow(shard, patience.client, patience.manner, following, record).await?;
                return Ok(Waited::Served(after));
            }
            Ok(Step::More(_) | Step::Done(..)) => {}
        }
    }
}
