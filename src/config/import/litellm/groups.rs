//! Groups of deployments become `[[models]]`.
//!
//! Deadlines that all models share go to `[timeouts]`; nginx's own, where it stood in front, bounds them.

use std::time::Duration;

use super::super::field::Field;
use super::super::plan::{Edge, Plan, weights};
use super::super::report::Origin;
use super::super::toml::from;
use super::fallbacks::Fallbacks;
use super::guards::Guards;
use super::models::{Deployment, Group, Said};
use super::routing::Routing;
use crate::config::render::quoted;
use crate::config::{Timeouts, normalized};

/// A model as it is written.
#[derive(Clone)]
pub(super) struct Out {
    pub(super) name: String,
    origin: Origin,
    upstream: String,
    endpoints: Vec<usize>,
    weights: Option<Vec<u64>>,
    weighted: bool,
    guard: Option<String>,
    price: Option<(f64, f64)>,
    first_byte: Option<Duration>,
    idle: Option<Duration>,
    fallbacks: Vec<String>,
    context: Vec<String>,
}

/// Names upstream that one model may have.
const LEVELS_MAX: usize = 32;
/// Largest share of an endpoint.
const WEIGHT_MAX: f64 = 1000.0;

/// Every group's models.
pub(super) fn build(
    groups: &[Group<'_>],
    fallbacks: &Fallbacks,
    routing: &Routing,
    guards: &mut Guards,
    plan: &mut Plan,
) -> Vec<Out> {
    let mut out = Vec::new();
    for group in groups {
        let levels = levels(group);
        let first = out.len();
        for (number, level) in levels.iter().enumerate() {
            let name =
                if number == 0 { group.name.clone() } else { format!("{}+{}", group.name, number + 1) };
            out.push(one(name, level, routing, guards, plan));
        }
        let extra: Vec<String> = out.iter().skip(first + 1).map(|model: &Out| model.name.clone()).collect();
        let [general, context] = fallbacks.of(&group.name);
        if let Some(model) = out.get_mut(first) {
            model.fallbacks = extra;
            model.fallbacks.extend(general.into_iter().flatten().cloned());
            model.context = context.cloned().unwrap_or_default();
        }
    }
    out
}

/// Deployments that are equal but for their weight; a `*` has one level, the others are refused.
fn levels<'g, 'a>(group: &'g Group<'a>) -> Vec<Vec<&'g Deployment<'a>>> {
    let mut sorted: Vec<&Deployment<'a>> = group.deployments.iter().collect();
    sorted.sort_by_key(|deployment| deployment.order);
    let mut levels: Vec<Vec<&Deployment<'a>>> = Vec::new();
    for deployment in sorted {
        let equal = |level: &&mut Vec<&Deployment<'a>>| {
            level.first().is_some_and(|first| {
                first.order == deployment.order
                    && normalized(&first.upstream) == normalized(&deployment.upstream)
            })
        };
        let count = levels.len();
        match levels.iter_mut().find(equal) {
            Some(level) => level.push(deployment),
            None if count == 0 => levels.push(vec![deployment]),
            None if count >= LEVELS_MAX => deployment.entry.refused("too many names upstream, or orders"),
            None if group.name.ends_with('*') => {
                deployment.entry.refused("a model with `*` is asked for under one name upstream");
            }
            None => {
                let text = format!(
                    "models.{}: asked when those above fail, as a model {} of its own: it has another name upstream or another order",
                    quoted(&group.name),
                    quoted(format_args!("{}+{}", group.name, count + 1))
                );
                if let Some(field) = deployment.entry.get("model_name") {
                    field.changed(text);
                }
                levels.push(vec![deployment]);
            }
        }
    }
    levels
}

fn one(
    name: String,
    level: &[&Deployment<'_>],
    routing: &Routing,
    guards: &mut Guards,
    plan: &mut Plan,
) -> Out {
    let mut endpoints: Vec<usize> = Vec::new();
    for deployment in level {
        if endpoints.contains(&deployment.endpoint) {
            let field = deployment.entry.get("model_name").unwrap_or_else(|| deployment.entry.clone());
            field.changed("the same model at the same endpoint as above: one endpoint");
        } else {
            endpoints.push(deployment.endpoint);
        }
    }
    let weights = read_weights(&name, level, &endpoints);
    let firsts = level.iter().filter_map(|deployment| said(&deployment.timeout)).collect();
    let first_byte = longest(firsts, &name, "first_byte", &plan.edge);
    let idles = level.iter().filter_map(|deployment| said(&deployment.stream_timeout)).collect();
    let idle = longest(idles, &name, "idle", &plan.edge);
    Out {
        origin: level.first().map_or_else(|| routing.origin.clone(), |deployment| deployment.entry.origin()),
        upstream: level.first().map(|deployment| deployment.upstream.clone()).unwrap_or_default(),
        weighted: weights.as_ref().is_some_and(|(_, by_choice)| *by_choice) && routing.strategy.is_none(),
        weights: weights.map(|(weights, _)| weights),
        guard: guards.profile(level, plan),
        price: read_price(&name, level, routing.price),
        first_byte,
        idle,
        fallbacks: Vec::new(),
        context: Vec::new(),
        endpoints,
        name,
    }
}

fn said<'d, 'a, T: Copy>(said: &'d Said<'a, T>) -> Option<(T, &'d Field<'a>)> {
    said.as_ref().map(|(value, field)| (*value, field))
}

/// The longest of several times; told of all.
fn longest(mut times: Vec<(Duration, &Field<'_>)>, name: &str, key: &str, edge: &Edge) -> Option<Duration> {
    times.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let (most, _) = *times.first()?;
    for (time, field) in times {
        let to = format!("timeouts.{key} of models.{}", quoted(name));
        match time == most {
            true => {
                field.exact(&to);
                tell_cap(field, time, edge);
            }
            false => field.changed(format!("{to}: the longest of its deployments, {}s", most.as_secs_f64())),
        }
    }
    Some(most)
}

/// Weights in the order of `endpoints`, and whether LiteLLM would choose by them without being told to.
fn read_weights(name: &str, level: &[&Deployment<'_>], endpoints: &[usize]) -> Option<(Vec<u64>, bool)> {
    let to = format!("models.{}.weights", quoted(name));
    let all = |pick: &dyn Fn(&Deployment<'_>) -> Option<f64>| level.iter().any(|one| pick(one).is_some());
    let by_weight = all(&|one| one.weight.as_ref().map(|(value, _)| *value));
    let by_rpm = !by_weight && all(&|one| one.rpm.as_ref().map(|(value, _)| *value));
    let by_tpm = !by_weight && !by_rpm && all(&|one| one.tpm.as_ref().map(|(value, _)| *value));
    let mut sums = vec![0.0_f64; endpoints.len()];
    for deployment in level {
        let [weight, rpm, tpm] = [&deployment.weight, &deployment.rpm, &deployment.tpm];
        let chosen = if by_weight {
            weight
        } else if by_rpm {
            rpm
        } else {
            tpm
        };
        let value = chosen.as_ref().map_or(1.0, |(value, _)| *value);
        let slot = endpoints.iter().position(|endpoint| *endpoint == deployment.endpoint);
        if let Some(sum) = slot.and_then(|slot| sums.get_mut(slot)) {
            *sum += value;
        }
        if let Some((value, field)) = weight {
            match *value > 0.0 {
                _ if endpoints.len() < 2 => field.exact("the only endpoint of the model"),
                true => field.exact(&to),
                false => field.changed(format!("{to}: 1, the least that an endpoint may have")),
            }
        }
        for (said, used) in [(rpm, by_rpm), (tpm, by_tpm)] {
            if let Some((_, field)) = said {
                match used && endpoints.len() > 1 {
                    true => field.changed(format!("{to}: a share beside the others, and no limit")),
                    false => field
                        .ignored("endpoints have no limits a minute: `slots` bounds what they do at once"),
                }
            }
        }
    }
    (endpoints.len() > 1 && (by_weight || by_rpm || by_tpm)).then(|| (whole(&sums), true))
}

/// Shares as whole numbers from 1 to 1000.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 1000")]
fn whole(shares: &[f64]) -> Vec<u64> {
    let most = shares.iter().copied().fold(0.0, f64::max);
    let plain = most <= WEIGHT_MAX && shares.iter().all(|share| share.fract() == 0.0);
    let scale = if plain || most <= 0.0 { 1.0 } else { WEIGHT_MAX / most };
    shares.iter().map(|share| (share * scale).round().clamp(1.0, WEIGHT_MAX) as u64).collect()
}

/// USD per 1000 tokens of prompts and answers.
fn read_price(name: &str, level: &[&Deployment<'_>], otherwise: Option<(f64, f64)>) -> Option<(f64, f64)> {
    let per_1k = |cost: f64| (cost * 1e15).round() / 1e12;
    let mut price: Option<(f64, f64)> = None;
    for deployment in level {
        let [input, output] = [&deployment.input_price, &deployment.output_price];
        if input.is_none() && output.is_none() {
            continue;
        }
        let value = |said: &Said<'_, f64>| said.as_ref().map_or(0.0, |(cost, _)| per_1k(*cost));
        let own = (value(input), value(output));
        let first = *price.get_or_insert(own);
        let to = format!("models.{}.price", quoted(name));
        for (_, field) in [input, output].into_iter().flatten() {
            match first == own {
                true => field.exact(&to),
                false => field.changed(format!("{to}: a model has one price, that of its first deployment")),
            }
        }
    }
    price.or(otherwise)
}

/// Writes models and `[timeouts]`.
pub(super) fn write(models: &[Out], routing: &Routing, plan: &mut Plan) {
    let default = Timeouts::default();
    let shared = |pick: fn(&Out) -> Option<Duration>| {
        let first = models.first().and_then(pick)?;
        models.iter().all(|model| pick(model) == Some(first)).then_some(first)
    };
    let global_first = routing.first_byte.clone();
    let first = global_first.as_ref().map(|(time, _)| *time).or_else(|| shared(|model| model.first_byte));
    let idle = routing.idle.as_ref().map(|(time, _)| *time).or_else(|| shared(|model| model.idle));
    let capped = |time: Option<Duration>| cap(time, &plan.edge);
    let base_first = capped(first).unwrap_or(default.first_byte);
    // LiteLLM's deadline of a request is that of each wait for its stream, too.
    let base_idle = capped(idle.or(first)).unwrap_or(default.idle);
    let model_times: Vec<[Option<Duration>; 2]> = models
        .iter()
        .map(|model| {
            let own_first = capped(model.first_byte.or(first)).unwrap_or(default.first_byte);
            let own_idle = model.idle.or(idle).or(model.first_byte).or(first);
            let own_idle = capped(own_idle).unwrap_or(default.idle);
            [(own_first != base_first).then_some(own_first), (own_idle != base_idle).then_some(own_idle)]
        })
        .collect();
    let note = |from_file: Option<&Origin>, edge: &Edge, time: Duration| match (&edge.read_timeout, from_file)
    {
        (Some((read, Some(origin))), _) if *read == time => from(origin),
        (Some((read, None)), _) if *read == time => "nginx's own proxy_read_timeout".to_owned(),
        (_, Some(origin)) => from(origin),
        _ => String::new(),
    };
    let capped_by_edge = plan.edge.read_timeout.is_some();
    if first.is_some() || idle.is_some() || capped_by_edge {
        let first_note = note(global_first.as_ref().map(|(_, origin)| origin), &plan.edge, base_first);
        let idle_note = note(routing.idle.as_ref().map(|(_, origin)| origin), &plan.edge, base_idle);
        let section = plan.doc.section("[timeouts]");
        if first.is_some() || capped_by_edge {
            section.time("first_byte", base_first, first_note);
        }
        section.time("idle", base_idle, idle_note);
    }
    for (model, times) in models.iter().zip(model_times) {
        write_one(model, times, plan);
    }
}

/// Tells of a time that nginx did not wait for.
pub(super) fn tell_cap(field: &Field<'_>, time: Duration, edge: &Edge) {
    if let Some((read, _)) = edge.read_timeout.as_ref().filter(|(read, _)| *read < time) {
        let read = read.as_secs_f64();
        field.changed(format!(
            "{read}s, after which nginx gave up (proxy_read_timeout); raise [timeouts] for more"
        ));
    }
}

/// What nginx bears at most, where it stood in front.
fn cap(time: Option<Duration>, edge: &Edge) -> Option<Duration> {
    match (&edge.read_timeout, time) {
        (Some((read, _)), Some(time)) => Some(time.min(*read)),
        (Some((read, _)), None) => Some(*read),
        (None, time) => time,
    }
}

fn write_one(model: &Out, times: [Option<Duration>; 2], plan: &mut Plan) {
    let names: Vec<String> = model.endpoints.iter().map(|&index| plan.name_of(index).to_owned()).collect();
    let section = plan.doc.push("[[models]]");
    section.text("name", &model.name, from(&model.origin));
    section.text("upstream_model", &model.upstream, "");
    section.list("endpoints", &names, "");
    if model.weighted {
        section.text("strategy", "weighted", "as LiteLLM does where deployments have weights");
    }
    if let Some(shares) = &model.weights {
        let pairs: Vec<(String, u64)> = names.iter().cloned().zip(shares.iter().copied()).collect();
        section.set("weights", weights(&pairs), "");
    }
    if let Some(guard) = &model.guard {
        section.text("guard", guard, "");
    }
    if let Some((input, output)) = model.price {
        let price = format!("{{ input_per_1k = {input:?}, output_per_1k = {output:?} }}");
        section.set("price", price, "USD per 1000 tokens");
    }
    let [first, idle] = times;
    let pairs = [("first_byte", first), ("idle", idle)];
    let pairs: Vec<String> = pairs
        .into_iter()
        .filter_map(|(key, time)| Some(format!("{key} = {}", quoted(crate::config::units::time_text(time?)))))
        .collect();
    if !pairs.is_empty() {
        section.set("timeouts", format_args!("{{ {} }}", pairs.join(", ")), "");
    }
    if !model.fallbacks.is_empty() {
        section.list("fallbacks", &model.fallbacks, "");
    }
    if !model.context.is_empty() {
        section.list("context_window_fallbacks", &model.context, "");
    }
}

/// The same models under other names.
pub(super) fn alias(
    models: &mut Vec<Out>,
    alias: &str,
    target: &str,
    origin: Origin,
    fallbacks: &Fallbacks,
) -> bool {
    let target = normalized(target);
    let Some(model) = models.iter().find(|model| normalized(&model.name) == target) else {
        return false;
    };
    let mut copy = Out { name: alias.to_owned(), origin, ..model.clone() };
    let [general, context] = fallbacks.of(alias);
    copy.fallbacks = general.unwrap_or(&copy.fallbacks).clone();
    copy.context = context.unwrap_or(&copy.context).clone();
    models.push(copy);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_whole_numbers() {
        assert_eq!(whole(&[1.0, 2.0]), [1, 2]);
        assert_eq!(whole(&[0.7, 0.3]), [1000, 429]);
        assert_eq!(whole(&[60_000.0, 30_000.0, 1.0]), [1000, 500, 1]);
        assert_eq!(whole(&[0.0, 0.0]), [1, 1]);
    }
}
