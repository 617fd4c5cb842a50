//! `x-corelane-explain` on a request: it is let in as any other, read, and explained instead of being passed on.
//!
//! Its rates are charged and it is counted among its client's, so that nobody asks for free; its key's minute is not
//! touched, and no endpoint is. Callers see names only. Bound: [`EXPLAINED_MAX`] at once on a shard; the texts of each are counted
//! in `buffered_bytes_max`, and the guard reads them in slices as it does for others.

use std::time::SystemTime;

use super::Shard;
use super::admit::{self, Admitted};
use super::exchange::Exit;
use super::head::Incoming;
use super::reply::Manner;
use super::screen::{Here, Pace};
use crate::explain::{self, Ask, Now, Sight};
use crate::limit::client;
use crate::net::{Client, clock};
use crate::refusal;
use crate::wire::http1::request::Name;
use crate::wire::http1::{Framing, Method, field};
use crate::world::Reservation;

/// The field.
const NAME: &str = "x-corelane-explain";
/// Explanations at once on a shard; more wait.
pub const EXPLAINED_MAX: usize = 4;

/// Whether the client asks for it, and may: `server.explain`.
#[must_use]
pub fn is_asked(shard: &Shard, incoming: &Incoming) -> bool {
    if !shard.world.config.server.explain || incoming.request.method == Method::Options {
        return false;
    }
    let value = field::find(&incoming.buffer, incoming.request.head_bytes, NAME);
    value.is_some_and(|value| value != b"0" && !value.eq_ignore_ascii_case(b"false"))
}

/// The answer, head and body.
///
/// # Errors
/// 503 where the gateway holds too many large requests.
pub async fn answer(
    shard: &Shard,
    client: &Client,
    incoming: &Incoming,
    body_at: usize,
    held: &mut Reservation,
    admitted: &Admitted,
    manner: &Manner,
) -> Result<Vec<u8>, Exit> {
    let _pass = shard.explaining.enter().await;
    let (buffer, request) = (&incoming.buffer, &incoming.request);
    let body = buffer.get(body_at..).unwrap_or_default();
    // The copy that is parsed, and the texts.
    if !held.raise_to(buffer.capacity() + 2 * body.len()) {
        return Err(Some(refusal::too_many_large("requests")));
    }
    let believed = client::is_trusted(&shard.world.config.server.trusted_proxies, client.peer().ip());
    let header = |name: &str| {
        let value = believed.then(|| field::find(buffer, request.head_bytes, name));
        value.flatten().filter(|value| !value.is_empty())
    };
    let ask = Ask {
        world: &shard.world,
        method: request.method,
        path: request.path.text(buffer),
        caller: Ok(admitted.caller.as_ref()),
        address: admit::client_address(shard, incoming, client.peer()),
        header: &header,
        timeout: request.field(buffer, Name::Timeout),
        body: (request.framing != Framing::None).then_some(body),
        admitted: true,
        sight: Sight::Caller,
        now: Now { ms: clock::now_ms(), wall: SystemTime::now(), random: shard.random() },
    };
    let told = explain::explain(&ask, &mut Here { shard, pace: Pace::start() }).await;
    Ok(manner.whole(shard, 200, "application/json", "", format!("{told}\n").as_bytes()))
}
