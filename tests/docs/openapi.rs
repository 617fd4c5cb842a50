//! `docs/openapi.yaml` and `docs/openapi-admin.yaml`: valid OpenAPI, no path that the gateway does not have and none left
//! out, and answers to generated requests that are as the files say, without a 5xx.

use std::path::{Path, PathBuf};
use std::process::Command;

use corelane::api::Task;
use corelane::route::{self, Route};
use corelane::sim::{self, Options};
use corelane::wire::http1::Method;
use serde_json::Value;

use super::support::{self, Gateway};

fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-clients/venv/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/test, which installs the clients", python.display());
    python
}

fn script(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("timeout")
        .args(["300".as_ref(), python().as_os_str()])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/openapi.py"))
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), printed)
}

/// Method and path of each operation.
fn operations(file: &str) -> Vec<(String, String)> {
    let (fine, printed) = script(&["paths", file]);
    assert!(fine, "{file}:\n{printed}");
    let value: Value = serde_json::from_str(&printed).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    value.as_array().unwrap().iter().map(|one| (text(&one[0]), text(&one[1]))).collect()
}

#[test]
fn the_files_are_valid_and_have_every_path() {
    let listed = operations("docs/openapi.yaml");
    for (method, path) in &listed {
        let method = if method == "post" { Method::Post } else { Method::Get };
        assert!(route::find(method, path).is_ok(), "the gateway does not serve {path}");
    }
    for (method, path) in [
        (Method::Get, "/v1/models"),
        (Method::Get, "/model/info"),
        (Method::Get, "/model_group/info"),
        (Method::Get, "/health"),
        (Method::Get, "/health/liveliness"),
        (Method::Get, "/health/readiness"),
        (Method::Get, "/metrics"),
        (Method::Get, "/api/tags"),
        (Method::Get, "/api/ps"),
        (Method::Get, "/api/version"),
        (Method::Get, "/"),
        (Method::Post, "/v1/moderations"),
    ] {
        assert!(!matches!(route::find(method, path), Ok(Route::Model(_)) | Err(_)), "{path}");
        assert!(listed.iter().any(|(_, known)| known == path), "{path} is not in docs/openapi.yaml");
    }
    let tasks: Vec<Task> = listed
        .iter()
        .filter_map(|(_, path)| match route::find(Method::Post, path) {
            Ok(Route::Model(task)) => Some(task),
            _ => None,
        })
        .collect();
    let all = [
        Task::Chat,
        Task::Completions,
        Task::Embeddings,
        Task::Responses,
        Task::Messages,
        Task::CountTokens,
        Task::NativeChat,
        Task::NativeGenerate,
        Task::NativeEmbed,
        Task::NativeEmbeddings,
        Task::NativeShow,
        Task::Other,
    ];
    assert!(all.iter().all(|task| tasks.contains(task)), "tasks of docs/openapi.yaml: {tasks:?}");
    assert_eq!(operations("docs/openapi-admin.yaml").len(), 11);
}

#[test]
fn the_examples_fit_the_schema_of_the_configuration() {
    let (fine, printed) = script(&["examples", "config/corelane.schema.json", "config"]);
    assert!(fine, "{printed}");
}

#[test]
fn generated_requests_are_answered_as_the_files_say() {
    let models = ["llama3.2:latest", "mistral:latest", "nomic-embed-text:latest"];
    let sim =
        sim::start(Options { models: models.map(str::to_owned).into(), slots: 64, ..Options::default() })
            .unwrap();
    let gateway = Gateway::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nshards = 2\n\
         [[endpoints]]\nname = \"sim\"\nurl = \"http://{}\"\n[[models]]\nname = \"ollama/*\"\n\
         [[keys]]\nname = \"team-a\"\nsecret = \"the-key-of-team-a\"\n\
         [guard]\n[[limits.zones]]\nname = \"all\"\nrate = \"1000r/s\"\nburst = 1000\n",
        sim.addr
    ));
    let (data, admin) = (format!("http://{}", gateway.addr), format!("http://{}", gateway.admin));
    let (fine, printed) = script(&["exercise", &data, "the-key-of-team-a", &admin]);
    assert!(fine, "{printed}\n--- the gateway says:\n{}", gateway.log());
    support::assert_gauges_zero(&gateway);
    sim.stop();
}
