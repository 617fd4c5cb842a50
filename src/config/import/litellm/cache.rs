//! `cache` of the guide and `litellm_settings.cache_params`: `[cache]`.

use std::time::Duration;

use super::super::field::{Field, Section};
use super::super::plan::Plan;
use super::super::toml::from;
use super::{Sections, pick, redis};

/// Longest time that an answer is kept unless `ttl_max` says more.
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads both and writes the section.
pub(super) fn read(guide: Option<Field<'_>>, sections: &mut Sections<'_>, plan: &mut Plan) {
    let switch = pick(&mut sections.settings, "cache");
    let on = switch.as_ref().and_then(Field::flag);
    let params = pick(&mut sections.settings, "cache_params");
    if let Some(field) = &switch {
        match on {
            Some(true) => field.exact("[cache]"),
            Some(false) => field.exact("cache.store = \"off\""),
            None => {}
        }
    }
    match params {
        Some(field) if on != Some(true) => field.ignored("litellm_settings.cache is not on"),
        Some(field) => field.section().iter_mut().for_each(|section| read_params(section, plan)),
        None if on == Some(true) => {
            plan.doc.section("[cache]").text("store", "memory", "LiteLLM's local cache")
        }
        None => {}
    }
    if let Some(mut section) = guide.and_then(|field| field.section()) {
        read_params(&mut section, plan);
    }
}

fn read_params(section: &mut Section<'_>, plan: &mut Plan) {
    if let Some(field) = section.take("enabled")
        && field.flag() == Some(false)
    {
        field.exact("cache.store = \"off\"");
        section.rest("the cache is off");
        return;
    }
    let kind = section.take("type");
    let word = kind.as_ref().and_then(Field::text).map(|text| text.to_ascii_lowercase());
    let redis = match word.as_deref() {
        Some("redis") => true,
        Some("local" | "memory" | "in-memory") => false,
        None if kind.is_none() => true, // LiteLLM's default
        _ => {
            kind.iter().for_each(|field| field.refused("no such store: memory, redis"));
            section.rest("its store is refused");
            return;
        }
    };
    let store = if redis { "redis" } else { "memory" };
    let note = kind.as_ref().map(|field| from(&field.origin())).unwrap_or_default();
    plan.doc.section("[cache]").text("store", store, note);
    kind.iter().for_each(|field| field.exact(format!("cache.store = \"{store}\"")));
    if redis && let Some((url, origin)) = redis::read(section, "cache.url", None, plan) {
        plan.doc.section("[cache]").text("url", &url, from(&origin));
    }
    if let Some(field) = section.take("ttl")
        && let Some(time) = field.seconds_within(366.0 * 24.0 * 60.0 * 60.0)
    {
        let time = time.max(Duration::from_secs(1));
        if time > TTL_MAX {
            plan.doc.section("[cache]").time("ttl_max", time, "");
        }
        plan.doc.section("[cache]").time("ttl", time, from(&field.origin()));
        field.exact("cache.ttl");
    }
    read_tasks(section, plan);
    if let Some(field) = section.take("mode")
        && let Some(text) = field.text()
    {
        match text.as_ref() {
            "default_on" | "default_off" => {
                plan.doc.section("[cache]").text("mode", &text, from(&field.origin()));
                field.exact("cache.mode");
            }
            _ => field.refused("expected default_on or default_off"),
        }
    }
    section.rest("the cache has no such setting");
}

/// `supported_call_types`: which answers are kept.
fn read_tasks(section: &mut Section<'_>, plan: &mut Plan) {
    let Some(field) = section.take("supported_call_types") else { return };
    let mut tasks: Vec<&str> = Vec::new();
    for item in field.items() {
        let Some(text) = item.text() else { continue };
        let task = match text.trim_start_matches('a') {
            "completion" => "chat",
            "text_completion" => "completions",
            "embedding" => "embeddings",
            _ => {
                item.ignored("such answers are never kept");
                continue;
            }
        };
        if !tasks.contains(&task) {
            tasks.push(task);
        }
        item.exact(format!("cache.tasks: {task}"));
    }
    if !tasks.is_empty() {
        plan.doc.section("[cache]").list("tasks", &tasks, from(&field.origin()));
    }
}
