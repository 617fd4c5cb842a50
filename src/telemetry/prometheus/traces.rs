//! Families of the spans that are sent to a collector.

use super::Page;

impl Page<'_> {
    /// What became of spans.
    pub(super) fn traces(&mut self) {
        let (exported, dropped) = self.world.spans.counts();
        for (name, help, value) in [
            ("corelane_spans_exported_total", "Spans that a collector has taken.", exported),
            (
                "corelane_spans_dropped_total",
                "Spans lost: the queue was full, or no collector took them.",
                dropped,
            ),
        ] {
            self.family(name, "counter", help);
            self.line(name, &[], value);
        }
    }
}
