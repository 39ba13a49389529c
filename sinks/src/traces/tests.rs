//! A receiver that takes its time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use opentelemetry::trace::{Span as _, Tracer as _};
use tokio::sync::Semaphore;

use super::*;

/// Takes as many batches as it has room for.
#[derive(Clone, Debug)]
struct Slow {
    room: Arc<Semaphore>,
    taken: Arc<AtomicUsize>,
}

impl SpanExporter for Slow {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.room.acquire().await.unwrap().forget();
        assert!(batch.len() <= BATCH);
        self.taken.fetch_add(batch.len(), Ordering::AcqRel);
        Ok(())
    }
}

fn tracer(queue: mpsc::Sender<SpanData>) -> SdkTracer {
    let provider = SdkTracerProvider::builder().with_span_processor(Queue(queue));
    provider.build().tracer("test")
}

#[tokio::test]
async fn n24_a_receiver_that_takes_nothing_costs_spans_and_nobodys_time() {
    let slow = Slow {
        room: Arc::new(Semaphore::new(0)),
        taken: Arc::default(),
    };
    let (queue, spans) = mpsc::channel(WAITING);
    let tracer = tracer(queue);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(deliver(slow.clone(), spans, stopped));
    let before = SPANS.dropped.get();
    let all = WAITING + 3 * BATCH;
    // Nothing here waits: were there no bound, or a bound that blocks, this would not end so.
    for _ in 0..all {
        tracer.start("span").end();
        tokio::task::yield_now().await;
    }
    let dropped = usize::try_from(SPANS.dropped.get() - before).unwrap();
    assert!(dropped >= BATCH, "{dropped} of {all} found no room");
    // The control: the rest is delivered once it is taken, on the way out too.
    slow.room.add_permits(1000);
    stop.send_replace(true);
    task.await.unwrap();
    assert_eq!(slow.taken.load(Ordering::Acquire), all - dropped);
}

#[tokio::test]
async fn without_a_receiver_nothing_starts_and_a_wrong_one_is_refused() {
    let config = TelemetryConfig::default();
    assert!(Traces::start(&config).unwrap().is_none());
    for bad in ["collector:4318", "http://user:pw@127.0.0.1", "ftp://x/"] {
        let config = TelemetryConfig {
            otlp: Some(bad.into()),
            ..TelemetryConfig::default()
        };
        assert!(Traces::start(&config).is_err(), "{bad}");
    }
}
