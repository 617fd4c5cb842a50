//! What proves a credential besides its shape: entropy, checksums, structure.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::rules::Check;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Shannon entropy of `bytes` in bits a byte.
pub(super) fn entropy(bytes: &[u8]) -> f32 {
    let mut counts = [0_u16; 256];
    let bytes = bytes.get(..4096).unwrap_or(bytes);
    for byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let length = bytes.len() as f32;
    counts.iter().filter(|count| **count > 0).fold(0.0, |sum, count| {
        let share = f32::from(*count) / length;
        sum - share * share.log2()
    })
}

/// Decodes base64 of either alphabet, padded or not.
pub(super) fn base64(bytes: &[u8]) -> Option<Vec<u8>> {
    let bytes = bytes.get(..LIMIT).unwrap_or(bytes);
    let url = bytes.iter().any(|byte| matches!(byte, b'-' | b'_'));
    if url { URL_SAFE.decode(bytes).ok() } else { STANDARD.decode(bytes).ok() }
}

/// Bytes of base64 that are decoded at most.
const LIMIT: usize = 8192;

/// Whether `secret` passes `check`.
pub(super) fn passes(check: Check, secret: &[u8]) -> bool {
    match check {
        Check::None | Check::Crc32 => true,
        Check::Mixed => mixed(secret),
        Check::Jwt => jwt(secret),
    }
}

fn mixed(secret: &[u8]) -> bool {
    let has = |class: fn(&u8) -> bool| secret.iter().filter(|byte| class(byte)).count() >= 2;
    has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase)
}

/// A JWT's header names its algorithm or its type; so does one that is base64 once more.
fn jwt(secret: &[u8]) -> bool {
    let header = secret.split(|byte| *byte == b'.').next().unwrap_or_default();
    let Some(header) = base64(header) else { return false };
    if header.starts_with(b"eyJ") {
        return jwt_header(header.split(|byte| *byte == b'.').next().unwrap_or_default());
    }
    names_algorithm(&header)
}

fn jwt_header(header: &[u8]) -> bool {
    base64(header).is_some_and(|header| names_algorithm(&header))
}

fn names_algorithm(header: &[u8]) -> bool {
    let has = |word: &[u8]| memchr::memmem::find(header, word).is_some();
    header.first() == Some(&b'{')
        && header.trim_ascii_end().last() == Some(&b'}')
        && (has(b"\"alg\"") || has(b"\"typ\"") || has(b"\"enc\""))
}

/// GitHub's and npm's checksum. The six characters are base 62 (digits, upper case, lower case), zeros
/// in front.
pub(super) fn checksum(secret: &[u8]) -> bool {
    let start = secret.iter().rposition(|byte| *byte == b'_').map_or(0, |at| at + 1);
    let body = secret.get(start..).unwrap_or_default();
    let Some((entropy, check)) = body.split_last_chunk::<6>() else { return false };
    let wanted = check.iter().try_fold(0_u64, |sum, byte| Some(sum * 62 + digit62(*byte)?));
    wanted == Some(u64::from(crc32(entropy)))
}

fn digit62(byte: u8) -> Option<u64> {
    match byte {
        b'0'..=b'9' => Some(u64::from(byte - b'0')),
        b'A'..=b'Z' => Some(u64::from(byte - b'A') + 10),
        b'a'..=b'z' => Some(u64::from(byte - b'a') + 36),
        _ => None,
    }
}

/// The six characters that make `body` pass.
#[cfg(test)]
pub(super) fn checksum_of(body: &[u8]) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let sum = u64::from(crc32(body));
    (0..6).rev().map(|place| char::from(DIGITS[(sum / 62_u64.pow(place) % 62) as usize])).collect()
}

/// CRC-32 of IEEE 802.3, bit by bit: thirty bytes are not worth a table.
fn crc32(bytes: &[u8]) -> u32 {
    let fold = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), fold))
}
