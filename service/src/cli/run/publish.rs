//! `--publish`: what listens inside, reached from outside.

use std::{
    fmt::Debug,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsFd,
};

use cordon_sandbox::adapter::Sandbox;

use super::watch::SharedClient;
use crate::{
    control::{Answer, Ask, PublishAsked},
    error::Failure,
};

/// `[ADDRESS:]PORT[:INSIDE]`.
pub fn parse(text: &str) -> Result<PublishAsked, String> {
    let wrong = || {
        "write [ADDRESS:]PORT[:INSIDE], for example 8080, 8080:3000, 0.0.0.0:8080 or \
         [::1]:8080:3000"
            .to_owned()
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    // An address has a dot or a bracket, a port has neither.
    let has_address = text.starts_with('[') || text.contains('.');
    let (address, port, inside) = if has_address {
        let (at, inside) = match text.parse::<SocketAddr>() {
            Ok(at) => (at, at.port()),
            Err(_) => {
                let (at, inside) = text.rsplit_once(':').ok_or_else(wrong)?;
                let at: SocketAddr = at.parse().map_err(|_| wrong())?;
                (at, port(inside).ok_or_else(wrong)?)
            }
        };
        (at.ip().to_canonical(), at.port(), inside)
    } else {
        let (outside, inside) = text.split_once(':').unwrap_or((text, text));
        let (outside, inside) = (port(outside), port(inside));
        (local, outside.ok_or_else(wrong)?, inside.ok_or_else(wrong)?)
    };
    if port == 0 || inside == 0 {
        return Err(wrong());
    }
    Ok(PublishAsked {
        address,
        port,
        inside,
    })
}

/// Gives the daemon the way in, where something is published: from then on it serves the ports.
/// `None` where nothing is. To be held as long as the session lasts.
///
/// # Errors
/// When the session's network cannot be reached, or the daemon does not take it.
pub fn serve(
    asked: &[PublishAsked],
    client: &SharedClient,
    sandbox: &dyn Sandbox,
) -> Result<Option<Box<dyn Debug>>, Failure> {
    if asked.is_empty() {
        return Ok(None);
    }
    let way_in = sandbox.way_in().map_err(|error| {
        Failure::new(format!("the session's network cannot be reached: {error}"))
            .help("leave `--publish` out; `cordon doctor` says what is missing")
    })?;
    match client.ask_with(&Ask::Publish, &[way_in.line.as_fd()])? {
        Answer::Noted => Ok(Some(way_in.held)),
        _other => Err(Failure::new("the daemon answered something unexpected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_addresses_are_told_apart() {
        for (text, expected) in [
            ("8080", Some(("127.0.0.1", 8080, 8080))),
            ("8080:3000", Some(("127.0.0.1", 8080, 3000))),
            ("0.0.0.0:8080", Some(("0.0.0.0", 8080, 8080))),
            ("0.0.0.0:8080:3000", Some(("0.0.0.0", 8080, 3000))),
            ("[::1]:8080", Some(("::1", 8080, 8080))),
            ("[::1]:8080:3000", Some(("::1", 8080, 3000))),
            ("[::ffff:127.0.0.1]:80", Some(("127.0.0.1", 80, 80))),
            ("0", None),
            ("8080:0", None),
            ("0.0.0.0:0", None),
            ("65536", None),
            ("", None),
            ("8080:", None),
            ("::1:8080", None),
            ("localhost:8080", None),
            ("127.0.0.1", None),
            ("1:2:3", None),
        ] {
            let parsed = parse(text).ok();
            let expected = expected.map(|(address, port, inside)| PublishAsked {
                address: address.parse().unwrap(),
                port,
                inside,
            });
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
