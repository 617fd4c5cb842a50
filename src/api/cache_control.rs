//! What a request says of caches: by `Cache-Control` (RFC 9111 section 5.2.1), or by LiteLLM's `cache` object in the body.
//! The body's word counts where both speak of the same thing.

use simd_json::{Node, StaticNode};

use crate::wire::http1::field;

/// Longest `namespace`.
const NAMESPACE_MAX: usize = 256;

/// The wishes of one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheControl {
    /// No stored answer may be given.
    pub no_cache: bool,
    /// The answer may not be stored.
    pub no_store: bool,
    /// Only a stored answer may be given.
    pub only_if_cached: bool,
    /// Whether a cache is to be used at all, where the request says so.
    pub use_cache: Option<bool>,
    /// Seconds that the answer may be stored.
    pub ttl_s: Option<u64>,
    /// Age in seconds that a stored answer may have.
    pub age_max_s: Option<u64>,
    /// Requests of other namespaces have other answers.
    pub namespace: Option<String>,
}

impl CacheControl {
    /// Takes what a header says, as far as nothing is said yet; directives that are unknown mean nothing here.
    pub fn read_header(&mut self, value: &[u8]) {
        for directive in field::list(value) {
            let mut parts = directive.splitn(2, |&byte| byte == b'=');
            let name = parts.next().unwrap_or_default().trim_ascii_end();
            let seconds = parts.next().map(|value| {
                let bare = value.trim_ascii();
                let bare = bare.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(bare);
                // What cannot be read is no age that anything may have (RFC 9111 section 4.2.1).
                field::length(bare).unwrap_or(0)
            });
            match name.to_ascii_lowercase().as_slice() {
                b"no-cache" => self.no_cache = true,
                b"no-store" => self.no_store = true,
                b"only-if-cached" => self.only_if_cached = true,
                b"max-age" | b"s-maxage" => self.age_max_s = self.age_max_s.or(seconds),
                _ => {}
            }
        }
    }

    /// Takes one member of the `cache` object.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(&mut self, key: &str, value: &Node<'_>) -> Result<(), &'static str> {
        let flag = || match value {
            Node::Static(StaticNode::Bool(flag)) => Ok(*flag),
            _ => Err("has a member that must be a boolean"),
        };
        let seconds = || match value {
            Node::Static(StaticNode::U64(seconds)) => Ok(Some(*seconds)),
            Node::Static(StaticNode::F64(seconds)) if *seconds >= 0.0 && *seconds < 1e15 => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it was looked at"
                )]
                let whole = *seconds as u64;
                Ok(Some(whole))
            }
            Node::Static(StaticNode::Null) => Ok(None),
            _ => Err("has a member that must be a number of seconds"),
        };
        match key {
            "no-cache" => self.no_cache = flag()?,
            "no-store" => self.no_store = flag()?,
            "use-cache" => self.use_cache = Some(flag()?),
            "ttl" => self.ttl_s = seconds()?,
            "s-maxage" | "s-max-age" => self.age_max_s = seconds()?,
            "namespace" => match value {
                Node::String(text) if text.len() <= NAMESPACE_MAX => {
                    self.namespace = Some((*text).to_owned())
                }
                _ => return Err("has a namespace that is no string of at most 256 bytes"),
            },
            _ => {
                return Err(
                    "has a member that is not no-cache, no-store, use-cache, ttl, s-maxage or namespace",
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_as_rfc_9111_has_them() {
        let read = |value: &str| {
            let mut control = CacheControl::default();
            control.read_header(value.as_bytes());
            control
        };
        let none = CacheControl::default();
        assert_eq!(read(""), none);
        assert_eq!(read("max-stale=5, no-transform, private=\"a\""), none);
        assert_eq!(
            read("No-Cache ,no-store"),
            CacheControl { no_cache: true, no_store: true, ..none.clone() }
        );
        assert_eq!(read("only-if-cached"), CacheControl { only_if_cached: true, ..none.clone() });
        for (value, age) in [("max-age=60", 60), ("s-maxage = \"7\"", 7), ("max-age=x", 0), ("max-age=", 0)] {
            assert_eq!(read(value), CacheControl { age_max_s: Some(age), ..none.clone() }, "{value}");
        }
    }
}
