//! The daemon's half: one connection, read without blocking, descriptors collected beside frames.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
};

use cordon_sandbox::fdpass;
use rustix::process::Uid;
use thiserror::Error;
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::UnixStream,
};

use super::{Answer, Ask, Carried, Ordered, frame};

/// One connection from a launcher or a command.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    peer: u32,
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
            peer: peer
                .pid()
                .and_then(|pid| u32::try_from(pid).ok())
                .unwrap_or(0),
            buffer: Vec::new(),
            descriptors: VecDeque::new(),
        })
    }

    /// Process id of whoever connected; 0 where the kernel does not tell.
    pub fn peer(&self) -> u32 {
        self.peer
    }

    /// The next message.
    ///
    /// # Errors
    /// [`ProtocolError::Closed`] at the end of the stream.
    pub async fn next(&mut self) -> Result<Ask, ProtocolError> {
        self.read().await
    }

    /// The next answer to an order, with the descriptors beside it. Nothing is lost when the
    /// future is dropped.
    ///
    /// # Errors
    /// [`ProtocolError::Closed`] at the end of the stream.
    pub async fn carried(&mut self) -> Result<(Carried, Vec<OwnedFd>), ProtocolError> {
        let carried: Carried = self.read().await?;
        let descriptors = frame::take(&mut self.descriptors, carried.descriptors)?;
        Ok((carried, descriptors))
    }

    async fn read<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, ProtocolError> {
        loop {
            if let Some(message) = frame::decode(&mut self.buffer)? {
                return Ok(message);
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

    /// As [`Self::answer`], with descriptors beside it.
    ///
    /// # Errors
    /// [`ProtocolError::Broken`].
    pub async fn answer_with(
        &mut self,
        answer: &Answer,
        descriptors: &[OwnedFd],
    ) -> Result<(), ProtocolError> {
        self.write(frame::encode(answer)?, descriptors).await
    }

    /// Gives an order.
    ///
    /// # Errors
    /// [`ProtocolError::Broken`].
    pub async fn order(
        &mut self,
        ordered: &Ordered,
        descriptors: &[OwnedFd],
    ) -> Result<(), ProtocolError> {
        self.write(frame::encode(ordered)?, descriptors).await
    }

    async fn write(
        &mut self,
        frame: Vec<u8>,
        descriptors: &[OwnedFd],
    ) -> Result<(), ProtocolError> {
        let (first, rest) = frame.split_at(1);
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let stream = &self.stream;
        // One byte is taken whole or not at all, so the descriptors are sent once.
        stream
            .async_io(Interest::WRITABLE, || {
                fdpass::send_with_fds(stream, first, &borrowed)
            })
            .await?;
        Ok(self.stream.write_all(rest).await?)
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
