//! Each line of the checklist: what makes it fine, what it warns of, and what it fails for.

use super::*;
use crate::config::parse;

const GOOD: &str = r#"
[server]
listen = []
[server.tls]
listen = ["0.0.0.0:8443"]
cert = "cert.pem"
key = "key.pem"
[[endpoints]]
name = "gpu-1"
url = "http://192.168.1.2:11434"
[[endpoints]]
name = "gpu-2"
url = "http://192.168.1.11:11434"
[[models]]
name = "ollama/llama3.2"
[guard]
[limits]
concurrent_per_client = 10
[[limits.zones]]
name = "chat"
rate = "5r/s"
[[keys]]
name = "team-a"
secret = "0123456789abcdef01234567"
"#;

fn facts() -> Facts {
    Facts {
        open_files: 1 << 20,
        memlock_bytes: 8 << 20,
        memory_bytes: Some(16 << 30),
        kernel: "6.12.0".to_owned(),
        has_uring: true,
        certificates: vec![("cert.pem".to_owned(), 1_900_000_000)],
        now_s: 1_800_000_000,
        clock_is_kept: Some(true),
        alerts: Some(PathBuf::from("alerts.yml")),
        alert_places: vec![PathBuf::from("alerts.yml")],
    }
}

fn lines(text: &str, facts: &Facts) -> Vec<Line> {
    judge(&parse(text).unwrap_or_else(|problems| panic!("{problems}\n{text}")), facts)
}

/// The one line of that name says so.
fn expect(text: &str, facts: &Facts, name: &str, verdict: Verdict, part: &str) {
    let lines = lines(text, facts);
    let line = lines.iter().find(|line| line.name == name).unwrap();
    assert_eq!(line.verdict, verdict, "{line}\n{text}");
    assert!(line.found.contains(part), "{line}");
    assert_eq!(line.remedy.is_empty(), verdict == Verdict::Ok, "{line}");
}

/// As the good file with one piece replaced.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

/// As the good file with something before its first array of tables, or with a key of a section that is there.
fn with(section: &str) -> String {
    format!("{GOOD}\n{section}")
}

#[test]
fn a_good_file_is_fine_in_every_line() {
    let lines = lines(GOOD, &facts());
    let wrong: Vec<String> =
        lines.iter().filter(|line| line.verdict != Verdict::Ok).map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(summary(&lines), format!("0 failed, 0 to look at, {} fine", lines.len()));
    let mut names: Vec<&str> = lines.iter().map(|line| line.name).collect();
    names.dedup();
    assert_eq!(names.len(), lines.len(), "a name a line");
}

#[test]
fn what_strangers_can_reach() {
    use Verdict::{Fail, Ok, Warn};
    let bare =
        changed("[server.tls]\nlisten = [\"0.0.0.0:8443\"]\ncert = \"cert.pem\"\nkey = \"key.pem\"", "");
    let listening = |addresses: &str| bare.replacen("listen = []", &format!("listen = [{addresses}]"), 1);
    let (open, near) = (listening("\"0.0.0.0:8000\""), listening("\"127.0.0.1:8000\""));
    expect(&open, &facts(), "tls", Fail, "in clear, on 0.0.0.0:8000");
    expect(&near, &facts(), "tls", Ok, "only this machine");
    let proxied = open.replacen("[[endpoints]]", "trusted_proxies = [\"10.0.0.1\"]\n[[endpoints]]", 1);
    expect(&proxied, &facts(), "tls", Ok, "a proxy has it");
    expect(&proxied, &facts(), "proxies", Ok, "1 range may say");
    let everyone = proxied.replacen("10.0.0.1", "0.0.0.0/0", 1);
    expect(&everyone, &facts(), "proxies", Fail, "every address");
    let both = changed("listen = []", "listen = [\"0.0.0.0:8000\"]");
    expect(&both, &facts(), "tls", Warn, "also come in clear");
    let redirected = both.replacen("key = \"key.pem\"", "key = \"key.pem\"\nredirect_http = true", 1);
    expect(&redirected, &facts(), "tls", Ok, "0.0.0.0:8443");
    let token = |token: &str| {
        let admin = format!("listen = []\nadmin_listen = \"0.0.0.0:8001\"\n{token}");
        changed("listen = []", &admin)
    };
    expect(&token(""), &facts(), "admin", Fail, "whoever reaches it");
    expect(&token("admin_token = \"short-one\""), &facts(), "admin", Fail, "fewer than 16");
    expect(&token("admin_token = \"0123456789abcdef01234567\""), &facts(), "admin", Ok, "with a token");
}

#[test]
fn certificates_that_end() {
    let day = 24 * 60 * 60;
    let ending = |end: u64| Facts { certificates: vec![("cert.pem".to_owned(), end)], ..facts() };
    let now = facts().now_s;
    expect(GOOD, &ending(now), "certificate", Verdict::Fail, "expired");
    expect(GOOD, &ending(now - 1), "certificate", Verdict::Fail, "expired");
    expect(GOOD, &ending(now + 13 * day), "certificate", Verdict::Warn, "13 days");
    expect(GOOD, &ending(now + 14 * day), "certificate", Verdict::Ok, "14 days");
}

#[test]
fn callers_and_their_rates() {
    use Verdict::{Fail, Ok, Warn};
    let key = "[[keys]]\nname = \"team-a\"\nsecret = \"0123456789abcdef01234567\"\n";
    expect(&changed(key, ""), &facts(), "keys", Fail, "everyone who reaches");
    let near = changed(key, "").replacen("0.0.0.0:8443", "127.0.0.1:8443", 1);
    expect(&near, &facts(), "keys", Warn, "every process");
    let secret = |secret: &str| changed("secret = \"0123456789abcdef01234567\"", secret);
    expect(&secret("secret = \"12345678\""), &facts(), "keys", Fail, "fewer than 16 characters: team-a");
    expect(&secret("secret = \"0123456789abcdef\""), &facts(), "keys", Warn, "fewer than 24");
    let sum = "sha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"";
    expect(&secret(sum), &facts(), "keys", Ok, "1 key");
    let over = format!("{sum}\nexpires = 2020-01-01T00:00:00Z");
    expect(&secret(&over), &facts(), "keys", Warn, "expired: team-a");
    let zone = "[[limits.zones]]\nname = \"chat\"\nrate = \"5r/s\"\n";
    expect(&changed(zone, ""), &facts(), "rates", Fail, "as fast as it can");
    let by_key = changed(zone, "").replacen(key, &format!("{key}requests_per_minute = 60\n"), 1);
    expect(&by_key, &facts(), "rates", Ok, "0 zones");
    expect(&changed("concurrent_per_client = 10", ""), &facts(), "rates", Warn, "every slot");
    let many: String =
        (0..6).map(|n| format!("[[keys]]\nname = \"k{n}\"\nsecret = \"secret-{n}\"\n")).collect();
    expect(&with(&many), &facts(), "keys", Fail, "k0, k1, k2, k3 and 2 more");
}

#[test]
fn the_work_itself() {
    use Verdict::{Fail, Ok, Warn};
    expect(&changed("[guard]", "[guard]\nenabled = false"), &facts(), "guard", Warn, "nothing is scanned");
    let off = changed("name = \"ollama/llama3.2\"", "name = \"ollama/llama3.2\"\nguard = \"off\"");
    expect(&off, &facts(), "guard", Warn, "not scanned: ollama/llama3.2");
    let monitor = "[guard]\n[guard.input]\nscanners = [\"Toxicity\"]\n[guard.output]\nscanners = []\n\
                   [guard.scanner.Toxicity]\naction = \"monitor\"";
    expect(&changed("[guard]", monitor), &facts(), "guard", Warn, "stop nothing");
    let alone = changed("name = \"ollama/llama3.2\"", "name = \"ollama/llama3.2\"\nendpoints = [\"gpu-1\"]");
    expect(&alone, &facts(), "endpoints", Warn, "serves ollama/llama3.2");
    let keyed = changed("name = \"gpu-2\"", "name = \"gpu-2\"\napi_key = \"sk-1\"");
    expect(&keyed, &facts(), "upstream keys", Warn, "plain http to gpu-2");
    expect(&keyed.replace("http://192.168.1.11", "https://gpu"), &facts(), "upstream keys", Ok, "none");
    expect(&with("[health]\nenabled = false"), &facts(), "health", Fail, "no probes");
    expect(&with("[health]\ninterval = \"2m\""), &facts(), "health", Warn, "after 360 s");
    expect(
        &changed("listen = []", "listen = []\nbody_bytes_max = \"100MiB\""),
        &facts(),
        "bounds",
        Warn,
        "100MiB",
    );
    let small = Facts { memory_bytes: Some(1 << 30), ..facts() };
    expect(GOOD, &small, "bounds", Warn, "1024 MiB of the 1024 MiB");
    expect(GOOD, &Facts { memory_bytes: None, ..facts() }, "bounds", Ok, "20MiB");
    expect(&with("[redis]\nurl = \"redis://127.0.0.1\""), &facts(), "redis", Ok, "this machine");
    expect(&with("[redis]\nurl = \"redis://r.example\""), &facts(), "redis", Warn, "whoever reaches it");
    expect(&with("[redis]\nurl = \"redis://u:a-password@r.example\""), &facts(), "redis", Warn, "in clear");
    expect(&with("[redis]\nurl = \"rediss://u:a-password@r.example\""), &facts(), "redis", Ok, "TLS");
    expect(&with("[log]\nlevel = \"debug\""), &facts(), "log", Warn, "debug");
    expect(&with("[log]\naccess = \"off\""), &facts(), "log", Warn, "no line");
    expect(&with("[log]\naccess = \"./a.log\""), &facts(), "log", Ok, "a.log");
    expect(&with("[log]\nbodies = true"), &facts(), "privacy", Warn, "masked");
    expect(&with("[log]\nbodies = true\nmask = false"), &facts(), "privacy", Fail, "as they are");
}

#[test]
fn what_the_machine_has() {
    use Verdict::{Fail, Ok, Warn};
    let files = |open_files| Facts { open_files, ..facts() };
    expect(GOOD, &files(100_000), "open files", Ok, "100000 may be open");
    expect(GOOD, &files(60_000), "open files", Warn, "max_connections is 50000");
    expect(GOOD, &files(50_000), "open files", Fail, "50000 may be open");
    let locked = Facts { memlock_bytes: 64 << 10, ..facts() };
    let journal =
        |writer: &str| with(&format!("[log]\naccess = \"./a.log\"\n[log.journal]\nwriter = \"{writer}\""));
    expect(GOOD, &locked, "memlock", Ok, "64 KiB");
    expect(&journal("auto"), &locked, "memlock", Warn, "64 KiB");
    expect(&journal("direct"), &locked, "memlock", Fail, "512 KiB");
    expect(&journal("buffered"), &locked, "memlock", Ok, "64 KiB");
    expect(&journal("direct"), &Facts { memlock_bytes: u64::MAX, ..facts() }, "memlock", Ok, "all memory");
    let denied = Facts { has_uring: false, ..facts() };
    let driver = |driver: &str| changed("listen = []", &format!("listen = []\ndriver = \"{driver}\""));
    expect(GOOD, &facts(), "kernel", Ok, "6.12.0, with io_uring");
    expect(GOOD, &denied, "kernel", Warn, "epoll is used");
    expect(&driver("io_uring"), &denied, "kernel", Fail, "demands it");
    expect(&driver("epoll"), &denied, "kernel", Ok, "as configured");
    expect(GOOD, &Facts { clock_is_kept: Some(false), ..facts() }, "clock", Warn, "no time server");
    expect(GOOD, &Facts { clock_is_kept: None, ..facts() }, "clock", Warn, "does not say");
    expect(GOOD, &Facts { now_s: 1000, ..facts() }, "clock", Fail, "before 2025");
    expect(GOOD, &Facts { alerts: None, ..facts() }, "alerts", Warn, "alerts.yml");
}

#[test]
fn a_line_reads_well() {
    let fine = Line::ok("health", "a probe every 30 s");
    assert_eq!(fine.to_string(), "ok    health        a probe every 30 s");
    let wrong = Line::warn("endpoints", "one alone", "add a second one");
    assert_eq!(wrong.to_string(), "warn  endpoints     one alone\n                    add a second one");
    assert_eq!(Line::fail("tls", "in clear", "cert").verdict, Verdict::Fail);
}
