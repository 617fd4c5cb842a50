//! `TokenLimit`: whether a prompt has fewer tokens than a limit. It stops counting at the limit.
//!
//! Exact for the encodings of GPT ([`tokens`]); text that spells a special token counts as ordinary text. A token has at
//! least one byte, so a text of fewer bytes than tokens allowed is not counted at all, and none has more than
//! [`TOKEN_BYTES_MAX`].
//! `bytes/N` is an estimate: a token per N bytes, rounded up; English has about 4, Chinese and Japanese 2 to 3.
//! Cost: nothing below the limit in bytes, else about 90 ns a token up to the limit.

use std::borrow::Cow;

use crate::config::guard::{self, Encoding, ScannerName};
use crate::guard::tokens::{self, TOKEN_BYTES_MAX, Tokenizer};
use crate::guard::verdict::{Finding, Found};

/// The scanner.
pub struct TokenLimit {
    limit: usize,
    encoding: Encoding,
    tokenizer: Option<&'static Tokenizer>,
}

/// Tokens of a request so far, over all its texts.
#[derive(Debug, Clone, Default)]
pub struct State {
    tokens: usize,
    /// Bytes of the present text that are counted.
    at: usize,
    over: bool,
}

impl TokenLimit {
    /// Builds the tables of the encoding, once a process: 110 ms of CPU for cl100k, 230 for o200k, beside other work.
    ///
    /// # Errors
    /// The vocabulary does not belong to this program.
    pub fn new(settings: &guard::TokenLimit) -> Result<Self, String> {
        let tokenizer = match settings.encoding_name {
            Encoding::Cl100k => Some(tokens::cl100k()),
            Encoding::O200k => Some(tokens::o200k()),
            Encoding::Bytes(_) => None,
        };
        let tokenizer = tokenizer.transpose().map_err(|error| error.to_string())?;
        Ok(Self { limit: settings.limit, encoding: settings.encoding_name, tokenizer })
    }

    /// At the start of a request.
    #[must_use]
    pub fn start(&self) -> State {
        State::default()
    }

    /// Whether texts of `bytes` in all may have as many tokens as the limit: else nothing need be counted.
    #[must_use]
    pub fn may_exceed(&self, bytes: usize) -> bool {
        bytes >= self.limit
            || matches!(self.encoding, Encoding::Bytes(per) if estimate(bytes, per) >= self.limit)
    }

    /// Counts at least `bytes` more of `text`, if it has them; `true`: all of it is counted, or the limit is reached.
    pub fn count(&self, state: &mut State, text: &str, bytes: usize, found: &mut Found) -> bool {
        if state.over {
            return true;
        }
        let rest = text.get(state.at..).unwrap_or_default();
        let done = match (self.tokenizer, self.encoding) {
            (Some(tokenizer), _) => self.exact(state, tokenizer, rest, bytes),
            (None, Encoding::Bytes(per)) => {
                state.tokens += estimate(rest.len(), per);
                true
            }
            (None, _) => true,
        };
        if state.tokens >= self.limit {
            state.over = true;
            found.add(self.finding(text));
            return true;
        }
        if done {
            state.at = 0;
        }
        done
    }

    /// Whole pre-tokens of `rest`: none looks behind its own start, so counting may go on there.
    fn exact(&self, state: &mut State, tokenizer: &Tokenizer, rest: &str, bytes: usize) -> bool {
        if rest.len() / TOKEN_BYTES_MAX >= self.limit - state.tokens {
            state.tokens = self.limit;
            return true;
        }
        let mut taken = 0;
        for piece in tokenizer.pieces(rest) {
            if taken >= bytes {
                state.at += taken;
                return false;
            }
            taken += piece.len();
            let left = self.limit - state.tokens;
            match tokenizer.count_piece(piece, left) {
                Some(tokens) if tokens < left => state.tokens += tokens,
                _ => {
                    state.tokens = self.limit;
                    return true;
                }
            }
        }
        true
    }

    fn finding(&self, text: &str) -> Finding {
        Finding {
            scanner: ScannerName::TokenLimit,
            rule: Cow::Borrowed("limit"),
            span: 0..text.len(),
            score: 1.0,
            reason: format!("{} tokens or more, of which fewer than {} are allowed", self.limit, self.limit),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate of a length"
)]
fn estimate(bytes: usize, per: f32) -> usize {
    (bytes as f64 / f64::from(per)).ceil() as usize
}

#[cfg(test)]
mod tests;
