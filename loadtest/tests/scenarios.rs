//! Promise: every scenario and every gateway configuration beside it can be used as it stands, and is documented.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test code

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use corelane_load::scenario::Scenario;
use support::{corelane, folder, load, scratch};

/// Names of the TOML files of a folder, without the ending.
fn names(inside: &str) -> BTreeSet<String> {
    let paths = fs::read_dir(folder().join(inside)).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|kind| kind == "toml"));
    files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_scenario_is_read_built_in_and_documented() {
    let listed = String::from_utf8(load(&["list"]).stdout).unwrap();
    let built_in: BTreeSet<String> =
        listed.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert_eq!(names("scenarios"), built_in);
    let page = fs::read_to_string(folder().join("../docs/loadtest.md")).unwrap();
    let gateways = names("scenarios/gateway");
    for name in &built_in {
        let path = folder().join("scenarios").join(format!("{name}.toml"));
        let scenario = Scenario::load(&path).unwrap();
        assert!(scenario.sla.error_share_max.is_some(), "{name}: errors are judged");
        assert!(
            scenario.work.iter().all(|work| work.sla.p99_ms.or(work.sla.first_p99_ms).is_some()),
            "{name}: times are judged"
        );
        assert!(page.contains(&format!("`{name}`")), "{name} is in docs/loadtest.md");
        let text = fs::read_to_string(&path).unwrap();
        let said = text.split("scenarios/gateway/").nth(1).unwrap().split(".toml").next().unwrap();
        assert!(gateways.contains(said), "{name} names the gateway {said}");
        assert!(text.contains("#   corelane-load run"), "{name} says how it is run");
    }
}

#[test]
fn every_gateway_configuration_is_right() {
    for (from, to) in [("cert.pem", "key.pem")].map(|(a, b)| (scratch(a), scratch(b))) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(from, made.cert.pem()).unwrap();
        fs::write(to, made.signing_key.serialize_pem()).unwrap();
    }
    for name in names("scenarios/gateway") {
        let path = folder().join("scenarios/gateway").join(format!("{name}.toml"));
        let checked = Command::new(corelane())
            .arg("check")
            .arg(&path)
            .current_dir(scratch("").as_path())
            .output()
            .unwrap();
        assert!(checked.status.success(), "{name}: {checked:?}");
    }
}
