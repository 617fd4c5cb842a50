//! What attempts say of their endpoints, told to the breakers.

use super::Shard;
use crate::api::{Failure, FailureKind};
use crate::breaker::{Reason, Rules};
use crate::catalog::Candidate;
use crate::config::{self, Level};
use crate::net::clock;
use crate::registry::EndpointState;
use crate::retry::{Blame, blame};

/// The settings as breakers read them.
#[must_use]
pub fn rules(breaker: &config::reliability::Breaker) -> Rules {
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Rules {
        enabled: breaker.enabled,
        failures: breaker.failures,
        share_percent: breaker.share_percent,
        requests_min: breaker.requests_min,
        window_ms: ms(breaker.window),
        open_ms: ms(breaker.open),
        open_max_ms: ms(breaker.open_max),
    }
}

impl Shard {
    /// There is content: the endpoint serves, and it serves this model.
    pub fn served_well(&self, candidate: &Candidate, is_stream: bool) {
        let now_ms = self.clock.here_ms();
        let endpoint = &self.world.registry[candidate.endpoint];
        endpoint.served(now_ms);
        if is_stream {
            endpoint.breaker().begun()
        } else {
            endpoint.breaker().success(now_ms)
        }
        candidate.breaker.success(now_ms);
    }

    /// A stream has come to its end.
    pub fn ended_well(&self, endpoint: usize) {
        if let Some(endpoint) = self.world.registry.get(endpoint) {
            endpoint.breaker().success(clock::now_ms());
        }
    }

    /// An attempt has failed.
    pub fn served_badly(&self, candidate: &Candidate, failure: &Failure) {
        let endpoint = &self.world.registry[candidate.endpoint];
        let now_ms = clock::now_ms();
        let settings = &self.world.config.breaker;
        match blame(failure) {
            // It refuses this request: it is there, and knows the model as far as anybody can tell.
            Blame::Nobody if failure.kind == FailureKind::UpstreamStatus => {
                endpoint.breaker().success(now_ms);
                candidate.breaker.success(now_ms);
            }
            Blame::Nobody => {}
            Blame::Endpoint(reason) => self.blame_endpoint(endpoint, reason, failure),
            Blame::Model(Reason::Missing, _) => {
                endpoint.breaker().success(now_ms);
                let for_ms = u64::try_from(settings.missing.as_millis()).unwrap_or(u64::MAX);
                let opened = for_ms > 0 && candidate.breaker.open_for(now_ms, for_ms, Reason::Missing);
                self.tell(opened, endpoint, &candidate.upstream_model, Reason::Missing);
            }
            Blame::Model(reason, asked_ms) => {
                endpoint.breaker().success(now_ms);
                let most_ms = u64::try_from(settings.retry_after_max.as_millis()).unwrap_or(u64::MAX);
                let opened = match asked_ms.map(|asked_ms| asked_ms.min(most_ms)) {
                    Some(for_ms) if for_ms > 0 => candidate.breaker.open_for(now_ms, for_ms, reason),
                    _ => candidate.breaker.failure(now_ms, reason, &self.rules),
                };
                self.tell(opened, endpoint, &candidate.upstream_model, reason);
            }
        }
    }

    /// It would not serve, for want of a right (401, 403), what another one served then: the fault is not the client's.
    pub fn denied(&self, candidate: &Candidate) {
        let for_ms = u64::try_from(self.world.config.breaker.missing.as_millis()).unwrap_or(u64::MAX);
        let opened = for_ms > 0 && candidate.breaker.open_for(clock::now_ms(), for_ms, Reason::Missing);
        let endpoint = &self.world.registry[candidate.endpoint];
        self.tell(opened, endpoint, &candidate.upstream_model, Reason::Missing);
    }

    /// An answer has broken that had begun.
    pub fn broke_off(&self, endpoint: usize, failure: &Failure) {
        if let (Some(endpoint), Blame::Endpoint(reason)) = (self.world.registry.get(endpoint), blame(failure))
        {
            self.blame_endpoint(endpoint, reason, failure);
        }
    }

    fn blame_endpoint(&self, endpoint: &EndpointState, reason: Reason, failure: &Failure) {
        let opened = endpoint.breaker().failure(clock::now_ms(), reason, &self.rules);
        if opened {
            endpoint.breaker_opened();
            // An endpoint's words may repeat the request: they are for who asked, not for pages and logs.
            endpoint.set_last_error(Some(match failure.kind {
                FailureKind::UpstreamStatus => format!("answered {}", failure.status),
                _ => failure.message.clone(),
            }));
        }
        self.tell(opened, endpoint, "", reason);
    }

    fn tell(&self, opened: bool, endpoint: &EndpointState, model: &str, reason: Reason) {
        if opened {
            let (name, reason) = (&endpoint.config.name, reason.name());
            let of = if model.is_empty() { String::new() } else { format!(" for model {model}") };
            self.process.log.write(Level::Warn, format_args!("endpoint {name} rests{of}: {reason}"));
        }
    }
}
