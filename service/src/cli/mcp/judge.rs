//! Asks the daemon over one kept connection, for the gateway of one server in one session.

use std::time::Duration;

use cordon_runtime::mcp::{Asked, Fate, Judge, Listed, Ruling};
use http_body_util::Full;
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::UnixStream, sync::Mutex};

use crate::{
    cli::api::{self, Reply},
    error::Failure,
    mcp::{ruling, undecided},
    paths::Paths,
};

/// The gate of one session, behind the daemon's socket.
pub struct Daemon {
    paths: Paths,
    /// `/v1/sessions/ID/mcp/SERVER`.
    base: String,
    sender: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Daemon {
    /// For one server in one session.
    pub fn new(paths: Paths, session: &str, server: &str) -> Self {
        Self {
            paths,
            base: format!("/v1/sessions/{session}/mcp/{server}"),
            sender: Mutex::new(None),
        }
    }

    /// Asks, and gives the answer whatever its status is.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer in time.
    pub async fn ask(&self, path: &str, body: &Value) -> Result<Reply, Failure> {
        self.send(Method::POST, path, body).await
    }

    /// Asks whether the session uses the server, and decides nothing.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub async fn look(&self) -> Result<Reply, Failure> {
        self.send(Method::GET, "", &Value::Null).await
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Reply, Failure> {
        let mut kept = self.sender.lock().await;
        let exchange = self.exchange(&mut kept, method, path, body);
        let answered = tokio::time::timeout(DEADLINE, exchange).await;
        let answered =
            answered.unwrap_or_else(|_late| Err(Failure::new("the daemon did not answer in time")));
        if answered.is_err() {
            // Whatever still comes on it is not the answer to the next question.
            *kept = None;
        }
        answered
    }

    async fn exchange(
        &self,
        kept: &mut Option<SendRequest<Full<Bytes>>>,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Reply, Failure> {
        let sender = match kept.take() {
            Some(sender) if !sender.is_closed() => kept.insert(sender),
            _none => kept.insert(self.connect().await?),
        };
        sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let response = sender.send_request(request).await?;
        Reply::of(api::whole(response, LONGEST).await?)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = UnixStream::connect(self.paths.api_socket()).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender; what went wrong is told to whoever waits for an answer.
        tokio::spawn(connection);
        Ok(sender)
    }
}

impl Judge for Daemon {
    async fn decide(&self, asked: Asked) -> Ruling {
        let Ok(body) = serde_json::to_value(&asked) else {
            return undecided("it cannot be said what is asked".into());
        };
        let reply = match self.ask("/decisions", &body).await {
            Ok(reply) if reply.status == 200 => reply.body,
            Ok(reply) => return undecided(reply.failure().to_string()),
            Err(failure) => return undecided(failure.to_string()),
        };
        ruling(reply)
    }

    async fn sort(&self, listed: Vec<Listed>) -> Result<Vec<Fate>, String> {
        let reply = self.ask("/listing", &json!({"listed": listed})).await;
        let reply = reply.map_err(|failure| failure.to_string())?;
        if reply.status != 200 {
            return Err(reply.failure().to_string());
        }
        let fates = reply.body.get("fates").cloned().unwrap_or_default();
        serde_json::from_value(fates).map_err(|error| error.to_string())
    }

    async fn refuse(&self, what: String, why: String) {
        // It is refused whether or not it can be recorded.
        let _recorded = self
            .ask("/refusals", &json!({"what": what, "why": why}))
            .await;
    }
}

/// Longer than the daemon takes at most.
const DEADLINE: Duration = Duration::from_secs(15);

/// Longest answer, in bytes.
const LONGEST: usize = 4 * 1024 * 1024;
