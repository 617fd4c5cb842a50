//! The simulated model server: backend of the demo, the tests and the load test.
//!
//! It speaks the dialects of Ollama (native, OpenAI, Anthropic) and behaves like one under load: a few slots a
//! model, models that load one after the other, a bounded queue with its 503, and a prefill that does not notice a
//! client that leaves. On request it misbehaves ([`Fault`]): by its options, or by the name of the model asked for.
//!
//! Its answers say back what it was told (`You said: …`), so that a test can tell whose answer it got. It is a
//! server of one thread over [`crate::net`], holds no lock, and must stay cheap: a whole answer is one write of
//! bytes put together once, a stream without pauses is many events a write.
//!
//! [`server`] starts and stops, [`connection`] reads requests and routes them, [`generate`] is the life of one
//! generation, [`rack`] the models with their slots, [`ask`] what was asked, [`speech`] what is answered, and one
//! module a dialect (behind [`voice::Voice`]) how it is written.

mod anthropic;
mod ask;
mod calendar;
mod connection;
mod embed;
mod generate;
mod listing;
mod native;
mod openai;
mod options;
mod rack;
mod reply;
mod responses;
mod server;
mod speech;
mod stats;
mod texts;
mod voice;

#[cfg(test)]
mod tests;

pub use options::{Fault, Options};
pub use server::{Handle, serve_forever, start};
pub use stats::{Recorded, Stats, now_us};
