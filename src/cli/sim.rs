//! `corelane sim`: one simulated Ollama server, for tests and load tests.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{FAILED, complain, say};
use crate::sim::{self, Options};

/// What the server is like.
#[derive(Debug, Args)]
pub struct SimArgs {
    /// Where it listens; port 0 lets the kernel choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A model it has; may be repeated.
    #[arg(long = "model")]
    models: Vec<String>,
    /// Generations at once, per model.
    #[arg(long, default_value_t = 4)]
    slots: usize,
    /// Tokens of an answer.
    #[arg(long, default_value_t = 32)]
    tokens: usize,
    /// Milliseconds between tokens; 0: as fast as it goes.
    #[arg(long, default_value_t = 0)]
    token_ms: u64,
    /// Milliseconds before the first token.
    #[arg(long, default_value_t = 0)]
    prefill_ms: u64,
    /// Milliseconds to load a model.
    #[arg(long, default_value_t = 0)]
    load_ms: u64,
    /// Bytes of the text of answers that are not streamed, instead of what was said.
    #[arg(long)]
    answer_bytes: Option<usize>,
    /// Answer whatever `Host` the request names.
    #[arg(long)]
    any_host: bool,
}

/// Runs until it is killed.
#[must_use]
pub fn run(args: SimArgs) -> ExitCode {
    let defaults = Options::default();
    let options = Options {
        listen: args.listen,
        models: if args.models.is_empty() { defaults.models } else { args.models },
        slots: args.slots,
        tokens: args.tokens,
        token_interval: Duration::from_millis(args.token_ms),
        prefill: Duration::from_millis(args.prefill_ms),
        load_time: Duration::from_millis(args.load_ms),
        answer: args.answer_bytes.map(|bytes| "x".repeat(bytes)),
        check_host: !args.any_host,
        ..Options::default()
    };
    match sim::start(options) {
        Ok(server) => {
            say(&format!("ready http={}", server.addr));
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}
