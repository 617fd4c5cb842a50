//! What the reference says that no type does: sections in their order, and keys whose words in the sources are for
//! readers of the sources.

/// A section: its path, its header, the type that it fills, and what it is.
pub(super) struct Section(
    pub(super) &'static str,
    pub(super) &'static str,
    pub(super) &'static str,
    pub(super) &'static str,
);

pub(super) const SECTIONS: [Section; 39] = [
    Section("server", "[server]", "Server", "Listeners and bounds of the process ([edge.md](edge.md))."),
    Section(
        "server.tls",
        "[server.tls]",
        "Tls",
        "TLS; without the section there is none ([edge.md](edge.md#tls)).",
    ),
    Section(
        "server.tls.certificates[]",
        "server.tls.certificates",
        "Certificate",
        "More certificates, each a table in the array.",
    ),
    Section("server.cors", "[server.cors]", "Cors", "Which pages of browsers may call."),
    Section("endpoints[]", "[[endpoints]]", "Endpoint", "One upstream server; at least one is needed."),
    Section(
        "models[]",
        "[[models]]",
        "Model",
        "A public name with a policy. Without any, whatever an endpoint has is served under its own name.",
    ),
    Section("models[].price", "models.price", "Price", "What its tokens cost in USD ([usage.md](usage.md))."),
    Section(
        "models[].timeouts",
        "models.timeouts",
        "Timeouts",
        "Its own deadlines, over those of `[timeouts]`.",
    ),
    Section("balance", "[balance]", "Balance", "How an endpoint is picked where a model says nothing else."),
    Section("health", "[health]", "Health", "Active probes; never a completion."),
    Section(
        "timeouts",
        "[timeouts]",
        "Timeouts",
        "Deadlines of an exchange ([reliability.md](reliability.md#deadlines)).",
    ),
    Section(
        "retry",
        "[retry]",
        "Retry",
        "Attempts before the client is told of a failure ([reliability.md](reliability.md#attempts)).",
    ),
    Section("fallbacks", "[fallbacks]", "Fallbacks", "Models that are asked in place of one that failed."),
    Section(
        "breaker",
        "[breaker]",
        "Breaker",
        "When an endpoint is left alone, and for how long ([reliability.md](reliability.md#breakers)).",
    ),
    Section(
        "queue",
        "[queue]",
        "Queue",
        "Requests that wait for a slot ([reliability.md](reliability.md#overload)).",
    ),
    Section(
        "guard",
        "[guard]",
        "Profile",
        "What is scanned; the section alone switches all ten scanners on ([guards.md](guards.md)). Tables under `[guard.profiles.NAME]` have the same keys and say what is different for models and keys that name them.",
    ),
    Section(
        "guard.input",
        "[guard.input]",
        "Input",
        "What clients send. `[guard.input.scanner.X]` has the keys of `[guard.scanner.X]`, for this direction alone.",
    ),
    Section(
        "guard.output",
        "[guard.output]",
        "Output",
        "What models answer. `[guard.output.scanner.X]` has the keys of `[guard.scanner.X]`, for this direction alone.",
    ),
    Section(
        "guard.scanner.BanSubstrings",
        "[guard.scanner.BanSubstrings]",
        "BanSubstrings",
        "Phrases of the operator.",
    ),
    Section(
        "guard.scanner.PromptInjection",
        "[guard.scanner.PromptInjection]",
        "PromptInjection",
        "Attempts to take over the model.",
    ),
    Section(
        "guard.scanner.PromptInjection.thresholds",
        "guard.scanner.PromptInjection.thresholds",
        "",
        "Own thresholds of scripts; left out: `threshold`.",
    ),
    Section(
        "guard.scanner.Toxicity",
        "[guard.scanner.Toxicity]",
        "Toxicity",
        "Insults, threats, hate, obscenity.",
    ),
    Section(
        "guard.scanner.Toxicity.thresholds",
        "guard.scanner.Toxicity.thresholds",
        "",
        "Own thresholds of scripts; left out: `threshold`.",
    ),
    Section("guard.scanner.Secrets", "[guard.scanner.Secrets]", "Secrets", "Credentials."),
    Section("guard.scanner.TokenLimit", "[guard.scanner.TokenLimit]", "TokenLimit", "Length in tokens."),
    Section(
        "guard.scanner.MaliciousURLs",
        "[guard.scanner.MaliciousURLs]",
        "MaliciousUrls",
        "Links that attack.",
    ),
    Section("guard.scanner.NoRefusal", "[guard.scanner.NoRefusal]", "NoRefusal", "Answers that refuse."),
    Section(
        "guard.scanner.NoRefusal.thresholds",
        "guard.scanner.NoRefusal.thresholds",
        "",
        "Own thresholds of scripts; left out: `threshold`.",
    ),
    Section("guard.scanner.NoCode", "[guard.scanner.NoCode]", "NoCode", "Program code."),
    Section(
        "limits",
        "[limits]",
        "Limits",
        "How many requests of one client, and how fast ([edge.md](edge.md#rate-limits)).",
    ),
    Section("limits.zones[]", "[[limits.zones]]", "Zone", "nginx's `limit_req_zone` with its `limit_req`s."),
    Section(
        "limits.zones[].routes[]",
        "limits.zones.routes",
        "LimitedRoute",
        "A route with numbers of its own, in place of a path.",
    ),
    Section(
        "keys[]",
        "[[keys]]",
        "Key",
        "A caller. Without any, everyone may call ([edge.md](edge.md#keys)).",
    ),
    Section("cache", "[cache]", "Cache", "Answers that are given again ([cache.md](cache.md))."),
    Section(
        "redis",
        "[redis]",
        "Redis",
        "The server that gateways share their state by ([redis.md](redis.md)).",
    ),
    Section(
        "fleet",
        "[fleet]",
        "Fleet",
        "Several gateways before the same endpoints ([scale.md](scale.md)).",
    ),
    Section("log", "[log]", "Log", "What is logged, and where to ([logs.md](logs.md))."),
    Section(
        "log.journal",
        "[log.journal]",
        "Journal",
        "How the file of `log.access` is written ([logs.md](logs.md#journal)).",
    ),
    Section(
        "tracing",
        "[tracing]",
        "Tracing",
        "Spans for a collector of OpenTelemetry ([tracing.md](tracing.md)).",
    ),
];

/// Sections behind those above.
pub(super) const LAST: [Section; 2] = [
    Section(
        "usage",
        "[usage]",
        "UsageRules",
        "What tokens cost, beside `price` of a model ([usage.md](usage.md)).",
    ),
    Section("metrics", "[metrics]", "Metrics", "What `/metrics` shows ([monitoring.md](monitoring.md))."),
];

/// A key's meaning where its field's comment is not for operators, or where no field has its name.
pub(super) const MEANINGS: [(&str, &str); 47] = [
    ("server.headers", "Headers added to every answer, by name; at most 64."),
    (
        "server.tls.cert",
        "The chain in PEM, the server's own certificate first; relative to the working directory.",
    ),
    ("server.tls.key", "The key of `cert`, PEM."),
    (
        "server.tls.certificates",
        "More certificates with their keys, at most 256; a client gets the one whose names fit.",
    ),
    ("server.tls.redirect_status", "Status of that redirect: 308 (keeps the method) or 301."),
    ("server.tls.min_version", "Oldest version of TLS."),
    (
        "endpoints[].url",
        "`http://host[:port][/path]`, or `https://`; `/v1` at the end is dropped, since paths carry it.",
    ),
    (
        "endpoints[].name",
        "Unique name, used in metrics, `/status` and headers: 1 to 64 letters, digits and `-_.:`.",
    ),
    ("endpoints[].api_key", "A secret, sent upstream as `Authorization: Bearer`; empty: no such header."),
    (
        "models[].upstream_model",
        "What an endpoint is asked for; a `*` at its end takes the rest that `name` matched. Left out: `name` without `ollama/`.",
    ),
    (
        "models[].endpoints",
        "Names of the endpoints that serve it; left out: every endpoint that has the model.",
    ),
    ("models[].weights", "Shares under `weighted` by the endpoint's name, over the endpoint's own `weight`."),
    ("models[].guard", "The guard's profile, by name; `\"off\"`: nothing is scanned."),
    ("models[].price", "A table, see below. Left out: as `usage.price_file` says, else nothing."),
    (
        "models[].fallbacks",
        "Public names that are asked in turn when this one failed; empty: those of `[fallbacks]`.",
    ),
    ("models[].timeouts", "A table, see below."),
    ("guard.on_error", "What a scanner that fails means, for all of them."),
    (
        "guard.input.scanners",
        "Scanners of requests, by LLM Guard's names; they run in the order of their cost.",
    ),
    (
        "guard.output.scanners",
        "Scanners of answers, by LLM Guard's names; they run in the order of their cost.",
    ),
    ("guard.output.stream", "What a stream may do before a scanner has decided."),
    (
        "guard.scanner.BanSubstrings.redact",
        "`true` is `action = \"redact\"`, `false` is `\"block\"`, as in LLM Guard; `action` goes before.",
    ),
    ("guard.scanner.BanSubstrings.substrings", "The phrases; left out: the stock list of the direction."),
    (
        "guard.scanner.PromptInjection.threshold",
        "Scores at and above it are findings; a new one is for every script that `thresholds` does not name.",
    ),
    ("guard.scanner.PromptInjection.thresholds", "A table, see below."),
    (
        "guard.scanner.Toxicity.threshold",
        "Scores at and above it are findings; a new one is for every script that `thresholds` does not name.",
    ),
    ("guard.scanner.Toxicity.thresholds", "A table, see below."),
    (
        "guard.scanner.NoRefusal.threshold",
        "Scores at and above it are findings; a new one is for every script that `thresholds` does not name.",
    ),
    ("guard.scanner.NoRefusal.thresholds", "A table, see below."),
    (
        "limits.zones[].key",
        "What tells clients apart: the address (behind trusted proxies the one they name), the name of the caller's key, a header that a trusted proxy sets, or nothing.",
    ),
    ("limits.zones[].rate", "Requests a second or a minute, from `1r/m` to `1000000r/s`."),
    ("limits.zones[].burst", "Requests beyond the rate that are let through."),
    ("limits.zones[].nodelay", "Whether the burst is let through at once; `false`: it waits its turn."),
    ("limits.zones[].delay", "With `nodelay = false`: so many of the burst are let through at once."),
    (
        "limits.zones[].concurrent_per_client",
        "Overrides `limits.concurrent_per_client` for the zone's routes.",
    ),
    (
        "limits.zones[].routes",
        "Beginnings of paths, 1 to 64; or tables with numbers of their own, see below.",
    ),
    ("limits.zones[].routes[].nodelay", "As for the zone."),
    ("limits.zones[].routes[].delay", "As for the zone."),
    ("limits.zones[].routes[].concurrent_per_client", "As for the zone."),
    ("keys[].secret", "What the caller shows, a secret of at least 8 characters; this or `sha256`."),
    ("keys[].sha256", "The SHA-256 of the secret in hexadecimal: `printf %s \"$KEY\" \\| sha256sum`."),
    ("keys[].guard", "The guard's profile for this caller, in place of the model's."),
    ("cache.url", "A short form of `redis.url`."),
    ("cache.mode", "Whether requests that say nothing of a cache use it."),
    (
        "redis.url",
        "Where the server is, or who knows it: `redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `redis+cluster://`.",
    ),
    ("redis.password", "That user's password, a secret; left out: nothing is asked for."),
    ("tracing.headers", "Fields of each request to the collector, by name; the values are secrets."),
    (
        "usage.price_file",
        "A price list as LiteLLM has it (`model_prices_and_context_window.json`), read at start and at a reload.",
    ),
];

/// A key's value where what one file shows of it is not all.
pub(super) const VALUES: [(&str, &str); 13] = [
    ("server.admin_token", "secret"),
    ("endpoints[].api_key", "secret"),
    ("keys[].secret", "secret"),
    ("redis.password", "secret"),
    ("server.shards", "`\"auto\"`, or 1 to 256"),
    ("server.tls.redirect_status", "301 or 308"),
    ("limits.reject_status", "429 or 503"),
    ("breaker.open_max", "time, `open` to 1d"),
    ("limits.zones[].key", "`client_ip`, `api_key`, `header:NAME`, `everyone`"),
    ("limits.zones[].routes", "array of strings or tables"),
    ("log.access", "`off`, `stderr`, or a path"),
    ("guard.scanner.TokenLimit.encoding_name", "`cl100k_base`, `o200k_base`, `bytes/N`"),
    ("queue.heartbeat", "time, `0s` for none, or 100ms to 1d"),
];

/// A key's default where the effective configuration does not show it.
pub(super) const DEFAULTS: [(&str, &str); 31] = [
    ("redis.url", "needed"),
    ("models[].price.input_per_1k", "`0.0`"),
    ("models[].price.output_per_1k", "`0.0`"),
    ("limits.zones[].routes[].concurrent_per_client", "as the zone"),
    ("limits.zones[].delay", "`0`"),
    ("limits.zones[].routes[].delay", "as the zone"),
    ("server.shards", "`\"auto\"`: one a core"),
    ("server.pin", "with three cores or more"),
    ("server.tls.cert", "needed"),
    ("server.tls.key", "needed"),
    ("server.tls.certificates", "none"),
    ("server.tls.redirect_port", "the first TLS port"),
    ("endpoints[].ca", "the system's"),
    ("models[].endpoints", "all"),
    ("models[].weights", "the endpoints' own"),
    ("models[].price", "none"),
    ("models[].price.cached_input_per_1k", "as `input_per_1k`"),
    ("models[].strategy", "as `[balance]`"),
    ("models[].upstream_model", "`name`"),
    ("models[].timeouts", "as `[timeouts]`"),
    ("health.path", "by kind"),
    ("health.expect_field", "by kind"),
    ("keys[].secret", "needed"),
    ("keys[].sha256", "none"),
    ("keys[].guard", "as the model says"),
    ("keys[].cache_group", "none"),
    ("keys[].expires", "never"),
    ("limits.zones[].concurrent_per_client", "as `[limits]`"),
    ("limits.zones[].routes", "`[\"/\"]`"),
    ("cache.url", "none"),
    ("guard.on_error", "`\"block\"`"),
];
