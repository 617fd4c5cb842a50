//! One text for each rule, what its message says and what its hint.

use super::{ONE, parse, problems, with_endpoint};
use crate::config::Bytes;

/// Each text has one mistake: its path, and parts of its message and hint.
pub(super) fn assert_rules(cases: &[(&str, &str, &str, &str)]) {
    for (text, path, message, hint) in cases {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert_eq!(found[0].path, *path, "{text}");
        assert!(found[0].message.contains(message), "{text}: {}", found[0].message);
        assert!(found[0].hint.contains(hint), "{text}: {}", found[0].hint);
    }
}

pub(super) fn assert_section(section: &str, cases: &[(&str, &str, &str, &str)]) {
    for (line, key, message, hint) in cases {
        let text = with_endpoint(&format!("[{section}]\n{line}"));
        assert_rules(&[(&text, &format!("{section}.{key}"), message, hint)]);
        assert_eq!(problems(&text)[0].line, 2, "{text}");
    }
}

#[test]
fn the_server_section_is_checked() {
    assert_section(
        "server",
        &[
            ("listen = \"0.0.0.0:8000\"", "listen", "expected an array", "[\"0.0.0.0:8000\"]"),
            ("listen = []", "listen", "0 listeners", "1 to 16"),
            ("listen = 5", "listen", "expected an array, found an integer", "brackets"),
            ("listen = [\":8000\"]", "listen[0]", "no address", "0.0.0.0:8000"),
            ("listen = [5]", "listen[0]", "expected a string", "quotes"),
            ("listen = [\"1.1.1.1:1\", \"1.1.1.1:1\"]", "listen[1]", "twice", "remove"),
            ("admin_listen = \"x\"", "admin_listen", "no address", "port"),
            ("admin_listen = \"0.0.0.0:8000\"", "admin_listen", "takes the address", "its own"),
            ("admin_listen = \"127.0.0.1:8000\"", "admin_listen", "takes the address", "its own"),
            ("shards = \"many\"", "shards", "no number of shards", "auto"),
            ("shards = 257", "shards", "257 is out of range", "1 to 256"),
            ("shards = 1.5", "shards", "expected a whole number, found a float", "1 to 256"),
            ("pin = \"yes\"", "pin", "expected true or false, found a string", "without quotes"),
            ("driver = \"uring\"", "driver", "\"uring\" is not known", "did you mean `io_uring`?"),
            ("driver = \"kqueue\"", "driver", "not known", "known: auto, io_uring, epoll"),
            ("max_connections = 0", "max_connections", "out of range", "1 to 1000000"),
            ("max_connections = 99999999999999999999999", "max_connections", "out of range", ""),
            ("max_concurrent_requests = -1", "max_concurrent_requests", "-1 is out of range", "1 to"),
            ("body_bytes_max = \"20m\"", "body_bytes_max", "\"20m\" is no size", "20MiB"),
            ("body_bytes_max = 0", "body_bytes_max", "out of range", "1KiB to 4GiB"),
            ("body_bytes_max = -5", "body_bytes_max", "-5 is no size", "20MiB"),
            ("body_bytes_max = true", "body_bytes_max", "expected a size, found a boolean", "20MiB"),
            ("body_bytes_max = \"2GiB\"", "body_bytes_max", "more than buffered_bytes_max", "raise"),
            ("buffered_bytes_max = \"63MiB\"", "buffered_bytes_max", "answer_bytes_max of 64MiB", "raise"),
            ("head_bytes_max = \"2MiB\"", "head_bytes_max", "out of range", "1KiB to 1MiB"),
            ("head_timeout = 30", "head_timeout", "expected a time, found an integer", "\"30s\""),
            ("head_timeout = \"30\"", "head_timeout", "\"30\" is no time", "\"30s\""),
            ("head_timeout = \"0s\"", "head_timeout", "out of range", "from 1ms"),
            ("keep_alive = \"25h\"", "keep_alive", "out of range", "86400s"),
            ("trusted_proxies = [\"10.0.0.1/8\"]", "trusted_proxies[0]", "bits set", "10.0.0.0/8"),
            ("trusted_proxies = [5]", "trusted_proxies[0]", "expected a string", ""),
            ("trusted_proxies = \"10.0.0.0/8\"", "trusted_proxies", "expected an array", "brackets"),
            ("gzip = 1", "gzip", "expected true or false", ""),
            ("gzip_bytes_min = 0", "gzip_bytes_min", "out of range", "1B to 1GiB"),
            ("messages_max = 0", "messages_max", "out of range", "1 to 100000"),
            ("messages_max = 100001", "messages_max", "out of range", "1 to 100000"),
            ("admin_token = 5", "admin_token", "expected a string", ""),
            ("admin_token = \"env:CORELANE_NO_SUCH_VARIABLE\"", "admin_token", "is not set", "env:NAME"),
            ("admin_token = \"a b\"", "admin_token", "blank", "file:PATH"),
            ("\"a b\" = 1", "\"a b\"", "unknown key", "known: listen, tls, admin_listen"),
        ],
    );
}

#[test]
fn headers_that_would_break_an_answer_are_refused() {
    assert_section(
        "server.headers",
        &[
            ("Content-Length = \"5\"", "Content-Length", "the gateway's own", "remove"),
            ("transfer-encoding = \"chunked\"", "transfer-encoding", "the gateway's own", "remove"),
            ("connection = \"close\"", "connection", "the gateway's own", "remove"),
            ("x-corelane-a = \"b\"", "x-corelane-a", "the gateway's own", "remove"),
            ("\"a b\" = \"c\"", "\"a b\"", "no header name", "letters"),
            ("\"\" = \"c\"", "\"\"", "no header name", "letters"),
            ("\"a\\r\\nb\" = \"c\"", "\"a\\r\\nb\"", "no header name", "letters"),
            ("a = \"b\\r\\nc: d\"", "a", "no header value", "ASCII"),
            ("a = \"ü\"", "a", "no header value", "ASCII"),
            ("a = \" b\"", "a", "no header value", "blanks"),
            ("a = \"\"", "a", "no header value", "ASCII"),
            ("a = 5", "a", "expected a string", "quotes"),
        ],
    );
    let twice = with_endpoint("[server.headers]\nA = \"1\"\na = \"2\"");
    assert_rules(&[(&twice, "server.headers.a", "listed twice", "upper and lower")]);
    let long = with_endpoint(&format!("[server.headers]\na = \"{}\"", "x".repeat(4097)));
    assert_rules(&[(&long, "server.headers.a", "4097 bytes", "at most 4096")]);
    let many: String = (0..65).map(|index| format!("h{index} = \"x\"\n")).collect();
    let many = with_endpoint(&format!("[server.headers]\n{many}"));
    assert_rules(&[(&many, "server.headers", "65 headers", "at most 64")]);
    let many = with_endpoint(&format!("[server]\ntrusted_proxies = [{}]", "'::1',".repeat(257)));
    assert_rules(&[(&many, "server.trusted_proxies", "257 ranges", "at most 256")]);
    assert_rules(&[(&with_endpoint("server.headers = 1"), "server.headers", "expected a table", "")]);
}

#[test]
fn endpoints_are_checked() {
    assert_rules(&[
        ("", "endpoints", "at least one endpoint is needed", "[[endpoints]]"),
        ("endpoints = []", "endpoints", "at least one endpoint is needed", "[[endpoints]]"),
        ("[endpoints]\nname = \"a\"", "endpoints", "found a table", "write [[endpoints]]"),
        ("endpoints = 5", "endpoints", "expected an array", ""),
        ("endpoints = [5]", "endpoints[0]", "expected a table", ""),
        ("[[endpoints]]\nname = \"a\"", "endpoints[0].url", "is missing", "e.g. url"),
        ("[[endpoints]]\nurl = \"http://h\"", "endpoints[0].name", "is missing", "e.g. name"),
        (
            "[[endpoints]]\nname = \"\"\nurl = \"http://h\"",
            "endpoints[0].name",
            "no endpoint name",
            "1 to 64",
        ),
        (
            "[[endpoints]]\nname = \"..\"\nurl = \"http://h\"",
            "endpoints[0].name",
            "no endpoint name",
            "letter",
        ),
        (
            "[[endpoints]]\nname = \"a/b\"\nurl = \"http://h\"",
            "endpoints[0].name",
            "no endpoint name",
            "letter",
        ),
        ("[[endpoints]]\nname = \"a\"\nurl = 5", "endpoints[0].url", "expected a string", ""),
        ("[[endpoints]]\nname = \"a\"\nurl = \"h:1\"", "endpoints[0].url", "no scheme", "http://host:port"),
        (
            "[[endpoints]]\nname = \"a\"\nurl = \"ftp://h\"",
            "endpoints[0].url",
            "neither http nor https",
            "https://host",
        ),
    ]);
    for (line, key, message, hint) in [
        ("kind = \"vllm\"", "kind", "not known", "known: ollama, openai"),
        ("api_key = 5", "api_key", "expected a string", ""),
        ("api_key = \"env:CORELANE_NO_SUCH_VARIABLE\"", "api_key", "is not set", "env:NAME"),
        ("api_key = \"file:/no/such/file\"", "api_key", "cannot be read", "file:PATH"),
        ("api_key = \"a b\"", "api_key", "blank", "env:NAME"),
        ("weight = 0", "weight", "0 is out of range", "1 to 1000"),
        ("weight = 1001", "weight", "out of range", "1 to 1000"),
        ("slots = -1", "slots", "out of range", "0 to"),
        ("ca = \"ssl/ca.pem\"", "ca", "`ca` is for https", "https://"),
        ("ca = 5", "ca", "expected a string", ""),
        ("ca = \"ssl/\"", "ca", "is no file", "cert.pem"),
        ("base_url = \"x\"", "base_url", "unknown key", "known: name, url, ca, kind, api_key, weight, slots"),
    ] {
        assert_rules(&[(&format!("{ONE}{line}"), &format!("endpoints[0].{key}"), message, hint)]);
    }
    assert!(parse(&format!("{ONE}api_key = \"\"")).unwrap().endpoints[0].api_key.is_none());
    assert_rules(&[(&format!("{ONE}{ONE}"), "endpoints[1].name", "in line 1", "its own")]);
    let many: String =
        (0..1001).map(|index| format!("[[endpoints]]\nname='e{index}'\nurl='http://h'\n")).collect();
    assert_rules(&[(&many, "endpoints", "1001 endpoints", "at most 1000")]);
}

#[test]
fn models_are_checked() {
    for (lines, key, message, hint) in [
        ("strategy = \"weighted\"", ".name", "is missing", "e.g. name"),
        ("name = \"\"", ".name", "no model name", "1 to 256"),
        ("name = \"a\\nb\"", ".name", "no model name", "ASCII"),
        ("name = \":latest\"", ".name", "nothing is left", ""),
        ("name = \"a*b\"", ".name", "`*` before its end", "only one"),
        ("name = \"a**\"", ".name", "`*` before its end", "only one"),
        ("name = \"ollama/\"", "", "`upstream_model` is missing", "write the name"),
        ("name = \"a\"\nupstream_model = \"b*\"", ".upstream_model", "there is none", "end `name`"),
        ("name = \"a*\"\nupstream_model = \"*b\"", ".upstream_model", "before its end", "only one"),
        ("name = \"a\"\nupstream_model = \"\"", ".upstream_model", "no model name", ""),
        ("name = \"a\"\nupstream_model = 5", ".upstream_model", "expected a string", ""),
        ("name = \"a\"\nendpoints = \"a\"", ".endpoints", "expected an array", "brackets"),
        ("name = \"a\"\nendpoints = [5]", ".endpoints[0]", "expected a string", ""),
        ("name = \"a\"\nendpoints = [\"b\"]", ".endpoints[0]", "there is no endpoint \"b\"", "known: a"),
        ("name = \"a\"\nendpoints = [\"a\", \"a\"]", ".endpoints[1]", "twice", "remove"),
        ("name = \"a\"\nstrategy = \"least-busy\"", ".strategy", "not known", "did you mean `least_busy`?"),
        ("name = \"a\"\nweights = 5", ".weights", "expected a table", ""),
        ("name = \"a\"\nweights = { a = 0 }", ".weights.a", "out of range", "1 to 1000"),
        ("name = \"a\"\nweights = { zzz = 1 }", ".weights.zzz", "has no endpoint \"zzz\"", "known: a"),
        ("name = \"a\"\nfallbacks = 5", ".fallbacks", "expected an array", ""),
        ("name = \"a\"\nprice = 5", ".price", "expected a table", ""),
        ("name = \"a\"\nprice = { input = 5 }", ".price.input", "unknown key", "input_per_1k"),
        ("name = \"a\"\nprice.input_per_1k = -1", ".price.input_per_1k", "-1 is out of range", "0 or more"),
        ("name = \"a\"\nprice.input_per_1k = nan", ".price.input_per_1k", "out of range", "finite"),
        ("name = \"a\"\nprice.input_per_1k = inf", ".price.input_per_1k", "out of range", "finite"),
        ("name = \"a\"\nprice.input_per_1k = \"1\"", ".price.input_per_1k", "expected a number", "0.002"),
    ] {
        assert_rules(&[(&format!("{ONE}[[models]]\n{lines}"), &format!("models[0]{key}"), message, hint)]);
    }
    let many: String = (0..10_001).map(|index| format!("[[models]]\nname = 'm{index}'\n")).collect();
    assert_rules(&[(&format!("{ONE}{many}"), "models", "10001 models", "at most 10000")]);
    let twice = format!("{ONE}[[models]]\nname = \"A:latest\"\n[[models]]\nname = \"a\"");
    assert_rules(&[(&twice, "models[1].name", "in line 4", ":latest")]);
    let price =
        parse(&format!("{ONE}[[models]]\nname = \"a\"\nprice.input_per_1k = -0.0")).unwrap().models[0].price;
    assert!(price.unwrap().input_per_1k.is_sign_positive());
    for (name, upstream) in
        [("ollama/a", "a"), ("ollama_chat/a", "a"), ("openai/a", "openai/a"), ("ollama/*", "*")]
    {
        let config = parse(&format!("{ONE}[[models]]\nname = \"{name}\"")).unwrap();
        assert_eq!(config.models[0].upstream_model, upstream);
    }
}

#[test]
fn the_small_sections_are_checked() {
    assert_section("balance", &[("strategy = \"random\"", "strategy", "not known", "known: round_robin")]);
    assert_section(
        "health",
        &[
            ("enabled = 1", "enabled", "expected true or false, found an integer", ""),
            ("path = \"api/tags\"", "path", "is no path", "begins with `/`"),
            ("path = \"/a b\"", "path", "is no path", "ASCII"),
            ("path = \"/a\\r\\nb\"", "path", "is no path", "ASCII"),
            ("expect_field = \"\"", "expect_field", "no key", "models"),
            ("unhealthy_threshold = 0", "unhealthy_threshold", "out of range", "1 to 1000"),
            ("healthy_threshold = 0", "healthy_threshold", "out of range", "1 to 1000"),
            ("interval = \"0s\"", "interval", "out of range", "1ms"),
            ("intervall = \"1s\"", "intervall", "unknown key", "did you mean `interval`?"),
        ],
    );
    assert_section("timeouts", &[("connect = \"0ms\"", "connect", "out of range", "1ms")]);
    assert_section(
        "retry",
        &[
            ("attempts = 0", "attempts", "out of range", "1 to 100"),
            ("backoff = \"-1s\"", "backoff", "is no time", "100ms"),
        ],
    );
    assert_section(
        "log",
        &[
            ("level = \"warning\"", "level", "not known", "did you mean `warn`?"),
            ("access = true", "access", "expected a string, found a boolean", ""),
            ("access = \"stdout\"", "access", "neither off, stderr nor a path", "known: off, stderr"),
            ("access = \"/var/log/\"", "access", "is no file", "access.log"),
            ("access = \"\"", "access", "neither off", "./name"),
            ("bodies = 1", "bodies", "expected true or false", ""),
            ("format = \"xml\"", "format", "not known", "known: auto, json, text"),
            ("sample_percent = 101", "sample_percent", "out of range", "0 to 100"),
            ("body_bytes_max = \"2MiB\"", "body_bytes_max", "out of range", "1MiB"),
        ],
    );
    assert_section(
        "log.journal",
        &[
            ("writer = \"mmap\"", "writer", "not known", "direct"),
            ("segment_bytes_max = \"1KiB\"", "segment_bytes_max", "out of range", "1MiB"),
            ("segments_max = 0", "segments_max", "out of range", "1 to"),
            ("segment_age_max = \"400d\"", "segment_age_max", "out of range", "0s"),
        ],
    );
    assert_section(
        "tracing",
        &[
            ("otlp_endpoint = \"collector:4318\"", "otlp_endpoint", "no scheme", "http://"),
            ("headers = { host = 'x' }", "headers.host", "the gateway's own", "authorization"),
            (
                "headers = { authorization = 'env:CORELANE_NO_SUCH' }",
                "headers.authorization",
                "CORELANE_NO_SUCH",
                "",
            ),
            ("sample_percent = -1", "sample_percent", "out of range", "0 to 100"),
            ("service_name = ''", "service_name", "no name of a service", "corelane"),
        ],
    );
    assert_section(
        "usage",
        &[
            ("price_file = \"a/\"", "price_file", "is no file", ""),
            ("price_file = \"no-such.json\"", "price_file", "cannot be read", "LiteLLM's"),
            ("price_file = \"Cargo.toml\"", "price_file", "no JSON object", "LiteLLM's"),
        ],
    );
    assert_section("metrics", &[("litellm = true", "litellm", "unknown key", "litellm_names")]);
}

#[test]
fn a_cache_that_cannot_be_is_refused() {
    assert_section(
        "cache",
        &[
            ("store = \"disk\"", "store", "disk", "memory"),
            ("size = 5", "size", "unknown key", ""),
            ("ttl = \"0s\"", "ttl", "out of range", ""),
            ("ttl = \"2h\"\nttl_max = \"1h\"", "ttl", "longer than `ttl_max`", "raise"),
            ("memory_bytes_max = \"1KiB\"", "memory_bytes_max", "out of range", ""),
            ("answer_bytes_max = \"16MiB\"", "answer_bytes_max", "does not fit", "at most 8MiB"),
            ("mode = \"on\"", "mode", "on", "default_on"),
            ("store = \"redis\"", "store", "no Redis is named", "[redis]"),
            ("url = \"h:1\"", "url", "no scheme", ""),
            ("tasks = []", "tasks", "no task", "store = \"off\""),
            ("tasks = [\"chat\", \"chat\"]", "tasks[1]", "listed twice", "once"),
            ("tasks = [\"responses\"]", "tasks[0]", "responses", "embeddings"),
        ],
    );
    assert_section("fleet", &[("enabled = true", "enabled", "none is named", "[redis]")]);
    assert_rules(&[(&with_endpoint("[servers]"), "servers", "unknown key", "did you mean `server`?")]);
    let key = "[[keys]]\nname = \"a\"\nsecret = \"12345678\"\ncache_group = \"a b\"";
    assert_rules(&[(&with_endpoint(key), "keys[0].cache_group", "no name of a group", "letters")]);
    let small = parse(&with_endpoint("[cache]\nmemory_bytes_max = \"2MiB\"")).unwrap().cache;
    assert_eq!(small.answer_bytes_max, Bytes(256 << 10), "an eighth, where nothing is said");
}
