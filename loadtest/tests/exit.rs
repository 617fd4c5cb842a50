//! Promise: the exit code says whether the objectives hold, and the reports are well formed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test code

mod support;

use std::fs;

use serde_json::Value;
use support::{Reply, Then, load, plain, right, scratch, serve};

fn scenario(name: &str, sla: &str) -> String {
    let path = scratch(name);
    let text = format!(
        "about = 'A <test> of reports & more.'\nseed = 3\n[load]\nmode = 'open'\nphases = [{{ time = '1s', rate = 80 }}]\n\
         warm_up = '100ms'\ntimeout = '5s'\n\
         [[work]]\nname = 'chat & <more>'\nkind = 'chat'\nmodel = 'm'\nanswer_tokens = 9\n\
         [[work]]\nname = 'stream'\nkind = 'stream'\nmodel = 'm'\nanswer_tokens = 9\n\
         [[keys]]\nname = 'a'\nsecret = 's'\n[[keys]]\nname = 'b'\nsecret = 't'\n[sla]\n{sla}\n"
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn codes_say_what_happened() {
    let good = format!("http://{}", serve(right));
    let bad = format!("http://{}", serve(|_| Reply::new(plain(500, "{}"), Then::Keep)));
    let (held, missed) =
        (scenario("held.toml", "error_share_max = 0.0"), scenario("missed.toml", "rate_min = 1e6"));
    for (arguments, code) in [
        (vec!["run", &held, "--target", &good, "--quiet"], 0),
        (vec!["run", &missed, "--target", &good, "--quiet"], 3),
        (vec!["run", &held, "--target", &bad, "--quiet"], 3),
        (vec!["run", &held, "--target", &good, "--quiet", "--json", "/nowhere/at/all.json"], 1),
        (vec!["run", &held, "--target", "gopher://x"], 2),
        (vec!["run", &held, "--rate", "-5"], 2),
        (vec!["run", "no-such-scenario"], 2),
        (vec!["run"], 2),
        (vec!["walk"], 2),
        (vec!["--help"], 0),
        (vec!["list"], 0),
        (vec!["plan", "closed", "--rate", "5"], 2),
        (vec!["plan", &held], 0),
    ] {
        let output = load(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        let told = !output.stderr.is_empty();
        assert_eq!(told, code == 1 || code == 2, "{arguments:?} says why: {output:?}");
    }
}

#[test]
fn an_interrupt_ends_a_run_early_and_is_reported() {
    let target = format!("http://{}", serve(right));
    let held = scenario("interrupted.toml", "error_share_max = 0.0\nrate_min = 40");
    for mode in ["open", "closed"] {
        let text = fs::read_to_string(&held).unwrap();
        let closed = text
            .replace("'open'", "'closed'")
            .replace("phases = [{ time = '1s', rate = 80 }]", "time = '1s'\nthink = '20ms'");
        let path = scratch(&format!("interrupted-{mode}.toml"));
        fs::write(&path, if mode == "closed" { closed } else { text }).unwrap();
        let json = scratch(&format!("interrupted-{mode}.json"));
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_corelane-load"))
            .args([
                "run",
                path.to_str().unwrap(),
                "--target",
                &target,
                "--seconds",
                "60",
                "--connections",
                "8",
            ])
            .args(["--quiet", "--json", json.to_str().unwrap()])
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_secs(2));
        let begun = std::time::Instant::now();
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{mode}");
        assert!(begun.elapsed().as_secs() < 3, "{mode}: {:?}", begun.elapsed());
        let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        let seconds = report["about"]["seconds"].as_f64().unwrap();
        assert!((1.0..4.0).contains(&seconds), "{mode}: {seconds}");
        assert!(report["requests"].as_u64().unwrap() > 50, "{mode}");
    }
}

#[test]
fn reports_are_well_formed() {
    let target = format!("http://{}", serve(right));
    let held = scenario("report.toml", "error_share_max = 0.0\nfairness_min = 0.5");
    let (json, html) = (scratch("report.json"), scratch("report.html"));
    let files = [json.to_str().unwrap(), html.to_str().unwrap()];
    let output = load(&["run", &held, "--target", &target, "--json", files[0], "--html", files[1]]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = String::from_utf8(output.stderr).unwrap();
    assert!(lines.contains("1 s of 1") && lines.contains("sent "), "a line a second: {lines}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("holds   share of errors") && table.contains("stream: first event"), "{table}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let requests = report["requests"].as_u64().unwrap();
    assert!((50..=110).contains(&requests), "{requests}");
    let by_work: u64 =
        report["work"].as_array().unwrap().iter().map(|work| work["requests"].as_u64().unwrap()).sum();
    assert_eq!(by_work, requests);
    let by_key: u64 =
        report["keys"].as_array().unwrap().iter().map(|key| key["served"].as_u64().unwrap()).sum();
    assert_eq!(by_key, requests);
    assert_eq!(report["held"], true);
    assert!(report["work"][1]["first_event"]["p99"].as_f64().unwrap() > 0.0);
    assert!(report["work"][1]["gap"]["count"].as_u64().unwrap() > requests);
    assert!(!report["seconds"].as_array().unwrap().is_empty());
    let page = fs::read_to_string(&html).unwrap();
    well_formed(&page);
    assert!(page.matches("<svg").count() >= 5, "plots");
    assert!(page.contains("A &lt;test&gt; of") && page.contains("chat &amp; &lt;more&gt;"));
    for foreign in ["<script", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert_eq!(page.matches("://").count(), 1, "no address but the target's");
}

/// Every tag is closed in its order, and every & begins an entity.
fn well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        if open.last() != Some(&"style") {
            assert!(text.split('&').skip(1).all(|after| after.contains(';')), "{text}");
            assert!(!text.contains('>'), "{text}");
        }
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes what is open");
        } else if !tag.ends_with('/') {
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            open.push(tag.split(' ').next().unwrap());
        }
    }
    assert!(open.is_empty(), "{open:?}");
}
