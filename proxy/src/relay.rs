//! Moves bytes between a session and its destination until both are done.
//!
//! A buffer is held only while bytes move, so an idle tunnel costs two sockets and a task. Each
//! direction ends on its own (half close), and the end is told to the other side.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cordon_audit::FlowEnd;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    flow::{Flow, Meter},
    limits,
    tls::{self, Checked},
};

/// Carries a tunnel that stands to its end: what the client says first is checked, then its bytes
/// move, or its requests are decided one by one where policy asks for that. `preface` is what the
/// client sent before the tunnel stood.
pub(crate) async fn relay(
    client: TcpStream,
    upstream: TcpStream,
    preface: &[u8],
    buffers: &Buffers,
    flow: Flow,
) {
    // Boxed, so that a tunnel at rest does not carry the memory of its beginning along.
    let Some(checked) = Box::pin(tls::check(client, &upstream, preface, flow)).await else {
        return;
    };
    let Checked {
        client,
        flow,
        first,
        inspect,
    } = checked;
    if inspect {
        Box::pin(tls::inspect(client, upstream, first, flow)).await;
    } else {
        move_bytes(client, upstream, &first, buffers, flow).await;
    }
}

/// Relays until both directions have ended, one breaks, nothing moves for [`limits::IDLE`], or
/// policy allows it no more.
async fn move_bytes(
    mut client: TcpStream,
    mut upstream: TcpStream,
    preface: &[u8],
    buffers: &Buffers,
    flow: Flow,
) {
    let meter = std::sync::Arc::clone(flow.meter());
    let activity = Activity::default();
    let mut revoked = None;
    let end = {
        let (from_client, to_client) = client.split();
        let (from_upstream, to_upstream) = upstream.split();
        let there = Direction {
            from: from_client,
            to: to_upstream,
            count: |meter: &Meter, bytes| meter.count_out(bytes),
        };
        let back = Direction {
            from: from_upstream,
            to: to_client,
            count: |meter: &Meter, bytes| meter.count_in(bytes),
        };
        let both = async {
            tokio::try_join!(
                there.run(preface, &meter, &activity, buffers),
                back.run(&[], &meter, &activity, buffers),
            )
        };
        tokio::select! {
            done = both => match done {
                Ok(((), ())) => FlowEnd::Completed,
                Err(_broken) => FlowEnd::Reset,
            },
            () = activity.idle_for(flow.session().limits().idle) => FlowEnd::TimedOut,
            // The client may open it again, and then it is.
            () = flow.must_be_inspected() => FlowEnd::Revoked,
            deny = flow.revoked() => {
                revoked = Some(deny);
                FlowEnd::Revoked
            }
        }
    };
    if end != FlowEnd::Completed {
        // A broken tunnel must not look like a finished one: neither side gets a clean end.
        reset(client);
        reset(upstream);
    }
    match revoked {
        Some(deny) => {
            // Both sides are closed already, so there is nobody left to tell.
            let _told = flow.end_revoked(deny).await;
        }
        None => flow.close(end),
    }
}

/// Closes with a reset instead of an end of stream.
pub(crate) fn reset(stream: TcpStream) {
    // Failing means that the peer sees a clean end instead; nothing else depends on it.
    let _unset = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

struct Direction<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    count: fn(&Meter, usize),
}

impl Direction<'_> {
    async fn run(
        mut self,
        preface: &[u8],
        meter: &Meter,
        activity: &Activity,
        buffers: &Buffers,
    ) -> io::Result<()> {
        if !preface.is_empty() {
            self.to.write_all(preface).await?;
            (self.count)(meter, preface.len());
        }
        loop {
            self.from.readable().await?;
            let mut buffer = buffers.take();
            let ended = self.drain(&mut buffer.bytes, meter, activity).await;
            buffers.give_back(buffer);
            if ended? {
                // The other side may be gone already; then there is nobody left to tell.
                return match self.to.shutdown().await {
                    Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
                    _ => Ok(()),
                };
            }
        }
    }

    /// Moves what is there. `true` when the source has ended.
    async fn drain(
        &mut self,
        buffer: &mut [u8],
        meter: &Meter,
        activity: &Activity,
    ) -> io::Result<bool> {
        loop {
            match self.from.try_read(buffer) {
                Ok(0) => return Ok(true),
                Ok(read) => {
                    let bytes = buffer.get(..read).unwrap_or_default();
                    self.to.write_all(bytes).await?;
                    (self.count)(meter, read);
                    activity.note();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

/// When bytes last moved, in either direction.
pub(crate) struct Activity(Mutex<Instant>);

impl Activity {
    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once nothing has moved for `limit`.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        loop {
            let end = self.last() + limit;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

/// Relay buffers of the node: a bounded number of large ones, kept for their next use. When all are
/// taken a flow goes on with a small one, so that no session can stop another by not reading.
#[derive(Debug)]
pub(crate) struct Buffers {
    spare: Mutex<Vec<Box<[u8]>>>,
    large: Arc<Semaphore>,
}

/// A buffer in use.
struct Buffer {
    bytes: Box<[u8]>,
    /// `None` for a small one.
    large: Option<OwnedSemaphorePermit>,
}

impl Buffers {
    /// Large buffers of at most so many bytes together.
    pub(crate) fn new(bytes: u64) -> Self {
        let each = u64::try_from(limits::RELAY_BUFFER_BYTES).unwrap_or(u64::MAX);
        let count = usize::try_from(bytes / each).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            spare: Mutex::default(),
            large: Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))),
        }
    }

    fn take(&self) -> Buffer {
        let Ok(large) = Arc::clone(&self.large).try_acquire_owned() else {
            return Buffer {
                bytes: vec![0; limits::SMALL_BUFFER_BYTES].into_boxed_slice(),
                large: None,
            };
        };
        let spare = self.lock().pop();
        Buffer {
            bytes: spare.unwrap_or_else(|| vec![0; limits::RELAY_BUFFER_BYTES].into_boxed_slice()),
            large: Some(large),
        }
    }

    fn give_back(&self, buffer: Buffer) {
        let mut spare = self.lock();
        if buffer.large.is_some() && spare.len() < limits::SPARE_RELAY_BUFFERS {
            spare.push(buffer.bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n24_large_buffers_are_bounded_and_a_small_one_is_always_there() {
        let large = limits::RELAY_BUFFER_BYTES;
        let buffers = Buffers::new(u64::try_from(large * 2).unwrap());
        let (one, two, three) = (buffers.take(), buffers.take(), buffers.take());
        let sizes = [&one, &two, &three].map(|buffer| buffer.bytes.len());
        assert_eq!(sizes, [large, large, limits::SMALL_BUFFER_BYTES]);
        buffers.give_back(three);
        buffers.give_back(one);
        assert_eq!(buffers.take().bytes.len(), large);
        assert_eq!(buffers.lock().len(), 0);
    }
}
