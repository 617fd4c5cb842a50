//! What looks like a secret and is none: placeholders, references, code, digests, prose.
//!
//! Nothing here listens to marks that the author of a text may write to switch a scanner off.

/// Whether `value` is written with so few characters that it fills a place.
pub(super) fn filler(value: &[u8]) -> bool {
    let mut seen = [false; 256];
    let mut run = (0_u8, 0_usize);
    let mut longest = 0;
    for byte in value {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
        run = if run.0 == *byte { (*byte, run.1 + 1) } else { (*byte, 1) };
        longest = longest.max(if b"xX*#.".contains(byte) { run.1 * 2 } else { run.1 });
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    distinct < 3 || longest >= 12 && longest * 2 >= value.len()
}

/// Whether `value` is a reference or code, by its form.
pub(super) fn code(value: &[u8], quoted: bool) -> bool {
    if template(value) {
        return true;
    }
    let first = value.first().copied().unwrap_or_default();
    (first == b'/' && path(value))
        || !quoted
            && (b"$%{<[@!&*/#".contains(&first)
                || memchr::memchr3(b'(', b'[', b'{', value).is_some()
                || path(value))
}

/// `${X}`, `{{X}}`, `%s`, `$X`, `<X>`, `{X}`.
fn template(value: &[u8]) -> bool {
    let first = value.first().copied().unwrap_or_default();
    let second = value.get(1).copied().unwrap_or_default();
    let last = value.last().copied().unwrap_or_default();
    (first == b'$' && (second.is_ascii_alphabetic() || b"{(_".contains(&second)))
        || (first == b'%' && (value.len() <= 3 || last == b'%'))
        || (first == b'<' && last == b'>')
        || (first == b'{' && last == b'}')
        || (first == b'[' && last == b']')
}

/// Names joined by dots or slashes: `user.password`, `config/app.yaml`.
fn path(value: &[u8]) -> bool {
    let joined = value.iter().filter(|byte| matches!(byte, b'.' | b'/' | b'\\')).count();
    let plain = value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._/\\-".contains(byte));
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    plain && joined > 0 && digits * 6 <= value.len()
}

/// Whether `value` is a hash in hexadecimal or a UUID.
pub(super) fn digest(value: &[u8]) -> bool {
    let hex = value.iter().all(u8::is_ascii_hexdigit);
    (hex && matches!(value.len(), 7..=12 | 32 | 40 | 56 | 64 | 96 | 128)) || uuid(value)
}

/// Whether `value` is a UUID.
pub(super) fn uuid(value: &[u8]) -> bool {
    let fits = |(index, byte): (usize, &u8)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    value.len() == 36 && value.iter().enumerate().all(fits)
}
