//! TLS by rustls, driven without I/O: bytes in, bytes out, the socket stays in the hands of its owner.
//!
//! [`Session`] is one connection's state, either side; [`Acceptor`] holds what listeners need and can be exchanged
//! while they serve; [`Connector`] is its counterpart for endpoints. Why not an adapter that owns the socket: reads
//! here are cancelled and resumed (rule 1 of [`crate::net`]), and a pending read must notice a client that leaves.
//! Cost: `cargo bench --bench tls`. Nothing is kept in a buffer while idle.

mod accept;
mod connect;
mod session;
#[cfg(test)]
mod tests;
mod validity;

pub use accept::{Acceptor, Expiry};
pub use connect::Connector;
pub use session::{Session, Stage};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The one provider of cryptography.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// 256 bits of the kernel's randomness.
///
/// # Errors
/// The kernel gives none.
pub fn random() -> std::io::Result<[u8; 32]> {
    let mut bits = [0; 32];
    let filled = provider().secure_random.fill(&mut bits);
    filled.map(|()| bits).map_err(|_| std::io::Error::other("the kernel gives no random numbers"))
}

/// Why TLS cannot be had as configured: the key of the configuration, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// E.g. `server.tls.cert`.
    pub path: String,
    /// For a person.
    pub message: String,
}

impl Unfit {
    fn new(path: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self { path: path.into(), message: message.to_string() }
    }
}
