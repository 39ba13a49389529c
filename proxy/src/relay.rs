//! Moves bytes between a session and its destination until both are done.
//!
//! A buffer is held only while bytes move, so an idle tunnel costs two sockets and a task. A
//! direction with much to move goes on through a pipe, which spares two copies. Each direction
//! ends on its own (half close), and the end is told to the other side.

mod buffers;
mod pipes;

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use cordon_audit::FlowEnd;
use cordon_policy::{Decided, Deny};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::Instant,
};

pub(crate) use self::buffers::Buffers;
use crate::{
    flow::{Flow, Meter},
    limits,
    tls::{self, Checked, Inside},
};

/// Carries a tunnel that stands to its end: what the client says first is checked, then its bytes
/// move, or its requests are decided one by one where policy asks for that. `preface` is what the
/// client sent before the tunnel stood.
pub(crate) fn relay<'a>(
    client: TcpStream,
    upstream: TcpStream,
    preface: Vec<u8>,
    buffers: &'a Buffers,
    flow: Flow,
) -> impl Future<Output = ()> + Send + 'a {
    // Boxed, so that a tunnel at rest does not carry the memory of its beginning along, not even
    // that of what it began with.
    let begun = Box::pin(async move {
        let checked = tls::check(client, &upstream, &preface, flow).await;
        checked.map(|checked| (checked, upstream))
    });
    async move {
        if let Some((checked, upstream)) = begun.await {
            carry(checked, upstream, buffers).await;
        }
    }
}

/// Carries a connection of which nothing is checked: it does not lead out of the session.
pub(crate) async fn unchecked(
    client: TcpStream,
    upstream: TcpStream,
    buffers: &Buffers,
    flow: Flow,
) {
    let checked = Checked {
        client,
        flow,
        first: Vec::new(),
        inside: Inside::Bytes,
    };
    carry(checked, upstream, buffers).await;
}

/// Carries a tunnel whose first bytes are checked.
#[expect(
    clippy::manual_async_fn,
    reason = "what an `async fn` is given lies in its future twice, and a tunnel at rest holds it"
)]
fn carry<'a>(
    mut checked: Checked,
    mut upstream: TcpStream,
    buffers: &'a Buffers,
) -> impl Future<Output = ()> + Send + 'a {
    async move {
        match checked.inside {
            Inside::Tls => Box::pin(tls::inspect(checked, upstream)).await,
            Inside::Requests => Box::pin(tls::decide_plain(checked, upstream)).await,
            Inside::Bytes => {
                let ended = move_bytes(&mut checked, &mut upstream, buffers).await;
                if let Some(late) = close(checked, upstream, ended) {
                    late.await;
                }
            }
        }
    }
}

type Late = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Closes both sides; what is still to be recorded then, where that takes time.
fn close(checked: Checked, upstream: TcpStream, ended: Ended) -> Option<Late> {
    let Checked { client, flow, .. } = checked;
    if !matches!(ended, Ended::By(FlowEnd::Completed)) {
        // A broken tunnel must not look like a finished one: neither side gets a clean end.
        reset(client);
        reset(upstream);
    }
    match ended {
        Ended::By(end) => flow.close(end),
        Ended::Revoked(None) => flow.close(FlowEnd::Revoked),
        Ended::Revoked(Some(deny)) => {
            return Some(Box::pin(async move {
                // Both sides are closed already, so there is nobody left to tell.
                let _told = flow.end_revoked(deny).await;
            }));
        }
    }
    None
}

/// How the relaying of a tunnel came to its end.
enum Ended {
    By(FlowEnd),
    /// With what policy or a limit says; with nothing where it is allowed on other terms now.
    Revoked(Option<Decided<Deny>>),
}

/// Relays until both directions have ended, one breaks, nothing moves for [`limits::IDLE`], or
/// policy allows it no more.
async fn move_bytes(checked: &mut Checked, upstream: &mut TcpStream, buffers: &Buffers) -> Ended {
    let Checked {
        client,
        flow,
        first,
        ..
    } = checked;
    // It is sent on and then no longer needed.
    let preface = std::mem::take(first);
    let flow = &*flow;
    let meter = &**flow.meter();
    let activity = Activity::of(flow);
    let (from_client, to_client) = client.split();
    let (from_upstream, to_upstream) = upstream.split();
    let mut there = Direction {
        from: from_client,
        to: to_upstream,
        count: |meter: &Meter, bytes| meter.count_out(bytes),
    };
    let mut back = Direction {
        from: from_upstream,
        to: to_client,
        count: |meter: &Meter, bytes| meter.count_in(bytes),
    };
    let mut there = pin!(there.run(preface, meter, &activity, buffers));
    let mut back = pin!(back.run(Vec::new(), meter, &activity, buffers));
    let mut idle = pin!(activity.idle_for(flow.session().limits().idle));
    let mut over = pin!(flow.over());
    let mut open = (true, true);
    poll_fn(|cx| {
        for (way, open) in [
            (there.as_mut() as Way<'_>, &mut open.0),
            (back.as_mut(), &mut open.1),
        ] {
            if *open && let Poll::Ready(done) = way.poll(cx) {
                match done {
                    Ok(()) => *open = false,
                    Err(_broken) => return Poll::Ready(Ended::By(FlowEnd::Reset)),
                }
            }
        }
        if open == (false, false) {
            return Poll::Ready(Ended::By(FlowEnd::Completed));
        }
        if idle.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ended::By(FlowEnd::TimedOut));
        }
        over.as_mut().poll(cx).map(Ended::Revoked)
    })
    .await
}

/// One direction under way.
type Way<'a> = Pin<&'a mut (dyn Future<Output = io::Result<()>> + Send + 'a)>;

/// Closes with a reset instead of an end of stream.
pub(crate) fn reset(stream: TcpStream) {
    end_with_reset(&stream);
    drop(stream);
}

/// Makes a reset of the end that the stream will have when its owner drops it.
pub(crate) fn end_with_reset(stream: &TcpStream) {
    // Failing means that the peer sees a clean end instead; nothing else depends on it.
    let _unset = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

struct Direction<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    count: fn(&Meter, usize),
}

impl Direction<'_> {
    async fn run(
        &mut self,
        preface: Vec<u8>,
        meter: &Meter,
        activity: &Activity,
        buffers: &Buffers,
    ) -> io::Result<()> {
        if !preface.is_empty() {
            self.to.write_all(&preface).await?;
            (self.count)(meter, preface.len());
        }
        drop(preface);
        let mut by = By::Buffer;
        loop {
            self.from.readable().await?;
            activity.not_paused().await;
            let moved = match by {
                // Boxed, because most tunnels rest most of the time.
                By::Buffer => Box::pin(self.through_buffer(meter, activity, buffers)).await?,
                By::Pipe => Box::pin(self.through_pipe(meter, activity, buffers)).await?,
            };
            match moved {
                Moved::All => by = By::Buffer,
                Moved::Much => by = By::Pipe,
                Moved::End => break,
            }
        }
        if activity.ends_last() {
            // Both have ended: closing the sockets, which follows, tells both.
            return Ok(());
        }
        // The other side may be gone already; then there is nobody left to tell.
        match self.to.shutdown().await {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
            _ => Ok(()),
        }
    }

    /// Moves what is there, until it turns out to be much.
    async fn through_buffer(
        &mut self,
        meter: &Meter,
        activity: &Activity,
        buffers: &Buffers,
    ) -> io::Result<Moved> {
        let mut buffer = buffers.take();
        let moved = self.drain(&mut buffer.bytes, meter, activity).await;
        buffers.give_back(buffer);
        moved
    }

    async fn drain(
        &mut self,
        buffer: &mut [u8],
        meter: &Meter,
        activity: &Activity,
    ) -> io::Result<Moved> {
        let mut moved = 0;
        while moved < limits::RELAY_BULK_BYTES {
            match self.from.try_read(buffer) {
                Ok(0) => return Ok(Moved::End),
                Ok(read) => {
                    let bytes = buffer.get(..read).unwrap_or_default();
                    self.to.write_all(bytes).await?;
                    (self.count)(meter, read);
                    activity.note();
                    moved += read;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Moved::All),
                Err(error) => return Err(error),
            }
        }
        Ok(Moved::Much)
    }

    /// Moves what is there without copying it. More of it than a buffer holds at once keeps the
    /// pipe in use; less gives it back.
    async fn through_pipe(
        &mut self,
        meter: &Meter,
        activity: &Activity,
        buffers: &Buffers,
    ) -> io::Result<Moved> {
        let Some(mut pipe) = buffers.pipes().take() else {
            return self.through_buffer(meter, activity, buffers).await;
        };
        let mut most = 0;
        // A fast source may never have nothing.
        while !activity.is_paused()
            && let Some(filled) = pipe.fill(self.from.as_ref())?
        {
            if filled == 0 {
                buffers.pipes().give_back(pipe);
                return Ok(Moved::End);
            }
            pipe.empty(self.to.as_ref()).await?;
            (self.count)(meter, filled);
            activity.note();
            most = most.max(filled);
        }
        buffers.pipes().give_back(pipe);
        Ok(if most > limits::RELAY_BUFFER_BYTES / 4 {
            Moved::Much
        } else {
            Moved::All
        })
    }
}

/// How a direction moves what comes next.
#[derive(Clone, Copy)]
enum By {
    Buffer,
    Pipe,
}

/// What came of moving.
enum Moved {
    /// All that was there, and it was not much.
    All,
    /// Much, and more is likely.
    Much,
    /// The source has ended.
    End,
}

/// When bytes last moved, in either direction, and whether they may.
pub(crate) struct Activity {
    last: Mutex<Instant>,
    paused: watch::Receiver<bool>,
    /// Whether a direction has ended.
    ended: AtomicBool,
}

impl Activity {
    pub(crate) fn of(flow: &Flow) -> Self {
        Self::new(flow.session().gate().paused())
    }

    fn new(paused: watch::Receiver<bool>) -> Self {
        Self {
            last: Mutex::new(Instant::now()),
            paused,
            ended: AtomicBool::new(false),
        }
    }

    pub(crate) fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Notes that a direction has ended; whether it is the second.
    fn ends_last(&self) -> bool {
        self.ended.swap(true, Ordering::Relaxed)
    }

    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Resolves at once, or when the session is not paused any more.
    pub(crate) async fn not_paused(&self) {
        if self.is_paused() {
            // Boxed, because most tunnels are never paused.
            Box::pin(async {
                let mut paused = self.paused.clone();
                // A session that is gone ends its flows itself.
                let _gone = paused.wait_for(|paused| !paused).await;
            })
            .await;
        }
    }

    /// Resolves once nothing has moved for `limit`. The time of a pause does not count.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        loop {
            let end = self.last() + limit;
            if Instant::now() < end {
                tokio::time::sleep_until(end).await;
            } else if self.is_paused() {
                self.not_paused().await;
                self.note();
            } else {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_paused_flow_does_not_move_and_is_not_idle() {
        let session = watch::Sender::new(true);
        let activity = Activity::new(session.subscribe());
        let began = activity.last();
        let mut moves = pin!(activity.not_paused());
        // With no time at all to rest in, so that only the pause holds it.
        let mut idle = pin!(activity.idle_for(Duration::ZERO));
        assert!(poll(moves.as_mut()).is_pending());
        assert!(poll(idle.as_mut()).is_pending());

        session.send_replace(false);
        assert!(poll(moves).is_ready());
        assert!(poll(idle).is_ready(), "idle once it runs again");
        assert!(
            activity.last() > began,
            "the time of the pause does not count"
        );
    }

    #[test]
    fn a_flow_that_is_not_paused_moves_and_may_be_idle() {
        let session = watch::Sender::new(false);
        let activity = Activity::new(session.subscribe());
        assert!(poll(pin!(activity.not_paused())).is_ready());
        assert!(poll(pin!(activity.idle_for(Duration::ZERO))).is_ready());
    }
}
