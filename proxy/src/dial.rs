//! Connects. The only place that does, and only by a [`CheckedRoute`].

#![expect(
    clippy::disallowed_methods,
    reason = "this is the one place that dials, with a permit and checked addresses"
)]

use std::{
    future::{Future, poll_fn},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use cordon_audit::FlowEnd;
use cordon_policy::Host;
use tokio::net::{TcpSocket, TcpStream};
use tracing::Instrument;

use crate::{
    egress::Egress,
    flow::Flow,
    limits, metrics,
    parent::{Held, Parent, Target, Unconnected},
    refuse::{Refusal, Trouble},
    resolve::{CheckedRoute, Route},
};

/// Connects by the checked route.
///
/// # Errors
/// [`Refusal::Unreachable`] when nobody answered; the flow is already closed then.
pub(crate) async fn dial(checked: CheckedRoute) -> Result<(TcpStream, Flow), Refusal> {
    let (mut flow, route) = checked.into_parts();
    let since = Instant::now();
    let deadline = flow.session().limits().connect;
    let span =
        tracing::debug_span!(parent: flow.span(), "connect", cordon.decision = %flow.decision());
    let reached = reach(flow.session().egress(), route).instrument(span);
    let connected = tokio::time::timeout(deadline, reached);
    let connected = connected.await.unwrap_or_else(|_elapsed| {
        Err(Unconnected {
            trouble: Trouble::TimedOut,
            problem: format!(
                "no connection to the destination: no answer within {} s",
                deadline.as_secs_f64()
            ),
        })
    });
    let waited = since.elapsed().as_secs_f64();
    metrics::PROXY.connect.observe(waited);
    match connected {
        Ok(Reached { stream, peer, held }) => {
            if let Some(peer) = peer {
                flow.connected(peer);
            }
            if let Some(held) = held {
                flow.meter().hold(held);
            }
            Ok((stream, flow))
        }
        Err(Unconnected { trouble, problem }) => {
            let decision = flow.decision();
            flow.close(FlowEnd::ConnectFailed);
            Err(Refusal::Unreachable {
                decision,
                trouble,
                problem,
            })
        }
    }
}

/// A connection that stands for the destination.
struct Reached {
    stream: TcpStream,
    /// The destination's address, where it is known.
    peer: Option<SocketAddr>,
    /// What carries the connection on the way.
    held: Option<Held>,
}

async fn reach(egress: &Egress, route: Route) -> Result<Reached, Unconnected> {
    let source = egress.config().network.source_address;
    match route {
        Route::Direct(addresses) => match connect(addresses, source).await {
            Ok((stream, peer)) => Ok(Reached {
                stream,
                peer: Some(peer),
                held: None,
            }),
            Err(error) => Err(Unconnected {
                trouble: Trouble::from(error.kind()),
                problem: format!("no connection to the destination: {error}"),
            }),
        },
        Route::Through(parent, addresses) => {
            let targets = addresses.iter().take(limits::ADDRESSES_PER_PARENT);
            let mut last = parent.failed(Trouble::Broken, "there is no address to ask it for");
            for address in targets {
                match Box::pin(through(egress, &parent, Target::Address(*address))).await {
                    Ok((stream, held)) => {
                        return Ok(Reached {
                            stream,
                            peer: Some(*address),
                            held,
                        });
                    }
                    Err(unconnected) => last = unconnected,
                }
            }
            Err(last)
        }
        Route::Unverified(parent, name, port) => {
            let target = Target::Name(&name, port);
            let (stream, held) = Box::pin(through(egress, &parent, target)).await?;
            Ok(Reached {
                stream,
                peer: None,
                held,
            })
        }
    }
}

/// Connects to a parent and asks it for a target. Its own address is the admin's: it is not a
/// destination of the session, so it is neither decided nor classified.
async fn through(
    egress: &Egress,
    parent: &Parent,
    target: Target<'_>,
) -> Result<(TcpStream, Option<Held>), Unconnected> {
    let asked = async {
        let broken = |error: io::Error| {
            let trouble = Trouble::from(error.kind());
            parent.failed(trouble, &format!("no connection to it: {error}"))
        };
        let place = parent.place();
        let addresses = match &place.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => egress.look_up(name).await.map_err(broken)?.addresses,
        };
        let port = place.port.get();
        let addresses = addresses
            .into_iter()
            .take(limits::ADDRESSES_PER_DESTINATION)
            .map(|address| SocketAddr::new(address, port))
            .collect();
        let source = egress.config().network.source_address;
        let (stream, _parent) = connect(addresses, source).await.map_err(broken)?;
        parent.open(stream, target).await
    };
    let answered = asked.await;
    let parents = &metrics::PROXY.parents;
    match &answered {
        Ok(_) => parents.connected.inc(),
        Err(_) => parents.failed.inc(),
    }
    answered
}

/// Connects to the first that answers.
async fn connect(
    mut addresses: Vec<SocketAddr>,
    source: Option<IpAddr>,
) -> io::Result<(TcpStream, SocketAddr)> {
    if let [only] = addresses.as_slice() {
        return Ok((attempt(*only, source).await?, *only));
    }
    alternate_families(&mut addresses);
    race(&addresses, source).await
}

/// Connects to one address, from the configured one where it is of the same family.
async fn attempt(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let source = source.filter(|source| source.is_ipv4() == address.is_ipv4());
    let stream = match source {
        None => TcpStream::connect(address).await?,
        Some(source) => {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.bind(SocketAddr::new(source, 0))?;
            socket.connect(address).await?
        }
    };
    tune(&stream);
    Ok(stream)
}

type Attempt<'a> = Pin<Box<dyn Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send + 'a>>;

/// Tries the addresses in order, the next one as soon as the last has failed or has had its head
/// start; the first to answer wins.
///
/// Source: RFC 8305 section 5.
async fn race(
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
) -> io::Result<(TcpStream, SocketAddr)> {
    let mut waiting = addresses.iter();
    let mut running: Vec<Attempt<'_>> = Vec::with_capacity(addresses.len());
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            running.push(Box::pin(async move {
                Ok((attempt(*address, source).await?, *address))
            }));
        } else if running.is_empty() {
            return Err(last_error);
        }
        let stagger = if waiting.len() == 0 {
            limits::CONNECT_DEADLINE
        } else {
            limits::CONNECT_STAGGER
        };
        match first(&mut running, stagger).await {
            Some(Ok(connected)) => return Ok(connected),
            Some(Err(error)) => last_error = error,
            None => {}
        }
    }
}

/// The first result among `running` within `wait`, taken out of it.
async fn first(
    running: &mut Vec<Attempt<'_>>,
    wait: Duration,
) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    let any = poll_fn(|cx| {
        for (index, attempt) in running.iter_mut().enumerate() {
            if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                return Poll::Ready((index, result));
            }
        }
        Poll::Pending
    });
    let (index, result) = tokio::time::timeout(wait, any).await.ok()?;
    drop(running.swap_remove(index));
    Some(result)
}

/// Puts IPv6 first and the families in turn, order within each kept.
///
/// Source: RFC 8305 section 4.
fn alternate_families(addresses: &mut Vec<SocketAddr>) {
    let (six, four): (Vec<_>, Vec<_>) = addresses.drain(..).partition(SocketAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    loop {
        let before = addresses.len();
        addresses.extend(six.next());
        addresses.extend(four.next());
        if addresses.len() == before {
            return;
        }
    }
}

/// No waiting for more bytes, and dead peers are found. A socket that takes neither still works.
fn tune(stream: &TcpStream) {
    let _delayed = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
    let _silent = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_and_six_is_first() {
        let mut addresses: Vec<SocketAddr> = [
            "192.0.2.1:1",
            "192.0.2.2:1",
            "[2001:db8::1]:1",
            "192.0.2.3:1",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        alternate_families(&mut addresses);
        let order: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        assert_eq!(
            order,
            [
                "[2001:db8::1]:1",
                "192.0.2.1:1",
                "192.0.2.2:1",
                "192.0.2.3:1"
            ]
        );
    }

    #[tokio::test]
    async fn the_first_address_that_answers_wins() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = {
            let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            unused.local_addr().unwrap()
        };
        let (_stream, peer) = connect(vec![closed, open], None).await.unwrap();
        assert_eq!(peer, open);
        let error = connect(vec![closed, closed], None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// RFC 8305 section 5: the next one has its turn while the one before is still being tried.
    #[tokio::test]
    async fn an_address_that_says_nothing_is_overtaken() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        // Nobody accepts here, and there is no room to wait in.
        let full =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        full.bind(&any.into()).unwrap();
        full.listen(0).unwrap();
        let silent = full.local_addr().unwrap().as_socket().unwrap();
        let soon = Duration::from_millis(100);
        let mut waiting = Vec::new();
        while let Ok(connected) = tokio::time::timeout(soon, TcpStream::connect(silent)).await {
            waiting.push(connected.unwrap());
        }
        let since = Instant::now();
        let (_stream, peer) = connect(vec![silent, open], None).await.unwrap();
        assert_eq!(peer, open);
        let took = since.elapsed();
        assert!(took >= limits::CONNECT_STAGGER, "{took:?}");
    }

    #[tokio::test]
    async fn a_source_address_is_what_the_peer_sees() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let source: IpAddr = "127.0.0.9".parse().unwrap();
        let (_stream, _peer) = connect(vec![open], Some(source)).await.unwrap();
        let (_accepted, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip(), source);
        // One of the other family is left to the system.
        let six = Some("::1".parse().unwrap());
        assert!(connect(vec![open], six).await.is_ok());
    }
}
