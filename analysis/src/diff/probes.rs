//! Requests made from what the two sets name: hosts by class, ports, paths, people.
//!
//! [`Pools`] in, requests out, at most [`MOST`]. They find what changed for a name that is named;
//! they prove nothing about the rest.

use std::{path::PathBuf, sync::Arc};

use cordon_policy::{
    Backend, Destination, GrantMode, GrantSource, Host, Method, Operation, Port, Request,
    SessionAct, SessionFacts, Transport,
    ask::{Given, parse},
};
use ipnet::IpNet;

use super::pools::Pools;

/// Most requests.
const MOST: usize = 200_000;
const MOST_PEOPLE: usize = 24;
const MOST_PATHS: usize = 500;

/// Calls `visit` with each request.
pub(super) fn each(
    pools: &Pools,
    mut visit: impl FnMut(&Request) -> Option<crate::outcome::Change>,
) {
    let people = people(pools);
    let at = Given::default().at();
    let mut left = MOST;
    // Operations outside: each is tried for everyone before the next.
    for operation in operations(pools) {
        for session in &people {
            if left == 0 {
                return;
            }
            left -= 1;
            let _noted = visit(&Request {
                session: Arc::clone(session),
                operation: operation.clone(),
                at,
            });
        }
    }
}

/// Somebody whom no rule names, and one of each that rules name.
fn people(pools: &Pools) -> Vec<Arc<SessionFacts>> {
    let somebody = Given::default().session();
    let mut people = vec![somebody.clone()];
    for user in pools.of_type("User") {
        people.push(SessionFacts {
            user: user.to_owned(),
            ..somebody.clone()
        });
    }
    for group in pools.of_type("Group") {
        people.push(SessionFacts {
            groups: vec![group.to_owned()],
            ..somebody.clone()
        });
    }
    for agent in pools.of_type("Agent") {
        people.push(SessionFacts {
            agent: Some(agent.to_owned()),
            ..somebody.clone()
        });
    }
    people.push(SessionFacts {
        backend: Backend::None,
        ..somebody
    });
    people.truncate(MOST_PEOPLE);
    people.into_iter().map(Arc::new).collect()
}

fn operations(pools: &Pools) -> Vec<Operation> {
    let mut operations = others(pools);
    operations.extend(files(pools));
    operations.extend(network(pools));
    operations
}

fn network(pools: &Pools) -> Vec<Operation> {
    let names = pools.hosts.values().flatten().cloned().map(Host::Name);
    let addresses = pools
        .of_type("Address")
        .filter_map(|id| id.parse().ok())
        .chain(
            pools
                .of_type("Network")
                .filter_map(|id| id.parse::<IpNet>().ok())
                .map(|network| network.addr()),
        )
        .map(Host::Address);
    let mut operations = Vec::new();
    for host in names.chain(addresses) {
        for port in pools.ports.iter().filter_map(|port| Port::new(*port).ok()) {
            let destination = Destination {
                host: host.clone(),
                port,
            };
            operations.push(Operation::Connect {
                destination: destination.clone(),
                transport: Transport::HttpConnect,
                seen: cordon_policy::Seen::default(),
            });
            for method in ["GET", "POST", "DELETE", "TRACE"] {
                operations.push(Operation::HttpRequest {
                    destination: destination.clone(),
                    method: Method(method.to_owned()),
                    path: "/".to_owned(),
                    facts: Box::default(),
                });
            }
            if operations.len() > MOST {
                return operations;
            }
        }
    }
    operations
}

fn files(pools: &Pools) -> Vec<Operation> {
    let mut paths: Vec<PathBuf> = vec!["/srv/elsewhere".into()];
    for folder in pools
        .of_type("Folder")
        .chain(pools.of_type("File"))
        .take(MOST_PATHS)
    {
        paths.extend([PathBuf::from(folder), PathBuf::from(folder).join("any")]);
    }
    let mut operations = Vec::new();
    for path in paths {
        for mode in [GrantMode::Ro, GrantMode::Rw, GrantMode::Rwd] {
            for source in [
                GrantSource::CommandLine,
                GrantSource::WorkingDirectory,
                GrantSource::Profile,
                GrantSource::Api,
            ] {
                let own = std::iter::once(None);
                for name in own.chain(pools.names.iter().cloned().map(Some)) {
                    operations.push(Operation::GrantFolder {
                        path: path.clone(),
                        mode,
                        source,
                        name,
                    });
                }
            }
            operations.extend([
                Operation::ReadPath {
                    path: path.clone(),
                    mode,
                },
                Operation::WritePath {
                    path: path.clone(),
                    mode,
                },
                Operation::DeletePath {
                    path: path.clone(),
                    mode,
                },
            ]);
        }
    }
    operations
}

/// Everything else, in the words that every tool reads.
fn others(pools: &Pools) -> Vec<Operation> {
    let mut words = vec![
        "start any".to_owned(),
        "exec any".to_owned(),
        "publish port 127.0.0.1:8080".to_owned(),
        "enable browser".to_owned(),
        "enable connector any".to_owned(),
        "use scope any of any".to_owned(),
        "load extension any".to_owned(),
        "install extension any".to_owned(),
        "call any of any".to_owned(),
        "open https://elsewhere.example".to_owned(),
        "click in https://elsewhere.example".to_owned(),
        "publish policy any".to_owned(),
        "read log any".to_owned(),
        "approve for any".to_owned(),
    ];
    words.extend(SessionAct::ALL.map(|act| format!("manage {} for any", act.as_str())));
    for (kind, form) in [
        ("Connector", "enable connector "),
        ("Extension", "load extension "),
        ("Extension", "install extension "),
        ("Origin", "open "),
        ("Origin", "submit in "),
        ("PolicyBundle", "publish policy "),
        ("AuditLog", "read log "),
    ] {
        words.extend(pools.of_type(kind).map(|id| format!("{form}{id:?}")));
    }
    for (kind, form) in [("ConnectorScope", "use scope"), ("ExtensionTool", "call")] {
        let pairs = pools.of_type(kind).filter_map(|id| id.split_once('/'));
        words.extend(pairs.map(|(owner, name)| format!("{form} {name:?} of {owner:?}")));
    }
    let domains = pools.hosts.values().flatten();
    words.extend(domains.map(|host| format!("open https://{host}")));
    words.iter().filter_map(|words| parse(words).ok()).collect()
}
