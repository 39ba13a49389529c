//! What the egress counts for Prometheus: flows, bytes, latencies, resolver outcomes, limits.
//!
//! Handles are made once; counting is an atomic addition. No label holds what a peer chose.

use std::sync::LazyLock;

use cordon_audit::FlowEnd;
use cordon_session::metrics::{counter, counters, gauge, step};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

/// The counters of the egress.
pub(crate) static PROXY: LazyLock<ProxyMetrics> = LazyLock::new(ProxyMetrics::new);

/// See [`PROXY`].
pub(crate) struct ProxyMetrics {
    pub(crate) flows_open: IntGauge,
    pub(crate) bytes_out: IntCounter,
    pub(crate) bytes_in: IntCounter,
    pub(crate) limits_hit: IntCounter,
    pub(crate) resolve: Histogram,
    pub(crate) connect: Histogram,
    pub(crate) first_byte: Histogram,
    pub(crate) resolved: Resolved,
    pub(crate) parents: Parents,
    pub(crate) connections_waited: IntCounter,
    pub(crate) echoed: IntCounter,
    completed: IntCounter,
    ended: IntCounterVec,
}

/// What came of lookups.
pub(crate) struct Resolved {
    pub(crate) answered: IntCounter,
    pub(crate) no_name: IntCounter,
    pub(crate) timed_out: IntCounter,
    pub(crate) failed: IntCounter,
    pub(crate) overridden: IntCounter,
}

/// What came of asking parent proxies.
pub(crate) struct Parents {
    pub(crate) connected: IntCounter,
    pub(crate) failed: IntCounter,
}

impl ProxyMetrics {
    fn new() -> Self {
        let ended = counters(
            "cordon_flows_ended_total",
            "Flows that have ended, by how.",
            "end",
        );
        let resolved = counters(
            "cordon_resolve_total",
            "Names looked up, by what came of it.",
            "outcome",
        );
        let parents = counters(
            "cordon_parent_connections_total",
            "Connections asked of parent proxies, by what came of it.",
            "outcome",
        );
        let resolved = |outcome| resolved.with_label_values(&[outcome]);
        let parents = |outcome| parents.with_label_values(&[outcome]);
        Self {
            flows_open: gauge("cordon_flows_open", "Flows that are open."),
            bytes_out: counter(
                "cordon_bytes_out_total",
                "Bytes from sessions to destinations.",
            ),
            bytes_in: counter(
                "cordon_bytes_in_total",
                "Bytes from destinations to sessions.",
            ),
            limits_hit: counter(
                "cordon_limits_hit_total",
                "Flows refused or ended because a limit or a budget was used up.",
            ),
            connections_waited: counter(
                "cordon_connections_waited_total",
                "Client connections that waited for room or for their session's rate.",
            ),
            echoed: counter(
                "cordon_credentials_echoed_total",
                "Answers that sent a credential back, which was masked.",
            ),
            resolve: step("resolve"),
            connect: step("connect"),
            first_byte: step("first_byte"),
            resolved: Resolved {
                answered: resolved("answered"),
                no_name: resolved("no_name"),
                timed_out: resolved("timed_out"),
                failed: resolved("failed"),
                overridden: resolved("overridden"),
            },
            parents: Parents {
                connected: parents("connected"),
                failed: parents("failed"),
            },
            completed: ended.with_label_values(&[word(FlowEnd::Completed)]),
            ended,
        }
    }

    /// Counts the end of a flow.
    pub(crate) fn ended(&self, end: FlowEnd) {
        match end {
            FlowEnd::Completed => self.completed.inc(),
            other => self.ended.with_label_values(&[word(other)]).inc(),
        }
    }
}

/// An end as records spell it.
pub(crate) fn word(end: FlowEnd) -> &'static str {
    match end {
        FlowEnd::Completed => "completed",
        FlowEnd::ResolveFailed => "resolve_failed",
        FlowEnd::ConnectFailed => "connect_failed",
        FlowEnd::Reset => "reset",
        FlowEnd::SessionEnded => "session_ended",
        FlowEnd::TimedOut => "timed_out",
        FlowEnd::Revoked => "revoked",
        FlowEnd::Refused => "refused",
        FlowEnd::Limit => "limit",
        FlowEnd::Drained => "drained",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_under_the_words_of_the_records() {
        PROXY.ended(FlowEnd::Limit);
        PROXY.ended(FlowEnd::Completed);
        let text = cordon_session::metrics::text().unwrap();
        let spelt = serde_json::to_value(FlowEnd::Limit).unwrap();
        assert_eq!(spelt, word(FlowEnd::Limit));
        assert!(
            text.contains("cordon_flows_ended_total{end=\"limit\"} "),
            "{text}"
        );
        assert!(text.contains("cordon_flows_ended_total{end=\"completed\"} "));
        assert!(text.contains("cordon_resolve_total{outcome=\"answered\"} "));
    }
}
