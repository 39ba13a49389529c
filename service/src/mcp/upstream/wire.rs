//! Requests to one endpoint over connections that are kept a while.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;

use super::{super::SERVER_LINE_BYTES, Way};

/// A connection that can be asked again once its answer is read.
pub type Kept = SendRequest<Full<Bytes>>;

/// An endpoint's connections.
pub struct Wire<W> {
    way: W,
    idle: Mutex<Vec<Kept>>,
}

impl<W: Way> Wire<W> {
    /// None is open.
    pub fn new(way: W) -> Self {
        Self {
            way,
            idle: Mutex::default(),
        }
    }

    /// How the endpoint is reached.
    pub fn way(&self) -> &W {
        &self.way
    }

    /// Sends one request; gives the head of its answer.
    pub async fn send(
        &self,
        method: &Method,
        fields: HeaderMap,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Kept), String> {
        let (authority, path) = self.way.target();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = path.parse().map_err(|_| "the path is none".to_owned())?;
        *request.headers_mut() = fields;
        let host = HeaderValue::from_str(authority).map_err(|error| error.to_string())?;
        request.headers_mut().insert(header::HOST, host);
        if let Some(mut kept) = self.take() {
            match kept.try_send_request(request).await {
                Ok(response) => return Ok((response, kept)),
                Err(mut failed) => match failed.take_message() {
                    // It never went out: the other side had closed meanwhile.
                    Some(unsent) => request = unsent,
                    None => return Err(broken(failed.error())),
                },
            }
        }
        let mut kept = self.open().await?;
        let response = kept.send_request(request).await;
        response
            .map(|response| (response, kept))
            .map_err(|error| broken(&error))
    }

    /// An answer was read to its end: the next request can go the same way.
    pub fn keep(&self, kept: Kept) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE && !kept.is_closed() {
            idle.push(kept);
        }
    }

    fn take(&self) -> Option<Kept> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| !kept.is_closed());
        let at = idle.iter().position(SendRequest::is_ready)?;
        Some(idle.swap_remove(at))
    }

    async fn open(&self) -> Result<Kept, String> {
        let stream = self.way.open().await?;
        let (kept, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        // It ends with the last who holds it; what went wrong is told to whoever waits.
        tokio::spawn(async move { drop(connection.await) });
        Ok(kept)
    }
}

/// The next bytes of an answer; none at its end.
pub async fn frame(body: &mut Incoming) -> Result<Option<Bytes>, String> {
    loop {
        let frame = tokio::time::timeout(SILENCE, body.frame()).await;
        let frame = frame.map_err(|_late| "the server says nothing any more".to_owned())?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// A whole answer, bounded.
pub async fn whole(body: Incoming) -> Result<Bytes, String> {
    let whole = Limited::new(body, SERVER_LINE_BYTES).collect();
    let whole = tokio::time::timeout(SILENCE, whole).await;
    let whole = whole.map_err(|_late| "the server says nothing any more".to_owned())?;
    whole
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| format!("the server's answer: {error}"))
}

fn broken(error: &hyper::Error) -> String {
    format!("the connection to the server: {error}")
}

/// Connections that are kept.
const MOST_IDLE: usize = 4;

/// Longest head of an answer, in bytes.
const HEAD_BYTES: usize = 64 * 1024;

/// Time without a byte after which an answer is given up.
const SILENCE: Duration = Duration::from_secs(600);
