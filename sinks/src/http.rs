//! A small HTTP/1.1 client for receivers: one request at a time over a kept connection.
//!
//! Requests in, status and a bounded body out. Follows no redirect: records go where the operator
//! said, nowhere else.

use std::{fmt, path::Path};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Uri, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::{net::Peer, runner::DEADLINE, target::Failure};

/// An address that takes requests.
pub(crate) struct Endpoint {
    peer: Peer,
    /// Host and port as the request names them.
    pub(crate) authority: String,
    /// Path that every request begins with, without a slash at its end.
    pub(crate) base: String,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Most of an answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

impl Endpoint {
    /// Reads `https://host[:port]/path`.
    pub(crate) fn parse(url: &str, ca: Option<&Path>) -> Result<Self, String> {
        let wrong =
            || format!("{url:?} is no address; name one as in `https://siem.example.com/in`");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.query().is_some() || authority.as_str().contains('@') {
            return Err(format!(
                "{url:?} holds a query or a password; secrets belong in a file that the sink names"
            ));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self {
            peer: Peer::new(authority.host(), port, tls, ca)?,
            authority: authority.to_string(),
            base: uri.path().trim_end_matches('/').into(),
            connection: None,
        })
    }

    /// Sends a request to `base` + `path` and reads the answer, whatever its status is.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let target = format!("{}{path}", self.base);
        let mut request = Request::builder()
            .method(method)
            .uri(if target.is_empty() { "/" } else { &target })
            .header(header::HOST, &self.authority)
            .header(
                header::USER_AGENT,
                concat!("cordon/", env!("CARGO_PKG_VERSION")),
            );
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::Retry(format!("the request could not be made: {error}")))?;
        match timeout(DEADLINE, self.exchange(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => {
                self.connection = None;
                Err(Failure::Retry(format!("`{}`: {why}", self.authority)))
            }
            Err(_late) => {
                self.connection = None;
                let seconds = DEADLINE.as_secs();
                Err(Failure::Retry(format!(
                    "`{}` gave no answer in {seconds} s",
                    self.authority
                )))
            }
        }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let mut kept = self.connection.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.open().await?,
        };
        let answer = sender.send_request(request).await.map_err(|e| chain(&e))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("its answer could not be read: {error}"))?;
        self.connection = Some(sender);
        Ok(Answer {
            status,
            body: body.to_bytes().to_vec(),
        })
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = self.peer.connect().await.map_err(|e| chain(&e))?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| chain(&e))?;
        // It ends with its sender, or with the peer.
        tokio::spawn(async move {
            let _ended = connection.await;
        });
        Ok(sender)
    }
}

impl Answer {
    /// Accepted, or why not: what a receiver will never accept is told from what it may later.
    pub(crate) fn accepted(self, authority: &str) -> Result<Self, Failure> {
        let why = || {
            let start: String = String::from_utf8_lossy(&self.body)
                .chars()
                .take(200)
                .collect();
            let said = cordon_audit::escape(&start).to_string();
            format!("`{authority}` answered {} {said:?}", self.status)
        };
        match self.status {
            200..=299 => Ok(self),
            400 | 413 | 422 => Err(Failure::Refused(why())),
            _ => Err(Failure::Retry(why())),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("peer", &self.peer)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// An error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
