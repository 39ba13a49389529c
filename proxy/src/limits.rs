//! Every bound of the egress in one place: each with its unit, its value and how it ends (N24).
//!
//! [`Limits`] are those that `[limits]` of the configuration can change, per session or for all;
//! the constants are their defaults, and the bounds that nobody needs to change.

use std::time::Duration;

use cordon_session::LimitsConfig;

/// The bounds of one session.
#[derive(Clone, Debug)]
pub struct Limits {
    /// See [`HEAD_DEADLINE`].
    pub head: Duration,
    /// See [`IDLE`].
    pub idle: Duration,
    /// See [`HALF_CLOSED`].
    pub half_closed: Duration,
    /// See [`FLOW_LIFE`].
    pub flow: Duration,
    /// See [`RESPONSE_DEADLINE`].
    pub response: Duration,
    /// See [`RESOLVE_DEADLINE`].
    pub resolve: Duration,
    /// See [`CONNECT_DEADLINE`].
    pub connect: Duration,
    /// See [`CONNECTIONS_PER_SESSION`].
    pub connections: usize,
    /// See [`CONNECTIONS_PER_DESTINATION`].
    pub connections_per_destination: usize,
    /// See [`NEW_CONNECTIONS_PER_SECOND`].
    pub new_connections_per_second: u32,
    /// Bytes of all flows together; none by default. Once more have moved every flow ends,
    /// recorded as a refusal for the limit, and new ones are refused with 503.
    pub session_bytes: Budget,
    /// Bytes to and from one destination; none by default. The same end, for its flows.
    pub destination_bytes: Budget,
}

/// Most bytes in each direction; `u64::MAX` is no bound. What is in a buffer when the bound is
/// passed still arrives, so at most one relay buffer or pipe more per open flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Budget {
    /// From the session to its destinations.
    pub out: u64,
    /// From the destinations to the session.
    pub r#in: u64,
}

impl Limits {
    /// The bounds that the configuration names, and the defaults for the rest.
    pub fn new(config: &LimitsConfig) -> Self {
        let bytes = |configured: Option<u32>, default: usize| {
            configured.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX))
        };
        Self {
            head: config.head_seconds.unwrap_or(HEAD_DEADLINE),
            idle: config.idle_seconds.unwrap_or(IDLE),
            half_closed: config.half_closed_seconds.unwrap_or(HALF_CLOSED),
            flow: config.flow_seconds.unwrap_or(FLOW_LIFE),
            response: config.response_seconds.unwrap_or(RESPONSE_DEADLINE),
            resolve: config.resolve_seconds.unwrap_or(RESOLVE_DEADLINE),
            connect: config.connect_seconds.unwrap_or(CONNECT_DEADLINE),
            connections: bytes(config.connections, CONNECTIONS_PER_SESSION),
            connections_per_destination: bytes(
                config.connections_per_destination,
                CONNECTIONS_PER_DESTINATION,
            ),
            new_connections_per_second: config
                .new_connections_per_second
                .unwrap_or(NEW_CONNECTIONS_PER_SECOND),
            session_bytes: Budget {
                out: config.bytes_out_per_session.unwrap_or(u64::MAX),
                r#in: config.bytes_in_per_session.unwrap_or(u64::MAX),
            },
            destination_bytes: Budget {
                out: config.bytes_out_per_destination.unwrap_or(u64::MAX),
                r#in: config.bytes_in_per_destination.unwrap_or(u64::MAX),
            },
        }
    }
}

impl Budget {
    /// Whether there is no bound in either direction.
    pub fn is_endless(self) -> bool {
        self.out == u64::MAX && self.r#in == u64::MAX
    }
}

/// How many connections of a gateway may be open whose caller is not known yet: a quarter of the
/// node's room, and at least one.
pub(crate) fn strangers(config: &LimitsConfig) -> usize {
    (connections_per_node(config) / 4).max(1)
}

/// Open client connections that the node carries, after `[limits]`.
pub(crate) fn connections_per_node(config: &LimitsConfig) -> usize {
    config
        .connections_per_node
        .map_or(CONNECTIONS_PER_NODE, |n| {
            usize::try_from(n).unwrap_or(usize::MAX)
        })
}

/// Bytes that relay buffers of the node may take, after `[limits]`.
pub(crate) fn buffer_bytes(config: &LimitsConfig) -> u64 {
    config.buffer_bytes.unwrap_or(BUFFER_BYTES)
}

/// Longest HTTP request head, in bytes. Beyond it: 431 and the connection closes.
pub const HEAD_BYTES: usize = 64 * 1024;

/// Most header fields of a request, also most trailers. Beyond it: as [`HEAD_BYTES`].
pub const HEAD_FIELDS: usize = 100;

/// Longest request target, in bytes. Beyond it: 414 and the connection closes.
pub const TARGET_BYTES: usize = 16 * 1024;

/// Longest line with the size of a chunk, its extensions included, in bytes. Beyond it: 400 and
/// the connection closes.
pub const CHUNK_LINE_BYTES: usize = 256;

/// Streams that one HTTP/2 connection of a client may have open. Beyond it: the client is told to
/// wait by the protocol, or the stream is reset.
pub const STREAMS_PER_CONNECTION: u32 = 100;

/// Time for a client to send one request head, also the longest a kept connection may rest
/// between two requests. Then the connection closes; a head begun and not finished is a recorded
/// refusal.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(60);

/// Time for a SOCKS client to get from its first byte to its command. Then: closed, and recorded.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Open client connections per session, all listeners together. At the bound the listeners stop
/// accepting until one closes; the clients wait in the backlog.
pub const CONNECTIONS_PER_SESSION: usize = 1024;

/// Open client connections of all sessions together. Same end as [`CONNECTIONS_PER_SESSION`].
pub const CONNECTIONS_PER_NODE: usize = 16 * 1024;

/// Open upstream connections of one session to one destination. Beyond it: refused with 503,
/// recorded.
pub const CONNECTIONS_PER_DESTINATION: usize = 512;

/// Destinations that one session may use at the same time, or in its whole life where bytes per
/// destination are bounded. Beyond it: refused with 503, recorded.
pub const DESTINATIONS_PER_SESSION: usize = 16 * 1024;

/// New client connections of one session per second, after as many at once; each costs a decision
/// and a record. Beyond it clients wait in the backlog.
pub const NEW_CONNECTIONS_PER_SECOND: u32 = 2000;

/// Kept upstream connections per client connection. Beyond it the one unused for longest closes.
pub const UPSTREAMS_PER_CONNECTION: usize = 8;

/// Time for a name to be resolved. Then: 502, flow ended as `resolve_failed`.
pub const RESOLVE_DEADLINE: Duration = Duration::from_secs(10);

/// Time for one of a destination's addresses to answer. Then: 504, flow ended as
/// `connect_failed`.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(15);

/// Head start of one address before the next is tried beside it (RFC 8305 section 5).
pub const CONNECT_STAGGER: Duration = Duration::from_millis(250);

/// Addresses of one destination that are tried at all; the rest is left out.
pub const ADDRESSES_PER_DESTINATION: usize = 16;

/// Addresses of one destination that a parent proxy is asked for, one after the other.
pub const ADDRESSES_PER_PARENT: usize = 3;

/// Time for an origin to begin its response after the request was sent. Then: 504, flow ended as
/// `timed_out`. Long, because a model may think for minutes before its first byte.
pub const RESPONSE_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Time that a body which a client offers (`Expect: 100-continue`) waits for its origin to ask for it.
/// Then it is sent all the same. curl waits as long.
pub const CONTINUE: Duration = Duration::from_secs(1);

/// Time without a byte in either direction after which a flow closes, ended as `timed_out`.
pub const IDLE: Duration = Duration::from_secs(60 * 60);

/// Time without a byte in either direction after which an HTTP connection closes whose client has
/// ended its side, so that nobody may be waiting. Requests in hand are given up with their upstream
/// connections, flow ended as `reset`. A client that resets is not waited for at all.
pub const HALF_CLOSED: Duration = Duration::from_secs(30);

/// Longest life of a flow, whether bytes move or not. Then it ends, recorded as a refusal for the
/// limit.
pub const FLOW_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Time that the end of a flow which policy allows no more waits for its record. Nothing moves
/// meanwhile; after it the flow closes all the same.
pub const REVOCATION_RECORD: Duration = Duration::from_millis(500);

/// Size of a relay buffer, in bytes. Held only while bytes move.
pub const RELAY_BUFFER_BYTES: usize = 64 * 1024;

/// Size of a relay buffer where all large ones are in use, in bytes.
pub const SMALL_BUFFER_BYTES: usize = 4 * 1024;

/// Relay buffers kept for reuse over all sessions; more may be in use, and are freed after it.
pub const SPARE_RELAY_BUFFERS: usize = 64;

/// What a direction of a tunnel moves without a pause before it goes on through a pipe, in bytes.
pub const RELAY_BULK_BYTES: usize = 256 * 1024;

/// Size of such a pipe, in bytes: what the kernel gives an ordinary user (pipe(7)).
pub const RELAY_PIPE_BYTES: usize = 1024 * 1024;

/// Pipes of all sessions together, two descriptors each. Beyond them big tunnels go through
/// buffers. (Of this size the kernel gives a user 64, further ones are smaller.)
pub const RELAY_PIPES: usize = 64;

/// Bytes in relay buffers of all sessions together. Beyond it flows go on with buffers of
/// [`SMALL_BUFFER_BYTES`].
pub const BUFFER_BYTES: u64 = 512 * 1024 * 1024;

/// What is read of a client's TLS ClientHello, records included, in bytes. One that is not over by
/// then is a recorded refusal.
pub const HELLO_BYTES: usize = 16 * 1024;

/// Time for a client to send its ClientHello once its tunnel stands. Then: a recorded refusal.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// Extensions of one ClientHello. More is malformed: a recorded refusal.
pub const HELLO_EXTENSIONS: usize = 128;

/// Protocols that one ClientHello offers. More is malformed: a recorded refusal.
pub const HELLO_PROTOCOLS: usize = 32;

/// Time for both handshakes of a tunnel that is inspected, together. Then: flow ended as
/// `timed_out`.
pub const TLS_DEADLINE: Duration = Duration::from_secs(20);

/// Certificates kept for the hosts of one session. Beyond it the one unused for longest is made
/// again when it is asked for.
pub const LEAVES_PER_SESSION: usize = 256;

/// Requests at once on one HTTP/2 connection of a client. Beyond it the client has to wait.
pub const HTTP2_STREAMS: u32 = 128;

/// Window of one HTTP/2 stream, in bytes: what may be under way unread.
pub const HTTP2_STREAM_WINDOW: u32 = 1024 * 1024;

/// Window of one HTTP/2 connection, in bytes.
pub const HTTP2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Largest HTTP/2 frame, in bytes.
pub const HTTP2_FRAME: u32 = 64 * 1024;

/// Largest list of header fields in HTTP/2, in bytes as RFC 9113 counts them. Beyond it: 431.
pub const HTTP2_HEADER_LIST: u32 = 64 * 1024;

/// What is buffered of one HTTP/2 stream until the peer takes it, in bytes.
pub const HTTP2_SEND_BUFFER: usize = 256 * 1024;

/// Buffer of an HTTP/1 connection inside TLS, in bytes: it bounds the head, and is what one read
/// takes of a body.
pub const INSIDE_BUFFER_BYTES: usize = 256 * 1024;

/// Time for a captured client to say what protocol it speaks before its refusal goes out as a
/// plain reset.
pub const SNIFF_DEADLINE: Duration = Duration::from_millis(500);

/// Time and bytes spent on reading what a refused client still sends, so that it can read the
/// refusal before the connection breaks.
pub const LINGER_DEADLINE: Duration = Duration::from_secs(1);

/// See [`LINGER_DEADLINE`].
pub const LINGER_BYTES: usize = 256 * 1024;

/// Largest DNS query, in bytes. A longer one is not read to its end, so it is malformed: dropped.
pub const DNS_QUERY_BYTES: usize = 4096;

/// DNS queries per second that a session may go on with. Beyond it answers are delayed.
pub const DNS_QUERIES_PER_SECOND: u32 = 1000;

/// DNS queries at once before [`DNS_QUERIES_PER_SECOND`] takes hold.
pub const DNS_QUERY_BURST: u32 = 2000;

/// Names that one session may have synthetic addresses for. Beyond it: SERVFAIL.
pub const DNS_NAMES_PER_SESSION: usize = 16 * 1024;

/// How long a synthetic answer may be kept by the client, in seconds. It never changes within
/// a session.
pub const DNS_TTL_SECONDS: u32 = 300;

/// How often the system's resolver configuration is looked at for changes.
pub const RESOLV_CONF_CHECK: Duration = Duration::from_secs(5);

/// Names that the resolver keeps answers of, negative ones too. Beyond it the oldest go.
pub const CACHE_ENTRIES: u64 = 8 * 1024;

/// Longest time that an answer is kept, whatever its TTL says.
pub const CACHE_TTL: Duration = Duration::from_secs(60 * 60);

/// Longest time that "no such name" is kept.
pub const CACHE_NEGATIVE_TTL: Duration = Duration::from_secs(60);

/// Names of a chain of aliases that policy is told of. A longer chain does not resolve.
pub const ALIASES: usize = 16;

/// Longest response head of a parent proxy, in bytes. Beyond it: 502.
pub const PARENT_HEAD_BYTES: usize = 16 * 1024;

/// Longest proxy credentials of a caller, encoded, in bytes. Beyond it: 407.
pub const CREDENTIAL_BYTES: usize = 1024;

/// Wrong proxy credentials from one address within a minute, after which further ones are not
/// compared. Then: 429 until the minute is over.
pub const CREDENTIAL_FAILURES_PER_MINUTE: u32 = 20;

/// Addresses that are counted one by one for [`CREDENTIAL_FAILURES_PER_MINUTE`]; more count as one.
pub const CREDENTIAL_ADDRESSES: usize = 4096;

/// Longest value of a credential, in bytes. A longer one is not put in: the request is refused.
pub const CREDENTIAL_VALUE_BYTES: usize = 64 * 1024;

/// Time for a program to print a credential. Then: the request is refused.
pub const CREDENTIAL_DEADLINE: Duration = Duration::from_secs(10);

/// Longest body that is read before it is sent, to be signed, in bytes. A longer one is refused.
pub const SIGNED_BODY_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_keeps_its_default() {
        let defaults = Limits::new(&LimitsConfig::default());
        assert_eq!(defaults.idle, IDLE);
        assert_eq!(defaults.connections, CONNECTIONS_PER_SESSION);
        assert!(defaults.session_bytes.is_endless());
        let config = LimitsConfig {
            idle_seconds: Some(Duration::from_millis(5)),
            bytes_in_per_session: Some(9),
            ..LimitsConfig::default()
        };
        let limits = Limits::new(&config);
        assert_eq!(limits.idle, Duration::from_millis(5));
        assert_eq!(limits.session_bytes.r#in, 9);
        assert_eq!(limits.session_bytes.out, u64::MAX);
        assert!(limits.destination_bytes.is_endless());
    }
}
