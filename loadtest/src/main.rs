//! `corelane-load`: the load test of gateways in front of language models.

use std::process::ExitCode;

fn main() -> ExitCode {
    corelane_load::cli::main()
}
