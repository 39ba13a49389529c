//! Cordon's egress: accepts on a session's own listeners, normalises, asks the gate, resolves,
//! dials only what was classified, and relays.
//!
//! One way for every protocol: `http`, `socks` and `capture` turn bytes into a
//! [`Destination`](cordon_policy::Destination), the session's [`Gate`](cordon_session::Gate)
//! decides and records, `resolve` turns the permit into checked addresses, `dial` connects to
//! those and nothing else, `relay` moves the bytes, and `flow` records the end. `refuse` is
//! the one table of refusals, [`limits`] the one table of bounds.
//!
//! ```text
//! let egress = Arc::new(Egress::new(&config)?);          // once per node
//! let proxy = egress.attach(gate, listeners)?;           // once per session
//! let moved = proxy.shutdown().await;                    // every flow closed and recorded
//! ```

#![forbid(unsafe_code)]

// The unit tests share their house with the integration tests, which know us by name.
#[cfg(test)]
extern crate self as cordon_proxy;

mod accept;
mod accounts;
mod bridge;
mod capture;
mod credentials;
mod dial;
mod dns;
mod door;
mod egress;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod http;
pub mod limits;
mod linger;
mod metrics;
mod pace;
mod parent;
mod process;
mod publish;
mod refuse;
mod relay;
mod resolve;
mod roots;
mod session;
mod socks;
mod status;
mod tls;
mod tunnel;

pub use accept::{Listeners, SessionProxy};
pub use credentials::{Carried, Hidden, SentBack, known_secrets};
pub use door::{
    Caller, Callers, Credentials, Door, DoorSocket, Gateway, Stranger, TlsError, Tunnel,
    names as door_names, tls as door_tls,
};
pub use egress::{Egress, EgressError};
pub use flow::Bytes;
pub use parent::ParentError;
pub use process::Processes;
pub use publish::{Dial, Published};
pub use roots::RootsError;
pub use tls::{Authority, AuthorityError};
