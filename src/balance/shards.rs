//! Which shard a new connection belongs to.
//!
//! The kernel spreads connections over listeners by a hash, so shares drift apart as the square root of their size. A connection stays
//! where it was accepted until that shard has more than an eighth and one connection above the least loaded one. Connections are
//! counted, not exchanges: one that has just come has none yet, and would make its shard look idle.
//! What this comes to on up to 64 shards: `tests/simulate/spread.rs`.

/// The shard that should take a new connection of shard `own`, if it is another one, by the connections of each.
#[must_use]
pub fn elsewhere(own: usize, shards: usize, connections: impl Fn(usize) -> u64) -> Option<usize> {
    let (least, at) = (0..shards).map(|at| (connections(at), at)).min()?;
    (at != own && connections(own) > least + least / 8 + 1).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_moves_when_shares_have_drifted() {
        let elsewhere = |own, loads: &[u64]| elsewhere(own, loads.len(), |at| loads[at]);
        assert_eq!(elsewhere(0, &[5]), None);
        assert_eq!(elsewhere(0, &[1, 0]), None);
        assert_eq!(elsewhere(0, &[2, 0]), Some(1));
        assert_eq!(elsewhere(0, &[19, 16, 16]), None);
        assert_eq!(elsewhere(0, &[20, 17, 16]), Some(2));
        assert_eq!(elsewhere(1, &[20, 17, 16]), None);
    }
}
