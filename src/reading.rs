//! A request's texts on their way through the scanners of a profile, in the order of the body, until one blocks.
//!
//! [`crate::guard`] judges texts, [`crate::api`] knows where a body has them; this is how they meet. Long texts are read in
//! slices of [`STEP`] bytes, between which others may have their turn. What a [`Ground`] does besides, remembering verdicts or
//! noting scores, changes no verdict: an explanation reads as an exchange does.

use std::sync::Arc;

use crate::api::{Failure, Texts, View};
use crate::config::guard::{Action, Language, Messages, Role, ScannerName};
use crate::guard::Profile;
use crate::guard::chain::{self, Chain, Inspection};
use crate::guard::verdict::{Found, Tally};
use crate::guard::window::{self, Blocked};
use crate::refusal;
use crate::wire::text::{self, Unescape};
use crate::wire::{Span, json};

/// Bytes that are scanned between two looks at the clock.
pub const STEP: usize = 2048;

/// Turns of others in long work.
#[expect(async_fn_in_trait, reason = "long work is done on one thread")]
pub trait Turns {
    /// Nanoseconds of a monotonic clock.
    fn now_ns(&self) -> u64;

    /// A slice is done: others have their turn if it is time.
    async fn step(&mut self);
}

/// Where reading takes place.
pub trait Ground: Turns {
    /// By what a text is found that was read before.
    type Key;

    /// The key of `text`; `None`: it is not remembered.
    fn key(&self, profile: &Profile, text: &str) -> Option<Self::Key>;

    /// What was found in a text that was read before.
    fn known(&self, key: &Self::Key) -> Option<Arc<Found>>;

    /// Remembers what was found.
    fn learn(&self, key: Self::Key, found: &Arc<Found>);

    /// A text has been read.
    fn note(&mut self, chain: &Chain, inspection: &Inspection);
}

/// Reads the texts of a request; redactions are noted in `view`, what scanners came to in `tally`. Returns the language to
/// answer the client in.
///
/// # Errors
/// The request is blocked.
pub async fn request<G: Ground>(
    ground: &mut G,
    profile: &Profile,
    texts: &Texts,
    body: &[u8],
    view: &mut View,
    tally: &mut Tally,
) -> Result<Language, Failure> {
    let last = texts.items.iter().rfind(|item| item.role == Role::User).or(texts.items.last());
    let language = profile.language(last.map_or("", |item| texts.text(item)));
    let result = read_request(ground, profile, texts, body, view, tally).await;
    result.map(|()| language).map_err(|blocked| refusal::blocked(&blocked, language, false))
}

async fn read_request<G: Ground>(
    ground: &mut G,
    profile: &Profile,
    texts: &Texts,
    body: &[u8],
    view: &mut View,
    tally: &mut Tally,
) -> Result<(), Blocked> {
    let chain = &profile.input;
    let last = texts.items.iter().filter(|item| profile.reads(item.role)).map(|item| item.message).max();
    let items: Vec<_> = texts
        .items
        .iter()
        .filter(|item| profile.reads(item.role))
        .filter(|item| profile.messages == Messages::All || Some(item.message) == last)
        .collect();
    let read = items.iter().map(|item| texts.text(item));
    count_tokens(ground, chain, read, tally).await?;
    for item in items {
        let text = texts.text(item);
        let found = read_text(ground, profile, text, tally).await?;
        let mut blocking = Vec::new();
        let mut redactions = Vec::new();
        for finding in &found.findings {
            let action = chain.action(finding.scanner, &found);
            tally.find(finding, action);
            match action {
                Action::Block => blocking.push(finding.clone()),
                Action::Redact => {
                    let secret = text.get(finding.span.clone()).unwrap_or_default();
                    redactions.push((finding.span.clone(), chain.replacement(finding, secret)));
                }
                Action::Monitor => {}
            }
        }
        if !blocking.is_empty() {
            return Err(Blocked::Found(blocking));
        }
        window::merge(&mut redactions);
        let spans: Vec<_> = redactions.iter().map(|(span, _)| span.clone()).collect();
        let raw = text::raw_spans(&Unescape::default(), item.raw.of_bytes(body), &spans);
        for (span, (_, with)) in raw.into_iter().zip(redactions) {
            let mut inside = Vec::new();
            json::escape_into(&mut inside, &with);
            let start = item.raw.start;
            view.redactions.push((Span { start: start + span.start, end: start + span.end }, inside));
        }
    }
    Ok(())
}

/// What is found in one text, now or when it was read before.
async fn read_text<G: Ground>(
    ground: &mut G,
    profile: &Profile,
    text: &str,
    tally: &mut Tally,
) -> Result<Arc<Found>, Blocked> {
    if text.trim().is_empty() {
        return Ok(Arc::default());
    }
    let chain = &profile.input;
    let key = ground.key(profile, text);
    if let Some(known) = key.as_ref().and_then(|key| ground.known(key)) {
        return Ok(known);
    }
    let mut inspection = chain.inspect();
    while !chain.step(&mut inspection, text, STEP) {
        ground.step().await;
    }
    ground.note(chain, &inspection);
    let reading = &inspection.reading;
    tally.spent(&reading.spent_ns);
    let mut whole = true;
    for name in chain.scanners().filter(|name| chain.has_failed(reading, *name)) {
        whole = false;
        if tally.fail(name) && chain.failure_blocks(name) {
            return Err(Blocked::Failed(name));
        }
    }
    let found = Arc::new(inspection.reading.found);
    if let Some(key) = key.filter(|_| whole) {
        ground.learn(key, &found);
    }
    Ok(found)
}

/// Counts the tokens of all texts together, if they can be too many.
async fn count_tokens<'a, G: Ground>(
    ground: &mut G,
    chain: &Chain,
    texts: impl Iterator<Item = &'a str> + Clone,
    tally: &mut Tally,
) -> Result<(), Blocked> {
    let Some(tokens) = chain.tokens() else { return Ok(()) };
    if !tokens.may_exceed(texts.clone().map(str::len).sum()) {
        return Ok(());
    }
    let (mut state, mut found) = (tokens.start(), Found::default());
    let since_ns = ground.now_ns();
    for text in texts {
        loop {
            match chain.count(&mut state, text, STEP, &mut found) {
                Some(true) => break,
                Some(false) => ground.step().await,
                None if tally.fail(ScannerName::TokenLimit)
                    && chain.failure_blocks(ScannerName::TokenLimit) =>
                {
                    return Err(Blocked::Failed(ScannerName::TokenLimit));
                }
                None => break,
            }
        }
    }
    let mut spent = [0; chain::SCANNERS];
    spent[ScannerName::TokenLimit as usize] = ground.now_ns().saturating_sub(since_ns);
    tally.spent(&spent);
    let action = chain.policy(ScannerName::TokenLimit).map_or(Action::Monitor, |policy| policy.action);
    found.findings.iter().for_each(|finding| tally.find(finding, action));
    if found.findings.is_empty() || action == Action::Monitor {
        Ok(())
    } else {
        Err(Blocked::Found(found.findings))
    }
}
