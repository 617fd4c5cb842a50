//! `[guard]` as the file would say it: every profile in full.

use super::{Page, list, quoted};
use crate::config::guard::{
    Action, Encoding, Guard, Language, Messages, Normalize, OnError, PhraseMatch, Profile, RedactMode, Role,
    Scanner, Settings, StreamMode, TextMatch, Threshold,
};

/// Words of `guard.languages`.
pub const LANGUAGES: [(&str, Language); 7] = [
    ("zh", Language::Zh),
    ("vi", Language::Vi),
    ("ja", Language::Ja),
    ("ko", Language::Ko),
    ("ru", Language::Ru),
    ("ar", Language::Ar),
    ("en", Language::En),
];
/// Words of `on_error`.
pub const ON_ERROR: [(&str, OnError); 2] = [("block", OnError::Block), ("allow", OnError::Allow)];
/// Words of `guard.input.roles`.
pub const ROLES: [(&str, Role); 4] =
    [("user", Role::User), ("system", Role::System), ("assistant", Role::Assistant), ("tool", Role::Tool)];
/// Words of `guard.input.messages`.
pub const MESSAGES: [(&str, Messages); 2] = [("all", Messages::All), ("last", Messages::Last)];
/// Words of `stream`.
pub const STREAM: [(&str, StreamMode); 2] =
    [("hold_back", StreamMode::HoldBack), ("monitor", StreamMode::Monitor)];
/// Words of `action`.
pub const ACTIONS: [(&str, Action); 3] =
    [("block", Action::Block), ("redact", Action::Redact), ("monitor", Action::Monitor)];
/// Words of BanSubstrings' `match_type`.
pub const PHRASE_MATCH: [(&str, PhraseMatch); 2] = [("str", PhraseMatch::Str), ("word", PhraseMatch::Word)];
/// Words of the classifiers' `match_type`.
pub const TEXT_MATCH: [(&str, TextMatch); 2] = [("full", TextMatch::Full), ("sentence", TextMatch::Sentence)];
/// Words of `normalize`.
pub const NORMALIZE: [(&str, Normalize); 3] =
    [("none", Normalize::None), ("unicode", Normalize::Unicode), ("strict", Normalize::Strict)];
/// Words of `redact_mode`.
pub const REDACT_MODE: [(&str, RedactMode); 3] =
    [("all", RedactMode::All), ("partial", RedactMode::Partial), ("hash", RedactMode::Hash)];

pub(super) fn write(page: &mut Page, guard: &Guard) {
    for (index, profile) in guard.profiles.iter().enumerate() {
        let at = if index == 0 { "guard".to_owned() } else { format!("guard.profiles.{}", profile.name) };
        write_profile(page, &at, profile);
    }
}

fn write_profile(page: &mut Page, at: &str, profile: &Profile) {
    page.header(&format!("[{at}]"));
    page.plain("enabled", profile.enabled);
    page.plain("localized_errors", profile.localized_errors);
    page.plain("languages", names(&LANGUAGES, &profile.languages));
    let listed = |scanners: &[Scanner]| list(scanners.iter().map(|scanner| scanner.settings.name().name()));
    page.header(&format!("[{at}.input]"));
    page.plain("scanners", listed(&profile.input.scanners));
    page.plain("roles", names(&ROLES, &profile.input.roles));
    page.word("messages", &MESSAGES, profile.input.messages);
    page.header(&format!("[{at}.output]"));
    page.plain("scanners", listed(&profile.output.scanners));
    for (direction, scanners) in [("input", &profile.input.scanners), ("output", &profile.output.scanners)] {
        for scanner in scanners {
            page.header(&format!("[{at}.{direction}.scanner.{}]", scanner.settings.name().name()));
            write_scanner(page, scanner);
        }
    }
}

fn names<T: PartialEq>(words: &[(&str, T)], chosen: &[T]) -> String {
    list(chosen.iter().filter_map(|one| words.iter().find(|(_, value)| value == one).map(|(word, _)| *word)))
}

fn write_scanner(page: &mut Page, scanner: &Scanner) {
    page.word("action", &ACTIONS, scanner.action);
    page.word("on_error", &ON_ERROR, scanner.on_error);
    page.word("stream", &STREAM, scanner.stream);
    match &scanner.settings {
        Settings::BanSubstrings(own) => {
            match &own.substrings {
                None => page.note("substrings are left out: the stock list"),
                Some(phrases) => page.plain("substrings", list(phrases.iter())),
            }
            page.word("match_type", &PHRASE_MATCH, own.match_type);
            page.plain("case_sensitive", own.case_sensitive);
            page.plain("contains_all", own.contains_all);
            page.word("normalize", &NORMALIZE, own.normalize);
        }
        Settings::PromptInjection(own) => {
            page.word("match_type", &TEXT_MATCH, own.match_type);
            write_threshold(page, &own.threshold);
        }
        Settings::Toxicity(own) => {
            page.word("match_type", &TEXT_MATCH, own.match_type);
            write_threshold(page, &own.threshold);
        }
        Settings::NoRefusal(own) => write_threshold(page, &own.threshold),
        Settings::Secrets(own) => {
            page.word("redact_mode", &REDACT_MODE, own.redact_mode);
            page.plain("disabled_rules", list(own.disabled_rules.iter()));
        }
        Settings::TokenLimit(own) => {
            page.plain("limit", own.limit);
            match own.encoding_name {
                Encoding::Cl100k => page.text("encoding_name", "cl100k_base"),
                Encoding::O200k => page.text("encoding_name", "o200k_base"),
                Encoding::Bytes(bytes) => page.text("encoding_name", format_args!("bytes/{bytes}")),
            }
        }
        Settings::MaliciousUrls(own) => {
            page.plain("threshold", format_args!("{:?}", own.threshold));
            if let Some(path) = &own.deny_list {
                page.text("deny_list", path.display());
            }
            page.plain("allow", list(own.allow.iter()));
        }
        Settings::NoCode(own) => {
            page.plain("threshold", format_args!("{:?}", own.threshold));
            page.plain("languages", list(own.languages.iter()));
            page.plain("is_blocked", own.is_blocked);
        }
    }
}

fn write_threshold(page: &mut Page, threshold: &Threshold) {
    page.plain("threshold", format_args!("{:?}", threshold.base));
    let own: Vec<String> = LANGUAGES
        .iter()
        .filter_map(|(name, language)| {
            let own = threshold.by_language.get(*language as usize).copied().flatten();
            own.map(|value| format!("{} = {value:?}", quoted(name)))
        })
        .collect();
    if !own.is_empty() {
        page.plain("thresholds", format_args!("{{ {} }}", own.join(", ")));
    }
}
