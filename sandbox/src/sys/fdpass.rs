//! Sends bytes together with open descriptors over a unix socket, and receives them.
//!
//! Whatever arrives is close-on-exec and counted: a peer cannot fill our descriptor table.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};

/// The most descriptors that one message carries.
pub const MAX_FDS: usize = 16;

/// Sends all of `bytes`, and `fds` with the first of them.
///
/// For a blocking socket of type stream or sequenced packet.
///
/// # Errors
/// `InvalidInput` for no bytes at all (a stream carries no descriptor without one) or more than
/// [`MAX_FDS`] descriptors; otherwise what sendmsg(2) says. A closed peer is `BrokenPipe`, never
/// a signal.
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.is_empty() || fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a message takes at least one byte and at most {MAX_FDS} descriptors"),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("the descriptors do not fit their buffer"));
    }
    let mut sent = retry_on_intr(|| {
        sendmsg(
            &socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    // A stream may take fewer bytes than asked; the descriptors went with the first.
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        sent += retry_on_intr(|| send(&socket, rest, SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// Receives up to `buffer.len()` bytes and the descriptors that came with them.
///
/// Zero bytes mean that the peer closed the socket.
///
/// # Errors
/// `InvalidData` when more than [`MAX_FDS`] descriptors came: all of them are closed. Otherwise
/// what recvmsg(2) says.
pub fn recv_with_fds(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = retry_on_intr(|| {
        recvmsg(
            &socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|part| match part {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    // A padded buffer has room for one descriptor more than was asked for.
    if message.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("more than {MAX_FDS} descriptors in one message"),
        ));
    }
    Ok((message.bytes, fds))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use rustix::io::{FdFlags, fcntl_getfd};

    use super::*;

    #[test]
    fn descriptors_arrive_in_order_open_and_close_on_exec() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (first_end, first) = io::pipe().unwrap();
        let (second_end, second) = io::pipe().unwrap();
        send_with_fds(&ours, b"two", &[first.as_fd(), second.as_fd()]).unwrap();

        let mut buffer = [0; 16];
        let (bytes, fds) = recv_with_fds(&theirs, &mut buffer).unwrap();
        assert_eq!(&buffer[..bytes], b"two");
        assert_eq!(fds.len(), 2);
        drop((first, second));
        for (fd, mut end, text) in fds
            .into_iter()
            .zip([first_end, second_end])
            .zip(["one", "two"])
            .map(|((fd, end), text)| (fd, end, text))
        {
            assert!(
                fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC),
                "{text}"
            );
            File::from(fd).write_all(text.as_bytes()).unwrap();
            let mut read = String::new();
            end.read_to_string(&mut read).unwrap();
            assert_eq!(read, text);
        }
    }

    #[test]
    fn counts_are_bounded_on_both_sides() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_end, pipe) = io::pipe().unwrap();
        let at_most = vec![pipe.as_fd(); MAX_FDS];
        send_with_fds(&ours, b"x", &at_most).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(
            recv_with_fds(&theirs, &mut buffer).unwrap().1.len(),
            MAX_FDS
        );

        let too_many = vec![pipe.as_fd(); MAX_FDS + 1];
        let error = send_with_fds(&ours, b"x", &too_many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            send_with_fds(&ours, b"", &[]).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );

        // A peer with another idea of the bound.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 8))];
        for count in [MAX_FDS + 1, MAX_FDS + 8] {
            let fds = vec![pipe.as_fd(); count];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            let bytes = [IoSlice::new(b"x")];
            sendmsg(&ours, &bytes, &mut control, SendFlags::NOSIGNAL).unwrap();
            let error = recv_with_fds(&theirs, &mut buffer).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{count}");
        }
    }

    #[test]
    fn a_long_message_arrives_whole_and_a_closed_peer_is_an_error() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (_end, pipe) = io::pipe().unwrap();
        let long = vec![7_u8; 3_000_000];
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; 3_000_000];
            let (bytes, fds) = recv_with_fds(&theirs, &mut all).unwrap();
            theirs.read_exact(&mut all[bytes..]).unwrap();
            (all, fds.len())
        });
        send_with_fds(&ours, &long, &[pipe.as_fd()]).unwrap();
        assert_eq!(reader.join().unwrap(), (long, 1));

        let error = send_with_fds(&ours, b"x", &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
