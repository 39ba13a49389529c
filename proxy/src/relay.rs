//! Moves bytes between a session and its destination until both are done.
//!
//! A buffer is held only while bytes move, so an idle tunnel costs two sockets and a task. A
//! direction with much to move goes on through a pipe, which spares two copies. Each direction
//! ends on its own (half close), and the end is told to the other side.

mod buffers;
mod pipes;

use std::{
    io,
    sync::{Mutex, PoisonError},
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
    time::Instant,
};

pub(crate) use self::buffers::Buffers;
use crate::{
    flow::{Flow, Meter},
    limits,
    tls::{self, Checked},
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

/// Carries a tunnel whose first bytes are checked.
async fn carry(mut checked: Checked, mut upstream: TcpStream, buffers: &Buffers) {
    if checked.inspect {
        let Checked {
            client,
            flow,
            first,
            inspect: _,
        } = checked;
        return Box::pin(tls::inspect(client, upstream, first, flow)).await;
    }
    let ended = move_bytes(&mut checked, &mut upstream, buffers).await;
    let Checked { client, flow, .. } = checked;
    match ended {
        Ended::By(FlowEnd::Completed) => flow.close(FlowEnd::Completed),
        // A broken tunnel must not look like a finished one: neither side gets a clean end.
        Ended::By(end) => {
            reset(client);
            reset(upstream);
            flow.close(end);
        }
        Ended::Revoked(deny) => {
            reset(client);
            reset(upstream);
            match deny {
                // Both sides are closed already, so there is nobody left to tell.
                Some(deny) => drop(Box::pin(flow.end_revoked(deny)).await),
                None => flow.close(FlowEnd::Revoked),
            }
        }
    }
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
    let activity = Activity::default();
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
            there.run(preface, meter, &activity, buffers),
            back.run(Vec::new(), meter, &activity, buffers),
        )
    };
    tokio::select! {
        done = both => Ended::By(match done {
            Ok(((), ())) => FlowEnd::Completed,
            Err(_broken) => FlowEnd::Reset,
        }),
        () = activity.idle_for(flow.session().limits().idle) => Ended::By(FlowEnd::TimedOut),
        deny = flow.over() => Ended::Revoked(deny),
    }
}

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
        mut self,
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
        let mut way = Way::Buffer;
        loop {
            self.from.readable().await?;
            let moved = match way {
                // Boxed, because most tunnels rest most of the time.
                Way::Buffer => Box::pin(self.through_buffer(meter, activity, buffers)).await?,
                Way::Pipe => Box::pin(self.through_pipe(meter, activity, buffers)).await?,
            };
            match moved {
                Moved::All => way = Way::Buffer,
                Moved::Much => way = Way::Pipe,
                Moved::End => break,
            }
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
        while let Some(filled) = pipe.fill(self.from.as_ref())? {
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
enum Way {
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
