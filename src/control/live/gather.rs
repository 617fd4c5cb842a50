//! Reads the metrics of all shards into one [`Sample`], and what an endpoint's and a model's counters hold.
//!
//! Shards are read, never asked. Cost: one pass over the models that were used, some microseconds each.

use super::window::Sample;
use crate::telemetry::metric::{ModelMetrics, STATUSES};
use crate::world::World;

/// The counters now; `now_ms` is the time of the process clock.
#[must_use]
pub fn sample(world: &World, now_ms: u64) -> Sample {
    let mut sample = Sample::none(now_ms);
    sample.models = vec![[0; 2]; world.models.names().len()];
    sample.endpoints = vec![[0; 2]; world.endpoints.names().len()];
    for shard in &world.shards {
        let local = shard.metrics.local_by_status.iter();
        for (sum, count) in sample.by_status.iter_mut().zip(local) {
            *sum += count.get();
        }
        for slot in 0..sample.models.len() {
            if let Some(model) = shard.metrics.model_if_used(slot) {
                add(&mut sample, slot, model);
            }
        }
    }
    sample
}

fn add(sample: &mut Sample, slot: usize, model: &ModelMetrics) {
    let mut pair = [0; 2];
    for ((sum, count), status) in sample.by_status.iter_mut().zip(&model.by_status).zip(STATUSES) {
        let count = count.get();
        *sum += count;
        pair[0] += count;
        pair[1] += if status == 200 { 0 } else { count };
    }
    if let Some([requests, errors]) = sample.models.get_mut(slot) {
        *requests += pair[0];
        *errors += pair[1];
    }
    model.duration.add_to(&mut sample.duration);
    model.first_token.add_to(&mut sample.first_token);
    model.overhead.add_to(&mut sample.overhead);
    for (slot, [success, failure]) in sample.endpoints.iter_mut().enumerate() {
        if let Some(pair) = model.attempts.if_used(slot) {
            *success += pair.attempts.success.get();
            *failure += pair.attempts.failure.get();
        }
    }
}

/// Tokens of prompts and answers of a model, and what they cost.
#[must_use]
pub fn tokens(world: &World, slot: usize) -> (u64, u64, f64) {
    let used = world.shards.iter().filter_map(|shard| shard.metrics.model_if_used(slot));
    used.fold((0, 0, 0.0), |(input, output, cost), model| {
        (input + model.tokens_input.get(), output + model.tokens_output.get(), cost + model.cost.get())
    })
}
