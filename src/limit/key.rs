//! Who calls: the keys that are known, and which of them was shown.
//!
//! A key is known by HMAC-SHA256(key of the process, SHA-256(secret)); no secret is kept. What a client shows
//! is hashed the same way and compared with all keys, always with all of them and each in constant time
//! (`subtle`), so neither time nor answers tell how near a guess was, or how many keys there are after the
//! one that fits. The process key is random, so nobody outside can choose a hash.
//!
//! Invariants: an empty secret fits no key; a secret longer than [`SHOWN_BYTES_MAX`] fits none, after the
//! work of one that is so long; whether a key has expired is told only to who shows its secret. `Debug` shows
//! names alone.
//!
//! Cost of [`Keyring::find`]: a SHA-256 of at most 4 KiB, three blocks more, and 32 bytes compared a key; no
//! allocation. Memory: 32 bytes a key, its caller beside it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hmac::digest::{Digest, Key};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::quota::Quota;
use crate::config::edge::{self, KeySecret};
use crate::config::normalized;
use crate::queue::Flow;
use crate::usage::spend::Spend;

/// Longest secret that can be known, in bytes, as in the configuration.
pub const SHOWN_BYTES_MAX: usize = 4096;

/// Headers that carry a key, the first one that is there and not empty counts. In lower case.
pub const HEADERS: [&str; 4] = ["x-litellm-api-key", "authorization", "x-api-key", "api-key"];

/// The provider by which LiteLLM's names of Ollama's models begin.
const PROVIDER: &str = "ollama/";

/// All keys of a configuration. Immutable; shared by all shards.
pub struct Keyring {
    /// Holds the key of the process.
    mac: Hmac<Sha256>,
    /// By slot.
    known: Box<[Hash]>,
    /// By slot.
    callers: Box<[Arc<Caller>]>,
}

/// Who a key belongs to.
pub struct Caller {
    /// Unique name, for metrics and logs.
    pub name: String,
    /// Its place in the configuration.
    pub slot: usize,
    /// Index into the guard's profiles; `None`: as the model says.
    pub guard: Option<usize>,
    /// What it may use.
    pub quota: Quota,
    /// What it has used.
    pub spend: Arc<Spend>,
    /// USD of a period; 0: no limit.
    pub budget: f64,
    /// Zero: its budget never begins anew.
    pub budget_period: Duration,
    /// What its requests count on while they wait.
    pub flow: Arc<Flow>,
    models: Box<[Pattern]>,
    expires: Option<SystemTime>,
}

/// Why a key does not open. Status 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No key, or none that is known.
    Unknown,
    /// It was one.
    Expired,
}

/// 256 bits, in words because those are compared at once.
type Hash = [u64; 4];

/// A name of a model, normalized, without the provider.
struct Pattern {
    text: Box<str>,
    /// Whether anything may follow.
    open: bool,
}

impl Keyring {
    /// The keys of a configuration; `process_key` is random and never leaves the process.
    #[must_use]
    pub fn new(keys: &[edge::Key], process_key: [u8; 32]) -> Self {
        // HMAC pads its key by zeros to a block (RFC 2104 section 2).
        let mut block = Key::<Hmac<Sha256>>::default();
        block.iter_mut().zip(process_key).for_each(|(to, from)| *to = from);
        Self::with(keys, <Hmac<Sha256> as Mac>::new(&block), &HashMap::new())
    }

    /// The keys of another configuration. Callers who keep their name keep what they have used.
    #[must_use]
    pub fn renewed(&self, keys: &[edge::Key]) -> Self {
        let old = self.callers.iter().map(|caller| (caller.name.as_str(), &**caller)).collect();
        Self::with(keys, self.mac.clone(), &old)
    }

    fn with(keys: &[edge::Key], mac: Hmac<Sha256>, old: &HashMap<&str, &Caller>) -> Self {
        let known = keys.iter().map(|key| match &key.secret {
            KeySecret::Plain(secret) => keyed(&mac, &Sha256::digest(secret.expose())),
            KeySecret::Sha256(hash) => keyed(&mac, hash),
        });
        let known = known.collect();
        let caller = |(slot, key): (usize, &edge::Key)| {
            let old = old.get(key.name.as_str()).copied();
            Arc::new(Caller::new(slot, key, old))
        };
        Self { known, callers: keys.iter().enumerate().map(caller).collect(), mac }
    }

    /// The caller whose secret was `shown`, byte for byte. All wrong guesses of a length take the same
    /// time.
    ///
    /// # Errors
    /// [`Refused`]: status 401.
    pub fn find(&self, shown: &[u8], now: SystemTime) -> Result<&Arc<Caller>, Refused> {
        self.find_by(shown, now, same)
    }

    /// `same` is an argument so that tests can count.
    fn find_by(
        &self,
        shown: &[u8],
        now: SystemTime,
        mut same: impl FnMut(&Hash, &Hash) -> Choice,
    ) -> Result<&Arc<Caller>, Refused> {
        let hash = self.hash(shown);
        let mut found = u64::MAX;
        for (slot, known) in (0u64..).zip(&self.known) {
            found.conditional_assign(&slot, same(known, &hash));
        }
        let fits = !shown.is_empty() && shown.len() <= SHOWN_BYTES_MAX;
        let slot = usize::try_from(found).unwrap_or(usize::MAX);
        let caller = self.callers.get(slot).filter(|_| fits).ok_or(Refused::Unknown)?;
        alive(caller, now)
    }

    /// The caller of that name, as if its secret had been shown; `None`: there is none.
    #[must_use]
    pub fn named(&self, name: &str, now: SystemTime) -> Option<Result<&Arc<Caller>, Refused>> {
        self.callers.iter().find(|caller| caller.name == name).map(|caller| alive(caller, now))
    }

    /// As keys are known. The rest of a secret that is too long costs nothing.
    fn hash(&self, shown: &[u8]) -> Hash {
        keyed(&self.mac, &Sha256::digest(shown.get(..SHOWN_BYTES_MAX).unwrap_or(shown)))
    }

    /// Whether no key is known: then everyone may call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }

    /// Everyone, by slot.
    #[must_use]
    pub fn callers(&self) -> &[Arc<Caller>] {
        &self.callers
    }
}

/// Whether `shown` is `secret`, in a time that says nothing of how much of it is.
#[must_use]
pub fn opens(shown: &[u8], secret: &str) -> bool {
    Sha256::digest(shown).ct_eq(&Sha256::digest(secret)).into()
}

/// `caller`, unless its key has expired.
fn alive(caller: &Arc<Caller>, now: SystemTime) -> Result<&Arc<Caller>, Refused> {
    if caller.expires.is_some_and(|expires| now >= expires) { Err(Refused::Expired) } else { Ok(caller) }
}

fn keyed(mac: &Hmac<Sha256>, hash: &[u8]) -> Hash {
    let bytes: [u8; 32] = mac.clone().chain_update(hash).finalize().into_bytes().into();
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
    }
    words
}

fn same(left: &Hash, right: &Hash) -> Choice {
    let differing = left.iter().zip(right).fold(0, |bits, (left, right)| bits | (left ^ right));
    differing.ct_eq(&0)
}

impl Caller {
    fn new(slot: usize, key: &edge::Key, old: Option<&Self>) -> Self {
        let (requests, tokens, concurrent) = (key.requests_per_minute, key.tokens_per_minute, key.concurrent);
        Self {
            name: key.name.clone(),
            slot,
            guard: key.guard,
            quota: match old {
                Some(old) => old.quota.renewed(requests, tokens, concurrent),
                None => Quota::new(requests, tokens, concurrent),
            },
            spend: old.map(|old| Arc::clone(&old.spend)).unwrap_or_default(),
            budget: key.budget,
            budget_period: key.budget_period,
            flow: old.map(|old| Arc::clone(&old.flow)).unwrap_or_default(),
            models: key.models.iter().map(|name| Pattern::new(name)).collect(),
            expires: key.expires,
        }
    }

    /// Whether it may ask for `model`. Case, `:latest` and `ollama/` make no difference; `ollama/*` is
    /// therefore every model, as `*` is.
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.fits(model))
    }
}

impl Pattern {
    fn new(name: &str) -> Self {
        let (text, open) = match name.strip_suffix('*') {
            Some(prefix) => (prefix.to_ascii_lowercase(), true),
            None => (normalized(name), false),
        };
        Self { text: text.strip_prefix(PROVIDER).unwrap_or(&text).into(), open }
    }

    fn fits(&self, model: &str) -> bool {
        let bare = strip(model, PROVIDER).unwrap_or(model);
        if self.open {
            return strip(bare, &self.text).is_some() || strip(model, &self.text).is_some();
        }
        let length = bare.len().saturating_sub(LATEST.len());
        let (name, end) = bare.split_at_checked(length).unwrap_or((bare, ""));
        let name = if end.eq_ignore_ascii_case(LATEST) { name } else { bare };
        name.eq_ignore_ascii_case(&self.text)
    }
}

/// The tag that is meant when a model's name has none.
const LATEST: &str = ":latest";

/// What follows `prefix`, in any case.
fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The secret that a request shows, of the values of [`HEADERS`] in that order. Each may begin by `Bearer`
/// and blanks, in any case; one that holds nothing more is as absent. No other scheme is known: `Basic …` is
/// a secret that fits no key.
#[must_use]
pub fn shown(values: [Option<&[u8]>; HEADERS.len()]) -> Option<&[u8]> {
    values.into_iter().flatten().map(bare).find(|secret| !secret.is_empty())
}

fn bare(value: &[u8]) -> &[u8] {
    const SCHEME: &[u8] = b"bearer";
    let value = trimmed(value);
    let Some((start, rest)) = value.split_at_checked(SCHEME.len()) else { return value };
    let ends = rest.first().is_none_or(|&byte| blank(byte));
    if ends && start.eq_ignore_ascii_case(SCHEME) { trimmed(rest) } else { value }
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && blank(*first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && blank(*last)
    {
        value = rest;
    }
    value
}

/// Blanks around a field's value (RFC 9110 section 5.6.3).
fn blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

impl fmt::Debug for Keyring {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Keyring").field(&self.callers).finish()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Caller").field("name", &self.name).field("slot", &self.slot).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
