//! Fallbacks, deadlines of a model, retries, breakers and the queue: what nothing said means, each rule by a text
//! that breaks it, each bound, and each warning with its text.

use std::path::PathBuf;
use std::time::Duration;

use super::super::super::reliability::{Breaker, Fallbacks, Queue};
use super::super::super::{Retry, Timeouts, builtin};
use super::edge::{good, there_and_back};
use super::rules::{assert_rules, assert_section};
use super::{ONE, example, load, load_with_warnings, parse, parse_with_warnings, problems, with_endpoint};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// `o1`, `o2` speak Ollama's API, `v1` and `v2` only OpenAI's.
const FOUR: &str = "endpoints = [{ name = 'o1', url = 'http://h:1' }, { name = 'o2', url = 'http://h:2' }, \
                    { name = 'v1', url = 'http://h:3', kind = 'openai' }, \
                    { name = 'v2', url = 'http://h:4', kind = 'openai' }]\n";

#[test]
fn nothing_said_is_the_contracts_reliability() {
    let config = parse(ONE).unwrap();
    let breaker = Breaker {
        enabled: true,
        failures: 3,
        share_percent: 50,
        requests_min: 20,
        window: 10 * SECOND,
        open: SECOND,
        open_max: 30 * SECOND,
        retry_after_max: 60 * SECOND,
        missing: 30 * SECOND,
    };
    let queue = Queue { max: 1000, timeout: 30 * SECOND, heartbeat: None };
    let fallbacks = Fallbacks { default: Vec::new(), models_max: 5 };
    let retry =
        Retry { attempts: 3, on_timeout: true, backoff: 100 * MS, budget_percent: 20, budget_min: 10 };
    assert_eq!((&config.breaker, &config.queue), (&breaker, &queue));
    assert_eq!((&config.fallbacks, &config.retry), (&fallbacks, &retry));
    assert_eq!((&config.server.handover_socket, config.server.watch), (&None, false));
    let model = &config.models[0];
    assert_eq!((model.fallbacks.len(), model.context_window_fallbacks.len()), (0, 0));
    assert_eq!(model.timeouts, Timeouts::default());
    assert_eq!(good("[fallbacks]\n[retry]\n[breaker]\n[queue]"), config);
    assert_eq!(builtin().models[0].timeouts, Timeouts::default());
}

#[test]
fn a_models_deadlines_stand_over_the_global_ones() {
    let text = format!(
        "{ONE}[timeouts]\nidle = '9s'\ntotal = '10s'\n[[models]]\nname = 'a'\n\
         timeouts = {{ first_byte = '1500ms', total = '24h' }}\n[[models]]\nname = 'b'\n\
         [[models]]\nname = 'c'\n[models.timeouts]\nconnect = '1ms'\nidle = '2s'\n"
    );
    let config = there_and_back(&text.replace(ONE, ""));
    let timeouts = |connect, first_byte, idle, total| Timeouts { connect, first_byte, idle, total };
    let day = 86_400 * SECOND;
    assert_eq!(config.timeouts, timeouts(2 * SECOND, 300 * SECOND, 9 * SECOND, 10 * SECOND));
    assert_eq!(config.models[0].timeouts, timeouts(2 * SECOND, 1500 * MS, 9 * SECOND, day));
    assert_eq!(config.models[1].timeouts, config.timeouts);
    assert_eq!(config.models[2].timeouts, timeouts(MS, 300 * SECOND, 2 * SECOND, 10 * SECOND));

    let alone = there_and_back("[timeouts]\ntotal = '7s'");
    assert_eq!(alone.models[0].timeouts.total, 7 * SECOND, "the implicit model has the global ones");
}

#[test]
fn every_bound_is_allowed_and_comes_back() {
    let least = there_and_back(
        "[fallbacks]\nmodels_max = 0\n[retry]\nbudget_percent = 0\nbudget_min = 0\n\
         [breaker]\nenabled = false\nfailures = 1\nshare_percent = 1\nrequests_min = 1\nwindow = '1s'\n\
         open = '100ms'\nopen_max = '100ms'\nretry_after_max = '0s'\nmissing = '0s'\n\
         [queue]\nmax = 0\ntimeout = '1ms'\nheartbeat = '100ms'\n[server]\nhandover_socket = ''\n",
    );
    assert_eq!((least.fallbacks.models_max, least.retry.budget_percent, least.retry.budget_min), (0, 0, 0));
    let zero = Duration::ZERO;
    let breaker = Breaker {
        enabled: false,
        failures: 1,
        share_percent: 1,
        requests_min: 1,
        window: SECOND,
        open: 100 * MS,
        open_max: 100 * MS,
        retry_after_max: zero,
        missing: zero,
    };
    assert_eq!(least.breaker, breaker);
    assert_eq!(least.queue, Queue { max: 0, timeout: MS, heartbeat: Some(100 * MS) });
    assert_eq!(least.server.handover_socket, None);

    let socket = format!("/{}", "x".repeat(106));
    let most = there_and_back(&format!(
        "[fallbacks]\nmodels_max = 20\n[retry]\nbudget_percent = 1000\nbudget_min = 100000\n\
         [breaker]\nfailures = 1000\nshare_percent = 100\nrequests_min = 100000\nwindow = '1h'\n\
         open = '10m'\nopen_max = '24h'\nretry_after_max = '24h'\nmissing = '24h'\n\
         [queue]\nmax = 1000000\ntimeout = '24h'\nheartbeat = '0s'\n\
         [server]\nhandover_socket = '{socket}'\nwatch = true\n"
    ));
    assert_eq!(
        (most.fallbacks.models_max, most.retry.budget_percent, most.retry.budget_min),
        (20, 1000, 100_000)
    );
    let (hour, day) = (3600 * SECOND, 86_400 * SECOND);
    let breaker = Breaker {
        enabled: true,
        failures: 1000,
        share_percent: 100,
        requests_min: 100_000,
        window: hour,
        open: 600 * SECOND,
        open_max: day,
        retry_after_max: day,
        missing: day,
    };
    assert_eq!(most.breaker, breaker);
    assert_eq!(most.queue, Queue { max: 1_000_000, timeout: day, heartbeat: None });
    assert_eq!((most.server.handover_socket, most.server.watch), (Some(PathBuf::from(socket)), true));

    let long = there_and_back("[breaker]\nopen = '1m'").breaker;
    assert_eq!(
        (long.open, long.open_max),
        (60 * SECOND, 60 * SECOND),
        "an `open` beyond `open_max` raises it"
    );
}

#[test]
fn the_sections_are_checked() {
    assert_section(
        "fallbacks",
        &[
            ("models_max = 21", "models_max", "21 is out of range", "from 0 to 20"),
            ("models_max = -1", "models_max", "-1 is out of range", "from 0 to 20"),
            ("default = 'a'", "default", "expected an array, found a string", "brackets"),
            ("default = [5]", "default[0]", "expected a string", "quotes"),
            ("default = ['']", "default[0]", "no model name", "1 to 256"),
            ("default = ['a', 'b*']", "default[1]", "\"b*\" is not one model", "without `*`"),
            ("default = ['a', 'ollama/A:latest']", "default[1]", "listed twice", "remove"),
            ("defaults = []", "defaults", "unknown key", "did you mean `default`?"),
        ],
    );
    assert_section(
        "retry",
        &[
            ("budget_percent = 1001", "budget_percent", "1001 is out of range", "from 0 to 1000"),
            ("budget_percent = -1", "budget_percent", "-1 is out of range", "from 0 to 1000"),
            ("budget_min = 100001", "budget_min", "out of range", "from 0 to 100000"),
            ("budget_min = -1", "budget_min", "out of range", "from 0 to 100000"),
            ("budget = 20", "budget", "unknown key", "did you mean `budget_"),
        ],
    );
    assert_section(
        "breaker",
        &[
            ("enabled = 'yes'", "enabled", "expected true or false", "without quotes"),
            ("failures = 0", "failures", "0 is out of range", "from 1 to 1000"),
            ("failures = 1001", "failures", "1001 is out of range", "from 1 to 1000"),
            ("share_percent = 0", "share_percent", "out of range", "from 1 to 100"),
            ("share_percent = 101", "share_percent", "out of range", "from 1 to 100"),
            ("requests_min = 0", "requests_min", "out of range", "from 1 to 100000"),
            ("requests_min = 100001", "requests_min", "out of range", "from 1 to 100000"),
            ("window = '999ms'", "window", "out of range", "from 1s to 3600s"),
            ("window = '3601s'", "window", "out of range", "from 1s to 3600s"),
            ("open = '99ms'", "open", "out of range", "from 100ms to 600s"),
            ("open = '601s'", "open", "out of range", "from 100ms to 600s"),
            ("open_max = '999ms'", "open_max", "out of range", "from 1s to 86400s"),
            ("open_max = '25h'", "open_max", "out of range", "from 1s to 86400s"),
            ("open_max = 30", "open_max", "expected a time, found an integer", "\"30s\""),
            ("retry_after_max = '25h'", "retry_after_max", "out of range", "from 0s"),
            ("missing = '25h'", "missing", "out of range", "from 0s"),
            ("reset = '1s'", "reset", "unknown key", "known: open, enabled, failures"),
        ],
    );
    let lower = with_endpoint("[breaker]\nopen = '5s'\nopen_max = '4s'");
    assert_rules(&[(&lower, "breaker.open_max", "\"4s\" is out of range", "from 5s to 86400s")]);
    assert_section(
        "queue",
        &[
            ("max = -1", "max", "out of range", "from 0 to 1000000"),
            ("max = 1000001", "max", "out of range", "from 0 to 1000000"),
            ("timeout = '0s'", "timeout", "out of range", "from 1ms to 86400s"),
            ("heartbeat = '99ms'", "heartbeat", "\"99ms\" is out of range", "0s for none, or from 100ms"),
            ("heartbeat = '25h'", "heartbeat", "out of range", "86400s"),
            ("heartbeat = false", "heartbeat", "expected a time, found a boolean", "\"30s\""),
            ("size = 5", "size", "unknown key", "known: max, timeout, heartbeat"),
        ],
    );
    let long = format!("handover_socket = '/{}'", "x".repeat(107));
    assert_section(
        "server",
        &[
            (&long, "handover_socket", "a socket's path of 108 bytes", "at most 107"),
            ("handover_socket = '/run/'", "handover_socket", "is no file", ""),
            ("handover_socket = 5", "handover_socket", "expected a string", ""),
            ("watch = 1", "watch", "expected true or false", ""),
        ],
    );
}

#[test]
fn a_models_own_keys_are_checked() {
    for (line, key, message, hint) in [
        ("fallbacks = 5", "fallbacks", "expected an array", ""),
        ("fallbacks = ['a', 7]", "fallbacks[1]", "expected a string", ""),
        ("fallbacks = ['b*']", "fallbacks[0]", "\"b*\" is not one model", "without `*`"),
        ("fallbacks = ['b*c']", "fallbacks[0]", "`*` before its end", "only one"),
        ("fallbacks = ['b', 'B']", "fallbacks[1]", "\"B\" is listed twice", "remove"),
        ("context_window_fallbacks = 'b'", "context_window_fallbacks", "expected an array", ""),
        ("context_window_fallbacks = ['']", "context_window_fallbacks[0]", "no model name", ""),
        ("timeouts = '5s'", "timeouts", "expected a table", ""),
        ("timeouts = { idle = '0s' }", "timeouts.idle", "out of range", "from 1ms to 86400s"),
        ("timeouts = { conect = '1s' }", "timeouts.conect", "unknown key", "did you mean `connect`?"),
        ("content_policy_fallbacks = []", "content_policy_fallbacks", "unknown key", ""),
    ] {
        let text = format!("{ONE}[[models]]\nname = 'a'\n{line}");
        assert_rules(&[(&text, &format!("models[0].{key}"), message, hint)]);
    }
    let many: Vec<String> = (0..101).map(|index| format!("'m{index}'")).collect();
    let text = format!("{ONE}[[models]]\nname = 'a'\nfallbacks = [{}]", many.join(", "));
    assert_rules(&[(&text, "models[0].fallbacks", "101 fallbacks", "at most 100")]);
    let text = text.replace("'m100'", "");
    assert_eq!(parse(&text).unwrap().models[0].fallbacks.len(), 100);
}

#[test]
fn the_reliability_example_says_what_it_promises() {
    let (config, warnings) = load_with_warnings(&example("reliability.toml")).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.models[0].fallbacks, ["ollama/llama3.2"]);
    assert_eq!(config.models[0].context_window_fallbacks, ["ollama/qwen3:30b"]);
    let timeouts = &config.models[0].timeouts;
    assert_eq!(
        (timeouts.first_byte, timeouts.idle, timeouts.total),
        (600 * SECOND, 300 * SECOND, 7200 * SECOND)
    );
    assert_eq!(config.fallbacks.default, ["ollama/llama3.2"]);
    assert_eq!(config.breaker, Breaker::default(), "the example shows the defaults");
    assert_eq!((config.retry, config.queue.heartbeat), (Retry::default(), Some(10 * SECOND)));
    assert!(config.server.watch && config.server.handover_socket.is_some());
}

/// The warnings of `FOUR` endpoints and `text`, as `path: message (hint: …)`.
fn warnings(text: &str) -> Vec<String> {
    let text = format!("{FOUR}{text}");
    let (config, warnings) =
        parse_with_warnings(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    assert_eq!(parse(&text).as_ref(), Ok(&config), "warnings change nothing");
    let found = warnings.into_iter().map(|warning| {
        assert!(warning.line > 0 && warning.file.is_empty(), "{warning}");
        let text = warning.to_string();
        text.split_once(": ").expect("a line").1.to_owned()
    });
    found.collect()
}

/// A model at `endpoints` that falls back to `fallbacks`.
fn model(name: &str, endpoints: &str, fallbacks: &str) -> String {
    let list = |names: &str| {
        let quoted: Vec<String> = names.split_whitespace().map(|name| format!("'{name}'")).collect();
        format!("[{}]", quoted.join(", "))
    };
    format!("[[models]]\nname = '{name}'\nendpoints = {}\nfallbacks = {}\n", list(endpoints), list(fallbacks))
}

#[test]
fn a_fallback_to_no_model_is_warned_of() {
    let text = model("ollama/llama3.2", "o1", "mistrall nowhere") + &model("mistral", "o1", "");
    let hint = "(hint: did you mean `mistral`?)";
    assert_eq!(
        warnings(&text),
        [
            format!("models[0].fallbacks[0]: no model is called \"mistrall\" {hint}"),
            "models[0].fallbacks[1]: no model is called \"nowhere\" (hint: known: ollama/llama3.2, mistral)"
                .to_owned(),
        ]
    );
    let text = text.replace("fallbacks = ['mistrall'", "context_window_fallbacks = ['mistrall'");
    let found = warnings(&text);
    assert_eq!(
        found[0],
        format!("models[0].context_window_fallbacks[0]: no model is called \"mistrall\" {hint}")
    );
    let many: String =
        (0..101).map(|index| model(&format!("m{index}"), "o1", &format!("n{index}"))).collect();
    let found = warnings(&many);
    assert!(found[99].contains("(hint: did you mean `m99`?)"), "{}", found[99]);
    assert_eq!(found[100], "models[100].fallbacks[0]: no model is called \"n100\"", "no search without end");
    assert_eq!(
        warnings("[[models]]\nname = 'a'\n[fallbacks]\ndefault = ['a', 'b']"),
        ["fallbacks.default[1]: no model is called \"b\" (hint: known: a)"]
    );
}

#[test]
fn a_name_is_found_as_the_catalog_finds_it() {
    for (served, fallback) in [
        ("ollama/mistral", "Mistral:latest"),
        ("mistral", "ollama/mistral"),
        ("Mistral:latest", "mistral"),
        ("ollama/*", "mistral"),
        ("ollama/*", "ollama/mistral"),
        ("mis*", "ollama/mistral"),
        ("*", "ollama/mistral"),
        ("Mis*", "MISTRAL"),
    ] {
        let text = model("first", "o1", fallback) + &model(served, "o2", "");
        assert_eq!(warnings(&text), [""; 0], "{served} {fallback}");
    }
    for (served, fallback) in [("mistral*", "mistral"), ("openai/mistral", "mistral"), ("ollama/m*", "x")] {
        let text = model("first", "o1", fallback) + &model(served, "o2", "");
        assert_eq!(warnings(&text).len(), 1, "{served} {fallback}");
    }
    let both = model("first", "o1", "ollama/m") + &model("*", "o2", "") + &model("ollama/*", "v1", "");
    assert!(warnings(&both)[0].contains("openai endpoints only"), "the longest wildcard serves it");
    let both = both + &model("m", "o2", "");
    assert_eq!(warnings(&both), [""; 0], "an exact name before every wildcard");
    assert_eq!(
        warnings("[fallbacks]\ndefault = ['anything']"),
        [""; 0],
        "without models every name is served"
    );
}

#[test]
fn a_fallback_to_itself_is_warned_of() {
    assert_eq!(
        warnings(&model("ollama/a", "o1", "A:latest")),
        ["models[0].fallbacks[0]: \"A:latest\" falls back to itself (hint: remove it)"]
    );
    assert_eq!(warnings(&model("ollama/*", "o1", "ollama/a")), [""; 0], "one of many is not itself");
    assert_eq!(warnings(&(model("a", "o1", "") + "[fallbacks]\ndefault = ['a']")), [""; 0]);
}

#[test]
fn a_loop_of_any_length_is_warned_of_once() {
    let hint = "(hint: a model that was asked is not asked again: remove one of these fallbacks)";
    let two = model("a", "o1", "b") + &model("b", "o2", "a");
    assert_eq!(warnings(&two), [format!("models[1].fallbacks[0]: a loop: a -> b -> a {hint}")]);
    let four = model("x", "o1", "a") + &two.replace("'a']", "'c', 'a']") + &model("c", "o1", "ollama/B");
    assert_eq!(
        warnings(&four),
        [
            format!("models[2].fallbacks[1]: a loop: a -> b -> a {hint}"),
            format!("models[3].fallbacks[0]: a loop: b -> c -> b {hint}"),
        ]
    );
    let wild = model("a", "o1", "ollama/m") + &model("ollama/*", "o2", "a");
    assert_eq!(warnings(&wild), [format!("models[1].fallbacks[0]: a loop: a -> ollama/m -> a {hint}")]);

    let context = two.replace("fallbacks", "context_window_fallbacks");
    let place = "models[1].context_window_fallbacks[0]";
    assert_eq!(warnings(&context), [format!("{place}: a loop: a -> b -> a {hint}")]);
    let mixed =
        model("a", "o1", "b") + &model("b", "o2", "a").replace("fallbacks", "context_window_fallbacks");
    assert_eq!(warnings(&mixed), [""; 0], "lists of one kind only");
    let diamond =
        model("a", "o1", "b c") + &model("b", "o2", "d") + &model("c", "o2", "d") + &model("d", "o1", "");
    assert_eq!(warnings(&diamond), [""; 0], "two ways to one model are no loop");
}

#[test]
fn a_loop_of_thousands_is_told_in_one_line() {
    let many: String = (0..5000)
        .map(|index| model(&format!("m{index}"), "o1", &format!("m{}", (index + 1) % 5000)))
        .collect();
    let found = warnings(&many);
    let loops: Vec<&String> = found.iter().filter(|line| line.contains("a loop")).collect();
    assert_eq!(loops.len(), 1);
    assert!(loops[0].contains("a loop: m0 -> m1 -> m2 -> m3 -> m4 -> m5 -> … -> m0 (hint"), "{}", loops[0]);
}

#[test]
fn an_openai_fallback_of_an_ollama_model_is_warned_of() {
    let told = "\"gpt\" has openai endpoints only: /api/ requests cannot fall back to it \
                (hint: requests to /v1/ can; for the others add one at an ollama endpoint)";
    for (first, then, warned) in [
        ("o1", "v1", true),
        ("v1 o1", "v1 v2", true),
        ("", "v1", true),
        ("v1", "v2", false),
        ("o1", "v1 o1", false),
        ("o1", "", false),
    ] {
        let found = warnings(&(model("a", first, "gpt") + &model("gpt", then, "")));
        let expected = warned.then(|| format!("models[0].fallbacks[0]: {told}"));
        assert_eq!(found, Vec::from_iter(expected), "{first} | {then}");
    }
    let default = "[fallbacks]\ndefault = ['gpt']\n";
    let own =
        model("a", "o1", "b") + &model("b", "o2", "c") + &model("c", "v1", "") + &model("gpt", "v2", "");
    assert!(
        !warnings(&(own.clone() + default)).iter().any(|line| line.starts_with("fallbacks")),
        "all have their own"
    );
    let found = warnings(&(own + &model("d", "o1", "") + default));
    assert!(found.contains(&format!("fallbacks.default[0]: {told}")), "{found:?}");
}

#[test]
fn a_fallback_that_can_only_fail_again_is_warned_of() {
    let told = "has the same endpoints and the same upstream model: it can only fail again \
                (hint: name another model, or one at other endpoints)";
    let pair = |first: &str, then: &str, upstream: &str| {
        let upstream = format!("upstream_model = '{upstream}'\nendpoints");
        warnings(&(model("a", first, "fast") + &model("fast", then, "").replace("endpoints", &upstream)))
    };
    let expected = [format!("models[0].fallbacks[0]: \"fast\" {told}")];
    assert_eq!(pair("o1 o2", "o2 o1", "A:latest"), expected);
    assert_eq!(pair("", "o1 o2 v1 v2", "a"), expected, "all by name are all");
    assert_eq!(pair("o1", "o2", "a"), [""; 0], "other endpoints");
    assert_eq!(pair("o1", "o1", "b"), [""; 0], "another model");
    let wild = model("smart", "o1", "ollama/a") + &model("ollama/*", "o1", "");
    let wild = wild.replace("'smart'", "'smart'\nupstream_model = 'a'");
    assert_eq!(warnings(&wild), [format!("models[0].fallbacks[0]: \"ollama/a\" {told}")]);
}

#[test]
fn a_chain_beyond_models_max_is_warned_of() {
    let hint = "(hint: raise fallbacks.models_max or shorten the lists: those beyond it are never asked)";
    let most = |most: u32| format!("[fallbacks]\nmodels_max = {most}\n");
    let rest = model("b", "o2", "") + &model("c", "o2", "") + &model("d", "o2", "");
    let list = model("a", "o1", "b c d") + &rest;
    let told = |most: u32, names: &str| {
        format!("models[0].fallbacks: a chain of more than models_max = {most} models: {names} {hint}")
    };
    assert_eq!(warnings(&(list.clone() + &most(3))), [""; 0]);
    assert_eq!(warnings(&(list.clone() + &most(2))), [told(2, "b, c, d")]);
    assert_eq!(warnings(&(list + &most(0))), [told(0, "b")]);

    let deep =
        model("a", "o1", "b d") + &model("b", "o2", "c") + &model("c", "o2", "d") + &model("d", "o2", "");
    assert_eq!(warnings(&(deep.clone() + &most(3))), [""; 0], "d is asked once");
    assert_eq!(warnings(&(deep.clone() + &most(2))), [told(2, "b, c, d")]);
    let wild = model("a", "o1", "ollama/x ollama/y ollama/z") + &model("ollama/*", "o2", "");
    assert_eq!(
        warnings(&(wild + &most(2))),
        [told(2, "ollama/x, ollama/y, ollama/z")],
        "of one wildcard, three models"
    );
    let default = deep + "[fallbacks]\nmodels_max = 3\ndefault = ['a']\n";
    let told = "a chain of more than models_max = 3 models: a, b, c, d";
    assert_eq!(warnings(&default), [format!("fallbacks.default: {told} {hint}")]);
}

#[test]
fn warnings_are_told_with_the_file_and_mistakes_without_them() {
    let path = std::env::temp_dir().join(format!("corelane-warnings-{}.toml", std::process::id()));
    let text = format!("{ONE}[[models]]\nname = 'a'\nfallbacks = [\n  'a',\n  'b',\n]\n");
    std::fs::write(&path, &text).unwrap();
    let (config, warnings) = load_with_warnings(&path).unwrap();
    assert_eq!(load(&path).unwrap(), config);
    let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let at = path.display();
    assert_eq!(
        lines,
        [
            format!("{at}:7: models[0].fallbacks[0]: \"a\" falls back to itself (hint: remove it)"),
            format!("{at}:8: models[0].fallbacks[1]: no model is called \"b\" (hint: known: a)"),
        ]
    );
    std::fs::write(&path, format!("{text}strategy = 'x'")).unwrap();
    let found = load_with_warnings(&path).unwrap_err();
    assert_eq!((found.0.len(), found.0[0].path.as_str()), (1, "models[0].strategy"));
    assert_eq!(found.0[0].file, at.to_string());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(load_with_warnings(&path).unwrap_err().0.len(), 1);
    assert_eq!(problems(&format!("{text}strategy = 'x'")).len(), 1);
}
