//! Which pages of browsers may read our answers (Fetch standard, section 3.2): lines made once, sent as they are.

use std::rc::Rc;

use crate::config::edge;

/// The answers' lines by origin.
pub struct Cors {
    any: Option<Rc<str>>,
    listed: Vec<(String, Rc<str>)>,
    others: Option<Rc<str>>,
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
            others: (!cors.origins.is_empty()).then(|| "vary: Origin\r\n".into()),
        }
    }

    /// The lines for a page of `origin`.
    #[must_use]
    pub fn of(&self, origin: &[u8]) -> Option<Rc<str>> {
        if self.any.is_some() {
            return self.any.clone();
        }
        let listed = self.listed.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(origin));
        listed.map(|(_, lines)| Rc::clone(lines)).or_else(|| self.others.clone())
    }

    /// The lines for a client that is no page: where answers differ by origin, caches must hear of it
    /// (Fetch standard, section 3.2.5).
    #[must_use]
    pub fn of_no_page(&self) -> Option<Rc<str>> {
        self.others.clone().filter(|_| self.any.is_none())
    }

    /// Whether a page of `origin` may read answers.
    #[must_use]
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.any.is_some()
            || self.listed.iter().any(|(known, _)| known.as_bytes().eq_ignore_ascii_case(origin))
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
        let allows = |cors: &Cors, origin: &str| {
            let told = cors.of(origin.as_bytes()).is_some_and(|lines| lines.contains("allow-origin"));
            assert_eq!(told, cors.allows(origin.as_bytes()), "{origin}");
            told
        };
        assert!(allows(&cors(&["*"], false), "https://a.example"));
        let one = cors(&["https://a.example"], true);
        assert!(allows(&one, "https://A.example") && !allows(&one, "https://b.example"));
        assert!(!allows(&one, "null") && !allows(&one, "https://a.example.evil"));
        assert!(one.of(b"https://a.example").unwrap().contains("credentials: true"));
        assert!(cors(&[], false).of(b"https://a.example").is_none());
        assert_eq!(one.of_no_page().as_deref(), Some("vary: Origin\r\n"));
        assert!(cors(&["*"], false).of_no_page().is_none());
    }
}
