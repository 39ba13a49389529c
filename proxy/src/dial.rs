//! Connects. The only place that does, and only to [`CheckedAddrs`].

#![expect(
    clippy::disallowed_methods,
    reason = "this is the one place that dials, with a permit and checked addresses"
)]

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use cordon_audit::FlowEnd;
use tokio::net::TcpStream;

use crate::{
    flow::Flow,
    limits,
    refuse::{Refusal, Trouble},
    resolve::CheckedAddrs,
};

/// Connects to one of the checked addresses.
///
/// # Errors
/// [`Refusal::Unreachable`] when none answered; the flow is already closed then.
pub(crate) async fn dial(checked: CheckedAddrs) -> Result<(TcpStream, Flow), Refusal> {
    let (mut flow, addresses) = checked.into_parts();
    match connect(addresses).await {
        Ok((stream, peer)) => {
            tune(&stream);
            flow.connected(peer);
            Ok((stream, flow))
        }
        Err(error) => {
            let decision = flow.decision();
            flow.close(FlowEnd::ConnectFailed);
            Err(Refusal::Unreachable {
                decision,
                trouble: Trouble::from(error.kind()),
                problem: format!("no connection to the destination: {error}"),
            })
        }
    }
}

async fn connect(mut addresses: Vec<SocketAddr>) -> io::Result<(TcpStream, SocketAddr)> {
    let attempt = async {
        if let [only] = addresses.as_slice() {
            return Ok((TcpStream::connect(only).await?, *only));
        }
        alternate_families(&mut addresses);
        race(&addresses).await
    };
    tokio::time::timeout(limits::CONNECT_DEADLINE, attempt)
        .await
        .unwrap_or_else(|_elapsed| {
            let seconds = limits::CONNECT_DEADLINE.as_secs();
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {seconds} s"),
            ))
        })
}

type Attempt<'a> = Pin<Box<dyn Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send + 'a>>;

/// Tries the addresses in order, the next one as soon as the last has failed or has had its head
/// start; the first to answer wins.
///
/// Source: RFC 8305 section 5.
async fn race(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let mut waiting = addresses.iter();
    let mut running: Vec<Attempt<'_>> = Vec::with_capacity(addresses.len());
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            running.push(Box::pin(async move {
                Ok((TcpStream::connect(address).await?, *address))
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
        let (_stream, peer) = connect(vec![closed, open]).await.unwrap();
        assert_eq!(peer, open);
        let error = connect(vec![closed, closed]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
