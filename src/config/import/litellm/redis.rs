//! Redis in LiteLLM's words: host, port, number and password, or a URL; of the cache and of the router.
//!
//! There is one `[redis]` here, and a password never stands in its URL.

use super::super::field::{Field, Secret, Section};
use super::super::plan::Plan;
use super::super::report::Origin;
use super::super::toml::from;
use super::Sections;
use crate::config::render::quoted;

/// The server that a section names, as a URL, and where it stands; `[redis]` gets the rest. `to` is where the URL goes,
/// `known` the server that another section has named, as it is written.
pub(super) fn read(
    section: &mut Section<'_>,
    to: &str,
    known: Option<&str>,
    plan: &mut Plan,
) -> Option<(String, Origin)> {
    let mut either = |names: [&str; 2]| names.iter().find_map(|name| section.take(name));
    let [host, port] = [["redis_host", "host"], ["redis_port", "port"]].map(&mut either);
    let [db, url] = [["redis_db", "db"], ["redis_url", "url"]].map(&mut either);
    let [user, password] = [["redis_username", "username"], ["redis_password", "password"]].map(&mut either);
    let prefix = either(["namespace", "redis_namespace"]);
    let origin = [&url, &host, &port].into_iter().flatten().next().map(Field::origin);
    let origin = origin.unwrap_or_else(|| section.field().origin());
    let mut login = None;
    let place = match &url {
        Some(field) => {
            for other in [&host, &port, &db].into_iter().flatten() {
                other.ignored("the URL counts");
            }
            read_url(field, to).map(|(url, own)| {
                login = own;
                url
            })
        }
        None => read_parts(&host, &port, &db, to),
    };
    if let (Some(known), Some(own)) = (known, &place)
        && known != quoted(own)
    {
        let all = [&url, &host, &port, &db, &user, &password, &prefix].into_iter().flatten();
        all.for_each(|field| {
            field.refused("the cache has another server, and there is one [redis] for both")
        });
        return None;
    }
    if let (Some((user, secret)), Some(field)) = (login, &url) {
        write_password(&secret, field, plan);
        if !user.is_empty() {
            plan.doc.section("[redis]").text("username", user, from(&field.origin()));
        }
    }
    if let Some(field) = password
        && let Some(secret) = field.secret()
    {
        write_password(&secret, &field, plan);
        field.exact(secret.told("redis.password"));
    }
    for (field, key) in [(user, "username"), (prefix, "prefix")] {
        if let Some(field) = field
            && let Some(text) = field.text()
        {
            plan.doc.section("[redis]").text(key, &text, from(&field.origin()));
            field.exact(format!("redis.{key}"));
        }
    }
    place.map(|url| (url, origin))
}

fn write_password(secret: &Secret, field: &Field<'_>, plan: &mut Plan) {
    let note = format!("{}{}", from(&field.origin()), secret.note());
    plan.doc.section("[redis]").set("password", secret.toml(), note);
}

/// A URL without its user and password, and these.
fn read_url(field: &Field<'_>, to: &str) -> Option<(String, Option<(String, Secret)>)> {
    let text = field.text()?;
    let Some((scheme, rest)) =
        text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "redis" | "rediss"))
    else {
        field.refused("expected redis://host:port/number");
        return None;
    };
    let Some((login, place)) = rest.rsplit_once('@') else {
        tell(field, to);
        return Some((text.into_owned(), None));
    };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%');
    if field.variable().is_some() || !plain(login) || password.is_empty() {
        field
            .refused("the URL holds a password: write the URL without it, and redis.password = \"env:NAME\"");
        return None;
    }
    field.exact(format!(
        "{to}, and redis.password in clear as it stood here: move it to \"env:NAME\" or \"file:PATH\""
    ));
    Some((format!("{scheme}://{place}"), Some((user.to_owned(), Secret::Literal(password.to_owned())))))
}

fn read_parts(
    host: &Option<Field<'_>>,
    port: &Option<Field<'_>>,
    db: &Option<Field<'_>>,
    to: &str,
) -> Option<String> {
    let name = match host {
        Some(field) => field.text()?.into_owned(),
        None => "127.0.0.1".to_owned(),
    };
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if name.is_empty() || !name.bytes().all(fine) {
        host.iter().for_each(|field| field.refused("this is no host"));
        return None;
    }
    let number = |field: &Option<Field<'_>>, min, max, otherwise| {
        field.as_ref().map_or(Some(otherwise), |field| field.integer(min, max))
    };
    let (port_number, db_number) = (number(port, 1, 65_535, 6379)?, number(db, 0, 65_535, 0)?);
    [host, port, db].into_iter().flatten().for_each(|field| tell(field, to));
    Some(format!("redis://{name}:{port_number}/{db_number}"))
}

fn tell(field: &Field<'_>, to: &str) {
    match field.variable() {
        Some(_) => field.changed(format!("{to}: the value that the variable has now")),
        None => field.exact(to),
    }
}

/// `router_settings`: what LiteLLM's instances share by Redis, gateways share by `[fleet]`.
pub(super) fn read_router(sections: &mut Sections<'_>, plan: &mut Plan) {
    let Some(router) = &mut sections.router else { return };
    let named = ["redis_host", "redis_url"].iter().find_map(|key| router.field().get(key));
    let Some(named) = named.filter(|field| !field.is_null()) else { return };
    let known = plan.doc.value("[cache]", "url").map(str::to_owned);
    let Some((url, origin)) = read(router, "redis.url", known.as_deref(), plan) else { return };
    if known.is_none() {
        plan.doc.section("[redis]").text("url", &url, from(&origin));
    }
    plan.doc.section("[fleet]").set(
        "enabled",
        true,
        format!("{}; several gateways keep limits as one", from(&origin)),
    );
    named.changed(
        "[fleet]: gateways share limits, budgets and counts of what runs; breakers are each one's own",
    );
}
