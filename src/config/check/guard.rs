//! `[guard]`: layers of settings, each over the ones before it.
//!
//! A scanner's settings are, from weak to strong: LLM Guard's defaults for the direction, `[guard.scanner.X]`,
//! `[guard.input.scanner.X]` or `[guard.output.scanner.X]`, and the same three of a profile.

mod layer;

use layer::{Layer, Layers};

use super::super::guard::{
    Guard, Input, Language, Messages, OnError, Output, Profile, Role, ScannerName, StreamMode,
};
use super::super::problem::{choices, quote};
use super::super::reader::{Table, Value};
use super::super::render::guard::{LANGUAGES, MESSAGES, ON_ERROR, ROLES, STREAM};

/// Profiles beside the default one.
const PROFILES_MAX: usize = 64;
/// Scanners of requests, unless the file names them.
pub(crate) const INPUT: [ScannerName; 5] = [
    ScannerName::BanSubstrings,
    ScannerName::PromptInjection,
    ScannerName::Toxicity,
    ScannerName::Secrets,
    ScannerName::TokenLimit,
];
/// Scanners of answers, unless the file names them.
pub(crate) const OUTPUT: [ScannerName; 5] = [
    ScannerName::BanSubstrings,
    ScannerName::Toxicity,
    ScannerName::MaliciousUrls,
    ScannerName::NoRefusal,
    ScannerName::NoCode,
];

/// What one level of the file says; `None`: what the level below says.
#[derive(Clone)]
struct Draft {
    enabled: bool,
    on_error: OnError,
    localized_errors: bool,
    languages: Vec<Language>,
    input: Vec<ScannerName>,
    output: Vec<ScannerName>,
    roles: Vec<Role>,
    messages: Messages,
    stream: StreamMode,
    both_layers: Layers,
    input_layers: Layers,
    output_layers: Layers,
}

/// The whole section. Without one nothing is scanned.
pub(super) fn read(root: &mut Table<'_>) -> Guard {
    let present = root.take("guard").is_some();
    root.section("guard", |table| {
        let default = Draft::base(present).read(table);
        let mut profiles = vec![default.finish("default")];
        if let Some(value) = table.take("profiles") {
            read_profiles(&value, &default, &mut profiles);
        }
        Guard { profiles }
    })
}

/// What a file without the section says.
pub fn absent() -> Guard {
    Guard { profiles: vec![Draft::base(false).finish("default")] }
}

fn read_profiles(value: &Value<'_>, default: &Draft, profiles: &mut Vec<Profile>) {
    for (name, value) in value.pairs().unwrap_or_default() {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty()
            || name.len() > 64
            || !name.bytes().all(allowed)
            || ["default", "off"].contains(&name)
        {
            let hint = "1 to 64 letters, digits, `-` and `_`; `default` and `off` have their own meaning";
            value.wrong(format!("{} is no name for a profile", quote(name)), hint);
        }
        let draft = value.as_section(|table| Draft { enabled: true, ..default.clone() }.read(table));
        profiles.extend(draft.map(|draft| draft.finish(name)));
    }
    if profiles.len() > PROFILES_MAX {
        value.wrong(format!("{} profiles", profiles.len()), format!("at most {PROFILES_MAX}"));
    }
}

impl Draft {
    fn base(enabled: bool) -> Self {
        Self {
            enabled,
            on_error: OnError::Block,
            localized_errors: true,
            languages: LANGUAGES.iter().map(|(_, language)| *language).collect(),
            input: INPUT.to_vec(),
            output: OUTPUT.to_vec(),
            roles: vec![Role::User],
            messages: Messages::All,
            stream: StreamMode::HoldBack,
            both_layers: Layers::default(),
            input_layers: Layers::default(),
            output_layers: Layers::default(),
        }
    }

    /// This level's keys over `self`.
    fn read(mut self, table: &mut Table<'_>) -> Self {
        self.enabled = table.flag("enabled", self.enabled);
        self.on_error = table.word("on_error", &ON_ERROR, self.on_error);
        self.localized_errors = table.flag("localized_errors", self.localized_errors);
        if let Some(value) = table.take("languages") {
            self.languages = words(&value, &LANGUAGES);
        }
        table.section("scanner", |table| self.both_layers.read(table, &ScannerName::ALL));
        table.section("input", |table| {
            if let Some(value) = table.take("scanners") {
                self.input = scanners(&value, &INPUT, "input");
            }
            if let Some(value) = table.take("roles") {
                self.roles = words(&value, &ROLES);
            }
            self.messages = table.word("messages", &MESSAGES, self.messages);
            table.section("scanner", |table| self.input_layers.read(table, &INPUT));
        });
        table.section("output", |table| {
            if let Some(value) = table.take("scanners") {
                self.output = scanners(&value, &OUTPUT, "output");
            }
            self.stream = table.word("stream", &STREAM, self.stream);
            table.section("scanner", |table| self.output_layers.read(table, &OUTPUT));
        });
        self
    }

    fn finish(&self, name: &str) -> Profile {
        let scanners = |chosen: &[ScannerName], own: &Layers, output: bool| {
            let listed = ScannerName::ALL.into_iter().filter(|name| chosen.contains(name));
            listed
                .map(|name| {
                    let layer: Layer = self.both_layers.of(name).under(own.of(name));
                    layer.finish(name, output, self.on_error, self.stream)
                })
                .collect()
        };
        Profile {
            name: name.to_owned(),
            enabled: self.enabled,
            localized_errors: self.localized_errors,
            languages: self.languages.clone(),
            input: Input {
                scanners: scanners(&self.input, &self.input_layers, false),
                roles: self.roles.clone(),
                messages: self.messages,
            },
            output: Output { scanners: scanners(&self.output, &self.output_layers, true) },
        }
    }
}

/// Scanners of a direction, by LLM Guard's names.
fn scanners(value: &Value<'_>, allowed: &[ScannerName], direction: &str) -> Vec<ScannerName> {
    let mut chosen = Vec::new();
    for item in value.items().unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        match ScannerName::ALL.into_iter().find(|name| name.name() == text) {
            Some(name) if chosen.contains(&name) => {
                item.wrong(format!("{text} stands here twice"), "remove one")
            }
            Some(name) if allowed.contains(&name) => chosen.push(name),
            found => {
                let known: Vec<&str> = allowed.iter().map(|name| name.name()).collect();
                let what = if found.is_some() { "does not scan" } else { "is no scanner of" };
                item.wrong(format!("{} {what} {direction}", quote(text)), choices(text, &known));
            }
        }
    }
    chosen
}

fn words<T: Copy + PartialEq>(value: &Value<'_>, words: &[(&str, T)]) -> Vec<T> {
    let mut chosen = Vec::new();
    for item in value.items().unwrap_or_default() {
        if let Some(word) = item.word(words)
            && !chosen.contains(&word)
        {
            chosen.push(word);
        }
    }
    chosen
}

/// The index of the profile that a model names; `None`: off.
pub(super) fn profile_of(table: &mut Table<'_>, guard: &Guard) -> Option<usize> {
    let Some(value) = table.take("guard") else { return Some(0) };
    let name = value.text()?;
    if name == "off" {
        return None;
    }
    let found = guard.profiles.iter().position(|profile| profile.name == name);
    if found.is_none() {
        let mut known: Vec<&str> = guard.profiles.iter().map(|profile| profile.name.as_str()).collect();
        known.push("off");
        value.wrong(format!("there is no guard profile {}", quote(name)), choices(name, &known));
    }
    found
}

#[cfg(test)]
mod tests;
