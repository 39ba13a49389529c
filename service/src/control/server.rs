//! The daemon's half: one connection, read without blocking, descriptors collected beside frames.

use std::{collections::VecDeque, io, os::fd::OwnedFd};

use cordon_sandbox::fdpass;
use rustix::process::Uid;
use thiserror::Error;
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::UnixStream,
};

use super::{Answer, Ask, frame};

/// One connection from a launcher or a command.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

/// Why a connection is closed.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// Another user's process.
    #[error("connection from another user refused")]
    OtherUser,
    /// The peer is gone.
    #[error("connection closed")]
    Closed,
    /// It broke, or what came is not a message.
    #[error("connection broken")]
    Broken(#[from] io::Error),
}

impl Connection {
    /// Takes an accepted connection, of this process's own user only.
    ///
    /// # Errors
    /// [`ProtocolError::OtherUser`]: the socket's directory is 0700, so this is a second wall.
    pub fn new(stream: UnixStream) -> Result<Self, ProtocolError> {
        let peer = stream.peer_cred()?;
        if Uid::from_raw(peer.uid()) != rustix::process::geteuid() {
            return Err(ProtocolError::OtherUser);
        }
        Ok(Self {
            stream,
            buffer: Vec::new(),
            descriptors: VecDeque::new(),
        })
    }

    /// The next message.
    ///
    /// # Errors
    /// [`ProtocolError::Closed`] at the end of the stream.
    pub async fn next(&mut self) -> Result<Ask, ProtocolError> {
        loop {
            if let Some(ask) = frame::decode(&mut self.buffer)? {
                return Ok(ask);
            }
            self.fill().await?;
        }
    }

    /// Descriptors that came beside the messages so far, in order.
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        self.descriptors.drain(..).collect()
    }

    /// Says something.
    ///
    /// # Errors
    /// [`ProtocolError::Broken`].
    pub async fn answer(&mut self, answer: &Answer) -> Result<(), ProtocolError> {
        let frame = frame::encode(answer)?;
        Ok(self.stream.write_all(&frame).await?)
    }

    async fn fill(&mut self) -> Result<(), ProtocolError> {
        let stream = &self.stream;
        let mut chunk = [0; 16 << 10];
        let (n, descriptors) = stream
            .async_io(Interest::READABLE, || {
                fdpass::recv_with_fds(stream, &mut chunk)
            })
            .await?;
        self.descriptors.extend(descriptors);
        if self.descriptors.len() > frame::MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors").into());
        }
        if n == 0 {
            return Err(ProtocolError::Closed);
        }
        self.buffer
            .extend_from_slice(chunk.get(..n).unwrap_or_default());
        Ok(())
    }
}
