//! What the gateway answers itself: models, health, and what all endpoints say together.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::Shard;
use super::admit::Admitted;
use super::exchange::Exit;
use super::head::{Incoming, micros};
use super::moderations;
use super::reply::Manner;
use crate::api::{Failure, FailureKind, models};
use crate::config::Kind;
use crate::net::{Client, Stop, fetch};
use crate::refusal;
use crate::registry::EndpointState;
use crate::route::{self, Route};
use crate::wire::http1::request::Name;

const JSON: &str = "application/json";
/// Time for one endpoint to say what it has loaded.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest such answer.
const ASK_BYTES_MAX: usize = 4 << 20;
/// Largest page of metrics.
const METRICS_BYTES_MAX: usize = 64 << 20;

/// An answer ready to be written.
pub struct Local {
    /// Its status.
    pub status: u16,
    /// Head and body.
    pub bytes: Vec<u8>,
}

/// Answers every route that needs no model.
///
/// # Errors
/// 404 for an unknown model; `None` when the client left while endpoints were asked.
pub async fn answer(
    shard: &Rc<Shard>,
    client: &Client,
    incoming: &Incoming,
    body_at: usize,
    admitted: &Admitted,
    manner: &Manner,
) -> Result<Local, Exit> {
    let (buffer, request) = (&incoming.buffer, &incoming.request);
    let Ok(route) = route::find(request.method, request.path.text(buffer)) else {
        return Err(Some(Failure::new(FailureKind::UnknownPath, "Not Found")));
    };
    let catalog = shard.catalog();
    let registry = &shard.world.registry;
    let may = |model: &str| admitted.may_use(model);
    let json =
        |status: u16, value: &Value| local(shard, manner, status, JSON, "", value.to_string().as_bytes());
    Ok(match route {
        Route::Models => json(200, &models::list(&catalog, created(shard), &may)),
        Route::ModelById(id) => {
            let id = route::percent_decoded(id);
            let found = catalog.find(&id, registry).filter(|model| !model.candidates.is_empty() && may(&id));
            if found.is_none() {
                return Err(Some(refusal::no_such_model(&id)));
            }
            json(200, &models::entry(&id, created(shard)))
        }
        Route::ModelInfo => json(200, &models::info(&catalog, registry, &may)),
        Route::ModelGroupInfo => json(200, &models::group_info(&catalog, registry, &may)),
        Route::Health => json(200, &models::health(&catalog, registry)),
        Route::Liveness => local(shard, manner, 200, JSON, "", b"\"I'm alive!\""),
        Route::Readiness if shard.world.is_draining() => {
            json(503, &json!({"status": "draining", "db": "Not connected"}))
        }
        Route::Readiness => json(200, &json!({"status": "healthy", "db": "Not connected"})),
        Route::Metrics => {
            let page = metrics(shard, client).await?;
            local(shard, manner, 200, "text/plain; version=0.0.4; charset=utf-8", "", &page)
        }
        Route::Tags => json(200, &models::tags(&catalog, registry, &may)),
        Route::Ps => json(200, &loaded(shard, client).await?),
        Route::Version => json(200, &json!({"version": version(shard)})),
        Route::Root => local(shard, manner, 200, "text/plain; charset=utf-8", "", b"Ollama is running"),
        Route::Options => local(shard, manner, 204, JSON, &cors(shard, incoming), b""),
        Route::Moderations => {
            let body = buffer.get(body_at..).unwrap_or_default();
            local(shard, manner, 200, JSON, "", &moderations::answer(shard, body).await?)
        }
        Route::Model(_) => {
            return Err(Some(Failure::new(FailureKind::Internal, "A model's route came here.")));
        }
    })
}

fn local(shard: &Shard, manner: &Manner, status: u16, kind: &str, fields: &str, body: &[u8]) -> Local {
    Local { status, bytes: manner.whole(shard, status, kind, fields, body) }
}

/// What a browser must be told before it asks; no key is needed for it.
fn cors(shard: &Shard, incoming: &Incoming) -> String {
    let field = |name| incoming.request.field(&incoming.buffer, name);
    let allow = "allow: GET, HEAD, POST, OPTIONS\r\n";
    let origin = match field(Name::Origin) {
        Some(origin) if !shard.cors.allows(origin) => return allow.to_owned(),
        Some(_) => "",
        None if shard.cors.is_open() => "access-control-allow-origin: *\r\n",
        None => return allow.to_owned(),
    };
    let asked = field(Name::CorsHeaders);
    let headers = asked.filter(|value| value.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '));
    let headers = headers.map_or("*".into(), String::from_utf8_lossy);
    let max_age = shard.world.config.server.cors.max_age.as_secs();
    format!(
        "{origin}access-control-allow-methods: GET, POST, OPTIONS\r\naccess-control-allow-headers: {headers}\r\naccess-control-max-age: {max_age}\r\n{allow}"
    )
}

fn created(shard: &Shard) -> u64 {
    shard.world.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The oldest version among the endpoints: what all of them can do.
fn version(shard: &Shard) -> String {
    let versions = shard.world.registry.iter().filter_map(|endpoint| endpoint.facts()?.version.clone());
    let number =
        |text: &String| text.split('.').map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    versions.min_by_key(number).unwrap_or_else(|| "0.0.0".to_owned())
}

/// The page of the admin listener, asked for there: it is the control core that renders it, never a shard.
async fn metrics(shard: &Shard, client: &Client) -> Result<Vec<u8>, Exit> {
    let mut address = shard.world.bound.admin;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    let key = shard.world.config.server.admin_token.as_ref().map(crate::config::Secret::expose);
    let target = fetch::Target { address, connector: None, authority: "localhost", path: "/metrics", key };
    client.timer().set(shard.clock.after(ASK_TIMEOUT));
    match client.race(pin!(fetch::get(target, METRICS_BYTES_MAX))).await {
        Ok(Ok((200, page))) => Ok(page),
        Err(Stop::ClientGone) => Err(None),
        _ => Err(Some(Failure::new(FailureKind::Internal, "The control core does not answer."))),
    }
}

/// `/api/ps` of all Ollama endpoints, asked now and together.
async fn loaded(shard: &Rc<Shard>, client: &Client) -> Result<Value, Exit> {
    let endpoints = shard.world.registry.iter().filter(|e| e.config.kind == Kind::Ollama && !e.disabled());
    let mut asked: Vec<_> = endpoints.map(|endpoint| (Box::pin(ask(endpoint)), None)).collect();
    let all = std::future::poll_fn(|cx| {
        for (asking, answer) in asked.iter_mut().filter(|(_, answer)| answer.is_none()) {
            if let Poll::Ready(done) = asking.as_mut().poll(cx) {
                *answer = Some(done);
            }
        }
        if asked.iter().all(|(_, answer)| answer.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    });
    client.timer().set(shard.clock.now_us() + micros(ASK_TIMEOUT));
    if client.race(pin!(all)).await == Err(Stop::ClientGone) {
        return Err(None);
    }
    let models: Vec<Value> = asked.into_iter().filter_map(|(_, answer)| answer.flatten()).flatten().collect();
    Ok(json!({"models": models}))
}

async fn ask(endpoint: &EndpointState) -> Option<Vec<Value>> {
    let path = format!("{}/api/ps", endpoint.config.url.path);
    let key = endpoint.config.api_key.as_ref().map(crate::config::Secret::expose);
    let target = fetch::Target {
        address: endpoint.address(0)?,
        connector: endpoint.connector.as_ref(),
        authority: &endpoint.authority,
        path: &path,
        key,
    };
    let (status, body) = fetch::get(target, ASK_BYTES_MAX).await.ok().filter(|(status, _)| *status == 200)?;
    let value: Value = serde_json::from_slice(&body).ok().filter(|_| status == 200)?;
    value.get("models").and_then(Value::as_array).cloned()
}
