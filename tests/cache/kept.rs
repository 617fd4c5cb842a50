//! What is stored, for how long, and what it costs.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::fleet::{try_post, until};
use super::support::upstream::{Reply, Then, plain};
use super::support::{assert_gauges_zero, metrics};
use super::{CHAT, Stand, completion, configuration, hi, numbered, said, status, streamed, with};

fn sample(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn what_is_no_good_answer_is_not_stored() {
    let two = |finished: [Value; 2]| {
        let choices: Vec<Value> = (finished.iter().enumerate())
            .map(|(at, reason)| json!({"index": at, "message": {"content": "x"}, "finish_reason": reason}))
            .collect();
        let body = json!({"id": "x", "model": "m", "choices": choices});
        Reply { writes: vec![plain(&body.to_string())], then: Then::Keep }
    };
    let stand =
        Stand::answering("", "[retry]\nattempts = 1\n[breaker]\nenabled = false\n", move |number, record| {
            let asked = record.json().unwrap();
            let texts = ["a".to_owned(), "b".to_owned()];
            match asked["user"].as_str().unwrap_or_default() {
                "fails" => status(500),
                "refused" => status(400),
                "cut" => two([json!("stop"), Value::Null]),
                "one" => numbered(number),
                "both" => two([json!("stop"), json!("length")]),
                "broken" => streamed(&texts, false),
                "whole stream" => streamed(&texts, true),
                "not a stream" => numbered(number),
                other => panic!("{other}"),
            }
        });
    let stream = |user: &str| with(&with(&hi(), "user", json!(user)), "stream", json!(true));
    let n = |user: &str| with(&with(&hi(), "user", json!(user)), "n", json!(2));
    for (body, stored) in [
        (with(&hi(), "user", json!("fails")), false),
        (with(&hi(), "user", json!("refused")), false),
        (n("cut"), false),
        (n("one"), false),
        (n("both"), true),
        (stream("broken"), false),
        (stream("whole stream"), true),
        (stream("not a stream"), false),
    ] {
        let (first, before) = (try_post(stand.gateway.addr, CHAT, &body.to_string()), stand.asked());
        let again = try_post(stand.gateway.addr, CHAT, &body.to_string());
        assert_eq!(stand.asked(), before + usize::from(!stored), "{body}");
        let Ok(again) = again else {
            assert_eq!(body["user"], "broken", "it is broken again");
            continue;
        };
        let expected = if stored { "hit" } else { "miss" };
        assert_eq!(again.field("x-corelane-cache"), Some(expected), "{body}");
        assert!(!stored || again.body == first.unwrap().body);
    }
    let answer = stand.chat(&stream("whole stream"));
    assert_eq!(said(&answer), ("ab".to_owned(), true));
    assert!(!String::from_utf8_lossy(&answer.body).contains("\"usage\":{"), "nobody asked for it");
    assert_eq!(sample(&metrics(&stand.gateway), "corelane_cache_answers"), 2.0);
    assert_gauges_zero(&stand.gateway);
}

#[test]
fn what_the_guard_blocks_is_not_stored_and_its_settings_count() {
    let guard = |word: &str| {
        format!(
            "[guard]\n[guard.input]\nscanners = []\n[guard.output]\nscanners = [\"BanSubstrings\"]\n\
             [guard.scanner.BanSubstrings]\nsubstrings = [\"{word}\"]\n"
        )
    };
    let stand = Stand::answering("", &guard("secret"), |number, record| {
        let text = if record.json().unwrap()["user"] == "bad" {
            "a secret".into()
        } else {
            format!("answer {number}")
        };
        Reply { writes: vec![plain(&completion(&text).to_string())], then: Then::Keep }
    });
    let bad = with(&hi(), "user", json!("bad"));
    for _ in 0..2 {
        assert_eq!(stand.chat(&bad).status, 400);
    }
    assert_eq!(stand.asked(), 2);
    assert_eq!([stand.used("", &hi()), stand.used("", &hi())], ["miss", "hit"]);
    // Another rule: what was let go under the old one is looked at anew. The same one: it is not.
    let reload = |rest: &str| {
        fs::write(stand.gateway.config_path(), configuration(&stand.upstream, "", rest)).unwrap();
        let mut reader = super::support::fleet::connect(stand.gateway.admin);
        super::support::fleet::send(&mut reader, "/reload", "");
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        assert_eq!(reader.answer(false, deadline).unwrap().status, 200);
    };
    let same = guard("secret").replace("[guard]\n", "[guard]\non_error = \"block\"\n");
    reload(&same);
    assert_eq!(stand.used("", &hi()), "hit");
    reload(&guard("answer"));
    assert_eq!(stand.chat(&hi()).status, 400);
    reload(&guard("secret"));
    assert_eq!(stand.used("", &hi()), "hit", "it is still there");
}

#[test]
fn a_stand_ins_answer_is_not_kept_for_the_model() {
    let rest = "[retry]\nattempts = 1\n[breaker]\nenabled = false\n[[models]]\nname = \"m\"\nfallbacks = [\"n\"]\n[[models]]\nname = \"n\"\n";
    let stand = Stand::answering("", rest, |number, record| {
        if record.json().unwrap()["model"] == "m" { status(500) } else { numbered(number) }
    });
    for _ in 0..2 {
        let answer = stand.chat(&hi());
        assert_eq!((answer.status, answer.field("x-corelane-cache")), (200, Some("miss")));
        assert_eq!(answer.field("x-corelane-model"), Some("n"));
    }
    assert_eq!(stand.asked(), 4);
}

#[test]
fn it_is_given_again_for_its_time() {
    let stand = Stand::new("ttl = \"1s\"", "");
    assert_eq!([stand.used("", &hi()), stand.used("", &hi())], ["miss", "hit"]);
    until("it is too old", || (stand.used("Cache-Control: no-store\r\n", &hi()) == "miss").then_some(()));
    assert_eq!(stand.used("", &hi()), "miss");
}

#[test]
fn a_hit_costs_nothing_unless_it_is_charged() {
    let rest = "[log]\nformat = \"json\"\n[[models]]\nname = \"m\"\nprice = { input_per_1k = 1.0, output_per_1k = 2.0 }\n\
                [[keys]]\nname = \"k\"\nsecret = \"secret-of-k\"\n";
    let key = "Authorization: Bearer secret-of-k\r\n";
    for (more, charged) in [("", false), ("charge_hits = true", true)] {
        let stand = Stand::new(more, rest);
        let costs: Vec<f64> = (0..3)
            .map(|_| stand.post(CHAT, key, &hi()).field("x-litellm-response-cost").unwrap().parse().unwrap())
            .collect();
        assert_eq!(costs, if charged { [0.02, 0.02, 0.02] } else { [0.02, 0.0, 0.0] });
        let page = until("all are counted", || {
            let page = metrics(&stand.gateway);
            let all = sample(&page, "litellm_request_count{status=\"success\",model=\"m\"}");
            (all >= 3.0).then_some(page)
        });
        let times = if charged { 3.0 } else { 1.0 };
        assert_eq!(sample(&page, "litellm_tokens_used{model=\"m\",type=\"input\"}"), 10.0 * times);
        assert!((sample(&page, "corelane_cost_total{model=\"m\"}") - 0.02 * times).abs() < 1e-9);
        assert_eq!(sample(&page, "corelane_cache_requests_total{model=\"m\",result=\"hit\"}"), 2.0);
        assert_eq!(sample(&page, "litellm_cache_hits_metric_total{model=\"m\"}"), 2.0);
        assert_eq!(sample(&page, "litellm_cache_misses_metric_total{model=\"m\"}"), 1.0);
        assert_eq!(sample(&page, "corelane_cache_saved_tokens_total{type=\"output\"}"), 10.0);
        assert_eq!(sample(&page, "litellm_request_count{status=\"success\",model=\"m\"}"), 3.0);
        let lines = until("the log has the lines", || {
            let log = stand.gateway.log();
            let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (lines.len() >= 3).then_some(lines)
        });
        let mut words: Vec<&str> = lines.iter().map(|line| line["cache"].as_str().unwrap()).collect();
        words.sort_unstable(); // the shards write on their own
        assert_eq!(words, ["hit", "hit", "miss"]);
    }
}

#[test]
fn its_memory_has_a_bound() {
    let stand = Stand::answering("memory_bytes_max = \"1MiB\"", "", |_, record| {
        let text = record.json().unwrap()["user"].as_str().unwrap().repeat(5000);
        Reply { writes: vec![plain(&completion(&text).to_string())], then: Then::Keep }
    });
    for number in 0..300 {
        assert_eq!(stand.used("", &with(&hi(), "user", json!(format!("{number:03}")))), "miss");
    }
    let page = metrics(&stand.gateway);
    let (answers, bytes) = (sample(&page, "corelane_cache_answers"), sample(&page, "corelane_cache_bytes"));
    assert!(bytes <= 1048576.0 && bytes > 500_000.0 && answers < 40.0, "{answers} answers, {bytes} bytes");
    // Larger than an eighth of it: passed on, and not kept.
    let long = with(&hi(), "user", json!("x".repeat(60)));
    assert_eq!([stand.used("", &long), stand.used("", &long)], ["miss", "miss"]);
}

#[test]
fn explanations_say_what_it_may_do() {
    let stand = Stand::new("", "");
    let explained = |body: &Value| {
        let question = json!({"path": CHAT, "body": body.to_string()}).to_string();
        let mut reader = super::support::fleet::connect(stand.gateway.admin);
        super::support::fleet::send(&mut reader, "/explain", &question);
        let answer = reader.answer(false, std::time::Instant::now() + Duration::from_secs(20)).unwrap();
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        let step = said["steps"].as_array().unwrap().iter().find(|step| step["step"] == "cache");
        step.unwrap_or_else(|| panic!("{said:#}"))["result"].as_str().unwrap().to_owned()
    };
    assert_eq!(explained(&hi()), "read and stored");
    assert_eq!(explained(&with(&hi(), "cache", json!({"no-store": true}))), "read");
    assert_eq!(explained(&with(&hi(), "cache", json!({"no-cache": true}))), "stored");
    assert_eq!(explained(&with(&hi(), "cache", json!({"use-cache": false}))), "left alone");
    assert_eq!(stand.asked(), 0, "and nobody was asked");
}

#[test]
fn loading_a_model_is_not_given_again() {
    let stand = Stand::answering("", "", |_, record| {
        let text = record.json().unwrap();
        let body = match text["keep_alive"] == 0 {
            true => json!({"model": "m", "response": "", "done": true, "done_reason": "unload"}),
            false => json!({"model": "m", "response": "a", "done": true, "done_reason": "stop"}),
        };
        Reply { writes: vec![plain(&body.to_string())], then: Then::Keep }
    });
    // Only servers of Ollama's kind have the path.
    let toml = configuration(&stand.upstream, "", "").replace("kind = \"openai\"", "kind = \"ollama\"");
    let gateway = super::support::Gateway::start(&toml);
    let used = |body: &Value| {
        let answer = super::ask(&gateway, "/api/generate", "", &body.to_string());
        assert_eq!(answer.status, 200);
        answer.field("x-corelane-cache").unwrap().to_owned()
    };
    let unload = json!({"model": "m", "keep_alive": 0, "stream": false});
    assert_eq!([used(&unload), used(&unload)], ["miss", "miss"]);
    let prompt = json!({"model": "m", "prompt": "hi", "stream": false});
    assert_eq!([used(&prompt), used(&prompt)], ["miss", "hit"]);
}
