//! A map from numbers below 2^44 to numbers below 2^20, built once: open addressing, eight bytes a slot, at most half full.
//!
//! Cost: one cache line a look-up, usually. Nothing is ever removed.

const VALUE_BITS: u32 = 20;
const EMPTY: u64 = u64::MAX;

/// Values and keys are below these.
pub const VALUE_END: u32 = 1 << VALUE_BITS;
#[cfg(test)]
const KEY_END: u64 = 1 << (64 - VALUE_BITS);

pub struct Table {
    slots: Vec<u64>,
    shift: u32,
}

impl Table {
    /// With room for `entries`.
    pub fn new(entries: usize) -> Self {
        let size = (entries * 2).next_power_of_two().max(2);
        Self { slots: vec![EMPTY; size], shift: 64 - size.trailing_zeros() }
    }

    /// The value of `key`, which is `value` from now on if it had none. Without room nothing is added.
    pub fn get_or_insert(&mut self, key: u64, value: u32) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = self.start(key);
        for _ in 0..=mask {
            let Some(slot) = self.slots.get_mut(at) else { break };
            if *slot == EMPTY {
                *slot = key << VALUE_BITS | u64::from(value);
                break;
            }
            if *slot >> VALUE_BITS == key {
                return value_of(*slot);
            }
            at = (at + 1) & mask;
        }
        value
    }

    #[inline]
    pub fn get(&self, key: u64) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = self.start(key);
        loop {
            let slot = *self.slots.get(at)?;
            if slot >> VALUE_BITS == key {
                return Some(value_of(slot));
            }
            if slot == EMPTY {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    /// Fibonacci hashing: the high bits of the product depend on all bits of the key.
    #[expect(clippy::cast_possible_truncation, reason = "below the number of slots")]
    fn start(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }
}

#[expect(clippy::cast_possible_truncation, reason = "masked")]
fn value_of(slot: u64) -> u32 {
    (slot & u64::from(VALUE_END - 1)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_found() {
        let mut table = Table::new(1000);
        let key = |number: u32| u64::from(number) * 0x1_0001 % KEY_END;
        assert!((0..1000).all(|number| table.get_or_insert(key(number), number) == number));
        assert!((0..1000).all(|number| table.get_or_insert(key(number), 7) == number));
        assert!((0..1000).all(|number| table.get(key(number)) == Some(number)));
        assert!((1000..3000).all(|number| table.get(key(number)).is_none()));
        assert_eq!(table.get(KEY_END - 2), None);
    }
}
