//! `corelane check --production` over the real binary: lines, exit codes, and a certificate that ends.

use std::fs;
use std::process::{Command, Output};

fn check(folder: &std::path::Path, text: &str, more: &[&str]) -> (Option<i32>, String) {
    fs::write(folder.join("c.toml"), text).unwrap();
    let output: Output = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["check", "--production", "c.toml"])
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn verdict<'a>(printed: &'a str, name: &str) -> &'a str {
    let line = printed.lines().find(|line| line.get(6..).is_some_and(|rest| rest.starts_with(name)));
    line.unwrap_or_else(|| panic!("no line {name}:\n{printed}")).split(' ').next().unwrap()
}

#[test]
fn a_file_is_judged_on_this_machine() {
    let folder = std::env::temp_dir().join(format!("corelane-production-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(["gateway.example".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(
        folder.join("alerts.yml"),
        "groups: [{name: a, rules: [{alert: A, expr: corelane_exchanges_in_flight > 9}]}]",
    )
    .unwrap();
    let secret = "0123456789abcdef01234567";
    let good = format!(
        "[server]\nlisten = []\nmax_connections = 100\nbuffered_bytes_max = \"64MiB\"\n[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
         [[endpoints]]\nname = \"a\"\nurl = \"http://192.168.1.2:11434\"\n[[endpoints]]\nname = \"b\"\nurl = \"http://192.168.1.11:11434\"\n\
         [guard]\n[limits]\nconcurrent_per_client = 10\n[[limits.zones]]\nname = \"all\"\nrate = \"10r/s\"\n\
         [[keys]]\nname = \"team-a\"\nsecret = \"{secret}\"\n[log]\naccess = \"stderr\"\n"
    );
    let (code, printed) = check(&folder, &good, &["--alerts", "alerts.yml"]);
    for name in [
        "tls",
        "certificate",
        "keys",
        "rates",
        "admin",
        "guard",
        "endpoints",
        "health",
        "bounds",
        "open files",
        "alerts",
    ] {
        assert_eq!(verdict(&printed, name), "ok", "{name}:\n{printed}");
    }
    assert!(code == Some(0) && printed.contains("c.toml: 0 failed"), "{code:?}\n{printed}");
    assert!(!printed.contains(secret), "a secret is shown");

    let open = good
        .replace("[[keys]]\nname = \"team-a\"", "[[keys]]\nname = \"team-b\"")
        .replace(secret, "12345678");
    let (code, printed) = check(&folder, &open, &[]);
    assert_eq!(
        (code, verdict(&printed, "keys"), verdict(&printed, "alerts")),
        (Some(1), "fail", "warn"),
        "{printed}"
    );
    assert!(printed.contains("team-b") && printed.contains("openssl rand -hex 24"), "{printed}");

    let (code, printed) = check(&folder, "[server]\nlistne = []\n", &[]);
    assert!(code == Some(2) && printed.contains("did you mean `listen`?"), "{code:?}\n{printed}");
    let _ = fs::remove_dir_all(&folder);
}
