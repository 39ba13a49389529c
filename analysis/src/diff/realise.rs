//! From a solver's counterexample to requests in our own words.
//!
//! A model in, requests that could be meant out. They are only candidates: whoever asks decides
//! them under both sets and believes that.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use cedar_policy::{EntityUid, EvalResult};
use cedar_policy_symcc::Env;
use cordon_policy::{
    Backend, Destination, Host, Operation, Origin, Port, Request, Scheme, SessionAct, SessionFacts,
    ask::{Given, Moment, parse},
};
use ipnet::IpNet;

use super::{late, pools::Pools};

/// Requests that the counterexample may stand for, the likeliest first.
pub(super) fn requests(env: &Env, pools: &Pools) -> Vec<Request> {
    let Some(model) = Model::of(env) else {
        return Vec::new();
    };
    let session = Arc::new(model.session(pools));
    let at = model.time();
    model
        .operations(pools)
        .into_iter()
        .map(|operation| Request {
            session: Arc::clone(&session),
            operation,
            at,
        })
        .collect()
}

struct Model<'a> {
    env: &'a Env,
    principal: &'a EntityUid,
    action: &'a str,
    resource: &'a EntityUid,
}

impl<'a> Model<'a> {
    fn of(env: &'a Env) -> Option<Self> {
        Some(Self {
            env,
            principal: env.request.principal()?,
            action: env.request.action()?.id().unescaped(),
            resource: env.request.resource()?,
        })
    }

    fn context(&self, name: &str) -> Option<EvalResult> {
        self.env.request.context()?.get(name)
    }

    fn port(&self, name: &str) -> Option<Port> {
        match self.context(name)? {
            EvalResult::Long(port) => Port::new(u16::try_from(port).ok()?).ok(),
            _another => None,
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.context(name)? {
            EvalResult::String(text) => Some(text),
            _another => None,
        }
    }

    fn attribute(&self, uid: &EntityUid, name: &str) -> Option<EvalResult> {
        self.env.entities.get(uid)?.attr(name)?.ok()
    }

    fn attribute_text(&self, uid: &EntityUid, name: &str) -> Option<String> {
        match self.attribute(uid, name)? {
            EvalResult::String(text) => Some(text),
            _another => None,
        }
    }

    /// People whom no rule names get plain names: the solver's own mean nothing.
    fn session(&self, pools: &Pools) -> SessionFacts {
        let known = |kind: &str, id: &str| pools.of_type(kind).any(|named| named == id);
        let user = match self.attribute(self.principal, "user") {
            Some(EvalResult::EntityUid(user)) => Some(user),
            _none if self.principal.type_name().to_string() == "User" => {
                Some(self.principal.clone())
            }
            _none => None,
        };
        let given = Given {
            user: user
                .as_ref()
                .map(|user| user.id().unescaped().to_owned())
                .filter(|name| known("User", name)),
            agent: match self.attribute(self.principal, "agent") {
                Some(EvalResult::EntityUid(agent)) => Some(agent.id().unescaped().to_owned()),
                _none => None,
            }
            .map(|name| {
                if known("Agent", &name) {
                    name
                } else {
                    "any-agent".to_owned()
                }
            }),
            groups: Some(self.groups(user.as_ref(), pools)),
            platform: self
                .attribute_text(self.principal, "platform")
                .filter(|name| known("Platform", name)),
            backend: match self.attribute_text(self.principal, "backend").as_deref() {
                Some("none") => Some(Backend::None),
                Some("container") => Some(Backend::Container),
                Some("gateway") => Some(Backend::Gateway),
                _another => Some(Backend::Bubblewrap),
            },
            ..Given::default()
        };
        given.session()
    }

    fn groups(&self, user: Option<&EntityUid>, pools: &Pools) -> Vec<String> {
        let mut groups = BTreeSet::new();
        for uid in std::iter::once(self.principal).chain(user) {
            for above in self.env.entities.ancestors(uid).into_iter().flatten() {
                let name = above.id().unescaped();
                if above.type_name().to_string() == "Group"
                    && pools.of_type("Group").any(|named| named == name)
                {
                    groups.insert(name.to_owned());
                }
            }
        }
        groups.into_iter().collect()
    }

    /// The model's time; noon of a working day where it has none.
    fn time(&self) -> SystemTime {
        let text = match self.context("time") {
            Some(EvalResult::ExtensionValue(text)) => text,
            _none => String::new(),
        };
        let quoted = text.split('"').nth(1).unwrap_or_default();
        let is_moment = quoted.parse::<Moment>().map(|Moment(at)| at);
        is_moment
            .ok()
            .or_else(|| millis(&text))
            .unwrap_or_else(|| Given::default().at())
    }

    fn operations(&self, pools: &Pools) -> Vec<Operation> {
        let id = self.resource.id().unescaped();
        let words = match self.action {
            "connect" => {
                let transport = self.text("transport").unwrap_or_default();
                return self.to_hosts(pools, |to| {
                    let seen = late::of_connection(&|name| self.context(name), to);
                    let words = |seen: String| format!("connect {to} via {transport}{seen}");
                    seen.into_iter().map(words).collect()
                });
            }
            "http_read" | "http_write" | "http_delete" | "http_other" | "http_upgrade" => {
                return self.http(pools);
            }
            "grant_ro" | "grant_rw" | "grant_rwd" => {
                let mode = self.action.trim_start_matches("grant_");
                let source = self.text("source").unwrap_or_default();
                let name = self.text("name").unwrap_or_default();
                let named =
                    |path: &str| format!("grant {mode} {path:?} named {name:?} from {source}");
                let own = |path: &str| format!("grant {mode} {path:?} from {source}");
                // A name that no folder can have is that of a model which leaves it open.
                return [self.paths(named), self.paths(own)].concat();
            }
            "read" | "write" | "delete" => {
                let mode = self.text("mode").unwrap_or_default();
                return self.paths(|path| format!("{} {path:?} in {mode}", self.action));
            }
            "open" => return self.origins(pools, "open"),
            "act" => return self.origins(pools, &self.text("kind").unwrap_or_default()),
            "start_session" | "run_without_sandbox" => {
                let command = self.text("command").filter(|name| !name.is_empty());
                format!("start {:?}", command.unwrap_or_else(|| "any".to_owned()))
            }
            "exec" => {
                let command = self.text("command").filter(|name| !name.is_empty());
                format!("exec {:?}", command.unwrap_or_else(|| "any".to_owned()))
            }
            "publish" => {
                let (Some(address), Some(port)) = (self.address(), self.port("port")) else {
                    return Vec::new();
                };
                let inside = self.port("inside").map_or_else(|| port.get(), Port::get);
                format!(
                    "publish port {} to {inside}",
                    SocketAddr::new(address, port.get())
                )
            }
            "enable_connector" => format!("enable connector {:?}", named(id)),
            "use_scope" => pair(id, "use scope"),
            "call_tool" => pair(id, "call"),
            "use_permission" => pair(id, "use permission"),
            "load_extension" => self.extension("load", id),
            "install_extension" => self.extension("install", id),
            "enable_browser" => "enable browser".to_owned(),
            "publish_policy" => format!("publish policy {:?}", named(id)),
            "read_log" => format!("read log {:?}", named(id)),
            action => match SessionAct::ALL.iter().find(|act| act.action() == action) {
                Some(act) => format!("manage {} for any", act.as_str()),
                None => "approve for any".to_owned(),
            },
        };
        parse(&words).into_iter().collect()
    }

    fn http(&self, pools: &Pools) -> Vec<Operation> {
        let method = match self.action {
            "http_other" => "TRACE".to_owned(),
            _another => self.text("method").unwrap_or_default(),
        };
        let path = self.text("path").unwrap_or_else(|| "/".to_owned());
        let look = |name: &str| self.context(name);
        let (scheme, read) = (late::scheme(&look), late::of_request(&look));
        self.to_hosts(pools, |to| {
            // What an upgrade is without its protocol is another action.
            let bare = match self.action {
                "http_upgrade" => " upgrade websocket",
                _another => "",
            };
            let mut all = vec![
                format!("{method} http://{to}{path}{bare}"),
                format!("{method} http://{to}/{bare}"),
            ];
            for seen in late::of_connection(&look, to) {
                all.push(format!("{method} {scheme}://{to}{path}{read}{seen}"));
                all.push(format!("{method} {scheme}://{to}/{read}{seen}"));
            }
            all
        })
    }

    /// The model's path, and the same with something real in the place of each component that no
    /// canonical path has.
    fn paths(&self, words: impl Fn(&str) -> String) -> Vec<Operation> {
        let path = self
            .attribute_text(self.resource, "path")
            .unwrap_or_else(|| self.resource.id().unescaped().to_owned());
        let below = path.strip_prefix('/').unwrap_or(&path);
        let canonical = format!("/{}", whole(below, '/'));
        [path, canonical]
            .iter()
            .filter_map(|path| parse(&words(path)).ok())
            .collect()
    }

    fn extension(&self, verb: &str, id: &str) -> String {
        let signature = self.attribute_text(self.resource, "signature");
        let signature = signature
            .filter(|word| matches!(&**word, "trusted" | "untrusted" | "broken" | "unsigned"))
            .unwrap_or_else(|| "unsigned".to_owned());
        format!("{verb} extension {:?} signed {signature}", named(id))
    }

    /// Real hosts of the model's class, or the model's address, with its port.
    fn to_hosts(
        &self,
        pools: &Pools,
        words: impl Fn(&Destination) -> Vec<String>,
    ) -> Vec<Operation> {
        let Some(port) = self.port("port") else {
            return Vec::new();
        };
        self.hosts(pools)
            .into_iter()
            .flat_map(|host| words(&Destination { host, port }))
            .filter_map(|words| parse(&words).ok())
            .collect()
    }

    fn hosts(&self, pools: &Pools) -> Vec<Host> {
        if self.resource.type_name().to_string() == "Address" {
            return self.address().into_iter().map(Host::Address).collect();
        }
        let mut class: BTreeSet<String> = BTreeSet::new();
        let above = self.env.entities.ancestors(self.resource);
        for uid in std::iter::once(self.resource).chain(above.into_iter().flatten()) {
            let text = format!("{}::{:?}", uid.type_name(), uid.id().unescaped());
            if pools.host_literals.contains(&text) {
                class.insert(text);
            }
        }
        let own = self.attribute_text(self.resource, "name");
        let of_class = pools.hosts.get(&class).into_iter().flatten().cloned();
        let mut hosts: Vec<Host> = of_class.clone().map(Host::Name).collect();
        // Where a rule looks at the name, what the solver chose for it may be one.
        hosts.extend(
            own.and_then(|name| whole(&name, '.').parse().ok())
                .map(Host::Name),
        );
        // And where it looks at lengths: a long label, many labels, much entropy.
        for host in of_class {
            for front in [LONG_LABEL, MANY_LABELS, "a"] {
                hosts.extend(format!("{front}.{host}").parse().ok().map(Host::Name));
            }
        }
        hosts
    }

    fn address(&self) -> Option<IpAddr> {
        let text = match self.attribute(self.resource, "ip")? {
            EvalResult::ExtensionValue(text) => text,
            _another => return None,
        };
        let quoted = text.split('"').nth(1).unwrap_or(&text);
        quoted
            .parse::<IpAddr>()
            .ok()
            .or_else(|| quoted.parse::<IpNet>().ok().map(|network| network.addr()))
    }

    fn origins(&self, pools: &Pools, verb: &str) -> Vec<Operation> {
        let scheme = match self.attribute_text(self.resource, "scheme").as_deref() {
            Some("http") => Scheme::Http,
            _another => Scheme::Https,
        };
        let port = match self.attribute(self.resource, "port") {
            Some(EvalResult::Long(port)) => u16::try_from(port).ok(),
            _another => None,
        };
        let Ok(port) = Port::new(port.unwrap_or_else(|| scheme.default_port())) else {
            return Vec::new();
        };
        let form = if verb == "open" {
            "open".to_owned()
        } else {
            format!("{verb} in")
        };
        let named = self.resource.id().unescaped().to_owned();
        let by_host = self.hosts(pools).into_iter().map(|host| {
            let destination = Destination { host, port };
            Origin {
                scheme,
                destination,
            }
            .to_string()
        });
        std::iter::once(named)
            .chain(by_host)
            .filter_map(|origin| parse(&format!("{form} {origin}")).ok())
            .collect()
    }
}

/// 63 letters and digits, as data carried in a name look.
const LONG_LABEL: &str = "mzxw6ytboi2dgnbrgu4tqmzsgaydambqgeztkobzgi3dmk7qp9xvb5c2n8w4r1j";
const MANY_LABELS: &str = "a.b.c.d.e.f.g.h.i.j";

/// The same with something real in the place of each part that no host and no path has.
fn whole(text: &str, separator: char) -> String {
    let parts: Vec<&str> = text
        .split(separator)
        .map(|part| {
            if matches!(part, "" | "." | "..") {
                "any"
            } else {
                part
            }
        })
        .collect();
    parts.join(&separator.to_string())
}

/// A name of the solver's own may be empty.
fn named(id: &str) -> &str {
    if id.is_empty() { "any" } else { id }
}

fn pair(id: &str, verb: &str) -> String {
    let (owner, name) = id.split_once('/').unwrap_or((id, ""));
    format!("{verb} {:?} of {:?}", named(name), named(owner))
}

/// A moment written as an offset from another: `datetime("...").offset(duration("12ms"))`.
fn millis(text: &str) -> Option<SystemTime> {
    let mut quoted = text.split('"').skip(1).step_by(2);
    let Moment(base) = quoted.next()?.parse().ok()?;
    let number: i64 = quoted.next()?.strip_suffix("ms")?.parse().ok()?;
    let distance = std::time::Duration::from_millis(number.unsigned_abs());
    if number < 0 {
        base.checked_sub(distance)
    } else {
        base.checked_add(distance)
    }
}
