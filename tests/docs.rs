//! Promise: the documentation says what is. Every command of README.md and `docs/` is run, in order, and prints what the page
//! shows; the OpenAPI files are valid and the gateway answers as they say; `corelane check --production` judges a file.
//!
//! How a page says what is run is told in `docs/page.rs`. What is not run says why, and is counted here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "docs/openapi.rs"]
mod openapi;
#[path = "docs/page.rs"]
mod page;
#[path = "docs/production.rs"]
mod production;
#[path = "docs/stage.rs"]
mod stage;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Commands that cannot be run here, in all pages.
const NOT_RUN_MAX: usize = 20;

/// A test for each page that has commands.
macro_rules! pages {
    ($($test:ident $page:literal,)*) => {
        const PAGES: &[&str] = &[$($page),*];
        $(#[test]
        fn $test() {
            stage::Stage::set($page).play($page);
        })*
    };
}

pages! {
    readme "README.md",
    quickstart "docs/quickstart.md",
    api "docs/api.md",
    checklist "docs/checklist.md",
    configuration "docs/configuration.md",
    explain "docs/explain.md",
    guards "docs/guards.md",
    import "docs/import.md",
    migration "docs/migration.md",
    security "docs/security.md",
    troubleshooting "docs/troubleshooting.md",
    ui "docs/ui.md",
}

#[test]
fn every_page_with_commands_is_played() {
    let mut found = BTreeSet::new();
    for name in page::names() {
        let blocks = page::blocks(&name);
        let untagged: Vec<usize> =
            blocks.iter().filter(|block| block.language().is_empty()).map(|block| block.line).collect();
        assert!(untagged.is_empty(), "{name}: blocks without a language, in lines {untagged:?}");
        if blocks.iter().any(|block| block.language() == "sh" && !block.has("no-run")) {
            found.insert(name);
        }
    }
    found.remove("docs/clients.md"); // tests/clients.rs runs its blocks, each with its client
    let played: BTreeSet<String> = PAGES.iter().map(|page| (*page).to_owned()).collect();
    assert!(found.is_subset(&played), "pages that no test plays: {:?}", found.difference(&played));
}

#[test]
fn what_is_not_run_says_why() {
    let mut count = 0;
    for name in page::names() {
        for block in page::blocks(&name).iter().filter(|block| block.has("no-run")) {
            let why = block.why.as_deref().unwrap_or_default();
            assert!(
                why.len() > 10,
                "{name}:{}: a command that is not run, and no reason before it",
                block.line
            );
            println!("{name}:{}: not run: {why}", block.line);
            count += 1;
        }
    }
    assert!(count <= NOT_RUN_MAX, "{count} blocks are not run");
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for name in page::names() {
        let folder = root.join(&name).parent().unwrap().to_path_buf();
        let text = fs::read_to_string(root.join(&name)).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || target.contains("://") || target.contains(' ');
            if !elsewhere && !folder.join(file).exists() {
                broken.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "links to nothing:\n{}", broken.join("\n"));
}
