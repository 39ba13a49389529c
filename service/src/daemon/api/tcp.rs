//! The API over TLS, for other machines and other people.
//!
//! Callers are known by a bearer token (compared by digest, in constant time) or a name in their
//! certificate, and by nothing that they say. One who is not the daemon's own user may do with
//! sessions what policy permits them (`manage`), see and answer approvals as it permits `approve`,
//! follow events as it permits `read_log`, and ask about the applications whose mapping names them;
//! what is about this machine is its user's alone.

mod callers;
mod files;
mod places;

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, middleware};
use cordon_proxy::door_names;
use cordon_session::config::{ApiCaller, ApiConfig};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tracing::debug;

use self::{
    files::{Files, Tls},
    places::{Place, Places, PutOut},
};
use super::{
    Daemon, hook,
    serve::{Times, accept, stopped, talk},
    unknown,
};
use crate::error::Failure;

/// The API's listener for other machines.
pub struct Remote {
    listener: TcpListener,
    files: Files,
    places: Arc<Places>,
    callers: Arc<Vec<ApiCaller>>,
}

/// Connections over TLS, of all callers together. Further ones wait.
const CONNECTIONS: usize = 1024;

/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Time for what is in hand when certificates or revocation lists have changed.
const GRACE: Duration = Duration::from_secs(10);

impl Remote {
    /// Binds it, where the configuration says so.
    ///
    /// # Errors
    /// [`Failure`] names the file or address that cannot be used.
    pub async fn bind(config: &ApiConfig) -> Result<Option<Self>, Failure> {
        let Some(listen) = config.listen else {
            return Ok(None);
        };
        let files = Files::read(config).map_err(|error| {
            Failure::new(format!("the API is not served: {error}")).help("correct `[api]`")
        })?;
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            Failure::new(format!("the API is not served on `{listen}`: {error}"))
                .help("choose another `listen` in `[api]`")
        })?;
        Ok(Some(Self {
            listener,
            files,
            places: Arc::new(Places::new(&config.limits)),
            callers: Arc::new(config.callers.clone()),
        }))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

/// Serves until `stop`; requests in hand are still answered.
pub async fn serve(
    daemon: Arc<Daemon>,
    router: Router,
    remote: Remote,
    times: Times,
    stop: watch::Receiver<bool>,
) {
    let router = router
        .layer(middleware::from_fn_with_state(
            (Arc::clone(&daemon), remote.callers),
            callers::identified,
        ))
        .layer(middleware::from_fn_with_state(daemon, unknown::noted))
        .layer(middleware::from_fn(hook::always));
    let tls = remote.files.current();
    let watching = tokio::spawn(remote.files.watch());
    let (places, leave) = (remote.places, stop.clone());
    accept(remote.listener, CONNECTIONS, stop, |stream| {
        let (place, put_out) = places.enter();
        let (router, leave) = (router.clone(), leave.clone());
        let tls = Arc::clone(&tls.borrow());
        async move {
            let talk = converse(router, tls, stream, Arc::new(place), times, leave);
            stand(put_out, talk).await;
        }
    })
    .await;
    watching.abort();
}

/// What is known of a connection: the names in the certificate that it showed, and its place.
#[derive(Clone, Debug)]
struct Connection {
    names: Arc<Vec<String>>,
    place: Arc<Place>,
}

/// As long as the connection's place is its own.
async fn stand(put_out: PutOut, talk: impl Future<Output = ()>) {
    tokio::select! {
        () = talk => {}
        () = put_out.happens() => debug!("a connection to the API gave its place to a newer one"),
    }
}

async fn converse(
    router: Router,
    tls: Arc<Tls>,
    stream: TcpStream,
    place: Arc<Place>,
    times: Times,
    mut stop: watch::Receiver<bool>,
) {
    let accepted = tokio::time::timeout(HANDSHAKE, tls.acceptor.accept(stream)).await;
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "a handshake with the API failed"),
        Err(_late) => return debug!("a handshake with the API took too long"),
    };
    let (_tcp, session) = stream.get_ref();
    let names = Arc::new(door_names(session.peer_certificates()));
    let connection = Connection { names, place };
    let known = move |extensions: &mut axum::http::Extensions| {
        extensions.insert(connection.clone());
    };
    let leave = async {
        tokio::select! {
            () = stopped(&mut stop) => {}
            () = tls.replaced() => {}
        }
    };
    let late = async {
        tls.replaced().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = talk(router, stream, times, known, leave) => {}
        () = late => debug!("a connection to the API ended: certificates or lists have changed"),
    }
}
