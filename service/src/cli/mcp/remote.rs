//! `cordon mcp wrap --connector`: a client of the gateway that the daemon holds to a connector's own
//! endpoint, for clients that know standard input and output only.
//!
//! Decides nothing and knows no credential: both are the daemon's.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hyper::{HeaderMap, Method};
use serde_json::Value;
use tokio::{io::split, net::UnixStream};

use super::{
    http::Endpoint,
    wrap::{announce, interrupted, ours},
};
use crate::{
    cli::{api, connect},
    error::Failure,
    mcp::{Opening, Stream, Upstream, Way},
    paths::Paths,
};

/// Does it. Exit 0 when the client has closed its side.
pub fn wrap(connector: &str, session: &str, listen: Option<SocketAddr>) -> Result<u8, Failure> {
    for name in [connector, session] {
        crate::daemon::server_name(name).map_err(|why| Failure::new(why).usage())?;
    }
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    // Held, so that the daemon does not leave meanwhile.
    let _control = connect::reach(&paths)?;
    enabled(connector, session)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let way = Socket {
        path: paths.api_socket(),
        target: format!("/v1/sessions/{session}/connectors/{connector}/mcp"),
    };
    let done = runtime.block_on(async {
        tokio::select! {
            done = bridged(way, connector, session, listen) => done,
            () = interrupted() => Ok(()),
        }
    });
    // The reader of standard input may wait for a line that never comes.
    runtime.shutdown_background();
    done.map(|()| 0)
}

/// Says what is to be done before the client waits for an answer.
fn enabled(connector: &str, session: &str) -> Result<(), Failure> {
    let path = format!("/v1/sessions/{session}/connectors");
    let reply = api::ask(&Method::GET, &path, Vec::new(), DEADLINE)?;
    if reply.status != 200 {
        return Err(reply.failure());
    }
    let all = reply.body.as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |one: &&Value| one.get("name").and_then(Value::as_str) == Some(connector);
    let found = all.iter().find(named).ok_or_else(|| {
        Failure::new(format!("there is no connector `{connector}`"))
            .help("`cordon connector list` names them")
            .usage()
    })?;
    if found.get("enabled").is_some() {
        return Ok(());
    }
    let why = format!("`{connector}` is not enabled in this session");
    let help = format!("`cordon connector enable {connector} --session {session} --scope SCOPE`");
    Err(Failure::new(why)
        .help(help)
        .with_code(crate::cli::exit::DENIED))
}

async fn bridged(
    way: Socket,
    connector: &str,
    session: &str,
    listen: Option<SocketAddr>,
) -> Result<(), Failure> {
    let upstream = Arc::new(Upstream::new(way));
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let served = upstream.serve(far);
    if let Some(address) = listen {
        let endpoint = Endpoint::bind(address).await?;
        announce(&endpoint, connector, session)?;
        tokio::join!(endpoint.serve(near), served);
        return Ok(());
    }
    let (mut back, mut on) = split(near);
    let (mut input, mut output) = (ours(std::io::stdin())?, ours(std::io::stdout())?);
    let answers = async {
        // A client that reads no more has gone.
        let _gone = tokio::io::copy(&mut back, &mut output).await;
    };
    let asked = async {
        let _gone = tokio::io::copy(&mut input, &mut on).await;
        // The client's end is the end of the relay.
        let _closed = tokio::io::AsyncWriteExt::shutdown(&mut on).await;
    };
    let carried = async { tokio::join!(served, asked) };
    tokio::select! {
        _done = carried => {}
        () = answers => {}
    }
    Ok(())
}

/// The daemon's own socket.
struct Socket {
    path: PathBuf,
    target: String,
}

impl Way for Socket {
    fn open(&self) -> Opening<'_, Stream> {
        Box::pin(async {
            let stream = UnixStream::connect(&self.path).await;
            let stream = stream.map_err(|error| format!("the daemon is not there: {error}"))?;
            Ok(Box::new(stream) as Stream)
        })
    }

    fn fields(&self) -> Opening<'_, HeaderMap> {
        Box::pin(std::future::ready(Ok(HeaderMap::new())))
    }

    fn target(&self) -> (&str, &str) {
        ("localhost", &self.target)
    }

    /// The daemon's problems say what to do.
    fn is_ours(&self) -> bool {
        true
    }
}

/// What is on its way, in bytes.
const PIPE_BYTES: usize = 64 * 1024;

/// Longer than the daemon takes at most.
const DEADLINE: Duration = Duration::from_secs(30);
