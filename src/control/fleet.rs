//! What this gateway tells the others of its fleet by Redis, and hears from them: exchanges in flight on endpoints every
//! [`EVERY`], and what keys have spent every [`SPENT_EVERY`].
//!
//! In flight: a hash with a field for each gateway, that says when it was written, by Redis' clock, and how many exchanges run
//! on which URL, and wait for it. What is older than [`STALE_MS`] counts for nothing and is removed, so a gateway that died frees its places.
//! Spent: for each key and period a hash with a field for each process, the sum of which is what the key has spent. Each
//! writes its own field alone and whole, so a question that was asked twice, or whose answer was lost, changes nothing; the
//! fields of processes that have ended stay, so budgets survive them.
//!
//! Without Redis each goes on alone: what others have in flight is forgotten after [`STALE_MS`], what they had spent is not.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::Control;
use crate::config::{Level, shared};
use crate::limit::key::Caller;
use crate::net::redis::{Command, Redis, Reply, Script};
use crate::net::{clock, task};
use crate::world::World;

/// How often loads are told.
const EVERY: Duration = Duration::from_millis(200);
/// How often what was spent is told.
const SPENT_EVERY: Duration = Duration::from_secs(1);
/// Age at which a gateway counts as gone, in milliseconds.
const STALE_MS: u64 = 1_000;
/// Keys told in one write.
const KEYS_AT_ONCE: usize = 200;
/// What was spent in a period that has ended is kept for so long.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes this gateway's field and answers with those of the others, as field, value, field, value.
static LOADS: Script = Script::new(
    "\
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], 60000)
local all, out = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  if all[i] ~= ARGV[1] then
    local at = tonumber(string.match(all[i + 1], '^%d+') or 0)
    if now - at > tonumber(ARGV[3]) then
      redis.call('HDEL', KEYS[1], all[i])
    else
      out[#out + 1] = all[i]
      out[#out + 1] = all[i + 1]
    end
  end
end
return out
",
);

/// The client of the control core, for the settings it was made of.
#[derive(Default)]
pub struct Sharing {
    client: RefCell<Option<(shared::Redis, Rc<Redis>)>>,
}

impl Sharing {
    /// The client for `world`; `None`: nothing is shared.
    fn redis(&self, control: &Control, world: &World) -> Option<Rc<Redis>> {
        let settings = world.config.redis.as_ref().filter(|_| world.config.fleet.enabled);
        let mut client = self.client.borrow_mut();
        let Some(settings) = settings else {
            *client = None;
            return None;
        };
        if let Some((_, redis)) = client.as_ref().filter(|(known, _)| known == settings) {
            return Some(Rc::clone(redis));
        }
        let process = Arc::clone(&world.process);
        let tell = Box::new(move |level, text: &str| process.log.write(level, format_args!("{text}")));
        let redis = Redis::new(settings, world.redis.as_ref(), &control.tasks, tell).ok()?;
        *client = Some((settings.clone(), Rc::clone(&redis)));
        Some(redis)
    }
}

/// Begins to tell and to hear.
pub fn start(control: &Rc<Control>) {
    task::spawn(&control.tasks, run(Rc::clone(control)));
}

async fn run(control: Rc<Control>) {
    let mut fleet = Fleet::default();
    let mut spent_us = 0;
    loop {
        let world = control.world();
        let now_us = control.clock.now_us();
        match control.sharing.redis(&control, &world) {
            None => fleet.forget(&world),
            Some(redis) => {
                if world.config.fleet.shares_in_flight() {
                    fleet.tell_loads(&redis, &world, now_us).await;
                }
                let is_due = world.config.fleet.shares_budgets() && now_us >= spent_us;
                if is_due && tell_spent(&redis, &world).await {
                    spent_us = now_us + u64::try_from(SPENT_EVERY.as_micros()).unwrap_or(u64::MAX);
                }
            }
        }
        clock::sleep(EVERY).await;
    }
}

/// Tells for the last time what was spent, and takes this gateway out.
pub async fn leave(control: &Control) {
    let world = control.world();
    let Some(redis) = control.sharing.redis(control, &world) else { return };
    if world.config.fleet.shares_budgets() {
        let _ = tell_spent(&redis, &world).await; // it is the last time, heard or not
    }
    if world.config.fleet.shares_in_flight() {
        let gone = Command::new("HDEL").key(loads_key(&redis)).arg(&world.fleet.id);
        let _ = redis.call(&gone).await;
    }
}

fn loads_key(redis: &Redis) -> String {
    format!("{}loads", redis.prefix())
}

/// What is known of the others.
#[derive(Default)]
struct Fleet {
    heard_us: u64,
    is_alone: bool,
}

impl Fleet {
    async fn tell_loads(&mut self, redis: &Rc<Redis>, world: &World, now_us: u64) {
        let mut loads: BTreeMap<String, [u32; 2]> = BTreeMap::new();
        for endpoint in &world.registry {
            let (taken, waiting) = (endpoint.in_flight(), endpoint.places().waiting());
            if taken > 0 || waiting > 0 {
                let load = loads.entry(endpoint.base()).or_default();
                *load = [load[0].saturating_add(taken), load[1].saturating_add(waiting)];
            }
        }
        let own: Map<String, Value> = loads.into_iter().map(|(url, load)| (url, json!(load))).collect();
        let (key, own, stale) = (loads_key(redis), Value::Object(own).to_string(), STALE_MS.to_string());
        let args = [world.fleet.id.as_bytes(), own.as_bytes(), stale.as_bytes()];
        let heard = redis.script(&LOADS, &[key.as_bytes()], &args).await;
        match heard.as_ref().ok().and_then(Reply::as_array) {
            Some(others) => {
                self.heard_us = now_us;
                world.fleet.others.store(others.len() as u64 / 2, Ordering::Relaxed);
                hear_loads(world, others);
                self.say(world, false, "");
            }
            None => {
                let why =
                    heard.err().map_or_else(|| "it answers something else".to_owned(), |why| why.to_string());
                if now_us.saturating_sub(self.heard_us) > STALE_MS * 1000 {
                    self.forget(world);
                    self.say(world, true, &why);
                }
            }
        }
    }

    /// Tells the log when this gateway is alone, and when it no longer is.
    fn say(&mut self, world: &World, is_alone: bool, why: &str) {
        world.fleet.is_alone.store(is_alone, Ordering::Relaxed);
        if self.is_alone != is_alone {
            self.is_alone = is_alone;
            if is_alone {
                let text = format_args!("the fleet is not heard of: this gateway goes on alone ({why})");
                world.log.write(Level::Warn, text);
            } else {
                world.log.write(Level::Info, format_args!("the fleet is heard of again"));
            }
        }
    }

    fn forget(&self, world: &World) {
        world.fleet.others.store(0, Ordering::Relaxed);
        world.registry.iter().for_each(|endpoint| endpoint.places().set_elsewhere(0, 0, 1));
    }
}

/// Sums what the others have in flight on each endpoint.
fn hear_loads(world: &World, others: &[Reply]) {
    let mut loads: HashMap<String, [u64; 2]> = HashMap::new();
    for pair in others.chunks_exact(2) {
        let text = pair.get(1).and_then(Reply::as_bytes).unwrap_or_default();
        let text =
            text.iter().position(|&byte| byte == b' ').and_then(|at| text.get(at + 1..)).unwrap_or_default();
        let Ok(Value::Object(one)) = serde_json::from_slice(text) else { continue };
        for (url, count) in one {
            let number = |at: usize| count.get(at).and_then(Value::as_u64).unwrap_or(0);
            let load = loads.entry(url).or_default();
            *load = [load[0].saturating_add(number(0)), load[1].saturating_add(number(1))];
        }
    }
    for endpoint in &world.registry {
        let load = loads.get(&endpoint.base()).copied().unwrap_or_default();
        let [taken, waiting] = load.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let gateways = u32::try_from(others.len() / 2 + 1).unwrap_or(u32::MAX);
        endpoint.places().set_elsewhere(taken, waiting, gateways);
    }
}

/// Tells what each key with a budget has spent here, and hears what it has spent in all. Whether Redis has answered.
async fn tell_spent(redis: &Rc<Redis>, world: &World) -> bool {
    let callers: Vec<&Arc<Caller>> =
        world.keyring.callers().iter().filter(|caller| caller.budget > 0.0).collect();
    for some in callers.chunks(KEYS_AT_ONCE) {
        let now = SystemTime::now();
        let own: Vec<(u64, u64)> =
            some.iter().map(|caller| caller.spend.own(caller.budget_period, now)).collect();
        let (mut commands, mut ends) = (Vec::new(), Vec::new());
        for (caller, (period, nano)) in some.iter().zip(&own) {
            let key = format!("{}spent:{}:{period}", redis.prefix(), hex(&caller.name));
            if *nano > 0 {
                commands.push(Command::new("HSET").key(&key).arg(&world.fleet.id).arg(nano.to_string()));
            }
            if *nano > 0 && !caller.budget_period.is_zero() {
                let lasts = caller.budget_period.saturating_add(KEPT).as_millis();
                commands
                    .push(Command::new("PEXPIRE").key(&key).number(i64::try_from(lasts).unwrap_or(i64::MAX)));
            }
            commands.push(Command::new("HGETALL").key(&key));
            ends.push(commands.len() - 1);
        }
        let Ok(replies) = redis.call_all(&commands).await else { return false };
        if replies.iter().any(Result::is_err) {
            return false; // what it has answered is told again
        }
        for ((caller, (period, _)), end) in some.iter().zip(&own).zip(ends) {
            let Some(fields) = replies.get(end).and_then(|reply| fields(reply.as_ref().ok()?)) else {
                continue;
            };
            let others = fields.iter().filter(|(process, _)| *process != world.fleet.id);
            caller.spend.set_elsewhere(*period, others.map(|(_, nano)| *nano).fold(0, u64::saturating_add));
        }
    }
    true
}

/// The fields of a hash of numbers; `None`: it is no hash.
fn fields(reply: &Reply) -> Option<Vec<(String, u64)>> {
    let text = |reply: &Reply| reply.as_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let pair = |name: &Reply, value: &Reply| Some((text(name)?, text(value)?.parse().ok()?));
    match reply {
        Reply::Map(pairs) => Some(pairs.iter().filter_map(|(name, value)| pair(name, value)).collect()),
        Reply::Array(all) => {
            Some(all.chunks_exact(2).filter_map(|two| pair(two.first()?, two.get(1)?)).collect())
        }
        _ => None,
    }
}

/// A name as a key of Redis has it: no braces, no spaces.
fn hex(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02x}")).collect()
}
