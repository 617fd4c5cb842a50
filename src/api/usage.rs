//! Tokens of an exchange, as the endpoint counted them.

use crate::wire::Span;
use crate::wire::json::{self, Walk};

/// Tokens in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
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
            b"prompt_tokens" | b"input_tokens" | b"prompt_eval_count" => &mut self.input,
            b"completion_tokens" | b"output_tokens" | b"eval_count" => &mut self.output,
            _ => return,
        };
        if let Some(count) = json::integer(value) {
            *target = count;
        }
    }

    /// Price in USD.
    #[must_use]
    pub fn cost(self, price: crate::config::Price) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let (input, output) = (self.input as f64, self.output as f64);
        (input * price.input_per_1k + output * price.output_per_1k) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_dialect() {
        for text in [
            r#"{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":1}}"#,
            r#"{"input_tokens": 7, "output_tokens": 9}"#,
        ] {
            let mut usage = Usage::default();
            usage.read_object(text.as_bytes(), Span::new(0, text.len()));
            assert_eq!(usage, Usage { input: 7, output: 9 });
        }
        let price =
            crate::config::Price { input_per_1k: 1.0, output_per_1k: 2.0, ..crate::config::Price::default() };
        assert!((Usage { input: 500, output: 250 }.cost(price) - 1.0).abs() < 1e-12);
    }
}
