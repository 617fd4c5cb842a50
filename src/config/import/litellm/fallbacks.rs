//! Fallbacks: LiteLLM's lists of single maps, and the guide's map of lists.

use std::collections::HashMap;

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
    /// By the normalized name of the model that failed.
    pub(super) general: HashMap<String, Vec<String>>,
    /// For prompts that are too long.
    pub(super) context: HashMap<String, Vec<String>>,
    default: Option<(Vec<String>, Origin)>,
}

/// The names that models are asked for by.
pub(super) struct Served(pub(super) Vec<String>);

impl Served {
    /// Whether a name leads to a model, with or without `ollama/`, by a `*` too.
    pub(super) fn has(&self, name: &str) -> bool {
        let bare = |name: &str| {
            let name = normalized(name);
            name.strip_prefix("ollama/").map(str::to_owned).unwrap_or(name)
        };
        let asked = bare(name);
        self.0.iter().map(|known| bare(known)).any(|known| match known.strip_suffix('*') {
            Some(beginning) => asked.starts_with(beginning),
            None => known == asked,
        })
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
            let names: Vec<String> = list.items().iter().filter_map(|item| target(item, served)).collect();
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
                targets.items().iter().filter_map(|item| target(item, served)).take(LIST_MAX).collect()
            };
            if name == "*" && !context {
                let names = names();
                self.default.get_or_insert((names, targets.origin()));
                continue;
            }
            if !served.has(name) || name.ends_with('*') {
                targets.ignored(format!("no model is called {}", quoted(name)));
                continue;
            }
            let lists = if context { &mut self.context } else { &mut self.general };
            if lists.contains_key(&normalized(name)) {
                targets.ignored(format!("{} has fallbacks above", quoted(name)));
                continue;
            }
            lists.insert(normalized(name), names());
        }
    }
}

/// A model in a list: its name, or a map with it.
fn target(item: &Field<'_>, served: &Served) -> Option<String> {
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
    field.exact("models.fallbacks");
    Some(name)
}
