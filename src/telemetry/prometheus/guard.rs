//! Families of the guard: verdicts and time by scanner and direction.

use super::Page;
use crate::config::guard::ScannerName;
use crate::telemetry::metric::{GuardMetrics, VERDICTS};

const DIRECTIONS: [&str; 2] = ["input", "output"];

impl Page<'_> {
    /// Every series of a scanner exists from the start, or a query for blocks is empty until the first one.
    pub(super) fn guard(&mut self) {
        if !self.world.guard.is_on() {
            return;
        }
        self.family(
            "corelane_guard_verdicts_total",
            "counter",
            "Exchanges by scanner, direction and verdict.",
        );
        for_each(|at, direction, name| {
            for (verdict, word) in VERDICTS.iter().enumerate() {
                let count = self.sum(|guard| guard.verdicts[at][name as usize][verdict].get());
                let labels = [("scanner", name.name()), ("direction", direction), ("verdict", word)];
                self.line("corelane_guard_verdicts_total", &labels, count);
            }
        });
        self.family(
            "corelane_guard_seconds_total",
            "counter",
            "Time of scanners; classifiers share a pass, which counts for the first of them.",
        );
        for_each(|at, direction, name| {
            let spent_ns = self.sum(|guard| guard.spent_ns[at][name as usize].get());
            let labels = [("scanner", name.name()), ("direction", direction)];
            self.real("corelane_guard_seconds_total", &labels, super::seconds(spent_ns / 1000));
        });
        self.family(
            "corelane_guard_remembered_total",
            "counter",
            "Texts of requests whose verdict was remembered.",
        );
        let remembered = self.sum(|guard| guard.remembered.get());
        self.line("corelane_guard_remembered_total", &[], remembered);
    }

    /// LiteLLM's families.
    pub(super) fn guardrails(&mut self) {
        if !self.world.guard.is_on() {
            return;
        }
        let name = "litellm_guardrail_requests_total";
        self.family(name, "counter", "Exchanges that a guardrail has read.");
        for_each(|at, direction, scanner| {
            let verdicts = |range: std::ops::Range<usize>| {
                self.sum(|guard| {
                    guard.verdicts[at][scanner as usize][range.clone()].iter().map(|v| v.get()).sum()
                })
            };
            let counts =
                [("success", verdicts(0..3)), ("blocked", verdicts(3..4)), ("error", verdicts(4..5))];
            for (status, count) in counts {
                let labels =
                    [("guardrail_name", scanner.name()), ("hook_type", hook(direction)), ("status", status)];
                self.line(name, &labels, count);
            }
        });
        let name = "litellm_guardrail_errors_total";
        self.family(name, "counter", "Exchanges on which a guardrail failed.");
        for_each(|at, direction, scanner| {
            let count = self.sum(|guard| guard.verdicts[at][scanner as usize][4].get());
            let labels = [("guardrail_name", scanner.name()), ("hook_type", hook(direction))];
            self.line(name, &labels, count);
        });
    }

    fn sum(&self, pick: impl Fn(&GuardMetrics) -> u64) -> u64 {
        self.world.shards.iter().map(|shard| pick(&shard.metrics.guard)).sum()
    }
}

fn hook(direction: &str) -> &'static str {
    if direction == "input" { "pre_call" } else { "post_call" }
}

fn for_each(mut each: impl FnMut(usize, &'static str, ScannerName)) {
    for (at, direction) in DIRECTIONS.into_iter().enumerate() {
        for name in ScannerName::ALL {
            let input_only =
                matches!(name, ScannerName::PromptInjection | ScannerName::Secrets | ScannerName::TokenLimit);
            let output_only =
                matches!(name, ScannerName::MaliciousUrls | ScannerName::NoRefusal | ScannerName::NoCode);
            if !(input_only && at == 1 || output_only && at == 0) {
                each(at, direction, name);
            }
        }
    }
}
