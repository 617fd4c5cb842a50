//! `cache` of the guide and `litellm_settings.cache_params`: `[cache]`.

use super::super::field::{Field, Section};
use super::super::plan::Plan;
use super::super::toml::from;
use super::{Sections, pick};

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
    if redis {
        read_address(section, plan);
    }
    if let Some(field) = section.take("ttl")
        && let Some(time) = field.seconds()
    {
        plan.doc.section("[cache]").time("ttl", time, from(&field.origin()));
        field.exact("cache.ttl");
    }
    section.ignore(&["supported_call_types"], "whole answers of all kinds are kept, streams are replayed");
    section.ignore(&["namespace"], "keys hold the caller and everything that makes two requests equal");
    section.rest("the cache has no such setting");
}

/// Host, port and database as one URL; a password does not belong into it.
fn read_address(section: &mut Section<'_>, plan: &mut Plan) {
    let mut either = |names: [&str; 2]| section.take(names[0]).or_else(|| section.take(names[1]));
    let (host, port, db) =
        (either(["redis_host", "host"]), either(["redis_port", "port"]), either(["redis_db", "db"]));
    let (password, url) = (either(["redis_password", "password"]), either(["redis_url", "url"]));
    if let Some(field) = &password {
        field.refused("put the password where the cache's documentation says: it is not copied into a URL");
    }
    let place =
        |field: &Option<Field<'_>>| field.as_ref().map(|field| from(&field.origin())).unwrap_or_default();
    if let Some(field) = &url {
        let text = field.text().unwrap_or_default();
        let plain = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://"));
        match plain {
            Some(rest) if !rest.contains('@') => {
                plan.doc.section("[cache]").text("url", &text, place(&url));
                match field.variable() {
                    Some(_) => field.changed("cache.url: the value that the variable has now"),
                    None => field.exact("cache.url"),
                }
            }
            Some(_) => field.refused("the URL holds a password: it is not copied"),
            None => field.refused("expected redis://host:port/number"),
        }
        for field in [&host, &port, &db].into_iter().flatten() {
            field.ignored("the URL counts");
        }
        return;
    }
    let name = host.as_ref().and_then(Field::text).unwrap_or("127.0.0.1".into()).into_owned();
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if !name.bytes().all(fine) {
        host.iter().for_each(|field| field.refused("this is no host"));
        return;
    }
    let number = |field: &Option<Field<'_>>, min, max, otherwise| {
        field.as_ref().map_or(Some(otherwise), |field| field.integer(min, max))
    };
    let (Some(port_number), Some(db_number)) = (number(&port, 1, 65_535, 6379), number(&db, 0, 1_000_000, 0))
    else {
        return;
    };
    let url = format!("redis://{name}:{port_number}/{db_number}");
    plan.doc.section("[cache]").text("url", &url, place(&host));
    for field in [&host, &port, &db].into_iter().flatten() {
        match field.variable() {
            Some(_) => field.changed("cache.url: the value that the variable has now"),
            None => field.exact("cache.url"),
        }
    }
}
