//! Packages: image, compose file, units, completions, manual and bill say of the gateway what is so. What is made of
//! them is tried by `scripts/package --verify`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use corelane::config::{self, Config};
use corelane::sim::Options;
use serde_json::Value;

use super::support::fleet::{Fleet, chat, connect, draining, post, quick, send, until};
use super::support::metrics;

/// A file of the repository.
fn text(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn corelane(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corelane")).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A folder of this test, removed with its value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("corelane-packages-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A configuration whose secret comes from an environment that this test does not have.
fn loaded(text: &str) -> Config {
    let text = text.replace("env:CORELANE_ADMIN_TOKEN", "a-token-for-this-test");
    config::parse(&text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The words of an instruction of the Dockerfile's last stage that is written as JSON.
fn instruction(stage: &str, name: &str) -> Vec<String> {
    let line = stage.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    serde_json::from_str(&line[line.find('[').expect("as JSON: there is no shell")..]).unwrap()
}

#[test]
fn the_image_is_a_binary_that_looks_after_itself() {
    let dockerfile = text("Dockerfile");
    let (_, stage) = dockerfile.rsplit_once("\nFROM ").unwrap();
    assert!(stage.starts_with("scratch\n") && !stage.contains("\nRUN "));
    let copied: Vec<&str> = stage.lines().filter(|line| line.starts_with("COPY ")).collect();
    assert_eq!(copied.len(), 2, "the binary and the authorities: {copied:?}");
    let user = stage.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    let (user, group) = user.split_once(':').unwrap();
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0, "names need /etc/passwd");
    assert_eq!(instruction(stage, "ENTRYPOINT"), ["/corelane"]);
    assert!(corelane(&[&instruction(stage, "CMD")[0], "--help"]).status.success());

    // The health check, as it would run: with the configuration where `serve` finds it.
    let check = instruction(stage, "HEALTHCHECK");
    assert_eq!(check[0], "/corelane");
    let folder = Folder::new("image");
    let fleet = Fleet::start(quick(1), "admin_token = \"a-token-of-this-image\"", "");
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(&check[1..]).current_dir(&folder.0).output().unwrap()
    };
    let toml = fs::read_to_string(fleet.gateway.config_path()).unwrap();
    let listening = toml.lines().find(|line| line.starts_with("admin_listen")).unwrap();
    let here = toml.replace(listening, &format!("admin_listen = \"{}\"", fleet.gateway.admin));
    folder.write("corelane.toml", &here);
    until("its endpoint is up", || said(&run()).contains("healthy: 1 of 1 endpoints are up").then_some(()));
    assert!(run().status.success());
    folder.write("corelane.toml", &here.replace("a-token-of-this-image", "another-token-than-its"));
    let refused = run();
    assert!(refused.status.code() == Some(1) && said(&refused).contains("401"), "{}", said(&refused));
}

#[test]
fn health_is_an_exit_code() {
    let slow = Options { tokens: 60, token_interval: Duration::from_millis(50), ..quick(1).remove(0) };
    let mut fleet = Fleet::start(vec![slow, quick(1).remove(0)], "drain_timeout = \"20s\"", "").ready();
    let admin = fleet.gateway.admin.to_string();
    let healthy = |admin: &str| corelane(&["status", "--healthy", "--admin", admin]);
    let well = healthy(&admin);
    assert_eq!((well.status.code(), said(&well).trim()), (Some(0), "healthy: 2 of 2 endpoints are up"));
    assert_eq!(post(fleet.gateway.admin, "/endpoints/e1/disable", "").status, 200);
    assert_eq!(said(&healthy(&admin)).trim(), "healthy: 1 of 2 endpoints are up");
    assert!(corelane(&["status", "--admin", &admin]).status.success(), "the whole state, as before");
    let mut stream = connect(fleet.gateway.addr);
    send(&mut stream, "/v1/chat/completions", &chat("llama3.2", true));
    until("it runs", || metrics(&fleet.gateway).contains("in_flight{endpoint=\"e0\"} 1").then_some(()));
    assert_eq!(post(fleet.gateway.admin, "/drain", "").status, 202);
    until("it drains", || draining(&fleet.gateway).then_some(()));
    let drains = healthy(&admin);
    assert_eq!(
        (drains.status.code(), said(&drains).contains("it drains")),
        (Some(1), true),
        "{}",
        said(&drains)
    );
    drop(stream);
    until("it exits", || (!fleet.gateway.alive()).then_some(()));
    assert_eq!(healthy(&admin).status.code(), Some(1), "nobody is there");
    assert_eq!(corelane(&["status", "--healthy", "-c", "/nowhere.toml"]).status.code(), Some(1));
}

#[test]
fn the_compose_file_fits_what_it_starts() {
    let compose = &super::documents_of("config/compose/compose.yaml")[0];
    let services = &compose["services"];
    let gateway = &services["corelane"];
    let config = loaded(&text("config/compose/corelane.toml"));
    let published = |service: &Value| -> Vec<String> {
        service["ports"].as_array().unwrap().iter().map(|port| port.as_str().unwrap().to_owned()).collect()
    };
    let data = config.server.listen[0].port();
    let admin = config.server.admin_listen.port();
    assert_eq!(published(gateway), [format!("{data}:{data}"), format!("127.0.0.1:{admin}:{admin}")]);
    assert!(config.server.admin_token.is_some(), "other containers reach the admin listener");
    assert!(config.cache.is_on() && config.fleet.enabled);
    assert_eq!(gateway["stop_grace_period"], "45s");
    assert!(config.server.drain_timeout.as_secs() < 45);
    for name in ["prometheus", "grafana"] {
        assert!(published(&services[name]).iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
    }
    assert!(services["redis"].get("ports").is_none());
    // Every file that is mounted is there.
    let mut mounted = 0;
    for service in services.as_object().unwrap().values() {
        let volumes = service["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let files = volumes.iter().filter_map(Value::as_str).filter(|volume| volume.starts_with('.'));
        for file in files.map(|volume| volume.split(':').next().unwrap()) {
            assert!(root().join("config/compose").join(file).exists(), "{file}");
            mounted += 1;
        }
    }
    assert_eq!(mounted, 6);
    let profile = gateway["security_opt"][1].as_str().unwrap().strip_prefix("seccomp=").unwrap();
    assert!(root().join("config/compose").join(profile).is_file(), "{profile}");
    let grafana = text("config/grafana/provisioning/datasources/prometheus.yml");
    assert!(grafana.contains("http://prometheus:9090"), "it finds Prometheus by the service's name");
}

#[test]
fn prometheus_of_the_compose_file_scrapes_the_gateway() {
    let folder = Folder::new("prometheus");
    for name in ["recording.yml", "alerts.yml"] {
        folder.write(name, &text(&format!("config/prometheus/{name}")));
    }
    let token = folder.write("token", "a-token-for-this-test");
    let page = text("config/compose/prometheus.yml");
    assert!(page.contains("corelane:8001") && page.contains("job_name: corelane"));
    let page = page.replace("/etc/prometheus/corelane-admin-token", &token);
    let file = folder.write("prometheus.yml", &page);
    let checked = Command::new("promtool").args(["check", "config", &file]).output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
}

#[test]
fn the_seccomp_profile_lets_the_gateway_work() {
    let profile: Value = serde_json::from_str(&text("config/container/seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let allowed: HashSet<&str> = profile["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["names"].as_array().unwrap())
        .map(|name| name.as_str().unwrap())
        .collect();
    // The calls that were counted.
    let threats = text("docs/threat-model.md");
    let list = threats.split_once("- both drivers: ").unwrap().1.split_once("\n\n").unwrap().0;
    let counted: Vec<&str> = list
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !matches!(*word, "" | "io_uring" | "epoll"))
        .collect();
    assert!(counted.len() > 50 && counted.contains(&"io_uring_enter"), "{counted:?}");
    let missing: Vec<_> = counted.iter().filter(|name| !allowed.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for name in ["ptrace", "mount", "bpf", "unshare", "setns", "keyctl", "init_module", "process_vm_readv"] {
        assert!(!allowed.contains(name), "{name}");
    }
}

/// What a unit says of `key`, in order.
fn settings<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let settings = unit.lines().filter_map(|line| line.split_once('='));
    settings.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

#[test]
fn the_units_fit_the_configuration_that_comes_with_them() {
    let (service, socket) = (text("packaging/corelane.service"), text("packaging/corelane.socket"));
    let config = loaded(&text("packaging/corelane.toml"));
    let one = |key: &str| -> u64 {
        settings(&service, key)[0].parse().unwrap_or_else(|error| panic!("{key}: {error}"))
    };
    assert!(one("TimeoutStopSec") > config.server.drain_timeout.as_secs());
    assert!(one("LimitNOFILE") >= 2 * config.server.max_connections as u64);
    assert_eq!(settings(&service, "Type"), ["notify"]);
    assert!(one("WatchdogSec") >= 3, "the main thread looks ten times a second");
    for command in settings(&service, "ExecStart").iter().chain(&settings(&service, "ExecReload")[..1]) {
        let mut words = command.split(' ');
        assert_eq!(words.next(), Some("/usr/bin/corelane"));
        let known = corelane(&words.chain(["--help"]).collect::<Vec<_>>());
        assert!(known.status.success(), "{command}: {}", said(&known));
    }
    // systemd waits for no process that is not its child, as after an upgrade in place: the unit has to.
    assert!(settings(&service, "ExecStop")[0].contains("while kill -0 \"$MAINPID\""));
    assert!(settings(&service, "SystemCallFilter").iter().any(|calls| calls.contains("io_uring_enter")));
    // What it must not do without saying so.
    assert!(config.server.listen.iter().all(|address| address.ip().is_loopback()), "not open to the network");
    assert!(config.server.admin_listen.ip().is_loopback());
    let streams = settings(&socket, "ListenStream");
    let listen: Vec<String> = config.server.listen.iter().map(ToString::to_string).collect();
    assert_eq!(streams, listen, "sockets are taken by their addresses");
}

#[test]
fn shells_complete_the_command_line() {
    let folder = Folder::new("shells");
    for (shell, words) in [
        ("bash", ["complete -F", "--take-over"]),
        ("zsh", ["#compdef corelane", "--take-over"]),
        ("fish", ["complete -c corelane", "take-over"]),
    ] {
        let made = corelane(&["completions", shell]);
        assert!(made.status.success());
        let script = String::from_utf8(made.stdout).unwrap();
        assert!(words.iter().all(|word| script.contains(word)), "{shell}:\n{script}");
        if shell == "bash" {
            let file = folder.write("corelane.bash", &script);
            let ask = format!(
                "source {file}; COMP_WORDS=(corelane st); COMP_CWORD=1; _corelane corelane st corelane; echo \"${{COMPREPLY[*]}}\""
            );
            let reads = Command::new("bash").args(["--norc", "-n", &file]).output().unwrap();
            assert!(reads.status.success() && reads.stderr.is_empty(), "{}", said(&reads));
            let completed = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
            assert_eq!(said(&completed).trim(), "status");
        }
    }
    assert_eq!(corelane(&["completions", "cmd"]).status.code(), Some(2));
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let folder = Folder::new("manual");
    let made = corelane(&["man", "--output", folder.0.to_str().unwrap()]);
    assert!(made.status.success(), "{}", said(&made));
    let mut pages: Vec<String> = fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    let help = said(&corelane(&["--help"]));
    let commands = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let mut named: Vec<String> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|word| !word.is_empty()))
        .filter(|command| *command != "help")
        .map(|command| format!("corelane-{command}.1"))
        .chain(["corelane.1".to_owned()])
        .collect();
    named.sort();
    assert_eq!(pages, named);
    for page in &pages {
        let file = folder.0.join(page);
        let shown =
            Command::new("groff").args(["-man", "-ww", "-Tutf8", "-P-c"]).arg(&file).output().unwrap();
        assert!(
            shown.status.success() && shown.stderr.is_empty(),
            "{page}: {}",
            String::from_utf8_lossy(&shown.stderr)
        );
        assert!(shown.stdout.len() > 300, "{page}");
    }
    let first = corelane(&["man"]);
    assert_eq!(first.stdout, fs::read(folder.0.join("corelane.1")).unwrap(), "the same bytes each time");
    let first = String::from_utf8(first.stdout).unwrap();
    for part in ["SIGNALS", "USR2", "/etc/corelane/corelane.toml", "EXIT STATUS", "corelane\\-serve(1)"] {
        assert!(first.contains(part), "no {part} in:\n{first}");
    }
}

#[test]
fn the_bill_names_what_is_linked_and_nothing_else() {
    let folder = Folder::new("bill");
    let (sbom, licences) = (folder.0.join("sbom.json"), folder.0.join("licences.txt"));
    let made = Command::new("python3")
        .arg(root().join("packaging/bill.py"))
        .args(["--target", "x86_64-unknown-linux-gnu", "--sbom"])
        .arg(&sbom)
        .arg("--licences")
        .arg(&licences)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let bill: Value = serde_json::from_slice(&fs::read(&sbom).unwrap()).unwrap();
    let components = bill["components"].as_array().unwrap();
    let names: HashSet<&str> = components.iter().map(|one| one["name"].as_str().unwrap()).collect();
    let lock = text("Cargo.lock");
    for one in components {
        let (name, version) = (one["name"].as_str().unwrap(), one["version"].as_str().unwrap());
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")), "{name} {version}");
        assert!(one["licenses"][0]["expression"].is_string(), "{name} has no licence");
        assert_eq!(one["hashes"][0]["content"].as_str().map(str::len), Some(64), "{name}");
    }
    assert!(["monoio", "ring", "libmimalloc-sys", "clap"].iter().all(|name| names.contains(name)));
    for only_built in ["syn", "serde_derive", "cc", "corelane-load"] {
        assert!(!names.contains(only_built), "{only_built} is not linked");
    }
    let licences = fs::read_to_string(&licences).unwrap();
    assert!(licences.contains("Permission is hereby granted") && licences.contains("Mozilla Public License"));
    assert!(names.iter().all(|name| licences.contains(&format!("\n{name} "))));
}
