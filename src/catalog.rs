//! Which endpoints serve which model: an immutable snapshot, rebuilt by the control core when probes find other
//! models, and read by shards through one generation check.
//!
//! Names: an exact name wins, then the longest wildcard; `:latest` and the case of letters do not matter, and a
//! name is found with and without the `ollama/` prefix. A model without listed endpoints is served by every
//! endpoint whose probe has named it; endpoints that have not been probed yet count as having everything.

pub mod pick;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;

use crate::api::Task;
use crate::balance::weighted;
use crate::breaker::Breaker;
use crate::config::prices::Prices;
use crate::config::{self, Config, Strategy, normalized};
use crate::queue::Flow;
use crate::registry::EndpointState;
use crate::telemetry::metric::Slots;

/// The endpoints of the process, in the order of the configuration.
pub type Registry = [Arc<EndpointState>];

/// One public model and the endpoints that serve it.
#[derive(Debug)]
pub struct Deployment {
    /// The name clients know.
    pub name: String,
    /// Where its metrics are kept.
    pub slot: usize,
    /// Who may serve it.
    pub candidates: Vec<Candidate>,
    /// What its tokens cost.
    pub price: config::Price,
    /// Which profile of the guard applies; `None`: none.
    pub guard: Option<usize>,
    /// Limits of its exchanges.
    pub timeouts: config::Timeouts,
    /// Models that are asked when this one has failed.
    pub fallbacks: Vec<String>,
    /// Models that are asked when the request is too long for this one.
    pub context_window_fallbacks: Vec<String>,
    /// Whether its answers may be given again.
    pub cache: bool,
    strategy: Strategy,
    turns: Vec<u16>,
    cursor: Arc<CachePadded<AtomicUsize>>,
    /// Who waits for its endpoints.
    pub waiting: Arc<Flow>,
}

/// One endpoint under the name it knows the model by.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Index into the registry.
    pub endpoint: usize,
    /// What the endpoint is asked for.
    pub upstream_model: String,
    /// Stable over restarts: a hash of endpoint and model.
    pub id: String,
    /// Ready header lines that name the endpoint.
    pub headers: Arc<[u8]>,
    /// Whether the endpoint gets requests for this model.
    pub breaker: Arc<Breaker>,
}

/// The snapshot.
#[derive(Debug, Default)]
pub struct Catalog {
    exact: HashMap<String, Arc<Deployment>>,
    wildcards: Vec<Wildcard>,
    /// Models to list, in the order of the configuration.
    pub listed: Vec<Arc<Deployment>>,
    prices: Arc<Prices>,
}

#[derive(Debug)]
struct Wildcard {
    /// Before the star.
    prefix: String,
    rule: config::Model,
    slot: usize,
    guessed: Arc<Guessed>,
}

/// What is kept of models that a wildcard covers and nobody has listed.
#[derive(Debug, Default)]
struct Guessed {
    cursor: Arc<CachePadded<AtomicUsize>>,
    waiting: Arc<Flow>,
    /// By the candidate's id, at most [`GUESSED_MAX`].
    breakers: ArcSwap<HashMap<String, Arc<Breaker>>>,
}

/// Breakers of models that nobody has listed; more have none that lasts.
const GUESSED_MAX: usize = 256;

impl Guessed {
    /// The breaker of a candidate; a new one is remembered if it is to be `kept`.
    fn breaker(&self, id: &str, kept: bool) -> Arc<Breaker> {
        if let Some(known) = self.breakers.load().get(id) {
            return Arc::clone(known);
        }
        let fresh: Arc<Breaker> = Arc::default();
        if !kept {
            return fresh;
        }
        self.breakers.rcu(|all| {
            let mut all = HashMap::clone(all);
            if all.len() < GUESSED_MAX {
                all.entry(id.to_owned()).or_insert_with(|| Arc::clone(&fresh));
            }
            all
        });
        self.breakers.load().get(id).map_or(fresh, Arc::clone)
    }
}

impl Catalog {
    /// Builds the snapshot from the configuration and what probes have found; turns go on where `old` was.
    #[must_use]
    pub fn build(config: &Config, registry: &Registry, slots: &Slots, old: &Self) -> Self {
        let mut catalog = Self { prices: Arc::clone(&config.usage.prices), ..Self::default() };
        for rule in config.models.iter().filter(|rule| !rule.name.ends_with('*')) {
            let candidates = scope(rule, registry)
                .filter(|&at| !rule.endpoints.is_empty() || may_have(&registry[at], &rule.upstream_model))
                .map(|at| (at, rule.upstream_model.clone()));
            catalog.add(&rule.name, rule, candidates.collect(), (registry, slots), old);
        }
        let mut rules: Vec<_> = config.models.iter().filter(|rule| rule.name.ends_with('*')).collect();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.name.len()));
        for rule in rules {
            for (name, candidates) in discovered(rule, registry) {
                if !catalog.exact.contains_key(&normalized(&name)) {
                    catalog.add(&name, rule, candidates, (registry, slots), old);
                }
            }
            let known = old.wildcards.iter().find(|known| known.rule.name == rule.name);
            catalog.wildcards.push(Wildcard {
                guessed: known.map(|known| Arc::clone(&known.guessed)).unwrap_or_default(),
                prefix: rule.name.trim_end_matches('*').to_owned(),
                rule: rule.clone(),
                slot: slots.of(&rule.name),
            });
        }
        catalog
    }

    /// The deployment that serves `model`.
    #[must_use]
    pub fn find(&self, model: &str, registry: &Registry) -> Option<Arc<Deployment>> {
        self.found(model, registry, true)
    }

    /// As [`Self::find`], and nothing is remembered of a model that nobody has listed.
    #[must_use]
    pub fn peek(&self, model: &str, registry: &Registry) -> Option<Arc<Deployment>> {
        self.found(model, registry, false)
    }

    fn found(&self, model: &str, registry: &Registry, kept: bool) -> Option<Arc<Deployment>> {
        if let Some(found) = self.exact.get(model) {
            return Some(Arc::clone(found));
        }
        let name = normalized(model);
        let bare = name.strip_prefix("ollama/");
        let with = format!("ollama/{name}");
        [Some(name.as_str()), bare, Some(&with)]
            .into_iter()
            .flatten()
            .find_map(|name| self.exact.get(name).map(Arc::clone))
            .or_else(|| {
                [Some(model), bare, Some(&with)]
                    .into_iter()
                    .flatten()
                    .find_map(|name| self.guess(name, registry, kept))
            })
    }

    /// A model that a wildcard covers and that this catalog does not list yet.
    fn guess(&self, model: &str, registry: &Registry, kept: bool) -> Option<Arc<Deployment>> {
        let wildcard = self.wildcards.iter().find(|wildcard| model.starts_with(&wildcard.prefix))?;
        let rest = &model[wildcard.prefix.len()..];
        // A bare star covers prefixed names too; the prefix says where to look, it is no part of the name.
        let rest = rest.strip_prefix("ollama/").unwrap_or(rest);
        let upstream_model = substitute(&wildcard.rule.upstream_model, rest);
        let unknown: Vec<_> = scope(&wildcard.rule, registry)
            // A probe that has just come back is not in this catalog yet.
            .filter(|&at| may_have(&registry[at], &upstream_model))
            .map(|at| (at, upstream_model.clone()))
            .collect();
        if unknown.is_empty() || rest.is_empty() {
            return None;
        }
        let mut found = Deployment::new(model, wildcard.slot, &wildcard.rule, unknown, registry, None);
        found.price = self.price(&wildcard.rule, &found);
        found.cursor = Arc::clone(&wildcard.guessed.cursor);
        found.waiting = Arc::clone(&wildcard.guessed.waiting);
        for candidate in &mut found.candidates {
            candidate.breaker = wildcard.guessed.breaker(&candidate.id, kept);
        }
        Some(Arc::new(found))
    }

    /// Lists a deployment; what it shares with the one of that name in `old` goes on.
    fn add(
        &mut self,
        name: &str,
        rule: &config::Model,
        candidates: Vec<(usize, String)>,
        (registry, slots): (&Registry, &Slots),
        old: &Self,
    ) {
        let old = old.exact.get(name).map(AsRef::as_ref);
        let mut deployment = Deployment::new(name, slots.of(name), rule, candidates, registry, old);
        deployment.price = self.price(rule, &deployment);
        let deployment = Arc::new(deployment);
        self.exact.insert(normalized(&deployment.name), Arc::clone(&deployment));
        self.exact.insert(deployment.name.clone(), Arc::clone(&deployment));
        self.listed.push(deployment);
    }

    /// What the rule says its tokens cost, else the price list: by the endpoint's name for the model, then by ours.
    fn price(&self, rule: &config::Model, deployment: &Deployment) -> config::Price {
        let upstream = deployment.candidates.first().map_or("", |candidate| &candidate.upstream_model);
        rule.price.or_else(|| self.prices.of(&[upstream, &deployment.name])).unwrap_or_default()
    }
}

/// Endpoints a rule may use.
fn scope<'a>(rule: &'a config::Model, registry: &Registry) -> impl Iterator<Item = usize> + 'a {
    let all = if rule.endpoints.is_empty() { registry.len() } else { 0 };
    rule.endpoints.iter().copied().chain(0..all)
}

fn may_have(endpoint: &EndpointState, model: &str) -> bool {
    endpoint.facts().is_none_or(|facts| facts.models.iter().any(|has| normalized(has) == normalized(model)))
}

/// Models of endpoints that a wildcard rule covers, by public name.
fn discovered(rule: &config::Model, registry: &Registry) -> Vec<(String, Vec<(usize, String)>)> {
    let upstream_prefix = rule.upstream_model.trim_end_matches('*');
    let mut found: Vec<(String, Vec<(usize, String)>)> = Vec::new();
    for at in scope(rule, registry) {
        let Some(facts) = registry[at].facts() else { continue };
        for model in &facts.models {
            let Some(rest) = model.strip_prefix(upstream_prefix) else { continue };
            let name = substitute(&rule.name, rest);
            match found.iter_mut().find(|(known, _)| normalized(known) == normalized(&name)) {
                Some((_, candidates)) => candidates.push((at, model.clone())),
                None => found.push((name, vec![(at, model.clone())])),
            }
        }
    }
    found
}

fn substitute(pattern: &str, rest: &str) -> String {
    pattern.strip_suffix('*').map_or_else(|| pattern.to_owned(), |prefix| format!("{prefix}{rest}"))
}

impl Deployment {
    fn new(
        name: &str,
        slot: usize,
        rule: &config::Model,
        candidates: Vec<(usize, String)>,
        registry: &Registry,
        old: Option<&Self>,
    ) -> Self {
        let weight = |at: usize| {
            let index = if rule.endpoints.is_empty() {
                Some(at)
            } else {
                rule.endpoints.iter().position(|&e| e == at)
            };
            index.and_then(|index| rule.weights.get(index)).copied().unwrap_or(1)
        };
        let turns = weighted::turns(&candidates.iter().map(|(at, _)| weight(*at)).collect::<Vec<_>>());
        let candidate = |(at, model): (usize, String)| {
            let mut candidate = Candidate::new(at, model, &registry[at]);
            let known = old.and_then(|old| old.candidates.iter().find(|known| known.id == candidate.id));
            if let Some(known) = known {
                candidate.breaker = Arc::clone(&known.breaker);
            }
            candidate
        };
        let candidates = candidates.into_iter().map(candidate).collect();
        Self {
            name: name.to_owned(),
            slot,
            candidates,
            price: rule.price.unwrap_or_default(),
            guard: rule.guard,
            cache: rule.cache,
            strategy: rule.strategy,
            turns,
            cursor: old.map(|old| Arc::clone(&old.cursor)).unwrap_or_default(),
            waiting: old.map(|old| Arc::clone(&old.waiting)).unwrap_or_default(),
            timeouts: rule.timeouts.clone(),
            fallbacks: rule.fallbacks.clone(),
            context_window_fallbacks: rule.context_window_fallbacks.clone(),
        }
    }

    /// Models to ask when it has failed; `first`: it is the one that was asked for.
    #[must_use]
    pub fn fallbacks_of<'a>(
        &'a self,
        first: bool,
        settings: &'a config::reliability::Fallbacks,
    ) -> &'a Vec<String> {
        if self.fallbacks.is_empty() && first { &settings.default } else { &self.fallbacks }
    }

    /// Whether another model may be asked in its place.
    #[must_use]
    pub fn has_fallbacks(&self, settings: &config::reliability::Fallbacks) -> bool {
        settings.models_max > 0 && !(self.fallbacks.is_empty() && settings.default.is_empty())
    }

    /// Whether any candidate's kind has the path of `task`.
    #[must_use]
    pub fn serves(&self, registry: &Registry, task: Task) -> bool {
        self.candidates.iter().any(|candidate| task.served_by(registry[candidate.endpoint].config.kind))
    }
}

impl Candidate {
    fn new(endpoint: usize, upstream_model: String, state: &EndpointState) -> Self {
        let base = state.base();
        let id = format!(
            "{:016x}",
            fnv1a(&[state.config.name.as_bytes(), base.as_bytes(), upstream_model.as_bytes()])
        );
        let headers = format!(
            "x-corelane-endpoint: {}\r\nx-litellm-model-id: {id}\r\nx-litellm-model-api-base: {base}\r\n",
            state.config.name
        );
        let headers = headers.into_bytes().into();
        Self { endpoint, upstream_model, id, headers, breaker: Arc::default() }
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo), over parts with a separator: an identifier, not a defence.
fn fnv1a(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().copied().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Bell;
    use crate::registry::Facts;

    fn world(toml: &str) -> (Config, Vec<Arc<EndpointState>>) {
        let config = config::parse(toml).unwrap();
        let bells: Arc<[Bell]> = Arc::new([Bell::default()]);
        let registry = config
            .endpoints
            .iter()
            .map(|one| Arc::new(EndpointState::new(one.clone(), 0, None, &bells)))
            .collect();
        (config, registry)
    }

    fn has(endpoint: &EndpointState, models: &[&str]) {
        let models = models.iter().map(|&model| model.to_owned()).collect();
        endpoint.set_facts(Facts { models, ..Facts::default() });
    }

    const TWO: &str =
        "[[endpoints]]\nname='a'\nurl='http://h:1'\n[[endpoints]]\nname='b'\nurl='http://h:2'\n";

    #[test]
    fn names_with_and_without_prefix_and_tag() {
        let (config, registry) =
            world(&format!("{TWO}[[models]]\nname='ollama/llama3.2'\nendpoints=['b']\n"));
        let catalog = Catalog::build(&config, &registry, &Slots::new(16), &Catalog::default());
        for name in ["ollama/llama3.2", "llama3.2", "Llama3.2:latest", "ollama/LLAMA3.2"] {
            let found = catalog.find(name, &registry).unwrap();
            assert_eq!(found.candidates[0].upstream_model, "llama3.2");
            assert_eq!(found.candidates[0].endpoint, 1);
        }
        assert!(catalog.find("llama3", &registry).is_none());
    }

    #[test]
    fn wildcards_follow_the_probes() {
        let (config, registry) = world(&format!("{TWO}[[models]]\nname='ollama/*'\n"));
        let build = || Catalog::build(&config, &registry, &Slots::new(16), &Catalog::default());
        let guessed = build().find("ollama/any", &registry).unwrap();
        assert_eq!(guessed.candidates.len(), 2, "nothing is known yet: both may have it");
        has(&registry[0], &["llama3.2:latest", "x"]);
        has(&registry[1], &["llama3.2"]);
        let catalog = build();
        assert!(catalog.find("ollama/any", &registry).is_none());
        assert_eq!(catalog.find("llama3.2", &registry).unwrap().candidates.len(), 2);
        assert_eq!(catalog.find("x", &registry).unwrap().candidates.len(), 1);
        let listed: Vec<_> = catalog.listed.iter().map(|deployment| deployment.name.as_str()).collect();
        assert_eq!(listed, ["ollama/llama3.2:latest", "ollama/x"]);
    }
}
