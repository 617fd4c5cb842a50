//! What is asked: the bytes of request number *n*, which follow from the seed and *n* alone.
//!
//! A request is written into buffers that its connection keeps, so that nothing is allocated once they are warm. Its
//! user text begins with a mark that no other request has (`q` and its number in hexadecimal), which the answer of the
//! simulated server says back: an answer that went to the wrong client is seen.

pub mod corpus;
pub mod request;
pub mod schedule;
pub mod summary;
pub mod target;

use crate::chance::{Chance, sums};
use crate::scenario::{Key, Kind, Law, Scenario, Work};
use corpus::{LANGUAGES, Text};
pub use request::Request;
pub use schedule::Schedule;
pub use target::Target;

/// Streams of chance: request *n* has number `REQUESTS + n`.
const REQUESTS: u64 = 1 << 32;

/// A scenario, ready to be sent to a target.
#[derive(Debug)]
pub struct Plan {
    /// What it was made of.
    pub scenario: Scenario,
    /// Where it goes.
    pub target: Target,
    works: Vec<Ready>,
    work_sums: Vec<f64>,
    key_sums: Vec<f64>,
    /// By language, in the order of [`LANGUAGES`]; empty where no work speaks it.
    texts: Vec<Option<Text>>,
}

/// A kind of request with its texts.
#[derive(Debug)]
struct Ready {
    /// For each key: the head up to the length of the body.
    heads: Vec<Vec<u8>>,
    /// The body up to the system text or the user's.
    begin: String,
    /// The body behind the user's text.
    end: String,
    languages: Vec<usize>,
    language_sums: Vec<f64>,
    prefixes: Vec<String>,
    prefix_sums: Vec<f64>,
    hits: Vec<String>,
}

impl Plan {
    /// Prepares a scenario for a target.
    #[must_use]
    pub fn new(scenario: Scenario, target: Target) -> Self {
        let seed = scenario.seed;
        let longest = scenario.work.iter().map(longest).max().unwrap_or(1);
        let spoken = |language: &str| {
            let speaks = |work: &Work| work.languages.contains_key(language) || language == "en";
            scenario.work.iter().any(speaks).then(|| Text::new(language, longest, seed))
        };
        let texts: Vec<Option<Text>> = LANGUAGES.iter().map(|language| spoken(language)).collect();
        let works =
            scenario.work.iter().map(|work| ready(work, &scenario.keys, &target, &texts, seed)).collect();
        Self {
            works,
            work_sums: sums(scenario.work.iter().map(|work| work.weight)),
            key_sums: sums(scenario.keys.iter().map(|key| key.weight)),
            texts,
            target,
            scenario,
        }
    }

    /// The arrivals of its open loop.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule::new(&self.scenario.load, self.scenario.seed)
    }

    /// Paths are asked for by every work.
    #[must_use]
    pub fn path(&self, work: usize) -> &str {
        self.scenario.work.get(work).map_or("/", path)
    }

    /// Writes request number `index` into `request`.
    pub fn write(&self, index: u64, request: &mut Request) {
        let mut chance = Chance::new(self.scenario.seed, REQUESTS.wrapping_add(index));
        request.work = chance.weighted(&self.work_sums);
        request.key = if self.key_sums.is_empty() { 0 } else { chance.weighted(&self.key_sums) };
        let (Some(work), Some(ready)) = (self.scenario.work.get(request.work), self.works.get(request.work))
        else {
            return;
        };
        request.begin(work.kind, &ready.begin);
        let prefixed = work.prefix.as_ref().is_some_and(|prefix| chance.unit() < prefix.share);
        if prefixed && let Some(text) = ready.prefixes.get(chance.weighted(&ready.prefix_sums)) {
            request.system(text);
        }
        request.hit = work.hit_share > 0.0 && chance.unit() < work.hit_share;
        let text = if request.hit {
            ready.hits.get(chance.below(ready.hits.len())).map_or("", String::as_str)
        } else {
            let language = ready.languages.get(chance.weighted(&ready.language_sums)).copied().unwrap_or(1);
            let words = draw(work.words, &mut chance);
            self.texts.get(language).and_then(Option::as_ref).map_or("", |text| text.part(words, &mut chance))
        };
        request.user(index, text);
        request.end(&ready.end, ready.heads.get(request.key).map_or(&[], Vec::as_slice));
        request.decide(work);
    }
}

/// The path of a kind of request.
fn path(work: &Work) -> &str {
    work.path.as_deref().unwrap_or(match work.kind {
        Kind::Chat | Kind::Stream => "/v1/chat/completions",
        Kind::Embeddings => "/v1/embeddings",
    })
}

fn longest(work: &Work) -> u32 {
    let words = match work.words {
        Law::Constant { value } => value,
        Law::Uniform { max, .. } | Law::Lognormal { max, .. } => max,
    };
    words.max(work.prefix.as_ref().map_or(0, |prefix| prefix.words))
}

fn draw(law: Law, chance: &mut Chance) -> u32 {
    match law {
        Law::Constant { value } => value,
        Law::Uniform { min, max } => min + chance.below((max - min + 1) as usize) as u32,
        Law::Lognormal { median, sigma, min, max } => {
            let words = median * (sigma * chance.normal()).exp();
            (words.round().min(f64::from(max)) as u32).clamp(min, max)
        }
    }
}

fn ready(work: &Work, keys: &[Key], target: &Target, texts: &[Option<Text>], seed: u64) -> Ready {
    let head = |secret: Option<&str>| {
        let authorization =
            secret.map(|secret| format!("Authorization: Bearer {secret}\r\n")).unwrap_or_default();
        let (base, host, path) = (&target.base, &target.authority, path(work));
        format!(
            "POST {base}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: corelane-load\r\nAccept: */*\r\n\
             {authorization}Content-Type: application/json\r\nContent-Length: "
        )
        .into_bytes()
    };
    let heads = match keys {
        [] => vec![head(None)],
        keys => keys.iter().map(|key| head(Some(&key.secret))).collect(),
    };
    let spoken = work.languages.iter().filter_map(|(language, weight)| {
        LANGUAGES.iter().position(|name| name == language).map(|at| (at, *weight))
    });
    let mut languages: Vec<(usize, f64)> = spoken.collect();
    if languages.is_empty() {
        languages.push((1, 1.0));
    }
    let english = texts.get(1).and_then(Option::as_ref);
    let (mut prefixes, mut prefix_sums) = (Vec::new(), Vec::new());
    if let Some(prefix) = &work.prefix {
        let text = |number: u32| {
            let mut chance = Chance::new(seed, u64::MAX / 2 + u64::from(number));
            english.map(|text| text.part(prefix.words, &mut chance).to_owned()).unwrap_or_default()
        };
        prefixes = (0..prefix.pool).map(text).collect();
        prefix_sums = sums((1..=prefix.pool).map(|rank| f64::from(rank).powf(-prefix.skew)));
    }
    let (model, tokens) = (&work.model, work.answer_tokens);
    let (begin, end) = match work.kind {
        Kind::Embeddings => (format!("{{\"model\":\"{model}\",\"input\":\""), "\"}".to_owned()),
        Kind::Chat => (
            format!("{{\"model\":\"{model}\",\"messages\":["),
            format!("\"}}],\"max_tokens\":{tokens},\"stream\":false}}"),
        ),
        Kind::Stream => (
            format!("{{\"model\":\"{model}\",\"messages\":["),
            format!("\"}}],\"max_tokens\":{tokens},\"stream\":true}}"),
        ),
    };
    Ready {
        heads,
        begin,
        end,
        language_sums: sums(languages.iter().map(|(_, weight)| *weight)),
        languages: languages.into_iter().map(|(at, _)| at).collect(),
        prefixes,
        prefix_sums,
        hits: if work.hits.is_empty() {
            corpus::hits().map(str::to_owned).collect()
        } else {
            work.hits.clone()
        },
    }
}

#[cfg(test)]
mod tests;
