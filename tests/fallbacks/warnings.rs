//! `corelane check` tells of fallbacks that cannot work; they are no errors, and the gateway starts with them.

use std::fs;
use std::process::{Command, Output};

use super::models;
use super::support::fleet::model;

fn check(rest: &str) -> (Output, String) {
    let name = format!("corelane-fallbacks-{}-{:p}.toml", std::process::id(), rest);
    let file = std::env::temp_dir().join(name);
    let endpoints = "[[endpoints]]\nname = \"e\"\nurl = \"http://127.0.0.1:9\"\n\
                     [[endpoints]]\nname = \"v\"\nurl = \"http://127.0.0.1:10\"\nkind = \"openai\"\n";
    fs::write(&file, format!("{endpoints}{rest}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_corelane")).arg("check").arg(&file).output().unwrap();
    fs::remove_file(&file).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn of_each_fallback_that_cannot_work() {
    for (rest, words) in [
        (models("a > nobody, b"), "no model is called \"nobody\""),
        (models("a > a, b"), "\"a\" falls back to itself"),
        (models("a > b, b > a"), "a loop: a -> b -> a"),
        (models("a > b, b > c, c > d, d") + "[fallbacks]\nmodels_max = 2\n", "more than models_max = 2"),
        (
            model("a", &["e"], "upstream_model = \"x\"\nfallbacks = [\"b\"]")
                + &model("b", &["e"], "upstream_model = \"x\""),
            "it can only fail again",
        ),
        (model("a", &["e"], "fallbacks = [\"b\"]") + &model("b", &["v"], ""), "openai endpoints only"),
        (models("a, b") + "[fallbacks]\ndefault = [\"nobody\"]\n", "no model is called \"nobody\""),
        (model("a", &["e"], "context_window_fallbacks = [\"nobody\"]"), "no model is called \"nobody\""),
    ] {
        let (output, said) = check(&rest);
        assert!(output.status.success(), "a warning is no error: {said}");
        let warnings: Vec<&str> = said.lines().filter(|line| line.starts_with("warning: ")).collect();
        assert!(warnings.iter().any(|line| line.contains(words)), "{words:?} is not in {said:?}");
    }
}

#[test]
fn and_of_no_other() {
    let (output, said) = check(&(models("a > b, b > c, c") + "[fallbacks]\ndefault = [\"c\"]\n"));
    assert!(output.status.success());
    assert_eq!(said, "");
}

#[test]
fn what_is_wrong_with_them_is_an_error() {
    for rest in [
        models("a > b*, b"),
        models("a, b") + "[fallbacks]\nmodels_max = 21\n",
        model("a", &["e"], "fallbacks = \"b\""),
        models("a, b") + "[fallbacks]\ndefaults = [\"b\"]\n",
    ] {
        let (output, said) = check(&rest);
        assert_eq!(output.status.code(), Some(2), "{rest}: {said}");
    }
}
