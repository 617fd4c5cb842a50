//! `guardrails`, `llm_guard` and the guardrails of models: `[guard]` and its profiles.
//!
//! A guard that cannot be had is refused, never left out in silence. What LiteLLM would not have run, because its file
//! had no `default_on` or its hook could not be loaded, runs here: the file asks for it.

use std::collections::HashMap;

use super::super::field::{Field, Section, sweep};
use super::super::plan::Plan;
use super::super::report::shown;
use super::super::toml::from;
use super::models::Deployment;
use crate::config::check::guard::{INPUT, OUTPUT};
use crate::config::guard::ScannerName;
use crate::config::render::guard::LANGUAGES;
use crate::config::render::quoted;

/// What is scanned of a model's requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Directions {
    input: bool,
    output: bool,
}

/// The guards of the file.
#[derive(Default)]
pub(super) struct Guards {
    /// `guardrails` by their names.
    named: HashMap<String, Directions>,
    default: Directions,
    /// Those with `default_on`: they run whatever a model names.
    always: Directions,
    /// One of them masks secrets.
    masks: bool,
    /// There is a guard at all.
    on: bool,
}

impl Directions {
    fn and(self, other: Self) -> Self {
        Self { input: self.input || other.input, output: self.output || other.output }
    }
}

const BOTH: Directions = Directions { input: true, output: true };

/// Reads `guardrails` (those that are none are left to the caller) and `llm_guard`, and writes `[guard]`.
pub(super) fn read<'a>(rails: &[Field<'a>], guide: Option<Field<'a>>, plan: &mut Plan) -> Guards {
    let mut guards = Guards::default();
    for rail in rails {
        guards.read_rail(rail, plan);
    }
    let union = guards.named.values().fold(Directions::default(), |all, one| all.and(*one));
    match guide.and_then(|field| field.section()) {
        Some(mut section) => guards.read_guide(&mut section, plan),
        None if guards.on => {
            guards.default = union;
            plan.doc.section("[guard]").set("enabled", true, "");
            guards.close(plan);
        }
        None => {}
    }
    guards
}

impl Guards {
    fn read_rail(&mut self, rail: &Field<'_>, plan: &mut Plan) {
        let Some(mut section) = rail.section() else { return };
        let name_field =
            section.take("guardrail_name").or_else(|| section.take("name")).or_else(|| section.take("id"));
        let name =
            name_field.as_ref().and_then(Field::text).map(|text| text.into_owned()).unwrap_or_default();
        let Some(mut params) = section.take("litellm_params").and_then(|field| field.section()) else {
            rail.refused("a guardrail without litellm_params");
            return;
        };
        let kind = params.take("guardrail");
        let kind_text = kind.as_ref().and_then(Field::text).map(|text| text.into_owned()).unwrap_or_default();
        let is_ours =
            kind_text.contains("LLMGuard") || kind_text == "llm_guard" || kind_text == "llmguard_moderations";
        let masks = kind_text == "hide-secrets";
        if !is_ours && !masks {
            let field = kind.as_ref().unwrap_or(rail);
            field.refused(format!(
                "there is no guardrail {}: see docs/guards.md for what the gateway's own scanners find",
                quoted(shown(&kind_text))
            ));
            sweep(rail, "its guardrail is refused");
            return;
        }
        self.on = true;
        kind.iter().for_each(|field| field.exact("[guard]"));
        name_field.iter().for_each(|field| field.exact("guard.profiles, where models name it"));
        let mut directions = read_mode(&mut params);
        if masks {
            directions = Directions { input: true, output: false };
            self.masks = true;
            plan.doc.section("[guard.input.scanner.Secrets]").text("action", "redact", from(&rail.origin()));
        }
        match params.take("default_on") {
            Some(field) if field.flag() == Some(true) => {
                self.always = self.always.and(directions);
                field.exact("[guard]");
            }
            Some(field) => field.changed("[guard] is on for every model that names no guardrails"),
            None => {}
        }
        params.ignore(&["api_key", "api_base"], "the scanners run in the gateway");
        params.rest("the gateway has no such setting of a guardrail");
        section.rest("LiteLLM does not know it here either");
        self.named.insert(name, directions);
    }

    /// The guide's `llm_guard`.
    fn read_guide(&mut self, section: &mut Section<'_>, plan: &mut Plan) {
        self.on = true;
        let enabled = section.take("enabled");
        let on = enabled.as_ref().and_then(Field::flag).unwrap_or(true);
        let note = enabled.as_ref().map(|field| from(&field.origin())).unwrap_or_default();
        plan.doc.section("[guard]").set("enabled", on, note);
        enabled.iter().for_each(|field| field.exact(format!("guard.enabled = {on}")));
        let errors = section.take("multilingual_errors").or_else(|| section.take("localized_errors"));
        if let Some(field) = errors
            && let Some(flag) = field.flag()
        {
            plan.doc.section("[guard]").set("localized_errors", flag, from(&field.origin()));
            field.exact(format!("guard.localized_errors = {flag}"));
        }
        if let Some(field) = section.take("supported_languages") {
            read_languages(&field, plan);
        }
        self.default = BOTH;
        for (key, direction, allowed) in
            [("input_scanning", "input", &INPUT), ("output_scanning", "output", &OUTPUT)]
        {
            let scanned = section.take(key).and_then(|field| field.section());
            let masks = self.masks && direction == "input";
            let read =
                scanned.map(|mut section| read_direction(&mut section, direction, allowed, masks, plan));
            if read == Some(false) {
                match direction {
                    "input" => self.default.input = false,
                    _ => self.default.output = false,
                }
            }
        }
        section.rest("the gateway has no such setting");
        self.close(plan);
    }

    /// A direction that is off has no scanners.
    fn close(&self, plan: &mut Plan) {
        for (on, header) in [(self.default.input, "[guard.input]"), (self.default.output, "[guard.output]")] {
            if !on {
                plan.doc.section(header).set("scanners", "[]", "off");
            }
        }
    }

    /// The profile of a model, by the guardrails that its deployments name; `None`: the default one, also where one of
    /// them is not known.
    pub(super) fn profile(&mut self, level: &[&Deployment<'_>], plan: &mut Plan) -> Option<String> {
        let mut chosen: Option<Directions> = None;
        for deployment in level {
            let Some(field) = &deployment.guardrails else { continue };
            let all = chosen.get_or_insert(self.always);
            if field.items().is_empty() {
                field.exact("models.guard");
            }
            for item in field.items() {
                let name = item.text().map(|text| text.into_owned()).unwrap_or_default();
                match self.named.get(&name) {
                    Some(one) => {
                        *all = all.and(*one);
                        item.exact("models.guard");
                    }
                    None => {
                        *all = all.and(self.default);
                        item.refused(format!("no guardrail is called {}", quoted(shown(&name))));
                    }
                }
            }
        }
        let directions = chosen.filter(|directions| *directions != self.default)?;
        let (name, off) = match (directions.input, directions.output) {
            (true, true) => ("both", None),
            (true, false) => ("input-only", Some("output.scanners")),
            (false, true) => ("output-only", Some("input.scanners")),
            (false, false) => return Some("off".to_owned()),
        };
        let header = format!("[guard.profiles.{name}]");
        let section = plan.doc.section(&header);
        section.set("enabled", true, "");
        if let Some(key) = off {
            section.set(key, "[]", "");
        }
        if directions.input && !self.default.input {
            section.list("input.scanners", &INPUT.map(ScannerName::name), "");
        }
        if directions.output && !self.default.output {
            section.list("output.scanners", &OUTPUT.map(ScannerName::name), "");
        }
        Some(name.to_owned())
    }
}

/// When a guardrail runs.
fn read_mode(params: &mut Section<'_>) -> Directions {
    let mut directions = Directions::default();
    let Some(field) = params.take("mode") else {
        params.field().changed("no mode: requests and answers are scanned");
        return BOTH;
    };
    for item in field.items() {
        match item.text().as_deref() {
            Some("pre_call") => {
                directions.input = true;
                item.exact("guard.input");
            }
            Some("during_call") => {
                directions.input = true;
                item.changed("guard.input: before the call, not beside it");
            }
            Some("post_call") => {
                directions.output = true;
                item.exact("guard.output");
            }
            Some("logging_only") => {
                directions.input = true;
                item.refused("set action = \"monitor\" for each scanner of its own: here it would block");
            }
            Some(_) => item.refused("no such mode: pre_call, during_call, post_call"),
            None => {}
        }
    }
    directions
}

fn read_languages(field: &Field<'_>, plan: &mut Plan) {
    let mut known: Vec<&str> = Vec::new();
    for item in field.items() {
        let Some(text) = item.text() else { continue };
        match LANGUAGES.iter().find(|(word, _)| *word == text.to_ascii_lowercase()) {
            Some((word, _)) => {
                if !known.contains(word) {
                    known.push(word);
                }
                item.exact("guard.languages");
            }
            None => item.changed("guard.languages: clients are told in English"),
        }
    }
    plan.doc.section("[guard]").list("languages", &known, from(&field.origin()));
}

/// One direction; whether it is on.
fn read_direction(
    section: &mut Section<'_>,
    direction: &str,
    allowed: &[ScannerName],
    masks: bool,
    plan: &mut Plan,
) -> bool {
    let enabled = section.take("enabled");
    let on = enabled.as_ref().and_then(Field::flag).unwrap_or(true);
    enabled.iter().for_each(|field| field.exact(format!("guard.{direction}.scanners")));
    if let Some(field) = section.take("scanners").or_else(|| section.take("input_scanners")) {
        if on {
            read_scanners(&field, direction, allowed, masks, plan);
        } else {
            field.exact(format!("guard.{direction}.scanners = []: off"));
        }
    }
    section.rest("the gateway has no such setting");
    on
}

fn read_scanners(field: &Field<'_>, direction: &str, allowed: &[ScannerName], masks: bool, plan: &mut Plan) {
    let mut chosen: Vec<&str> = Vec::new();
    for item in field.items() {
        let Some((name_field, name, settings)) = scanner(&item) else { continue };
        match allowed.iter().find(|known| known.name().eq_ignore_ascii_case(&name)) {
            Some(known) => {
                if !chosen.contains(&known.name()) {
                    chosen.push(known.name());
                }
                match &name_field {
                    Some(field) => field.exact(format!("guard.{direction}.scanners")),
                    None if settings.as_ref().is_none_or(|settings| settings.node.is_leaf()) => {
                        item.exact(format!("guard.{direction}.scanners"));
                    }
                    None => {}
                }
                if let Some(settings) = settings {
                    read_settings(&settings, *known, direction, plan);
                }
            }
            None => item.refused(format!(
                "there is no scanner {} of {direction}: what it would find would pass",
                quoted(shown(&name))
            )),
        }
    }
    if masks && !chosen.contains(&ScannerName::Secrets.name()) {
        chosen.push(ScannerName::Secrets.name());
    }
    plan.doc.section(&format!("[guard.{direction}]")).list("scanners", &chosen, from(&field.origin()));
}

/// A scanner's name, where it stands if it is a key of its own, and its settings.
fn scanner<'a>(item: &Field<'a>) -> Option<(Option<Field<'a>>, String, Option<Field<'a>>)> {
    if !item.is_map() {
        return Some((None, item.text()?.into_owned(), None));
    }
    if let Some(field) = item.get("type").or_else(|| item.get("name")) {
        let name = field.text()?.into_owned();
        let settings = item.get("params").or_else(|| item.get("config"));
        return Some((Some(field), name, settings));
    }
    let (name, settings) = item.pairs()?.into_iter().next()?;
    Some((None, name.to_owned(), Some(settings)))
}

/// Settings of a scanner, by LLM Guard's names.
fn read_settings(settings: &Field<'_>, name: ScannerName, direction: &str, plan: &mut Plan) {
    let Some(mut section) = settings.section() else { return };
    let header = format!("[guard.{direction}.scanner.{}]", name.name());
    let classifier =
        matches!(name, ScannerName::PromptInjection | ScannerName::Toxicity | ScannerName::NoRefusal);
    let (numbers, words, flags, lists): (&[&str], &[&str], &[&str], &[&str]) = match name {
        ScannerName::BanSubstrings => {
            (&[], &["match_type"], &["case_sensitive", "contains_all", "redact"], &["substrings"])
        }
        ScannerName::Secrets => (&[], &["redact_mode"], &[], &[]),
        ScannerName::TokenLimit => (&["limit"], &["encoding_name"], &[], &[]),
        ScannerName::NoCode => (&["threshold"], &[], &["is_blocked"], &["languages"]),
        _ if classifier => (&["threshold"], &["match_type"], &[], &[]),
        _ => (&["threshold"], &[], &[], &[]),
    };
    let mut set = |field: &Field<'_>, key: &str, value: Option<String>| {
        if let Some(value) = value {
            plan.doc.section(&header).set(key, value, from(&field.origin()));
            field.exact(format!("{}.{key}", header.trim_matches(['[', ']'])));
        }
    };
    for key in numbers {
        if let Some(field) = section.take(key) {
            let most = if *key == "limit" { 100_000_000.0 } else { 1.0 };
            let number = field.number().filter(|number| *number <= most);
            let shown = number.map(|number| match number.fract() == 0.0 && *key == "limit" {
                true => format!("{number:.0}"),
                false => format!("{number:?}"),
            });
            set(&field, key, shown);
        }
    }
    for key in words {
        if let Some(field) = section.take(key) {
            let word = field.text().map(|text| quoted(text.to_ascii_lowercase()));
            set(&field, key, word);
        }
    }
    for key in flags {
        if let Some(field) = section.take(key) {
            let flag = field.flag().map(|flag| flag.to_string());
            set(&field, key, flag);
        }
    }
    for key in lists {
        if let Some(field) = section.take(key) {
            let texts: Option<Vec<String>> =
                field.items().iter().map(|item| item.text().map(quoted)).collect();
            set(&field, key, texts.map(|texts| format!("[{}]", texts.join(", "))));
        }
    }
    section.ignore(
        &["use_onnx", "model", "model_kwargs", "use_faster_model"],
        "the gateway has models of its own",
    );
    section.rest("the scanner has no such setting here");
}
