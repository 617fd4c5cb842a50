//! The door: who asks, whether the rates let it in, and how many of its kind are inside.
//!
//! Order as in nginx: rates, then the key, then the count of exchanges. A wrong key is charged too, so that guessing
//! is as slow as asking; a request refused by its rate or key is not counted as running.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Shard;
use super::exchange::Exit;
use super::fleet::{self, Charged};
use super::head::Incoming;
use super::reply::{Manner, number};
use crate::api::{Failure, View};
use crate::limit::client;
use crate::limit::concurrency::Permit;
use crate::limit::key::{self, Caller, Refused};
use crate::limit::quota::{self, RefusalKind};
use crate::limit::{Asker, Rate};
use crate::net::{Client, Stop, clock};
use crate::refusal;
use crate::route::{self, NoRoute, Route};
use crate::wire::http1::field;
use crate::wire::http1::request::Name;

/// A request that may go on.
#[derive(Default)]
pub struct Admitted {
    /// Whose key it showed.
    pub caller: Option<Arc<Caller>>,
    /// Its place among those of its client.
    _running: Option<Permit>,
}

impl Admitted {
    /// Whether the caller may use `model`.
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        self.caller.as_ref().is_none_or(|caller| caller.may_use(model))
    }
}

/// Lets a request in whose head has been read.
///
/// # Errors
/// 429 or 503 (rates, counts), 401 (keys); `None`: the client left while it had to wait.
pub async fn admit(
    shard: &Shard,
    client: &mut Client,
    incoming: &Incoming,
    route: &Result<Route<'_>, NoRoute>,
    manner: &mut Manner,
) -> Result<Admitted, Exit> {
    let world = &shard.world;
    if (world.limiter.is_off() && world.keyring.is_empty()) || matches!(route, Ok(Route::Options)) {
        return Ok(Admitted::default());
    }
    let path = incoming.request.path.text(&incoming.buffer);
    let address = client_address(shard, incoming, client.peer());
    let caller = if world.keyring.is_empty() { Ok(None) } else { caller(shard, incoming).map(Some) };
    let name = caller.as_ref().ok().and_then(Option::as_ref).map(|caller| caller.name.as_str());
    let delay_ms = rate(shard, client, incoming, path, (address, name), manner).await?;
    if delay_ms > 0 {
        client.timer().clear();
        client.watch();
        // In memory of its own, as all that few requests come to.
        let mut waiting = Box::pin(clock::sleep(Duration::from_millis(delay_ms)));
        if client.race(waiting.as_mut()).await == Err(Stop::ClientGone) {
            return Err(None);
        }
    }
    let caller = match caller {
        Err(_) if !route::needs_key(route) => None,
        Err(refused) => return Err(Some(unknown(shard, refused))),
        Ok(caller) => caller,
    };
    let running = match route {
        Ok(Route::Model(_) | Route::Moderations) => world.limiter.enter(path, address).map_err(|limit| {
            shard.metrics().limiter.concurrent.add(1);
            Some(refusal::concurrent(world.config.limits.reject_status, limit))
        })?,
        _ => None,
    };
    Ok(Admitted { caller, _running: running })
}

/// Asks the zones; the milliseconds that the request has to wait.
async fn rate(
    shard: &Shard,
    client: &Client,
    incoming: &Incoming,
    path: &str,
    (address, caller): (IpAddr, Option<&str>),
    manner: &mut Manner,
) -> Result<u64, Exit> {
    let world = &shard.world;
    if world.limiter.is_off() {
        return Ok(0);
    }
    let believed = client::is_trusted(&world.config.server.trusted_proxies, client.peer().ip());
    let header = |name: &str| {
        let value = believed.then(|| field::find(&incoming.buffer, incoming.request.head_bytes, name));
        value.flatten().filter(|value| !value.is_empty())
    };
    let asker = Asker { address, caller, header: &header };
    let mut verdict = world.limiter.rate(path, &asker, clock::now_ns() / 1_000_000);
    if matches!(verdict, Rate::Pass { .. }) && shard.shares_rates() {
        let uses = world.limiter.shared(path, &asker);
        verdict = Box::pin(fleet::rate(shard, &uses, verdict)).await;
    }
    match verdict {
        Rate::Free => Ok(0),
        Rate::Pass { delay_ms, limit, remaining, reset_ms } => {
            lines(limit, remaining, reset_ms, &mut manner.rates);
            Ok(delay_ms)
        }
        Rate::Reject { zone, limit, retry_after_ms } => {
            lines(limit, 0, retry_after_ms, &mut manner.rates);
            shard.metrics().limiter.zones.of(world.zones.get(zone).copied().unwrap_or(0)).add(1);
            let name = world.config.limits.zones.get(zone).map_or("", |zone| zone.name.as_str());
            Err(Some(refusal::rate(world.config.limits.reject_status, name, retry_after_ms)))
        }
    }
}

/// Admits a request for a model's work to its caller's quota. The answer's lines about it are noted.
///
/// # Errors
/// 403 for a model that is not the caller's, 429 beyond a limit or a budget.
pub async fn spend(
    shard: &Rc<Shard>,
    admitted: &Admitted,
    view: &View,
    body_bytes: usize,
    manner: &mut Manner,
) -> Result<Option<Charged>, Exit> {
    let Some(caller) = &admitted.caller else { return Ok(None) };
    if !caller.may_use(&view.model) {
        return Err(Some(refusal::model_forbidden(&view.model)));
    }
    let now = SystemTime::now();
    if let Err(over) = caller.spend.check(caller.budget, caller.budget_period, now) {
        shard.metrics().limiter.key_budget.add(1);
        return Err(Some(refusal::budget(&over, caller.budget)));
    }
    reserve(shard, caller, body_bytes, view.output_max, manner).await.map(Some)
}

/// Admits a request that the guard answers itself: it is one of its caller's requests, and costs no tokens.
///
/// # Errors
/// 429 beyond a limit.
pub async fn spend_none(
    shard: &Rc<Shard>,
    admitted: &Admitted,
    manner: &mut Manner,
) -> Result<Option<Charged>, Exit> {
    let Some(caller) = &admitted.caller else { return Ok(None) };
    reserve(shard, caller, 0, Some(0), manner).await.map(Some)
}

async fn reserve(
    shard: &Rc<Shard>,
    caller: &Caller,
    body_bytes: usize,
    output_max: Option<u64>,
    manner: &mut Manner,
) -> Result<Charged, Exit> {
    let now = SystemTime::now();
    let admission = caller.quota.admit(body_bytes as u64, output_max, now);
    let mut remaining = caller.quota.remaining(now);
    let admission = match admission {
        Ok(admission) => {
            let asking = fleet::minute(shard, &caller.name, &caller.quota, admission, &mut remaining);
            Box::pin(asking).await
        }
        Err(refused) => Err(refused),
    };
    if remaining.limit_requests > 0 {
        manner.rates.clear(); // the caller's own limit says more than the zone's
    }
    quota::headers(&remaining, &mut manner.rates);
    admission.map_err(|refused| {
        let limiter = &shard.metrics().limiter;
        let counter = match refused.kind {
            RefusalKind::Concurrent => &limiter.key_concurrent,
            RefusalKind::Requests => &limiter.key_requests,
            RefusalKind::Tokens => &limiter.key_tokens,
        };
        counter.add(1);
        Some(refusal::quota(&refused))
    })
}

fn caller(shard: &Shard, incoming: &Incoming) -> Result<Arc<Caller>, Refused> {
    let field = |name| incoming.request.field(&incoming.buffer, name);
    let shown = [Name::LitellmApiKey, Name::Authorization, Name::XApiKey, Name::ApiKey].map(field);
    let shown = key::shown(shown).ok_or(Refused::Unknown)?;
    shard.world.keyring.find(shown, SystemTime::now()).cloned()
}

fn unknown(shard: &Shard, refused: Refused) -> Failure {
    shard.metrics().limiter.keys_refused.add(1);
    refusal::key(refused)
}

fn lines(limit: u32, remaining: u32, reset_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"x-ratelimit-limit-requests: ");
    number(out, u64::from(limit));
    out.extend_from_slice(b"\r\nx-ratelimit-remaining-requests: ");
    number(out, u64::from(remaining));
    out.extend_from_slice(b"\r\nx-ratelimit-reset-requests: ");
    quota::duration(out, reset_ms);
    out.extend_from_slice(b"\r\n");
}

/// Who the client is, as [`client::address`] says.
#[must_use]
pub fn client_address(shard: &Shard, incoming: &Incoming, peer: SocketAddr) -> IpAddr {
    let hops = incoming.request.field(&incoming.buffer, Name::ForwardedFor);
    client::address(&shard.world.config.server.trusted_proxies, peer.ip(), hops)
}
