//! Speaks with the daemon's API, for commands that a runtime could as well do without.

use std::{sync::mpsc, thread, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::connect;
use crate::{
    control::{Answer, Ask, SessionAnswer, SessionAsk},
    error::{Failure, SILENT},
    paths::Paths,
};

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body; `Null` where there is none.
    pub body: Value,
}

impl Reply {
    /// Reads it.
    ///
    /// # Errors
    /// [`Failure`] where its body is no JSON.
    pub fn of((status, body): (u16, Bytes)) -> Result<Self, Failure> {
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body)?
        };
        Ok(Self { status, body })
    }

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
    Reply::of(exchanged(method, path, body, deadline)?)
}

/// Asks, and takes an answer that is no success for a failure.
///
/// # Errors
/// As [`ask`], and the problem where there is one.
pub fn send(
    method: &Method,
    path: &str,
    body: &Value,
    deadline: Duration,
) -> Result<Value, Failure> {
    let reply = ask(method, path, body.to_string().into_bytes(), deadline)?;
    match reply.status {
        200..300 => Ok(reply.body),
        _refused => Err(reply.failure()),
    }
}

/// The whole id of the one running session that begins so.
///
/// # Errors
/// [`Failure`]: there is none, or there are several.
pub fn session(begins: &str) -> Result<String, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let Some(mut client) = connect::reach_running(&paths)? else {
        return Err(Failure::new("no daemon runs, so no session does")
            .help("`cordon session list` shows the running sessions")
            .usage());
    };
    let show = Ask::Session(SessionAsk::Show {
        session: begins.into(),
    });
    // As where the API knows none of that name.
    let shown = client
        .ask(&show)
        .map_err(|error| Failure::from(error).usage())?;
    match shown {
        Answer::Session(SessionAnswer::Show(shown)) => Ok(shown.session),
        _other => Err(Failure::new("the daemon answered something unexpected")),
    }
}

/// Asks for what is no JSON.
///
/// # Errors
/// As [`ask`], and the problem where there is one.
pub fn text(path: &str, deadline: Duration) -> Result<String, Failure> {
    let (status, body) = exchanged(&Method::GET, path, Vec::new(), deadline)?;
    match status {
        200..300 => Ok(String::from_utf8_lossy(&body).into_owned()),
        _refused => Err(Reply::of((status, body))?.failure()),
    }
}

/// One deadline for all of it: a daemon that is started, one that greets, one that answers.
fn exchanged(
    method: &Method,
    path: &str,
    body: Vec<u8>,
    deadline: Duration,
) -> Result<(u16, Bytes), Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    within(deadline, move || {
        // Held, so that the daemon does not leave meanwhile.
        let _control = connect::reach(&paths)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(exchange(&paths, request))
    })
}

async fn exchange(paths: &Paths, request: Request<Full<Bytes>>) -> Result<(u16, Bytes), Failure> {
    let stream = UnixStream::connect(paths.api_socket()).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        whole(response, LONGEST).await
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
}

/// Its status and all of its body.
///
/// # Errors
/// [`Failure`] where it breaks off or is longer than `longest` bytes.
pub async fn whole(response: Response<Incoming>, longest: usize) -> Result<(u16, Bytes), Failure> {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), longest).collect().await;
    let body = body.map_err(|error| Failure::new(error.to_string()))?;
    Ok((status, body.to_bytes()))
}

/// Does it, but is not held up by it any longer than this. What comes too late is lost, and its
/// thread ends with the process; for commands that fork nothing afterwards.
///
/// # Errors
/// What it says itself, and [`Failure`] when it is late.
pub fn within<T: Send + 'static>(
    deadline: Duration,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (told, result) = mpsc::sync_channel(1);
    thread::Builder::new().spawn(move || {
        // Nobody waits any more where it is late.
        let _late = told.send(work());
    })?;
    result.recv_timeout(deadline).unwrap_or_else(|_late| {
        let within = deadline.as_secs();
        Err(Failure::new(format!("the daemon did not answer within {within} s")).help(SILENT))
    })
}

/// Longest answer, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;
