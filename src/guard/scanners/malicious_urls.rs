//! `MaliciousURLs`: links in a model's answer that attack whoever follows them.
//!
//! URLs are found as browsers and renderers of Markdown find them (`extract`), taken apart as browsers do
//! (`parse`), and weighed (`rules`): hosts of the deny list, tricks of structure, and many weak signs
//! together. What looks ordinary and is on no list passes: lexical evidence does not find fresh malware. A
//! finding's `rule` is the strongest evidence, its `reason` all of it, with the host written so that nobody
//! clicks on it.
//!
//! Streaming: text is taken in slices into a tail of at most a few kilobytes; what lies before the start of
//! an unfinished URL is settled. The span of a host that is written without scheme and `www.` starts behind
//! its first dot, so that ordinary words are never held back. Cost: one vector search over text without
//! URLs, about 1 µs a URL.

mod actions;
mod extract;
mod links;
pub mod model;
mod names;
mod parse;
mod rules;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fs;

use crate::config::guard::{MaliciousUrls as Settings, ScannerName};
use crate::guard::verdict::{Finding, Found};

use extract::{Candidate, Step};
use model::Model;
use names::{Names, Set};
use parse::{Host, Url};
use rules::Case;

/// Bytes of a piece that are taken at once.
const SLICE: usize = 4096;

/// The scanner, shared by all streams.
#[derive(Debug)]
pub struct MaliciousUrls {
    threshold: f32,
    denied: Set<String>,
    allowed: Set<String>,
    names: Names,
    model: Option<Model>,
}

/// Where one text has got to.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The end of the text so far.
    tail: String,
    /// Bytes of the text before `tail`.
    base: usize,
    /// Where in `tail` to look on.
    resume: usize,
    /// Bytes of the text that no finding can touch any more.
    settled: usize,
    /// A URL is running that only some bytes can end.
    running: bool,
}

impl MaliciousUrls {
    /// A scanner with the lists of `settings`.
    ///
    /// # Errors
    /// The deny list cannot be read.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let mut denied = Set::default();
        if let Some(path) = &settings.deny_list {
            let list = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            denied.extend(list.lines().filter_map(listed_host));
        }
        let allowed = settings.allow.iter().filter_map(|line| listed_host(line)).collect();
        Ok(Self {
            threshold: settings.threshold,
            denied,
            allowed,
            names: Names::new(),
            model: Model::embedded(),
        })
    }

    /// At the start of a text.
    #[must_use]
    pub fn start(&self) -> State {
        State::default()
    }

    /// Takes the next piece of the text.
    pub fn push(&self, state: &mut State, piece: &str, found: &mut Found) {
        let mut rest = piece;
        while !rest.is_empty() {
            let (slice, behind) = rest.split_at(rest.floor_char_boundary(SLICE));
            rest = behind;
            state.tail.push_str(slice);
            // The URL starts a little before or behind its trigger.
            let long = state.tail.len() - state.resume + 16 > extract::URL_MAX;
            if state.running && !long && !slice.bytes().any(extract::may_end) {
                continue;
            }
            self.scan(state, false, found);
        }
    }

    /// The text is over.
    pub fn finish(&self, state: &mut State, found: &mut Found) {
        self.scan(state, true, found);
        state.settled = state.base + state.tail.len();
    }

    /// Bytes of the text from its start that no finding to come can touch.
    #[must_use]
    pub fn settled(&self, state: &State) -> usize {
        state.settled
    }

    fn scan(&self, state: &mut State, over: bool, found: &mut Found) {
        let hold = loop {
            match extract::next(&state.tail, state.resume, over) {
                Step::Url(candidate) => {
                    state.resume = candidate.url.end;
                    self.judge(state, &candidate, found);
                }
                Step::Wait { resume, hold, run } => {
                    state.resume = resume;
                    state.running = run;
                    break hold;
                }
            }
        };
        state.settled = state.base + hold;
        let keep = state.tail.floor_char_boundary(hold.min(state.resume).saturating_sub(extract::BEHIND_MAX));
        // Moving the tail for every few bytes would cost more than the few bytes.
        if keep > extract::BEHIND_MAX {
            state.tail.drain(..keep);
            state.base += keep;
            state.resume -= keep;
        }
    }

    fn judge(&self, state: &State, candidate: &Candidate, found: &mut Found) {
        let raw = state.tail.get(candidate.url.clone()).unwrap_or_default();
        let Some(url) = Url::parse(raw, candidate.link) else { return };
        let mut case = Case::default();
        if let Host::Name(name) = &url.host {
            if is_listed(&self.allowed, name) && url.user.is_none() {
                return;
            }
            if is_listed(&self.denied, name) {
                case.add("listed", 1.0);
            }
        } else if !self.denied.is_empty() || !self.allowed.is_empty() {
            let address = url.defanged_host().replace(['[', ']'], "");
            if self.allowed.contains(&address) {
                return;
            }
            if self.denied.contains(&address) {
                case.add("listed", 1.0);
            }
        }
        let label = candidate.label.clone().and_then(|label| state.tail.get(label));
        rules::weigh(&self.names, self.model.as_ref(), &url, raw, label, &mut case);
        let score = case.score();
        if score <= self.threshold {
            return;
        }
        let strongest = case.evidence.iter().max_by(|a, b| a.weight.total_cmp(&b.weight));
        let Some(strongest) = strongest else { return };
        let span = state.base + candidate.span_start..state.base + candidate.url.end;
        found.add(Finding {
            scanner: ScannerName::MaliciousUrls,
            rule: Cow::Borrowed(strongest.rule),
            span,
            score,
            reason: reason(&case, &url),
        });
    }
}

/// The evidence and the host, for operators.
fn reason(case: &Case, url: &Url) -> String {
    let mut parts: Vec<String> = case
        .evidence
        .iter()
        .filter(|e| e.weight > 0.0)
        .map(|e| format!("{} {:.2}", e.rule, e.weight))
        .collect();
    let host = url.defanged_host();
    if !host.is_empty() {
        parts.push(host);
    }
    parts.join(", ")
}

/// The host of a line of a list: plain, or of a hosts file; comments start with `#`.
fn listed_host(line: &str) -> Option<String> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let host = match (first.parse::<std::net::IpAddr>(), words.next()) {
        (Ok(_), Some(host)) => host,
        _ => first,
    };
    let host = host.trim_start_matches("*.").trim_matches('.');
    let host = idna::domain_to_ascii(host).unwrap_or_else(|_| host.to_lowercase());
    (!host.is_empty() && host != "localhost").then_some(host)
}

/// Whether `host` or a domain that it belongs to is in `list`.
fn is_listed(list: &Set<String>, host: &str) -> bool {
    if list.is_empty() {
        return false;
    }
    let mut name = host;
    loop {
        if list.contains(name) {
            return true;
        }
        match name.split_once('.') {
            Some((_, rest)) => name = rest,
            None => return false,
        }
    }
}
