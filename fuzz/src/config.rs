//! Configuration texts: never a panic; what is accepted keeps the promises of `config`, and can be written back.

use std::collections::BTreeSet;

use corelane::config::{self, Config, normalized};

/// Reads `data` as a configuration file.
pub fn target(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // A secret from a file would read the machine's files, a device among them.
    if text.contains("file:") {
        return;
    }
    match config::parse(&text) {
        Ok(config) => sound(&config),
        Err(problems) => {
            let lines = text.lines().count().max(1) + 1;
            assert!(!problems.0.is_empty(), "refused for no reason");
            for problem in &problems.0 {
                assert!(problem.line as usize <= lines, "a mistake in line {} of {lines}", problem.line);
                assert!(!problem.message.is_empty());
            }
            let _ = problems.to_string();
        }
    }
}

fn sound(config: &Config) {
    let names: BTreeSet<_> = config.endpoints.iter().map(|endpoint| &endpoint.name).collect();
    assert_eq!(names.len(), config.endpoints.len(), "endpoint names");
    let models: BTreeSet<_> = config.models.iter().map(|model| normalized(&model.name).to_owned()).collect();
    assert_eq!(models.len(), config.models.len(), "model names");
    for model in &config.models {
        assert!(model.endpoints.iter().all(|&index| index < config.endpoints.len()));
        let chosen = if model.endpoints.is_empty() { config.endpoints.len() } else { model.endpoints.len() };
        assert_eq!(model.weights.len(), chosen, "weights of {:?}", model.name);
        assert!(model.weights.iter().all(|&weight| weight > 0));
    }
    assert!(config.endpoints.iter().all(|endpoint| endpoint.weight > 0 && endpoint.url.port > 0));
    assert!(config.retry.attempts > 0 && config.server.shards != Some(0));
    let written = config::effective(config);
    if config.endpoints.iter().all(|endpoint| endpoint.api_key.is_none()) {
        assert_eq!(config::parse(&written).as_ref(), Ok(config), "written back:\n{written}");
    }
}
