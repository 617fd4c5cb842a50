//! The door: key, zones, counts and quota of a request, each looked at.

use serde_json::{Value, json};

use super::{Ask, Report, Stage};
use crate::api::View;
use crate::config::edge::ZoneKey;
use crate::limit::bucket::Verdict;
use crate::limit::{Asker, Rate, ZoneView};
use crate::refusal;
use crate::route::{self, NoRoute, Route};

/// Whose key is shown.
pub fn key(ask: &Ask<'_>, route: &Result<Route<'_>, NoRoute>, report: &mut Report) {
    match ask.caller {
        Ok(Some(caller)) => report.step("key", caller.name.as_str(), "the key is known", json!({})),
        Err(refused) if route::needs_key(route) => {
            report.refuse(Stage::Key, "key", refusal::key(refused), json!({}));
        }
        _ if ask.world.keyring.is_empty() => {
            report.step("key", "none", "no keys are configured: everyone may call", json!({}));
        }
        _ => report.step("key", "none", "this path asks for no key", json!({})),
    }
}

/// One step a zone.
pub fn limits(ask: &Ask<'_>, report: &mut Report) {
    let limiter = &ask.world.limiter;
    let caller = ask.caller.ok().flatten().map(|caller| caller.name.as_str());
    let asker = Asker { address: ask.address, caller, header: ask.header };
    let zones = limiter.zones(ask.path, &asker, ask.now.ms);
    if zones.is_empty() {
        return report.step("limits", "off", "no zone applies to this path", json!({}));
    }
    let refused = match limiter.peek_rate(ask.path, &asker, ask.now.ms) {
        Rate::Reject { zone, retry_after_ms, .. } if !ask.admitted => Some((zone, retry_after_ms)),
        _ => None,
    };
    for zone in &zones {
        let more = zone_view(ask, zone);
        match (zone.verdict, refused) {
            (_, Some((at, retry_after_ms))) if at == zone.zone => {
                let status = ask.world.config.limits.reject_status;
                let failure = refusal::rate(status, name(ask, at), retry_after_ms);
                report.refuse(Stage::Rate, "limits", failure, more);
            }
            _ if ask.admitted => {
                report.step("limits", "pass", "this request has been charged as any other", more);
            }
            (Verdict::Pass { delay_ms, .. }, _) if delay_ms > 0 => {
                report.step("limits", "delay", &format!("it would wait {delay_ms} ms for its turn"), more);
            }
            (Verdict::Pass { .. }, _) => report.step("limits", "pass", "within the rate and its burst", more),
            (Verdict::Reject { .. }, _) => {
                report.step("limits", "would refuse", "an earlier zone refuses already", more);
            }
        }
    }
}

fn name<'a>(ask: &'a Ask<'_>, zone: usize) -> &'a str {
    ask.world.config.limits.zones.get(zone).map_or("", |zone| zone.name.as_str())
}

fn zone_view(ask: &Ask<'_>, view: &ZoneView) -> Value {
    let settings = ask.world.config.limits.zones.get(view.zone);
    let key = settings.map_or("", |zone| match zone.key {
        ZoneKey::ClientIp => "client_ip",
        ZoneKey::ApiKey => "api_key",
        ZoneKey::Header(_) => "header",
        ZoneKey::Everyone => "everyone",
    });
    let (delay_ms, retry_after_ms) = match view.verdict {
        _ if ask.admitted => (0, None),
        Verdict::Pass { delay_ms, .. } => (delay_ms, None),
        Verdict::Reject { retry_after_ms, .. } => (0, Some(retry_after_ms)),
    };
    let thousandths = |value: u64| {
        #[expect(clippy::cast_precision_loss, reason = "thousandths of a request")]
        let value = value as f64;
        value / 1000.0
    };
    json!({
        "zone": name(ask, view.zone),
        "by": key,
        "rate_per_s": settings.map(|zone| thousandths(zone.rate.into())),
        "burst": view.burst,
        "excess": thousandths(view.excess),
        "remaining": view.remaining,
        "delay_ms": delay_ms,
        "retry_after_ms": retry_after_ms,
    })
}

/// Exchanges at once of the client.
pub fn concurrency(ask: &Ask<'_>, report: &mut Report) {
    let Some((running, limit, fits)) = ask.world.limiter.peek_enter(ask.path, ask.address) else {
        return report.step("concurrency", "off", "exchanges of a client are not counted here", json!({}));
    };
    let more = json!({"running": running, "limit": limit});
    match (ask.admitted, fits) {
        (true, _) => report.step("concurrency", "pass", "this request is one of those that run", more),
        (false, true) => report.step("concurrency", "pass", "fewer run than may", more),
        (false, false) => {
            let failure = refusal::concurrent(ask.world.config.limits.reject_status, limit);
            report.refuse(Stage::Concurrency, "concurrency", failure, more);
        }
    }
}

/// What the caller may use; `view`: of which model and how much, `None`: it costs no tokens. Whether the model is the
/// caller's.
pub fn quota(ask: &Ask<'_>, view: Option<&View>, bytes: usize, report: &mut Report) -> bool {
    let Ok(Some(caller)) = ask.caller else {
        report.step("quota", "off", "no caller is known", json!({}));
        return true;
    };
    if view.is_some_and(|view| !caller.may_use(&view.model)) {
        report.step("quota", "not asked", "the model is not the caller's", json!({}));
        return false;
    }
    let output_max = view.map_or(Some(0), |view| view.output_max);
    let peek = caller.quota.peek(bytes as u64, output_max, ask.now.wall);
    let left = caller.quota.remaining(ask.now.wall);
    let (budget, period) = (caller.budget, caller.budget_period);
    // What costs no tokens is let in whatever was spent.
    let over = view.and_then(|_| caller.spend.check(budget, period, ask.now.wall).err());
    let more = json!({
        "budget_usd": budget,
        "spent_usd": caller.spend.in_period(period, ask.now.wall),
        "running": peek.running,
        "concurrent": peek.concurrent,
        "limit_requests": left.limit_requests,
        "remaining_requests": left.remaining_requests,
        "limit_tokens": left.limit_tokens,
        "remaining_tokens": left.remaining_tokens,
        "tokens_reserved": peek.estimate,
    });
    if let Some(over) = over {
        report.refuse(Stage::Quota, "quota", refusal::budget(&over, budget), more);
        return true;
    }
    match peek.refusal {
        Some(refused) => report.refuse(Stage::Quota, "quota", refusal::quota(&refused), more),
        None if left.limit_requests == 0
            && left.limit_tokens == 0
            && peek.concurrent == 0
            && budget == 0.0 =>
        {
            report.step("quota", "off", "the key has no limits", more);
        }
        None => report.step("quota", "pass", "within the key's limits", more),
    }
    true
}
