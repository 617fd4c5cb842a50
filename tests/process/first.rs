//! The first five minutes: servers that are found, the banner, the demo, and errors that say what to do next.
//!
//! `first.sh` plays its scenes in a network of its own (`unshare`), so that the usual ports are free and nobody else's.

use std::path::PathBuf;
use std::process::Command;

use super::{corelane, file};

/// A folder of its own, gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("corelane-first-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Plays a scene; what it starts it ends.
fn scene(name: &str) {
    let folder = Folder::new(name);
    let output = Command::new("timeout")
        .args(["100", "unshare", "--map-root-user", "--net", "bash"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/first.sh"))
        .arg(name)
        .current_dir(&folder.0)
        .env("CORELANE", env!("CARGO_BIN_EXE_corelane"))
        .env_remove("OLLAMA_HOST")
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{name}: {}\n{}", output.status, String::from_utf8_lossy(&told));
}

#[test]
fn without_a_server_it_says_what_to_do() {
    scene("nobody");
}

#[test]
fn servers_of_this_machine_are_found() {
    scene("everybody");
}

#[test]
fn a_terminal_gets_a_banner() {
    scene("terminal");
}

#[test]
fn the_demo_ends_and_says_what_is_next() {
    scene("demo");
}

#[test]
fn errors_say_what_to_do_next() {
    let folder = Folder::new("errors");
    let at = |name: &str| folder.0.join(name).display().to_string();
    let server = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\n";
    let endpoint = "[[endpoints]]\nname = \"a\"\nurl = \"http://127.0.0.1:1\"\n";
    let tls = format!(
        "{server}[server.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = \"no.pem\"\nkey = \"no.key\"\n{endpoint}"
    );
    let tls = file("no-tls", &tls);
    let log = file("no-log", &format!("{server}{endpoint}[log]\naccess = {:?}\n", at("none/access.log")));
    let away = server.replace("127.0.0.1:0", "192.0.2.1:0");
    let away = file("away", &format!("{away}{endpoint}"));
    let secret = file("secret", &format!("{endpoint}api_key = \"env:CORELANE_NO_SUCH\"\n"));
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let cases: [(&[&str], i32, &[&str]); 12] = [
        (&["serve", "-c", "/none/corelane.toml"], 2, &["cannot be read", "corelane import", "without -c"]),
        (&["check", "/none/corelane.toml"], 2, &["cannot be read", "corelane import"]),
        (&["check", "/"], 2, &["name the file in it"]),
        (
            &["check", &path(&tls)],
            2,
            &["server.tls.cert: no.pem", "server.tls.key: no.key", "working directory, /"],
        ),
        (&["check", &path(&secret)], 2, &["\"CORELANE_NO_SUCH\" is not set: export it"]),
        (&["serve", "-c", &path(&log)], 1, &["log.access: ", "mkdir -p"]),
        (&["serve", "-c", &path(&away)], 1, &["cannot listen on 192.0.2.1", "ip address", "server.listen"]),
        (&["serve", "-c", &path(&log), "--take-over", "/none"], 1, &["--take-over /none", "handover_socket"]),
        (&["import", "/none/litellm.yaml"], 2, &["cannot be read", "working directory, /"]),
        (&["import", "--nginx", "/"], 2, &["name the file in it"]),
        (
            &["import", "-o", "/none/corelane.toml", "--nginx", "/dev/null"],
            2,
            &["cannot be written", "is its folder there"],
        ),
        (&["status", "--admin", "127.0.0.1:1"], 1, &["no gateway answers on 127.0.0.1:1", "corelane serve"]),
    ];
    for (arguments, code, words) in cases {
        let output = corelane(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        for word in words {
            assert!(told.contains(word), "{arguments:?} does not say '{word}': {told}");
        }
    }
    for path in [tls, log, away, secret] {
        std::fs::remove_file(path).unwrap();
    }
}
