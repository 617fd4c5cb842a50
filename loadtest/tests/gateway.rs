//! Promise: the scenarios run against a real gateway with simulated servers behind it, and hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test code

mod support;

use std::fs;

use serde_json::Value;
use support::{Process, gateway, load, scratch};

/// Runs a scenario for so many seconds and returns its report, and what it printed.
fn report(name: &str, arguments: &[&str]) -> (Value, String) {
    let json = scratch(&format!("{name}.json"));
    let all = [&["run", name, "--quiet", "--json", json.to_str().unwrap()], arguments].concat();
    let output = load(&all);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report = fs::read_to_string(&json).unwrap_or_else(|error| panic!("{error}: {text}"));
    (serde_json::from_str(&report).unwrap(), text)
}

fn outcome(report: &Value, name: &str) -> u64 {
    report["outcomes"][name].as_u64().unwrap_or(0)
}

fn sims(count: usize) -> (Vec<Process>, Vec<String>) {
    (0..count).map(|_| Process::sim(&["--prefill-ms", "5", "--token-ms", "1"])).unzip()
}

#[test]
fn development_is_served() {
    let (_sims, addresses) = sims(1);
    let gateway = gateway("development.toml", &addresses, &[]);
    let target = format!("http://{}", gateway.word("http="));
    let (report, text) = report("development", &["--target", &target, "--seconds", "3"]);
    let requests = report["requests"].as_u64().unwrap();
    assert!(requests > 30, "{text}");
    assert_eq!(outcome(&report, "ok"), requests, "{text}");
    assert_eq!(
        report["work"].as_array().unwrap().iter().filter(|work| work["requests"].as_u64() > Some(0)).count(),
        3
    );
}

#[test]
fn production_is_served_by_tls_with_keys_and_guards() {
    for (protocol, more) in [("http/1.1", &[][..]), ("h2", &["--h2", "--streams", "16"])] {
        let (_sims, addresses) = sims(3);
        let made =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let (cert, key) = (scratch("tls-cert.pem"), scratch("tls-key.pem"));
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let files = [("\"cert.pem\"", format!("{cert:?}")), ("\"key.pem\"", format!("{key:?}"))];
        let files: Vec<(&str, &str)> = files.iter().map(|(from, to)| (*from, to.as_str())).collect();
        let gateway = gateway("production.toml", &addresses, &files);
        let target = format!("https://{}", gateway.word("https="));
        let arguments = ["--target", &target, "--ca", cert.to_str().unwrap(), "--seconds", "5"];
        let (report, text) = report("production", &[&arguments, more].concat());
        assert_eq!(report["about"]["protocol"], protocol);
        let requests = report["requests"].as_u64().unwrap();
        assert!(requests > 100, "{text}");
        assert_eq!(outcome(&report, "ok") + outcome(&report, "shed"), requests, "{text}");
        assert!(outcome(&report, "shed") * 20 <= requests, "{text}");
        let refused = report["statuses"].as_array().unwrap().iter().find(|status| status["status"] == 400);
        assert!(refused.is_some(), "a guard has refused something: {text}");
        assert!(report["fairness"].as_f64().unwrap() > 0.95, "{text}");
        let connects = report["connects"]["count"].as_u64().unwrap();
        assert!(protocol == "http/1.1" || connects <= 2, "h2 shares connections: {connects}");
    }
}

#[test]
fn a_burst_over_h2_is_whole() {
    // Bodies beyond the first windows, more streams than one connection takes, and streams beside them.
    let (_sims, addresses) = sims(1);
    let gateway = gateway("plain.toml", &addresses, &[("listen = [\"127.0.0.1:0\"]", &tls())]);
    let target = format!("https://{}", gateway.word("https="));
    let path = scratch("burst.toml");
    let text = "about = ''\n[load]\nmode = 'closed'\ntime = '2s'\nconnections = 96\n\
                [[work]]\nname = 'long'\nkind = 'chat'\nmodel = 'llama3.2'\nwords = { law = 'uniform', min = 10, max = 15000 }\nanswer_tokens = 400\n\
                [[work]]\nname = 'stream'\nkind = 'stream'\nmodel = 'llama3.2'\nanswer_tokens = 100\n\
                [[work]]\nname = 'vectors'\nkind = 'embeddings'\nmodel = 'nomic-embed-text'\n[sla]\nerror_share_max = 0.0\n";
    fs::write(&path, text).unwrap();
    let output = load(&["run", path.to_str().unwrap(), "--target", &target, "--insecure", "--h2", "--quiet"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn faults_are_told_apart_over_both_protocols() {
    // What the gateway makes of an endpoint that fails: a status before the first content byte, an error event behind it.
    let cases = [
        ("chat", "fault-500", "bad_status"),
        ("chat", "fault-429", "shed"),
        ("stream", "fault-cut", "error_event"),
        ("stream", "fault-nodone", "error_event"),
        ("stream", "fault-garbage", "error_event"),
        ("chat", "fault-hang", "timeout"),
        ("stream", "llama3.2", "ok"),
    ];
    let listed: Vec<&str> = cases.iter().flat_map(|(_, model, _)| ["--model", *model]).collect();
    let (_sim, address) = Process::sim(&[&["--token-ms", "5"], &listed[..]].concat());
    let addresses = [address];
    let models: String =
        cases.iter().map(|(_, model, _)| format!("[[models]]\nname = \"{model}\"\n")).collect();
    let more = [
        ("listen = [\"127.0.0.1:0\"]", tls()),
        ("[[models]]\nname = \"llama3.2\"\n", models),
        ("[log]", "[breaker]\nenabled = false\n[log]".to_owned()),
    ];
    let more: Vec<(&str, &str)> = more.iter().map(|(from, to)| (*from, to.as_str())).collect();
    let gateway = gateway("plain.toml", &addresses, &more);
    let target = format!("https://{}", gateway.word("https="));
    let mut text = "about = ''\n[load]\nmode = 'open'\narrivals = 'constant'\nphases = [{ time = '1s', rate = 100 }]\ntimeout = '3s'\n".to_owned();
    for (kind, model, _) in cases {
        text += &format!("[[work]]\nname = '{model}'\nkind = '{kind}'\nmodel = '{model}'\n");
    }
    text += "[sla]\nshed = [429]\n";
    let (path, json) = (scratch("faults.toml"), scratch("faults.json"));
    fs::write(&path, text).unwrap();
    for more in [&[][..], &["--h2"]] {
        let arguments = [
            "run",
            path.to_str().unwrap(),
            "--target",
            &target,
            "--insecure",
            "--quiet",
            "--json",
            json.to_str().unwrap(),
        ];
        let output = load(&[&arguments, more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        for ((_, model, expected), work) in cases.iter().zip(report["work"].as_array().unwrap()) {
            let requests = work["requests"].as_u64().unwrap();
            assert!(requests > 0, "{model}");
            assert_eq!(
                work["outcomes"][expected], requests,
                "{more:?} {model}: {} {}",
                work["outcomes"], report["examples"]
            );
        }
    }
}

/// The settings of a TLS listener in place of a plain one.
fn tls() -> String {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (scratch("burst-cert.pem"), scratch("burst-key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    format!("listen = []\ntls = {{ listen = [\"127.0.0.1:0\"], cert = {cert:?}, key = {key:?} }}")
}

#[test]
fn an_endpoint_that_dies_costs_no_request() {
    let (mut sims, addresses) = sims(3);
    let gateway = gateway("failover.toml", &addresses, &[]);
    let target = format!("http://{}", gateway.word("http="));
    let killer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(2500));
        sims[1].kill();
        sims
    });
    let (report, text) = report("failover", &["--target", &target, "--seconds", "5"]);
    drop(killer.join().unwrap());
    let requests = report["requests"].as_u64().unwrap();
    assert!(requests > 150, "{text}");
    // Streams that had begun on the dead endpoint are broken and say so; everything else is answered.
    let broken = outcome(&report, "error_event") + outcome(&report, "cut");
    assert_eq!(outcome(&report, "ok") + broken, requests, "{text}");
    assert!(broken <= 5, "{text}");
}

#[test]
fn a_key_that_is_not_known_is_no_success() {
    let (_sims, addresses) = sims(3);
    let gateway = gateway("restricted.toml", &addresses, &[]);
    let target = format!("http://{}", gateway.word("http="));
    let (report, text) = report("restricted", &["--target", &target, "--key", "nobody", "--seconds", "1"]);
    let refused = outcome(&report, "bad_status");
    assert!(refused > 0, "{text}");
    assert_eq!(refused + outcome(&report, "shed"), report["requests"].as_u64().unwrap(), "{text}");
    assert_eq!(report["statuses"][0]["status"], 401);
    assert!(report["examples"][0]["answer"].as_str().unwrap().contains("error"), "{text}");
    assert_eq!(report["held"], false);
}
