//! The `corelane` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: corelane::net::memory::Allocator = corelane::net::memory::Allocator;

fn main() -> ExitCode {
    corelane::net::memory::small_pages();
    corelane::cli::run()
}
