//! A price list as LiteLLM publishes it (`model_prices_and_context_window.json`): an object of models, each with
//! `input_cost_per_token`, `output_cost_per_token` and `cache_read_input_token_cost` in USD.
//!
//! Entries without a cost by token (images, seconds of sound) are left out. Invariant: every price is 0 or more and finite.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Price;
use super::check::normalized;

/// Prices by the normalized names of models.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prices(HashMap<String, Price>);

impl Prices {
    /// Reads the text of a list.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let list: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("is no JSON object of models: {error}"))?;
        let mut prices = HashMap::with_capacity(list.len());
        for (name, entry) in list.iter().filter(|(name, _)| *name != "sample_spec") {
            let Value::Object(entry) = entry else {
                return Err(format!("the entry of {name:?} is no object"));
            };
            if let Some(price) = price(entry).map_err(|key| format!("{key} of {name:?} is no price"))? {
                prices.insert(normalized(name), price);
            }
        }
        if prices.is_empty() {
            return Err("names no model with a cost by token".to_owned());
        }
        Ok(Self(prices))
    }

    /// The price of a model, by any of the names that it goes by; the first that is listed counts. A name without its
    /// provider is found under `ollama/` too.
    #[must_use]
    pub fn of(&self, names: &[&str]) -> Option<Price> {
        if self.0.is_empty() {
            return None;
        }
        names.iter().map(|name| normalized(name)).find_map(|name| {
            let bare = name.rsplit_once('/').map_or(name.as_str(), |(_, bare)| bare);
            let found = self.0.get(&name).or_else(|| self.0.get(bare));
            found.or_else(|| self.0.get(&format!("ollama/{bare}"))).copied()
        })
    }
}

/// `None`: it is not sold by the token.
fn price(entry: &Map<String, Value>) -> Result<Option<Price>, &'static str> {
    let cost = |key: &'static str| match entry.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(cost) if cost.is_finite() && cost >= 0.0 => Ok(Some(cost * 1000.0)),
            _ => Err(key),
        },
    };
    let (input, output) = (cost("input_cost_per_token")?, cost("output_cost_per_token")?);
    if input.is_none() && output.is_none() {
        return Ok(None);
    }
    Ok(Some(Price {
        input_per_1k: input.unwrap_or_default(),
        output_per_1k: output.unwrap_or_default(),
        cached_input_per_1k: cost("cache_read_input_token_cost")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{
        "sample_spec": {"input_cost_per_token": "text"},
        "gpt-4o": {"input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05, "cache_read_input_token_cost": 1.25e-06},
        "ollama/llama3.2": {"input_cost_per_token": 0.0, "output_cost_per_token": 1e-6},
        "dall-e-3": {"output_cost_per_image": 0.04}
    }"#;

    #[test]
    fn models_are_found_by_any_of_their_names() {
        let prices = Prices::parse(LIST).unwrap();
        let gpt = prices.of(&["nobody", "openai/GPT-4o"]).unwrap();
        assert!((gpt.input_per_1k - 0.0025).abs() < 1e-12 && (gpt.output_per_1k - 0.01).abs() < 1e-12);
        assert!((gpt.cached_input_per_1k.unwrap() - 0.00125).abs() < 1e-12);
        assert!((prices.of(&["llama3.2:latest"]).unwrap().output_per_1k - 0.001).abs() < 1e-12);
        assert_eq!(prices.of(&["dall-e-3"]), None);
        assert_eq!(Prices::default().of(&["gpt-4o"]), None);
    }

    #[test]
    fn mistakes_are_told() {
        for (text, what) in [
            ("[]", "no JSON object"),
            ("{}", "no model"),
            (r#"{"a": 1}"#, "\"a\" is no object"),
            (r#"{"a": {"input_cost_per_token": -1}}"#, "input_cost_per_token of \"a\" is no price"),
            (r#"{"a": {"output_cost_per_token": "x"}}"#, "output_cost_per_token of \"a\""),
        ] {
            let error = Prices::parse(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
