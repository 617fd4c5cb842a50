//! The door: who asks, whether the rates let it in, and how many of its kind are inside.
//!
//! Order as in nginx: rates, then the key, then the count of exchanges. A wrong key is charged too, so that guessing
//! is as slow as asking; a request refused by its rate or key is not counted as running.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Shard;
use super::exchange::Exit;
use super::head::Incoming;
use super::reply::{Manner, number};
use crate::api::{Failure, FailureKind, View};
use crate::limit::concurrency::Permit;
use crate::limit::key::{self, Caller, Refused};
use crate::limit::quota::{self, Admission, RefusalKind};
use crate::limit::{Asker, Rate};
use crate::net::{Client, Stop, clock};
use crate::route::{NoRoute, Route};
use crate::wire::http1::field;
use crate::wire::http1::request::Name;

/// What a client that cannot be told to wait is told to wait, in seconds.
const RETRY_S: u32 = 1;

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
    let delay_ms = rate(shard, client, incoming, path, (address, name), manner)?;
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
        Err(_) if needs_no_key(route) => None,
        Err(refused) => return Err(Some(unknown(shard, refused))),
        Ok(caller) => caller,
    };
    let running = match route {
        Ok(Route::Model(_) | Route::Moderations) => world.limiter.enter(path, address).map_err(|limit| {
            shard.metrics().limiter.concurrent.add(1);
            let text = format!("Too many requests at once: {limit} of this client are running.");
            Some(limited(shard, &text, u64::from(RETRY_S) * 1000))
        })?,
        _ => None,
    };
    Ok(Admitted { caller, _running: running })
}

/// Asks the zones; the milliseconds that the request has to wait.
fn rate(
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
    let believed = is_trusted(shard, client.peer().ip());
    let header = |name: &str| {
        let value = believed.then(|| field::find(&incoming.buffer, incoming.request.head_bytes, name));
        value.flatten().filter(|value| !value.is_empty())
    };
    let asker = Asker { address, caller, header: &header };
    match world.limiter.rate(path, &asker, clock::now_ns() / 1_000_000) {
        Rate::Free => Ok(0),
        Rate::Pass { delay_ms, limit, remaining, reset_ms } => {
            lines(limit, remaining, reset_ms, &mut manner.rates);
            Ok(delay_ms)
        }
        Rate::Reject { zone, limit, retry_after_ms } => {
            lines(limit, 0, retry_after_ms, &mut manner.rates);
            shard.metrics().limiter.zones.of(world.zones.get(zone).copied().unwrap_or(0)).add(1);
            let name = world.config.limits.zones.get(zone).map_or("", |zone| zone.name.as_str());
            let text = format!("Rate limit reached ({name}). Try again in {retry_after_ms} ms.");
            Err(Some(limited(shard, &text, retry_after_ms)))
        }
    }
}

/// Admits a request for a model's work to its caller's quota. The answer's lines about it are noted.
///
/// # Errors
/// 403 for a model that is not the caller's, 429 beyond a limit or a budget.
pub fn spend(
    shard: &Shard,
    admitted: &Admitted,
    view: &View,
    body_bytes: usize,
    manner: &mut Manner,
) -> Result<Option<Admission>, Exit> {
    let Some(caller) = &admitted.caller else { return Ok(None) };
    if !caller.may_use(&view.model) {
        let text = format!("The key is not allowed to use the model '{}'.", view.model);
        return Err(Some(Failure::new(FailureKind::ModelForbidden, text).at("model")));
    }
    let now = SystemTime::now();
    if let Err(over) = caller.spend.check(caller.budget, caller.budget_period, now) {
        shard.metrics().limiter.key_budget.add(1);
        let text = format!("The budget of the key is spent: {:.4} of {} USD.", over.spent, caller.budget);
        let failure = Failure::new(FailureKind::BudgetSpent, text);
        return Err(Some(over.next_ms.map_or(failure.clone(), |next_ms| failure.after_ms(next_ms))));
    }
    reserve(shard, caller, body_bytes, view.output_max, manner).map(Some)
}

/// Admits a request that the guard answers itself: it is one of its caller's requests, and costs no tokens.
///
/// # Errors
/// 429 beyond a limit.
pub fn spend_none(
    shard: &Shard,
    admitted: &Admitted,
    manner: &mut Manner,
) -> Result<Option<Admission>, Exit> {
    let caller = admitted.caller.as_ref();
    caller.map(|caller| reserve(shard, caller, 0, Some(0), manner)).transpose()
}

fn reserve(
    shard: &Shard,
    caller: &Caller,
    body_bytes: usize,
    output_max: Option<u64>,
    manner: &mut Manner,
) -> Result<Admission, Exit> {
    let now = SystemTime::now();
    let admission = caller.quota.admit(body_bytes as u64, output_max, now);
    let remaining = caller.quota.remaining(now);
    if remaining.limit_requests > 0 {
        manner.rates.clear(); // the caller's own limit says more than the zone's
    }
    quota::headers(&remaining, &mut manner.rates);
    admission.map_err(|refusal| {
        let limiter = &shard.metrics().limiter;
        let (counter, what) = match refusal.kind {
            RefusalKind::Concurrent => (&limiter.key_concurrent, "requests at once"),
            RefusalKind::Requests => (&limiter.key_requests, "requests per minute"),
            RefusalKind::Tokens => (&limiter.key_tokens, "tokens per minute"),
        };
        counter.add(1);
        let text = format!(
            "Rate limit reached: the key may use {} {what}. Try again in {} ms.",
            refusal.limit, refusal.retry_after_ms
        );
        let kind = FailureKind::RateLimited;
        Some(Failure::new(kind, text).after_ms(refusal.retry_after_ms))
    })
}

fn caller(shard: &Shard, incoming: &Incoming) -> Result<Arc<Caller>, Refused> {
    let field = |name| incoming.request.field(&incoming.buffer, name);
    let shown = [Name::LitellmApiKey, Name::Authorization, Name::XApiKey, Name::ApiKey].map(field);
    let shown = key::shown(shown).ok_or(Refused::Unknown)?;
    shard.world.keyring.find(shown, SystemTime::now()).cloned()
}

/// What people and probes may see without a key. A path that does not exist may be known not to.
fn needs_no_key(route: &Result<Route<'_>, NoRoute>) -> bool {
    match route {
        Ok(route) => matches!(route, Route::Health | Route::Liveness | Route::Readiness | Route::Root),
        Err(_) => true,
    }
}

fn unknown(shard: &Shard, refused: Refused) -> Failure {
    shard.metrics().limiter.keys_refused.add(1);
    let text = match refused {
        Refused::Unknown => "Incorrect API key provided. Send it as 'Authorization: Bearer KEY'.",
        Refused::Expired => "The API key has expired.",
    };
    Failure::new(FailureKind::Unauthorized, text)
}

fn limited(shard: &Shard, text: &str, retry_after_ms: u64) -> Failure {
    let status = shard.world.config.limits.reject_status;
    Failure { status, ..Failure::new(FailureKind::RateLimited, text).after_ms(retry_after_ms) }
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

fn is_trusted(shard: &Shard, address: IpAddr) -> bool {
    shard.world.config.server.trusted_proxies.iter().any(|range| range.contains(address))
}

/// Who the client is: the peer, or where a trusted proxy says it is, read from the right as far as proxies are
/// trusted (nginx, `real_ip_recursive`).
#[must_use]
pub fn client_address(shard: &Shard, incoming: &Incoming, peer: SocketAddr) -> IpAddr {
    let mut client = peer.ip();
    if !is_trusted(shard, client) {
        return client;
    }
    let hops = incoming.request.field(&incoming.buffer, Name::ForwardedFor).unwrap_or_default();
    for hop in hops.rsplit(|&byte| byte == b',') {
        let address = std::str::from_utf8(hop.trim_ascii()).ok().and_then(hop_address);
        match address.filter(|_| is_trusted(shard, client)) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// An address as proxies write it: alone, in brackets, or with a port behind it.
fn hop_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}
