//! One request on one connection, from its head to the last byte of its answer.
//!
//! Read [`run`] and [`ask_model`] from top to bottom: each line is one step, every early exit is a [`Failure`],
//! and `api::error` turns it into the one answer the client gets. Order is the contract: cheap refusals before
//! costly work, and no endpoint is taken before the whole body is here.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use super::access::Record;
use super::admit::{self, Admitted};
use super::answered::Limits;
use super::cached::{self, Found};
use super::fallback::Asked;
use super::fleet::Charged;
use super::head::{self, Incoming, micros};
use super::kept::Kept;
use super::limited::Patience;
use super::line::{self, Wanted};
use super::local::Local;
use super::relay::{Outgoing, Prepared};
use super::reply::Manner;
use super::screen;
use super::serve::After;
use super::{Shard, attempt, explained, local, relay};
use crate::api::body::Also;
use crate::api::{BodyError, Failure, FailureKind, Task, Texts, View};
use crate::catalog::Deployment;
use crate::config::guard::Language;
use crate::net::{Client, task};
use crate::queue::Place;
use crate::refusal;
use crate::route::{self, Route};
use crate::wire::http1::request::Name;
use crate::wire::http1::{Framing, Method};
use crate::world::Who;

/// Runs the exchange and says what becomes of the connection. (An `async fn` would hold its arguments twice.)
pub fn run(
    shard: &Rc<Shard>,
    client: &mut Client,
    mut incoming: Box<Incoming>,
) -> impl Future<Output = After> {
    async move {
        let _running = Running::new(shard);
        let mut manner = Manner::of(shard, &incoming, client.is_tls());
        let mut record = Record::new(shard, &incoming, &manner, client.peer());
        // In memory of its own: a stream that has begun does not hold it.
        let served = task::boxed(|| steps(shard, client, &mut incoming, &mut manner, &mut record)).await;
        manner.keep_alive &= incoming.consumed; // bytes of a body are never read as a request
        shard.buffers.give(std::mem::take(&mut incoming.buffer));
        drop(incoming);
        let result = match served {
            Ok(Served::Whole(after)) => Ok(after),
            Ok(Served::Begun(begun)) => pin!(bring(shard, client, begun, (&manner, &mut record))).await,
            Err(exit) => Err(exit),
        };
        let after = match result {
            Ok(after) => after,
            Err(None) => {
                record.client_gone();
                After::Close
            }
            Err(Some(failure)) => Box::pin(tell(shard, client, &manner, &failure, &mut record)).await,
        };
        record.finish(shard, &manner.request_id);
        after
    }
}

/// What a step may end with: a failure to tell, or `None` when nobody is left to be told.
pub type Exit = Option<Failure>;

async fn steps(
    shard: &Rc<Shard>,
    client: &mut Client,
    incoming: &mut Incoming,
    manner: &mut Manner,
    record: &mut Record,
) -> Result<Served, Exit> {
    let route = route::find(incoming.request.method, incoming.request.path.text(&incoming.buffer));
    let task = match &route {
        Ok(Route::Model(task)) => Ok(*task),
        Ok(Route::Moderations) if shard.world.guard.profile(Some(0)).is_none() => Ok(Task::Other),
        Ok(_) => Err(None),
        Err(no) => Err(Some(refusal::no_route(*no))),
    };
    let moderates = task.is_err() && matches!(route, Ok(Route::Moderations));
    head::check_announced(shard, incoming)?;
    let admitted = admit::admit(shard, client, incoming, &route, manner).await;
    if admitted.is_err() && head::body_is_here(incoming) {
        incoming.request.coding = None; // only read past, so that the connection can live on: nobody unpacks it
    } else if admitted.is_err() {
        return Err(admitted.err().flatten());
    }
    if task.is_ok() && incoming.request.framing == Framing::None && incoming.request.method == Method::Post {
        return Err(Some(refusal::length_required()));
    }
    let mut held = shard.process.reservation(shard.world.config.server.buffered_bytes_max.0);
    let body_at = head::read_body(shard, client, incoming, &mut held).await?;
    let admitted = admitted?;
    if let Some(caller) = &admitted.caller {
        record.caller(caller);
    }
    record.request_ends(shard);
    client.watch();
    match task {
        _ if explained::is_asked(shard, incoming) => {
            let told = explained::answer(shard, client, incoming, body_at, &mut held, &admitted, manner);
            let bytes = Box::pin(told).await?;
            say(client, Local { status: 200, bytes }, manner, record).await.map(Served::Whole)
        }
        Ok(task) => {
            let request = ModelRequest { task, incoming, body_at, held, admitted };
            // In memory of its own: neither a request whose body is slow nor a stream that has begun holds it.
            task::boxed(|| ask_model(shard, client, request, manner, record)).await
        }
        Err(Some(failure)) => Err(Some(failure)),
        Err(None) => {
            let spent = if moderates { admit::spend_none(shard, &admitted, manner).await? } else { None };
            let answer = Box::pin(local::answer(shard, client, incoming, body_at, &admitted, manner)).await?;
            drop(spent); // what was reserved is back before the client can ask again
            say(client, answer, manner, record).await.map(Served::Whole)
        }
    }
}

/// Writes an answer of the gateway's own.
async fn say(
    client: &mut Client,
    answer: Local,
    manner: &Manner,
    record: &mut Record,
) -> Result<After, Exit> {
    record.status = answer.status;
    Box::pin(client.write(answer.bytes)).await.map_err(|_| None)?;
    Ok(if manner.keep_alive { After::KeepAlive } else { After::Close })
}

/// A request for a model's work, whole.
struct ModelRequest<'a> {
    task: Task,
    incoming: &'a mut Incoming,
    body_at: usize,
    held: crate::world::Reservation,
    admitted: Admitted,
}

/// What has become of a request.
enum Served {
    /// It has been answered.
    Whole(After),
    /// There is an answer to bring.
    Begun(Begun),
}

/// An answer that has begun.
struct Begun {
    outgoing: Outgoing,
    held: Box<Held>,
}

/// What a request holds until its answer is over.
struct Held {
    spent: Option<Charged>,
    _running: Place,
    /// Its place among its client's own.
    _admitted: Admitted,
    /// Of memory, for an answer that is whole.
    _memory: Option<crate::world::Reservation>,
}

/// Has a model asked, until there is content to bring.
async fn ask_model(
    shard: &Rc<Shard>,
    client: &mut Client,
    request: ModelRequest<'_>,
    manner: &mut Manner,
    record: &mut Record,
) -> Result<Served, Exit> {
    let ModelRequest { task, incoming, body_at, mut held, admitted } = request;
    let body = incoming.buffer.get(body_at..).unwrap_or_default();
    let Understood { mut view, texts, deployment, mut spent } =
        pin!(understand(shard, task, body, &admitted, manner, record)).await?;
    let deadline_us = deadline(incoming, &view, &deployment);
    let comments = view.stream && task.has_events();
    let address = admit::client_address(shard, incoming, client.peer());
    let mut patience = Patience::new(shard, client, manner, deadline_us, comments);
    let caller = admitted.caller.as_deref();
    let who = Who { caller, address };
    let running = enter(&mut patience, who).await?;
    shard.retries.deposit(shard.clock.here_ms());
    let profile = shard.world.guard.profile(caller.and_then(|caller| caller.guard).or(deployment.guard));
    let mut language = Language::En;
    if let Some(profile) = profile {
        if !held.raise_to(incoming.buffer.capacity() + texts.all.capacity()) {
            return Err(Some(refusal::too_many_large("requests")));
        }
        let read = Box::pin(screen::request(shard, profile, &texts, body, &mut view, record));
        language = read.await.map_err(Some)?;
    }
    drop(texts);
    let mut asked = Asked {
        shard,
        incoming: &*incoming,
        body_at,
        view,
        task,
        admitted: &admitted,
        who,
        deployment,
        profile,
        language,
    };
    let found = match shard.world.answers {
        Some(_) => Box::pin(cached::find(&asked, &mut patience, record)).await,
        None => Ok(Found::Ask(None)),
    };
    let kept = match found {
        Ok(Found::Ask(kept)) => kept,
        Ok(Found::Served(after)) => {
            settle(shard, &mut spent, record);
            return Ok(Served::Whole(after));
        }
        Err(exit) => {
            settle(shard, &mut spent, record); // what was given before it left
            return Err(exit);
        }
    };
    let answered = pin!(asked.first_content(&mut patience, &mut held, record)).await;
    let answered = match answered {
        Ok(answered) => answered,
        Err(exit) => return Err(told(exit, kept)),
    };
    let limits = Limits { idle: asked.deployment.timeouts.idle, deadline_us };
    let outgoing = Outgoing { answered, screen: asked.screen(), kept, limits };
    // From here on nothing is tried again: a stream of minutes does not hold its request.
    drop((asked, patience));
    shard.buffers.give(std::mem::take(&mut incoming.buffer));
    let memory = (!outgoing.answered.is_stream()).then_some(held);
    let held = Held { spent, _running: running, _admitted: admitted, _memory: memory };
    Ok(Served::Begun(Begun { outgoing, held: Box::new(held) }))
}

/// Brings an answer that has begun to the client. What it has used is settled before the client can ask again.
fn bring(
    shard: &Rc<Shard>,
    client: &mut Client,
    mut begun: Begun,
    (manner, record): (&Manner, &mut Record),
) -> impl Future<Output = Result<After, Exit>> {
    async move {
        let is_stream = begun.outgoing.answered.is_stream();
        if let Some(screen) = &mut begun.outgoing.screen {
            let result = Box::pin(screen.answer(shard, &mut begun.outgoing.answered)).await;
            if !is_stream {
                screen.note(shard, record);
            }
            if let Err(failure) = result {
                settle(shard, &mut begun.held.spent, record); // the model has worked, whether its answer is let go or not
                return Err(told(Some(failure), begun.outgoing.kept));
            }
        }
        if !is_stream {
            settle(shard, &mut begun.held.spent, record);
        }
        let after = match relay::prepare(shard, begun.outgoing, manner, record) {
            Ok(Prepared::Whole(answer)) => relay::send(shard, client, answer, manner).await,
            // In memory of its own: a request whose body is slow has no room for it.
            Ok(Prepared::Stream(relay)) => task::boxed(|| (*relay).run(client, record)).await,
            Err(failure) => Err(Some(failure)),
        };
        settle(shard, &mut begun.held.spent, record);
        after
    }
}

/// Tells those who wait for the same answer that there is none.
fn told(exit: Exit, kept: Option<Box<Kept>>) -> Exit {
    if let Some((failure, kept)) = exit.as_ref().zip(kept) {
        kept.refused(failure);
    }
    exit
}

/// What a request for a model's work asks for.
struct Understood {
    view: View,
    texts: Texts,
    deployment: Arc<Deployment>,
    spent: Option<Charged>,
}

/// Reads a body, charges its caller, and finds its model.
async fn understand(
    shard: &Rc<Shard>,
    task: Task,
    body: &[u8],
    admitted: &Admitted,
    manner: &mut Manner,
    record: &mut Record,
) -> Result<Understood, Exit> {
    let mut texts = Texts::default();
    record.body(body);
    let view = read_view(shard, body, task, &mut texts).map_err(|error| Some(refusal::body(&error)))?;
    let messages_max = shard.world.config.server.messages_max;
    if view.messages > messages_max {
        return Err(Some(refusal::too_many_messages(messages_max)));
    }
    let spent = admit::spend(shard, admitted, &view, body.len(), manner).await?;
    let deployment =
        shard.deployment(&view.model).ok_or_else(|| Some(refusal::unknown_model(&view.model)))?;
    record.model(&deployment, &view);
    if !deployment.serves(&shard.world.registry, task)
        && !deployment.has_fallbacks(&shard.world.config.fallbacks)
    {
        return Err(Some(refusal::not_served(&deployment, task)));
    }
    Ok(Understood { view, texts, deployment, spent })
}

/// Takes one of `server.max_concurrent_requests`, in turn.
async fn enter(patience: &mut Patience<'_>, who: Who<'_>) -> Result<Place, Exit> {
    let running = &patience.shard.process.running;
    if !running.is_waited_for()
        && let Some(place) = running.take()
    {
        return Ok(place);
    }
    let shard = patience.shard;
    let wanted = Wanted { thing: &shard.process.entering, kind: 0, places: vec![Arc::clone(running)] };
    let waiting = Box::pin(line::wait(patience, who, wanted, || shard.process.running.take()));
    waiting
        .await
        .map_err(|unserved| attempt::refused(unserved, FailureKind::TooManyRequests, refusal::AT_ITS_LIMIT))
}

/// Counts what the exchange has used, and charges the caller's quota and budget with it.
fn settle(shard: &Shard, spent: &mut Option<Charged>, record: &mut Record) {
    record.count(shard);
    let Some((input, output)) = record.spent() else { return };
    record.bill(shard);
    if let Some(spent) = spent {
        spent.settle(input, output);
    }
}

/// Reads the body; its texts only if anything reads them.
/// # Errors
/// What is wrong with it.
pub fn read_view(shard: &Shard, body: &[u8], task: Task, texts: &mut Texts) -> Result<View, BodyError> {
    let mut scratch = shard.scratch.borrow_mut();
    let texts = shard.world.guard.is_on().then_some(texts);
    View::read_with(&mut scratch, body, task, Also { texts, digest: shard.world.config.cache.is_on() })
}

/// Tells the client of a failure, if no byte of an answer has gone out.
async fn tell(
    shard: &Shard,
    client: &mut Client,
    manner: &Manner,
    failure: &Failure,
    record: &mut Record,
) -> After {
    record.status = failure.status;
    record.failed(failure);
    if manner.begun {
        return relay::late_failure(shard, client, manner, failure, record).await;
    }
    // What breaks framing ends the connection, as does a body that was left unread (`manner` knows).
    let manner =
        Manner { keep_alive: manner.keep_alive && failure.kind != FailureKind::Http, ..manner.clone() };
    let fields = record.attempt_fields(shard, &manner.request_id);
    match client.write(manner.failure(shard, failure, &fields)).await {
        Ok(_) if manner.keep_alive => After::KeepAlive,
        Ok(_) => After::Linger,
        Err(_) => After::Close,
    }
}

/// When the exchange must be over: the model's total, or the request's own `timeout` if that is less.
fn deadline(incoming: &Incoming, view: &View, deployment: &Deployment) -> u64 {
    let header = incoming.request.field(&incoming.buffer, Name::Timeout);
    incoming.since_us + micros(view.total(header, deployment.timeouts.total))
}

/// Counts an exchange while it runs.
struct Running(Rc<Shard>);

impl Running {
    fn new(shard: &Rc<Shard>) -> Self {
        let exchanges = &shard.metrics().exchanges;
        exchanges.set(exchanges.get() + 1);
        Self(Rc::clone(shard))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let exchanges = &self.0.metrics().exchanges;
        exchanges.set(exchanges.get().saturating_sub(1));
    }
}

/// Counts a stream that has had content while it runs.
pub struct Streaming<'a>(&'a Shard);

impl<'a> Streaming<'a> {
    /// One more.
    #[must_use]
    pub fn new(shard: &'a Shard) -> Self {
        let streams = &shard.metrics().streams;
        streams.set(streams.get() + 1);
        Self(shard)
    }
}

impl Drop for Streaming<'_> {
    fn drop(&mut self) {
        let streams = &self.0.metrics().streams;
        streams.set(streams.get().saturating_sub(1));
    }
}
