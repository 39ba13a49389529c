//! The answer of a parent proxy, for `fuzz/`.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpStream;

use super::{Link, Target, http};

/// Asks the peer of this socket as a parent for a tunnel; the socket, or why there is none.
///
/// # Errors
/// What is wrong with its answer.
pub async fn parent(stream: TcpStream) -> Result<TcpStream, String> {
    let mut link = Link::Tcp(stream);
    let target = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 1), 443));
    let asked = http::connect(&mut link, Target::Address(target), None).await;
    asked.map_err(|(_trouble, why)| why)?;
    let (stream, _held) = link.into_socket().map_err(|error| error.to_string())?;
    Ok(stream)
}
