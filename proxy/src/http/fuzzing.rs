//! The readers of HTTP/1 and WebSocket, for `fuzz/`.

use bytes::BytesMut;
use cordon_audit::RecordId;
use cordon_policy::{Destination, Scheme, Seen};
use hyper::{HeaderMap, Method, Request, Uri, body::Body};
use tokio::io::AsyncReadExt;

use super::{
    chunks::Chunks,
    fields,
    frames::Frames,
    head::{self, Framing},
    hops::{self, Hops},
    inside,
    normalize::{self, Asked, Named, Problem},
    screen::{Flaw, Screen},
};
use crate::{
    credentials::Echo,
    fuzzing::{Pieces, now},
};

/// What became of a client's bytes.
#[derive(Debug)]
pub struct Screened {
    /// What went on.
    pub through: Vec<u8>,
    /// What was wrong.
    pub flaw: Option<String>,
    /// Whether it is HTTP/2.
    pub http2: bool,
}

/// Screens bytes that arrive `cut` at a time.
pub fn screen(bytes: &[u8], cut: usize) -> Screened {
    let mut screen = Screen::new(Pieces::new(bytes, cut));
    let mut through = Vec::new();
    // It reads from memory, which does not fail.
    let _read = now(screen.read_to_end(&mut through));
    let flaw = screen.take_flaw();
    Screened {
        through,
        http2: matches!(flaw, Some(Flaw::Http2(_))),
        flaw: match flaw {
            Some(Flaw::Refused(problem, _) | Flaw::Answered(problem, _)) => Some(problem.text),
            Some(Flaw::Http2(_)) | None => None,
        },
    }
}

/// One message as the screen frames it.
#[derive(Debug, Eq, PartialEq)]
pub struct Message {
    /// Its method.
    pub method: String,
    /// Length of its body, where its head says it and all of it is there.
    pub body: Option<u64>,
    /// Whether anything but HTTP follows, if it is granted.
    pub tunnel: bool,
}

/// The messages in bytes that went through a screen.
pub fn messages(bytes: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    let mut rest = bytes;
    loop {
        let text = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        let Some(end) = memchr::memmem::find(text, b"\r\n\r\n") else {
            return all;
        };
        let (first, body) = text.split_at_checked(end + 4).unwrap_or_default();
        let Ok(framing) = head::read(first) else {
            return all;
        };
        let method = first.split(|byte| *byte == b' ').next().unwrap_or_default();
        let (length, next) = behind(framing, body);
        all.push(Message {
            method: String::from_utf8_lossy(method).into_owned(),
            body: length,
            tunnel: framing == Framing::Tunnel,
        });
        match next {
            Some(next) => rest = next,
            None => return all,
        }
    }
}

/// The length of a body, and what is behind it.
fn behind(framing: Framing, bytes: &[u8]) -> (Option<u64>, Option<&[u8]>) {
    match framing {
        Framing::Empty => (Some(0), Some(bytes)),
        Framing::Tunnel => (Some(0), None),
        Framing::Length(length) => {
            let next = usize::try_from(length)
                .ok()
                .and_then(|length| bytes.get(length..));
            (next.map(|_| length), next)
        }
        Framing::Chunked => match Chunks::default().take(bytes) {
            Ok((taken, true)) => (None, bytes.get(taken..)),
            Ok((_, false)) | Err(_) => (None, None),
        },
    }
}

/// Follows a chunked body that arrives `cut` bytes at a time: how many of them are of it, and
/// whether it ended.
///
/// # Errors
/// What is wrong with it.
pub fn chunks(bytes: &[u8], cut: usize) -> Result<(usize, bool), String> {
    let mut chunks = Chunks::default();
    let mut taken = 0;
    for piece in bytes.chunks(cut) {
        let (more, ended) = chunks.take(piece).map_err(|problem| problem.text)?;
        taken += more;
        if ended {
            return Ok((taken, true));
        }
    }
    Ok((taken, false))
}

/// A request in its one spelling.
#[derive(Debug, Eq, PartialEq)]
pub struct Canonical {
    /// Where to.
    pub destination: Destination,
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// What its `Host` field will be.
    pub host_field: String,
}

/// Reads a plain request.
///
/// # Errors
/// What is wrong with it.
pub fn forward<B: Body>(request: &mut Request<B>) -> Result<Canonical, String> {
    canonical(normalize::forward_target(request, &Named::default()))
}

/// Reads a request inside a tunnel to `destination`.
///
/// # Errors
/// What is wrong with it.
pub fn inside<B: Body>(
    request: &mut Request<B>,
    destination: &Destination,
) -> Result<Canonical, String> {
    canonical(inside::target(
        request,
        destination,
        Scheme::Https,
        &Seen::default(),
    ))
}

/// Reads a CONNECT.
///
/// # Errors
/// What is wrong with it.
pub fn connect<B: Body>(request: &Request<B>) -> Result<Destination, String> {
    normalize::connect_target(request).map_err(|problem| problem.text)
}

/// Whether the connection is read on as HTTP only if a request is refused or closes it.
pub fn leaves_http<B: Body>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT || !matches!(inside::upgrade(request), Ok(None))
}

/// The target and the fields with which a plain request goes on.
///
/// # Errors
/// What is wrong with it.
pub fn outbound<B: Body>(mut request: Request<B>, http2: bool) -> Result<(Uri, HeaderMap), String> {
    let asked = normalize::forward_target(&mut request, &Named::default())
        .map_err(|problem| problem.text)?;
    let (mut parts, _body) = request.into_parts();
    fields::outbound(&mut parts, &asked, http2);
    Ok((parts.uri, parts.headers))
}

/// Counts `Max-Forwards` down: whether the request goes on.
///
/// # Errors
/// What is wrong with the field.
pub fn hops<B>(request: &mut Request<B>) -> Result<bool, String> {
    let counted = hops::count(request).map_err(|problem| problem.text)?;
    Ok(counted == Hops::On)
}

fn canonical(read: Result<Asked, Problem>) -> Result<Canonical, String> {
    let asked = read.map_err(|problem| problem.text)?;
    Ok(Canonical {
        host_field: asked.host_field(),
        destination: asked.destination,
        method: asked.method,
        path: asked.path,
    })
}

/// What goes on of a WebSocket's bytes that arrive `cut` at a time, with a value in them masked, and
/// whether they could be read to their end.
pub fn frames(bytes: &[u8], cut: usize) -> (Vec<u8>, bool) {
    let mut echo = Echo::default();
    echo.expect("tok-7f3a91c2");
    let mut frames = Frames::new(echo, RecordId(Default::default()));
    let mut out = BytesMut::new();
    let done = bytes
        .chunks(cut)
        .try_for_each(|part| frames.next(part, &mut out));
    (out.to_vec(), done.is_ok())
}
