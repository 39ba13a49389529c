//! Every bound of the egress in one place: each with its unit, its value and how it ends (N24).

use std::time::Duration;

/// Longest HTTP request head, in bytes. Beyond it: 431 and the connection closes. The number of
/// header fields is bounded by `hyper` at 100, with the same end.
pub const HEAD_BYTES: usize = 64 * 1024;

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

/// Kept upstream connections per client connection. Beyond it the one unused for longest closes.
pub const UPSTREAMS_PER_CONNECTION: usize = 8;

/// Time for a name to be resolved. Then: 502, flow ended as `resolve_failed`.
pub const RESOLVE_DEADLINE: Duration = Duration::from_secs(10);

/// Time for one of a destination's addresses to answer. Then: 502, flow ended as
/// `connect_failed`.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(15);

/// Head start of one address before the next is tried beside it (RFC 8305 section 5).
pub const CONNECT_STAGGER: Duration = Duration::from_millis(250);

/// Addresses of one destination that are tried at all; the rest is left out.
pub const ADDRESSES_PER_DESTINATION: usize = 16;

/// Time for an origin to begin its response after the request was sent. Then: 504, flow ended as
/// `timed_out`. Long, because a model may think for minutes before its first byte.
pub const RESPONSE_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Time without a byte in either direction after which a flow closes, ended as `timed_out`.
pub const IDLE: Duration = Duration::from_secs(60 * 60);

/// Time that the end of a flow which policy allows no more waits for its record. Nothing moves
/// meanwhile; after it the flow closes all the same.
pub const REVOCATION_RECORD: Duration = Duration::from_millis(500);

/// Size of a relay buffer, in bytes. Held only while bytes move.
pub const RELAY_BUFFER_BYTES: usize = 64 * 1024;

/// Relay buffers kept for reuse over all sessions; more may be in use, and are freed after it.
pub const SPARE_RELAY_BUFFERS: usize = 64;

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

/// Longest value of a credential, in bytes. A longer one is not put in: the request is refused.
pub const CREDENTIAL_BYTES: usize = 64 * 1024;

/// Time for a program to print a credential. Then: the request is refused.
pub const CREDENTIAL_DEADLINE: Duration = Duration::from_secs(10);

/// Longest body that is read before it is sent, to be signed, in bytes. A longer one is refused.
pub const SIGNED_BODY_BYTES: usize = 1024 * 1024;
