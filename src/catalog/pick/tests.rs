use super::*;
use crate::breaker::Rules;
use crate::catalog::Catalog;
use crate::config;
use crate::health::Thresholds;
use crate::queue::Bell;
use crate::telemetry::metric::Slots;

const RULES: Rules = Rules {
    enabled: true,
    failures: 1,
    share_percent: 100,
    requests_min: 1000,
    window_ms: 10_000,
    open_ms: 1000,
    open_max_ms: 30_000,
};

/// Endpoints `a` and `b` under one model; each with so many slots.
fn two(slots: u32) -> (Arc<Deployment>, Vec<Arc<EndpointState>>) {
    let toml = format!(
        "[[endpoints]]\nname='a'\nurl='http://h:1'\nslots={slots}\n[[endpoints]]\nname='b'\nurl='http://h:2'\nslots={slots}\n\
         [[models]]\nname='m'\nendpoints=['a','b']\n"
    );
    let config = config::parse(&toml).unwrap();
    let bells: Arc<[Bell]> = Arc::new([Bell::default()]);
    let endpoint = |one: &config::Endpoint| Arc::new(EndpointState::new(one.clone(), 0, None, &bells));
    let registry: Vec<_> = config.endpoints.iter().map(endpoint).collect();
    let catalog = Catalog::build(&config, &registry, &Slots::new(16), &Catalog::default());
    (catalog.find("m", &registry).unwrap(), registry)
}

fn look<'a>(registry: &'a Registry, tried: &'a [usize], now_ms: u64) -> Look<'a> {
    Look { registry, task: Task::Chat, tried, random: 1, now_ms, called: false }
}

fn at(pick: &Pick) -> Option<usize> {
    match pick {
        Pick::Taken(picked) => Some(picked.at),
        _ => None,
    }
}

#[test]
fn marks_only_delay() {
    let (model, registry) = two(0);
    let thresholds = Thresholds { unhealthy: 1, healthy: 1 };
    registry[0].observe(false, thresholds);
    assert_eq!(at(&model.pick(look(&registry, &[], 1))), Some(1));
    assert_eq!(at(&model.pick(look(&registry, &[1], 1))), Some(0), "the last one is always tried");
    registry[1].observe(false, thresholds);
    assert!(at(&model.pick(look(&registry, &[], 1))).is_some());
    registry[0].set_disabled(true);
    registry[1].set_disabled(true);
    assert!(matches!(model.pick(look(&registry, &[], 1)), Pick::None), "what an operator took out stays out");
}

#[test]
fn an_open_one_gets_one_trial_when_its_time_has_passed() {
    let (model, registry) = two(0);
    assert!(registry[0].breaker().failure(10_000, Reason::Answers, &RULES));
    for _ in 0..20 {
        assert_eq!(at(&model.pick(look(&registry, &[], 10_500))), Some(1));
    }
    let held: Vec<_> = (0..3).map(|_| registry[1].enter().unwrap()).collect(); // the other is busier
    let trial = model.pick(look(&registry, &[], 11_200));
    assert_eq!(at(&trial), Some(0), "its turn: the least busy");
    assert_eq!(at(&model.pick(look(&registry, &[], 11_200))), Some(1), "one trial at a time");
    drop(trial);
    let again = model.pick(look(&registry, &[], 11_201));
    assert_eq!(at(&again), Some(0), "a trial without a verdict is had by the next");
    registry[0].breaker().success(11_300);
    drop(again);
    assert!(registry[0].breaker().is_closed());
    drop(held);
}

#[test]
fn the_last_resort_is_the_open_one() {
    let (model, registry) = two(0);
    registry[0].breaker().failure(10_000, Reason::Timeout, &RULES);
    registry[1].breaker().failure(10_000, Reason::Unreachable, &RULES);
    for _ in 0..5 {
        assert_eq!(at(&model.pick(look(&registry, &[], 10_001))), Some(0), "it has answered once");
    }
    registry[0].breaker().reset();
    registry[0].breaker().failure(10_000, Reason::Unreachable, &RULES);
    assert!(matches!(model.pick(look(&registry, &[], 10_001)), Pick::Resting), "they just failed");
    let trials: Vec<_> = (0..5).map(|_| model.pick(look(&registry, &[], 10_400))).collect();
    let taken = trials.iter().filter(|pick| at(pick).is_some()).count();
    assert_eq!(taken, 2, "one trial for each, whatever comes");
}

#[test]
fn a_model_is_refused_apart_from_its_endpoint() {
    let (model, registry) = two(0);
    model.candidates[0].breaker.open_for(10_000, 30_000, Reason::Missing);
    assert_eq!(at(&model.pick(look(&registry, &[], 10_001))), Some(1));
    assert!(registry[0].breaker().is_closed());
    assert_eq!(at(&model.pick(look(&registry, &[1], 10_001))), Some(0), "the last one is always tried");
}

#[test]
fn full_ones_are_waited_for_before_open_ones_are_asked() {
    let (model, registry) = two(1);
    let held = registry[0].enter().unwrap();
    registry[1].breaker().failure(10_000, Reason::Answers, &RULES);
    assert!(matches!(model.pick(look(&registry, &[], 10_001)), Pick::Full));
    drop(held);
    assert_eq!(at(&model.pick(look(&registry, &[], 10_001))), Some(0));
    assert_eq!(registry[0].in_flight(), 0, "a place that is not kept is given back");
}

/// A seeded generator (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % n
    }
}

/// Three endpoints of two slots under a model of each strategy.
fn three() -> (Vec<Arc<Deployment>>, Vec<Arc<EndpointState>>) {
    let mut toml = String::new();
    for name in ["a", "b", "c"] {
        toml += &format!("[[endpoints]]\nname='{name}'\nurl='http://{name}:1'\nslots=2\n");
    }
    for strategy in ["least_busy", "round_robin", "weighted"] {
        toml += &format!("[[models]]\nname='{strategy}'\nendpoints=['a','b','c']\nstrategy='{strategy}'\n");
    }
    let config = config::parse(&toml).unwrap();
    let bells: Arc<[Bell]> = Arc::new([Bell::default()]);
    let endpoint = |one: &config::Endpoint| Arc::new(EndpointState::new(one.clone(), 0, None, &bells));
    let registry: Vec<_> = config.endpoints.iter().map(endpoint).collect();
    let catalog = Catalog::build(&config, &registry, &Slots::new(16), &Catalog::default());
    let find = |name: &str| catalog.find(name, &registry).unwrap();
    (["least_busy", "round_robin", "weighted"].map(find).to_vec(), registry)
}

#[test]
fn a_review_says_what_the_pick_then_is_and_takes_nothing() {
    let thresholds = Thresholds { unhealthy: 1, healthy: 1 };
    let mut seen = [0u32; 4];
    for seed in 0..300 {
        let mut random = Random(seed);
        let (models, registry) = three();
        let (mut held, mut now_ms) = (Vec::new(), 10_000);
        for turn in 0..60 {
            now_ms += random.below(400);
            let model = &models[random.below(3) as usize];
            let at = random.below(3) as usize;
            let endpoint = &registry[at];
            match random.below(9) {
                0 => endpoint.set_disabled(random.below(2) == 0),
                1 => {
                    let _ = endpoint.observe(random.below(2) == 0, thresholds);
                }
                2 | 3 => {
                    let reason = [Reason::Answers, Reason::Unreachable][random.below(2) as usize];
                    endpoint.breaker().failure(now_ms, reason, &RULES);
                }
                4 => endpoint.breaker().success(now_ms),
                5 => {
                    model.candidates[at].breaker.open_for(now_ms, 300, Reason::Missing);
                }
                6 if !held.is_empty() => drop(held.swap_remove(random.below(held.len() as u64) as usize)),
                _ => {}
            }
            let tried: Vec<usize> = (0..random.below(2) as usize).collect();
            let look = Look { random: random.below(u64::MAX), ..look(&registry, &tried, now_ms) };
            let state = || {
                let of = |one: &Arc<EndpointState>| (one.in_flight(), one.breaker().state(now_ms));
                let breakers = models.iter().flat_map(|model| &model.candidates);
                let breakers: Vec<_> = breakers.map(|candidate| candidate.breaker.state(now_ms)).collect();
                let cursors: Vec<_> = models.iter().map(|model| format!("{:?}", model.cursor)).collect();
                (registry.iter().map(of).collect::<Vec<_>>(), breakers, cursors)
            };
            let before = state();
            let said = model.review(look);
            assert_eq!(state(), before, "seed {seed}, turn {turn}: a review takes nothing");
            let taken = said.standings.iter().filter(|standing| {
                matches!(standing, Standing::Taken | Standing::Trial | Standing::LastResort)
            });
            assert_eq!(taken.count(), usize::from(matches!(said.outcome, Outcome::Taken(_))));
            let outcome = match model.pick(look) {
                Pick::Taken(picked) => {
                    let trial = said.standings[picked.at] == Standing::Trial;
                    assert_eq!(trial, picked.trial.is_some(), "seed {seed}, turn {turn}: {said:?}");
                    let at = picked.at;
                    held.push(picked);
                    Outcome::Taken(at)
                }
                Pick::Full => Outcome::Full,
                Pick::Resting => Outcome::Resting,
                Pick::None => Outcome::None,
            };
            assert_eq!(said.outcome, outcome, "seed {seed}, turn {turn}: {:?}", said.standings);
            seen[match outcome {
                Outcome::Taken(_) => 0,
                Outcome::Full => 1,
                Outcome::Resting => 2,
                Outcome::None => 3,
            }] += 1;
        }
    }
    assert!(seen.iter().all(|&seen| seen > 20), "each outcome was met: {seen:?}");
}
