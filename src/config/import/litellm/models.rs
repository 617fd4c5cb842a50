//! `model_list`: deployments, gathered to models by their public name.
//!
//! A model of ours has one name upstream and endpoints that are equal but for their weight. Where LiteLLM's group has
//! several (other models, or `order`), the first level is the model and the others are models of their own that it falls
//! back to.

use std::time::Duration;

use super::super::field::{Around, Field, Secret, Section, sweep};
use super::super::plan::Plan;
use super::super::report::shown;
use super::provider::{Provider, split};
use crate::config::render::quoted;
use crate::config::{Kind, Url, normalized};

/// Models that one file may name.
pub(super) const MODELS_MAX: usize = 10_000;

/// Parameters that LiteLLM adds to requests.
const DEFAULTS: [&str; 24] = [
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "user",
    "num_ctx",
    "num_predict",
    "num_gpu",
    "num_thread",
    "repeat_penalty",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "keep_alive",
    "format",
    "think",
    "reasoning_effort",
];

/// A number, and the line that says it.
pub(super) type Said<'a, T> = Option<(T, Field<'a>)>;

/// An entry of the list.
pub(super) struct Deployment<'a> {
    pub(super) entry: Field<'a>,
    pub(super) name: String,
    pub(super) upstream: String,
    pub(super) endpoint: usize,
    pub(super) order: u64,
    pub(super) weight: Said<'a, f64>,
    pub(super) rpm: Said<'a, f64>,
    pub(super) tpm: Said<'a, f64>,
    pub(super) timeout: Said<'a, Duration>,
    pub(super) stream_timeout: Said<'a, Duration>,
    pub(super) retries: Said<'a, u64>,
    pub(super) parallel: Said<'a, u64>,
    pub(super) input_price: Said<'a, f64>,
    pub(super) output_price: Said<'a, f64>,
    pub(super) guardrails: Option<Field<'a>>,
}

/// Deployments of one public name.
pub(super) struct Group<'a> {
    pub(super) name: String,
    /// The name as it is compared.
    key: String,
    pub(super) deployments: Vec<Deployment<'a>>,
}

/// A credential of `credential_list`.
pub(super) struct Credential<'a> {
    pub(super) name: String,
    pub(super) values: Field<'a>,
}

/// Whether `name` can be a model's name here; what is wrong with it.
pub(super) fn name_mistake(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if name.is_empty() || name.len() > 256 || !name.bytes().all(allowed) {
        return Some("a model's name is 1 to 256 visible ASCII characters without blanks");
    }
    if name.find('*').is_some_and(|at| at + 1 != name.len()) {
        return Some("a `*` may only stand at the end of a model's name");
    }
    normalized(name).is_empty().then_some("nothing is left of this name without `:latest`")
}

/// Adds entries to the groups.
pub(super) fn read<'a>(
    list: &Field<'a>,
    credentials: &[Credential<'a>],
    plan: &mut Plan,
    groups: &mut Vec<Group<'a>>,
) {
    for item in list.items() {
        add(&item, credentials, plan, groups);
    }
}

/// Adds one entry.
pub(super) fn add<'a>(
    item: &Field<'a>,
    credentials: &[Credential<'a>],
    plan: &mut Plan,
    groups: &mut Vec<Group<'a>>,
) {
    let Some(deployment) = read_entry(item, credentials, plan) else { return };
    let (key, count) = (normalized(&deployment.name), groups.len());
    match groups.iter_mut().find(|group| group.key == key) {
        Some(group) => group.deployments.push(deployment),
        None if count >= MODELS_MAX => item.refused(format!("more than {MODELS_MAX} models")),
        None => groups.push(Group { name: deployment.name.clone(), key, deployments: vec![deployment] }),
    }
}

fn read_entry<'a>(
    item: &Field<'a>,
    credentials: &[Credential<'a>],
    plan: &mut Plan,
) -> Option<Deployment<'a>> {
    let mut section = item.section()?;
    let mut params = match section.take("litellm_params") {
        Some(field) => field.section()?,
        None => {
            item.get("model_name").as_ref().unwrap_or(item).refused("litellm_params are missing");
            sweep(item, "its model is refused");
            return None;
        }
    };
    let deployment = read_place(&mut section, &mut params, credentials, plan);
    let Some(mut deployment) = deployment else {
        sweep(item, "its model is refused");
        return None;
    };
    read_numbers(&mut params, &mut deployment);
    read_info(&mut section, &mut deployment);
    deployment.guardrails = section.take("guardrails").or_else(|| params.take("guardrails"));
    read_rest(&mut params);
    section.rest("LiteLLM does not know it here either");
    Some(deployment)
}

/// Name, provider, address and key.
fn read_place<'a>(
    section: &mut Section<'a>,
    params: &mut Section<'a>,
    credentials: &[Credential<'a>],
    plan: &mut Plan,
) -> Option<Deployment<'a>> {
    let entry = section.field().clone();
    let Some(name_field) = section.take("model_name") else {
        params.take("model").as_ref().unwrap_or(&entry).refused("model_name is missing");
        return None;
    };
    let name = name_field.text()?.into_owned();
    if let Some(mistake) = name_mistake(&name) {
        name_field.refused(mistake);
        return None;
    }
    let custom = params.take("custom_llm_provider");
    let custom_text = custom.as_ref().and_then(Field::text);
    let model_field = params.take("model");
    let model = match &model_field {
        Some(field) => field.text()?.into_owned(),
        None => name.clone(),
    };
    let fields = (model_field.as_ref().unwrap_or(&name_field), custom.as_ref());
    let any = custom.is_none() && params.field().get("api_base").is_none();
    let (upstream, provider) = read_upstream(&name, &model, custom_text.as_deref(), any, fields)?;
    let endpoint = read_endpoint(params, provider, credentials, plan, &entry)?;
    let to = format!("models.{}", quoted(&name));
    match &model_field {
        Some(field) => {
            let key = plan.endpoints.get(endpoint).and_then(|endpoint| endpoint.key.as_ref());
            let key = key.filter(|_| params.field().get("api_key").is_none());
            let key = key.map(|key| format!("; its key is {}", key.toml())).unwrap_or_default();
            field.exact(format!("{to}.upstream_model = {}{key}", quoted(&upstream)));
        }
        None => model_missing(&to, &upstream, &name_field),
    }
    if model_field.is_some() {
        name_field.exact(&to);
    }
    custom.iter().for_each(|field| field.exact("endpoints.kind"));
    Some(Deployment {
        entry,
        name,
        upstream,
        endpoint,
        order: 0,
        weight: None,
        rpm: None,
        tpm: None,
        timeout: None,
        stream_timeout: None,
        retries: None,
        parallel: None,
        input_price: None,
        output_price: None,
        guardrails: None,
    })
}

/// What the endpoint is asked for, and whose it is. `any`: nothing but the model's name says where it is.
fn read_upstream(
    name: &str,
    model: &str,
    custom: Option<&str>,
    any: bool,
    (field, custom_field): (&Field<'_>, Option<&Field<'_>>),
) -> Option<(String, Provider)> {
    if any && model == "*" {
        field.refused("any model of any provider: name the providers that are meant, e.g. \"openai/*\"");
        return None;
    }
    let (upstream, provider) = match split(model, custom) {
        Ok((upstream, provider)) => (upstream.to_owned(), provider),
        Err(other) => {
            let other = quoted(shown(&other));
            let why = format!("the provider {other} speaks neither Ollama's nor OpenAI's API");
            custom_field.unwrap_or(field).refused(why);
            return None;
        }
    };
    let wild = upstream.ends_with('*') && !name.ends_with('*');
    if let Some(mistake) = name_mistake(&upstream).or(wild.then_some("`*` stands for nothing in model_name"))
    {
        field.refused(mistake);
        return None;
    }
    Some((upstream, provider))
}

fn model_missing(to: &str, upstream: &str, name: &Field<'_>) {
    name.changed(format!("{to}: litellm_params.model is missing, {} is asked for", quoted(upstream)));
}

/// Address and key; they may stand in a credential.
fn read_endpoint<'a>(
    params: &mut Section<'a>,
    provider: Provider,
    credentials: &[Credential<'a>],
    plan: &mut Plan,
    entry: &Field<'a>,
) -> Option<usize> {
    let named = params.take("litellm_credential_name");
    let credential = match &named {
        None => None,
        Some(field) => {
            let name = field.text()?;
            let found = credentials.iter().find(|credential| credential.name == name);
            match found {
                Some(_) => field.exact("endpoints.api_key"),
                None => {
                    field.refused("credential_list has no such name");
                    return None;
                }
            }
            found
        }
    };
    let stored = |key: &str| credential.and_then(|credential| credential.values.get(key));
    let base_field =
        params.take("api_base").or_else(|| params.take("base_url")).or_else(|| stored("api_base"));
    let base = match (&base_field, provider.base) {
        (Some(field), _) => field.text()?.into_owned(),
        (None, Some(base)) => base.to_owned(),
        (None, None) => {
            let model = entry.get("litellm_params").and_then(|params| params.get("model"));
            let why = "api_base is missing, and this provider has no address of its own";
            model.as_ref().unwrap_or(entry).refused(why);
            return None;
        }
    };
    let url = match Url::parse(base.trim()) {
        Ok(url) => url,
        Err(mistake) => {
            base_field.as_ref().unwrap_or(entry).refused(format!("{}: {}", mistake.message, mistake.hint));
            return None;
        }
    };
    let key_field = params.take("api_key").or_else(|| stored("api_key"));
    let key = match &key_field {
        Some(field) if field.raw().is_some_and(|(text, _)| text.is_empty()) => {
            field.exact("no endpoints.api_key");
            None
        }
        Some(field) => Some(field.secret()?),
        None => default_key(provider, base_field.is_none(), entry.around),
    };
    let origin = base_field.as_ref().unwrap_or(entry).origin();
    let Some(index) = plan.endpoint(url.clone(), provider.kind, key.clone(), origin) else {
        base_field.as_ref().unwrap_or(entry).refused("too many endpoints: 1000 are possible");
        return None;
    };
    if let Some(field) = &base_field {
        tell_base(field, &base, &url, provider.kind);
    }
    if let (Some(field), Some(key)) = (&key_field, &key) {
        field.exact(key.told("endpoints.api_key"));
    }
    Some(index)
}

fn tell_base(field: &Field<'_>, base: &str, url: &Url, kind: Kind) {
    let to = format!("endpoints with url = {}", quoted(url));
    let versioned = base.trim().trim_end_matches('/').ends_with("/v1");
    match field.variable() {
        Some(name) => field.changed(format!("{to}: the value that {} has now", shown(name))),
        None if kind == Kind::Openai && !versioned => {
            field.changed(format!("{to}: requests go to its /v1/chat/completions, not /chat/completions"));
        }
        None => field.exact(to),
    }
}

/// The key that LiteLLM takes from the environment by itself, at the provider's own address only.
fn default_key(provider: Provider, own_address: bool, around: Around<'_>) -> Option<Secret> {
    let name = provider.key.filter(|_| own_address)?;
    around.vars.want(name);
    Some(Secret::Variable(name.to_owned()))
}

/// What counts for the choice and the deadlines of the deployment; told of when it is known what becomes of it.
fn read_numbers<'a>(params: &mut Section<'a>, deployment: &mut Deployment<'a>) {
    fn said<'a, T>(field: Option<Field<'a>>, read: impl Fn(&Field<'a>) -> Option<T>) -> Said<'a, T> {
        field.and_then(|field| Some((read(&field)?, field)))
    }
    deployment.weight = said(params.take("weight"), Field::number);
    deployment.rpm = said(params.take("rpm"), Field::number);
    deployment.tpm = said(params.take("tpm"), Field::number);
    deployment.timeout = said(params.take("timeout"), Field::seconds);
    deployment.stream_timeout = said(params.take("stream_timeout"), Field::seconds);
    let count = |field: &Field<'a>| field.integer(0, 1_000_000);
    deployment.retries = said(params.take("num_retries"), count);
    match (params.take("max_retries"), &deployment.retries) {
        (Some(field), Some(_)) => field.ignored("num_retries of the same deployment counts"),
        (field, None) => deployment.retries = said(field, count),
        _ => {}
    }
    deployment.parallel = said(params.take("max_parallel_requests"), count);
    deployment.input_price = said(params.take("input_cost_per_token"), Field::number);
    deployment.output_price = said(params.take("output_cost_per_token"), Field::number);
    if let Some(field) = params.take("order")
        && let Some(order) = field.integer(0, 1_000_000)
    {
        deployment.order = order;
        field.exact(format!(
            "models.{}: a level of fallbacks for each order, the lowest first",
            quoted(&deployment.name)
        ));
    }
}

/// `model_info`: what LiteLLM shows of the model. Prices may stand here too.
fn read_info<'a>(section: &mut Section<'a>, deployment: &mut Deployment<'a>) {
    let Some(mut info) = section.take("model_info").and_then(|field| field.section()) else { return };
    let mut price = |key: &str, own: &mut Said<'a, f64>| {
        let field = info.take(key);
        match (field, own.is_some()) {
            (Some(field), true) => field.ignored("the price in litellm_params counts"),
            (Some(field), false) => *own = field.number().map(|number| (number, field)),
            _ => {}
        }
    };
    price("input_cost_per_token", &mut deployment.input_price);
    price("output_cost_per_token", &mut deployment.output_price);
    info.ignore(&["id"], "the gateway makes ids of models itself; requests name models by their name");
    info.ignore(&["health_check_model", "health_check_timeout"], "a probe asks for a list, never a model");
    info.ignore(&["access_groups", "team_id"], "name models in `models` of each of [[keys]]");
    info.rest("LiteLLM shows it in /model/info only");
}

/// Parameters that the gateway has no place for.
fn read_rest(params: &mut Section<'_>) {
    if let Some(field) = params.take("stream") {
        field.ignored("the request decides");
    }
    if let Some(field) = params.take("api_version") {
        match field.raw() {
            Some(("v1", _)) => field.exact("paths begin with /v1"),
            _ => field.ignored("only Azure has versions, and it is not served"),
        }
    }
    for key in ["extra_headers", "headers", "organization"] {
        if let Some(field) = params.take(key) {
            field.refused("endpoints get no headers beside their key: the endpoint would be asked without");
        }
    }
    params.ignore(
        &["drop_params", "additional_drop_params"],
        "bodies pass as they are; endpoints skip what they do not know",
    );
    params.ignore(&["tags"], "requests are not routed by tags");
    params.ignore(&["cooldown_time"], "[breaker] is the same for all endpoints");
    params.ignore(&["max_budget", "budget_duration"], "budgets are those of [[keys]]");
    params.ignore(
        &["use_in_pass_through", "merge_reasoning_content_in_choices", "mock_response"],
        "not available",
    );
    params.ignore(&DEFAULTS, "the gateway adds no parameters: the request says them");
    params.rest("the gateway adds no parameters, and LiteLLM passes this one on");
}
