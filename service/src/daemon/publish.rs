//! Ports of a session that are reached from outside: decided before it starts, served once its
//! launcher has given the way in.

use std::{
    io,
    net::TcpListener,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use cordon_proxy::{Dial, Published, SessionProxy};
use cordon_sandbox::dial::Line;
use cordon_session::{Durability, Gate, GateError};

use super::open::{not_recorded, refused};
use crate::control::{Answer, PublishAsked};

/// A port that is listened on, and that nobody is served at yet.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    published: Published,
}

/// Decides each, and listens.
///
/// # Errors
/// The answer to give: all were named by the user, so one that is refused ends it.
pub async fn decide(gate: &Gate, asked: &[PublishAsked]) -> Result<Vec<Port>, Answer> {
    let mut ports = Vec::new();
    for asked in asked {
        let published = Published {
            address: asked.address,
            port: asked.port,
            inside: asked.inside,
        };
        match gate.admit(published.operation(), Durability::Synced).await {
            Ok(_permit) => {}
            Err(GateError::Denied(denied)) => return Err(Answer::Refused(refused(&denied))),
            Err(GateError::NotRecorded(error)) => return Err(not_recorded(&error)),
        }
        let listener = TcpListener::bind((asked.address, asked.port));
        let listener = listener.map_err(|error| Answer::Failed {
            message: format!(
                "port {} of {} cannot be published: {error}",
                asked.port, asked.address
            ),
            help: Some("choose another port: `--publish PORT:INSIDE`".into()),
        })?;
        ports.push(Port {
            listener,
            published,
        });
    }
    Ok(ports)
}

/// Serves the ports over `line`, which the launcher sent.
///
/// # Errors
/// In words.
pub fn serve(proxy: &mut SessionProxy, ports: Vec<Port>, line: Vec<OwnedFd>) -> Result<(), String> {
    let line: [OwnedFd; 1] = line
        .try_into()
        .map_err(|_other| "one descriptor belongs beside this".to_owned())?;
    let [line] = line;
    let line = Line::new(line).map_err(|error| error.to_string())?;
    let dial: Arc<dyn Dial> = Arc::new(Way(Mutex::new(line)));
    for port in ports {
        proxy
            .publish(port.listener, port.published, Arc::clone(&dial))
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The way in, for one at a time.
#[derive(Debug)]
struct Way(Mutex<Line>);

impl Dial for Way {
    fn connect(&self, port: u16) -> io::Result<OwnedFd> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.connect(port)
    }
}
