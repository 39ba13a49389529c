//! One direction between streams that are not both plain sockets: TLS to a parent proxy, say.
//!
//! A buffer is held as long as the direction lives, because only a read tells whether there is
//! something to read.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Activity;
use crate::flow::Meter;

/// Size of the buffer of one direction, in bytes: a TLS record.
const BUFFER_BYTES: usize = 16 * 1024;

/// Moves bytes until the source ends, then tells the other side.
pub(super) async fn run(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    preface: &[u8],
    count: impl Fn(usize),
    activity: &Activity,
) -> io::Result<()> {
    if !preface.is_empty() {
        to.write_all(preface).await?;
        to.flush().await?;
        count(preface.len());
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            // The other side may be gone already; then there is nobody left to tell.
            return match to.shutdown().await {
                Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
                _ => Ok(()),
            };
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
        to.flush().await?;
        count(read);
        activity.note();
    }
}

/// Counts what goes out.
pub(super) fn out(meter: &Meter) -> impl Fn(usize) {
    |bytes| meter.count_out(bytes)
}

/// Counts what comes in.
pub(super) fn r#in(meter: &Meter) -> impl Fn(usize) {
    |bytes| meter.count_in(bytes)
}
