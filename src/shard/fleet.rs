//! Limits that several gateways keep together, asked of Redis one question at a time.
//!
//! The gateway's own limits are asked first and charged too: what they refuse needs no question, and they are what
//! holds while Redis is away, which is counted and told.

use std::rc::Rc;

use super::Shard;
use crate::limit::Rate;
use crate::limit::quota::{Admission, Quota, Refusal, RefusalKind, Remaining};
use crate::limit::shared::{self, Minute, SharedUse, Standing};
use crate::net::redis::{Redis, Reply, Script};
use crate::net::task;

static BUCKET: Script = Script::new(shared::BUCKET);
static MINUTE: Script = Script::new(shared::MINUTE);
static CORRECT: Script = Script::new(shared::CORRECT);

impl Shard {
    /// Whom to ask for limits that are kept together, if they are.
    fn limits_in_redis(&self) -> Option<&Rc<Redis>> {
        self.redis.as_ref().filter(|_| self.world.config.fleet.shares_limits())
    }

    /// Whether rates are kept together.
    #[must_use]
    pub fn shares_rates(&self) -> bool {
        self.limits_in_redis().is_some()
    }
}

/// What the fleet says to a request that this gateway alone would let through as `alone` says.
pub async fn rate(shard: &Shard, uses: &[SharedUse], alone: Rate) -> Rate {
    let (Rate::Pass { limit, .. }, Some(redis)) = (alone, shard.limits_in_redis()) else { return alone };
    let Some((last, before)) = uses.split_last() else { return alone };
    let refused = |one: &SharedUse, standing: Standing| Rate::Reject {
        zone: one.zone,
        limit: one.burst.saturating_add(1),
        retry_after_ms: standing.wait_ms,
    };
    // As in one gateway: those before the last are looked at, the last decides, then all are charged.
    let mut steps: Vec<(&SharedUse, &str)> = before.iter().map(|one| (one, "look")).collect();
    steps.push((last, "charge"));
    steps.extend(before.iter().rev().map(|one| (one, "force")));
    let (mut delay_ms, mut remaining, mut reset_ms) = (0, u32::MAX, 0);
    for (one, mode) in steps {
        let Some(standing) = charge(shard, redis, one, mode).await else { return alone };
        if !standing.passes {
            return refused(one, standing);
        }
        if mode != "look" {
            let (delay, left, reset) = one.judge(standing.excess);
            (delay_ms, remaining, reset_ms) = (delay_ms.max(delay), remaining.min(left), reset_ms.max(reset));
        }
    }
    Rate::Pass { delay_ms, limit, remaining, reset_ms }
}

async fn charge(shard: &Shard, redis: &Rc<Redis>, one: &SharedUse, mode: &str) -> Option<Standing> {
    let zone = shard.world.config.limits.zones.get(one.zone).map_or("", |zone| zone.name.as_str());
    let key = format!("{}zone:{zone}:{}", redis.prefix(), one.client);
    let (rate, burst) = (one.rate.to_string(), one.burst_thousandths().to_string());
    let args = [rate.as_bytes(), burst.as_bytes(), mode.as_bytes()];
    Standing::of(&numbers(shard, redis, &BUCKET, &key, &args).await?)
}

/// The numbers that a script answers; `None`: it did not.
async fn numbers(
    shard: &Shard,
    redis: &Rc<Redis>,
    script: &'static Script,
    key: &str,
    args: &[&[u8]],
) -> Option<Vec<i64>> {
    let reply = redis.script(script, &[key.as_bytes()], args).await;
    let numbers = match &reply {
        Ok(reply) => {
            reply.as_array().and_then(|all| all.iter().map(Reply::as_int).collect::<Option<Vec<_>>>())
        }
        Err(_) => None,
    };
    if numbers.is_none() {
        shard.metrics().redis.alone.add(1);
    }
    numbers
}

/// A request that was let in by its caller's quota; settle it, or it costs no tokens.
pub struct Charged {
    admission: Admission,
    shared: Option<Taken>,
}

/// Tokens of a minute that gateways count together.
struct Taken {
    shard: Rc<Shard>,
    redis: Rc<Redis>,
    key: String,
    minute: i64,
    tokens: u64,
}

impl Taken {
    /// Replaces what was taken by what was `used`. Nobody waits for it.
    fn correct(self, used: u64) {
        let difference = i64::try_from(used).unwrap_or(i64::MAX) - i64::try_from(self.tokens).unwrap_or(0);
        if difference == 0 {
            return;
        }
        task::spawn(&Rc::clone(&self.shard.tasks), async move {
            let (minute, difference) = (self.minute.to_string(), difference.to_string());
            let args = [minute.as_bytes(), difference.as_bytes()];
            if self.redis.script(&CORRECT, &[self.key.as_bytes()], &args).await.is_err() {
                self.shard.metrics().redis.alone.add(1);
            }
        });
    }
}

impl Charged {
    /// Replaces what was reserved by what was used, as [`Admission::settle`].
    pub fn settle(&mut self, input_tokens: u64, output_tokens: u64) {
        let used = self.admission.settle(input_tokens, output_tokens);
        if let Some((taken, used)) = self.shared.take().zip(used) {
            taken.correct(used);
        }
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        if let Some(taken) = self.shared.take() {
            taken.correct(0);
        }
    }
}

/// What the fleet says to a request of the caller `name` that this gateway alone has let in. What is left of its minute goes into
/// `remaining`.
///
/// # Errors
/// The minute is used up.
pub async fn minute(
    shard: &Rc<Shard>,
    name: &str,
    quota: &Quota,
    admission: Admission,
    remaining: &mut Remaining,
) -> Result<Charged, Refusal> {
    let (Some(redis), Some((requests, tokens))) = (shard.limits_in_redis(), quota.per_minute()) else {
        return Ok(Charged { admission, shared: None });
    };
    let key = format!("{}minute:{}", redis.prefix(), shared::name_of(2, name.as_bytes()));
    let wanted = admission.reserved();
    let limits = [requests, tokens, wanted].map(|number| number.to_string());
    let args = [limits[0].as_bytes(), limits[1].as_bytes(), limits[2].as_bytes()];
    let told = numbers(shard, redis, &MINUTE, &key, &args).await.and_then(|numbers| Minute::of(&numbers));
    let Some(minute) = told else { return Ok(Charged { admission, shared: None }) };
    if requests > 0 {
        remaining.remaining_requests = requests.saturating_sub(minute.requests);
        remaining.reset_requests_ms = minute.left_ms;
    }
    if tokens > 0 {
        remaining.remaining_tokens = tokens.saturating_sub(minute.tokens);
        remaining.reset_tokens_ms = minute.left_ms;
    }
    let (kind, limit) = match minute.over {
        1 => (RefusalKind::Requests, requests),
        2 => (RefusalKind::Tokens, tokens),
        _ => {
            let (shard, redis) = (Rc::clone(shard), Rc::clone(redis));
            let shared = Taken { shard, redis, key, minute: minute.number, tokens: wanted };
            return Ok(Charged { admission, shared: (tokens > 0).then_some(shared) });
        }
    };
    admission.refused();
    Err(Refusal { kind, limit, retry_after_ms: minute.left_ms.max(1) })
}
