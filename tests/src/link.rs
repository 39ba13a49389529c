//! One connection to the decision API, byte by byte: for what curl does not do, such as to be slow,
//! to hold many connections, or to make many calls on one.

use std::{
    fmt,
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::{process::Uid, thread::set_thread_res_uid};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;

use crate::{World, process::DEADLINE};

/// A connection, and what was read of it and is not used yet.
pub struct Link {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Said {
    /// Its status.
    pub status: u16,
    /// Its head, in lower case.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

impl Link {
    /// To the socket, as the world's account: the daemon takes no other's word.
    ///
    /// # Panics
    /// When nothing listens there.
    pub fn unix(world: &World) -> Self {
        let socket = world.runtime().join("api.sock");
        let account = Uid::from_raw(world.account().uid);
        let connect = move || {
            // Of this thread alone, which ends with it.
            set_thread_res_uid(None, Some(account), None).expect("root may become anybody");
            UnixStream::connect(socket).expect("the daemon listens")
        };
        let stream = thread::spawn(connect).join().expect("it connects");
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(DEADLINE)).expect("it is not zero");
        }
        Self::over(stream)
    }

    /// Over TLS, trusting the authority `ca`, with a certificate and its key where they are given,
    /// all as PEM.
    ///
    /// # Errors
    /// When the other side breaks off while the two agree.
    ///
    /// # Panics
    /// When nothing listens there.
    pub fn tls(port: u16, ca: &str, shown: Option<(&str, &str)>) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM of the test's");
        roots.add(ca).expect("a certificate of the test's");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows them all")
            .with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::from_pem_slice(certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
                let chain = vec![chain.expect("PEM of the test's")];
                let config = config.with_client_auth_cert(chain, key.expect("PEM of the test's"));
                config.expect("they belong together")
            }
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("fine");
        let mut stream = tcp(port);
        while client.is_handshaking() {
            client.complete_io(&mut stream)?;
        }
        Ok(Self::over(StreamOwned::new(client, stream)))
    }

    fn over(stream: impl Read + Write + Send + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            read: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The other side has closed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// A whole call, with more lines of its head, and its answer.
    ///
    /// # Errors
    /// The other side has closed.
    pub fn call(
        &mut self,
        method: &str,
        path: &str,
        more: &[&str],
        body: &str,
    ) -> io::Result<Said> {
        let more: String = more.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        self.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n{more}\r\n{body}"
        ))?;
        self.answer()
    }

    /// The next answer.
    ///
    /// # Errors
    /// The other side has closed before its end.
    pub fn answer(&mut self) -> io::Result<Said> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8_lossy(&self.read[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().expect("a number"));
        while self.read.len() < end + length {
            self.more()?;
        }
        let said: Vec<u8> = self.read.drain(..end + length).collect();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Ok(Said {
            status: status.expect("an answer has a status"),
            head,
            body: said[end..].to_vec(),
        })
    }

    /// Everything until the other side closes, or breaks off.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more().is_ok() {}
        std::mem::take(&mut self.read)
    }

    fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        let read = self.stream.read(&mut bytes)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read.extend_from_slice(&bytes[..read]);
        Ok(())
    }
}

impl Said {
    /// Its body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// A connection to a port of this machine that says nothing yet.
///
/// # Panics
/// When nothing listens there.
#[expect(
    clippy::disallowed_methods,
    reason = "the daemon on this machine, as its clients do"
)]
pub fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the daemon listens");
    for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        set(&stream, Some(DEADLINE)).expect("it is not zero");
    }
    stream
}

/// Whether the other side has closed a connection, now.
///
/// # Panics
/// When that cannot be asked.
pub fn is_closed(stream: &mut TcpStream) -> bool {
    let at_once = Some(Duration::from_millis(1));
    stream.set_read_timeout(at_once).expect("it is not zero");
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        ),
    }
}
