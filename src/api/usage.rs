//! Tokens of an exchange, as the endpoint counted them, or as what is known of its model estimates them.
//!
//! Names of counters: OpenAI's chat, completions and responses, Anthropic's messages, Ollama's native API. A count is what
//! the endpoint says, never corrected. Source of the fields: `research` of the three APIs, section 3 of the OpenAI reference.

use crate::wire::Span;
use crate::wire::json::{self, Walk};

/// Largest count that is believed: beyond it an endpoint speaks nonsense, and sums stay exact.
const COUNT_MAX: u64 = 1 << 40;

/// What an exchange has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// Prompt tokens of `input` that the endpoint had in its cache.
    pub cached: u64,
    /// Prompt tokens beside `input` that were read from a cache (Anthropic).
    pub cache_read: u64,
    /// Prompt tokens beside `input` that were written to a cache (Anthropic).
    pub cache_written: u64,
    /// Completion tokens of `output` that were spent on reasoning.
    pub reasoning: u64,
    /// Time that the endpoint says it has worked on prompt and answer, in nanoseconds; 0: it does not say.
    pub work_ns: u64,
    /// The endpoint has said `input` or `output`.
    pub told: bool,
    /// `input` and `output` are estimates.
    pub estimated: bool,
}

impl Usage {
    /// Reads a `usage` object of the OpenAI or Anthropic kind; counts that it does not name stay as they are.
    pub fn read_object(&mut self, text: &[u8], object: Span) {
        let Ok(mut walk) = Walk::object(object.of_bytes(text), 0) else { return };
        let inside = object.of_bytes(text);
        while let Ok(Some(member)) = walk.member() {
            self.read_member(member.key.of_bytes(inside), member.value.of_bytes(inside));
        }
    }

    /// Takes one counter, by any of the names the dialects use.
    pub fn read_member(&mut self, key: &[u8], value: &[u8]) {
        let target = match key {
            b"prompt_tokens" | b"input_tokens" | b"prompt_eval_count" => {
                self.told |= json::integer(value).is_some();
                &mut self.input
            }
            b"completion_tokens" | b"output_tokens" | b"eval_count" => {
                self.told |= json::integer(value).is_some();
                &mut self.output
            }
            b"cache_read_input_tokens" => &mut self.cache_read,
            b"cache_creation_input_tokens" => &mut self.cache_written,
            b"prompt_tokens_details" | b"input_tokens_details" => {
                return detail(value, b"cached_tokens", &mut self.cached);
            }
            b"completion_tokens_details" | b"output_tokens_details" => {
                return detail(value, b"reasoning_tokens", &mut self.reasoning);
            }
            b"prompt_eval_duration" | b"eval_duration" => {
                let work_ns = json::integer(value).unwrap_or_default();
                self.work_ns = self.work_ns.saturating_add(work_ns.min(WORK_NS_MAX));
                return;
            }
            _ => return,
        };
        if let Some(count) = json::integer(value) {
            *target = count.min(COUNT_MAX);
        }
    }

    /// Prompt tokens, those of caches included.
    #[must_use]
    pub fn input_all(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_written)
    }

    /// Price in USD. Prompt tokens from a cache have their own price where one is known; what is written to a cache costs
    /// what any prompt token costs.
    #[must_use]
    pub fn cost(&self, price: crate::config::Price) -> f64 {
        let cached_price = price.cached_input_per_1k.unwrap_or(price.input_per_1k);
        let within = self.cached.min(self.input);
        let plain = (self.input - within).saturating_add(self.cache_written);
        let cached = within.saturating_add(self.cache_read);
        (real(plain) * price.input_per_1k
            + real(cached) * cached_price
            + real(self.output) * price.output_per_1k)
            / 1000.0
    }
}

/// A day: an endpoint that claims more for one answer speaks nonsense.
const WORK_NS_MAX: u64 = 86_400_000_000_000;

fn detail(object: &[u8], key: &[u8], target: &mut u64) {
    let found = json::find(object, key).and_then(|member| json::integer(member.value.of_bytes(object)));
    if let Some(count) = found {
        *target = count.min(COUNT_MAX);
    }
}

#[expect(clippy::cast_precision_loss, reason = "token counts are below 2^42")]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Price;

    fn read(text: &str) -> Usage {
        let mut usage = Usage::default();
        usage.read_object(text.as_bytes(), Span::new(0, text.len()));
        usage
    }

    #[test]
    fn reads_every_dialect() {
        let openai = read(
            r#"{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":1,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":4}}"#,
        );
        let told = Usage { input: 7, output: 9, told: true, ..Usage::default() };
        assert_eq!(openai, Usage { cached: 1, reasoning: 4, ..told });
        let responses = read(
            r#"{"input_tokens": 7, "output_tokens": 9, "input_tokens_details": {"cached_tokens": 2}, "output_tokens_details": null}"#,
        );
        assert_eq!(responses, Usage { cached: 2, ..told });
        let anthropic = read(
            r#"{"input_tokens":7,"cache_creation_input_tokens":20,"cache_read_input_tokens":30,"output_tokens":9}"#,
        );
        assert_eq!(anthropic, Usage { cache_read: 30, cache_written: 20, ..told });
        assert_eq!(anthropic.input_all(), 57);
        let ollama = read(
            r#"{"prompt_eval_count":7,"prompt_eval_duration":1000,"eval_count":9,"eval_duration":5000}"#,
        );
        assert_eq!(ollama, Usage { work_ns: 6000, ..told });
    }

    #[test]
    fn nonsense_is_bounded() {
        let usage = read(r#"{"prompt_tokens":999999999999999999,"completion_tokens":-3,"eval_count":1e3}"#);
        assert_eq!((usage.input, usage.output), (COUNT_MAX, 0));
        assert!(!read(r#"{"prompt_tokens":null}"#).told);
    }

    #[test]
    fn costs() {
        let price = Price { input_per_1k: 1.0, output_per_1k: 2.0, cached_input_per_1k: None };
        let usage = Usage { input: 500, output: 250, ..Usage::default() };
        assert!((usage.cost(price) - 1.0).abs() < 1e-12);
        let cheaper = Price { cached_input_per_1k: Some(0.1), ..price };
        let cached = Usage { cached: 400, ..usage };
        assert!((cached.cost(cheaper) - (0.1 + 0.04 + 0.5)).abs() < 1e-12);
        let beside = Usage { cache_read: 1000, cache_written: 100, ..usage };
        assert!((beside.cost(cheaper) - (0.5 + 0.1 + 0.1 + 0.5)).abs() < 1e-12);
    }
}
