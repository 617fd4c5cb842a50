//! Features of source text: tokens, pairs of tokens, and the shape of three in a row, as 32-bit hashes.
//!
//! A token is a word, a number, a run of other scripts, up to three operator signs, a bracket or quote, or the start of
//! a line with the size of its indentation. Words are told apart by their letters in pairs, by their spelling
//! (`lower`, `Upper`, `CAPITALS`, `camelCase`, `under_score`) in shapes. One pass, no allocation, about 3 ns a byte.
//! Shared with the trainer: a change here means a new model.

/// The features that end with a token: itself, it after the one before, and the shape of the last three.
#[derive(Debug, Clone, Copy)]
pub struct Features {
    /// Their hashes; the start of a line is none by itself, its first two are the same.
    pub hashes: [u32; 3],
    /// Where each begins.
    pub starts: [usize; 3],
    /// Where all end.
    pub end: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Token {
    hash: u32,
    shape: u32,
    start: usize,
}

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const SPACE: u8 = 3;
const LINE: u8 = 4;
const OPERATOR: u8 = 5;
const SINGLE: u8 = 6;
const FOREIGN: u8 = 7;

/// Kind of each byte.
static KINDS: [u8; 256] = kinds();

const fn kinds() -> [u8; 256] {
    let mut kinds = [SINGLE; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        kinds[at] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'\n' => LINE,
            b'+' | b'-' | b'*' | b'/' | b'%' | b'=' | b'<' | b'>' | b'!' | b'&' | b'|' | b'^' | b'~'
            | b':' | b'.' | b'?' | b'@' | b'#' | b'$' | b'\\' => OPERATOR,
            0x80.. => FOREIGN,
            0..=b' ' | 0x7f => SPACE,
            _ => SINGLE,
        };
        at += 1;
    }
    kinds
}

const LOWER: u8 = 1;
const UPPER: u8 = 2;
const UNDER: u8 = 4;
const FIGURE: u8 = 8;

/// What a byte is in a word; 0: not part of one.
static SPELLING: [u8; 256] = spelling();

const fn spelling() -> [u8; 256] {
    let mut spelling = [0; 256];
    let mut at = 0;
    while at < 256 {
        spelling[at] = match at as u8 {
            b'a'..=b'z' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'_' => UNDER,
            b'0'..=b'9' => FIGURE,
            _ => 0,
        };
        at += 1;
    }
    spelling
}

/// Calls `each` with the features of `text`, token by token.
#[inline]
pub fn features(text: &[u8], mut each: impl FnMut(Features)) {
    let (first, mut at) = line_start(text, 0);
    let mut before = Token::default();
    let mut last = first;
    while let Some(&byte) = text.get(at) {
        let kind = KINDS[usize::from(byte)];
        let (token, end) = match kind {
            SPACE => {
                at += 1;
                continue;
            }
            LINE => line_start(text, at + 1),
            LETTER => word(text, at),
            DIGIT => run(text, at, NUMBER, |kind| kind == DIGIT || kind == LETTER),
            FOREIGN => run(text, at, OTHER_SCRIPT, |kind| kind == FOREIGN),
            OPERATOR => operator(text, at),
            _ => (plain(u32::from(byte) + SIGN, at), at + 1),
        };
        let pair = finish(last.hash.wrapping_mul(PAIR) ^ token.hash);
        let alone = if kind == LINE { pair } else { finish(token.hash) };
        let shape = before.shape.wrapping_mul(SHAPE_A) ^ last.shape.wrapping_mul(SHAPE_B) ^ token.shape;
        each(Features {
            hashes: [alone, pair, finish(shape)],
            starts: [token.start, last.start, before.start],
            end,
        });
        before = last;
        last = token;
        at = end;
    }
}

const PAIR: u32 = 0x9E37_79B1;
const SHAPE_A: u32 = 0xC2B2_AE3D;
const SHAPE_B: u32 = 0x27D4_EB2F;
const SIGN: u32 = 0x100;
const NUMBER: u32 = 0x201;
const OTHER_SCRIPT: u32 = 0x202;
const INDENT: u32 = 0x210;
const WORD: u32 = 0x220;
const LONG_WORD: usize = 24;

/// Spreads a hash over all bits.
#[inline]
fn finish(hash: u32) -> u32 {
    (hash ^ (hash >> 15)).wrapping_mul(0x2C1B_3C6D)
}

#[inline]
fn plain(code: u32, start: usize) -> Token {
    let hash = code.wrapping_mul(0x165_667B1);
    Token { hash, shape: hash, start }
}

/// The token for the line that begins at `at`: blank lines before it are skipped, its indentation is measured.
#[inline]
fn line_start(text: &[u8], mut at: usize) -> (Token, usize) {
    let start = at;
    let mut columns = 0;
    let mut tab = false;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\n' => {
                columns = 0;
                tab = false;
            }
            b' ' => columns += 1,
            b'\t' => tab = true,
            b'\r' => {}
            _ => break,
        }
        at += 1;
    }
    let size = match columns {
        _ if tab => 4,
        0 => 0,
        1..4 => 1,
        4..8 => 2,
        _ => 3,
    };
    (plain(INDENT + size, start), at)
}

#[inline]
fn word(text: &[u8], start: usize) -> (Token, usize) {
    let mut hash: u32 = 17;
    let (mut seen, mut inner) = (0, 0);
    let mut at = start;
    while let Some(&byte) = text.get(at) {
        let spelled = SPELLING[usize::from(byte)];
        if spelled == 0 {
            break;
        }
        hash = hash.wrapping_mul(31).wrapping_add(u32::from(byte));
        // A capital after a small letter.
        inner |= spelled & (seen << 1) & UPPER;
        seen |= spelled;
        at += 1;
    }
    let first = text.get(start).is_some_and(u8::is_ascii_uppercase);
    let spelling = match () {
        () if seen & UNDER != 0 => 1,
        () if inner != 0 => 2,
        () if seen & (UPPER | LOWER) == UPPER => 3,
        () if first => 4,
        () if at - start == 1 => 5,
        () => 6,
    };
    let shape = (WORD + spelling).wrapping_mul(0x165_667B1);
    if at - start > LONG_WORD {
        return (Token { hash: shape, shape, start }, at);
    }
    let hash = hash.wrapping_mul(0x3D4D_51CB);
    let shape = if is_keyword(hash) { hash } else { shape };
    (Token { hash, shape, start }, at)
}

/// Whether a word's hash is that of a keyword: those are their own shape.
#[inline]
fn is_keyword(hash: u32) -> bool {
    KEYWORD_BITS[(hash >> 21) as usize / 32] >> ((hash >> 21) % 32) & 1 == 1
}

/// A bit for each value of a keyword's first 11 bits; a few other words share one, which does no harm.
static KEYWORD_BITS: [u32; 64] = keyword_bits();

const fn keyword_bits() -> [u32; 64] {
    let mut bits = [0; 64];
    let text = KEYWORDS.as_bytes();
    let (mut at, mut hash) = (0, 17_u32);
    while at < text.len() {
        if text[at] == b' ' {
            let top = hash.wrapping_mul(0x3D4D_51CB) >> 21;
            bits[top as usize / 32] |= 1 << (top % 32);
            hash = 17;
        } else {
            hash = hash.wrapping_mul(31).wrapping_add(text[at] as u32);
        }
        at += 1;
    }
    bits
}

/// Words that give a line of code its shape, a space after each.
const KEYWORDS: &str = "def return class import from for in if elif else while function func fn fun let \
    var const val public private protected static void int float double char string bool new this self \
    struct enum impl match case switch end do then begin print println echo package using namespace \
    include local sub my use module where SELECT FROM WHERE INSERT UPDATE CREATE TABLE INTO VALUES \
    select where String int64 long auto async await try catch except with as not null nil None True \
    False true false lambda yield interface type trait data of is set tell Dim As Sub End Function If \
    Then Next Each procedure program integer real call PERFORM MOVE TO DISPLAY PIC ";

#[inline]
fn run(text: &[u8], start: usize, code: u32, belongs: impl Fn(u8) -> bool) -> (Token, usize) {
    let rest = text.get(start..).unwrap_or_default();
    let length = rest.iter().position(|byte| !belongs(KINDS[usize::from(*byte)])).unwrap_or(rest.len());
    (plain(code, start), start + length)
}

/// Up to three operator signs.
#[inline]
fn operator(text: &[u8], start: usize) -> (Token, usize) {
    let mut code = SIGN;
    let mut at = start;
    while let Some(&byte) = text.get(at)
        && at < start + 3
        && KINDS[usize::from(byte)] == OPERATOR
    {
        code = code.wrapping_mul(257).wrapping_add(u32::from(byte));
        at += 1;
    }
    (plain(code, start), at)
}
