//! LiteLLM's configuration, its real schema and the deployment guide's own sections, into the plan.
//!
//! The order of reading is that of need: variables and credentials, models, guards, what concerns all models, the rest.
//! Sources: LiteLLM 1.78 to 1.109, its documentation and router; the guide for the sections that LiteLLM ignores.

mod cache;
mod fallbacks;
mod general;
mod groups;
mod guards;
mod models;
mod provider;
mod redis;
mod routing;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::field::{Around, Field, Section};
use super::plan::Plan;
use super::report::{Fate, shown};
use super::toml::from;
use super::vars::{Line, is_name};
use crate::config::render::quoted;
use crate::config::{Kind, normalized};
use fallbacks::{Fallbacks, Served};
use models::{Credential, Group};

/// Credentials that models may name.
const CREDENTIALS_MAX: usize = 1000;

/// Sections that several readers share.
struct Sections<'a> {
    around: Around<'a>,
    top: Option<Section<'a>>,
    router: Option<Section<'a>>,
    settings: Option<Section<'a>>,
    general: Option<Section<'a>>,
    balancing: Option<Section<'a>>,
    health: Option<Section<'a>>,
    advanced: Option<Section<'a>>,
    server: Option<Section<'a>>,
}

/// A key of a section, if there is one.
fn pick<'a>(section: &mut Option<Section<'a>>, key: &str) -> Option<Field<'a>> {
    section.as_mut()?.take(key)
}

impl<'a> Sections<'a> {
    fn open(root: &Field<'a>) -> Self {
        let mut top = root.section();
        let mut open = |key: &str| pick(&mut top, key).and_then(|field| field.section());
        let (router, settings, general) =
            (open("router_settings"), open("litellm_settings"), open("general_settings"));
        let (balancing, health) = (open("load_balancing_config"), open("health_check"));
        let (advanced, server) = (open("advanced"), open("proxy_server"));
        Self { around: root.around, top, router, settings, general, balancing, health, advanced, server }
    }

    /// The fields of these sections and keys that are there, in this order.
    fn fields(&mut self, keys: &[(&str, &str)]) -> Vec<Field<'a>> {
        let mut fields = Vec::new();
        for (section, key) in keys {
            let section = match *section {
                "top" => &mut self.top,
                "router" => &mut self.router,
                "settings" => &mut self.settings,
                "general" => &mut self.general,
                "balancing" => &mut self.balancing,
                "health" => &mut self.health,
                "advanced" => &mut self.advanced,
                _ => &mut self.server,
            };
            fields.extend(pick(section, key));
        }
        fields
    }
}

/// Reads a whole file.
pub(super) fn read(root: &Field<'_>, plan: &mut Plan) {
    let mut sections = Sections::open(root);
    let _ = pick(&mut sections.top, "include"); // told of where it was read
    read_variables(pick(&mut sections.top, "environment_variables"));
    let credentials = read_credentials(pick(&mut sections.top, "credential_list"));
    let mut groups: Vec<Group<'_>> = Vec::new();
    for list in sections.fields(&[("top", "model_list"), ("balancing", "model_list")]) {
        models::read(&list, &credentials, plan, &mut groups);
    }
    let rails = read_rails(pick(&mut sections.top, "guardrails"), &credentials, plan, &mut groups);
    if groups.is_empty() {
        root.around.report.add(
            &root.origin(),
            "model_list",
            Fate::Refused,
            "there is no model that the gateway can serve",
        );
    }
    plan.name_endpoints();
    let mut guards = guards::read(&rails, pick(&mut sections.top, "llm_guard"), plan);
    let price = general::read_cost(pick(&mut sections.top, "cost_tracking"), &mut sections);
    let routing = routing::read(&mut sections, &groups, price, root.origin(), plan);
    let aliases = sections.fields(&[("router", "model_group_alias"), ("settings", "model_alias_map")]);
    let mut names: Vec<String> = groups.iter().map(|group| group.name.clone()).collect();
    names.extend(aliases.iter().filter_map(Field::pairs).flatten().map(|(name, _)| name.to_owned()));
    let guide = pick(&mut sections.top, "fallback_models");
    let fallbacks = fallbacks::read(&mut sections, guide, &Served::new(&names), plan);
    let mut all = groups::build(&groups, &fallbacks, &routing, &mut guards, plan);
    aliases.iter().for_each(|field| read_aliases(field, &fallbacks, &mut all));
    plan.write_endpoints();
    groups::write(&all, &routing, plan);
    let only_ollama = plan.endpoints.iter().all(|endpoint| endpoint.kind == Kind::Ollama);
    read_others(&mut sections, only_ollama, plan);
}

/// Everything that is no model's.
fn read_others(sections: &mut Sections<'_>, only_ollama: bool, plan: &mut Plan) {
    general::read_listen(sections, plan);
    general::read_bounds(sections, plan);
    general::read_keys(sections, plan);
    general::read_health(sections, only_ollama, plan);
    general::read_log(sections, plan);
    general::read_monitoring(pick(&mut sections.top, "monitoring"), plan);
    general::read_rates(pick(&mut sections.top, "rate_limit"), plan);
    general::read_compatibility(pick(&mut sections.top, "openai_compatibility"));
    cache::read(pick(&mut sections.top, "cache"), sections, plan);
    redis::read_router(sections, plan);
    routing::rest(sections);
    general::rest(sections);
    if let Some(top) = &mut sections.top {
        top.ignore(&["callback_settings"], "no such callbacks: logs, /metrics and OTLP traces are there");
        for key in [
            "mcp_servers",
            "vector_store_registry",
            "search_tools",
            "files_settings",
            "finetune_settings",
            "assistant_settings",
        ] {
            if let Some(field) = top.take(key) {
                field.refused("the gateway does not serve it");
            }
        }
        top.rest("LiteLLM does not know it either");
    }
}

/// `environment_variables`: what LiteLLM sets for itself.
fn read_variables(field: Option<Field<'_>>) {
    for (name, value) in field.iter().filter_map(Field::pairs).flatten() {
        let Some((text, _)) = value.raw().filter(|_| is_name(name)) else {
            value.refused("expected NAME: value");
            continue;
        };
        value.around.vars.add(name, value.origin(), text.to_owned());
        value.changed(
            "the gateway sets no variables: set it for its process where the configuration says env:NAME",
        );
    }
}

fn read_credentials<'a>(field: Option<Field<'a>>) -> Vec<Credential<'a>> {
    let mut credentials = Vec::new();
    for item in field.iter().flat_map(Field::items) {
        let Some(mut section) = item.section() else { continue };
        let name = section.take("credential_name");
        let values = section.take("credential_values");
        section.rest("the gateway has no such setting");
        let (Some(name), Some(values)) = (name, values) else {
            item.refused("a credential has a credential_name and credential_values");
            continue;
        };
        let Some(text) = name.text() else { continue };
        name.exact("endpoints, where models name it");
        for (key, value) in values.pairs().unwrap_or_default() {
            if !matches!(key, "api_key" | "api_base") {
                value.ignored("endpoints have a URL and a key");
            }
        }
        if credentials.len() >= CREDENTIALS_MAX {
            name.refused("too many credentials");
            continue;
        }
        credentials.push(Credential { name: text.into_owned(), values });
    }
    credentials
}

/// Guardrails; list items that are models, because their `model_list:` line is missing, become models.
fn read_rails<'a>(
    field: Option<Field<'a>>,
    credentials: &[Credential<'a>],
    plan: &mut Plan,
    groups: &mut Vec<Group<'a>>,
) -> Vec<Field<'a>> {
    let mut rails = Vec::new();
    for item in field.iter().flat_map(Field::items) {
        match item.get("model_name") {
            Some(name) => {
                name.changed("stands under guardrails, where LiteLLM stops: read as an entry of model_list");
                models::add(&item, credentials, plan, groups);
            }
            None => rails.push(item),
        }
    }
    rails
}

fn read_aliases(field: &Field<'_>, fallbacks: &Fallbacks, models: &mut Vec<groups::Out>) {
    let mut names: HashSet<String> = models.iter().map(|model| normalized(&model.name)).collect();
    for (name, value) in field.pairs().unwrap_or_default() {
        if models.len() >= models::MODELS_MAX {
            value.refused("too many models");
            continue;
        }
        let (target, hidden) = match value.is_map() {
            true => (value.get("model"), value.get("hidden")),
            false => (Some(value.clone()), None),
        };
        let Some(target) = target else {
            value.refused("an alias names a model");
            continue;
        };
        let Some(text) = target.text() else { continue };
        if let Some(mistake) = models::name_mistake(name) {
            target.refused(mistake);
        } else if !names.insert(normalized(name)) {
            target.refused("a model has the alias' name, and the alias would hide it");
        } else if groups::alias(models, name, &text, target.origin(), fallbacks) {
            target.exact(format!("models.{}", quoted(name)));
        } else {
            target.refused(format!("no model is called {}", quoted(shown(&text))));
        }
        if let Some(hidden) = hidden {
            match hidden.flag() {
                Some(false) => hidden.exact("/v1/models shows it"),
                _ => hidden.changed("/v1/models shows it"),
            }
        }
    }
}

/// `LITELLM_HOST` and `LITELLM_PORT`, by which LiteLLM was launched: they count before its file.
fn read_launch(lines: &[Line], around: Around<'_>, plan: &mut Plan) {
    let find = |name: &str| lines.iter().find(|line| line.name.as_deref() == Some(name));
    let [host, port] = ["LITELLM_HOST", "LITELLM_PORT"].map(find);
    let said: Vec<&Line> = [host, port].into_iter().flatten().collect();
    let tell = |fate: Fate, text: String| {
        for line in &said {
            around.report.add(&line.origin, line.name.as_deref().unwrap_or_default(), fate, &*text);
        }
    };
    let Some(first) = said.first() else { return };
    if plan.edge.listens {
        return tell(Fate::Ignored, "clients came by nginx: the gateway listens where nginx did".to_owned());
    }
    let ip = host.map_or("0.0.0.0", |line| line.value.as_str()).replace("localhost", "127.0.0.1");
    let port = port.map_or("4000", |line| line.value.as_str());
    match (ip.parse::<IpAddr>(), port.parse::<u16>()) {
        (Ok(ip), Ok(port)) if port > 0 => {
            let address = SocketAddr::new(ip, port);
            let known =
                plan.doc.value("[server]", "listen").is_some_and(|known| known != format!("[\"{address}\"]"));
            plan.doc.section("[server]").list("listen", &[address], from(&first.origin));
            match known {
                true => tell(Fate::Changed, format!("server.listen = {address}, before proxy_server's")),
                false => tell(Fate::Exact, format!("server.listen = {address}")),
            }
        }
        _ => tell(Fate::Refused, "expected an IP address and a port".to_owned()),
    }
}

/// The environment file of the deployment, after everything else was read.
pub(super) fn read_environment(lines: &[Line], around: Around<'_>, plan: &mut Plan) {
    read_launch(lines, around, plan);
    for line in lines.iter().filter(|line| !around.report.tells(&line.origin)) {
        let tell = |fate: Fate, text: &str| {
            around.report.add(&line.origin, line.name.as_deref().unwrap_or_default(), fate, text);
        };
        let Some(name) = &line.name else {
            tell(Fate::Ignored, "no NAME=value");
            continue;
        };
        match name.as_str() {
            _ if around.vars.is_wanted(name) => {
                tell(
                    Fate::Exact,
                    "the gateway reads it by env:NAME: keep it in the environment of its process",
                );
            }
            "LOG_LEVEL" | "LITELLM_LOG" => match general::level(&line.value) {
                Some(level) => match plan.doc.value("[log]", "level") {
                    Some(known) if known != quoted(level) => {
                        tell(Fate::Ignored, "the level of the other file counts");
                    }
                    _ => {
                        plan.doc.section("[log]").text("level", level, from(&line.origin));
                        tell(Fate::Exact, "log.level");
                    }
                },
                None => tell(Fate::Ignored, "no such level: error, warn, info, debug"),
            },
            "GUARD_ENABLED" => match super::yaml::truth(&line.value) {
                Some(false) if plan.doc.value("[guard]", "enabled") == Some("true") => {
                    tell(
                        Fate::Ignored,
                        "the other file turns the guard on: set guard.enabled = false to turn it off",
                    );
                }
                Some(false) => tell(Fate::Exact, "guard.enabled = false"),
                Some(true) if plan.doc.has("[guard]") => tell(Fate::Exact, "guard.enabled"),
                Some(true) => {
                    plan.doc.section("[guard]").set("enabled", true, from(&line.origin));
                    tell(Fate::Changed, "guard.enabled = true: all scanners, since no file names any");
                }
                None => tell(Fate::Ignored, "expected true or false"),
            },
            "CONFIG_PATH" | "LITELLM_CONFIG_PATH" => {
                tell(Fate::Ignored, "the configuration is named by `serve -c FILE`")
            }
            _ if around.vars.was_read(name) => {
                tell(Fate::Changed, "its value stands in the configuration now")
            }
            _ => tell(Fate::Ignored, "nothing reads it"),
        }
    }
}
