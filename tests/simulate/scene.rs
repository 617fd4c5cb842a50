//! What a seed decides before anything runs: the configuration, the callers, the endpoints and how long all of it takes.
//!
//! The configuration is written as a file and read by the gateway's own reader, so that only what can be configured is simulated.

use std::fmt::Write as _;

use super::clock::Random;
use super::server::Service;

/// Requests that come while there are faults.
const REQUESTS: (u64, u64) = (1200, 2400);

/// One run's settings.
pub struct Scene {
    pub toml: String,
    pub shards: usize,
    pub models: usize,
    /// Models too small for long requests.
    pub small: usize,
    /// By caller: how often it comes, in parts of the sum.
    pub callers: Vec<u64>,
    /// Mean time between two requests.
    pub between_us: u64,
    pub requests: u64,
    /// Mean times of an endpoint without and with a fault.
    pub well_us: u64,
    pub ill_us: u64,
    pub service: Vec<Service>,
    /// By caller: clients that always ask, while fairness is looked at; empty: it is not.
    pub greedy: Vec<u64>,
}

impl Scene {
    pub fn new(random: &Random) -> Self {
        let endpoints = random.within(2, 5) as usize;
        let fair = random.chance(60);
        let slots: Vec<u64> = (0..endpoints)
            .map(|_| if !fair && random.chance(20) { 0 } else { random.within(1, 4) })
            .collect();
        let service: Vec<_> = (0..endpoints)
            .map(|_| Service {
                first_us: random.within(5, 40) * 1000,
                gap_us: random.within(1, 8) * 1000,
                events: random.within(2, 12),
            })
            .collect();
        let callers: Vec<u64> = (0..random.within(1, 6)).map(|_| random.one(&[1, 2, 4, 8])).collect();
        let held: u64 = slots.iter().sum();
        let greedy = |_: &u64| held + random.within(3, 10 + held);
        let greedy: Vec<u64> =
            if fair && callers.len() > 1 { callers.iter().map(greedy).collect() } else { Vec::new() };
        let load_percent = random.within(20, 130);
        let capacity = slots.iter().map(|&slots| if slots == 0 { 4 } else { slots }).sum::<u64>().max(1);
        let shards = random.within(1, 4) as usize;
        let models = 3;
        let mut scene = Self {
            toml: String::new(),
            shards,
            models,
            small: 1,
            callers,
            between_us: 60_000 * 100 / (capacity * load_percent),
            requests: random.within(REQUESTS.0, REQUESTS.1),
            well_us: random.within(1000, 6000) * 1000,
            ill_us: random.within(200, 2000) * 1000,
            service,
            greedy,
        };
        scene.toml = scene.write(random, &slots, fair).unwrap();
        scene
    }

    fn write(&self, random: &Random, slots: &[u64], fair: bool) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let ms = |least, most| format!("\"{}ms\"", random.within(least, most));
        let all: u64 = slots.iter().sum();
        let running = if !fair && random.chance(40) { random.within(2, 2 + all) } else { 10_000 };
        writeln!(out, "[server]\nmax_concurrent_requests = {running}")?;
        for (at, slots) in slots.iter().enumerate() {
            writeln!(
                out,
                "[[endpoints]]\nname = 'e{at}'\nurl = 'http://10.0.0.{}:1'\nslots = {slots}",
                at + 1
            )?;
            writeln!(out, "weight = {}", random.within(1, 3))?;
        }
        let names = |at: u64| if random.chance(50) { format!("m{at}") } else { format!("other/m{at}") };
        for (model, fallbacks) in ["[]", "['m2']", "['m1', 'm0']"].into_iter().enumerate() {
            let with = |at: &usize| model == 0 || *at == model % slots.len() || random.chance(50);
            let at: Vec<String> = (0..slots.len()).filter(with).map(|at| format!("'e{at}'")).collect();
            let strategy = random.one(&["round_robin", "least_busy", "least_busy", "weighted"]);
            writeln!(out, "[[models]]\nname = 'm{model}'\nupstream_model = '{}'", names(model as u64))?;
            writeln!(
                out,
                "endpoints = [{}]\nstrategy = '{strategy}'\nfallbacks = {fallbacks}",
                at.join(", ")
            )?;
            if model == self.small {
                writeln!(out, "context_window_fallbacks = ['m0']")?;
            }
        }
        let default = random.one(&["[]", "[]", "['m0', 'm1']"]);
        writeln!(out, "[fallbacks]\ndefault = {default}\nmodels_max = {}", random.within(0, 3))?;
        let total = if fair { ms(4000, 8000) } else { ms(1000, 4000) };
        writeln!(out, "[timeouts]\nconnect = {}\nfirst_byte = {}", ms(100, 300), ms(300, 1000))?;
        writeln!(out, "idle = {}\ntotal = {total}", ms(200, 600))?;
        writeln!(out, "[retry]\nattempts = {}\non_timeout = {}", random.within(1, 5), random.chance(80))?;
        writeln!(out, "backoff = {}\nbudget_percent = {}", ms(10, 100), random.one(&[0, 10, 20, 20, 100]))?;
        writeln!(out, "budget_min = {}", random.one(&[0, 1, 10, 10]))?;
        let open = random.within(100, 400);
        writeln!(out, "[breaker]\nenabled = {}\nfailures = {}", random.chance(95), random.within(1, 5))?;
        writeln!(
            out,
            "share_percent = 50\nrequests_min = {}\nwindow = '{}s'",
            random.within(5, 20),
            random.within(1, 5)
        )?;
        writeln!(out, "open = '{open}ms'\nopen_max = '{}ms'", open * random.within(1, 4))?;
        writeln!(out, "retry_after_max = {}\nmissing = {}", ms(0, 2000), ms(0, 1000))?;
        let max = if fair { 1024 } else { random.one(&[0, 2, 8, 64]) };
        let timeout = if fair { ms(4000, 5000) } else { ms(100, 1500) };
        writeln!(out, "[queue]\nmax = {max}\ntimeout = {timeout}")?;
        writeln!(out, "heartbeat = '{}ms'", random.one(&[0, 0, 100, 200]))?;
        writeln!(out, "[health]\ninterval = {}\ntimeout = {}", ms(200, 1000), ms(100, 200))?;
        writeln!(
            out,
            "unhealthy_threshold = {}\nhealthy_threshold = {}",
            random.within(1, 3),
            random.within(1, 3)
        )?;
        self.limits(random, &mut out)?;
        Ok(out)
    }

    /// Zones for half of the seeds; the phases that must not be slowed down ask on another path.
    fn limits(&self, random: &Random, out: &mut String) -> std::fmt::Result {
        if random.chance(50) {
            return Ok(());
        }
        let fair = (1_000_000 / self.between_us).max(2);
        let concurrent = random.one(&[0, 0, 3, 10]);
        for (name, key, rate) in [("one", "client_ip", fair / 2), ("all", "everyone", fair * 9 / 10)] {
            if name == "all" && random.chance(50) {
                continue;
            }
            let nodelay = random.chance(50);
            writeln!(out, "[[limits.zones]]\nname = '{name}'\nkey = '{key}'\nrate = '{}r/s'", rate.max(1))?;
            writeln!(out, "burst = {}\nnodelay = {nodelay}", random.within(0, 20))?;
            writeln!(out, "routes = [{{ path = '/v1/chat', concurrent_per_client = {concurrent} }}]")?;
        }
        Ok(())
    }
}
