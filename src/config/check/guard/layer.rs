//! What one table of the file says of one scanner.

use std::collections::HashMap;
use std::path::PathBuf;

use super::super::super::guard::{
    Action, BanSubstrings, Encoding, MaliciousUrls, NoCode, NoRefusal, Normalize, OnError, PhraseMatch,
    PromptInjection, RedactMode, Scanner, ScannerName, Secrets, Settings, StreamMode, TextMatch, Threshold,
    TokenLimit, Toxicity,
};
use super::super::super::problem::quote;
use super::super::super::reader::{Table, Value};
use super::super::super::render::guard::{
    ACTIONS, LANGUAGES, NORMALIZE, ON_ERROR, PHRASE_MATCH, REDACT_MODE, STREAM, TEXT_MATCH,
};

/// Phrases, rules, hosts or languages of one scanner.
const LIST_MAX: usize = 100_000;
/// Bytes of one of them.
const ITEM_BYTES_MAX: usize = 1024;

/// Layers of several scanners.
#[derive(Clone, Default)]
pub(super) struct Layers(HashMap<ScannerName, Layer>);

/// The keys that a table has, of all scanners; `None`: left out.
#[derive(Clone, Default)]
pub(super) struct Layer {
    action: Option<Action>,
    on_error: Option<OnError>,
    stream: Option<StreamMode>,
    substrings: Option<Vec<String>>,
    phrase_match: Option<PhraseMatch>,
    case_sensitive: Option<bool>,
    contains_all: Option<bool>,
    normalize: Option<Normalize>,
    text_match: Option<TextMatch>,
    threshold: Option<f32>,
    thresholds: [Option<f32>; 7],
    redact_mode: Option<RedactMode>,
    disabled_rules: Option<Vec<String>>,
    limit: Option<usize>,
    encoding: Option<Encoding>,
    deny_list: Option<PathBuf>,
    allow: Option<Vec<String>>,
    languages: Option<Vec<String>>,
    is_blocked: Option<bool>,
}

impl Layers {
    /// Reads a table of scanners, over what is there.
    pub(super) fn read(&mut self, table: &mut Table<'_>, allowed: &[ScannerName]) {
        for &name in allowed {
            if table.take(name.name()).is_some() {
                let layer = table.section(name.name(), |table| Layer::read(table, name));
                let below = self.of(name);
                self.0.insert(name, below.under(layer));
            }
        }
    }

    pub(super) fn of(&self, name: ScannerName) -> Layer {
        self.0.get(&name).cloned().unwrap_or_default()
    }
}

impl Layer {
    fn read(table: &mut Table<'_>, name: ScannerName) -> Self {
        let mut layer = Self {
            on_error: table.take("on_error").and_then(|value| value.word(&ON_ERROR)),
            stream: table.take("stream").and_then(|value| value.word(&STREAM)),
            ..Self::default()
        };
        let redacts = matches!(name, ScannerName::BanSubstrings | ScannerName::Secrets);
        if let Some(value) = table.take("action") {
            layer.action = value.word(&ACTIONS);
            if layer.action == Some(Action::Redact) && !redacts {
                value.wrong(format!("{} cannot redact", name.name()), "block or monitor");
            }
        }
        layer.read_own(table, name);
        layer
    }

    /// The keys that only this scanner has.
    fn read_own(&mut self, table: &mut Table<'_>, name: ScannerName) {
        match name {
            ScannerName::BanSubstrings => {
                self.substrings = table.take("substrings").map(|value| texts(&value));
                self.phrase_match = table.take("match_type").and_then(|value| value.word(&PHRASE_MATCH));
                self.case_sensitive = table.take("case_sensitive").and_then(|value| value.flag());
                self.contains_all = table.take("contains_all").and_then(|value| value.flag());
                self.normalize = table.take("normalize").and_then(|value| value.word(&NORMALIZE));
                if let Some(redact) = table.take("redact").and_then(|value| value.flag())
                    && self.action.is_none()
                {
                    self.action = Some(if redact { Action::Redact } else { Action::Block });
                }
            }
            ScannerName::PromptInjection | ScannerName::Toxicity => {
                self.text_match = table.take("match_type").and_then(|value| value.word(&TEXT_MATCH));
                self.read_thresholds(table);
            }
            ScannerName::NoRefusal => self.read_thresholds(table),
            ScannerName::Secrets => {
                self.redact_mode = table.take("redact_mode").and_then(|value| value.word(&REDACT_MODE));
                self.disabled_rules = table.take("disabled_rules").map(|value| texts(&value));
            }
            ScannerName::TokenLimit => {
                self.limit = table.take("limit").and_then(|value| value.integer(1, 100_000_000));
                self.encoding = table.take("encoding_name").and_then(|value| encoding(&value));
            }
            ScannerName::MaliciousUrls => {
                self.threshold = table.take("threshold").and_then(|value| probability(&value));
                self.deny_list = table.take("deny_list").and_then(|value| deny_list(&value));
                self.allow = table.take("allow").map(|value| texts(&value));
            }
            ScannerName::NoCode => {
                self.threshold = table.take("threshold").and_then(|value| probability(&value));
                self.languages = table.take("languages").map(|value| texts(&value));
                self.is_blocked = table.take("is_blocked").and_then(|value| value.flag());
            }
        }
    }

    fn read_thresholds(&mut self, table: &mut Table<'_>) {
        self.threshold = table.take("threshold").and_then(|value| probability(&value));
        table.section("thresholds", |table| {
            for (name, language) in LANGUAGES {
                if let Some(own) = self.thresholds.get_mut(language as usize) {
                    *own = table.take(name).and_then(|value| probability(&value));
                }
            }
        });
    }

    /// `over` where it says something, else `self`.
    pub(super) fn under(self, over: Self) -> Self {
        let mut thresholds = self.thresholds;
        // A new base is meant for every script that it does not name itself.
        if over.threshold.is_some() {
            thresholds = [None; 7];
        }
        for (own, new) in thresholds.iter_mut().zip(over.thresholds) {
            *own = new.or(*own);
        }
        Self {
            action: over.action.or(self.action),
            on_error: over.on_error.or(self.on_error),
            stream: over.stream.or(self.stream),
            substrings: over.substrings.or(self.substrings),
            phrase_match: over.phrase_match.or(self.phrase_match),
            case_sensitive: over.case_sensitive.or(self.case_sensitive),
            contains_all: over.contains_all.or(self.contains_all),
            normalize: over.normalize.or(self.normalize),
            text_match: over.text_match.or(self.text_match),
            threshold: over.threshold.or(self.threshold),
            thresholds,
            redact_mode: over.redact_mode.or(self.redact_mode),
            disabled_rules: over.disabled_rules.or(self.disabled_rules),
            limit: over.limit.or(self.limit),
            encoding: over.encoding.or(self.encoding),
            deny_list: over.deny_list.or(self.deny_list),
            allow: over.allow.or(self.allow),
            languages: over.languages.or(self.languages),
            is_blocked: over.is_blocked.or(self.is_blocked),
        }
    }

    /// The settings, with LLM Guard's defaults where nothing was said.
    pub(super) fn finish(
        self,
        name: ScannerName,
        output: bool,
        on_error: OnError,
        stream: StreamMode,
    ) -> Scanner {
        let threshold = |default: f32| Threshold {
            base: self.threshold.unwrap_or(default),
            by_language: self.thresholds,
        };
        let text_match = self.text_match.unwrap_or(TextMatch::Full);
        let settings = match name {
            ScannerName::BanSubstrings => Settings::BanSubstrings(BanSubstrings {
                substrings: self.substrings,
                match_type: self.phrase_match.unwrap_or(PhraseMatch::Str),
                case_sensitive: self.case_sensitive.unwrap_or(false),
                contains_all: self.contains_all.unwrap_or(false),
                normalize: self.normalize.unwrap_or(Normalize::None),
            }),
            ScannerName::PromptInjection => Settings::PromptInjection(PromptInjection {
                threshold: threshold(0.92),
                match_type: text_match,
            }),
            ScannerName::Toxicity => Settings::Toxicity(Toxicity {
                threshold: threshold(if output { 0.7 } else { 0.5 }),
                match_type: text_match,
            }),
            ScannerName::Secrets => Settings::Secrets(Secrets {
                redact_mode: self.redact_mode.unwrap_or(RedactMode::All),
                disabled_rules: self.disabled_rules.unwrap_or_default(),
            }),
            ScannerName::TokenLimit => Settings::TokenLimit(TokenLimit {
                limit: self.limit.unwrap_or(4096),
                encoding_name: self.encoding.unwrap_or(Encoding::Cl100k),
            }),
            ScannerName::MaliciousUrls => Settings::MaliciousUrls(MaliciousUrls {
                threshold: self.threshold.unwrap_or(0.5),
                deny_list: self.deny_list,
                allow: self.allow.unwrap_or_default(),
            }),
            ScannerName::NoRefusal => Settings::NoRefusal(NoRefusal { threshold: threshold(0.75) }),
            ScannerName::NoCode => Settings::NoCode(NoCode {
                languages: self.languages.unwrap_or_default(),
                is_blocked: self.is_blocked.unwrap_or(true),
                threshold: self.threshold.unwrap_or(0.5),
            }),
        };
        Scanner {
            action: self.action.unwrap_or(Action::Block),
            on_error: self.on_error.unwrap_or(on_error),
            stream: self.stream.unwrap_or(stream),
            settings,
        }
    }
}

fn texts(value: &Value<'_>) -> Vec<String> {
    let items = value.items().unwrap_or_default();
    if items.len() > LIST_MAX {
        value.wrong(format!("{} items", items.len()), format!("at most {LIST_MAX}"));
    }
    let text = |item: &Value<'_>| {
        let text = item.text()?;
        if text.len() > ITEM_BYTES_MAX {
            item.wrong("is too long", format!("at most {ITEM_BYTES_MAX} bytes"));
        }
        Some(text.to_owned())
    };
    items.iter().filter_map(text).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a threshold needs no more digits")]
fn probability(value: &Value<'_>) -> Option<f32> {
    let number = value.amount()?;
    if number > 1.0 {
        value.wrong(format!("{number} is out of range"), "from 0 to 1");
    }
    Some(number as f32)
}

#[expect(clippy::cast_possible_truncation, reason = "an estimate needs no more digits")]
fn encoding(value: &Value<'_>) -> Option<Encoding> {
    let text = value.text()?;
    let encoding = match text {
        "cl100k_base" => Some(Encoding::Cl100k),
        "o200k_base" => Some(Encoding::O200k),
        _ => text
            .strip_prefix("bytes/")
            .and_then(|bytes| bytes.parse::<f64>().ok())
            .filter(|bytes| (0.25..=64.0).contains(bytes))
            .map(|bytes| Encoding::Bytes(bytes as f32)),
    };
    if encoding.is_none() {
        let hint = r#""cl100k_base" and "o200k_base" count exactly; "bytes/3" takes three bytes for a token (0.25 to 64)"#;
        value.wrong(format!("{} is no encoding", quote(text)), hint);
    }
    encoding
}

fn deny_list(value: &Value<'_>) -> Option<PathBuf> {
    let path = PathBuf::from(value.text()?);
    if let Err(cause) = std::fs::File::open(&path) {
        value.wrong(
            format!("{} cannot be read: {cause}", quote(&path.display().to_string())),
            "one host a line",
        );
    }
    Some(path)
}
