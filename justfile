# What one does here; `just` alone lists it.

[private]
default:
    @just --list

# Format, lints, and a build of everything
check:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets --quiet -- --deny warnings

# Everything that CI runs: checks, and every test with both drivers
test:
    scripts/test

# Format the sources
fmt:
    cargo fmt --all

# Micro-benchmarks
bench *arguments:
    cargo bench --locked {{arguments}}

# Instructions of the hot paths against their record, by valgrind: `just instructions --record` after a change that is meant
instructions *arguments:
    scripts/instructions {{arguments}}

# Run a load test: `just load chat-product --target http://127.0.0.1:8000`; docs/loadtest.md
load *arguments:
    cargo run --release --locked --package corelane-load -- run {{arguments}}

# Run each fuzz target for so many seconds; needs cargo-fuzz and a nightly toolchain
fuzz seconds="60":
    for target in $(cargo fuzz list); do cargo +nightly fuzz run "$target" -- -max_total_time={{seconds}} || exit 1; done

# The gateway in front of three simulated servers
demo:
    cargo run --release --locked -- demo
