//! The scenarios of `loadtest/scenarios/`, as they were when this was built.

/// Names and texts.
pub const SCENARIOS: [(&str, &str); 10] = [
    ("development", include_str!("../../scenarios/development.toml")),
    ("production", include_str!("../../scenarios/production.toml")),
    ("restricted", include_str!("../../scenarios/restricted.toml")),
    ("chat-product", include_str!("../../scenarios/chat-product.toml")),
    ("rag-batch", include_str!("../../scenarios/rag-batch.toml")),
    ("failover", include_str!("../../scenarios/failover.toml")),
    ("overload", include_str!("../../scenarios/overload.toml")),
    ("soak", include_str!("../../scenarios/soak.toml")),
    ("closed", include_str!("../../scenarios/closed.toml")),
    ("streams", include_str!("../../scenarios/streams.toml")),
];
