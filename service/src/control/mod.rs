//! The control protocol between `cordon run` and the daemon: length-prefixed JSON over a unix
//! socket that only the user can open; the session's listeners travel beside it as descriptors.
//!
//! One connection carries one session: when it closes, the session is over for the daemon (the
//! launcher is gone) and for the launcher (nothing would be recorded any more). A second one
//! carries orders the other way: the daemon decides and records, then has the launcher act.

mod client;
mod frame;
mod handed;
mod message;
mod orders;
mod path;
mod policy;
mod server;
mod session;

pub use client::{Client, ClientError};
pub use handed::Handed;
pub use message::{
    Answer, Ask, GrantAsked, GrantChanges, GrantMade, GrantRefused, Hello, OpenSession, Opened,
    PublishAsked, Refused, SessionLine, Status,
};
pub use orders::{Carried, CarriedResult, Holder, LaunchOrder, OrderStream, Ordered};
pub use policy::{
    BundleLine, CandidateStatus, Effective, LayerStatus, PolicyAnswer, PolicyAsk, PolicyStatus,
    RuleLine, effect_word,
};
pub use server::{Connection, ProtocolError};
pub use session::{
    GrantLine, NetworkUse, PurgedLine, SessionAnswer, SessionAsk, SessionStatus, State,
};

/// Version of the program; daemon and launcher must agree on it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
