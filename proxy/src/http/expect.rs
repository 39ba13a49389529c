//! Holds a body that its client offers (`Expect: 100-continue`) until its origin asks for it.
//!
//! Then the client is asked for it in turn, which `hyper` does once the body is read. An origin that
//! answers without asking gets none of it. One that says nothing for a while may not know the
//! expectation, and gets it: its client would not wait for ever either.
//!
//! Source: RFC 9110 section 10.1.1.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{Request, StatusCode, Version, body::Body, ext::on_informational, header};
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};

use crate::limits;

/// A body that is held.
pub(super) struct Offered {
    /// Ends without a word once the origin has answered.
    asked: mpsc::Receiver<()>,
    timer: Pin<Box<Sleep>>,
}

impl Offered {
    /// What `request` offers; none where it is simply sent. In HTTP/2 nobody would hear the origin ask.
    pub(super) fn of<B: Body>(request: &mut Request<B>) -> Option<Box<Self>> {
        if !request.headers().contains_key(header::EXPECT)
            || request.body().is_end_stream()
            || request.version() == Version::HTTP_2
        {
            return None;
        }
        let (ask, asked) = mpsc::channel(1);
        on_informational(request, move |told| {
            if told.status() == StatusCode::CONTINUE {
                // Once is enough.
                let _again = ask.try_send(());
            }
        });
        let timer = Box::pin(sleep(limits::CONTINUE));
        Some(Box::new(Self { asked, timer }))
    }

    /// Whether it is asked for: false once there is an answer without it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match self.asked.poll_recv(cx) {
            Poll::Ready(asked) => Poll::Ready(asked.is_some()),
            Poll::Pending => self.timer.as_mut().poll(cx).map(|()| true),
        }
    }
}
