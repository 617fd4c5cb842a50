//! Logistic regression with a squared norm, in the dual, one coordinate at a time.
//!
//! After Yu, Huang and Lin, "Dual coordinate descent methods for logistic regression and maximum entropy
//! models" (2011). Instances may be added between runs: what was found before is the start of the next run.

/// A small generator of numbers (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// A sparse vector, its label and its weight.
pub struct Instance {
    pub features: Vec<(u32, f32)>,
    pub label: bool,
    pub cost: f64,
    square: f64,
    alpha: f64,
    is_new: bool,
}

impl Instance {
    pub fn new(features: Vec<(u32, f32)>, label: bool, cost: f64) -> Self {
        let square = features.iter().map(|(_, value)| f64::from(*value) * f64::from(*value)).sum();
        let alpha = (0.001 * cost).min(1e-8);
        Self { features, label, cost, square, alpha, is_new: true }
    }

    fn dot(&self, weights: &[f32]) -> f64 {
        self.features.iter().map(|(index, value)| f64::from(weights[*index as usize] * value)).sum()
    }

    fn add(&self, step: f64, weights: &mut [f32]) {
        let step = if self.label { step } else { -step } as f32;
        for (index, value) in &self.features {
            weights[*index as usize] += step * value;
        }
    }
}

/// Improves `weights` over `instances` in `epochs` rounds at most.
pub fn solve(instances: &mut [Instance], weights: &mut [f32], epochs: usize, random: &mut Random) {
    for instance in instances.iter_mut().filter(|instance| instance.is_new) {
        instance.is_new = false;
        instance.add(instance.alpha, weights);
    }
    let mut order: Vec<u32> = (0..instances.len() as u32).collect();
    for _ in 0..epochs {
        for at in (1..order.len()).rev() {
            order.swap(at, random.below(at + 1));
        }
        let mut largest: f64 = 0.0;
        for index in &order {
            largest = largest.max(step(&mut instances[*index as usize], weights));
        }
        if largest < 0.02 {
            break;
        }
    }
}

/// One coordinate; answers how far from its optimum it was.
fn step(instance: &mut Instance, weights: &mut [f32]) -> f64 {
    let (cost, square) = (instance.cost, instance.square);
    let dot = instance.dot(weights);
    let margin = if instance.label { dot } else { -dot };
    let (low, high) = (instance.alpha, cost - instance.alpha);
    let (old, sign) = if 0.5 * square * (high - low) + margin < 0.0 { (high, -1.0) } else { (low, 1.0) };
    let mut z = old;
    if cost - z < 0.5 * cost {
        z *= 0.1;
    }
    let gradient = |z: f64| square * (z - old) + sign * margin + (z / (cost - z)).ln();
    let first = gradient(z);
    let mut slope = first;
    for _ in 0..30 {
        if slope.abs() < 1e-2 {
            break;
        }
        let curvature = square + cost / (cost - z) / z;
        let next = z - slope / curvature;
        z = if next <= 0.0 { z * 0.1 } else { next.min(cost * (1.0 - 1e-12)) };
        slope = gradient(z);
    }
    let z = z.max(1e-12 * cost);
    instance.alpha = if sign > 0.0 { z } else { cost - z };
    instance.add(sign * (z - old), weights);
    first.abs()
}
