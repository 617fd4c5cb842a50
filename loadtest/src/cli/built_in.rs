//! The scenarios of `loadtest/scenarios/`, as they were when this was built.

/// Names and texts.
pub const SCENARIOS: [(&str, &str); 1] = [("closed", include_str!("../../scenarios/closed.toml"))];
