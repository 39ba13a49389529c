//! Writes netlink messages and reads the kernel's acknowledgements; and the four route messages
//! that make a fresh network namespace usable.
//!
//! Shape of every message (netlink(7)): a 16 byte header (length, type, flags, sequence, port),
//! a fixed part that depends on the type, then attributes: length and type as 16 bits each,
//! value, padding to 4 bytes. All in the machine's byte order unless said otherwise.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::io::retry_on_intr;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto,
    socket_with,
};

/// One message under construction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Starts a message of `kind` with the fixed part `fixed`.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]); // length, written by `finish`
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]); // sequence, written by `finish`; port 0: the kernel's
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    /// Appends an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        put_attribute(&mut self.bytes, kind, value);
        self
    }

    /// Appends an attribute whose value is `inner`'s attributes.
    pub(crate) fn nest(self, kind: u16, inner: &Attributes) -> Self {
        self.attribute(kind | NLA_F_NESTED, &inner.0)
    }

    /// The whole message, with its number.
    pub(crate) fn finish(mut self, sequence: u32) -> io::Result<Vec<u8>> {
        let length = u32::try_from(self.bytes.len()).map_err(io::Error::other)?;
        let fields = [(0, length), (8, sequence)];
        for (at, value) in fields {
            let field = self.bytes.get_mut(at..at + 4);
            field
                .ok_or_else(|| io::Error::other("message without a header"))?
                .copy_from_slice(&value.to_ne_bytes());
        }
        Ok(self.bytes)
    }
}

/// Attributes that become the value of a nested one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        put_attribute(&mut self.0, kind, value);
        self
    }

    /// Appends an attribute whose value is `inner`'s attributes.
    pub(crate) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.attribute(kind | NLA_F_NESTED, &inner.0)
    }
}

fn put_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // INVARIANT: our longest value, a rule's expressions, is below 1 KiB. A longer one would be
    // cut to a length that the kernel refuses, never to another meaning.
    let length = u16::try_from(value.len() + 4).unwrap_or(0);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A netlink socket to the kernel of this network namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket for the route family ([`None`]) or another protocol.
    pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let family = AddressFamily::NETLINK;
        let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends `messages` in one datagram and waits until each that asked for it is acknowledged.
    ///
    /// # Errors
    /// The first error that the kernel answers with.
    pub(crate) fn request(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let mut datagram = Vec::with_capacity(4096);
        let mut awaited = 0_usize;
        for message in messages {
            self.sequence += 1;
            awaited += usize::from(asks_for_ack(&message.bytes));
            datagram.extend(message.finish(self.sequence)?);
        }
        let kernel = SocketAddrNetlink::new(0, 0);
        retry_on_intr(|| sendto(&self.socket, &datagram, SendFlags::empty(), &kernel))?;
        while awaited > 0 {
            awaited = awaited.saturating_sub(self.read_acks()?);
        }
        Ok(())
    }

    /// Reads one datagram of answers and counts the acknowledgements.
    fn read_acks(&self) -> io::Result<usize> {
        let mut buffer = vec![0_u8; 16 * 1024];
        // The kernel handles a request inside our send, so the answer is already there; should
        // it ever not be, an error is better than to wait for ever.
        let flags = RecvFlags::DONTWAIT;
        let (length, _) = retry_on_intr(|| recv(&self.socket, buffer.as_mut_slice(), flags))?;
        count_acks(buffer.get(..length).unwrap_or_default())
    }
}

/// Opens a socket that answers what sockets there are in this network namespace.
///
/// # Errors
/// What socket(2) says; `EPROTONOSUPPORT` where the kernel does not tell.
pub(crate) fn open_diagnostics() -> Result<OwnedFd, rustix::io::Errno> {
    let protocol = Some(netlink::SOCK_DIAG);
    socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )
}

/// The content of the first message of an answer.
///
/// # Errors
/// The kernel's own; `InvalidData` for what is no answer.
pub(crate) fn answer_of(answer: &[u8]) -> io::Result<&[u8]> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed netlink answer");
    let length = read_u32(answer, 0).and_then(|length| usize::try_from(length).ok());
    let whole = length.and_then(|length| answer.get(..length));
    let content = whole.and_then(|whole| whole.get(HEADER_BYTES..));
    let content = content.ok_or_else(malformed)?;
    if read_u16(answer, 4) != Some(NLMSG_ERROR) {
        return Ok(content);
    }
    match read_u32(content, 0).map(u32::cast_signed) {
        Some(negative @ ..0) => Err(io::Error::from_raw_os_error(negative.saturating_neg())),
        _acknowledged => Err(malformed()),
    }
}

fn asks_for_ack(message: &[u8]) -> bool {
    read_u16(message, 6).is_some_and(|flags| flags & NLM_F_ACK != 0)
}

/// Shape of an answer: header, type `NLMSG_ERROR`, then a negative errno (0: acknowledged) and
/// the header it is about.
fn count_acks(mut answers: &[u8]) -> io::Result<usize> {
    let mut acks = 0;
    while let Some(length) = read_u32(answers, 0) {
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed netlink answer");
        let length = usize::try_from(length).map_err(|_| malformed())?;
        if length < HEADER_BYTES {
            return Err(malformed());
        }
        if read_u16(answers, 4) == Some(NLMSG_ERROR) {
            match read_u32(answers, HEADER_BYTES).map(u32::cast_signed) {
                Some(0) => acks += 1,
                Some(negative) => return Err(io::Error::from_raw_os_error(-negative)),
                None => return Err(malformed()),
            }
        }
        let next = length.next_multiple_of(4);
        answers = answers.get(next..).unwrap_or_default();
    }
    Ok(acks)
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at + 2)?;
    field.try_into().ok().map(u16::from_ne_bytes)
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at + 4)?;
    field.try_into().ok().map(u32::from_ne_bytes)
}

/// Brings the loopback interface up.
///
/// Fixed part, `struct ifinfomsg`: family, padding, type (16), index (32), flags (32),
/// mask of flags to change (32).
pub(crate) fn loopback_up() -> Message {
    let mut fixed = vec![0; 4];
    fixed.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    fixed.extend_from_slice(&IFF_UP.to_ne_bytes());
    fixed.extend_from_slice(&IFF_UP.to_ne_bytes());
    Message::new(RTM_NEWLINK, NLM_F_ACK, &fixed)
}

/// Gives the loopback interface the address `own`/32.
///
/// Fixed part, `struct ifaddrmsg`: family, prefix length, flags, scope, index (32).
pub(crate) fn loopback_address(own: Ipv4Addr) -> Message {
    let mut fixed = vec![AF_INET, 32, 0, RT_SCOPE_UNIVERSE];
    fixed.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    Message::new(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &fixed)
        .attribute(IFA_LOCAL, &own.octets())
        .attribute(IFA_ADDRESS, &own.octets())
}

/// Routes every IPv4 destination to the loopback interface.
pub(crate) fn default_route_v4() -> Message {
    default_route(AF_INET, RT_SCOPE_LINK, RTN_UNICAST)
}

/// Routes every IPv6 destination to the loopback interface.
///
/// As *local* addresses: the kernel turns a unicast route over loopback into a rejecting one.
pub(crate) fn default_route_v6() -> Message {
    default_route(AF_INET6, RT_SCOPE_UNIVERSE, RTN_LOCAL)
}

/// Fixed part, `struct rtmsg`: family, destination length, source length, tos, table, protocol,
/// scope, type, flags (32).
fn default_route(family: u8, scope: u8, kind: u8) -> Message {
    let fixed = [
        family,
        0,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_STATIC,
        scope,
        kind,
        0,
        0,
        0,
        0,
    ];
    Message::new(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &fixed)
        .attribute(RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes())
}

// From linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h and linux/if.h.
const HEADER_BYTES: usize = 16;
const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;
const NLMSG_ERROR: u16 = 0x2;
const NLA_F_NESTED: u16 = 1 << 15;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
/// Loopback is the first interface of every network namespace.
const LOOPBACK_INDEX: u32 = 1;

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_each_route_message() {
        let table = [
            (
                "loopback up",
                loopback_up(),
                vec![
                    32, 0, 0, 0, 16, 0, 5, 0, 9, 0, 0, 0, 0, 0, 0, 0, // header
                    0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, // ifinfomsg
                ],
            ),
            (
                "address",
                loopback_address(Ipv4Addr::new(192, 0, 2, 1)),
                vec![
                    40, 0, 0, 0, 20, 0, 5, 6, 9, 0, 0, 0, 0, 0, 0, 0, // header
                    2, 32, 0, 0, 1, 0, 0, 0, // ifaddrmsg
                    8, 0, 2, 0, 192, 0, 2, 1, // IFA_LOCAL
                    8, 0, 1, 0, 192, 0, 2, 1, // IFA_ADDRESS
                ],
            ),
            (
                "route v4",
                default_route_v4(),
                vec![
                    36, 0, 0, 0, 24, 0, 5, 6, 9, 0, 0, 0, 0, 0, 0, 0, // header
                    2, 0, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0, // rtmsg
                    8, 0, 4, 0, 1, 0, 0, 0, // RTA_OIF
                ],
            ),
            (
                "route v6",
                default_route_v6(),
                vec![
                    36, 0, 0, 0, 24, 0, 5, 6, 9, 0, 0, 0, 0, 0, 0, 0, // header
                    10, 0, 0, 0, 254, 4, 0, 2, 0, 0, 0, 0, // rtmsg
                    8, 0, 4, 0, 1, 0, 0, 0, // RTA_OIF
                ],
            ),
        ];
        for (name, message, expected) in table {
            assert_eq!(message.finish(9).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn attributes_are_padded_and_nested() {
        let inner = Attributes::new().attribute(1, b"abc\0").attribute(2, b"x");
        let bytes = Message::new(7, 0, &[]).nest(3, &inner).finish(1).unwrap();
        assert_eq!(
            bytes[16..],
            [
                20, 0, 3, 0x80, 8, 0, 1, 0, b'a', b'b', b'c', 0, 5, 0, 2, 0, b'x', 0, 0, 0
            ]
        );
    }

    #[test]
    fn answers_are_acks_errors_or_malformed() {
        let answer = |errno: i32| {
            let mut bytes = vec![36, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend_from_slice(&(-errno).to_ne_bytes());
            bytes.extend_from_slice(&[0; 16]);
            bytes
        };
        assert_eq!(count_acks(&[]).unwrap(), 0);
        assert_eq!(count_acks(&[answer(0), answer(0)].concat()).unwrap(), 2);
        let error = count_acks(&[answer(0), answer(libc::EPERM)].concat()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let refused = answer_of(&answer(libc::ENOENT)).unwrap_err().raw_os_error();
        assert_eq!(refused, Some(libc::ENOENT));
        let mut told = answer(0);
        told[4] = 20;
        assert_eq!(answer_of(&told).unwrap().len(), 20);
        for malformed in [&told[..35], &told[..3], &answer(0)] {
            assert!(answer_of(malformed).is_err(), "{malformed:?}");
        }
        for malformed in [&[0_u8; 16][..], &[255; 16], &[20, 0, 0, 0, 2, 0, 0, 0]] {
            let result = count_acks(malformed);
            assert!(
                result.as_ref().is_err() || matches!(result, Ok(0)),
                "{malformed:?}: {result:?}"
            );
        }
    }
}
