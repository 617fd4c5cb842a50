//! Who may call, how often, and what is scanned: changed under running requests.

use std::fs;
use std::time::{Duration, SystemTime};

use corelane::sim::Options;

use super::scripted::{CHAT, post_with, posted, read, text};
use super::support::answer::Reader;
use super::support::fleet::{Fleet, chat, json, model, post, raw};
use super::support::{Gateway, assert_gauges_zero};
use super::{Site, changed, configured, served_by, until};

fn key(name: &str, secret: &str, more: &str) -> String {
    format!("[[keys]]\nname = \"{name}\"\nsecret = \"{secret}\"\n{more}\n")
}

fn with_key(gateway: &Gateway, secret: &str) -> u16 {
    let fields = format!("Authorization: Bearer {secret}\r\n");
    post_with(gateway.addr, CHAT, &fields, &chat("m", false)).status
}

/// Waits until so many seconds of this minute are left: quotas begin anew with it.
fn room_in_minute(seconds: u64) {
    let left = || 60 - SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() % 60;
    while left() < seconds {
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn keys_come_and_go() {
    let site = Site::new();
    let gateway = Gateway::start(&site.toml(1, "shards = 2", ""));
    assert_eq!(post(gateway.addr, CHAT, &chat("m", false)).status, 200);
    let lines = changed(&gateway, &site.toml(1, "shards = 2", &key("one", "sk-reload-test-1", "")));
    assert_eq!(lines, ["keys.one: added"]);
    assert_eq!(post(gateway.addr, CHAT, &chat("m", false)).status, 401);
    assert_eq!((with_key(&gateway, "sk-reload-test-1"), with_key(&gateway, "sk-reload-test-2")), (200, 401));
    let fields = "Authorization: Bearer sk-reload-test-1\r\n";
    let mut held = posted(gateway.addr, CHAT, fields, &chat("held", false));
    until("it is held", || (site.gate.held() == 1).then_some(()));
    let lines = changed(&gateway, &site.toml(1, "shards = 2", &key("two", "sk-reload-test-2", "")));
    assert_eq!(lines, ["keys.one: removed", "keys.two: added"]);
    assert_eq!((with_key(&gateway, "sk-reload-test-1"), with_key(&gateway, "sk-reload-test-2")), (401, 200));
    site.gate.open();
    assert_eq!(read(&mut held).status, 200, "it was let in");
    changed(&gateway, &site.toml(1, "shards = 2", ""));
    assert_eq!(post(gateway.addr, CHAT, &chat("m", false)).status, 200);
}

#[test]
fn another_secret_has_the_same_quota() {
    room_in_minute(10);
    let site = Site::new();
    let with = |secret: &str, more: &str| site.toml(1, "shards = 2", &key("one", secret, more));
    let gateway = Gateway::start(&with("sk-reload-test-1", "requests_per_minute = 3"));
    assert_eq!([(); 2].map(|()| with_key(&gateway, "sk-reload-test-1")), [200; 2]);
    let lines = changed(&gateway, &with("sk-reload-fine-2", "requests_per_minute = 3"));
    assert!(lines.len() == 1 && lines[0].starts_with("keys.one.secret"), "{lines:?}");
    assert!(!lines[0].contains("reload-test") && !lines[0].contains("reload-fine"), "{lines:?}");
    assert_eq!(with_key(&gateway, "sk-reload-test-1"), 401);
    assert_eq!([(); 3].map(|()| with_key(&gateway, "sk-reload-fine-2")), [200, 429, 429]);
    changed(&gateway, &with("sk-reload-fine-2", "requests_per_minute = 5"));
    assert_eq!(
        [(); 3].map(|()| with_key(&gateway, "sk-reload-fine-2")),
        [200, 200, 429],
        "three of five are used"
    );
}

#[test]
fn what_a_key_may_use_changes() {
    let site = Site::new();
    let with = |more: &str| site.toml(1, "shards = 1", &key("one", "sk-reload-test-1", more));
    let gateway = Gateway::start(&with(""));
    assert_eq!(with_key(&gateway, "sk-reload-test-1"), 200);
    changed(&gateway, &with("models = [\"held\"]"));
    assert_eq!(with_key(&gateway, "sk-reload-test-1"), 403);
    changed(&gateway, &with("models = [\"m\"]"));
    assert_eq!(with_key(&gateway, "sk-reload-test-1"), 200);
}

/// A zone whose second request is refused for a minute.
fn zone(name: &str, rate: &str) -> String {
    format!(
        "[[limits.zones]]\nname = \"{name}\"\nrate = \"{rate}\"\nkey = \"client_ip\"\nroutes = [\"/v1/chat/\"]\nburst = 0\n"
    )
}

#[test]
fn limits_change() {
    let site = Site::new();
    let toml = |rest: &str| site.toml(1, "shards = 2", rest);
    let gateway = Gateway::start(&toml(&zone("z", "1r/m")));
    let status = || post(gateway.addr, CHAT, &chat("m", false)).status;
    assert_eq!((status(), status()), (200, 429));
    changed(&gateway, &toml(&format!("{}[server.headers]\nx-other = \"1\"\n", zone("z", "1r/m"))));
    assert_eq!(status(), 429, "a zone that stays keeps what it knows");
    changed(&gateway, &toml(&format!("{}{}", zone("y", "1000r/s"), zone("z", "1r/m"))));
    assert_eq!(status(), 429, "wherever it stands");
    let lines = changed(&gateway, &toml(&zone("z", "2r/m")));
    assert!(lines.contains(&"limits.zones.z.rate: \"1r/m\" -> \"2r/m\"".to_owned()), "{lines:?}");
    assert_eq!((status(), status()), (200, 429), "another rate begins anew");
    changed(&gateway, &toml(""));
    assert_eq!((status(), status()), (200, 200));
}

#[test]
fn the_guard_on_and_off_and_otherwise() {
    let site = Site::new();
    let ban = |word: &str| {
        format!(
            "[guard]\n[guard.input]\nscanners = [\"BanSubstrings\"]\n[guard.output]\nscanners = []\n\
             [guard.scanner.BanSubstrings]\nsubstrings = [\"{word}\"]\n"
        )
    };
    let toml = |rest: &str| site.toml(1, "shards = 2", rest);
    let gateway = Gateway::start(&toml(""));
    let say = |word: &str| post(gateway.addr, CHAT, &chat("m", false).replace("hi", word)).status;
    assert_eq!((say("moonlight"), say("starlight")), (200, 200));
    changed(&gateway, &toml(&ban("moonlight")));
    assert_eq!((say("moonlight"), say("starlight")), (400, 200));
    changed(&gateway, &toml(&ban("starlight")));
    assert_eq!((say("moonlight"), say("starlight")), (200, 400), "no verdict is remembered over the change");
    changed(&gateway, &toml(""));
    assert_eq!((say("moonlight"), say("starlight")), (200, 200));
}

#[test]
fn a_list_of_hosts_is_read_again() {
    let file = std::env::temp_dir().join(format!("corelane-reload-hosts-{}", std::process::id()));
    let guard = format!(
        "[guard]\n[guard.input]\nscanners = []\n[guard.output]\nscanners = [\"MaliciousURLs\"]\n\
         [guard.scanner.MaliciousURLs]\ndeny_list = {file:?}\n"
    );
    let journal = super::Journal::default();
    let addr = journal.server("a", |ask| {
        let mut named = ask.clone();
        named.server = "http://host-of-a-list.example/x".to_owned();
        super::good(&named)
    });
    fs::write(&file, "other.example\n").unwrap();
    let toml = super::config(&[("a", addr)], "shards = 1", &format!("{}{guard}", model("m", &["a"], "")));
    let gateway = Gateway::start(&toml);
    let status = || post(gateway.addr, CHAT, &chat("m", false)).status;
    assert_eq!(status(), 200);
    fs::write(&file, "other.example\nhost-of-a-list.example\n").unwrap();
    assert_eq!(status(), 200, "nobody was told to read it");
    changed(&gateway, &toml);
    assert_eq!(status(), 400);
    fs::remove_file(&file).unwrap();
    let answer = super::reload(&gateway, &toml);
    assert_eq!((answer.status, status()), (400, 400), "without it all stays: {}", text(&answer));
}

/// A stream of many words.
fn slow() -> Vec<Options> {
    vec![Options { tokens: 150, token_interval: Duration::from_millis(10), slots: 8, ..Options::default() }]
}

#[test]
fn a_stream_keeps_the_guard_that_it_began_with() {
    let ban = "[guard]\n[guard.input]\nscanners = []\n[guard.output]\nscanners = [\"BanSubstrings\"]\n\
               [guard.scanner.BanSubstrings]\nsubstrings = [\"word word\"]\n";
    for (before, after, passes) in [("", ban, true), (ban, "", false)] {
        let fleet = Fleet::start(slow(), "shards = 1", before).ready();
        let gateway = &fleet.gateway;
        let file = fs::read_to_string(gateway.config_path()).unwrap();
        let mut stream: Reader = posted(gateway.addr, CHAT, "Connection: close\r\n", &chat("llama3.2", true));
        until("it has begun", || fleet.shares().iter().any(|&count| count > 0).then_some(()));
        fs::write(gateway.config_path(), file.replace(ban, "") + after).unwrap(); // it names its driver already
        assert_eq!(post(gateway.admin, "/reload", "").status, 200);
        let text = raw(&mut stream);
        assert_eq!(text.contains("[DONE]") && !text.contains("response_blocked"), passes, "{text}");
        let next = post(gateway.addr, CHAT, &chat("llama3.2", false));
        assert_eq!(next.status == 200, !passes, "the next one has the new guard");
        drop(stream);
        fleet.assert_quiet();
    }
}

#[test]
fn the_admin_listener_asks_for_its_token_at_once() {
    let site = Site::new();
    let gateway = Gateway::start(&site.toml(1, "shards = 1", ""));
    let with = |token: &str| site.toml(1, &format!("shards = 1\nadmin_token = \"{token}\""), "");
    let lines = changed(&gateway, &with("canary-admin-token-1"));
    assert!(lines.len() == 1 && lines[0].starts_with("server.admin_token"), "{lines:?}");
    assert!(!lines[0].contains("canary-admin"), "{lines:?}");
    let reload = |token: &str| {
        let fields = format!("Authorization: Bearer {token}\r\n");
        post_with(gateway.admin, "/reload", &fields, "").status
    };
    assert_eq!(post(gateway.admin, "/reload", "").status, 401);
    assert_eq!(reload("canary-admin-token-1"), 200);
    fs::write(gateway.config_path(), configured(&with("canary-admin-token-2"))).unwrap();
    assert_eq!(reload("canary-admin-token-1"), 200, "it was good when it was shown");
    assert_eq!((reload("canary-admin-token-1"), reload("canary-admin-token-2")), (401, 200));
}

/// Two callers wait in one line; a reload between them changes neither their order nor their number.
#[test]
fn who_waits_goes_on_waiting() {
    let site = Site::new();
    let toml = |round: u32| {
        super::with_slots(
            &site.toml(1, "shards = 2", &format!("[server.headers]\nx-round = \"{round}\"\n")),
            1,
        )
    };
    let gateway = Gateway::start(&toml(0));
    let mut readers: Vec<Reader> = (0..8)
        .map(|at| {
            let reader = posted(gateway.addr, CHAT, "", &chat("held", false));
            super::until_waiting(&gateway, at);
            changed(&gateway, &toml(u32::try_from(at).unwrap() + 1));
            reader
        })
        .collect();
    assert_eq!(super::waiting(&gateway), 7);
    site.gate.open();
    for reader in &mut readers {
        let answer = read(reader);
        assert_eq!((answer.status, json(&answer)["model"].as_str()), (200, Some("held")));
    }
    assert_eq!(served_by(&gateway, "m"), "a");
    drop(readers);
    assert_gauges_zero(&gateway);
}
