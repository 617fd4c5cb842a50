//! Until when a certificate is good: the one field that rustls keeps to itself.
//!
//! DER is read only as far as that field (RFC 5280 section 4.1); what does not fit is `None`. The files are the
//! operator's, and rustls has accepted them before.

use crate::config::moment;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version stands in a context of its own, and is left out in certificates of version 1.
const VERSION: u8 = 0xA0;

/// `notAfter` in seconds since 1970; 0 for a date before.
pub(super) fn not_after_s(certificate: &[u8]) -> Option<u64> {
    let (certificate, _) = inside(SEQUENCE, certificate)?;
    let (fields, _) = inside(SEQUENCE, certificate)?;
    let fields = inside(VERSION, fields).map_or(fields, |(_, rest)| rest);
    let (_serial, fields) = inside(INTEGER, fields)?;
    let (_algorithm, fields) = inside(SEQUENCE, fields)?;
    let (_issuer, fields) = inside(SEQUENCE, fields)?;
    let (validity, _) = inside(SEQUENCE, fields)?;
    let (_, _not_before, not_after) = element(validity)?;
    let (tag, text, _) = element(not_after)?;
    time_s(tag, text)
}

/// What an element of that tag holds, and what follows it.
fn inside(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// The first element: its tag, what it holds, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = match rest.split_first()? {
        (short @ 0..=0x7F, rest) => (usize::from(*short), rest),
        (long @ 0x81..=0x84, rest) => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7F))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `YYMMDDhhmmssZ` of the years 1950 to 2049, or `YYYYMMDDhhmmssZ`.
fn time_s(tag: u8, text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    let mut pairs = digits.chunks(2).map(|pair| match pair {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
        }
        _ => None,
    });
    let mut next = || pairs.next().flatten();
    let year = match (tag, digits.len()) {
        (UTC_TIME, 12) => next().map(|year| if year < 50 { 2000 + year } else { 1900 + year })?,
        (GENERALIZED_TIME, 14) => next()? * 100 + next()?,
        _ => return None,
    };
    let (date, clock) = ((year, next()?, next()?), (next()?, next()?, next()?));
    Some(u64::try_from(moment::seconds(date, clock)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time_are_read() {
        for (tag, text, seconds) in [
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(0)),
            (UTC_TIME, "700101000001Z", Some(1)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "20500101000000Z", None),
            (GENERALIZED_TIME, "500101000000Z", None),
            (UTC_TIME, "4912312359-9Z", None),
            (UTC_TIME, "491231235959", None),
            (INTEGER, "491231235959Z", None),
            (UTC_TIME, "", None),
        ] {
            assert_eq!(time_s(tag, text.as_bytes()), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_cut_short_is_none() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        for (year, seconds) in [(2031, 1_938_211_200), (2061, 2_884_982_400)] {
            params.not_after = rcgen::date_time_ymd(year, 6, 3);
            let certificate = params.self_signed(&key).unwrap();
            let der: &[u8] = certificate.der();
            assert_eq!(not_after_s(der), Some(seconds));
            for end in 0..der.len() {
                assert_eq!(not_after_s(&der[..end]), None, "{end}");
            }
            for at in 0..der.len() {
                let mut other = der.to_vec();
                other[at] ^= 0xFF;
                let _ = not_after_s(&other);
            }
        }
    }
}
