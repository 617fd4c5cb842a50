//! The limits of several gateways as one: the scripts that Redis runs, and what their answers say.
//!
//! They do what [`super::bucket`] and [`super::quota`] do, by Redis' own clock, so that clocks of gateways do not matter. Each
//! is one question about one key. Redis keeps a key until it would equal a new one.

use sha2::{Digest, Sha256};

use super::bucket::BURST_MAX;

/// Charges one request to a leaky bucket of nginx's, in thousandths of a request.
///
/// Key: the client in the zone. Arguments: rate (thousandths a second), burst (thousandths), and `look` (charge nothing),
/// `charge`, or `force` (charge whatever it comes to). Answer: whether it passes, its excess, and milliseconds until it would.
pub const BUCKET: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local rate, burst, mode = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local old = redis.call('HMGET', KEYS[1], 'e', 't')
local excess, last = 0, now
if old[1] and old[2] then
  local ms = now - tonumber(old[2])
  if ms < -60000 then ms = 1 elseif ms < 0 then ms = 0 end
  excess = math.max(0, tonumber(old[1]) - math.floor(rate * ms / 1000) + 1000)
  if ms == 0 then last = tonumber(old[2]) end
  if excess > burst and mode ~= 'force' then
    local wait = math.ceil(math.max(0, tonumber(old[1]) + 1000 - burst) * 1000 / rate) - ms
    return {0, excess, math.max(1, wait)}
  end
end
if mode ~= 'look' then
  redis.call('HSET', KEYS[1], 'e', excess, 't', last)
  redis.call('PEXPIRE', KEYS[1], math.ceil((excess + 1000) * 1000 / rate) + 1000)
end
return {1, excess, 0}
";

/// Takes one request and some tokens of a minute.
///
/// Key: the caller. Arguments: the limits of requests and of tokens (0: none), and the tokens to take. Answer: 0, or which
/// limit it is over (1 requests, 2 tokens); the minute's number, milliseconds until its end, and requests and tokens used.
pub const MINUTE: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local minute, left = math.floor(now / 60000), 60000 - now % 60000
local max_r, max_t, take = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local old = redis.call('HMGET', KEYS[1], 'm', 'r', 't')
local r, k = 0, 0
if tonumber(old[1] or -1) == minute then r, k = tonumber(old[2] or 0), tonumber(old[3] or 0) end
if max_r > 0 and r + 1 > max_r then return {1, minute, left, r, k} end
if max_t > 0 and k + take > max_t and not (k == 0 and take > max_t) then return {2, minute, left, r, k} end
r = r + 1
if max_t > 0 then k = k + take end
redis.call('HSET', KEYS[1], 'm', minute, 'r', r, 't', k)
redis.call('PEXPIRE', KEYS[1], 120000)
return {0, minute, left, r, k}
";

/// Replaces tokens that were taken from a minute, if it lasts still.
///
/// Key: the caller. Arguments: the minute's number, and tokens to add, which may be less than 0.
pub const CORRECT: &str = "\
if tonumber(redis.call('HGET', KEYS[1], 'm') or -1) ~= tonumber(ARGV[1]) then return 0 end
if redis.call('HINCRBY', KEYS[1], 't', ARGV[2]) < 0 then redis.call('HSET', KEYS[1], 't', 0) end
return 1
";

/// A location's use of a zone, for Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedUse {
    /// Which zone.
    pub zone: usize,
    /// The client in the zone: the same text on every gateway, and of no use to who reads it.
    pub client: String,
    /// Thousandths of a request a second.
    pub rate: u64,
    /// Requests beyond the rate that are let through.
    pub burst: u32,
    /// Requests beyond the rate that need not wait; `None`: none waits.
    pub delay: Option<u32>,
}

/// What Redis says of one zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether it passes.
    pub passes: bool,
    /// Thousandths of a request by which the client is ahead of the rate.
    pub excess: u64,
    /// Milliseconds until it would pass.
    pub wait_ms: u64,
}

impl Standing {
    /// Of the three numbers of [`BUCKET`].
    #[must_use]
    pub fn of(numbers: &[i64]) -> Option<Self> {
        let [passes, excess, wait_ms] = *numbers else { return None };
        let count = |number: i64| u64::try_from(number).ok();
        Some(Self { passes: passes == 1, excess: count(excess)?, wait_ms: count(wait_ms)? })
    }
}

impl SharedUse {
    /// The burst in thousandths of a request.
    #[must_use]
    pub fn burst_thousandths(&self) -> u64 {
        u64::from(self.burst.min(BURST_MAX)) * 1000
    }

    /// Milliseconds that a request with this excess waits, requests that would pass at once after it, and milliseconds
    /// until the zone has drained.
    #[must_use]
    pub fn judge(&self, excess: u64) -> (u64, u32, u64) {
        let rate = self.rate.max(1);
        let early = self.delay.map_or(0, |delay| excess.saturating_sub(u64::from(delay) * 1000));
        let left = self.burst_thousandths().saturating_sub(excess) / 1000;
        (early * 1000 / rate, u32::try_from(left).unwrap_or(u32::MAX), (excess * 1000).div_ceil(rate))
    }
}

/// What Redis says of a caller's minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minute {
    /// Whether requests (1) or tokens (2) are used up; 0: neither.
    pub over: i64,
    /// Its number.
    pub number: i64,
    /// Until its end.
    pub left_ms: u64,
    /// Requests of it.
    pub requests: u64,
    /// Tokens of it.
    pub tokens: u64,
}

impl Minute {
    /// Of the five numbers of [`MINUTE`].
    #[must_use]
    pub fn of(numbers: &[i64]) -> Option<Self> {
        let [over, number, left, requests, tokens] = *numbers else { return None };
        let count = |number: i64| u64::try_from(number).ok();
        let (left_ms, requests, tokens) = (count(left)?, count(requests)?, count(tokens)?);
        Some(Self { over, number, left_ms, requests, tokens })
    }
}

/// A name for a client that says nothing of it: half of a SHA-256 over its kind and what it shows.
#[must_use]
pub fn name_of(kind: u8, shown: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update([kind]);
    hash.update(shown);
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_what_they_should_be_or_none() {
        let standing = Standing { passes: true, excess: 1500, wait_ms: 0 };
        assert_eq!(Standing::of(&[1, 1500, 0]), Some(standing));
        assert_eq!(Standing::of(&[0, 9, 7]).map(|one| (one.passes, one.wait_ms)), Some((false, 7)));
        for wrong in [&[1, 2][..], &[], &[1, -2, 0], &[1, 2, 3, 4]] {
            assert_eq!(Standing::of(wrong), None);
        }
        let minute = Minute { over: 2, number: 5, left_ms: 100, requests: 3, tokens: 40 };
        assert_eq!(Minute::of(&[2, 5, 100, 3, 40]), Some(minute));
        assert_eq!(Minute::of(&[2, 5, 100, -3, 40]), None);
    }

    #[test]
    fn what_a_zone_comes_to_is_what_the_bucket_says() {
        let one = SharedUse { zone: 0, client: String::new(), rate: 2000, burst: 3, delay: Some(1) };
        assert_eq!(one.judge(0), (0, 3, 0));
        assert_eq!(one.judge(1000), (0, 2, 500));
        assert_eq!(one.judge(2500), (750, 0, 1250));
        assert_eq!(SharedUse { delay: None, ..one }.judge(3000), (0, 0, 1500));
    }

    #[test]
    fn names_tell_clients_and_kinds_apart() {
        let names = [name_of(0, b"a"), name_of(1, b"a"), name_of(0, b"b")];
        assert!(names.iter().all(|name| name.len() == 32));
        assert!(names[0] != names[1] && names[0] != names[2]);
    }
}
