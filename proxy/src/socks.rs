//! SOCKS5: reads a CONNECT, asks, answers. Resolves nothing itself.
//!
//! Source: RFC 1928.

use std::{io, net::SocketAddr, sync::Arc};

use cordon_policy::{Destination, TargetError, Transport};
use fast_socks5::{
    Socks5Command,
    server::{
        AuthMethod as _, NoAuthentication, PasswordAuthentication, PasswordAuthenticationStarted,
        Socks5ServerProtocol, SocksServerError, states,
    },
    util::target_addr::TargetAddr,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    door::{Credentials, Who},
    limits, linger,
    process::MadeBy,
    refuse::{Fault, Refusal},
    relay::relay,
    session::Session,
    status, tunnel,
};

/// The whole handshake fits: 2 + 255 bytes of methods, 4 + 1 + 255 + 2 of command.
const HANDSHAKE_BYTES: usize = 520;

const DOOR: &str = "socks5";

const VERSION: u8 = 5;

const NO_CREDENTIALS: u8 = 0;

const PASSWORD: u8 = 2;

const NO_METHOD: u8 = 0xff;

type Client = BufReader<TcpStream>;
type Authenticated = Socks5ServerProtocol<Client, states::Authenticated>;
type Command = Socks5ServerProtocol<Client, states::CommandRead>;

/// Serves one client connection to its end.
pub(crate) async fn serve(who: Who, stream: TcpStream) {
    let strangers = who.recording();
    // Boxed, as everything here that a tunnel at rest has behind it.
    let made_by = who.made_by();
    let handshake = Box::pin(read_command(&who, stream));
    let handshake = tokio::time::timeout(limits::HANDSHAKE_DEADLINE, handshake).await;
    let (session, client, command, target) = match handshake {
        Ok(Ok(read)) => read,
        Ok(Err(Unread::Nothing)) => return,
        Ok(Err(Unread::Fault(seen, problem))) => {
            return Box::pin(record(strangers, &seen, problem)).await;
        }
        Ok(Err(Unread::Foreign(client))) => {
            return Box::pin(refuse_foreign(strangers, client)).await;
        }
        Err(_elapsed) => {
            let seconds = limits::HANDSHAKE_DEADLINE.as_secs();
            let problem = format!("the SOCKS handshake was not complete within {seconds} s");
            return Box::pin(record(strangers, &[], problem)).await;
        }
    };
    if destination(&target).is_ok_and(|asked| status::is_reserved(&asked))
        && matches!(command, Socks5Command::TCPConnect)
    {
        // The proxy itself: nothing is opened, so nothing is decided.
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        if let Ok(client) = Box::pin(client.reply_success(unspecified)).await {
            let first = client.buffer().to_vec();
            Box::pin(status::serve(session, first, client.into_inner())).await;
        }
        return;
    }
    let opened = Box::pin(open(&session, command, &target, &made_by)).await;
    drop(target);
    match opened {
        Ok((upstream, flow)) => {
            let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
            // The address dialled from is nothing the session needs to know.
            let answered = Box::pin(client.reply_success(unspecified)).await;
            if let Ok(client) = answered {
                let preface = client.buffer().to_vec();
                let buffers = session.egress().buffers();
                let client = client.into_inner();
                Box::pin(relay(client, upstream, preface, buffers, flow)).await;
            }
        }
        Err(refusal) => {
            // A client that is gone needs no answer.
            let _gone = Box::pin(client.reply_error(&refusal.socks_reply())).await;
        }
    }
}

async fn open(
    session: &Arc<Session>,
    command: Socks5Command,
    target: &TargetAddr,
    made_by: &MadeBy,
) -> Result<(TcpStream, crate::flow::Flow), Refusal> {
    let name = match command {
        Socks5Command::TCPConnect => {
            return match destination(target) {
                Ok(destination) => {
                    tunnel::open(session, destination, Transport::Socks5, made_by).await
                }
                Err(error) => Err(malformed(session, target, error.to_string()).await),
            };
        }
        Socks5Command::TCPBind => "BIND",
        Socks5Command::UDPAssociate => "UDP ASSOCIATE",
    };
    let problem = format!("SOCKS command {name} is not carried; use CONNECT");
    let raw = target.to_string();
    Err(tunnel::fault(session, DOOR, raw.as_bytes(), Fault::Command, problem).await)
}

async fn malformed(session: &Session, target: &TargetAddr, problem: String) -> Refusal {
    let raw = target.to_string();
    tunnel::fault(session, DOOR, raw.as_bytes(), Fault::Malformed, problem).await
}

/// The target in its one spelling.
fn destination(target: &TargetAddr) -> Result<Destination, TargetError> {
    match target {
        TargetAddr::Domain(host, port) => Destination::from_parts(host.as_bytes(), *port),
        TargetAddr::Ip(address) => Destination::from_address(address.ip(), address.port()),
    }
}

/// Why there is no command.
enum Unread {
    /// The client left, or never said anything.
    Nothing,
    /// It began SOCKS5 and went wrong; the bytes as far as they are known.
    Fault(Vec<u8>, String),
    /// It speaks something else; the bytes are in the buffer.
    Foreign(Client),
}

type Read = (Arc<Session>, Command, Socks5Command, TargetAddr);

async fn read_command(who: &Who, stream: TcpStream) -> Result<Read, Unread> {
    let mut client = BufReader::with_capacity(HANDSHAKE_BYTES, stream);
    let seen = client.fill_buf().await.map_err(|_gone| Unread::Nothing)?;
    let seen = match seen.first() {
        None => return Err(Unread::Nothing),
        // Bytes of a handshake with credentials may hold them: they are not kept.
        Some(5) if who.asks() => Vec::new(),
        Some(5) => seen.to_vec(),
        Some(_) => return Err(Unread::Foreign(client)),
    };
    let (session, authenticated) = if who.asks() {
        authenticate(who, client).await?
    } else {
        let authenticated = Socks5ServerProtocol::accept_no_auth(client)
            .await
            .map_err(|error| unread(&seen, &error))?;
        match who.of_credentials(None).await {
            Ok(session) => (session, authenticated),
            Err(refusal) => return Err(turn_away(authenticated, &refusal).await),
        }
    };
    let (command, asked, target) = authenticated
        .read_command()
        .await
        .map_err(|error| unread(&seen, &error))?;
    Ok((session, command, asked, target))
}

/// Asks for a name and a secret where the client has some, and says whether its session is known.
///
/// Source: RFC 1928 section 3, RFC 1929.
async fn authenticate(
    who: &Who,
    mut client: Client,
) -> Result<(Arc<Session>, Authenticated), Unread> {
    let methods = methods(&mut client).await.map_err(cut)?;
    if methods.contains(&PASSWORD) {
        client.write_all(&[VERSION, PASSWORD]).await.map_err(cut)?;
        return by_password(who, PasswordAuthentication.new(client)).await;
    }
    if !methods.contains(&NO_CREDENTIALS) {
        // A client that is gone needs no answer.
        let _gone = client.write_all(&[VERSION, NO_METHOD]).await;
        let problem = "the client offers no SOCKS method that is spoken here; offer method 2 (user \
                       name and password), or 0";
        return Err(Unread::Fault(Vec::new(), problem.into()));
    }
    // As over HTTP: somebody may be known without them.
    match who.of_credentials(None).await {
        Ok(session) => {
            let method = [VERSION, NO_CREDENTIALS];
            client.write_all(&method).await.map_err(cut)?;
            let authenticated = Socks5ServerProtocol::finish_auth(NoAuthentication.new(client));
            Ok((session, authenticated))
        }
        Err(_recorded) => {
            // A client that is gone needs no answer.
            let _gone = client.write_all(&[VERSION, NO_METHOD]).await;
            Err(Unread::Nothing)
        }
    }
}

/// The methods that a client offers. That it begins with the version was seen before.
async fn methods(client: &mut Client) -> io::Result<Vec<u8>> {
    let _version = client.read_u8().await?;
    let count = client.read_u8().await?;
    let mut methods = vec![0; usize::from(count)];
    client.read_exact(&mut methods).await?;
    Ok(methods)
}

async fn by_password(
    who: &Who,
    asking: PasswordAuthenticationStarted<Client>,
) -> Result<(Arc<Session>, Authenticated), Unread> {
    let (username, secret, answer) = asking
        .read_username_password()
        .await
        .map_err(|error| unread(&[], &error))?;
    let credentials = Credentials {
        username,
        secret: secret.into_bytes(),
    };
    match who.of_credentials(Some(credentials)).await {
        Ok(session) => {
            let accepted = answer.accept().await.map_err(|error| unread(&[], &error))?;
            Ok((session, Socks5ServerProtocol::finish_auth(accepted)))
        }
        Err(_recorded) => {
            // A client that is gone needs no answer.
            let _gone = answer.reject().await;
            Err(Unread::Nothing)
        }
    }
}

/// Answers the command of somebody who is nobody here, whatever it is.
async fn turn_away(client: Authenticated, refusal: &Refusal) -> Unread {
    match client.read_command().await {
        Ok((client, _command, _target)) => {
            // A client that is gone needs no answer.
            let _gone = client.reply_error(&refusal.socks_reply()).await;
            Unread::Nothing
        }
        // It is recorded already.
        Err(_unread) => Unread::Nothing,
    }
}

fn cut(source: io::Error) -> Unread {
    let context = "agreeing on a method";
    unread(&[], &SocksServerError::Io { source, context })
}

fn unread(seen: &[u8], error: &SocksServerError) -> Unread {
    let problem = match error {
        SocksServerError::AuthMethodUnacceptable(_) => {
            "the client offers no SOCKS method without credentials; the listener is the identity, \
             so offer method 0"
                .into()
        }
        other => format!("SOCKS handshake not understood: {other}"),
    };
    Unread::Fault(seen.to_vec(), problem)
}

/// Answers what is not SOCKS5 in its own words where it has some (N25, N28).
async fn refuse_foreign(session: &Session, mut client: Client) {
    let seen = client.buffer().to_vec();
    let (answer, problem): (&[u8], _) = match seen.first() {
        // SOCKS4: "request rejected or failed".
        Some(4) => (
            &[0, 0x5b, 0, 0, 0, 0, 0, 0],
            "SOCKS4 is not carried; use SOCKS5",
        ),
        Some(first) if first.is_ascii_uppercase() => (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
              cordon: this is the SOCKS5 listener; the HTTP proxy is the one in `http_proxy`\n",
            "HTTP on the SOCKS5 listener; use the HTTP proxy",
        ),
        _ => (&[], "not SOCKS5; its first byte would be 5"),
    };
    record(session, &seen, problem.into()).await;
    // A client that is gone needs no answer.
    let _gone = client.write_all(answer).await;
    linger::close(client.into_inner()).await;
}

async fn record(session: &Session, seen: &[u8], problem: String) {
    tunnel::fault(session, DOOR, seen, Fault::Malformed, problem).await;
}
