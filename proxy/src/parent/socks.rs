//! SOCKS5 towards a parent. Every length is fixed by the protocol, so nothing is read beyond its
//! reply.
//!
//! Source: RFC 1928, RFC 1929.

use fast_socks5::{
    AuthenticationMethod, ReplyError, Socks5Command, SocksError,
    client::{Config, Socks5Stream},
    util::target_addr::TargetAddr,
};

use super::{Credentials, Refused, Target};
use crate::{parent::link::Link, refuse::Trouble};

/// Asks for a connection to `target`.
pub(super) async fn connect(
    link: &mut Link,
    target: Target<'_>,
    credentials: Option<&Credentials>,
) -> Result<(), Refused> {
    let method = credentials.map(|credentials| AuthenticationMethod::Password {
        username: credentials.user().into(),
        password: credentials.password().into(),
    });
    let mut parent = Socks5Stream::use_stream(link, method, Config::default())
        .await
        .map_err(|error| refused(&error))?;
    let target = match target {
        Target::Address(address) => TargetAddr::Ip(address),
        Target::Name(name, port) => TargetAddr::Domain(name.to_string(), port),
    };
    parent
        .request(Socks5Command::TCPConnect, target)
        .await
        .map_err(|error| refused(&error))?;
    Ok(())
}

/// What an error means, in words of our own.
fn refused(error: &SocksError) -> Refused {
    let reply = match error {
        SocksError::ReplyError(reply) => reply,
        SocksError::AuthenticationRejected(_) | SocksError::AuthMethodUnacceptable(_) => {
            return (
                Trouble::Refused,
                "it does not accept the credentials of its entry under `network.parents`".into(),
            );
        }
        SocksError::Io(error) => {
            let problem = format!("it broke off: {error}");
            return (Trouble::from(error.kind()), problem);
        }
        _ => return (Trouble::Broken, "its answer is not SOCKS5".into()),
    };
    match reply {
        ReplyError::ConnectionRefused => (
            Trouble::Refused,
            "the destination refused its connection".into(),
        ),
        ReplyError::ConnectionTimeout | ReplyError::TtlExpired => (
            Trouble::TimedOut,
            "the destination did not answer it in time".into(),
        ),
        ReplyError::NetworkUnreachable | ReplyError::HostUnreachable => {
            (Trouble::NoRoute, "it does not reach the destination".into())
        }
        ReplyError::ConnectionNotAllowed => (Trouble::Refused, "it does not allow it".into()),
        other => (Trouble::Broken, format!("it answered: {other}")),
    }
}
