//! What makes two requests equal: everything that can change the answer.
//!
//! SHA-256 over parts, each with its length before it, so that no two lists of parts have one form. The tenant stands
//! first: whoever may not share answers has other keys, whatever else is equal.

use std::fmt;

use sha2::{Digest, Sha256};

/// Grows with every change of what keys are made of, or of how answers are kept.
const FORM: &[u8] = b"corelane-cache-1";

/// Stands for a request and all that are equal to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whose answers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenant<'a> {
    /// Everybody's: nobody shows a key, or all keys share.
    Everyone,
    /// Those of a group of keys.
    Group(&'a str),
    /// One key's, by its name and its secret's sum: another key of the same name is another one.
    Caller(&'a str, &'a [u8; 32]),
}

/// What a key is made of.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// Whose answers they are.
    pub tenant: Tenant<'a>,
    /// The caller's own division.
    pub namespace: &'a str,
    /// Task and dialect.
    pub task: &'a str,
    /// The model that serves.
    pub model: &'a str,
    /// What endpoints are asked for, each name once, sorted.
    pub upstream: &'a [&'a str],
    /// The guard's settings as they are.
    pub guard: &'a [u8; 32],
    /// What the configuration adds to answers.
    pub manner: &'a [u8],
    /// Fields of the head that endpoints see.
    pub fields: &'a [&'a [u8]],
    /// The body's sum.
    pub body: &'a [u8; 32],
}

impl Parts<'_> {
    /// The key.
    #[must_use]
    pub fn key(&self) -> Key {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(FORM);
        match self.tenant {
            Tenant::Everyone => add(b"everyone"),
            Tenant::Group(name) => [b"group", name.as_bytes()].into_iter().for_each(&mut add),
            Tenant::Caller(name, sum) => [b"caller", name.as_bytes(), sum].into_iter().for_each(&mut add),
        }
        for part in [self.namespace.as_bytes(), self.task.as_bytes(), self.model.as_bytes()] {
            add(part);
        }
        add(&(self.upstream.len() as u64).to_le_bytes());
        self.upstream.iter().for_each(|name| add(name.as_bytes()));
        add(self.guard);
        add(self.manner);
        self.fields.iter().for_each(|field| add(field));
        add(self.body);
        Key(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        let base = Parts {
            tenant: Tenant::Caller("a", &[1; 32]),
            namespace: "",
            task: "chat",
            model: "m",
            upstream: &["u"],
            guard: &[0; 32],
            manner: b"",
            fields: &[b"", b""],
            body: &[2; 32],
        };
        let with = |change: &dyn Fn(&mut Parts<'_>)| {
            let mut parts = base.clone();
            change(&mut parts);
            parts.key()
        };
        let keys = [
            base.key(),
            with(&|parts| parts.tenant = Tenant::Everyone),
            with(&|parts| parts.tenant = Tenant::Group("a")),
            with(&|parts| parts.tenant = Tenant::Group("b")),
            with(&|parts| parts.tenant = Tenant::Caller("b", &[1; 32])),
            with(&|parts| parts.tenant = Tenant::Caller("a", &[3; 32])),
            with(&|parts| parts.namespace = "n"),
            with(&|parts| parts.task = "messages"),
            with(&|parts| parts.model = "n"),
            with(&|parts| parts.upstream = &["u", "v"]),
            with(&|parts| parts.upstream = &[]),
            with(&|parts| parts.guard = &[1; 32]),
            with(&|parts| parts.manner = b"cost"),
            with(&|parts| parts.fields = &[b"1", b""]),
            with(&|parts| parts.fields = &[b"", b"1"]),
            with(&|parts| parts.body = &[3; 32]),
        ];
        let mut distinct = keys.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(base.key(), base.clone().key());
        assert_eq!(base.key().to_string().len(), 64);
    }
}
