//! A second reading of HTTP/1.1: short, slow and written from the RFC alone.
//!
//! It is more lenient than ours. What ours accepts, this must read the same way; what ours refuses is not asked.

/// A head taken apart: start line, and fields with their values trimmed.
pub struct Head<'a> {
    /// The first line; a reason phrase may have bytes that are no text.
    pub line: String,
    /// Names and values, in order.
    pub fields: Vec<(&'a str, &'a [u8])>,
    /// Bytes, the empty line included.
    pub bytes: usize,
}

/// What the fields say of the body.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// `Transfer-Encoding: chunked`, alone.
    Chunked,
    /// One `Content-Length`.
    Length(u64),
    /// Neither.
    Unsaid,
}

/// Takes apart the head at the start of `data`; it must be one that ours accepted.
pub fn head(data: &[u8]) -> Head<'_> {
    let skipped = if data.starts_with(b"\r\n") { 2 } else { 0 };
    let rest = &data[skipped..];
    let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("an accepted head has an end");
    let mut lines = split(&rest[..end]);
    let line = String::from_utf8_lossy(lines.next().expect("a first line")).into_owned();
    let fields = lines.map(field).collect();
    Head { line, fields, bytes: skipped + end + 4 }
}

/// Lines between CRLFs; neither byte may stand alone.
fn split(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let at = text.windows(2).position(|two| two == b"\r\n");
        let line = &text[..at.unwrap_or(text.len())];
        assert!(
            !line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)),
            "a stray CR, LF or NUL was accepted"
        );
        over = at.is_none();
        text = at.map_or(&[], |at| &text[at + 2..]);
        Some(line)
    })
}

fn field(line: &[u8]) -> (&str, &[u8]) {
    let colon = line.iter().position(|&byte| byte == b':').expect("a colon in every field line");
    let name = std::str::from_utf8(&line[..colon]).expect("a name of text");
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    assert!(!name.is_empty() && name.bytes().all(token), "the name {name:?} was accepted");
    (name, line[colon + 1..].trim_ascii())
}

impl<'a> Head<'a> {
    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&'a [u8]> {
        self.fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
            .collect()
    }

    /// Whether a list field names `token`.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        let members = |value: &'a [u8]| value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        self.all(name)
            .into_iter()
            .flat_map(members)
            .any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// How the body is framed; panics where two readers could differ.
    pub fn body(&self, http11: bool) -> Body {
        let (lengths, codings) = (self.all("content-length"), self.all("transfer-encoding"));
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Body::Unsaid,
            ([], [coding]) => {
                assert!(http11 && coding.eq_ignore_ascii_case(b"chunked"), "a coding was accepted");
                Body::Chunked
            }
            ([length], []) => {
                assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit), "a length was accepted");
                Body::Length(
                    std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()).expect("it fits"),
                )
            }
            _ => panic!("framing said twice was accepted: {lengths:?} {codings:?}"),
        }
    }
}

/// A chunked body read line by line: the data and the bytes used. `Ok(None)`: it goes on.
///
/// # Errors
/// Something is there that no reading allows.
pub fn dechunk(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ()> {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = line(input, at) else { return Ok(None) };
        at += line.len() + 2;
        let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let text = std::str::from_utf8(digits).map_err(|_| ())?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(());
        }
        let size = usize::from_str_radix(text, 16).map_err(|_| ())?;
        if size == 0 {
            break;
        }
        let Some(chunk) = input.get(at..at.saturating_add(size)) else { return Ok(None) };
        data.extend_from_slice(chunk);
        at += size;
        match input.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            Some(_) => return Err(()),
            None => return Ok(None),
        }
    }
    while let Some(line) = line(input, at) {
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some((data, at)));
        }
    }
    Ok(None)
}

fn line(input: &[u8], at: usize) -> Option<&[u8]> {
    let rest = input.get(at..)?;
    rest.windows(2).position(|two| two == b"\r\n").map(|end| &rest[..end])
}
