//! A vocabulary of byte-pair encoding, and the number of tokens of a piece.
//!
//! The encoding merges the pair with the lowest number, again and again. It is found from the left instead: the longest token that may
//! stand after the one before it, a shorter one where none may, and one step back where that fails too; a position that failed
//! is not tried again, so the work is linear. Two tokens may stand side by side if no merge across their border comes before
//! the merges that made them (`bpe`, "Rethinking byte-pair encoding", GitHub).
//!
//! Numbers of nodes: a token's node has its number, prefixes that are no token have those above.

use std::io::Read as _;

use super::table::{self, Table};

/// Bytes of the longest token.
pub const TOKEN_BYTES_MAX: usize = 128;
/// The first tokens are the bytes.
const BYTES: usize = 256;
/// Tokens at most: two of them are a key of 36 bits.
const TOKENS_MAX: usize = 1 << 18;
/// How far backtracking may pass the limit and still come back below it.
const SLACK: usize = 10;
/// No token.
const NONE: u32 = u32::MAX;

/// The tables of an encoding.
pub struct Vocabulary {
    /// Tokens of one byte.
    roots: [u32; BYTES],
    /// Node and byte to the next node.
    next: Table,
    /// A pair to the token that it makes.
    pairs: Table,
    tokens: Vec<Token>,
}

#[derive(Clone, Copy)]
struct Token {
    /// What it is made of; a byte is made of itself.
    left: u32,
    right: u32,
    /// The longest other token that it begins with.
    prefix: u32,
    bytes: u32,
}

impl Vocabulary {
    /// Reads what `training/tokens.py` wrote; `None`: it did not.
    pub fn decode(file: &[u8]) -> Option<Self> {
        let mut data = Vec::new();
        let most = BYTES + TOKENS_MAX * 6;
        flate2::read::ZlibDecoder::new(file).take(most as u64).read_to_end(&mut data).ok()?;
        let (bytes, halves) = data.split_at_checked(BYTES)?;
        let count = BYTES + halves.len() / 6;
        if halves.len() % 6 != 0 || count > TOKENS_MAX {
            return None;
        }
        let mut roots = [NONE; BYTES];
        let mut tokens = Vec::with_capacity(count);
        for (number, byte) in (0..).zip(bytes) {
            *roots.get_mut(usize::from(*byte))? = number;
            tokens.push(Token { left: number, right: number, prefix: NONE, bytes: 1 });
        }
        let (left, right) = halves.split_at(halves.len() / 2);
        for (left, right) in numbers(left).zip(numbers(right)) {
            let bytes = tokens.get(left as usize)?.bytes + tokens.get(right as usize)?.bytes;
            if bytes as usize > TOKEN_BYTES_MAX {
                return None;
            }
            tokens.push(Token { left, right, prefix: left, bytes });
        }
        let mut pairs = Table::new(count);
        for (number, token) in (0..).zip(&tokens).skip(BYTES) {
            pairs.get_or_insert(pair(token.left, token.right), number);
        }
        let next = Self::grow(&mut tokens, bytes)?;
        Some(Self { roots, next, pairs, tokens })
    }

    /// Builds the tree of the tokens, shorter ones first, so that a token's prefixes are known when it comes.
    fn grow(tokens: &mut [Token], bytes: &[u8]) -> Option<Table> {
        let (text, starts) = spell(tokens, bytes)?;
        let mut by_length = vec![Vec::new(); TOKEN_BYTES_MAX + 1];
        for (number, token) in (0..).zip(tokens.iter()).skip(BYTES) {
            by_length.get_mut(token.bytes as usize)?.push(number);
        }
        // A node a byte of a right half at most; some 2.1 a token are new.
        let mut next = Table::new(tokens.len() * 5 / 2);
        let count = u32::try_from(tokens.len()).ok()?;
        let mut nodes = count;
        for number in by_length.into_iter().flatten() {
            let token = *tokens.get(number as usize)?;
            let begin = *starts.get(token.right as usize)? as usize;
            let right = text.get(begin..begin + tokens.get(token.right as usize)?.bytes as usize)?;
            let (last, inner) = right.split_last()?;
            let (mut node, mut prefix) = (token.left, token.left);
            for byte in inner {
                node = next.get_or_insert(edge(node, *byte), nodes);
                nodes += u32::from(node == nodes);
                if node < count {
                    prefix = node;
                }
            }
            next.get_or_insert(edge(node, *last), number);
            tokens.get_mut(number as usize)?.prefix = prefix;
        }
        (nodes < table::VALUE_END).then_some(next)
    }

    /// Tokens of `piece`; `None`: more than `limit`.
    pub fn count(&self, piece: &[u8], limit: usize) -> Option<usize> {
        let Some(first) = self.longest(piece) else { return Some(0) };
        let count =
            if self.bytes(first) == piece.len() { 1 } else { self.count_backtracking(piece, first, limit)? };
        Some(count).filter(|count| *count <= limit)
    }

    fn count_backtracking(&self, piece: &[u8], first: u32, limit: usize) -> Option<usize> {
        let limit = limit.saturating_add(SLACK);
        let mut failed = vec![0_u64; piece.len() / 64 + 1];
        let mut taken: Vec<u32> = Vec::with_capacity(16);
        let (mut at, mut token) = (0, first);
        loop {
            let last = taken.last().copied();
            let end = at + self.bytes(token);
            let open = failed.get(end / 64).is_some_and(|word| word >> (end % 64) & 1 == 0);
            if open && last.is_none_or(|last| self.may_follow(last, token)) {
                taken.push(token);
                if taken.len() > limit {
                    return None;
                }
                at = end;
                match piece.get(at..).and_then(|rest| self.longest(rest)) {
                    Some(longest) => token = longest,
                    None => return Some(taken.len()),
                }
                continue;
            }
            token = match (self.prefix(token), last) {
                (Some(shorter), _) => shorter,
                (None, Some(last)) => {
                    if let Some(word) = failed.get_mut(at / 64) {
                        *word |= 1 << (at % 64);
                    }
                    taken.pop();
                    at -= self.bytes(last);
                    last
                }
                // Every text has an encoding.
                (None, None) => return None,
            };
        }
    }

    /// The longest token that `text` begins with; `None`: there is no text.
    #[inline]
    fn longest(&self, text: &[u8]) -> Option<u32> {
        let (first, rest) = text.split_first()?;
        let mut node = *self.roots.get(usize::from(*first))?;
        let mut longest = node;
        for byte in rest {
            let Some(child) = self.next.get(edge(node, *byte)) else { break };
            node = child;
            if (node as usize) < self.tokens.len() {
                longest = node;
            }
        }
        Some(longest)
    }

    /// Whether the encoding of the text of both is the two of them: no merge across the border comes first.
    fn may_follow(&self, mut left: u32, mut right: u32) -> bool {
        let mut limit = NONE;
        loop {
            if self.pairs.get(pair(left, right)).is_some_and(|joined| joined < limit) {
                return false;
            }
            // The later merge of the two is undone; where that one is a byte, the other.
            if left > right {
                limit = left;
                left = self.halves(left).1;
                if left == limit {
                    limit = right + 1;
                    right = self.halves(right).0;
                    if right + 1 == limit {
                        return true;
                    }
                }
            } else {
                limit = right + 1;
                right = self.halves(right).0;
                if right + 1 == limit {
                    limit = left;
                    left = self.halves(left).1;
                    if left == limit {
                        return true;
                    }
                }
            }
        }
    }

    fn bytes(&self, token: u32) -> usize {
        self.tokens.get(token as usize).map_or(1, |token| token.bytes as usize)
    }

    fn halves(&self, token: u32) -> (u32, u32) {
        self.tokens.get(token as usize).map_or((token, token), |token| (token.left, token.right))
    }

    fn prefix(&self, token: u32) -> Option<u32> {
        self.tokens.get(token as usize).map(|token| token.prefix).filter(|prefix| *prefix != NONE)
    }
}

/// The texts of all tokens one after the other, and where each begins. Halves come before what they make.
fn spell(tokens: &[Token], bytes: &[u8]) -> Option<(Vec<u8>, Vec<u32>)> {
    let mut text = bytes.to_vec();
    let mut starts: Vec<u32> = (0..).zip(bytes).map(|(at, _)| at).collect();
    for token in tokens.get(BYTES..)? {
        let start = u32::try_from(text.len()).ok()?;
        for half in [token.left as usize, token.right as usize] {
            let begin = *starts.get(half)? as usize;
            text.extend_from_within(begin..begin + tokens.get(half)?.bytes as usize);
        }
        starts.push(start);
    }
    Some((text, starts))
}

/// Numbers of three bytes: all highest bytes, all middle ones, all lowest ones.
fn numbers(planes: &[u8]) -> impl Iterator<Item = u32> {
    let (high, rest) = planes.split_at(planes.len() / 3);
    let (middle, low) = rest.split_at(rest.len() / 2);
    let bytes = high.iter().zip(middle).zip(low);
    bytes.map(|((high, middle), low)| u32::from_be_bytes([0, *high, *middle, *low]))
}

fn edge(node: u32, byte: u8) -> u64 {
    u64::from(node) << 8 | u64::from(byte)
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 18 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_refused() {
        let file = include_bytes!("../models/cl100k.tokens");
        let whole = Vocabulary::decode(file).unwrap();
        assert_eq!(whole.tokens.len(), 100_256);
        assert_eq!(whole.tokens.iter().map(|token| token.bytes as usize).max(), Some(TOKEN_BYTES_MAX));
        assert!(Vocabulary::decode(&file[..file.len() - 1]).is_none());
        assert!(Vocabulary::decode(b"").is_none());
        let mut damaged = file.to_vec();
        damaged[1000] ^= 1;
        assert!(Vocabulary::decode(&damaged).is_none());
    }
}
