//! What a client offers to speak inside TLS, as far as it can be inspected.

use cordon_policy::Seen;

/// HTTP/1.1, HTTP/2 or both.
#[derive(Clone, Copy)]
pub(super) struct Offer {
    http1: bool,
    http2: bool,
}

impl Offer {
    /// `None` where nothing of it is HTTP. A client that offers nothing speaks HTTP/1.1.
    pub(super) fn of(seen: &Seen) -> Option<Self> {
        let alpn = seen.tls.as_ref().map_or(&[][..], |tls| &tls.alpn);
        let offers = |protocol| alpn.iter().any(|name| name == protocol);
        let offer = Self {
            http1: alpn.is_empty() || offers("http/1.1"),
            http2: offers("h2"),
        };
        (offer.http1 || offer.http2).then_some(offer)
    }

    pub(super) fn protocols(self) -> &'static [&'static [u8]] {
        match (self.http1, self.http2) {
            (true, true) => &[HTTP2, HTTP1],
            (false, true) => &[HTTP2],
            (_, false) => &[HTTP1],
        }
    }

    /// What the client is answered when the destination chose this, or nothing.
    pub(super) fn settled(self, chosen: Option<&[u8]>) -> Option<&'static [u8]> {
        match chosen {
            Some(HTTP2) => Some(HTTP2),
            _ if self.http1 => Some(HTTP1),
            // It speaks nothing else; HTTP/1.1 upstream serves it as well.
            _ => Some(HTTP2),
        }
    }
}

pub(super) const HTTP1: &[u8] = b"http/1.1";
pub(super) const HTTP2: &[u8] = b"h2";
