//! How many tokens a text has in the encodings of GPT, exactly.
//!
//! A text is cut into pieces (words, numbers, runs of spaces) by the patterns of tiktoken, and a piece into tokens by byte-pair encoding.
//! The vocabularies are compiled in as the pairs of tokens that each token is made of (`training/tokens.py`), 1.1 MB for both;
//! their tables are built at the first use, which is when a configuration that counts tokens is loaded.
//!
//! Invariant: counts equal tiktoken's for every text (tests hold recorded ones; special tokens are text).
//! Cost: 90 ns a token of prose, two thirds of it for the pieces; linear in the worst case. Tables: 7 MB for cl100k, 15 MB for o200k,
//! once a process. Source: patterns and algorithm of the crates `bpe` and `bpe-openai` (GitHub, MIT), whose serialized automata took 47 MB.

mod pieces;
mod table;
mod vocabulary;

use std::sync::OnceLock;

use pieces::Pieces;
use vocabulary::Vocabulary;

/// Bytes of the longest token of both encodings.
pub const TOKEN_BYTES_MAX: usize = vocabulary::TOKEN_BYTES_MAX;

/// Why an encoding cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokensError {
    /// Its vocabulary is not of this format.
    Vocabulary,
    /// Its patterns cannot be built.
    Patterns,
}

impl std::fmt::Display for TokensError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Vocabulary => "a damaged vocabulary",
            Self::Patterns => "patterns of words that cannot be built",
        })
    }
}

impl std::error::Error for TokensError {}

/// An encoding.
pub struct Tokenizer {
    pieces: Pieces,
    vocabulary: Vocabulary,
}

/// The encoding of GPT-3.5 and GPT-4, built once a process.
///
/// # Errors
/// Its vocabulary does not belong to this program.
pub fn cl100k() -> Result<&'static Tokenizer, TokensError> {
    static BUILT: OnceLock<Result<Tokenizer, TokensError>> = OnceLock::new();
    let build = || Tokenizer::new(pieces::CL100K, include_bytes!("models/cl100k.tokens"));
    BUILT.get_or_init(build).as_ref().map_err(|error| *error)
}

/// The encoding of GPT-4o and later, built once a process.
///
/// # Errors
/// Its vocabulary does not belong to this program.
pub fn o200k() -> Result<&'static Tokenizer, TokensError> {
    static BUILT: OnceLock<Result<Tokenizer, TokensError>> = OnceLock::new();
    let build = || Tokenizer::new(pieces::O200K, include_bytes!("models/o200k.tokens"));
    BUILT.get_or_init(build).as_ref().map_err(|error| *error)
}

impl Tokenizer {
    fn new(words: &str, vocabulary: &[u8]) -> Result<Self, TokensError> {
        let pieces = Pieces::new(words).ok_or(TokensError::Patterns)?;
        let vocabulary = Vocabulary::decode(vocabulary).ok_or(TokensError::Vocabulary)?;
        Ok(Self { pieces, vocabulary })
    }

    /// The pieces of `text`, without a gap. None looks behind its own start.
    pub fn pieces<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        self.pieces.split(text)
    }

    /// Tokens of a piece; `None`: more than `limit`.
    #[must_use]
    pub fn count_piece(&self, piece: &str, limit: usize) -> Option<usize> {
        self.vocabulary.count(piece.as_bytes(), limit)
    }

    /// Tokens of a text.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.pieces(text).filter_map(|piece| self.count_piece(piece, usize::MAX)).sum()
    }
}

#[cfg(test)]
mod tests;
