# What one does here; `just` alone lists it.

[private]
default:
    @just --list

# Format, lints, and a build of everything
check:
    cargo fmt --check
    cargo clippy --locked --all-targets --quiet -- --deny warnings

# Everything that CI runs: checks, and every test with both drivers
test:
    scripts/test

# Format the sources
fmt:
    cargo fmt

# Micro-benchmarks
bench *arguments:
    cargo bench --locked {{arguments}}

# Run each fuzz target for so many seconds; needs cargo-fuzz and a nightly toolchain
fuzz seconds="60":
    for target in $(cargo fuzz list); do cargo +nightly fuzz run "$target" -- -max_total_time={{seconds}} || exit 1; done

# The gateway in front of three simulated servers
demo:
    cargo run --release --locked -- demo
