//! Each rule of the file format by one text that breaks it, and the promises of the whole: all mistakes at once,
//! the right lines, defaults, the way back through `effective`, and no panic on any text.

use std::time::Duration;

use super::super::{Access, Bytes, Driver, Kind, Level, Strategy, builtin, effective};
use super::*;

mod edge;
mod reference;
mod reliability;
mod rules;

const ONE: &str = "[[endpoints]]\nname = \"a\"\nurl = \"http://h:1\"\n";

pub(super) fn problems(text: &str) -> Vec<Problem> {
    parse(text).expect_err(text).0
}

/// `text` behind one good endpoint of two lines.
pub(super) fn with_endpoint(text: &str) -> String {
    format!("{text}\n{ONE}")
}

fn example(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

const EXAMPLES: [&str; 7] = [
    "minimal.toml",
    "ollama.toml",
    "weighted.toml",
    "openai-compatible.toml",
    "guard.toml",
    "edge.toml",
    "reliability.toml",
];

#[test]
fn every_example_loads_and_comes_back_from_effective() {
    for name in EXAMPLES {
        let config = load(&example(name)).unwrap_or_else(|problems| panic!("{problems}"));
        let text = effective(&config);
        assert_eq!(parse(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}")), config, "{name}");
    }
}

#[test]
fn the_examples_say_what_they_promise() {
    let guide = load(&example("ollama.toml")).unwrap();
    let hosts: Vec<&str> = guide.endpoints.iter().map(|endpoint| endpoint.url.host.as_str()).collect();
    assert_eq!(hosts, ["192.168.1.2", "192.168.1.11", "192.168.1.20"]);
    assert_eq!(guide.models[0].endpoints, [0, 1, 2]);
    assert_eq!(guide.models[1].upstream_model, "mistral");
    assert_eq!(guide.server.headers, [("x-content-type-options".to_owned(), "nosniff".to_owned())]);

    let weighted = load(&example("weighted.toml")).unwrap();
    let weights: Vec<&[u32]> = weighted.models.iter().map(|model| model.weights.as_slice()).collect();
    assert_eq!(weights, [&[1, 2], &[1, 5], &[1, 2]]);
    assert_eq!(weighted.models[0].strategy, Strategy::Weighted);
    assert_eq!(weighted.models[2].strategy, Strategy::RoundRobin);

    let openai = load(&example("openai-compatible.toml")).unwrap();
    assert_eq!(openai.endpoints[0].url.path, "");
    assert_eq!(openai.endpoints[0].kind, Kind::Openai);
    assert_eq!(openai.models[0].endpoints, [0]);
    assert_eq!(openai.models[0].price.unwrap().output_per_1k, 0.0012);
}

#[test]
fn a_short_file_has_the_contracts_defaults() {
    let config = parse(ONE).unwrap();
    let server = &config.server;
    assert_eq!(server.listen, ["0.0.0.0:8000".parse().unwrap()]);
    assert_eq!(server.admin_listen, "127.0.0.1:8001".parse().unwrap());
    assert_eq!((server.shards, server.pin, server.driver), (None, None, Driver::Auto));
    assert_eq!((server.max_concurrent_requests, server.max_connections), (1000, 50_000));
    assert_eq!((server.body_bytes_max, server.answer_bytes_max), (Bytes(20 << 20), Bytes(64 << 20)));
    assert_eq!((server.buffered_bytes_max, server.head_bytes_max), (Bytes(1 << 30), Bytes(32 << 10)));
    assert_eq!((server.keep_alive.as_secs(), server.upstream_keep_alive.as_secs()), (75, 55));
    assert_eq!((server.upstream_idle_max, server.body_timeout.as_secs()), (256, 30));
    let model = &config.models[0];
    assert_eq!((model.name.as_str(), model.upstream_model.as_str()), ("*", "*"));
    assert_eq!((model.endpoints.len(), model.strategy), (0, Strategy::LeastBusy));
    assert_eq!(model.weights, [1]);
    assert_eq!((config.retry.attempts, config.retry.on_timeout), (3, true));
    assert_eq!(config.retry.backoff, Duration::from_millis(100));
    assert_eq!((config.timeouts.connect.as_secs(), config.timeouts.total.as_secs()), (2, 3600));
    assert_eq!((config.health.unhealthy_threshold, config.health.healthy_threshold), (3, 2));
    assert_eq!((config.health.path.as_deref(), config.health.expect_field.as_deref()), (None, None));
    assert_eq!((config.log.level, &config.log.access), (Level::Info, &Access::Stderr));
    assert!(config.metrics.litellm_names);
}

#[test]
fn without_a_file_there_is_one_ollama_on_loopback() {
    let text = "server.listen = [\"127.0.0.1:8000\"]\nendpoints = [{ name = \"ollama\", url = \"http://127.0.0.1:11434\" }]";
    assert_eq!(parse(text).unwrap(), builtin());
    assert_eq!(parse(&effective(&builtin())).unwrap(), builtin());
}

#[test]
fn every_key_comes_back_from_effective() {
    let text = r#"
[server]
listen = ["0.0.0.0:0", "[::1]:8443"]
admin_listen = "0.0.0.0:9001"
shards = 0x10
pin = false
driver = "io_uring"
max_concurrent_requests = 1_500
max_connections = 7
body_bytes_max = 1500
answer_bytes_max = "1GB"
buffered_bytes_max = "2GiB"
head_bytes_max = "64KiB"
head_timeout = "1500ms"
body_timeout = "2m"
keep_alive = "1h"
upstream_keep_alive = "1ms"
upstream_idle_max = 0
write_timeout = "24h"
drain_timeout = "0s"
trusted_proxies = ["10.0.0.0/8", "::1"]
handover_socket = "/run/\"corelane\"/händ.sock"
watch = true
headers = { z-last = "say \"hi\" \\ bye", "A!#first" = "a\tb" }
[[endpoints]]
name = "b:2"
url = "http://[fd00::1]/x/v1"
kind = "openai"
weight = 1000
slots = 5
[[endpoints]]
name = "a.1"
url = "http://h:9"
[[models]]
name = "ollama_chat/Llama:latest"
endpoints = ["a.1", "b:2"]
weights = { "b:2" = 3 }
strategy = "weighted"
fallbacks = ["x1", "elsewhere"]
context_window_fallbacks = ["x2"]
timeouts = { connect = "1500ms", total = "24h" }
price = { input_per_1k = 1, output_per_1k = 1.5e-7 }
[[models]]
name = "x*"
upstream_model = "fixed"
endpoints = []
[balance]
strategy = "round_robin"
[health]
enabled = false
path = "/v1/models?limit=1"
expect_field = "dätá \"x\""
interval = "5s"
timeout = "1s"
unhealthy_threshold = 1
healthy_threshold = 9
[timeouts]
connect = "1s"
first_byte = "2s"
idle = "3s"
total = "4s"
[retry]
attempts = 1
on_timeout = false
backoff = "0ms"
budget_percent = 1000
budget_min = 0
[fallbacks]
default = ["x3", "ollama_chat/llama"]
models_max = 0
[breaker]
enabled = false
failures = 7
share_percent = 100
requests_min = 1
window = "1500ms"
open = "100ms"
open_max = "1h"
retry_after_max = "0s"
missing = "1ms"
[queue]
max = 0
timeout = "1ms"
heartbeat = "250ms"
[guard]
enabled = false
[cache]
store = "memory"
ttl = "90s"
ttl_max = "2h"
memory_bytes_max = "8MiB"
answer_bytes_max = "100KiB"
mode = "default_off"
shared = true
coalesce = false
charge_hits = true
tasks = ["embeddings", "chat"]
[log]
level = "debug"
access = "./log \"x\"/ä.log"
format = "text"
sample_percent = 5
bodies = true
body_bytes_max = "1MiB"
mask = false
[log.journal]
writer = "buffered"
segment_bytes_max = "1MiB"
segment_age_max = "0s"
segments_max = 1
compress = true
sync = "0s"
[tracing]
otlp_endpoint = "http://127.0.0.1:4318/base"
sample_percent = 100
service_name = "ä"
[usage]
cost_in_answers = false
[metrics]
litellm_names = false
keys_max = 0
pairs = true
"#;
    let config = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.server.headers[0].0, "z-last", "the file's order");
    assert_eq!(config.server.shards, Some(16));
    assert_eq!(config.models[0].upstream_model, "Llama:latest");
    assert_eq!(
        (config.models[0].endpoints.as_slice(), config.models[0].weights.as_slice()),
        (&[1, 0][..], &[1, 3][..])
    );
    assert_eq!(
        (config.models[1].strategy, config.models[1].weights.as_slice()),
        (Strategy::RoundRobin, &[1000, 1][..])
    );
    assert_eq!(config.endpoints[0].url.to_string(), "http://[fd00::1]:80/x");
    let written = effective(&config);
    assert_eq!(parse(&written).unwrap_or_else(|problems| panic!("{problems}\n{written}")), config);
    assert_eq!(effective(&parse(&written).unwrap()), written);
    assert!(written.contains("head_timeout = \"1500ms\"") && written.contains("body_bytes_max = \"1500B\""));
}

#[test]
fn a_secret_is_masked_on_the_way_out_and_refused_on_the_way_in() {
    let config = parse(&format!("{ONE}api_key = \"sk-secret-0123456789\"")).unwrap();
    let written = effective(&config);
    assert!(written.contains("api_key = \"…6789\"") && !written.contains("secret"));
    assert!(!format!("{config:?}").contains("secret"));
    assert!(!serde_json::to_string(&config).unwrap().contains("secret"));
    assert!(problems(&written)[0].message.contains("masked secret"));

    let config = parse(&format!("{ONE}api_key = \"env:PATH\"")).unwrap();
    assert_eq!(config.endpoints[0].api_key.as_ref().unwrap().expose(), std::env::var("PATH").unwrap());
}

#[test]
fn all_mistakes_are_told_at_once_with_their_lines() {
    let text = r#"[server]
listen = ["localhost:8000"]
shards = 0
max_concurent_requests = 5

[[endpoints]]
name = "gpu-1"
url = "http://192.168.1.2:11434"
wieght = 2

[[endpoints]]
name = "gpu-1"
url = "https://user:hunter2@api.example"
kind = "olama"

[[endpoints]]
weight = 0

[[models]]
name = "Llama3:latest"
endpoints = [
  "gpu-1",
  "gpu-2",
]
[[models]]
name = "llama3"
[health]
interval = 30
[limits]
reject_status = 200
"#;
    let found = problems(text);
    let places: Vec<(u32, &str)> =
        found.iter().map(|problem| (problem.line, problem.path.as_str())).collect();
    assert_eq!(
        places,
        [
            (2, "server.listen[0]"),
            (3, "server.shards"),
            (4, "server.max_concurent_requests"),
            (9, "endpoints[0].wieght"),
            (12, "endpoints[1].name"),
            (13, "endpoints[1].url"),
            (14, "endpoints[1].kind"),
            (16, "endpoints[2].name"),
            (16, "endpoints[2].url"),
            (17, "endpoints[2].weight"),
            (23, "models[0].endpoints[1]"),
            (26, "models[1].name"),
            (28, "health.interval"),
            (30, "limits.reject_status"),
        ]
    );
    let report = Problems(found).to_string();
    assert!(report.contains(
        "line 4: server.max_concurent_requests: unknown key (hint: did you mean `max_concurrent_requests`?)"
    ));
    assert!(
        report.contains("(hint: did you mean `weight`?)")
            && report.contains("(hint: did you mean `ollama`?)")
    );
    assert!(report.contains("there is no endpoint \"gpu-2\" (hint: did you mean `gpu-1`?)"));
    assert!(!report.contains("hunter2"));
}

#[test]
fn a_loaded_files_problems_carry_its_name() {
    let path = std::env::temp_dir().join(format!("corelane-check-{}.toml", std::process::id()));
    std::fs::write(&path, "\nserver = 5").unwrap();
    let report = load(&path).unwrap_err().to_string();
    assert!(
        report.contains(&format!("{}:2: server: expected a table, found an integer", path.display())),
        "{report}"
    );
    std::fs::write(&path, b"ok = 1 # \xff").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("is not UTF-8 at byte 9"));
    std::fs::write(&path, vec![b'#'; FILE_BYTES_MAX as usize + 1]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("is larger than"));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(load(&path).unwrap_err().0.len(), 1);
}

#[test]
fn a_mistake_in_the_syntax_is_told_alone_with_its_line() {
    for (text, line) in
        [("[server]\nshards = = 1", 2), ("a = 1\n\na = 2", 3), ("x = 30s", 1), ("[server\n", 1)]
    {
        let found = problems(text);
        assert_eq!((found.len(), found[0].line), (1, line), "{text}: {found:?}");
        assert!(found[0].message.starts_with("not valid TOML: "));
    }
}

#[test]
fn line_breaks_and_marks_of_other_systems_are_fine() {
    let text = format!("\u{feff}{}", ONE.replace('\n', "\r\n"));
    assert_eq!(parse(&text).unwrap(), parse(ONE).unwrap());
    assert_eq!(problems(&format!("{text}weight = 0\r\n"))[0].line, 4);
}

#[test]
fn a_large_file_of_mistakes_is_read() {
    let text: String = (0..20_000).map(|index| format!("key{index} = [[[1]]]\n")).collect();
    assert_eq!(problems(&text).len(), 20_001);
    assert!(problems(&"a.".repeat(10_000)).len() == 1);
    assert!(problems(&format!("x = {}", "[".repeat(10_000))).len() == 1);
}

#[test]
fn no_text_makes_parse_panic() {
    let seeds: Vec<Vec<u8>> = EXAMPLES.iter().map(|name| std::fs::read(example(name)).unwrap()).collect();
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut random = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound.max(1) as u64) as usize
    };
    let pieces = [
        "\"", "[", "]", "{", "}", "=", "\n", "[[", "9", "-", "*", "\u{202e}", "é", "0x", "1e999", "''", "#",
        ".",
    ];
    let mut valid = 0;
    for round in 0..2000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(128) as u8,
                1 => drop(bytes.drain(at..(at + random(30)).min(bytes.len()))),
                2 => drop(bytes.splice(at..at, pieces[random(pieces.len())].bytes())),
                _ => {
                    let piece = bytes[at..(at + random(80)).min(bytes.len())].to_vec();
                    let to = random(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
        match parse(&String::from_utf8_lossy(&bytes)) {
            Ok(config) => {
                valid += 1;
                assert_eq!(parse(&effective(&config)).unwrap(), config);
            }
            Err(problems) => assert_eq!(problems.to_string().lines().count(), problems.0.len()),
        }
    }
    assert!(valid > 100, "mutations should leave some texts valid: {valid}");
}
