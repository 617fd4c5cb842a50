//! The command itself: exit codes, files that are kept, where the report goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use super::data;
use super::support::tls::Ca;

/// A folder that goes with its value.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("import-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `corelane import` in a folder.
pub fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .arg("import")
        .args(arguments)
        .current_dir(folder)
        .env("SET_HERE", "http://10.9.9.9:11434")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

const PLAIN: &str = "model_list:\n  - model_name: a\n    litellm_params:\n      model: ollama/a\n      api_base: http://h:11434\n";

#[test]
fn exit_codes_say_what_came_of_it() {
    let folder = Folder::new();
    folder.write("exact.yaml", PLAIN);
    folder.write("inexact.yaml", &format!("{PLAIN}unknown: 1\n"));
    folder.write("refused.yaml", &format!("{PLAIN}general_settings:\n  allowed_ips: [10.0.0.1]\n"));
    folder.write("broken.yaml", "a: [");
    let code = |arguments: &[&str]| run(&folder.0, arguments).0;
    assert_eq!(code(&["--litellm", "exact.yaml"]), 0);
    assert_eq!(code(&["exact.yaml", "--strict"]), 0);
    assert_eq!(code(&["exact.yaml", "--litellm", "exact.yaml"]), 2);
    assert_eq!(code(&["--litellm", "inexact.yaml"]), 0);
    assert_eq!(code(&["--litellm", "inexact.yaml", "--strict"]), 1);
    assert_eq!(code(&["--litellm", "refused.yaml"]), 1);
    assert_eq!(code(&["--litellm", "broken.yaml"]), 2);
    assert_eq!(code(&["--litellm", "not-there.yaml"]), 2);
    assert_eq!(code(&[]), 2);
    let (_, _, told) = run(&folder.0, &["--litellm", "broken.yaml"]);
    assert!(told.contains("broken.yaml:2: no valid YAML"), "{told}");
}

#[test]
fn the_result_goes_where_it_should_and_files_are_kept() {
    let folder = Folder::new();
    folder.write("a.yaml", PLAIN);
    let (code, out, told) = run(&folder.0, &["--litellm", "a.yaml"]);
    assert!(code == 0 && out.contains("[[models]]") && told.contains("a.yaml:5: exact: "), "{out}{told}");
    let arguments = ["--litellm", "a.yaml", "--output", "b.toml", "--report", "b.txt"];
    let (code, out, told) = run(&folder.0, &arguments);
    assert_eq!((code, out.as_str()), (0, ""), "{told}");
    let report = fs::read_to_string(folder.0.join("b.txt")).unwrap();
    assert!(told.contains(&report) && report.ends_with("0 refused\n"), "{report}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(folder.0.join("b.toml")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o077, 0, "keys may stand in it");
    let (code, _, told) = run(&folder.0, &arguments);
    assert!(code == 2 && told.contains("--force"), "{told}");
    assert_eq!(run(&folder.0, &[&arguments[..], &["--force"]].concat()).0, 0);
    assert_eq!(run(&folder.0, &["--litellm", "a.yaml", "--report", "-"]).0, 2, "both to standard output");
}

#[test]
fn variables_of_the_process_and_missing_ones_are_told() {
    let folder = Folder::new();
    folder.write("a.yaml", &PLAIN.replace("http://h:11434", "os.environ/SET_HERE"));
    let (code, out, told) = run(&folder.0, &["--litellm", "a.yaml"]);
    assert!(code == 0 && out.contains("\"http://10.9.9.9:11434\""), "{out}{told}");
    let text = format!("{PLAIN}      api_key: os.environ/SURELY_NOT_SET\n");
    folder.write("b.yaml", &text);
    let (code, out, told) = run(&folder.0, &["--litellm", "b.yaml"]);
    assert!(code == 0 && out.contains("api_key = \"env:SURELY_NOT_SET\""), "{out}{told}");
    assert!(told.contains("before the start: environment variable \"SURELY_NOT_SET\" is not set"), "{told}");
}

#[test]
fn the_guides_files_are_imported_and_checked() {
    let folder = Folder::new();
    let [litellm, nginx, env] = ["litellm_config.yaml", "nginx-litellm.conf", "env"]
        .map(|name| data("guide").join(name).display().to_string());
    let arguments = ["--litellm", &litellm, "--nginx", &nginx, "--env", &env, "--output", "corelane.toml"];
    let (code, _, told) = run(&folder.0, &arguments);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains(" 0 refused"), "{told}");
    let toml = fs::read_to_string(folder.0.join("corelane.toml")).unwrap();
    let ca = Ca::new();
    let pair = ca.issue("gateway", &["llm.example"]);
    let placed = toml
        .replace("/etc/nginx/ssl/cert.pem", &pair.cert.display().to_string())
        .replace("/etc/nginx/ssl/key.pem", &pair.key.display().to_string());
    let path = folder.write("placed.toml", &placed);
    let output = Command::new(env!("CARGO_BIN_EXE_corelane")).arg("check").arg(path).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.is_empty(), "{told}");
}

#[test]
fn includes_with_patterns_are_found_on_disk() {
    let folder = Folder::new();
    let case = data("cases/parts").display().to_string();
    let (_, out, told) = run(
        &folder.0,
        &["--litellm", &format!("{case}/litellm.yaml"), "--nginx", &format!("{case}/nginx.conf")],
    );
    assert!(out.contains("trusted_proxies = [\"10.0.0.0/8\", \"172.16.0.0/12\"]"), "{out}\n{told}");
    assert!(told.contains("snippets/missing.conf cannot be read"), "{told}");
}
