//! Answers in Redis, shared by gateways.
//!
//! One question an answer, within `redis.timeout` in all; whatever comes back is an answer only if it says that it is the
//! key's own ([`Stored::decode`]). A Redis that is away, or holds something else there, has none.

use std::rc::Rc;

use super::key::Key;
use super::stored::Stored;
use crate::net::redis::{Command, Redis, Reply};

/// Redis gave nothing that could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

fn name(redis: &Redis, key: Key) -> String {
    format!("{}answer:{key}", redis.prefix())
}

/// The answer of `key`, if there is one.
///
/// # Errors
/// It could not be asked, or has something else there.
pub async fn get(redis: &Rc<Redis>, key: Key) -> Result<Option<Stored>, Failed> {
    match redis.call(&Command::new("GET").key(name(redis, key))).await {
        Ok(Reply::Nil) => Ok(None),
        Ok(Reply::Bytes(bytes)) => Stored::decode(key, &bytes).map(Some).ok_or(Failed),
        _ => Err(Failed),
    }
}

/// Keeps an answer for its time.
///
/// # Errors
/// It is not known to be kept.
pub async fn put(redis: &Rc<Redis>, key: Key, stored: &Stored) -> Result<(), Failed> {
    let ttl_ms = i64::try_from(stored.ttl_ms).unwrap_or(i64::MAX).max(1);
    let set = Command::new("SET").key(name(redis, key)).arg(stored.encode(key)).arg("PX").number(ttl_ms);
    match redis.call(&set).await {
        Ok(reply) if reply.is_ok() => Ok(()),
        _ => Err(Failed),
    }
}
