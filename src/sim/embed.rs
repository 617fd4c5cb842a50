//! Embeddings: a unit vector that depends on the text alone.

use std::io::Write as _;
use std::time::Duration;

use super::ask::{Api, Ask};
use crate::wire::json;

/// Dimensions, where the request does not say.
const DIMENSIONS: usize = 8;

/// The body of an answer; numbers always, as Ollama writes them.
pub fn answer(api: Api, ask: &Ask, total: Duration) -> Vec<u8> {
    let dimensions = ask.dimensions.unwrap_or(DIMENSIONS).clamp(1, 4096);
    let mut out = Vec::with_capacity(256);
    let mut model = Vec::new();
    json::escape_into(&mut model, &ask.model);
    match api {
        Api::NativeEmbeddings => {
            out.extend_from_slice(b"{\"embedding\":");
            vector(&mut out, ask.inputs.first().map_or("", String::as_str), dimensions);
            out.push(b'}');
        }
        Api::NativeEmbed => {
            out.extend_from_slice(b"{\"model\":\"");
            out.extend_from_slice(&model);
            out.extend_from_slice(b"\",\"embeddings\":[");
            for (at, text) in ask.inputs.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"," });
                vector(&mut out, text, dimensions);
            }
            let _ = write!(out, "],\"total_duration\":{},\"load_duration\":1000", total.as_nanos().max(1));
            let _ = write!(out, ",\"prompt_eval_count\":{}}}", ask.prompt_tokens);
        }
        _ => {
            out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
            for (at, text) in ask.inputs.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                let _ = write!(out, "{comma}{{\"object\":\"embedding\",\"embedding\":");
                vector(&mut out, text, dimensions);
                let _ = write!(out, ",\"index\":{at}}}");
            }
            out.extend_from_slice(b"],\"model\":\"");
            out.extend_from_slice(&model);
            let tokens = ask.prompt_tokens;
            let _ = write!(out, "\",\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}");
        }
    }
    out
}

/// FNV-1a of the text seeds xorshift64*.
fn vector(out: &mut Vec<u8>, text: &str, dimensions: usize) {
    let seed = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut x = seed | 1;
    let values: Vec<f32> = (0..dimensions)
        .map(|_| {
            x ^= x >> 12;
            x ^= x << 25;
            x ^= x >> 27;
            let bits = u16::try_from(x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 48).unwrap_or(0);
            f32::from(bits) / 32768.0 - 1.0
        })
        .collect();
    let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
    out.push(b'[');
    for (at, value) in values.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{}", value / norm);
    }
    out.push(b']');
}
