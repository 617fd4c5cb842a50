//! Words of the conventions: closed sets, whatever clients send.

use crate::api::{Failure, FailureKind, Task};
use crate::config::Kind;
use crate::route::{self, Route};
use crate::wire::http1::Method;

/// What a path is called.
pub struct Named {
    /// `http.route`; `None`: there is no such path.
    pub route: Option<&'static str>,
    /// What a model is asked for.
    pub task: Option<Task>,
    /// Asked by machines all day: not recorded unless a client wants it.
    pub quiet: bool,
}

/// The route of a request.
pub fn route(method: Method, path: &str) -> Named {
    let named = |route| Named { route: Some(route), task: None, quiet: false };
    let quiet = |route| Named { quiet: true, ..named(route) };
    match route::find(method, path) {
        Ok(Route::Model(Task::Other)) => Named { task: Some(Task::Other), ..named("/v1/{path}") },
        Ok(Route::Model(task)) => Named { route: task.upstream_path(), task: Some(task), quiet: false },
        Ok(Route::Moderations) => Named { task: Some(Task::Other), ..named("/v1/moderations") },
        Ok(Route::Models) => named("/v1/models"),
        Ok(Route::ModelById(_)) => named("/v1/models/{model}"),
        Ok(Route::ModelInfo) => named("/model/info"),
        Ok(Route::ModelGroupInfo) => named("/model_group/info"),
        Ok(Route::Tags) => named("/api/tags"),
        Ok(Route::Ps) => named("/api/ps"),
        Ok(Route::Version) => named("/api/version"),
        Ok(Route::Root) => quiet("/"),
        Ok(Route::Health) => quiet("/health"),
        Ok(Route::Liveness) => quiet("/health/liveliness"),
        Ok(Route::Readiness) => quiet("/health/readiness"),
        Ok(Route::Metrics) => quiet("/metrics"),
        Ok(Route::Options) | Err(_) => Named { route: None, task: None, quiet: false },
    }
}

/// `gen_ai.operation.name`; the last three are ours, the conventions have no word for them.
pub fn operation(task: Option<Task>) -> &'static str {
    match task {
        Some(Task::Chat | Task::Responses | Task::Messages | Task::NativeChat) => "chat",
        Some(Task::Completions | Task::NativeGenerate) => "text_completion",
        Some(Task::Embeddings | Task::NativeEmbed | Task::NativeEmbeddings) => "embeddings",
        Some(Task::CountTokens) => "count_tokens",
        Some(Task::NativeShow) => "show",
        Some(Task::Other) | None => "other",
    }
}

/// `gen_ai.provider.name`: for servers that speak as OpenAI does, the one whose API it is.
pub fn provider(kind: Kind) -> &'static str {
    match kind {
        Kind::Ollama => "ollama",
        Kind::Openai => "openai",
    }
}

/// `error.type`: the status that an endpoint has answered, or the code that the client is told.
pub fn error(failure: &Failure) -> String {
    match failure.kind {
        FailureKind::UpstreamStatus => failure.status.to_string(),
        kind => kind.code().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_few() {
        for (method, path, want) in [
            (Method::Post, "/v1/chat/completions", Some("/v1/chat/completions")),
            (Method::Post, "/chat/completions", Some("/v1/chat/completions")),
            (Method::Post, "/v1/rerank", Some("/v1/{path}")),
            (Method::Post, "/v1/what-a-client-likes", Some("/v1/{path}")),
            (Method::Get, "/v1/models/a/b", Some("/v1/models/{model}")),
            (Method::Post, "/api/chat", Some("/api/chat")),
            (Method::Get, "/nothing", None),
            (Method::Options, "/v1/models", None),
        ] {
            assert_eq!(route(method, path).route, want, "{path}");
        }
        assert!(route(Method::Get, "/health/readiness").quiet && !route(Method::Get, "/v1/models").quiet);
    }

    #[test]
    fn errors_are_of_a_closed_set() {
        for (failure, want) in [
            (Failure::of_upstream(503, b"my prompt", None), "503"),
            (Failure::new(FailureKind::ConnectFailed, "gpu-1: refused"), "upstream_unreachable"),
            (Failure::new(FailureKind::UpstreamTimeout, "late"), "timeout"),
            (Failure::new(FailureKind::BadRequest, "what"), "invalid_request_error"),
        ] {
            assert_eq!(error(&failure), want);
        }
    }
}
