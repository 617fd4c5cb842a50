//! Files that are no good, files that ask for what a running process cannot do, and all the ways to have one read.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::process::Command;

use super::scripted::{CHAT, post_with, posted, read, text, value};
use super::support::answer::Reader;
use super::support::fleet::{chat, json, model, post};
use super::support::{Gateway, assert_gauges_zero, metrics};
use super::{Site, changed, configured, reload, served_by, status, until};

fn hup(gateway: &Gateway) {
    let done = Command::new("kill").args(["-HUP", &gateway.pid().to_string()]).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_bad_file_changes_nothing_and_says_all() {
    let site = Site::new();
    let good = site.toml(1, "shards = 2", "");
    let gateway = Gateway::start(&good);
    let mut held = posted(gateway.addr, CHAT, "", &chat("held", false));
    until("it is held", || (site.gate.held() == 1).then_some(()));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let two = good.replace("listen = [\"127.0.0.1:0\"]", &format!("listen = [\"127.0.0.1:0\", \"{taken}\"]"));
    let tls =
        "[server.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = \"/nowhere/c.pem\"\nkey = \"/nowhere/k.pem\"\n";
    let cases: Vec<(String, Vec<&str>)> = vec![
        (String::new(), vec!["endpoints"]),
        ("[server\nlisten = 1".into(), vec![":1: "]),
        (good.replace("shards = 2", "shards = 2\nlissten = 1"), vec!["server.lissten", "listen"]),
        (
            good.replace("shards = 2", "shards = \"x\"\nbody_bytes_max = -1") + "[retry]\nattempts = 0\n",
            vec!["server.shards", "server.body_bytes_max", "retry.attempts"],
        ),
        (format!("{good}{tls}"), vec!["server.tls.cert", "server.tls.key"]),
        (two, vec!["cannot listen on", "in use"]),
        (good.clone() + &model("x", &["nobody"], ""), vec!["nobody"]),
        (
            good.clone() + "[queue]\nheartbeat = \"1ms\"\n[fallbacks]\nmodels_max = 99\n",
            vec!["queue.heartbeat", "fallbacks.models_max"],
        ),
        (good.replace("url = \"http://", "url = \"ftp://"), vec!["endpoints"]),
    ];
    for (at, (toml, words)) in cases.into_iter().enumerate() {
        let toml = toml + "\n[server.headers]\nx-bad = \"1\"\n";
        let toml = if at == 0 { String::new() } else { toml };
        let answer = reload(&gateway, &toml);
        let error = json(&answer)["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 400, "case {at}: {}", text(&answer));
        for word in words {
            assert!(error.contains(word), "case {at}: no {word:?} in {error:?}");
            until("the log says so, too", || gateway.log().contains(word).then_some(()));
        }
        assert_eq!(value(&gateway, "corelane_reloads_refused_total") as usize, at + 1);
        assert_eq!(status(&gateway)["generation"], 1, "case {at}");
        let answer = post(gateway.addr, CHAT, &chat("m", false));
        assert_eq!((answer.status, answer.field("x-bad")), (200, None), "case {at}");
    }
    assert_eq!(value(&gateway, "corelane_reloads_total") as usize, 0);
    assert_eq!(changed(&gateway, &good), Vec::<String>::new(), "the same file: nothing changes");
    assert_eq!(value(&gateway, "corelane_reloads_total") as usize, 1);
    site.gate.open();
    assert_eq!(read(&mut held).status, 200);
    drop(held);
    assert_gauges_zero(&gateway);
}

#[test]
fn a_file_that_is_not_there() {
    let site = Site::new();
    let gateway = Gateway::start(&site.toml(1, "shards = 1", ""));
    fs::remove_file(gateway.config_path()).unwrap();
    let answer = post(gateway.admin, "/reload", "");
    assert_eq!((answer.status, served_by(&gateway, "m").as_str()), (400, "a"), "{}", text(&answer));
}

#[test]
fn what_needs_a_restart_is_said_and_left() {
    let site = Site::new();
    let gateway = Gateway::start(&site.toml(1, "shards = 1", "[log]\naccess = \"off\"\n"));
    let toml = site.toml(
        1,
        "shards = 2\npin = true",
        "[log]\naccess = \"stderr\"\n[server.headers]\nx-new = \"1\"\n",
    );
    let toml = toml.replace("admin_listen = \"127.0.0.1:0\"", "admin_listen = \"127.0.0.2:0\"");
    let lines = changed(&gateway, &toml);
    for key in ["server.shards", "server.pin", "server.admin_listen", "log.access"] {
        let told = lines.iter().filter(|line| line.starts_with(&format!("{key}:"))).collect::<Vec<_>>();
        assert_eq!(told.len(), 1, "{key}: {lines:?}");
        assert!(told[0].contains("needs a restart"), "{told:?}");
    }
    assert_eq!(status(&gateway)["shards"].as_array().unwrap().len(), 1);
    assert_eq!(post(gateway.addr, CHAT, &chat("m", false)).field("x-new"), Some("1"), "the rest counts");
}

#[test]
fn no_secret_is_told() {
    let site = Site::new();
    let with = |n: u32| {
        let keys = format!("[[keys]]\nname = \"k\"\nsecret = \"sk-canary-key-{n}-xyz\"\n");
        let toml = site.toml(1, &format!("shards = 1\nadmin_token = \"canary-token-{n}-xyz\""), &keys);
        toml.replace("[[endpoints]]\n", &format!("[[endpoints]]\napi_key = \"canary-api-{n}-xyz\"\n"))
    };
    let gateway = Gateway::start(&with(1));
    for n in 2..5 {
        fs::write(gateway.config_path(), configured(&with(n))).unwrap();
        let fields = format!("Authorization: Bearer canary-token-{}-xyz\r\n", n - 1);
        let answer = post_with(gateway.admin, "/reload", &fields, "");
        assert_eq!(answer.status, 200, "{}", text(&answer));
        let lines = json(&answer)["changes"].as_array().unwrap().len();
        assert_eq!(lines, 3, "a token, a key, an API key: {}", text(&answer));
        assert!(!text(&answer).contains("canary"), "{}", text(&answer));
    }
    // A file that is refused for something else tells no more.
    fs::write(gateway.config_path(), configured(&with(9)) + "[retry]\nattempts = 0\n").unwrap();
    let answer = post_with(gateway.admin, "/reload", "Authorization: Bearer canary-token-4-xyz\r\n", "");
    assert_eq!(answer.status, 400);
    assert!(!text(&answer).contains("canary") && !gateway.log().contains("canary"), "{}", gateway.log());
}

#[test]
fn by_a_signal_and_by_the_file() {
    let site = Site::new();
    let with = |round: u32, server: &str| {
        site.toml(1, &format!("shards = 2\n{server}"), &format!("[server.headers]\nx-round = \"{round}\"\n"))
    };
    let gateway = Gateway::start(&with(0, ""));
    let round = || post(gateway.addr, CHAT, &chat("m", false)).field("x-round").unwrap().to_owned();
    let write = |toml: &str| fs::write(gateway.config_path(), configured(toml)).unwrap();
    write(&with(1, ""));
    hup(&gateway);
    until("HUP", || (round() == "1").then_some(()));
    write("[server\n");
    hup(&gateway);
    until("it is refused", || gateway.log().contains("reload refused (HUP)").then_some(()));
    assert_eq!(round(), "1");
    // Nobody watches the file before it says so.
    write(&with(2, "watch = true"));
    hup(&gateway);
    until("HUP", || (round() == "2").then_some(()));
    write(&with(3, "watch = true"));
    until("the file is read", || (round() == "3").then_some(()));
    write(&with(4, "watch = true\nlissten = 1"));
    until("it is refused", || gateway.log().contains("reload refused (the file has changed)").then_some(()));
    assert_eq!(round(), "3");
    // Editors put another file in its place.
    let other = gateway.config_path().with_extension("new");
    fs::write(&other, configured(&with(5, "watch = true"))).unwrap();
    fs::rename(&other, gateway.config_path()).unwrap();
    until("the new one is read", || (round() == "5").then_some(()));
    let refused = value(&gateway, "corelane_reloads_refused_total") as usize;
    assert_eq!(refused, 2, "a bad file is read once");
}

/// Descriptors by kind, threads by name, and resident memory in KiB.
fn held(pid: u32) -> (BTreeMap<String, usize>, BTreeMap<String, usize>, u64) {
    let (mut files, mut threads) = (BTreeMap::new(), BTreeMap::new());
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let kind = target.display().to_string().split(":[").next().unwrap_or_default().to_owned();
        *files.entry(kind).or_insert(0) += 1;
    }
    for entry in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        *threads.entry(name.trim().to_owned()).or_insert(0) += 1;
    }
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (files, threads, line.trim().trim_end_matches(" kB").parse().unwrap())
}

#[test]
fn two_hundred_times() {
    let site = Site::new();
    let guard = "[guard]\n[guard.input]\nscanners = [\"BanSubstrings\", \"Secrets\"]\n[guard.output]\nscanners = []\n\
                 [guard.scanner.BanSubstrings]\nsubstrings = [\"moonlight\"]\n";
    let toml = |round: usize| {
        let alias = model(&format!("alias-{}", round % 3), &["a"], "upstream_model = \"m\"");
        let key = format!("[[keys]]\nname = \"k\"\nsecret = \"sk-reload-many-{}\"\n", round % 2);
        let zone = "[[limits.zones]]\nname = \"z\"\nrate = \"1000r/s\"\nkey = \"client_ip\"\nroutes = [\"/v1/\"]\nburst = 1000\n";
        let count = 1 + round % 3;
        site.toml(count, "shards = 2", &format!("{guard}{alias}{key}{zone}"))
    };
    let gateway = Gateway::start(&toml(0));
    let turn = |round: usize| {
        changed(&gateway, &toml(round));
        let fields = format!("Authorization: Bearer sk-reload-many-{}\r\n", round % 2);
        assert_eq!(post_with(gateway.addr, CHAT, &fields, &chat("m", round.is_multiple_of(4))).status, 200);
    };
    // What is kept of 30 rounds (buffers, pools, the first worlds) is not a leak.
    (0..30).for_each(turn);
    assert_gauges_zero(&gateway);
    let (files, threads, resident) = held(gateway.pid());
    (30..231).for_each(turn);
    assert_gauges_zero(&gateway);
    // A pool may hold a connection for each shard and endpoint, six in all, or none; nothing else comes and goes.
    let more = |now: &BTreeMap<String, usize>| -> Vec<String> {
        let allowed = |kind: &str| files.get(kind).unwrap_or(&0) + if kind == "socket" { 6 } else { 0 };
        let grown = now.iter().filter(|(kind, count)| **count > allowed(kind));
        grown.map(|(kind, count)| format!("{count} {kind}")).collect()
    };
    until(&format!("descriptors as before, {files:?}"), || {
        let now = more(&held(gateway.pid()).0);
        now.is_empty().then_some(())
    });
    let (_, after, grown) = held(gateway.pid());
    assert_eq!(after, threads);
    assert!(grown < resident + 6 * 1024, "{resident} KiB before 200 reloads, {grown} KiB after");
    assert_eq!(value(&gateway, "corelane_reloads_total") as usize, 231);
    assert_eq!(status(&gateway)["generation"], 232);
    assert!(metrics(&gateway).len() < 2 << 20, "series do not add up without end");
}

/// Reloads that come all at once, by every way, while requests run.
#[test]
fn all_at_once() {
    let site = Site::new();
    let gateway = Gateway::start(&site.toml(2, "shards = 2", ""));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert_eq!(post(gateway.admin, "/reload", "").status, 200);
                }
            });
        }
        scope.spawn(|| (0..10).for_each(|_| hup(&gateway)));
        for _ in 0..2 {
            scope.spawn(|| (0..50).for_each(|_| drop(served_by(&gateway, "m"))));
        }
    });
    let mut readers: Vec<Reader> = (0..2).map(|_| posted(gateway.addr, CHAT, "", &chat("m", true))).collect();
    assert!(readers.iter_mut().all(|reader| read(reader).status == 200));
    drop(readers);
    assert_eq!(value(&gateway, "corelane_reloads_refused_total") as usize, 0);
    assert_gauges_zero(&gateway);
}
