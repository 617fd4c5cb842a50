//! What must hold of every parser of ours, whatever the bytes: one function a parser.
//!
//! Each `target` takes bytes and panics where a promise is broken: not only that nothing panics, but that the
//! verdict does not depend on how the bytes were cut, and that what is accepted means the same to a second, simple
//! reader ([`reading`], `serde_json`). The functions are run by libFuzzer (`fuzz_targets/`, `fuzz/README.md`) and, on
//! stable and without instrumentation, by `tests/fuzz_corpus.rs`, which takes this file by its path.

pub mod answer;
pub mod body_view;
pub mod chunked;
pub mod coding;
pub mod config;
pub mod cut;
pub mod guard;
pub mod h2_guard;
pub mod http1_body;
pub mod http1_request;
pub mod http1_response;
pub mod import;
pub mod json;
pub mod json_text;
pub mod ndjson;
pub mod reading;
pub mod resp;
pub mod route;
pub mod sse;
pub mod stream;
pub mod value;

/// A target: its name, which is its folder in `corpus/` and `regressions/`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 18] = [
    ("answer", answer::target),
    ("body_view", body_view::target),
    ("chunked", chunked::target),
    ("coding", coding::target),
    ("config", config::target),
    ("guard", guard::target),
    ("h2_guard", h2_guard::target),
    ("http1_body", http1_body::target),
    ("http1_request", http1_request::target),
    ("http1_response", http1_response::target),
    ("import", import::target),
    ("json", json::target),
    ("json_text", json_text::target),
    ("ndjson", ndjson::target),
    ("resp", resp::target),
    ("route", route::target),
    ("sse", sse::target),
    ("stream", stream::target),
];
