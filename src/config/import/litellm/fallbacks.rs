//! Fallbacks: LiteLLM's lists of single maps, and the guide's map of lists.

use std::collections::{HashMap, HashSet};

use super::super::field::Field;
use super::super::plan::Plan;
use super::super::report::Origin;
use super::super::toml::from;
use super::{Sections, pick};
use crate::config::normalized;
use crate::config::render::quoted;

/// Models that one list may name.
const LIST_MAX: usize = 100;

/// Who is asked in place of whom.
#[derive(Default)]
pub(super) struct Fallbacks {
    /// By the [`bare`] name of the model that failed.
    general: HashMap<String, Vec<String>>,
    /// For prompts that are too long.
    context: HashMap<String, Vec<String>>,
    default: Option<(Vec<String>, Origin)>,
}

/// The names that models are asked for by.
pub(super) struct Served {
    /// [`bare`] names.
    exact: HashSet<String>,
    /// What stands before a `*`.
    wild: Vec<String>,
}

/// A name as it is compared: names count the same with and without `ollama/`.
fn bare(name: &str) -> String {
    let name = normalized(name);
    name.strip_prefix("ollama/").map(str::to_owned).unwrap_or(name)
}

impl Served {
    pub(super) fn new(names: &[String]) -> Self {
        let (wild, exact): (Vec<String>, Vec<String>) =
            names.iter().map(|name| bare(name)).partition(|name| name.ends_with('*'));
        let wild = wild.iter().filter_map(|name| name.strip_suffix('*')).map(str::to_owned).collect();
        Self { exact: exact.into_iter().collect(), wild }
    }

    /// Whether a model is called so, and not only served by a `*`.
    fn names(&self, name: &str) -> bool {
        self.exact.contains(&bare(name))
    }

    /// Whether a name leads to a model, with or without `ollama/`, by a `*` too.
    pub(super) fn has(&self, name: &str) -> bool {
        let asked = bare(name);
        self.exact.contains(&asked) || self.wild.iter().any(|beginning| asked.starts_with(beginning.as_str()))
    }
}

/// Reads all of them, and writes `[fallbacks]`.
pub(super) fn read<'a>(
    sections: &mut Sections<'a>,
    guide: Option<Field<'a>>,
    served: &Served,
    plan: &mut Plan,
) -> Fallbacks {
    let mut all = Fallbacks::default();
    let enabled = pick(&mut sections.balancing, "enable_fallback");
    let on = enabled.as_ref().and_then(Field::flag).unwrap_or(true);
    let lists = [pick(&mut sections.router, "fallbacks"), pick(&mut sections.settings, "fallbacks"), guide];
    for list in lists.into_iter().flatten() {
        all.read_list(&list, false, served);
    }
    for section in [&mut sections.router, &mut sections.settings] {
        if let Some(list) = pick(section, "context_window_fallbacks") {
            all.read_list(&list, true, served);
        }
        if let Some(list) = pick(section, "content_policy_fallbacks") {
            list.ignored("what a guard or an endpoint's policy refuses goes to no other model");
        }
        if let Some(list) = pick(section, "default_fallbacks") {
            let names: Vec<String> =
                list.items().iter().filter_map(|item| target(item, served, "fallbacks.default")).collect();
            all.default.get_or_insert((names, list.origin()));
        }
    }
    all.write(sections, plan);
    if let Some(field) = enabled {
        if !on {
            plan.doc.section("[fallbacks]").set("models_max", 0, from(&field.origin()));
        }
        field.exact(if on { "fallbacks" } else { "fallbacks.models_max = 0" });
    }
    if let Some(field) = pick(&mut sections.balancing, "fallback_strategy") {
        match field.raw() {
            Some(("sequential" | "ordered", _)) => field.exact("models.fallbacks are asked in their order"),
            _ => field.changed("models.fallbacks are asked in their order"),
        }
    }
    all
}

impl Fallbacks {
    /// Those of a model, for failures and for prompts that are too long.
    pub(super) fn of(&self, name: &str) -> [Option<&Vec<String>>; 2] {
        let name = bare(name);
        [self.general.get(&name), self.context.get(&name)]
    }

    fn write(&self, sections: &mut Sections<'_>, plan: &mut Plan) {
        if let Some((names, origin)) = self.default.as_ref().filter(|(names, _)| !names.is_empty()) {
            plan.doc.section("[fallbacks]").list("default", names, from(origin));
        }
        if let Some(field) = pick(&mut sections.router, "max_fallbacks")
            && let Some(most) = field.integer(0, 20)
        {
            plan.doc.section("[fallbacks]").set("models_max", most, from(&field.origin()));
            field.exact(format!("fallbacks.models_max = {most}"));
        }
    }

    /// A list of maps, or a map; each from a model to a list of models.
    fn read_list(&mut self, list: &Field<'_>, context: bool, served: &Served) {
        let maps = if list.is_map() { vec![list.clone()] } else { list.items() };
        for (name, targets) in maps.iter().filter_map(Field::pairs).flatten() {
            let names = || -> Vec<String> {
                let to = if context { "models.context_window_fallbacks" } else { "models.fallbacks" };
                targets.items().iter().filter_map(|item| target(item, served, to)).take(LIST_MAX).collect()
            };
            if name == "*" && !context {
                let names = names();
                self.default.get_or_insert((names, targets.origin()));
                continue;
            }
            if !served.names(name) || name.ends_with('*') {
                targets.ignored(format!(
                    "no model is called {}: one with `*` has no fallbacks of its own for it",
                    quoted(name)
                ));
                continue;
            }
            let lists = if context { &mut self.context } else { &mut self.general };
            if lists.contains_key(&bare(name)) {
                targets.ignored(format!("{} has fallbacks above", quoted(name)));
                continue;
            }
            lists.insert(bare(name), names());
        }
    }
}

/// A model in a list: its name, or a map with it.
fn target(item: &Field<'_>, served: &Served, to: &str) -> Option<String> {
    let field = match item.is_map() {
        false => item.clone(),
        true => {
            let mut section = item.section()?;
            let field = section.take("model_name").or_else(|| section.take("model"));
            section.ignore(&["provider"], "the model's endpoints say what they speak");
            section.rest("fallbacks get the request as it is");
            field?
        }
    };
    let name = field.text()?.into_owned();
    if name.ends_with('*') {
        field.refused("a fallback is one model, without `*`");
        return None;
    }
    if !served.has(&name) {
        field.ignored(format!("no model is called {}", quoted(&name)));
        return None;
    }
    field.exact(to);
    Some(name)
}
