//! Speaks with the daemon's API, for commands that a runtime could as well do without.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::connect;
use crate::{error::Failure, paths::Paths};

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body; `Null` where there is none.
    pub body: Value,
}

impl Reply {
    /// A problem as a failure of this command.
    pub fn failure(&self) -> Failure {
        let text = |name: &str| self.body.get(name).and_then(Value::as_str);
        let detail = text("detail").unwrap_or("the daemon answered something unexpected");
        let failure = Failure::new(match text("title") {
            Some(title) => format!("{title}: {detail}"),
            None => detail.to_owned(),
        });
        let failure = match text("help") {
            Some(help) => failure.help(help),
            None => failure,
        };
        match self.status {
            400 | 404 => failure.usage(),
            403 => failure.with_code(super::exit::DENIED),
            _ => failure,
        }
    }
}

/// Asks the user's daemon, started when none runs.
///
/// # Errors
/// [`Failure`] when it cannot be reached or does not answer within `deadline`.
pub fn ask(
    method: &Method,
    path: &str,
    body: Vec<u8>,
    deadline: Duration,
) -> Result<Reply, Failure> {
    let (status, body) = exchanged(method, path, body, deadline)?;
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body)?
    };
    Ok(Reply { status, body })
}

/// Asks for what is no JSON.
///
/// # Errors
/// As [`ask`], and the problem where there is one.
pub fn text(path: &str, deadline: Duration) -> Result<String, Failure> {
    let (status, body) = exchanged(&Method::GET, path, Vec::new(), deadline)?;
    match status {
        200..300 => Ok(String::from_utf8_lossy(&body).into_owned()),
        _refused => {
            let body = serde_json::from_slice(&body)?;
            Err(Reply { status, body }.failure())
        }
    }
}

fn exchanged(
    method: &Method,
    path: &str,
    body: Vec<u8>,
    deadline: Duration,
) -> Result<(u16, Bytes), Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    // Held, so that the daemon does not leave meanwhile.
    let _control = connect::reach(&paths)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let asked = async {
        let stream = UnixStream::connect(paths.api_socket()).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            let body = body
                .map_err(|error| Failure::new(error.to_string()))?
                .to_bytes();
            Ok::<_, Failure>((status, body))
        };
        let driven = async {
            // What went wrong is told to whoever waits for the answer.
            let _told = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            reply = exchange => reply,
            never = driven => never,
        }
    };
    let answered = runtime.block_on(async { tokio::time::timeout(deadline, asked).await });
    answered.unwrap_or_else(|_late| {
        Err(Failure::new("the daemon did not answer in time")
            .help("`cordon status` says how it does"))
    })
}

/// Longest answer, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;
