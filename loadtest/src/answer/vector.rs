//! The vector that the simulated server answers for a text: FNV-1a of the text seeds xorshift64*, eight numbers, unit length.

/// Numbers of a vector, where the request does not say.
const NUMBERS: usize = 8;
/// How far a number may be off: it was written and read in decimal.
const OFF_MAX: f32 = 1e-4;

/// Whether `numbers`, the inside of a JSON array, are the vector of `text`.
#[must_use]
pub fn is_of(numbers: &[u8], text: &[u8]) -> bool {
    let expected = of(text);
    let mut found = numbers.split(|&byte| byte == b',').map(|number| {
        std::str::from_utf8(number.trim_ascii()).ok().and_then(|number| number.parse::<f32>().ok())
    });
    let all = expected
        .iter()
        .all(|expected| found.next().flatten().is_some_and(|number| (number - expected).abs() <= OFF_MAX));
    all && found.next().is_none()
}

fn of(text: &[u8]) -> [f32; NUMBERS] {
    let seed = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut x = seed | 1;
    let mut values = [0.0; NUMBERS];
    for value in &mut values {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        let bits = u16::try_from(x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 48).unwrap_or(0);
        *value = f32::from(bits) / 32768.0 - 1.0;
    }
    let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
    values.map(|value| value / norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_known_by_its_text() {
        let written = of(b"q1 hello").map(|value| value.to_string()).join(",");
        assert!(is_of(written.as_bytes(), b"q1 hello"));
        assert!(!is_of(written.as_bytes(), b"q2 hello"));
        assert!(!is_of(format!("{written},0").as_bytes(), b"q1 hello"));
        assert!(!is_of(b"", b"q1 hello"));
    }
}
