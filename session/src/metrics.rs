//! What the process counts for Prometheus, and the text that shows it.
//!
//! Every number is of the whole node: no label ever holds a host, a user or a session, so the
//! sets of labels are bounded. Counting is an atomic addition on a handle made once.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use cordon_policy::{Decision, DenyReason};
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

/// All metrics of the process in the text format of Prometheus.
///
/// # Errors
/// In words, when they cannot be encoded.
pub fn text() -> Result<String, String> {
    LazyLock::force(&GATE);
    TextEncoder::new()
        .encode_to_string(&REGISTRY.gather())
        .map_err(|error| error.to_string())
}

/// The media type of [`text`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A counter of the node.
pub fn counter(name: &str, help: &str) -> IntCounter {
    registered(IntCounter::new(name, help))
}

/// Counters of the node by one label. Its values are a fixed, small vocabulary.
pub fn counters(name: &str, help: &str, label: &str) -> IntCounterVec {
    registered(IntCounterVec::new(Opts::new(name, help), &[label]))
}

/// A gauge of the node.
pub fn gauge(name: &str, help: &str) -> IntGauge {
    registered(IntGauge::new(name, help))
}

/// A gauge of the node that is a time, in seconds.
pub fn seconds(name: &str, help: &str) -> Gauge {
    registered(Gauge::new(name, help))
}

/// The latency of one step from the first byte to the last.
pub fn step(name: &str) -> Histogram {
    STEPS.with_label_values(&[name])
}

/// What the gate counts.
pub(crate) struct GateMetrics {
    allowed: IntCounter,
    denied: IntCounterVec,
    not_recorded: IntCounter,
    decide: Histogram,
    record: Histogram,
}

pub(crate) static GATE: LazyLock<GateMetrics> = LazyLock::new(|| GateMetrics {
    allowed: counter(
        "cordon_decisions_allowed_total",
        "Decisions that allowed, recorded.",
    ),
    denied: counters(
        "cordon_decisions_denied_total",
        "Refusals, recorded, by reason.",
        "reason",
    ),
    not_recorded: counter(
        "cordon_decisions_not_recorded_total",
        "Decisions that the log did not take, so that nothing was done.",
    ),
    decide: step("decide"),
    record: step("record"),
});

impl GateMetrics {
    /// Notes how long a decision took to make.
    pub(crate) fn decided(&self, decision: &Decision) {
        let basis = match decision {
            Decision::Allow(allow) => &allow.verdict().basis,
            Decision::Deny(deny) => &deny.verdict().basis,
        };
        // Zero: refused without asking policy.
        if basis.evaluation > Duration::ZERO {
            self.decide.observe(basis.evaluation.as_secs_f64());
        }
    }

    /// Counts a decision once it is recorded, or was not: then `outcome` is `None`.
    pub(crate) fn recorded(&self, since: Instant, outcome: Option<Result<(), DenyReason>>) {
        self.record.observe(since.elapsed().as_secs_f64());
        match outcome {
            Some(Ok(())) => self.allowed.inc(),
            // Looked up by its label; a refusal waits for the disk anyway.
            Some(Err(reason)) => self.denied.with_label_values(&[reason.code()]).inc(),
            None => self.not_recorded.inc(),
        }
    }
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

static STEPS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let options = HistogramOpts::new(
        "cordon_step_seconds",
        "Time that one step of a request took.",
    )
    .buckets(BUCKETS.to_vec());
    registered(HistogramVec::new(options, &["step"]))
});

/// From an evaluation in the cache to a destination that is far away, in seconds.
const BUCKETS: [f64; 14] = [
    0.000_01, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5,
    1.0, 10.0,
];

/// Puts a new metric into the registry.
#[expect(
    clippy::expect_used,
    reason = "fails only for a malformed or doubled name; names are constants, and tests gather all"
)]
fn registered<M: prometheus::core::Collector + Clone + 'static>(made: prometheus::Result<M>) -> M {
    let metric = made.expect("the name of a metric is well-formed");
    REGISTRY
        .register(Box::new(metric.clone()))
        .expect("the name of a metric is used once");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        GATE.recorded(Instant::now(), Some(Ok(())));
        GATE.recorded(Instant::now(), Some(Err(DenyReason::DefaultDeny)));
        GATE.recorded(Instant::now(), None);
        let text = text().unwrap();
        for line in [
            "# TYPE cordon_decisions_allowed_total counter",
            "cordon_decisions_denied_total{reason=\"default_deny\"} ",
            "cordon_decisions_not_recorded_total ",
            "cordon_step_seconds_bucket{step=\"record\",le=\"0.001\"} ",
            "cordon_step_seconds_count{step=\"decide\"} ",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
