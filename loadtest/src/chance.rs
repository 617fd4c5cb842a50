//! Numbers that look random and follow from a seed.
//!
//! SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): eight bytes of state, a few
//! instructions a number, and any number of streams that do not touch each other. A request has the stream of its
//! own index, so what it says does not depend on who was asked before.

use std::f64::consts::TAU;

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes the bits of a number until none tells of another.
#[must_use]
pub fn mix(number: u64) -> u64 {
    let mut x = number;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One stream of numbers.
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The stream `stream` of a seed.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { state: mix(mix(seed.wrapping_add(STEP)).wrapping_add(stream.wrapping_mul(STEP))) }
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// From 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From 0 up to, not including, `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// Exponentially distributed with mean 1: the gaps of a Poisson process of rate 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Normally distributed with mean 0 and deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (TAU * self.unit()).cos()
    }

    /// An index of `sums`, the running sums of weights; the last one if they are all zero.
    pub fn weighted(&mut self, sums: &[f64]) -> usize {
        let total = sums.last().copied().unwrap_or(0.0);
        let at = self.unit() * total;
        sums.partition_point(|&sum| sum <= at).min(sums.len().saturating_sub(1))
    }
}

/// Running sums, for [`Chance::weighted`].
#[must_use]
pub fn sums(weights: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut total = 0.0;
    let add = |weight: f64| {
        total += weight.max(0.0);
        total
    };
    weights.into_iter().map(add).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, stream| {
            let mut chance = Chance::new(seed, stream);
            [chance.bits(), chance.bits(), chance.bits()]
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
        assert_ne!(draw(1, 2), draw(2, 1));
    }

    #[test]
    fn moments_are_right() {
        let mut chance = Chance::new(7, 0);
        let n = 200_000;
        let (mut sum, mut normal, mut squares) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            sum += chance.exponential();
            let x = chance.normal();
            normal += x;
            squares += x * x;
        }
        let n = f64::from(n);
        assert!((sum / n - 1.0).abs() < 0.01, "{}", sum / n);
        assert!((normal / n).abs() < 0.01 && (squares / n - 1.0).abs() < 0.02, "{normal} {squares}");
    }

    #[test]
    fn weights_are_kept() {
        let sums = sums([1.0, 0.0, 3.0]);
        let mut chance = Chance::new(1, 1);
        let mut counts = [0; 3];
        (0..40_000).for_each(|_| counts[chance.weighted(&sums)] += 1);
        assert_eq!(counts[1], 0);
        assert!((counts[0] as f64 / 10_000.0 - 1.0).abs() < 0.05, "{counts:?}");
        assert_eq!(chance.weighted(&[0.0]), 0);
    }
}
