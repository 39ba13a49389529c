//! The reader of a ClientHello, for `fuzz/`.

use cordon_policy::TlsFacts;

use super::hello::{Progress, Reader};

/// What a client's first bytes are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Handshake {
    /// Not decided yet.
    More,
    /// A ClientHello that shows this.
    Hello(TlsFacts),
    /// Something else.
    NotTls,
    /// Begun as TLS and wrong.
    Malformed,
}

/// Reads bytes that arrive `cut` at a time.
pub fn handshake(bytes: &[u8], cut: usize) -> Handshake {
    let mut reader = Reader::default();
    for piece in bytes.chunks(cut) {
        match reader.push(piece) {
            Progress::More => {}
            Progress::Hello(hello) => return Handshake::Hello(hello.facts()),
            Progress::NotTls => return Handshake::NotTls,
            Progress::Malformed(_why) => return Handshake::Malformed,
        }
    }
    Handshake::More
}
