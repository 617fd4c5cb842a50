//! What a gateway that has started says of itself: on a terminal for people, elsewhere one line for programs.
//!
//! The line (`ready http=… admin=… shards=… driver=…`) is a contract: tests, scripts and units wait for it.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::say;
use crate::boot::Gateway;
use crate::config::guard::Scanner;
use crate::net::clock;
use crate::world::World;

/// Names that a line lists at most.
const NAMES_MAX: usize = 6;
/// How long a person waits for the first probes, so that models can be named.
const PROBES_WITHIN: Duration = Duration::from_secs(1);
/// How often is looked whether they are done.
const LOOK: Duration = Duration::from_millis(10);

/// Says it; on a terminal with a request to try.
pub fn show(gateway: &Gateway) {
    show_with(gateway, attempt);
}

/// Says it; on a terminal with what `more` has to add.
pub fn show_with(gateway: &Gateway, more: impl Fn(&World) -> String) {
    if !std::io::stdout().is_terminal() {
        return say(&gateway.ready_line());
    }
    let world = gateway.current.world();
    let end = clock::now() + PROBES_WITHIN;
    let probed = || world.registry.iter().all(|endpoint| endpoint.health().is_observed());
    while world.config.health.enabled && !probed() && clock::now() < end {
        std::thread::park_timeout(LOOK);
    }
    say(&format!("{}{}", lines(gateway, &world), more(&world)));
}

/// The first of `names`, and whether there are more.
#[must_use]
pub fn few(names: &[String]) -> String {
    let mut text = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_MAX {
        let _ = write!(text, ", … ({} more)", names.len() - NAMES_MAX); // writing to a String cannot fail
    }
    text
}

fn lines(gateway: &Gateway, world: &World) -> String {
    let urls = |scheme: &str, all: &[SocketAddr]| {
        all.iter().map(|address| format!("{scheme}://{address}")).collect::<Vec<_>>().join(", ")
    };
    let bound = &world.bound;
    let mut rows =
        vec![("address", urls("http", &bound.listening)), ("https", urls("https", &bound.listening_tls))];
    rows.push(("admin", format!("http://{}  (/ui, /metrics, /status)", bound.admin)));
    rows.push(("endpoints", endpoints(world)));
    rows.push(("models", models(world)));
    rows.push(("guards", guards(world)));
    rows.push((
        "keys",
        match world.config.keys.len() {
            0 => "off: whoever reaches the address may call".to_owned(),
            count => format!("on: {count}"),
        },
    ));
    rows.push(("shards", format!("{}, by {}", gateway.process.shards.len(), gateway.driver())));
    let mut text = format!("\nCorelane {} serves.\n\n", env!("CARGO_PKG_VERSION"));
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "  {name:<10} {value}"); // writing to a String cannot fail
    }
    text
}

fn endpoints(world: &World) -> String {
    let each = world.registry.iter().map(|endpoint| {
        let silent = world.config.health.enabled && endpoint.facts().is_none();
        let state = if silent { " (no answer yet)" } else { "" };
        format!("{} {}{state}", endpoint.config.name, endpoint.base())
    });
    few(&each.collect::<Vec<_>>())
}

/// The models that somebody serves.
fn names(world: &World) -> Vec<String> {
    let (catalog, _) = world.catalog();
    let served = catalog.listed.iter().filter(|model| !model.candidates.is_empty());
    served.map(|model| model.name.clone()).collect()
}

fn models(world: &World) -> String {
    match &names(world)[..] {
        [] => "none yet: no endpoint has named one".to_owned(),
        names => format!("{}: {}", names.len(), few(names)),
    }
}

fn guards(world: &World) -> String {
    let Some(first) = world.config.guard.profiles.first().filter(|profile| profile.enabled) else {
        return "off".to_owned();
    };
    let list = |scanners: &[Scanner]| match scanners {
        [] => "none".to_owned(),
        some => some.iter().map(|scanner| scanner.settings.name().name()).collect::<Vec<_>>().join(", "),
    };
    format!("requests: {}; answers: {}", list(&first.input.scanners), list(&first.output.scanners))
}

/// A request that works here, and how it ends.
fn attempt(world: &World) -> String {
    let end = "\nCtrl-C ends it; running answers are finished first.";
    let names = names(world);
    let model = names.iter().find(|name| !name.contains("embed") && !name.contains('*'));
    let (scheme, address) = match (&world.bound.listening[..], &world.bound.listening_tls[..]) {
        ([first, ..], []) => ("http", first),
        (_, [first, ..]) => ("https", first),
        _ => return end.to_owned(),
    };
    let host = match address.ip() {
        ip if ip.is_unspecified() => format!("localhost:{}", address.port()),
        _ => address.to_string(),
    };
    let key = if world.config.keys.is_empty() { "" } else { " -H 'Authorization: Bearer KEY'" };
    match model {
        Some(model) => format!(
            "\nTry:\n  curl {scheme}://{host}/v1/chat/completions{key} -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'\n{end}"
        ),
        None => end.to_owned(),
    }
}
