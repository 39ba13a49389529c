//! Opens a connection whose content is not looked into: decide and record, resolve, dial.
//!
//! CONNECT, SOCKS5 and capture all come through here, so they cannot be judged apart (N13).

use std::sync::Arc;

use cordon_policy::{Destination, Operation, Seen, Transport};
use cordon_session::Durability;
use tokio::net::TcpStream;

use crate::{
    dial::dial,
    flow::Flow,
    process::MadeBy,
    refuse::{Fault, Refusal},
    resolve::resolve,
    session::Session,
    status,
};

/// Opens a connection to `destination`, or says why not. Every outcome is recorded when this
/// resolves.
pub(crate) async fn open(
    session: &Arc<Session>,
    destination: Destination,
    transport: Transport,
    made_by: &MadeBy,
) -> Result<(TcpStream, Flow), Refusal> {
    if status::is_reserved(&destination) {
        let problem = format!(
            "{} is this proxy itself; ask for `http://{}/` as plain HTTP",
            destination.host,
            status::NAME
        );
        let raw = destination.to_string();
        return Err(fault(
            session,
            "reserved",
            raw.as_bytes(),
            Fault::Malformed,
            problem,
        )
        .await);
    }
    let operation = Operation::Connect {
        destination: destination.clone(),
        transport,
        seen: Seen {
            process: made_by.known().await,
            ..Seen::default()
        },
    };
    session.gate().not_paused().await;
    let permit = session.gate().admit(operation, Durability::Synced).await?;
    let flow = Flow::open(Arc::clone(session), permit);
    dial(resolve(flow, &destination).await?).await
}

/// Records that something came in which is no request that may be asked. `problem` says what is
/// wrong and what to do.
pub(crate) async fn fault(
    session: &Session,
    door: &'static str,
    raw: &[u8],
    fault: Fault,
    problem: String,
) -> Refusal {
    Refusal::Fault(fault, session.gate().refuse_raw(door, raw, problem).await)
}
