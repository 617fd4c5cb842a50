//! What we say of models and endpoints ourselves, in the shapes that clients parse.

use serde_json::{Value, json};

use crate::catalog::{Catalog, Deployment, Registry};
use crate::config::normalized;

/// Whether the caller may use a model: others are not shown to it.
pub type May<'a> = &'a dyn Fn(&str) -> bool;

/// `GET /v1/models`.
#[must_use]
pub fn list(catalog: &Catalog, created: u64, may: May<'_>) -> Value {
    let data: Vec<_> = catalog
        .listed
        .iter()
        .filter(|model| !model.candidates.is_empty() && may(&model.name))
        .map(|model| entry(&model.name, created))
        .collect();
    json!({"object": "list", "data": data})
}

/// `GET /v1/models/{id}`.
#[must_use]
pub fn entry(name: &str, created: u64) -> Value {
    json!({"id": name, "object": "model", "created": created, "owned_by": "corelane"})
}

/// `GET /model/info`: LiteLLM's shape, one entry a deployment and endpoint, without secrets.
#[must_use]
pub fn info(catalog: &Catalog, registry: &Registry, may: May<'_>) -> Value {
    let data: Vec<_> = pairs(catalog)
        .filter(|(model, _)| may(&model.name))
        .map(|(model, candidate)| {
            let endpoint = &registry[candidate.endpoint];
            json!({
                "model_name": model.name,
                "litellm_params": {
                    "model": format!("{}/{}", provider(endpoint.config.kind), candidate.upstream_model),
                    "api_base": endpoint.base(),
                },
                "model_info": {
                    "id": candidate.id,
                    "input_cost_per_token": model.price.input_per_1k / 1000.0,
                    "output_cost_per_token": model.price.output_per_1k / 1000.0,
                },
            })
        })
        .collect();
    json!({"data": data})
}

/// `GET /model_group/info`.
#[must_use]
pub fn group_info(catalog: &Catalog, registry: &Registry, may: May<'_>) -> Value {
    let data: Vec<_> = catalog
        .listed
        .iter()
        .filter(|model| may(&model.name))
        .map(|model| {
            let mut providers: Vec<_> = model
                .candidates
                .iter()
                .map(|candidate| provider(registry[candidate.endpoint].config.kind))
                .collect();
            providers.sort_unstable();
            providers.dedup();
            json!({"model_group": model.name, "providers": providers})
        })
        .collect();
    json!({"data": data})
}

/// `GET /health`, from the last probes: no endpoint is asked for it.
#[must_use]
pub fn health(catalog: &Catalog, registry: &Registry) -> Value {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (model, candidate) in pairs(catalog) {
        let endpoint = &registry[candidate.endpoint];
        let mut entry = json!({
            "model": model.name,
            "api_base": endpoint.base(),
            "model_id": candidate.id,
        });
        if endpoint.health().is_up() && !endpoint.disabled() {
            up.push(entry);
        } else {
            let error = endpoint.last_error().map(|error| error.to_string());
            entry["error"] =
                json!(if endpoint.disabled() { Some("disabled by the operator".to_owned()) } else { error });
            down.push(entry);
        }
    }
    let (healthy_count, unhealthy_count) = (up.len(), down.len());
    json!({
        "healthy_endpoints": up,
        "unhealthy_endpoints": down,
        "healthy_count": healthy_count,
        "unhealthy_count": unhealthy_count,
    })
}

/// `GET /api/tags`: what the endpoints have, under the names that can be asked for.
#[must_use]
pub fn tags(catalog: &Catalog, registry: &Registry, may: May<'_>) -> Value {
    let mut models: Vec<Value> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (model, candidate) in pairs(catalog).filter(|(model, _)| may(&model.name)) {
        let name = model.name.strip_prefix("ollama/").unwrap_or(&model.name);
        let facts = registry[candidate.endpoint].facts();
        let known = facts.as_ref().and_then(|facts| {
            let at = facts
                .models
                .iter()
                .position(|has| normalized(has) == normalized(&candidate.upstream_model))?;
            serde_json::from_str::<Value>(facts.tags.get(at)?).ok()
        });
        let Some(mut entry) = known else { continue };
        if seen.contains(&normalized(name)) {
            continue;
        }
        seen.push(normalized(name));
        entry["name"] = json!(name);
        entry["model"] = json!(name);
        models.push(entry);
    }
    json!({"models": models})
}

fn pairs(catalog: &Catalog) -> impl Iterator<Item = (&Deployment, &crate::catalog::Candidate)> {
    catalog
        .listed
        .iter()
        .flat_map(|model| model.candidates.iter().map(move |candidate| (&**model, candidate)))
}

fn provider(kind: crate::config::Kind) -> &'static str {
    match kind {
        crate::config::Kind::Ollama => "ollama",
        crate::config::Kind::Openai => "openai",
    }
}
