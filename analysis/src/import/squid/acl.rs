//! One ACL of Squid as a condition of Cedar: any of its values.

use std::collections::BTreeMap;

use crate::import::{
    Imported,
    cedar::{Between, Expr},
    members::Entry,
};

/// An ACL, as its lines define it.
#[derive(Debug)]
pub(super) struct Acl {
    line: usize,
    pub(super) kind: String,
    pub(super) flags: Vec<String>,
    pub(super) values: Vec<(usize, String)>,
}

/// ACLs that Squid knows without a line.
pub(super) const BUILT_IN: &[&str] = &[
    "all",
    "manager",
    "localhost",
    "to_localhost",
    "to_linklocal",
    "CONNECT",
];

/// Their conditions.
pub(super) fn built_in(holds: &[String]) -> BTreeMap<String, Between> {
    let exactly = |name: &str, expr| (name.to_owned(), Between::exactly(expr));
    let client = if holds.iter().any(|name| name == "localhost") {
        Between::exactly(Expr::True)
    } else {
        Between::unknown()
    };
    [
        exactly("all", Expr::True),
        // The manager's own scheme; no session can ask for it.
        exactly("manager", Expr::False),
        exactly("CONNECT", connect()),
        // Names that lead there are refused by every dial, whatever policy says.
        exactly(
            "to_localhost",
            in_networks(&["127.0.0.0/8", "0.0.0.0/32", "::1/128", "::/128"]),
        ),
        exactly(
            "to_linklocal",
            in_networks(&["169.254.0.0/16", "fe80::/10"]),
        ),
        ("localhost".to_owned(), client),
    ]
    .into()
}

fn connect() -> Expr {
    Expr::Is("action == Action::\"connect\"".into())
}

fn in_networks(networks: &[&str]) -> Expr {
    Expr::any(
        networks
            .iter()
            .map(|network| Expr::Is(format!("resource in Network::\"{network}\""))),
    )
}

impl Acl {
    pub(super) fn new(line: usize, kind: &str) -> Self {
        Self {
            line,
            kind: kind.to_owned(),
            flags: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Its condition; what is not expressed goes to `out`.
    pub(super) fn condition(&self, name: &str, out: &mut Imported) -> Between {
        // `-n` only keeps Squid from looking names up, which Cordon never does here; `-i` is
        // about case, which host names do not have.
        let known = ["-n", "-i", "--"];
        if let Some(flag) = self
            .flags
            .iter()
            .find(|flag| !known.contains(&flag.as_str()))
        {
            out.leave_out(
                self.line,
                &self.shown(name),
                format!("flag `{flag:.20}` is not read"),
            );
            return Between::unknown();
        }
        match self.kind.as_str() {
            "dstdomain" => self.dstdomain(name, out),
            "dst" => self.dst(name, out),
            "port" => self.each(name, out, port),
            "method" => self.each(name, out, method),
            "src" if self.values.iter().any(|(_, value)| is_any_client(value)) => {
                Between::exactly(Expr::True)
            }
            "src" | "srcdomain" | "proxy_auth" | "ident" | "localip" | "localport" | "arp"
            | "myportname" => {
                let why = "it is about the client, and sessions are no clients on a network; \
                           say who in the rule (`principal in User::\"...\"`), or `--holds` it";
                out.leave_out(self.line, &self.shown(name), why);
                Between::unknown()
            }
            _another => {
                let why = format!("ACLs of type `{:.40}` have no counterpart", self.kind);
                out.leave_out(self.line, &self.shown(name), why);
                Between::unknown()
            }
        }
    }

    fn shown(&self, name: &str) -> String {
        format!("acl {name} {}", self.kind)
    }

    /// Names go into a host group; addresses by number stand in the condition.
    fn dstdomain(&self, name: &str, out: &mut Imported) -> Between {
        let mut members = Vec::new();
        let mut parts = Vec::new();
        let mut is_whole = true;
        for (line, value) in &self.values {
            match Entry::read(value) {
                // Squid takes a star for a letter like others; such a value never matches.
                Ok(Entry::Below(_)) => {
                    out.leave_out(*line, value, "Squid writes `.example.com`, without a star");
                    is_whole = false;
                }
                Ok(Entry::Network(_)) => {
                    out.leave_out(
                        *line,
                        value,
                        "a network is no domain; Squid has `dst` for it",
                    );
                    is_whole = false;
                }
                Ok(entry) => match entry.condition() {
                    Some(condition) => parts.push(Expr::Is(condition)),
                    None => members.extend(entry.members()),
                },
                Err(why) => {
                    out.leave_out(*line, value, why);
                    is_whole = false;
                }
            }
        }
        if !members.is_empty() {
            let group = group_name(name, &out.groups);
            parts.push(Expr::Is(format!("resource in HostGroup::\"{group}\"")));
            members.sort();
            members.dedup();
            out.groups.insert(group, members);
        }
        let mut condition = bounded(Expr::any(parts), is_whole);
        if !self.flags.iter().any(|flag| flag == "-n") {
            // Squid looks up the name of an address that is asked for by number.
            let addresses = Expr::Is("resource is Address".into());
            condition.possible = Expr::any([condition.possible, addresses]);
        }
        condition
    }

    /// Squid also matches names that lead to such an address. Cordon decides names as names, so
    /// an allow is only about addresses by number, and a deny may be about any name.
    fn dst(&self, name: &str, out: &mut Imported) -> Between {
        let mut parts = Vec::new();
        for (line, value) in &self.values {
            if is_everyone(value) {
                return Between::exactly(Expr::True);
            }
            match Entry::read(value).map(|entry| entry.condition()) {
                Ok(Some(condition)) => parts.push(Expr::Is(condition)),
                Ok(None) => out.leave_out(*line, value, "a name is no address; use `dstdomain`"),
                Err(_) => out.leave_out(*line, value, "write it as an address or a prefix"),
            }
        }
        let why = "Squid also matches names that lead there; Cordon decides names as names. The \
                   draft allows only the addresses by number, and a deny of it counts for every \
                   name";
        out.leave_out(self.line, &self.shown(name), why);
        Between {
            certain: Expr::any(parts.clone()),
            possible: Expr::any(
                parts
                    .into_iter()
                    .chain([Expr::Is("resource is Host".into())]),
            ),
        }
    }

    fn each(&self, name: &str, out: &mut Imported, read: impl Fn(&str) -> Option<Expr>) -> Between {
        let mut parts = Vec::new();
        let mut is_whole = true;
        for (line, value) in &self.values {
            match read(value) {
                Some(part) => parts.push(part),
                None => {
                    let why = format!("it is no value that {} has here", self.shown(name));
                    out.leave_out(*line, value, why);
                    is_whole = false;
                }
            }
        }
        bounded(Expr::any(parts), is_whole)
    }
}

fn bounded(expr: Expr, is_whole: bool) -> Between {
    if is_whole {
        return Between::exactly(expr);
    }
    Between {
        certain: expr,
        possible: Expr::True,
    }
}

/// Every client; a session is none of another family.
fn is_any_client(value: &str) -> bool {
    is_everyone(value) || matches!(value, "0.0.0.0/0" | "0.0.0.0/0.0.0.0" | "::/0")
}

/// Every address of both families. A prefix of one family only is not everyone.
fn is_everyone(value: &str) -> bool {
    matches!(value, "all" | "0/0")
}

/// `443` or `1025-65535`.
fn port(value: &str) -> Option<Expr> {
    let number = |text: &str| text.parse::<u16>().ok();
    Some(Expr::Is(match value.split_once('-') {
        None => format!("context.port == {}", number(value)?),
        Some((from, to)) => {
            let (from, to) = (number(from)?, number(to)?);
            format!("(context.port >= {from} && context.port <= {to})")
        }
    }))
}

/// A connection has no method that could be seen, but CONNECT stands for it.
fn method(value: &str) -> Option<Expr> {
    let is_token = !value.is_empty()
        && value.len() <= 40
        && value
            .bytes()
            .all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_'));
    match value {
        "CONNECT" => Some(connect()),
        _ if is_token => Some(Expr::Is(format!(
            "(context has method && context.method == \"{value}\")"
        ))),
        _ => None,
    }
}

/// A name that a host group may have, free in `taken`.
fn group_name(acl: &str, taken: &BTreeMap<String, Vec<String>>) -> String {
    let plain: String = acl
        .chars()
        .take(48)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => c,
            _ => '-',
        })
        .collect();
    let mut name = plain.clone();
    let mut round = 1_usize;
    while taken.contains_key(&name) {
        round += 1;
        name = format!("{plain}-{round}");
    }
    name
}
