//! A scenario: what load, of what work, for how long, and which objectives it must hold. One TOML file each.
//!
//! Unknown keys are errors, and all mistakes of a file are told at once ([`check`]). Times are written `"250ms"`, `"30s"`, `"5m"`
//! or `"1h"`. The command line may change length, rate, connections, model and keys ([`Scenario::scale_time`] and the others):
//! what then runs is still one scenario with one seed.

mod check;
mod time;

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

pub use check::check;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is for, in a sentence.
    pub about: String,
    /// What arrivals and prompts follow from.
    #[serde(default = "one")]
    pub seed: u64,
    /// When requests leave.
    pub load: Load,
    /// What is asked; each request is one of these, by weight.
    pub work: Vec<Work>,
    /// Who asks; none: nobody says who he is.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// What must hold over all work.
    #[serde(default)]
    pub sla: Sla,
}

/// Open or closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Requests leave at their times, whether or not earlier ones are answered.
    Open,
    /// Each connection sends its next request when it has the last answer.
    Closed,
}

/// How arrivals of an open loop are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// As many users who know nothing of each other: exponential gaps.
    #[default]
    Poisson,
    /// Equal gaps.
    Constant,
}

/// When requests leave.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Open or closed loop.
    pub mode: Mode,
    /// Open loop: how arrivals are spread.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// Open loop: one after the other.
    #[serde(default)]
    pub phases: Vec<Phase>,
    /// Closed loop: how long new requests are begun.
    #[serde(default, with = "time::optional")]
    pub time: Option<Duration>,
    /// Open loop: most connections at once. Closed loop: how many there are.
    #[serde(default = "connections")]
    pub connections: usize,
    /// Closed loop: the time over which connections begin.
    #[serde(default, with = "time")]
    pub ramp_up: Duration,
    /// Closed loop: pause between an answer and the next request.
    #[serde(default, with = "time")]
    pub think: Duration,
    /// Requests that are due before are shown and not judged.
    #[serde(default, with = "time")]
    pub warm_up: Duration,
    /// How long after it was due a request may take to its last byte.
    #[serde(default = "minute", with = "time")]
    pub timeout: Duration,
}

/// A part of an open loop.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// How long it is.
    #[serde(with = "time")]
    pub time: Duration,
    /// Requests a second, at its begin.
    pub rate: f64,
    /// Requests a second at its end, if it is a ramp.
    pub to: Option<f64>,
    /// So many more at once …
    #[serde(default)]
    pub burst: u32,
    /// … each time that so long has passed.
    #[serde(default, with = "time::optional")]
    pub every: Option<Duration>,
}

/// The API that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `/v1/chat/completions`, answered at once.
    Chat,
    /// The same, answered as events.
    Stream,
    /// `/v1/embeddings`.
    Embeddings,
}

/// How an answer is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Against what `corelane sim` answers: every byte of the content, every token, every number of a vector.
    #[default]
    Sim,
    /// It is whole and has the shape of its API.
    Shape,
    /// Its status and framing only.
    None,
}

/// One kind of request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Its row in reports.
    pub name: String,
    /// The API.
    pub kind: Kind,
    /// The path, if not the usual one.
    pub path: Option<String>,
    /// The model that is asked for.
    pub model: String,
    /// Its share of the requests, in proportion to the others'.
    #[serde(default = "weight")]
    pub weight: f64,
    /// Words of a prompt.
    #[serde(default)]
    pub words: Law,
    /// Texts that many prompts begin with.
    pub prefix: Option<Prefix>,
    /// Languages of prompts and their weights; none: English.
    #[serde(default)]
    pub languages: std::collections::BTreeMap<String, f64>,
    /// Tokens of an answer, asked for as `max_tokens`.
    #[serde(default = "tokens")]
    pub answer_tokens: u32,
    /// The share of prompts that a guard must refuse.
    #[serde(default)]
    pub hit_share: f64,
    /// The status they then get.
    #[serde(default = "hit_status")]
    pub hit_status: u16,
    /// What they say, instead of the texts of `data/hits.txt`.
    #[serde(default)]
    pub hits: Vec<String>,
    /// How answers are looked at.
    #[serde(default)]
    pub check: Check,
    /// What must hold for it.
    #[serde(default)]
    pub sla: Times,
}

/// A distribution of lengths.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(tag = "law", rename_all = "lowercase", deny_unknown_fields)]
pub enum Law {
    /// Always the same.
    Constant {
        /// Words.
        value: u32,
    },
    /// Every length from `min` to `max` alike.
    Uniform {
        /// Fewest words.
        min: u32,
        /// Most words.
        max: u32,
    },
    /// Half are shorter than `median`; a few are very long.
    Lognormal {
        /// Words that half of them stay below.
        median: f64,
        /// Deviation of the logarithm: 0 none, 1 wide.
        sigma: f64,
        /// Fewest words.
        min: u32,
        /// Most words.
        max: u32,
    },
}

impl Default for Law {
    fn default() -> Self {
        Self::Constant { value: 40 }
    }
}

/// Texts that many prompts begin with: system prompts of products, documents that are asked about.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    /// How many different ones there are.
    pub pool: u32,
    /// Words of each.
    pub words: u32,
    /// The share of prompts that begin with one.
    #[serde(default = "weight")]
    pub share: f64,
    /// How much the first ones are preferred: the exponent of Zipf's law; 0: all alike.
    #[serde(default)]
    pub skew: f64,
}

/// Who asks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The row in reports.
    pub name: String,
    /// What is sent as `Authorization: Bearer …`. A key for tests: files with real ones do not belong anywhere.
    pub secret: String,
    /// The share of the requests that are its.
    #[serde(default = "weight")]
    pub weight: f64,
}

/// Objectives over all work. What is left out is not judged.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sla {
    /// Right answers a second, at least.
    pub rate_min: Option<f64>,
    /// Errors of all requests that are judged, at most, as a share.
    pub error_share_max: Option<f64>,
    /// Honest refusals of load ([`crate::outcome::Outcome::Shed`]), at most, as a share.
    pub shed_share_max: Option<f64>,
    /// Statuses that are honest refusals of load; elsewhere they are errors.
    #[serde(default)]
    pub shed: Vec<u16>,
    /// Requests that ended without an answer, at most.
    pub lost_max: Option<u64>,
    /// Malformed or wrong answers, at most.
    #[serde(default)]
    pub wrong_max: u64,
    /// Jain's index of what the keys got of their fair parts, at least (1: all alike).
    pub fairness_min: Option<f64>,
    /// The median latency of the last quarter of the time by that of the first, at most.
    pub drift_max: Option<f64>,
}

/// Objectives for the times of one kind of work, in milliseconds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// To the last byte of right answers.
    pub p50_ms: Option<f64>,
    /// As above.
    pub p99_ms: Option<f64>,
    /// As above.
    pub p999_ms: Option<f64>,
    /// To the first event of streams.
    pub first_p50_ms: Option<f64>,
    /// As above.
    pub first_p99_ms: Option<f64>,
    /// Between events of a stream.
    pub gap_p50_ms: Option<f64>,
    /// As above.
    pub gap_p99_ms: Option<f64>,
}

fn one() -> u64 {
    1
}

fn connections() -> usize {
    256
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn weight() -> f64 {
    1.0
}

fn tokens() -> u32 {
    32
}

fn hit_status() -> u16 {
    400
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, a line each.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|problems| format!("{}: {problems}", path.display()))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let problems = check(&scenario);
        if problems.is_empty() { Ok(scenario) } else { Err(problems.join("\n")) }
    }

    /// How long requests are begun.
    #[must_use]
    pub fn time(&self) -> Duration {
        match self.load.mode {
            Mode::Open => self.load.phases.iter().map(|phase| phase.time).sum(),
            Mode::Closed => self.load.time.unwrap_or_default(),
        }
    }

    /// The highest rate of an open loop, bursts left out.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.load.phases.iter().map(|phase| phase.rate.max(phase.to.unwrap_or(0.0))).fold(0.0, f64::max)
    }

    /// Makes it last so long; phases and warm-up keep their proportions. Bursts come as often as before, but at least
    /// once in a phase that has become shorter than the time between them.
    pub fn scale_time(&mut self, time: Duration) {
        let factor = time.as_secs_f64() / self.time().as_secs_f64().max(1e-9);
        let scaled = |time: Duration| time.mul_f64(factor);
        for phase in &mut self.load.phases {
            phase.time = scaled(phase.time);
            phase.every = phase.every.map(|every| if every < phase.time { every } else { phase.time / 2 });
        }
        self.load.time = self.load.time.map(scaled);
        if factor < 1.0 {
            self.load.warm_up = scaled(self.load.warm_up);
            self.load.ramp_up = scaled(self.load.ramp_up);
        }
    }

    /// Makes the highest rate this one; all others, and what is to be reached, in proportion.
    pub fn scale_rate(&mut self, rate: f64) {
        let factor = rate / self.peak().max(1e-9);
        for phase in &mut self.load.phases {
            phase.rate *= factor;
            phase.to = phase.to.map(|to| to * factor);
            phase.burst = (f64::from(phase.burst) * factor).round() as u32;
        }
        self.sla.rate_min = self.sla.rate_min.map(|rate| rate * factor);
    }
}
