//! In proportion to weights, evenly spread: the turns of one cycle are laid out beforehand by smooth weighted
//! round robin (nginx, `ngx_http_upstream_round_robin.c`), then walked by one shared cursor, so shares are exact
//! over all shards. The cycle is turned so that the lightest candidate comes last: 2:1 gives A A B.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Longest cycle; heavier sums are scaled down.
const TURNS_MAX: u32 = 4096;

/// The candidates of one cycle in order.
#[must_use]
pub fn turns(weights: &[u32]) -> Vec<u16> {
    let divisor = weights.iter().copied().reduce(gcd).unwrap_or(1).max(1);
    let sum: u32 = weights.iter().map(|weight| weight / divisor).sum();
    let scale = sum.div_ceil(TURNS_MAX).max(1);
    let weights: Vec<i64> =
        weights.iter().map(|weight| i64::from((weight / divisor / scale).max(1))).collect();
    let total: i64 = weights.iter().sum();
    let mut current = vec![0i64; weights.len()];
    let mut turns = Vec::new();
    for _ in 0..total {
        for (have, weight) in current.iter_mut().zip(&weights) {
            *have += weight;
        }
        let Some(best) = (0..current.len()).rev().max_by_key(|&at| current[at]) else { break };
        current[best] -= total;
        turns.push(u16::try_from(best).unwrap_or(0));
    }
    let lightest = (0..weights.len()).rev().min_by_key(|&at| weights[at]);
    if let Some(last) = turns.iter().rposition(|&turn| Some(usize::from(turn)) == lightest) {
        turns.rotate_left(last + 1);
    }
    turns
}

/// The candidate whose turn it is, or the next one that may be taken; the turn is taken.
pub fn pick(turns: &[u16], eligible: impl Fn(usize) -> bool, cursor: &AtomicUsize) -> Option<usize> {
    if !turns.iter().any(|&turn| eligible(usize::from(turn))) {
        return None;
    }
    at(turns, eligible, cursor.fetch_add(1, Ordering::Relaxed))
}

/// The candidate that has this turn.
pub fn at(turns: &[u16], eligible: impl Fn(usize) -> bool, turn: usize) -> Option<usize> {
    let cycle = turns.len();
    (0..cycle).map(|step| usize::from(turns[turn.wrapping_add(step) % cycle])).find(|&at| eligible(at))
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
