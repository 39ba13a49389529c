//! Closes a refused connection so that the refusal arrives.
//!
//! Closing a socket with unread input sends a reset, and a reset discards what the peer has not
//! read yet: the refusal itself. So: end our side, read on for a moment, then close.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::limits;

/// Closes `stream`, within [`limits::LINGER_DEADLINE`] and [`limits::LINGER_BYTES`].
pub(crate) async fn close(mut stream: TcpStream) {
    let drain = async {
        let mut left = limits::LINGER_BYTES;
        let mut waste = [0; 2048];
        if stream.shutdown().await.is_err() {
            return;
        }
        while let Ok(read) = stream.read(&mut waste).await {
            left = left.saturating_sub(read);
            if read == 0 || left == 0 {
                return;
            }
        }
    };
    // Time over: the close follows either way.
    let _elapsed = tokio::time::timeout(limits::LINGER_DEADLINE, drain).await;
}
