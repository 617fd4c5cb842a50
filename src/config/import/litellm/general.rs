//! Listeners, keys, bounds and logs: `general_settings`, `proxy_server`, `advanced`, `monitoring`, `rate_limit` and the
//! guide's other small sections.

use std::net::{IpAddr, SocketAddr};

use super::super::field::{Candidate, Field, Secret, settle};
use super::super::plan::Plan;
use super::super::toml::from;
use super::{Sections, pick};
use crate::config::render::quoted;
use crate::config::units::Bytes;

/// Shortest secret of a caller.
const SECRET_BYTES_MIN: usize = 8;

/// `proxy_server.host` and `.port`: where clients connect, unless nginx stood in front.
pub(super) fn read_listen(sections: &mut Sections<'_>, plan: &mut Plan) {
    let [host, port] = ["host", "port"].map(|key| pick(&mut sections.server, key));
    if host.is_none() && port.is_none() {
        return;
    }
    if plan.edge.listens {
        for field in [&host, &port].into_iter().flatten() {
            field.ignored("clients came by nginx: the gateway listens where nginx did");
        }
        return;
    }
    let ip = match host.as_ref().map(Field::text) {
        None => Some(IpAddr::from([0, 0, 0, 0])),
        Some(None) => return,
        Some(Some(text)) if text == "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        Some(Some(text)) => text.parse().ok(),
    };
    let Some(ip) = ip else {
        host.iter().for_each(|field| field.refused("expected an IP address"));
        return;
    };
    let number = port.as_ref().map_or(Some(8000), |field| field.integer(1, 65_535));
    let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else { return };
    let address = SocketAddr::new(ip, number);
    let said = [&host, &port].into_iter().flatten();
    let note = said.clone().next().map(|field| from(&field.origin())).unwrap_or_default();
    plan.doc.section("[server]").list("listen", &[address], note);
    said.for_each(|field| field.exact(format!("server.listen = {address}")));
}

/// How many requests run at once: of several bounds the smallest.
pub(super) fn read_bounds(sections: &mut Sections<'_>, plan: &mut Plan) {
    let fields = sections.fields(&[
        ("router", "max_concurrent_requests"),
        ("balancing", "max_concurrent_requests"),
        ("server", "max_concurrent_requests"),
        ("general", "global_max_parallel_requests"),
    ]);
    let mut candidates: Vec<Candidate<'_, u64>> = fields
        .into_iter()
        .filter_map(|field| Some(Candidate { value: field.integer(1, 1_000_000)?, field, how: None }))
        .collect();
    candidates.sort_by_key(|candidate| candidate.value);
    let to = candidates.first().map(|first| format!("server.max_concurrent_requests = {}", first.value));
    if let Some((most, origin)) = settle(&candidates, &to.unwrap_or_default()) {
        plan.doc.section("[server]").set("max_concurrent_requests", most, from(&origin));
    }
    for (key, ours) in
        [("max_request_size_mb", "body_bytes_max"), ("max_response_size_mb", "answer_bytes_max")]
    {
        if let Some(field) = pick(&mut sections.general, key)
            && let Some(size) = field.integer(1, 1024)
        {
            plan.doc.section("[server]").text(ours, Bytes(size << 20), from(&field.origin()));
            field.exact(format!("server.{ours}"));
        }
    }
}

/// Who may call.
pub(super) fn read_keys(sections: &mut Sections<'_>, plan: &mut Plan) {
    let master = pick(&mut sections.general, "master_key");
    let auth = pick(&mut sections.server, "enable_auth");
    let wanted = auth.as_ref().and_then(Field::flag);
    let around = sections.around;
    let named = "LITELLM_MASTER_KEY";
    // LiteLLM takes it from there by itself. What this process happens to have is no part of the deployment.
    let known =
        around.vars.get(named).filter(|value| !value.is_empty()).and(around.vars.origin(named)).is_some();
    let secret = match &master {
        Some(field) => field.secret(),
        None if known => {
            around.vars.want(named);
            Some(Secret::Variable(named.to_owned()))
        }
        None => None,
    };
    if let (Some(field), Some(Secret::Literal(text))) = (&master, &secret)
        && text.len() < SECRET_BYTES_MIN
    {
        field.refused(format!(
            "a key has at least {SECRET_BYTES_MIN} characters: anybody would guess this one"
        ));
        auth.iter().for_each(|field| field.ignored("there is no key that could be asked for"));
        return;
    }
    if let Some(secret) = &secret {
        let origin = master.as_ref().map(Field::origin).or_else(|| around.vars.origin(named));
        let section = plan.doc.push("[[keys]]");
        section.text("name", "master", "");
        let place = origin.map(|origin| from(&origin)).unwrap_or_default();
        section.set("secret", secret.toml(), format!("{place}{}", secret.note()));
        section.list("models", &["*"], "every model; give each caller a key of its own");
        master.iter().for_each(|field| field.exact(secret.told("keys.secret")));
    }
    match (&auth, wanted) {
        (Some(field), Some(true)) if secret.is_some() => field.exact("[[keys]]"),
        (Some(field), Some(true)) => {
            field.refused("no key is named: add [[keys]], else the gateway asks nobody for one");
        }
        (Some(field), Some(false)) if secret.is_some() => {
            field.changed("there is a master key, and LiteLLM asks for it");
        }
        (Some(field), Some(false)) => field.exact("without [[keys]] everybody may call"),
        _ => {}
    }
    if let Some(server) = &mut sections.server {
        server.ignore(&["api_key_prefix"], "a key is any text of 8 characters or more");
    }
}

/// `[health]`.
pub(super) fn read_health(sections: &mut Sections<'_>, only_ollama: bool, plan: &mut Plan) {
    if let Some(field) = pick(&mut sections.balancing, "health_check_enabled")
        && let Some(flag) = field.flag()
    {
        plan.doc.section("[health]").set("enabled", flag, from(&field.origin()));
        field.exact(format!("health.enabled = {flag}"));
    }
    let times = [
        (
            "interval",
            sections.fields(&[
                ("health", "interval"),
                ("health", "health_check_interval"),
                ("balancing", "health_check_interval"),
                ("general", "health_check_interval"),
            ]),
        ),
        (
            "timeout",
            sections.fields(&[
                ("health", "health_check_timeout"),
                ("health", "timeout"),
                ("balancing", "health_check_timeout"),
            ]),
        ),
    ];
    for (key, fields) in times {
        let candidates: Vec<Candidate<'_, std::time::Duration>> = fields
            .into_iter()
            .filter_map(|field| Some(Candidate { value: field.seconds()?, field, how: None }))
            .collect();
        if let Some((time, origin)) = settle(&candidates, &format!("health.{key}")) {
            plan.doc.section("[health]").time(key, time, from(&origin));
        }
    }
    for (key, ours) in [("endpoint", "path"), ("expected_response_field", "expect_field")] {
        let Some(field) = pick(&mut sections.health, key) else { continue };
        let Some(text) = field.text() else { continue };
        let fine = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') && text.len() <= 256;
        if !fine || text.is_empty() || ours == "path" && !text.starts_with('/') {
            field.refused(if ours == "path" { "expected a path" } else { "expected a key of a JSON object" });
        } else if only_ollama {
            plan.doc.section("[health]").text(ours, &text, from(&field.origin()));
            field.exact(format!("health.{ours} = {}", quoted(&text)));
        } else {
            field.changed(format!("health.{ours} is left out: each kind of endpoint has its own"));
        }
    }
    for key in ["unhealthy_threshold", "healthy_threshold"] {
        if let Some(field) = pick(&mut sections.health, key)
            && let Some(count) = field.integer(1, 1000)
        {
            plan.doc.section("[health]").set(key, count, from(&field.origin()));
            field.exact(format!("health.{key} = {count}"));
        }
    }
    if let Some(health) = &sections.health {
        health.rest("a probe has no such setting");
    }
}

/// `[log]`.
pub(super) fn read_log(sections: &mut Sections<'_>, plan: &mut Plan) {
    let mut levels: Vec<Candidate<'_, &'static str>> = Vec::new();
    if let Some(field) = pick(&mut sections.settings, "set_verbose") {
        match field.flag() {
            Some(true) => levels.push(Candidate { field, value: "debug", how: None }),
            Some(false) => field.exact("log.level"),
            None => {}
        }
    }
    if let Some(field) = pick(&mut sections.server, "log_level")
        && let Some(text) = field.text()
    {
        match level(&text) {
            Some(value) => levels.push(Candidate { field, value, how: None }),
            None => field.ignored("no such level: error, warn, info, debug"),
        }
    }
    if let Some((level, origin)) = settle(&levels, "log.level") {
        plan.doc.section("[log]").text("level", level, from(&origin));
    }
    if let Some(field) = pick(&mut sections.server, "log_filepath")
        && let Some(text) = field.text()
    {
        field.changed("a comment at the end names the file: log.access writes a line a request there");
        let path = if text.contains(['/', '.']) { text.into_owned() } else { format!("./{text}") };
        let place = from(&field.origin());
        plan.doc.foot(format!("A line a request in a file, {place}: [log] access = {}", quoted(path)));
    }
    if let Some(field) = pick(&mut sections.settings, "json_logs") {
        match field.flag() {
            Some(true) => {
                plan.doc.section("[log]").text("format", "json", from(&field.origin()));
                field.exact("log.format = \"json\"");
            }
            Some(false) => field.exact("log.format"),
            None => {}
        }
    }
    read_bodies(sections, plan);
}

/// LiteLLM's and Python's words for a level.
pub(super) fn level(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "debug" | "trace" => "debug",
        "info" => "info",
        "warn" | "warning" => "warn",
        "error" | "critical" | "fatal" => "error",
        _ => return None,
    })
}

fn read_bodies(sections: &mut Sections<'_>, plan: &mut Plan) {
    let off = pick(&mut sections.settings, "turn_off_message_logging");
    let none = off.as_ref().and_then(Field::flag) == Some(true);
    if let Some(field) = &off {
        if none {
            plan.doc.section("[log]").set("bodies", false, from(&field.origin()));
        }
        field.exact(if none { "log.bodies = false" } else { "log.bodies" });
    }
    let fields: Vec<Field<'_>> =
        sections.fields(&[("advanced", "log_requests"), ("advanced", "log_responses")]);
    let flags: Vec<bool> = fields.iter().filter_map(Field::flag).collect();
    let any = flags.iter().any(|flag| *flag);
    if none {
        fields.iter().for_each(|field| field.ignored("turn_off_message_logging counts"));
    } else if let Some(first) = fields.first().filter(|_| flags.len() == fields.len()) {
        plan.doc.section("[log]").set("bodies", any, from(&first.origin()));
        let alike = flags.iter().all(|flag| *flag == any) && fields.len() == 2 || !any;
        for field in &fields {
            match alike {
                true => field.exact(format!("log.bodies = {any}")),
                false => field.changed("log.bodies = true: requests and answers together"),
            }
        }
    }
    if let Some(field) = pick(&mut sections.advanced, "mask_sensitive_data")
        && let Some(flag) = field.flag()
    {
        plan.doc.section("[log]").set("mask", flag, from(&field.origin()));
        field.exact(format!("log.mask = {flag}"));
    }
    if let Some(field) = pick(&mut sections.settings, "include_cost_in_streaming_usage")
        && let Some(flag) = field.flag()
    {
        plan.doc.section("[usage]").set("cost_in_answers", flag, from(&field.origin()));
        field.exact(format!("usage.cost_in_answers = {flag}"));
    }
}

/// `cost_tracking`: the price of models that say none, in USD per 1000 tokens.
pub(super) fn read_cost(guide: Option<Field<'_>>, sections: &mut Sections<'_>) -> Option<(f64, f64)> {
    if let Some(field) = pick(&mut sections.router, "track_cost") {
        match field.flag() {
            Some(true) => field.exact("cost is always counted"),
            Some(false) => field.ignored("cost is always counted; without a price it is 0"),
            None => {}
        }
    }
    let mut section = guide?.section()?;
    let enabled = section.take("enabled");
    let on = enabled.as_ref().and_then(Field::flag).unwrap_or(true);
    enabled.iter().for_each(|field| field.exact("models.price"));
    let mut price = |key: &str| {
        let field = section.take(key)?;
        let number = field.number()?;
        match on {
            true => field.exact("models.price"),
            false => field.ignored("cost_tracking is off"),
        }
        Some(number)
    };
    let prices = (price("cost_per_1k_input_tokens"), price("cost_per_1k_output_tokens"));
    section.rest("the gateway has no such setting");
    let both = (prices.0.unwrap_or_default(), prices.1.unwrap_or_default());
    (on && (prices.0.is_some() || prices.1.is_some())).then_some(both)
}

/// `monitoring`: the admin listener.
pub(super) fn read_monitoring(guide: Option<Field<'_>>, plan: &mut Plan) {
    let Some(mut section) = guide.and_then(|field| field.section()) else { return };
    let enabled = section.take("enable_prometheus");
    let off = enabled.as_ref().and_then(Field::flag) == Some(false);
    if let Some(field) = &enabled {
        match off {
            true => field.changed("/metrics is there all the same, on this machine only"),
            false => field.exact("/metrics of the admin listener"),
        }
    }
    for key in ["track_request_latency", "track_token_usage"] {
        section.always(key, true, "always counted", "always counted");
    }
    if let Some(field) = section.take("prometheus_port")
        && let Some(port) = field.integer(1, 65_535)
    {
        match &plan.edge.admin {
            _ if off => field.ignored("enable_prometheus is off"),
            Some(origin) => field
                .changed(format!("server.admin_listen: metrics are where nginx had them, {}", from(origin))),
            None => {
                let note = format!("{}; from other machines it can only be read", from(&field.origin()));
                plan.doc.section("[server]").text("admin_listen", format_args!("0.0.0.0:{port}"), note);
                field.changed(format!(
                    "server.admin_listen = 0.0.0.0:{port}: /metrics, and /status and /ui too; others may read, not change"
                ));
            }
        }
    }
    section.ignore(
        &["error_threshold", "alert_on_threshold"],
        "alerts are Prometheus' work: config/prometheus/alerts.yml",
    );
    section.rest("the gateway has no such setting");
}

/// `rate_limit`: written as a comment, since LiteLLM has never obeyed it.
pub(super) fn read_rates(guide: Option<Field<'_>>, plan: &mut Plan) {
    let Some(mut section) = guide.and_then(|field| field.section()) else { return };
    let why = "LiteLLM does not know it, and it is stricter than nginx's limits: a zone for it stands at the end as a comment";
    let enabled = section.take("enabled");
    let minute = section.take("requests_per_minute");
    if let Some(count) = minute.as_ref().and_then(|field| field.integer(1, 60_000_000)) {
        plan.doc.foot("LiteLLM did not obey rate_limit. A zone that does what it says:");
        plan.doc.foot("  [[limits.zones]]");
        plan.doc.foot("  name = \"rate_limit\"");
        plan.doc.foot(format!("  rate = \"{count}r/m\""));
        plan.doc.foot(format!("  burst = {}", count.saturating_sub(1).min(268_000)));
        plan.doc.foot(
            "  routes = [\"/v1/chat/completions\", \"/v1/completions\", \"/v1/embeddings\", \"/api/\"]",
        );
    }
    enabled.iter().chain(&minute).for_each(|field| field.ignored(why));
    section.rest(why);
}

/// `openai_compatibility`: what the gateway always does.
pub(super) fn read_compatibility(guide: Option<Field<'_>>) {
    let Some(mut section) = guide.and_then(|field| field.section()) else { return };
    section.always("enabled", true, "always served", "OpenAI's API is always served");
    section.always("support_legacy_endpoints", true, "always served", "they are always served");
    if let Some(field) = section.take("endpoint_prefix") {
        match field.text().as_deref().map(|text| text.trim_end_matches('/')) {
            Some("/v1" | "v1" | "") => field.exact("paths are served with /v1 and without"),
            Some(_) => field.refused("paths are served under /v1 and without a prefix only"),
            None => {}
        }
    }
    section.rest("the gateway has no such setting");
}

/// What is left of the sections that this file reads.
pub(super) fn rest(sections: &mut Sections<'_>) {
    if let Some(server) = &mut sections.server {
        server.ignore(&["num_workers"], "one shard a core; server.shards sets another number");
        server.ignore(&["database_url"], "keys stand in the file: [[keys]]");
        server.rest("the gateway has no such setting");
    }
    if let Some(advanced) = &mut sections.advanced {
        advanced.ignore(
            &["default_temperature", "default_top_p", "default_n", "default_max_tokens"],
            "the gateway adds no parameters, and LiteLLM did not add these",
        );
        advanced.rest("the gateway has no such setting");
    }
    if let Some(general) = &mut sections.general {
        general.ignore(
            &[
                "database_url",
                "store_model_in_db",
                "database_connection_pool_limit",
                "store_prompts_in_spend_logs",
            ],
            "keys and models stand in the file: [[keys]], [[models]]",
        );
        general.ignore(
            &["background_health_checks"],
            "probes always run in the background, and ask for a list only",
        );
        general.ignore(
            &["alerting", "alerting_threshold", "alert_types"],
            "alerts are Prometheus' work: config/prometheus/alerts.yml",
        );
        general.ignore(&["use_x_forwarded_for"], "name the proxies in server.trusted_proxies");
        general.ignore(&["max_parallel_requests"], "each of [[keys]] has `concurrent`");
        for key in [
            "allowed_ips",
            "custom_auth",
            "enable_jwt_auth",
            "litellm_jwtauth",
            "enable_oauth2_auth",
            "allowed_routes",
            "admin_only_routes",
            "public_routes",
        ] {
            if let Some(field) = general.take(key) {
                field.refused("the gateway cannot ask for it: without it more callers would be let in");
            }
        }
        for key in ["pass_through_endpoints", "completion_model"] {
            if let Some(field) = general.take(key) {
                field.refused("the gateway has no such routes");
            }
        }
        general.rest("the gateway has no such setting");
    }
}
