use super::*;
use serde_json::json;

fn document() -> Value {
    json!({
        "version": "1.2.3", "uptime_s": 200, "generation": 2, "draining": false, "window_s": 60.0, "rate_s": 5.0,
        "requests_s": 12.34, "errors_s": 0.5, "exchanges": 3, "waiting": 0, "connections": 5,
        "latency_ms": {"p50": 0.4, "p95": 45.0, "p99": 1234.5, "count": 731},
        "first_token_ms": {"p50": null, "p95": null, "p99": null, "count": 0},
        "overhead_ms": {"p50": 0.045, "p95": 0.1, "p99": 5.25, "count": 731},
        "shards": [{"shard": 0, "driver": "io_uring", "exchanges": 3, "streams": 2, "connections": 5}],
        "endpoints": [
            {"name": "gpu-1", "health": "healthy", "breaker": {"state": "closed"}, "disabled": false, "in_flight": 3,
             "slots": 8, "success_s": 11.8, "failure_s": 0.0},
            {"name": "gpu-2", "health": "unhealthy", "breaker": {"state": "half_open"}, "disabled": true, "in_flight": 0,
             "slots": 0, "success_s": 0.0, "failure_s": 0.5},
        ],
        "models": [{"name": "llama", "requests_s": 12.3, "error_share": 0.041, "tokens_input": 12, "tokens_output": 34,
                    "cost": 0.0123}],
        "guard": [], "keys": [{"name": "team-a", "requests": null, "budget": null}],
        "failures": [{"time_ms": 3_661_000, "status": 502, "request_id": "id\u{1b}[2Jx", "model": "llama", "endpoint":
                      null, "key": null, "error": "The endpoint answered 500."}],
    })
}

#[test]
fn a_picture_has_what_the_document_has() {
    let lines: Vec<_> = lines(&document(), 80).iter().map(Line::plain).collect();
    let has = |parts: &[&str]| lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(has(&["corelane 1.2.3", "live", "up 3 min"]), "{lines:#?}");
    assert!(has(&["12.3 requests/s", "0.5 errors/s", "3 in flight"]));
    assert!(has(&["OVER 60 S", "P50", "P95", "P99"]));
    let words = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let shards = lines.iter().position(|line| line.starts_with("SHARD")).unwrap();
    assert_eq!(words(&lines[shards]), ["SHARD", "EXCHANGES", "STREAMS", "CONNECTIONS"]);
    assert_eq!(words(&lines[shards + 1]), ["0", "(io_uring)", "3", "2", "5"]);
    assert!(has(&["Latency", "400 us", "45 ms", "1.23 s", "731"]));
    assert!(has(&["gpu-1", "healthy", "closed", "yes", "3 of 8", "11.8", "0.0"]));
    assert!(has(&["gpu-2", "unhealthy", "half-open", "disabled", "0.5"]));
    assert!(has(&["llama", "12.3", "4.1%", "12", "34", "$0.0123"]));
    assert!(has(&["01:01:01", "502", "llama", "id?[2Jx", "The endpoint answered 500."]));
    assert!(!has(&["GUARD"]), "a table without rows is left out");
}

#[test]
fn lines_fit_and_nothing_in_them_is_obeyed() {
    let long = "\u{1b}]0;x\u{7}\u{202e}".repeat(100);
    let mut document = document();
    for at in ["name", "health"] {
        document["endpoints"][0][at] = long.clone().into();
    }
    document["failures"][0]["error"] = long.clone().into();
    for columns in [10, 60, 80, 200] {
        for line in lines(&document, columns) {
            let text = line.plain();
            assert!(
                text.chars().count() <= columns.max(60) && !text.chars().any(char::is_control),
                "{text:?}"
            );
            assert!(!text.contains('\u{202e}'));
        }
    }
    assert!(lines(&Value::Null, 80).iter().all(|line| !line.plain().contains('\u{1b}')), "anything is drawn");
    assert!(Line::warning(&long, 40).plain().chars().count() <= 40);
}
