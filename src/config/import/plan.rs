//! What the files ask for, gathered before it is written: endpoints by their address, and facts that several readers share.

use std::collections::HashMap;
use std::time::Duration;

use super::field::Secret;
use super::report::Origin;
use super::toml::{Doc, from};
use crate::config::render::{KINDS, quoted};
use crate::config::{Kind, Url};

/// Endpoints that a gateway may have.
const ENDPOINTS_MAX: usize = 1000;

/// Everything so far.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) doc: Doc,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) edge: Edge,
}

/// What nginx says that the reader of LiteLLM's file has to know.
#[derive(Default)]
pub(super) struct Edge {
    /// There is such a file.
    pub(super) present: bool,
    /// It says where clients connect.
    pub(super) listens: bool,
    /// It says where metrics are asked for.
    pub(super) admin: Option<Origin>,
    /// Longest silence that it bears of what is behind it; where that stands, if it is not its default.
    pub(super) read_timeout: Option<(Duration, Option<Origin>)>,
    /// It says whether requests are logged.
    pub(super) access: bool,
}

/// A server behind the gateway.
pub(super) struct Endpoint {
    pub(super) url: Url,
    pub(super) kind: Kind,
    pub(super) key: Option<Secret>,
    pub(super) origin: Origin,
    pub(super) weight: u32,
    /// Requests at once; 0: as many as come.
    pub(super) slots: u64,
    name: String,
}

impl Plan {
    /// The endpoint at this address, new if there is none; `None`: there are too many.
    pub(super) fn endpoint(
        &mut self,
        url: Url,
        kind: Kind,
        key: Option<Secret>,
        origin: Origin,
    ) -> Option<usize> {
        let same = |known: &Endpoint| known.url == url && known.kind == kind && known.key == key;
        let known = self.endpoints.iter().position(same);
        if known.is_some() || self.endpoints.len() >= ENDPOINTS_MAX {
            return known;
        }
        self.endpoints.push(Endpoint { url, kind, key, origin, weight: 1, slots: 0, name: String::new() });
        Some(self.endpoints.len() - 1)
    }

    /// Gives every endpoint its name: the host, with the port where there are several, with a number where that is
    /// not enough.
    pub(super) fn name_endpoints(&mut self) {
        let mut hosts: HashMap<String, usize> = HashMap::new();
        for endpoint in &self.endpoints {
            *hosts.entry(host_name(&endpoint.url)).or_default() += 1;
        }
        let mut taken: HashMap<String, usize> = HashMap::new();
        for endpoint in &mut self.endpoints {
            let host = host_name(&endpoint.url);
            let alone = hosts.get(&host).is_some_and(|&count| count == 1);
            let base = if alone { host } else { format!("{host}:{}", endpoint.url.port) };
            let count = taken.entry(base.clone()).or_default();
            *count += 1;
            endpoint.name = if *count == 1 { base } else { format!("{base}-{count}") };
        }
    }

    /// The name of an endpoint.
    pub(super) fn name_of(&self, index: usize) -> &str {
        self.endpoints.get(index).map_or("", |endpoint| &endpoint.name)
    }

    /// Writes the endpoints.
    pub(super) fn write_endpoints(&mut self) {
        for endpoint in &self.endpoints {
            let section = self.doc.push("[[endpoints]]");
            section.text("name", &endpoint.name, "");
            section.text("url", &endpoint.url, from(&endpoint.origin));
            let kind = KINDS.iter().find(|(_, kind)| *kind == endpoint.kind).map_or("", |(word, _)| *word);
            section.text("kind", kind, "");
            if let Some(key) = &endpoint.key {
                section.set("api_key", key.toml(), format!("{}{}", from(&endpoint.origin), key.note()));
            }
            if endpoint.weight != 1 {
                section.set("weight", endpoint.weight, "");
            }
            if endpoint.slots > 0 {
                section.set("slots", endpoint.slots, "requests at once; more wait");
            }
        }
    }
}

/// The host as a name of an endpoint may be: its first 48 characters, with a letter or digit at the front.
fn host_name(url: &Url) -> String {
    let host: String = url.host.chars().take(48).map(|c| if c == '_' { '-' } else { c }).collect();
    if host.starts_with(|first: char| first.is_ascii_alphanumeric()) { host } else { format!("ip{host}") }
}

/// A table of weights as TOML writes it inside of a line.
pub(super) fn weights(pairs: &[(String, u64)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, weight)| format!("{} = {weight}", quoted(name))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_named_by_their_host_and_told_apart() {
        let mut plan = Plan::default();
        let origin = Origin { file: "f".into(), line: 1 };
        let mut add = |url: &str, key: Option<&str>| {
            let key = key.map(|key| Secret::Literal(key.to_owned()));
            plan.endpoint(Url::parse(url).ok().unwrap(), Kind::Ollama, key, origin.clone()).unwrap()
        };
        assert_eq!(add("http://a:1", None), 0);
        assert_eq!(add("http://b:1", None), 1);
        assert_eq!(add("http://b:2", None), 2);
        assert_eq!(add("http://b:2", Some("k")), 3);
        assert_eq!(add("http://a:1/v1", None), 0, "the same server");
        assert_eq!(add("http://[::1]:1", None), 4);
        plan.name_endpoints();
        let names: Vec<&str> = (0..5).map(|index| plan.name_of(index)).collect();
        assert_eq!(names, ["a", "b:1", "b:2", "b:2-2", "ip::1"]);
    }
}
