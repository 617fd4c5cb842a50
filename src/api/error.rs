//! Failures, and the one place where they become an answer.
//!
//! A [`Failure`] says on whose side it arose, what may be done about it, and what the client is told; the dialect
//! decides the shape (`research`: OpenAI objects, Ollama strings, Anthropic typed objects). Clients map the status
//! to an exception class, so the statuses are the contract.

use std::ops::{Deref, DerefMut};

use super::Dialect;
use crate::wire::json;

/// What went wrong. Each has one status, `type` and `code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Kind {
    BadRequest,
    BodyTooLarge,
    LengthRequired,
    BodyTimeout,
    UnknownPath,
    MethodNotAllowed,
    Forbidden,
    UnknownModel,
    ModelNotServed,
    /// The caller may not use the model.
    ModelForbidden,
    /// No key, or a wrong one.
    Unauthorized,
    /// A rate or a quota is used up.
    RateLimited,
    /// The caller's budget is spent.
    BudgetSpent,
    /// The coding of the body is broken.
    Coding,
    TooManyRequests,
    BufferFull,
    NothingHealthy,
    SlotsTaken,
    ConnectFailed,
    UpstreamBroken,
    /// The endpoint took the request and closed the connection before it answered.
    UpstreamDied,
    UpstreamTimeout,
    DeadlineExceeded,
    /// Only a stored answer was wanted, and there is none.
    NotCached,
    /// An error answer of the endpoint: its status and words are kept.
    UpstreamStatus,
    Http,
    Internal,
    /// The guard does not let the request pass.
    PromptBlocked,
    /// The guard does not let the answer pass.
    ResponseBlocked,
}

/// Who may try again, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The answer would be the same.
    Never,
    /// The kept-alive connection was at fault: a fresh one to the same endpoint.
    FreshConnection,
    /// Another endpoint may do better.
    OtherEndpoint,
}

/// One failed exchange or attempt. One word long: every step of an exchange may end with one, and has room for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure(Box<Details>);

/// What is known of a failure.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// What went wrong.
    pub kind: Kind,
    /// Status of the answer.
    pub status: u16,
    /// For the client.
    pub message: String,
    /// The request field at fault.
    pub param: Option<&'static str>,
    /// `type` and `code` of an endpoint's own error object.
    pub upstream: Option<Box<(Option<String>, Option<String>)>>,
    /// Seconds after which another try makes sense.
    pub retry_after_s: Option<u32>,
    /// The same, where it is known better.
    pub retry_after_ms: Option<u64>,
    /// For us.
    pub retry: Retry,
    /// Methods for `Allow`.
    pub allow: Option<&'static str>,
    /// The guard's scanners that blocked, with commas.
    pub scanners: Option<String>,
}

impl Kind {
    fn facts(self) -> (u16, &'static str, Option<&'static str>) {
        match self {
            Self::BadRequest | Self::Http => (400, "invalid_request_error", None),
            Self::BodyTooLarge => (413, "invalid_request_error", Some("request_too_large")),
            Self::LengthRequired => (411, "invalid_request_error", Some("length_required")),
            Self::BodyTimeout => (408, "invalid_request_error", Some("request_timeout")),
            Self::UnknownPath => (404, "invalid_request_error", Some("unknown_url")),
            Self::MethodNotAllowed => (405, "invalid_request_error", Some("method_not_allowed")),
            Self::Forbidden => (403, "permission_error", Some("forbidden")),
            Self::UnknownModel | Self::ModelNotServed => {
                (404, "invalid_request_error", Some("model_not_found"))
            }
            Self::ModelForbidden => (403, "permission_error", Some("model_not_allowed")),
            Self::Unauthorized => (401, "auth_error", Some("invalid_api_key")),
            Self::RateLimited => (429, "rate_limit_error", Some("rate_limit_exceeded")),
            Self::BudgetSpent => (429, "insufficient_quota", Some("insufficient_quota")),
            Self::Coding => (400, "invalid_request_error", Some("invalid_encoding")),
            Self::TooManyRequests => (503, "api_error", Some("overloaded")),
            Self::BufferFull => (503, "api_error", Some("overloaded")),
            Self::NothingHealthy => (503, "api_error", Some("no_healthy_backends")),
            Self::SlotsTaken => (503, "api_error", Some("overloaded")),
            Self::ConnectFailed => (502, "api_error", Some("upstream_unreachable")),
            Self::UpstreamBroken | Self::UpstreamDied => (502, "api_error", Some("upstream_broken")),
            Self::UpstreamTimeout | Self::DeadlineExceeded => (504, "api_error", Some("timeout")),
            Self::NotCached => (504, "api_error", Some("not_cached")),
            Self::UpstreamStatus => (502, "api_error", None),
            Self::PromptBlocked => (400, "prompt_blocked", Some("content_filter")),
            Self::ResponseBlocked => (400, "response_blocked", Some("content_filter")),
            Self::Internal => (500, "api_error", Some("internal_error")),
        }
    }
}

impl Kind {
    /// The word for it in answers and traces, of a closed set.
    #[must_use]
    pub fn code(self) -> &'static str {
        let (_, kind, code) = self.facts();
        code.unwrap_or(kind)
    }
}

impl Deref for Failure {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl Failure {
    /// A failure with its kind's own status.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let retry = match kind {
            Kind::ConnectFailed | Kind::UpstreamBroken | Kind::UpstreamDied | Kind::UpstreamTimeout => {
                Retry::OtherEndpoint
            }
            _ => Retry::Never,
        };
        let status = kind.facts().0;
        Self(Box::new(Details {
            kind,
            status,
            message: message.into(),
            param: None,
            upstream: None,
            retry_after_s: None,
            retry_after_ms: None,
            retry,
            allow: None,
            scanners: None,
        }))
    }

    /// With another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With another word on who may try again.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// With the request field at fault.
    #[must_use]
    pub fn at(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    /// With a `Retry-After`.
    #[must_use]
    pub fn after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// With a `Retry-After` of whole seconds, and what OpenAI's clients look for before it.
    #[must_use]
    pub fn after_ms(mut self, ms: u64) -> Self {
        self.retry_after_s = Some(u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1));
        self.retry_after_ms = Some(ms);
        self
    }

    /// Reads the error answer of an endpoint in whatever shape it has; `body` may be anything.
    #[must_use]
    pub fn of_upstream(status: u16, body: &[u8], retry_after_s: Option<u32>) -> Self {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let error = value.get("error").unwrap_or(&value);
        let text = |at: &serde_json::Value| match at {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let message = text(error)
            .or_else(|| error.get("message").and_then(text))
            .or_else(|| value.get("detail").map(|detail| text(detail).unwrap_or_else(|| detail.to_string())))
            .unwrap_or_else(|| short(body, status));
        let retry = match status {
            429 | 500..=599 => Retry::OtherEndpoint,
            401 | 403 | 404 => Retry::OtherEndpoint,
            _ => Retry::Never,
        };
        let mut failure = Self::new(Kind::UpstreamStatus, message).with_status(status).with_retry(retry);
        failure.retry_after_s = retry_after_s;
        failure.upstream =
            Some(Box::new((error.get("type").and_then(text), error.get("code").and_then(text))));
        failure
    }

    /// Whether an endpoint says that it does not have the model; other paths that it lacks are no such word.
    #[must_use]
    pub fn says_model_is_missing(&self) -> bool {
        let text = self.message.to_ascii_lowercase();
        let missing = ["not found", "does not exist", "not exist", "unknown model"];
        self.kind == Kind::UpstreamStatus
            && self.status == 404
            && (self.upstream_code() == Some("model_not_found")
                || (text.contains("model") && missing.iter().any(|words| text.contains(words))))
    }

    /// Whether an endpoint says that the request is too long for the model: the words of OpenAI, vLLM, llama.cpp, Ollama
    /// and Anthropic.
    #[must_use]
    pub fn says_context_is_exceeded(&self) -> bool {
        let text = self.message.to_ascii_lowercase();
        let words = [
            "maximum context length",
            "context length exceeded",
            "exceeds the context length",
            "context window",
            "exceeds the available context size",
            "prompt is too long",
            "maximum model length",
        ];
        self.kind == Kind::UpstreamStatus
            && matches!(self.status, 400 | 413 | 422 | 500)
            && (self.upstream_code() == Some("context_length_exceeded")
                || words.iter().any(|words| text.contains(words)))
    }

    fn upstream_code(&self) -> Option<&str> {
        self.upstream.as_ref()?.1.as_deref()
    }

    /// `type` and `code` of the OpenAI error object.
    fn words(&self) -> (String, Option<String>) {
        let (_, kind, code) = self.kind.facts();
        if self.kind != Kind::UpstreamStatus {
            return (kind.to_owned(), code.map(str::to_owned));
        }
        let by_status = match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        let (kind, code) = self.upstream.as_deref().cloned().unwrap_or_default();
        (
            if self.status == 429 {
                by_status.to_owned()
            } else {
                kind.unwrap_or_else(|| by_status.to_owned())
            },
            code,
        )
    }

    /// Whether SDKs should be told not to try again.
    #[must_use]
    pub fn final_for_client(&self) -> bool {
        let spent = self.kind == Kind::BudgetSpent && self.retry_after_s.is_none();
        spent
            || matches!(
                self.status,
                400 | 401 | 403 | 404 | 405 | 411 | 413 | 414 | 415 | 417 | 431 | 501 | 505
            )
    }

    /// The JSON body in a dialect.
    #[must_use]
    pub fn body(&self, dialect: Dialect) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.message.len() + 96);
        let (kind, code) = self.words();
        match dialect {
            Dialect::Ollama => {
                out.extend_from_slice(b"{\"error\":");
                out.extend_from_slice(&json::quoted(&self.message));
                out.push(b'}');
            }
            Dialect::Anthropic => {
                let kind = match self.status {
                    401 => "authentication_error",
                    529 | 503 => "overloaded_error",
                    404 => "not_found_error",
                    413 => "request_too_large",
                    504 => "timeout_error",
                    500.. => "api_error",
                    _ => kind.as_str(),
                };
                out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":");
                out.extend_from_slice(&json::quoted(kind));
                out.extend_from_slice(b",\"message\":");
                out.extend_from_slice(&json::quoted(&self.message));
                out.extend_from_slice(b"}}");
            }
            Dialect::Openai => {
                let word = |text: Option<&str>| text.map_or_else(|| b"null".to_vec(), json::quoted);
                out.extend_from_slice(b"{\"error\":{\"message\":");
                out.extend_from_slice(&json::quoted(&self.message));
                out.extend_from_slice(b",\"type\":");
                out.extend_from_slice(&json::quoted(&kind));
                out.extend_from_slice(b",\"param\":");
                out.extend_from_slice(&word(self.param));
                out.extend_from_slice(b",\"code\":");
                out.extend_from_slice(&word(code.as_deref()));
                if let Some(scanners) = &self.scanners {
                    out.extend_from_slice(b",\"scanner\":");
                    out.extend_from_slice(&json::quoted(scanners));
                }
                out.extend_from_slice(b"}}");
            }
        }
        out
    }

    /// The last event of a stream that has begun and cannot go on. Never followed by `[DONE]`.
    #[must_use]
    pub fn event(&self, dialect: Dialect) -> Vec<u8> {
        let body = self.body(dialect);
        let (before, after): (&[u8], &[u8]) = match dialect {
            Dialect::Ollama => (b"", b"\n"),
            Dialect::Anthropic => (b"event: error\ndata: ", b"\n\n"),
            Dialect::Openai => (b"data: ", b"\n\n"),
        };
        [before, &body, after].concat()
    }
}

fn short(body: &[u8], status: u16) -> String {
    let text = String::from_utf8_lossy(body);
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    if text.trim().is_empty() { format!("The endpoint answered with status {status}.") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_the_dialects() {
        let failure = Failure::new(Kind::UnknownModel, "no \"x\"").at("model");
        assert_eq!(
            String::from_utf8(failure.body(Dialect::Openai)).unwrap(),
            r#"{"error":{"message":"no \"x\"","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#
        );
        assert_eq!(failure.body(Dialect::Ollama), br#"{"error":"no \"x\""}"#);
        assert_eq!(
            failure.body(Dialect::Anthropic),
            br#"{"type":"error","error":{"type":"not_found_error","message":"no \"x\""}}"#
        );
        assert_eq!(failure.status, 404);
    }

    #[test]
    fn keeps_the_words_of_endpoints() {
        for (body, message, kind, code) in [
            (r#"{"error":{"message":"m","type":"t","code":"c"}}"#, "m", "t", Some("c")),
            (r#"{"error":"text"}"#, "text", "invalid_request_error", None),
            (
                r#"{"object":"error","message":"flat","type":"BadRequestError","code":400}"#,
                "flat",
                "BadRequestError",
                Some("400"),
            ),
            (r#"{"detail":"Not Found"}"#, "Not Found", "invalid_request_error", None),
            ("<html>", "<html>", "invalid_request_error", None),
        ] {
            let failure = Failure::of_upstream(422, body.as_bytes(), None);
            assert_eq!(failure.message, message);
            assert_eq!(failure.words(), (kind.to_owned(), code.map(str::to_owned)), "{body}");
            assert_eq!((failure.status, failure.retry), (422, Retry::Never));
        }
        assert_eq!(Failure::of_upstream(503, b"", None).retry, Retry::OtherEndpoint);
    }
}
