//! Which pages of browsers may read our answers (Fetch standard, section 3.2): lines made once, sent as they are.

use std::sync::Arc;

use crate::config::edge;

/// The answers' lines by origin.
pub struct Cors {
    any: Option<Arc<str>>,
    listed: Vec<(String, Arc<str>)>,
    others: Arc<str>,
}

/// What pages may read beside the fields that every page may; a star does not count where credentials are sent.
const EXPOSED: &str = "x-request-id, x-corelane-endpoint, x-corelane-attempts, retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests";

impl Cors {
    /// For the origins of the configuration.
    #[must_use]
    pub fn new(cors: &edge::Cors) -> Self {
        let (credentials, exposed) = if cors.credentials {
            ("access-control-allow-credentials: true\r\n", EXPOSED)
        } else {
            ("", "*")
        };
        let lines = |origin: &str| {
            format!(
                "access-control-allow-origin: {origin}\r\n{credentials}access-control-expose-headers: {exposed}\r\nvary: Origin\r\n"
            )
        };
        let any = cors.origins.iter().any(|origin| origin == "*");
        Self {
            any: any.then(|| lines("*").into()),
            listed: cors.origins.iter().map(|origin| (origin.clone(), lines(origin).into())).collect(),
            others: if cors.origins.is_empty() { "" } else { "vary: Origin\r\n" }.into(),
        }
    }

    /// The lines for a page of `origin`.
    #[must_use]
    pub fn of(&self, origin: &[u8]) -> Arc<str> {
        if let Some(any) = &self.any {
            return Arc::clone(any);
        }
        let listed = self.listed.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(origin));
        Arc::clone(listed.map_or(&self.others, |(_, lines)| lines))
    }

    /// What a preflight is told without an origin.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.any.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn pages_of_other_origins_are_told_nothing() {
        let cors = |origins: &[&str], credentials| {
            let origins = origins.iter().map(ToString::to_string).collect();
            Cors::new(&edge::Cors { origins, credentials, max_age: Duration::ZERO })
        };
        let allows = |cors: &Cors, origin: &str| cors.of(origin.as_bytes()).contains("allow-origin");
        assert!(allows(&cors(&["*"], false), "https://a.example"));
        let one = cors(&["https://a.example"], true);
        assert!(allows(&one, "https://A.example") && !allows(&one, "https://b.example"));
        assert!(!allows(&one, "null") && !allows(&one, "https://a.example.evil"));
        assert!(one.of(b"https://a.example").contains("credentials: true"));
        assert_eq!(&*cors(&[], false).of(b"https://a.example"), "");
    }
}
