//! `[[models]]`: public names, where they lead, and at what share.

use std::collections::HashMap;

use super::super::guard::Guard;
use super::super::problem::{choices, quote};
use super::super::reader::{Place, Table, Value};
use super::super::render::STRATEGIES;
use super::super::{Endpoint, Model, Strategy, Timeouts};
use super::endpoints::WEIGHT_MAX;
use super::observe::read_price;
use super::policy::read_timeouts;
use super::reliability::read_names;

/// Public names that a gateway may have: each is a label in the metrics.
const MODELS_MAX: usize = 10_000;
/// Prefixes by which LiteLLM names a provider; no endpoint knows them.
pub(super) const PROVIDER_PREFIXES: [&str; 2] = ["ollama/", "ollama_chat/"];

/// A model name as it is compared: lower-case ASCII, without one `:latest` at its end.
pub fn normalized(name: &str) -> String {
    let mut lower = name.to_ascii_lowercase();
    if let Some(rest) = lower.strip_suffix(":latest") {
        lower.truncate(rest.len());
    }
    lower
}

/// What the other sections say that models refer to, or have where they say nothing.
pub(super) struct Around<'a> {
    pub(super) endpoints: &'a [Endpoint],
    pub(super) strategy: Strategy,
    pub(super) timeouts: &'a Timeouts,
    pub(super) guard: &'a Guard,
}

/// Every model in the file's order.
pub(super) fn read(root: &mut Table<'_>, around: &Around<'_>) -> Vec<Model> {
    let by_name: HashMap<&str, usize> = around
        .endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| (endpoint.name.as_str(), index))
        .collect();
    let mut first_lines: HashMap<String, u32> = HashMap::new();
    let models = root.sections("models", |table| {
        let model = read_model(table, around, &by_name);
        if !model.name.is_empty()
            && let Some(line) = first_lines.insert(normalized(&model.name), table.place.line)
        {
            let message = format!("{} is also the name of the model in line {line}", quote(&model.name));
            let place = table.take("name").map_or_else(|| table.place.clone(), |value| value.place);
            table.report.add(&place, message, "case and `:latest` at the end make no difference");
        }
        model
    });
    if models.len() > MODELS_MAX {
        let place = Place { path: "models".to_owned(), line: 0 };
        root.report.add(&place, format!("{} models", models.len()), format!("at most {MODELS_MAX}"));
    }
    models
}

fn read_model(table: &mut Table<'_>, around: &Around<'_>, by_name: &HashMap<&str, usize>) -> Model {
    let endpoints = around.endpoints;
    let name =
        table.require("name", r#"e.g. name = "ollama/llama3.2""#).and_then(read_name).unwrap_or_default();
    let upstream_model = read_upstream_model(table, &name);
    let chosen = table.take("endpoints").map(|value| read_endpoints(value, by_name)).unwrap_or_default();
    let order = if chosen.is_empty() { (0..endpoints.len()).collect() } else { chosen.clone() };
    Model {
        name,
        upstream_model,
        endpoints: chosen,
        strategy: table.word("strategy", &STRATEGIES, around.strategy),
        weights: read_weights(table, endpoints, &order),
        guard: super::guard::profile_of(table, around.guard),
        price: table.take("price").and_then(|value| value.as_section(read_price)),
        fallbacks: table.take("fallbacks").map(read_names).unwrap_or_default(),
        context_window_fallbacks: table.take("context_window_fallbacks").map(read_names).unwrap_or_default(),
        cache: table.flag("cache", true),
        timeouts: table.section("timeouts", |table| read_timeouts(table, around.timeouts)),
    }
}

fn read_name(value: Value<'_>) -> Option<String> {
    let text = value.text()?;
    check_name(&value, text);
    if !text.is_empty() && normalized(text).is_empty() {
        value.wrong("nothing is left of this name without `:latest`", "put the model's name before it");
    }
    Some(text.to_owned())
}

/// Whether `text` is visible ASCII that needs no escape in JSON or a metric's label; one `*`, at the end.
pub(super) fn check_name(value: &Value<'_>, text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    let named = (1..=256).contains(&text.len()) && text.bytes().all(allowed);
    let ended = text.find('*').is_none_or(|at| at + 1 == text.len());
    if !named {
        let hint = r#"1 to 256 visible ASCII characters, without `"` and `\`"#;
        value.wrong(format!("{} is no model name", quote(text)), hint);
    }
    if !ended {
        value.wrong(format!("{} has a `*` before its end", quote(text)), "only one, at the end: `ollama/*`");
    }
    named && ended
}

fn read_upstream_model(table: &mut Table<'_>, name: &str) -> String {
    let Some(value) = table.take("upstream_model") else {
        let rest = PROVIDER_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        if rest.is_empty() && !name.is_empty() {
            let hint = "write the name that the endpoint is asked for";
            let message = "`upstream_model` is missing, and nothing is left of the name without its prefix";
            table.report.add(&table.place, message, hint);
        }
        return rest.to_owned();
    };
    let Some(text) = value.text() else { return String::new() };
    check_name(&value, text);
    if text.ends_with('*') && !name.is_empty() && !name.ends_with('*') {
        value.wrong(
            "`*` takes what `*` in `name` matched, and there is none",
            "remove it, or end `name` with `*`",
        );
    }
    text.to_owned()
}

fn read_endpoints(value: Value<'_>, by_name: &HashMap<&str, usize>) -> Vec<usize> {
    let mut chosen = Vec::new();
    for item in value.items().unwrap_or_default() {
        let Some(name) = item.text() else { continue };
        match by_name.get(name) {
            None => unknown_endpoint(&item, name, "there is no endpoint", by_name),
            Some(index) if chosen.contains(index) => {
                item.wrong(format!("{} is listed twice", quote(name)), "remove one of them");
            }
            Some(&index) => chosen.push(index),
        }
    }
    chosen
}

fn unknown_endpoint(value: &Value<'_>, name: &str, message: &str, by_name: &HashMap<&str, usize>) {
    let mut known: Vec<&str> = by_name.keys().copied().filter(|name| !name.is_empty()).collect();
    known.sort_unstable();
    value.wrong(format!("{message} {}", quote(name)), choices(name, &known));
}

/// The endpoints' own weights in `order`, each replaced by what the model's `weights` table says.
fn read_weights(table: &mut Table<'_>, endpoints: &[Endpoint], order: &[usize]) -> Vec<u32> {
    let mut weights: Vec<u32> =
        order.iter().filter_map(|&index| endpoints.get(index)).map(|endpoint| endpoint.weight).collect();
    let pairs = table.take("weights").and_then(|value| value.pairs()).unwrap_or_default();
    if pairs.is_empty() {
        return weights;
    }
    let names = order.iter().filter_map(|&index| endpoints.get(index)).map(|endpoint| endpoint.name.as_str());
    let slots: HashMap<&str, usize> = names.enumerate().map(|(slot, name)| (name, slot)).collect();
    for (name, value) in pairs {
        match slots.get(name).and_then(|&slot| weights.get_mut(slot)) {
            Some(weight) => *weight = value.integer(1, WEIGHT_MAX).unwrap_or(1),
            None => unknown_endpoint(&value, name, "this model has no endpoint", &slots),
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::normalized;

    #[test]
    fn names_are_compared_without_case_and_latest() {
        assert_eq!(normalized("ollama/Llama3.2:LATEST"), "ollama/llama3.2");
        assert_eq!(normalized("a:latest:latest"), "a:latest");
        assert_eq!(normalized("latest"), "latest");
        assert_eq!(normalized("Ä:7b"), "Ä:7b");
        assert_eq!(normalized(":latest"), "");
    }
}
