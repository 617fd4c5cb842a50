//! Answers: framed ([`http1`], [`frames`]), read ([`json`], [`judge`]), and told apart into outcomes. No sockets, no clock.

pub mod echo;
pub mod frames;
pub mod hpack;
pub mod http1;
pub mod json;
pub mod judge;
pub mod vector;

/// The rule that an answer breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);
