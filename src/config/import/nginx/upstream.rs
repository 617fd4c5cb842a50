//! `upstream`: endpoints, where no file of LiteLLM says what is behind.

use super::super::report::Origin;
use super::super::toml::from;
use super::parse::Directive;
use super::{Reader, units};
use crate::config::{Kind, Url};

/// Servers that locations may lead to.
const TARGETS_MAX: usize = 1000;

impl Reader<'_> {
    /// All upstreams; `api` is the server whose locations count.
    pub(super) fn read_upstreams(&mut self, upstreams: &[&Directive], api: Option<&Directive>) {
        if self.litellm {
            let why = "it names LiteLLM, whose place the gateway takes";
            upstreams.iter().for_each(|upstream| self.ignore_all(upstream, why));
            return;
        }
        let mut targets: Vec<String> = Vec::new();
        collect(api, &mut targets);
        for upstream in upstreams {
            let name = upstream.args.first().map_or("", String::as_str);
            if targets.iter().any(|target| host(target) == name) {
                self.read_upstream(upstream);
            } else {
                self.ignore_all(upstream, "no location of the server leads there");
            }
        }
        for target in targets {
            let named = upstreams
                .iter()
                .any(|upstream| upstream.args.first().is_some_and(|name| name == host(&target)));
            let origin = api.map(|api| api.origin.clone());
            if let (false, Some(origin)) = (named, origin) {
                self.add_endpoint(&target, origin);
            }
        }
        self.plan.name_endpoints();
        self.plan.write_endpoints();
    }

    /// A server behind, by its URL; what else stands in the URL does not count.
    fn add_endpoint(&mut self, target: &str, origin: Origin) -> Option<usize> {
        let (scheme, rest) = target.split_once("://").unwrap_or(("http", target));
        let authority = rest.split('/').next().unwrap_or_default();
        let url = Url::parse(&format!("{scheme}://{authority}")).ok()?;
        self.plan.endpoint(url, Kind::Ollama, None, origin)
    }

    fn read_upstream(&mut self, upstream: &Directive) {
        self.exact(upstream, "[[endpoints]]");
        let inside = || upstream.block.iter().flatten();
        let weighted = inside().any(|directive| directive.args.iter().any(|arg| arg.starts_with("weight=")));
        let least = inside().find(|directive| directive.name == "least_conn");
        let (strategy, origin) = match least {
            Some(directive) => ("least_busy", &directive.origin),
            None if weighted => ("weighted", &upstream.origin),
            None => ("round_robin", &upstream.origin),
        };
        self.plan.doc.section("[balance]").text("strategy", strategy, from(origin));
        for directive in inside() {
            match directive.name.as_str() {
                "server" => self.read_server(directive),
                "least_conn" => self.exact(directive, "balance.strategy = \"least_busy\""),
                "ip_hash" | "hash" | "random" | "least_time" => {
                    self.changed(directive, format!("balance.strategy = \"{strategy}\""));
                }
                _ if directive.name.starts_with("keepalive") => {
                    self.ignored(
                        directive,
                        "server.upstream_idle_max and .upstream_keep_alive have good defaults",
                    );
                }
                _ => self.ignored(directive, "the gateway has no such setting of an endpoint"),
            }
        }
    }

    /// A server of an upstream.
    fn read_server(&mut self, directive: &Directive) {
        let target = directive.args.first().map_or("", String::as_str);
        let options: Vec<&str> = directive.args.iter().skip(1).map(String::as_str).collect();
        if options.contains(&"down") {
            self.exact(directive, "it is down, and left out");
            return;
        }
        if options.contains(&"backup") {
            self.refused(directive, "endpoints of a model are equal: give it a model of its own, and let others fall back to that");
            return;
        }
        let Some(index) = self.add_endpoint(target, directive.origin.clone()) else {
            self.refused(directive, "expected a host and a port");
            return;
        };
        let value = |name: &str| options.iter().find_map(|option| option.strip_prefix(name));
        let count = |name: &str| value(name).and_then(|text| text.parse::<u32>().ok());
        if let Some(endpoint) = self.plan.endpoints.get_mut(index) {
            endpoint.weight = count("weight=").unwrap_or(1).clamp(1, 1000);
            endpoint.slots = count("max_conns=").unwrap_or_default().min(1_000_000).into();
        }
        if let Some(fails) = count("max_fails=") {
            let section = self.plan.doc.section("[breaker]");
            match fails {
                0 => section.set("enabled", false, from(&directive.origin)),
                _ => section.set("failures", fails.min(1000), from(&directive.origin)),
            }
        }
        if let Some(time) = value("fail_timeout=").and_then(units::time) {
            let open = time.clamp(std::time::Duration::from_millis(100), std::time::Duration::from_secs(600));
            self.plan.doc.section("[breaker]").time("open", open, from(&directive.origin));
        }
        self.changed(
            directive,
            "[[endpoints]] of kind ollama: write kind = \"openai\" for vLLM, llama.cpp or OpenAI",
        );
    }
}

/// Targets of `proxy_pass` in all locations of a server.
fn collect(directive: Option<&Directive>, targets: &mut Vec<String>) {
    for inside in directive.into_iter().flat_map(|directive| directive.block.iter().flatten()) {
        match inside.name.as_str() {
            "proxy_pass" => {
                let target = inside.args.first().cloned().unwrap_or_default();
                if targets.len() < TARGETS_MAX
                    && !target.contains('$')
                    && !targets.iter().any(|known| host(known) == host(&target))
                {
                    targets.push(target);
                }
            }
            "location" => collect(Some(inside), targets),
            _ => {}
        }
    }
}

/// What stands between the scheme and the path.
fn host(target: &str) -> &str {
    let (_, rest) = target.split_once("://").unwrap_or(("", target));
    rest.split('/').next().unwrap_or_default()
}
