//! The daemon's messages, and its traces where the configuration says so.
//!
//! Messages go to standard error (`CORDON_LOG`, default `info`). Traces are the proxy's spans: each
//! flow, what was done for it, and each refusal, by the decision's id.

use std::io::IsTerminal as _;

use cordon_session::config::TelemetryConfig;
use cordon_sinks::Traces;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::FilterFn, fmt, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::error::Failure;

/// Begins with both. Traces are to be stopped last.
///
/// # Errors
/// [`Failure`] when the receiver's address or one of its files cannot be used.
pub(super) fn start(config: &TelemetryConfig) -> Result<Option<Traces>, Failure> {
    let traces = Traces::start(config).map_err(|why| {
        Failure::new(format!("traces not sent: {why}"))
            .help("correct `[telemetry]` in `cordon.toml`, or remove it")
    })?;
    let filter = EnvFilter::try_from_env("CORDON_LOG").unwrap_or_else(|_unset| "info".into());
    let messages = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter);
    let spans = traces.as_ref().map(|traces| {
        let of_the_proxy =
            FilterFn::new(|what| what.is_span() && what.target().starts_with("cordon_proxy"));
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(of_the_proxy.with_max_level_hint(LevelFilter::DEBUG))
    });
    tracing_subscriber::registry()
        .with(messages)
        .with(spans)
        .try_init()
        .map_err(|error| Failure::new(format!("messages not written: {error}")))?;
    Ok(traces)
}
