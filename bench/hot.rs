//! What each hot path of a request takes: `cargo bench --bench hot` (divan). Records: `bench/record/hot-*.md`.
//!
//! The paths are those whose instructions `scripts/instructions` counts. Times differ from machine to machine, and from hour to hour on a
//! shared one: compare them within one run.
#![allow(clippy::unwrap_used, clippy::panic)] // a bench

mod paths;

use std::cell::RefCell;
use std::fmt;

use divan::Bencher;

#[global_allocator]
static ALLOCATOR: corelane::net::memory::Allocator = corelane::net::memory::Allocator;

thread_local! {
    /// Set once: it takes longer than most paths.
    static STAGE: RefCell<paths::Stage> = RefCell::new(paths::Stage::set());
}

struct Named(paths::Path);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.0)
    }
}

#[divan::bench(args = paths::ALL.map(Named))]
fn path(bencher: Bencher<'_, '_>, named: &Named) {
    let Named((_, call)) = named;
    STAGE.with_borrow_mut(|stage| bencher.bench_local(|| call(stage)));
}

fn main() {
    divan::main();
}
