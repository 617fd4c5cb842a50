//! Promise: only `net` touches the runtime and the kernel, nothing of the gateway is linked, and decisions know no sockets.
#![allow(clippy::unwrap_used)] // test code

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn rooms_keep_to_themselves() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30);
    let pure = ["answer", "chance.rs", "measure.rs", "outcome.rs", "plan", "scenario"];
    for file in files {
        let (name, text) = (file.strip_prefix(&root).unwrap(), fs::read_to_string(&file).unwrap());
        let code = || text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let has = |words: &[&str]| code().any(|line| words.iter().any(|word| line.contains(word)));
        if !name.starts_with("net") {
            assert!(!has(&["monoio::", "rustix::", "io_uring::"]), "{name:?} touches the runtime");
        }
        if pure.iter().any(|room| name.starts_with(room)) {
            let beyond = ["crate::net", "crate::drive", "crate::report", "Instant::now", "SystemTime"];
            assert!(!has(&beyond), "{name:?} reaches beyond itself");
        }
        assert!(!has(&["use corelane::", "corelane::"]), "{name:?} links the gateway");
    }
    let manifest = fs::read_to_string(root.join("../Cargo.toml")).unwrap();
    assert!(!manifest.contains("path = \"..\""), "the gateway is no dependency");
}
