//! Warnings of fallbacks that cannot work: allowed, since the gateway steps over them, but surely not meant.
//!
//! Runs once the file has no mistake, so the lists of the file and those of the `Config` are the same, item by item.
//! A name leads to the model that the catalog would find: an exact name first, then the longest wildcard, compared as
//! `normalized`, with and without `ollama/`. Loops are the back edges of a depth-first walk over the lists of one
//! kind; the walk keeps its path itself, so that a long chain costs no stack. The default list is no part of it.
//! Cost: linear in the names of all lists, times a name's length; a chain is followed for `models_max` models only.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use super::super::problem::{choices, quote};
use super::super::reader::{Place, Report, Table, Value};
use super::super::{Config, Kind, Model};
use super::models::normalized;

/// Names of a chain that a message shows.
const SHOWN_MAX: usize = 8;
/// Unknown names for which the nearest model is looked for.
const HINTS_MAX: usize = 100;

/// A name in a list of fallbacks.
struct Link<'a> {
    /// As the file has it.
    name: &'a str,
    place: Place,
    /// Index of the model that serves it.
    to: usize,
    /// What the endpoints of that model are asked for.
    upstream: String,
}

/// The list of one model, or the default one.
#[derive(Default)]
struct List<'a> {
    place: Place,
    links: Vec<Link<'a>>,
}

/// Notes a warning for every fallback of the file that cannot work.
pub(super) fn warn(root: &mut Table<'_>, config: &Config) {
    let report = root.report;
    let served = Served::new(config);
    let models = root.take("models").and_then(|value| value.items()).unwrap_or_default();
    for key in ["fallbacks", "context_window_fallbacks"] {
        let read = |(from, value): (usize, &Value<'_>)| match (value.get(key), config.models.get(from)) {
            (Some(value), Some(model)) => {
                let names =
                    if key == "fallbacks" { &model.fallbacks } else { &model.context_window_fallbacks };
                served.list(report, &value, names, Some(from))
            }
            _ => List::default(),
        };
        let lists: Vec<List<'_>> = models.iter().enumerate().map(read).collect();
        warn_of_loops(report, &lists, config);
        for (from, list) in lists.iter().enumerate() {
            warn_of_length(report, list, Some(from), &lists, config);
        }
        if key == "fallbacks"
            && let Some(value) = root.take("fallbacks").and_then(|value| value.get("default"))
        {
            let list = served.list(report, &value, &config.fallbacks.default, None);
            warn_of_length(report, &list, None, &lists, config);
        }
    }
}

/// The models by the names that lead to them.
struct Served<'a> {
    config: &'a Config,
    exact: HashMap<String, usize>,
    /// By what stands before the `*`.
    wild: HashMap<String, usize>,
    /// Endpoints of each model in order; `None`: all.
    endpoints: Vec<Option<Vec<usize>>>,
    /// Names for which a near one was looked for.
    hints: Cell<usize>,
}

impl<'a> Served<'a> {
    fn new(config: &'a Config) -> Self {
        let (mut exact, mut wild) = (HashMap::new(), HashMap::new());
        for (index, model) in config.models.iter().enumerate() {
            let name = normalized(&model.name);
            match name.strip_suffix('*') {
                Some(beginning) => wild.insert(beginning.to_owned(), index),
                None => exact.insert(name, index),
            };
        }
        let every = config.endpoints.len();
        let endpoints = config.models.iter().map(|model| {
            let mut own = model.endpoints.clone();
            own.sort_unstable();
            (!own.is_empty() && own.len() < every).then_some(own)
        });
        Self { config, exact, wild, endpoints: endpoints.collect(), hints: Cell::new(0) }
    }

    /// The model that serves `name`, and what it asks its endpoints for.
    fn find(&self, name: &str) -> Option<(usize, String)> {
        let name = normalized(name);
        let with = format!("ollama/{name}");
        let forms = [Some(name.as_str()), name.strip_prefix("ollama/"), Some(with.as_str())];
        let forms = || forms.into_iter().flatten();
        if let Some(&index) = forms().find_map(|form| self.exact.get(form)) {
            return self.config.models.get(index).map(|model| (index, normalized(&model.upstream_model)));
        }
        let longest = |form: &str| {
            let begins = |end| self.wild.get(form.get(..end)?).map(|&index| (index, form.get(end..)));
            (0..form.len())
                .rev()
                .find_map(begins)
                .map(|(index, rest)| (index, rest.unwrap_or_default().to_owned()))
        };
        let (index, rest) = forms().find_map(longest)?;
        let upstream = normalized(&self.config.models.get(index)?.upstream_model);
        let rest = rest.strip_prefix("ollama/").unwrap_or(&rest);
        Some((index, upstream.strip_suffix('*').map(|start| format!("{start}{rest}")).unwrap_or(upstream)))
    }

    /// The names of a list that can be asked; `from` is whose list it is. Warns of each one that cannot help.
    fn list(&self, report: &Report, value: &Value<'_>, names: &'a [String], from: Option<usize>) -> List<'a> {
        let items = value.items().unwrap_or_default();
        let mut links = Vec::with_capacity(items.len());
        for (item, name) in items.into_iter().zip(names) {
            let place = item.place;
            let Some((to, upstream)) = self.find(name) else {
                report.warn(&place, format!("no model is called {}", quote(name)), self.hint(name));
                continue;
            };
            if Some(to) == from && !self.is_wild(to) {
                report.warn(&place, format!("{} falls back to itself", quote(name)), "remove it");
                continue;
            }
            let link = Link { name, place, to, upstream };
            self.warn_of_use(report, &link, from);
            links.push(link);
        }
        List { place: value.place.clone(), links }
    }

    /// The nearest name, or all of them; nothing once many were looked for, since each is compared with every model.
    fn hint(&self, name: &str) -> String {
        self.hints.set(self.hints.get().saturating_add(1));
        if self.hints.get() > HINTS_MAX {
            return String::new();
        }
        let known: Vec<&str> = self.config.models.iter().map(|model| model.name.as_str()).collect();
        choices(name, &known)
    }

    /// Warns of a fallback that fails as the first model does, or that takes only a part of its requests.
    fn warn_of_use(&self, report: &Report, link: &Link<'_>, from: Option<usize>) {
        let name = quote(link.name);
        if from.is_some_and(|from| self.is_same(from, link)) {
            let message =
                format!("{name} has the same endpoints and the same upstream model: it can only fail again");
            report.warn(&link.place, message, "name another model, or one at other endpoints");
        }
        let first_has_ollama = match from {
            Some(from) => self.has_ollama(from),
            None => self
                .config
                .models
                .iter()
                .enumerate()
                .any(|(index, model)| model.fallbacks.is_empty() && self.has_ollama(index)),
        };
        if first_has_ollama && !self.has_ollama(link.to) {
            let message = format!("{name} has openai endpoints only: /api/ requests cannot fall back to it");
            report.warn(
                &link.place,
                message,
                "requests to /v1/ can; for the others add one at an ollama endpoint",
            );
        }
    }

    fn is_wild(&self, index: usize) -> bool {
        self.config.models.get(index).is_some_and(|model| model.name.ends_with('*'))
    }

    /// Whether the model `from` asks the same endpoints for the same. What a `*` takes is not known here.
    fn is_same(&self, from: usize, link: &Link<'_>) -> bool {
        let upstream = |model: &Model| normalized(&model.upstream_model);
        self.config.models.get(from).map(upstream).is_some_and(|own| own == link.upstream)
            && self.endpoints.get(from) == self.endpoints.get(link.to)
    }

    fn has_ollama(&self, index: usize) -> bool {
        let speaks = |kind: Kind| kind == Kind::Ollama;
        match self.endpoints.get(index) {
            Some(Some(own)) => own
                .iter()
                .filter_map(|&endpoint| self.config.endpoints.get(endpoint))
                .any(|endpoint| speaks(endpoint.kind)),
            _ => self.config.endpoints.iter().any(|endpoint| speaks(endpoint.kind)),
        }
    }
}

/// One model on the walk's path.
struct Step<'a> {
    model: usize,
    label: &'a str,
    /// The next of its links to look at.
    next: usize,
}

/// Warns of each link that leads back to a model on the way to it.
fn warn_of_loops(report: &Report, lists: &[List<'_>], config: &Config) {
    let name = |index: usize| config.models.get(index).map_or("", |model| model.name.as_str());
    let mut done = HashSet::new();
    for start in 0..lists.len() {
        if done.contains(&start) {
            continue;
        }
        let mut path = vec![Step { model: start, label: name(start), next: 0 }];
        let mut depths = HashMap::from([(start, 0)]);
        while let Some(step) = path.last_mut() {
            let model = step.model;
            let link = lists.get(model).and_then(|list| list.links.get(step.next));
            step.next += 1;
            let Some(link) = link else {
                path.pop();
                depths.remove(&model);
                done.insert(model);
                continue;
            };
            // A wildcard may name one of its own models: that one is not the first.
            if link.to == model || done.contains(&link.to) {
                continue;
            }
            let label = if name(link.to).ends_with('*') { link.name } else { name(link.to) };
            if let Some(&depth) = depths.get(&link.to) {
                let labels: Vec<&str> =
                    path.iter().skip(depth).map(|step| step.label).chain([label]).collect();
                let hint = "a model that was asked is not asked again: remove one of these fallbacks";
                report.warn(&link.place, format!("a loop: {}", chain(&labels, " -> ")), hint);
            } else {
                depths.insert(link.to, path.len());
                path.push(Step { model: link.to, label, next: 0 });
            }
        }
    }
}

/// Warns of a list that leads, with the lists of the models in it, to more than `models_max` models.
fn warn_of_length(
    report: &Report,
    list: &List<'_>,
    from: Option<usize>,
    lists: &[List<'_>],
    config: &Config,
) {
    let most = usize::try_from(config.fallbacks.models_max).unwrap_or(usize::MAX);
    let own = from.and_then(|from| config.models.get(from)).map(|model| normalized(&model.upstream_model));
    let mut seen: HashSet<(usize, &str)> = HashSet::new();
    seen.extend(from.zip(own.as_deref()));
    let mut names = Vec::new();
    let mut ahead: Vec<&Link<'_>> = list.links.iter().rev().collect();
    while let Some(link) = ahead.pop().filter(|_| names.len() <= most) {
        if seen.insert((link.to, &link.upstream)) {
            names.push(link.name);
            ahead.extend(lists.get(link.to).into_iter().flat_map(|list| list.links.iter().rev()));
        }
    }
    if names.len() > most {
        let message = format!("a chain of more than models_max = {most} models: {}", chain(&names, ", "));
        let hint = "raise fallbacks.models_max or shorten the lists: those beyond it are never asked";
        report.warn(&list.place, message, hint);
    }
}

/// `names` with `between` them; of a long chain the first ones and the last.
fn chain(names: &[&str], between: &str) -> String {
    let cut = |name: &&str| match name.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => (*name).to_owned(),
    };
    let mut shown: Vec<String> = names.iter().take(SHOWN_MAX).map(cut).collect();
    if names.len() > SHOWN_MAX {
        shown.truncate(SHOWN_MAX - 2);
        shown.push("…".to_owned());
        shown.extend(names.last().map(cut));
    }
    shown.join(between)
}
