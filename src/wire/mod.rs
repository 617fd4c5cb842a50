//! Bytes to parts and back: sans-io parsers of everything that comes from a socket.
//!
//! Nothing here knows a clock, a runtime or a configuration; every parser takes bytes and answers with a value,
//! "more is needed", or the rule that was broken. None may panic on any input, none loops without progress, and
//! none allocates beyond what its caller lends. Each has a fuzz target in `fuzz/`.

pub mod coding;
pub mod h2;
pub mod http1;
pub mod json;
pub mod ndjson;
pub mod resp;
pub mod span;
pub mod sse;
pub mod text;

pub use span::Span;
