//! What a simulated server is like, and how it may misbehave.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// One simulated server.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The name of its thread.
    pub name: String,
    /// Where it listens; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// The models it lists. Names beginning with `fault-` ([`Fault::of_model`]) or `think` are there without.
    pub models: Vec<String>,
    /// Generations at once, per model.
    pub slots: usize,
    /// Requests that may wait for a slot or a load, over all models; one more is answered 503.
    pub queue_max: usize,
    /// How long the first use of a model loads it. One model loads at a time.
    pub load_time: Duration,
    /// From the slot to the first token. A client that leaves meanwhile is noticed at its end.
    pub prefill: Duration,
    /// Between tokens; zero: as fast as the client takes them, many events a write.
    pub token_interval: Duration,
    /// Tokens of an answer: what is said back is cut or padded to it.
    pub tokens: usize,
    /// The text of a padding token.
    pub token_text: String,
    /// The text of answers that are not streamed, instead of what was said.
    pub answer: Option<String>,
    /// How long an unused model stays loaded, where the request does not say.
    pub keep_alive: Duration,
    /// How every model request fails.
    pub fault: Fault,
    /// Tokens before a fault inside of a stream.
    pub fault_after: usize,
    /// Refuse a `Host` that is neither the listen address nor `localhost` with its port, by 403.
    pub check_host: bool,
    /// How many of the last POST requests are kept in [`super::Stats::recorded`].
    pub record: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "sim".to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            models: ["llama3.2:latest", "mistral:latest", "nomic-embed-text:latest"]
                .map(str::to_owned)
                .into(),
            slots: 4,
            queue_max: 512,
            load_time: Duration::ZERO,
            prefill: Duration::ZERO,
            token_interval: Duration::ZERO,
            tokens: 32,
            token_text: " word".to_owned(),
            answer: None,
            keep_alive: Duration::from_secs(300),
            fault: Fault::None,
            fault_after: 3,
            check_host: true,
            record: 64,
        }
    }
}

/// A way to misbehave. Those inside of an answer strike after [`Options::fault_after`] tokens of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// None.
    #[default]
    None,
    /// Every model request gets this status.
    Status(u16),
    /// The first so many get this status.
    StatusFirst(u16, u64),
    /// The connection is reset when its first request comes; closed, if it is a later one of the connection.
    ResetBeforeAnswer,
    /// The connection is closed when the request has been read.
    CloseBeforeAnswer,
    /// No answer, until the client leaves; the slot is held.
    Hang,
    /// The connection is closed inside the head of the answer.
    CutHead,
    /// The connection is closed inside an event, or short of the content length.
    CutBody,
    /// A stream ends cleanly, without finish reason, `[DONE]` or `done: true`.
    NoDone,
    /// A stream ends with an error event; a whole answer is a 500.
    ErrorEvent,
    /// One event of a stream is no JSON; so is a whole answer.
    GarbageEvent,
    /// A chunk holds less than it announces; a whole answer holds more.
    WrongLength,
    /// A chunk size that is no number; a whole answer comes in such chunks too.
    ChunkedGarbage,
}

impl Fault {
    /// The fault that a model's name asks for, without tag: `fault-503`, `fault-hang`, …
    #[must_use]
    pub fn of_model(name: &str) -> Option<Self> {
        let kind = name.split(':').next()?.strip_prefix("fault-")?;
        Some(match kind {
            "none" => Self::None,
            "reset" => Self::ResetBeforeAnswer,
            "close" => Self::CloseBeforeAnswer,
            "hang" => Self::Hang,
            "cut-head" => Self::CutHead,
            "cut" => Self::CutBody,
            "nodone" => Self::NoDone,
            "error-event" => Self::ErrorEvent,
            "garbage" => Self::GarbageEvent,
            "wrong-length" => Self::WrongLength,
            "chunk-garbage" => Self::ChunkedGarbage,
            _ => Self::Status(kind.parse().ok().filter(|status| (400..600).contains(status))?),
        })
    }
}
