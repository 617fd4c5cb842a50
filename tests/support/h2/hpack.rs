//! HPACK (RFC 7541) for the tests: a decoder of everything servers send, and an encoder without any compression.
//!
//! The decoder is strict: an index beyond the tables, an integer of more than 32 bits, Huffman padding that is
//! long or not of ones, and a table size above the one announced are errors.

use std::collections::VecDeque;

/// What we announce: nothing, so the default of SETTINGS_HEADER_TABLE_SIZE holds.
const TABLE_BYTES: usize = 4096;

/// Appendix A, from index 1 on; `name` or `name=value`.
const STATIC: &str = ":authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https \
    :status=200 :status=204 :status=206 :status=304 :status=400 :status=404 :status=500 accept-charset \
    accept-encoding=gzip,\u{a0}deflate accept-language accept-ranges accept access-control-allow-origin age allow \
    authorization cache-control content-disposition content-encoding content-language content-length \
    content-location content-range content-type cookie date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards \
    proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie \
    strict-transport-security transfer-encoding user-agent vary via www-authenticate";

/// Appendix B: the length of each symbol's code, `A` for 5 bits and so on; the last is EOS. The code is canonical,
/// so lengths say all.
const CODE_LENGTHS: &[u8; 257] = b"ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCC\
    CCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBABCBAABCCCCCKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPR\
    RRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVVWWWWWXWWWWWVZ";

/// End of string; must not be sent.
const EOS: usize = 256;

/// A header list as bytes: literals without indexing, no Huffman.
pub fn encode<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len(), 7);
            block.extend(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of `bits`, whose other bits are zero (section 5.1).
fn integer(block: &mut Vec<u8>, value: usize, bits: u8) {
    let full = (1 << bits) - 1;
    if value < full {
        block.push(value as u8);
        return;
    }
    block.push(full as u8);
    let mut rest = value - full;
    while rest > 127 {
        block.push(rest as u8 | 128);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// A field: its name and its value.
pub type Field = (String, String);

/// A decoder with its table.
pub struct Decoder {
    fixed: Vec<Field>,
    table: VecDeque<Field>,
    bytes: usize,
    bytes_max: usize,
    /// For each length of a code: the first code, and the symbols in order.
    codes: Vec<(u32, Vec<usize>)>,
}

impl Default for Decoder {
    fn default() -> Self {
        let fixed = STATIC.split_ascii_whitespace().map(|entry| {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            (name.to_owned(), value.replace('\u{a0}', " "))
        });
        let (mut codes, mut first) = (vec![(0, Vec::new()); 5], 0u32);
        for letter in b'A'..=b'Z' {
            let symbols: Vec<usize> = (0..=EOS).filter(|&symbol| CODE_LENGTHS[symbol] == letter).collect();
            let after = first + symbols.len() as u32;
            codes.push((first, symbols));
            first = after << 1;
        }
        Self { fixed: fixed.collect(), table: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES, codes }
    }
}

impl Decoder {
    /// The fields of a whole header block.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(&mut self, mut block: &[u8]) -> Result<Vec<Field>, String> {
        let mut fields = Vec::new();
        while let Some(&first) = block.first() {
            match first {
                0x80.. => fields.push(self.entry(number(&mut block, 7)?)?),
                0x40.. => {
                    let field = self.literal(&mut block, 6)?;
                    self.insert(field.clone());
                    fields.push(field);
                }
                0x20.. => {
                    let size = number(&mut block, 5)?;
                    if size > TABLE_BYTES || !fields.is_empty() {
                        return Err(format!("a table of {size} bytes, behind {} fields", fields.len()));
                    }
                    self.bytes_max = size;
                    self.evict();
                }
                _ => fields.push(self.literal(&mut block, 4)?),
            }
        }
        Ok(fields)
    }

    fn entry(&self, index: usize) -> Result<Field, String> {
        let at = index.checked_sub(1).ok_or("index 0")?;
        let found = self.fixed.get(at).or_else(|| self.table.get(at.checked_sub(self.fixed.len())?));
        found.cloned().ok_or_else(|| format!("index {index} is beyond the table"))
    }

    fn literal(&self, block: &mut &[u8], bits: u8) -> Result<Field, String> {
        let name = match number(block, bits)? {
            0 => self.text(block)?,
            index => self.entry(index)?.0,
        };
        Ok((name, self.text(block)?))
    }

    fn text(&self, block: &mut &[u8]) -> Result<String, String> {
        let huffman = block.first().is_some_and(|byte| byte & 0x80 != 0);
        let length = number(block, 7)?;
        let (bytes, rest) = block.split_at_checked(length).ok_or("a string ends early")?;
        *block = rest;
        let bytes = if huffman { self.unhuffman(bytes)? } else { bytes.to_vec() };
        String::from_utf8(bytes).map_err(|error| error.to_string())
    }

    fn unhuffman(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let (mut text, mut code, mut length) = (Vec::new(), 0u32, 0usize);
        for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1))) {
            (code, length) = (code << 1 | bit, length + 1);
            let (first, symbols) = self.codes.get(length).ok_or("no such code")?;
            let symbol = code.checked_sub(*first).and_then(|at| symbols.get(at as usize));
            if let Some(&symbol) = symbol {
                text.push(u8::try_from(symbol).map_err(|_| "EOS in a string")?);
                (code, length) = (0, 0);
            }
        }
        if length > 7 || code != (1 << length) - 1 {
            return Err("padding is not the start of EOS".to_owned());
        }
        Ok(text)
    }

    fn insert(&mut self, field: Field) {
        self.bytes += field.0.len() + field.1.len() + 32;
        self.table.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let Some((name, value)) = self.table.pop_back() else { return };
            self.bytes -= name.len() + value.len() + 32;
        }
    }
}

fn number(block: &mut &[u8], bits: u8) -> Result<usize, String> {
    let mut next = || {
        let (&byte, rest) = block.split_first().ok_or("an integer ends early")?;
        *block = rest;
        Ok::<usize, String>(usize::from(byte))
    };
    let full = (1 << bits) - 1;
    let mut value = next()? & full;
    if value < full {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let byte = next()?;
        value += (byte & 127) << shift;
        if byte < 128 {
            return Ok(value);
        }
    }
    Err("an integer is too long".to_owned())
}
