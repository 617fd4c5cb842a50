//! As much of HPACK (RFC 7541) as a client needs that wants to know the status.
//!
//! Requests are written with names of the static table and literal values, never indexed. Answers are read with an empty
//! dynamic table, which the client's settings ask for; of their fields only `:status` is looked at.

use super::Malformed;

/// Entries of the static table.
const STATIC: usize = 61;
/// Static entries whose name is `:status`, and their values.
const STATUSES: [(usize, u16); 7] =
    [(8, 200), (9, 204), (10, 206), (11, 304), (12, 400), (13, 404), (14, 500)];

/// Fields of requests with a name in the static table.
#[derive(Debug, Clone, Copy)]
pub enum Name {
    /// `:authority`
    Authority = 1,
    /// `:path`
    Path = 4,
    /// `accept`
    Accept = 19,
    /// `authorization`
    Authorization = 23,
    /// `content-length`
    ContentLength = 28,
    /// `content-type`
    ContentType = 31,
    /// `user-agent`
    UserAgent = 58,
}

/// Appends `:method: POST` and the scheme.
pub fn begin(out: &mut Vec<u8>, tls: bool) {
    out.extend_from_slice(&[0x83, if tls { 0x87 } else { 0x86 }]);
}

/// Appends a field, literally and without indexing.
pub fn field(out: &mut Vec<u8>, name: Name, value: &[u8]) {
    integer(out, 0, 4, name as usize);
    integer(out, 0, 7, value.len());
    out.extend_from_slice(value);
}

fn integer(out: &mut Vec<u8>, flags: u8, bits: u32, value: usize) {
    let most = (1usize << bits) - 1;
    if value < most {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The status of a block of fields; `None`: it has none, as trailers.
///
/// # Errors
/// The block is malformed, or uses a dynamic table.
pub fn status(block: &[u8]) -> Result<Option<u16>, Malformed> {
    let (mut rest, mut found) = (Rest(block), None);
    while let Some(&first) = rest.0.first() {
        if first & 0x80 != 0 {
            let index = rest.integer(7)?;
            if index == 0 || index > STATIC {
                return Err(Malformed("a field of a table that is empty"));
            }
            found = STATUSES.iter().find(|(at, _)| *at == index).map(|(_, status)| *status).or(found);
        } else if first & 0xe0 == 0x20 {
            rest.integer(5)?; // the size of the dynamic table
        } else {
            let index = rest.integer(if first & 0x40 != 0 { 6 } else { 4 })?;
            if index == 0 {
                rest.string()?;
            }
            let (huffman, value) = rest.string()?;
            if STATUSES.iter().any(|(at, _)| *at == index) {
                found = Some(number(huffman, value).ok_or(Malformed("a status that is no number"))?);
            }
        }
    }
    Ok(found)
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed("a block of fields that is cut"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn integer(&mut self, bits: u32) -> Result<usize, Malformed> {
        let most = (1usize << bits) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.byte()?);
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number of a field that is too long"))
    }

    fn string(&mut self) -> Result<(bool, &'a [u8]), Malformed> {
        let huffman = self.0.first().is_some_and(|byte| byte & 0x80 != 0);
        let length = self.integer(7)?;
        let (text, rest) =
            self.0.split_at_checked(length).ok_or(Malformed("a block of fields that is cut"))?;
        self.0 = rest;
        Ok((huffman, text))
    }
}

/// A number of three digits, plain or in the code of Huffman (digits: 0 to 2 have five bits, 3 to 9 have six).
fn number(huffman: bool, text: &[u8]) -> Option<u16> {
    let mut digits = [0u16; 3];
    if huffman {
        let mut bits = text.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let mut left = u32::try_from(text.len() * 8).ok().filter(|left| *left <= 24)?;
        bits <<= 64 - left.max(1);
        for digit in &mut digits {
            let (value, length) = match (bits >> 59, bits >> 58) {
                (value @ 0..=2, _) => (value, 5),
                (_, value @ 0b01_1001..=0b01_1111) => (value - 0b01_1001 + 3, 6),
                _ => return None,
            };
            *digit = u16::try_from(value).ok()?;
            bits <<= length;
            left = left.checked_sub(length)?;
        }
    } else {
        let [a, b, c] = text else { return None };
        for (digit, byte) in digits.iter_mut().zip([a, b, c]) {
            *digit = u16::try_from(char::from(*byte).to_digit(10)?).ok()?;
        }
    }
    Some(digits[0] * 100 + digits[1] * 10 + digits[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_found() {
        assert_eq!(status(&[0x20, 0x88]), Ok(Some(200)));
        assert_eq!(status(&[0x8c]), Ok(Some(400)));
        assert_eq!(status(b"\x48\x03429\x0f\x10\x02ab"), Ok(Some(429)));
        // RFC 7541, C.6.1 and C.6.2: 302 and 307 in the code of Huffman.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Ok(Some(302)));
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Ok(Some(307)));
        assert_eq!(status(b"\x00\x01a\x01b"), Ok(None));
        for bad in [
            &[0xbe][..],
            &[0x48, 0x03, b'4'],
            &[0x80],
            &[0x48, 0x02, b'4', b'2'],
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(status(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for value in [0, 5, 14, 15, 16, 126, 127, 128, 300, 20_000] {
            let mut out = Vec::new();
            integer(&mut out, 0, 4, value);
            assert_eq!(Rest(&out).integer(4), Ok(value));
        }
        let mut out = Vec::new();
        field(&mut out, Name::ContentType, b"a/b");
        assert_eq!(out, b"\x0f\x10\x03a/b");
    }
}
