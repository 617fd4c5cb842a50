//! Promise: the manifests for Kubernetes are what its schemas take, and all packages say of the gateway what is so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "manifests/packages.rs"]
mod packages;
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Reads YAML documents, validates each by the schemas of a version of Kubernetes, and prints them as JSON.
const SCRIPT: &str = r#"
import json, sys, warnings
warnings.simplefilter("ignore")
import yaml, kubernetes_validate as kube
documents = [one for one in yaml.safe_load_all(open(sys.argv[1])) if one]
for one in documents:
    kube.validate(one, sys.argv[2], strict=True)
print(json.dumps(documents))
"#;

fn documents(file: &str, version: &str) -> Result<Vec<Value>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/test-clients/venv/bin/python");
    let output = Command::new(&python)
        .args(["-c", SCRIPT])
        .arg(root.join(file))
        .arg(version)
        .output()
        .expect("python of target/test-clients: run scripts/test, which installs it");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// YAML documents as they are.
fn documents_of(file: &str) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = "import json, sys, yaml; print(json.dumps([one for one in yaml.safe_load_all(open(sys.argv[1])) if one]))";
    let mut python = Command::new(root.join("target/test-clients/venv/bin/python"));
    let output =
        python.args(["-c", script]).arg(root.join(file)).output().expect("python of target/test-clients");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_fleet_is_valid_and_tells_the_truth() {
    let file = "config/kubernetes/corelane.yaml";
    let all = documents(file, "1.34").unwrap_or_else(|error| panic!("{error}"));
    documents(file, "1.30").unwrap_or_else(|error| panic!("an older version: {error}"));
    let of = |kind: &str| all.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
    assert_eq!(all.len(), 5);

    let pod = &of("Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let text = of("ConfigMap")["data"]["corelane.toml"].as_str().unwrap();
    // Its secret comes from the pod's environment.
    let text = text.replace("env:CORELANE_ADMIN_TOKEN", "a-token-for-this-test");
    let config = corelane::config::parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.fleet.enabled && config.cache.is_on());
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].as_u64().unwrap()
    };
    assert_eq!(port("http"), u64::from(config.server.listen[0].port()));
    assert_eq!(port("admin"), u64::from(config.server.admin_listen.port()));

    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    assert!(grace > before + config.server.drain_timeout.as_secs());
    for (probe, route) in [("readinessProbe", "Readiness"), ("livenessProbe", "Liveness")] {
        let get = &container[probe]["httpGet"];
        let path = get["path"].as_str().unwrap();
        let found = corelane::route::find(corelane::wire::http1::Method::Get, path).unwrap();
        assert_eq!((format!("{found:?}").as_str(), get["port"].as_str()), (route, Some("http")));
    }

    // What the autoscaler goes by exists, under that name, in the rule for the adapter too.
    let metric = of("HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"].clone();
    let metric = metric.as_str().unwrap();
    let rule = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("config/kubernetes/prometheus-adapter.yaml"),
    );
    assert!(rule.unwrap().contains(&format!("as: \"{metric}\"")));
    assert_eq!(metric, "corelane_exchanges_in_flight"); // tests/limits.rs reads it from the page
    let selector = &of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"];
    assert_eq!(selector, &of("Deployment")["spec"]["selector"]["matchLabels"]);
    assert_eq!(selector, &of("Service")["spec"]["selector"]);
}

#[test]
fn what_is_wrong_is_found() {
    let folder = std::env::temp_dir().join(format!("corelane-manifests-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let good = fs::read_to_string(root.join("config/kubernetes/corelane.yaml")).unwrap();
    for (from, to) in [("replicas: 3", "replicas: three"), ("periodSeconds: 2", "periodSecond: 2")] {
        let path = folder.join("bad.yaml");
        fs::write(&path, good.replace(from, to)).unwrap();
        assert!(good.contains(from) && documents(path.to_str().unwrap(), "1.34").is_err(), "{to}");
    }
    let _ = fs::remove_dir_all(&folder);
}
