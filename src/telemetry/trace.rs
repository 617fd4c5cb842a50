//! Who a request's spans belong to: the context that comes in `traceparent`, the decision to record it, and what an
//! endpoint is told. Pure: random numbers are an argument.
//!
//! Source: W3C Trace Context, level 1 (sections 3.2, 4.3). A context that breaks a rule is as none. Sampling is
//! parent-based: a client's decision is everybody's; a request without one is recorded if the lowest 56 bits of its
//! trace id are high enough, as OpenTelemetry's samplers have it, so that all who use the same share agree.

pub mod otlp;
pub mod span;

pub use span::{Kind, Span, Spans, Value};

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// Values of the bits of a trace id that decide.
const DICE: u128 = 1 << 56;

/// One span as others know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Never zero.
    pub trace_id: u128,
    /// Never zero.
    pub span_id: u64,
    /// Whether its spans are recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`; `None`: it is as if there were none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let rest = text.get(LENGTH..)?;
        let field = |from: usize, to: usize| hex(text.get(from..to)?);
        let dashes = [2, 35, 52].iter().all(|&at| text.get(at) == Some(&b'-'));
        let version = field(0, 2)?;
        // Of later versions only the beginning is known, and that more follows a dash.
        let ends = if version == 0 { rest.is_empty() } else { matches!(rest.first(), None | Some(b'-')) };
        if !dashes || version == 0xff || !ends {
            return None;
        }
        let trace_id = field(3, 35).filter(|&id| id != 0)?;
        let span_id = field(36, 52).and_then(|id| u64::try_from(id).ok()).filter(|&id| id != 0)?;
        Some(Self { trace_id, span_id, sampled: field(53, 55)? & 1 == 1 })
    }

    /// A trace of its own, recorded with the probability of `sample_percent`.
    #[must_use]
    pub fn root(mut random: impl FnMut() -> u64, sample_percent: u32) -> Self {
        let trace_id = (u128::from(random()) << 64 | u128::from(random())).max(1);
        Self { trace_id, span_id: random().max(1), sampled: is_sampled(trace_id, sample_percent) }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self, mut random: impl FnMut() -> u64) -> Self {
        Self { span_id: random().max(1), ..self }
    }

    /// Appends it as a `traceparent` has it.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"00-");
        write_hex(self.trace_id, 32, out);
        out.push(b'-');
        write_hex(self.span_id.into(), 16, out);
        out.extend_from_slice(if self.sampled { b"-01" } else { b"-00" });
    }
}

/// Whether a trace that begins here is one of `percent` in a hundred.
#[must_use]
pub fn is_sampled(trace_id: u128, percent: u32) -> bool {
    let threshold = DICE * u128::from(100 - percent.min(100)) / 100;
    trace_id & (DICE - 1) >= threshold
}

/// The number that lower-case hexadecimal digits stand for.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Appends the lowest `digits` hexadecimal digits of `number`.
fn write_hex(number: u128, digits: u32, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend((0..digits).rev().map(|at| DIGITS[(number >> (4 * at)) as usize & 15]));
}

#[cfg(test)]
mod tests;
