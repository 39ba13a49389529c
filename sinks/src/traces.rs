//! Spans, delivered to a receiver of OTLP over HTTP.
//!
//! Spans that have ended in, requests out. Never blocks whoever ends a span and keeps a bounded
//! number: what finds no room, or a receiver that takes nothing, is counted and gone. Not the log:
//! that is every decision, and is delivered by sinks.

use std::{sync::LazyLock, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cordon_session::{config::TelemetryConfig, metrics};
use hyper::{Method, Request, Response, header::CONTENT_TYPE};
use opentelemetry::{Context, KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor},
};
use prometheus::IntCounter;
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    http::Endpoint,
    target::{Failure, otlp::headers},
};

/// Spans on their way to a receiver. They end with [`Traces::stop`].
#[derive(Debug)]
pub struct Traces {
    tracer: SdkTracer,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Spans that wait at most.
const WAITING: usize = 4096;

/// Spans of one request.
const BATCH: usize = 512;

/// How long a span waits for others.
const PATIENCE: Duration = Duration::from_secs(1);

impl Traces {
    /// Starts delivering, where the configuration names a receiver. One that cannot be reached is
    /// no error: spans are lost until it can.
    ///
    /// # Errors
    /// In words: the address is none, or a file cannot be read.
    pub fn start(config: &TelemetryConfig) -> Result<Option<Self>, String> {
        let Some(url) = &config.otlp else {
            return Ok(None);
        };
        let headers = config.headers_file.as_deref().map(headers).transpose()?;
        let mut endpoint = Endpoint::parse(url, config.ca.as_deref())?;
        if endpoint.base.is_empty() {
            endpoint.base = "/v1/traces".into();
        }
        let client = Client {
            endpoint: Mutex::new(endpoint),
            headers: headers.unwrap_or_default(),
        };
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(url)
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|error| error.to_string())?;
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "cordon"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        exporter.set_resource(&resource);
        let (queue, spans) = mpsc::channel(WAITING);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                config.sampled(),
            ))))
            .with_resource(resource)
            .with_span_processor(Queue(queue))
            .build();
        let (stop, stopped) = watch::channel(false);
        Ok(Some(Self {
            tracer: provider.tracer("cordon"),
            stop,
            task: tokio::spawn(deliver(exporter, spans, stopped)),
        }))
    }

    /// Where spans begin.
    pub fn tracer(&self) -> SdkTracer {
        self.tracer.clone()
    }

    /// Delivers what has ended, for as long as `grace`. Spans that end from now on are lost.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(true);
        let abort = self.task.abort_handle();
        if timeout(grace, self.task).await.is_err() {
            abort.abort();
        }
    }
}

/// Where spans wait that have ended.
#[derive(Debug)]
struct Queue(mpsc::Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.0.try_send(span).is_err() {
            SPANS.dropped.inc();
        }
    }

    // Nobody flushes but [`Traces::stop`].
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Delivers in batches until told to stop, and then what is left.
async fn deliver(
    exporter: impl SpanExporter,
    mut spans: mpsc::Receiver<SpanData>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut ticks = interval(PATIENCE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::new();
    let mut failing = false;
    loop {
        let room = BATCH.saturating_sub(batch.len());
        let last = tokio::select! {
            taken = spans.recv_many(&mut batch, room), if room > 0 => match taken {
                0 => true,
                _ if batch.len() < BATCH => continue,
                _ => false,
            },
            _ = ticks.tick() => false,
            _ = stopped.wait_for(|stop| *stop), if !spans.is_closed() => {
                spans.close();
                continue;
            }
        };
        if !batch.is_empty() {
            send(&exporter, std::mem::take(&mut batch), &mut failing).await;
        }
        if last {
            return;
        }
    }
}

async fn send(exporter: &impl SpanExporter, batch: Vec<SpanData>, failing: &mut bool) {
    let count = batch.len() as u64;
    match exporter.export(batch).await {
        Ok(()) => {
            SPANS.sent.inc_by(count);
            if std::mem::take(failing) {
                tracing::info!("traces are taken again");
            }
        }
        Err(error) => {
            SPANS.failed.inc_by(count);
            // Once, not for every batch.
            if !std::mem::replace(failing, true) {
                tracing::warn!(%error, "traces are not taken, and lost until they are");
            }
        }
    }
}

/// The way to the receiver.
struct Client {
    endpoint: Mutex<Endpoint>,
    headers: Vec<(String, String)>,
}

#[async_trait]
impl HttpClient for Client {
    /// `request` was made for the same receiver; only its type and its body are taken.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            headers.push((name.as_str(), value.clone()));
        }
        if let Some(media) = head.headers.get(CONTENT_TYPE) {
            headers.push(("content-type", media.to_str()?.to_owned()));
        }
        let mut endpoint = self.endpoint.lock().await;
        let answer = endpoint.send(Method::POST, "", &headers, body.into()).await;
        let answer = answer.map_err(|(Failure::Retry(why) | Failure::Refused(why))| why)?;
        let response = Response::builder().status(answer.status);
        Ok(response.body(answer.body.into())?)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}

struct Spans {
    sent: IntCounter,
    dropped: IntCounter,
    failed: IntCounter,
}

static SPANS: LazyLock<Spans> = LazyLock::new(|| {
    let spans = metrics::counters(
        "cordon_spans_total",
        "Spans that have ended, by what came of them: sent, dropped (no room), failed.",
        "outcome",
    );
    Spans {
        sent: spans.with_label_values(&["sent"]),
        dropped: spans.with_label_values(&["dropped"]),
        failed: spans.with_label_values(&["failed"]),
    }
});

#[cfg(test)]
mod tests;
