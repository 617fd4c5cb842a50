//! What clients and endpoints say to each other: dialects, bodies, answers, streams and failures.
//!
//! Everything here works on bytes at hand and returns values; sockets are elsewhere. Bodies are never built anew:
//! they are read once, and spliced where a name or an option must change.

pub mod answer;
pub mod body;
pub mod cache_control;
pub mod error;
pub mod models;
pub mod prompt;
pub mod speech;
pub mod stream;
pub mod usage;

pub use answer::Answer;
pub use body::{BodyError, View};
pub use cache_control::CacheControl;
pub use error::{Failure, Kind as FailureKind};
pub use prompt::Texts;
pub use stream::Stream;
pub use usage::Usage;

use crate::config;

/// The manners of a path: how bodies, errors and streams look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `/v1/…`: error objects, server-sent events, `[DONE]`.
    Openai,
    /// `/api/…`: error strings, a JSON object a line.
    Ollama,
    /// `/v1/messages`: typed error objects, named events.
    Anthropic,
}

/// What a model is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Task {
    Chat,
    Completions,
    Embeddings,
    Responses,
    Messages,
    CountTokens,
    NativeChat,
    NativeGenerate,
    NativeEmbed,
    NativeEmbeddings,
    NativeShow,
    /// Another `/v1/` path whose JSON body names a model.
    Other,
}

impl Task {
    /// The dialect of its path.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::NativeChat
            | Self::NativeGenerate
            | Self::NativeEmbed
            | Self::NativeEmbeddings
            | Self::NativeShow => Dialect::Ollama,
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            _ => Dialect::Openai,
        }
    }

    /// Whether its streams are of events, in which comments may stand.
    #[must_use]
    pub fn has_events(self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Responses | Self::Messages)
    }

    /// The path an endpoint knows it by; `None`: the client's own.
    #[must_use]
    pub fn upstream_path(self) -> Option<&'static str> {
        Some(match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
            Self::NativeChat => "/api/chat",
            Self::NativeGenerate => "/api/generate",
            Self::NativeEmbed => "/api/embed",
            Self::NativeEmbeddings => "/api/embeddings",
            Self::NativeShow => "/api/show",
            Self::Other => return None,
        })
    }

    /// Whether endpoints of this kind have the path at all.
    #[must_use]
    pub fn served_by(self, kind: config::Kind) -> bool {
        self.dialect() != Dialect::Ollama || kind == config::Kind::Ollama
    }

    /// Whether usage on a stream must be asked for (`stream_options.include_usage`).
    #[must_use]
    pub fn asks_for_usage(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }
}
