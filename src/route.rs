//! Method and path to what is asked for.

use crate::api::{Dialect, Task};
use crate::wire::http1::Method;

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// A model's work: goes to an endpoint.
    Model(Task),
    /// `POST /v1/moderations`: the guard's, or a model's where there is no guard.
    Moderations,
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{id}`, the id as written in the path.
    ModelById(&'a str),
    /// `GET /model/info`.
    ModelInfo,
    /// `GET /model_group/info`.
    ModelGroupInfo,
    /// `GET /health`.
    Health,
    /// `GET /health/liveliness`.
    Liveness,
    /// `GET /health/readiness`.
    Readiness,
    /// `GET /metrics`.
    Metrics,
    /// `GET /api/tags`.
    Tags,
    /// `GET /api/ps`.
    Ps,
    /// `GET /api/version`.
    Version,
    /// `GET /`.
    Root,
    /// `OPTIONS` of anything.
    Options,
}

/// Why there is no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// No such path.
    Unknown,
    /// The path takes these methods only.
    Method(&'static str),
    /// A path of Ollama that changes the endpoint, or needs its account.
    Forbidden,
}

/// The dialect in which a path's errors are told, also when the path is unknown.
#[must_use]
pub fn dialect(path: &str) -> Dialect {
    match path {
        _ if path.starts_with("/api/") => Dialect::Ollama,
        _ if path.strip_prefix("/v1").unwrap_or(path).starts_with("/messages") => Dialect::Anthropic,
        _ => Dialect::Openai,
    }
}

/// Finds the route. HEAD is served wherever GET is.
///
/// # Errors
/// See [`NoRoute`].
pub fn find(method: Method, path: &str) -> Result<Route<'_>, NoRoute> {
    if method == Method::Options {
        return Ok(Route::Options);
    }
    let route = match path.strip_prefix("/api/") {
        Some(rest) => native(rest)?,
        None => own(path).or_else(|| openai(path, method)).ok_or(NoRoute::Unknown)?,
    };
    let allow = match route {
        Route::Model(_) | Route::Moderations => "POST, OPTIONS",
        _ => "GET, HEAD, OPTIONS",
    };
    let posts = matches!(route, Route::Model(_) | Route::Moderations);
    let fits = if posts { method == Method::Post } else { matches!(method, Method::Get | Method::Head) };
    if fits { Ok(route) } else { Err(NoRoute::Method(allow)) }
}

/// Whether a caller's key is asked for. Some things people and probes may see without one, and a path that does not exist
/// may be known not to.
#[must_use]
pub fn needs_key(route: &Result<Route<'_>, NoRoute>) -> bool {
    match route {
        Ok(route) => !matches!(route, Route::Health | Route::Liveness | Route::Readiness | Route::Root),
        Err(_) => false,
    }
}

fn native(rest: &str) -> Result<Route<'_>, NoRoute> {
    Ok(match rest {
        "chat" => Route::Model(Task::NativeChat),
        "generate" => Route::Model(Task::NativeGenerate),
        "embed" => Route::Model(Task::NativeEmbed),
        "embeddings" => Route::Model(Task::NativeEmbeddings),
        "show" => Route::Model(Task::NativeShow),
        "tags" => Route::Tags,
        "ps" => Route::Ps,
        "version" => Route::Version,
        "pull" | "push" | "create" | "copy" | "delete" | "me" | "signout" => return Err(NoRoute::Forbidden),
        _ if rest.starts_with("blobs/") => return Err(NoRoute::Forbidden),
        _ => return Err(NoRoute::Unknown),
    })
}

fn own(path: &str) -> Option<Route<'_>> {
    Some(match path {
        "/" | "" => Route::Root,
        "/health" => Route::Health,
        "/health/liveliness" | "/health/liveness" => Route::Liveness,
        "/health/readiness" => Route::Readiness,
        "/metrics" | "/metrics/" => Route::Metrics,
        "/model/info" | "/v1/model/info" => Route::ModelInfo,
        "/model_group/info" => Route::ModelGroupInfo,
        _ => return None,
    })
}

fn openai(path: &str, method: Method) -> Option<Route<'_>> {
    let (versioned, rest) = path.strip_prefix("/v1").map_or((false, path), |rest| (true, rest));
    Some(match rest {
        "/chat/completions" => Route::Model(Task::Chat),
        "/completions" => Route::Model(Task::Completions),
        "/embeddings" => Route::Model(Task::Embeddings),
        "/responses" => Route::Model(Task::Responses),
        "/messages" => Route::Model(Task::Messages),
        "/messages/count_tokens" => Route::Model(Task::CountTokens),
        "/moderations" => Route::Moderations,
        "/rerank" | "/audio/speech" | "/images/generations" => Route::Model(Task::Other),
        "/models" | "/models/" => Route::Models,
        _ => match rest.strip_prefix("/models/") {
            Some(id) => Route::ModelById(id),
            None if versioned && method == Method::Post && is_plain(rest) && !stateful(rest) => {
                Route::Model(Task::Other)
            }
            None if path == "/v2/rerank" => Route::Model(Task::Other),
            None => return None,
        },
    })
}

/// Whether a path reads the same to everybody: `/word/word`, no dots, escapes or empty segments.
fn is_plain(rest: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    rest.starts_with('/')
        && rest[1..].split('/').all(|segment| !segment.is_empty() && segment.bytes().all(word))
}

/// Paths that name things kept by one provider: no balancer can serve them.
fn stateful(rest: &str) -> bool {
    [
        "/files",
        "/batches",
        "/fine_tuning",
        "/assistants",
        "/threads",
        "/realtime",
        "/vector_stores",
        "/uploads",
        "/responses/",
    ]
    .iter()
    .any(|prefix| rest.starts_with(prefix))
}

/// Undoes percent-encoding; bytes that are no encoding stay.
#[must_use]
pub fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit)); // from_str_radix takes "+1"
        let hex = hex.and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| byte == b'%') {
            Some(decoded) => {
                out.push(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_and_without_v1() {
        for (path, task) in [
            ("/v1/chat/completions", Task::Chat),
            ("/chat/completions", Task::Chat),
            ("/completions", Task::Completions),
            ("/v1/embeddings", Task::Embeddings),
            ("/v1/responses", Task::Responses),
            ("/v1/messages", Task::Messages),
            ("/v1/messages/count_tokens", Task::CountTokens),
            ("/api/chat", Task::NativeChat),
            ("/api/show", Task::NativeShow),
            ("/v1/anything", Task::Other),
            ("/v2/rerank", Task::Other),
        ] {
            assert_eq!(find(Method::Post, path), Ok(Route::Model(task)), "{path}");
        }
        assert_eq!(find(Method::Get, "/v1/models/ollama/llama3.2"), Ok(Route::ModelById("ollama/llama3.2")));
        assert_eq!(find(Method::Head, "/"), Ok(Route::Root));
        assert_eq!(find(Method::Options, "/whatever"), Ok(Route::Options));
        assert_eq!(percent_decoded("ollama%2Fllama3.2%zz%"), "ollama/llama3.2%zz%");
    }

    #[test]
    fn what_is_not_served() {
        assert_eq!(find(Method::Get, "/v1/chat/completions"), Err(NoRoute::Method("POST, OPTIONS")));
        assert_eq!(find(Method::Post, "/health"), Err(NoRoute::Method("GET, HEAD, OPTIONS")));
        assert_eq!(find(Method::Post, "/api/pull"), Err(NoRoute::Forbidden));
        assert_eq!(find(Method::Delete, "/api/delete"), Err(NoRoute::Forbidden));
        for path in [
            "/v1/files",
            "/nothing",
            "/v1",
            "/v1/",
            "/v1/assistants/x",
            "/chat",
            "/api/nothing",
            "/v1/a/../b",
            "/v1/a%62",
            "/v1/a/",
            "/v1//a",
        ] {
            assert_eq!(find(Method::Post, path), Err(NoRoute::Unknown), "{path}");
        }
    }
}
