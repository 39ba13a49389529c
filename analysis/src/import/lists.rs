//! Plain lists and hosts files.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Imported, Rule, members::Entry};

/// One entry a line: `example.com`, `*.example.com` (below it), `.example.com` (both),
/// an address or network; with `:port` or without. `#` begins a comment.
pub(super) fn plain(text: &str, ports: &[u16]) -> Imported {
    let mut out = Imported::default();
    let mut by_ports: BTreeMap<Vec<u16>, Vec<Entry>> = BTreeMap::new();
    for (line, raw) in (1..).zip(text.lines()) {
        let entry = raw.split_once('#').map_or(raw, |(front, _)| front).trim();
        if entry.is_empty() {
            continue;
        }
        match with_port(entry) {
            Ok((entry, port)) => by_ports
                .entry(port.map_or_else(|| ports.to_vec(), |port| vec![port]))
                .or_default()
                .push(entry),
            Err(why) => out.leave_out(line, entry, why),
        }
    }
    for (ports, entries) in by_ports {
        allow(&mut out, "list", &ports, entries);
    }
    out
}

/// `IP NAME...` a line (hosts(5)). Names that lead to nowhere are what such files block: they
/// become a `forbid`. The others are allowed by name.
pub(super) fn hosts_file(text: &str, ports: &[u16]) -> Imported {
    let mut out = Imported::default();
    let mut allowed = Vec::new();
    let mut blocked = Vec::new();
    for (line, raw) in (1..).zip(text.lines()) {
        let mut words = raw
            .split_once('#')
            .map_or(raw, |(front, _)| front)
            .split_whitespace();
        let Some(first) = words.next() else {
            continue;
        };
        let Ok(address) = first.parse::<IpAddr>() else {
            out.leave_out(line, raw.trim(), "it does not begin with an address");
            continue;
        };
        let leads_nowhere = address.is_unspecified() || address.is_loopback();
        for name in words {
            if is_own(name) {
                let why = "a name of the machine itself; sessions never reach that";
                out.leave_out(line, name, why);
                continue;
            }
            match Entry::read(name) {
                Ok(entry @ Entry::Host(_)) if leads_nowhere => blocked.push(entry),
                Ok(entry @ Entry::Host(_)) => {
                    let why = format!(
                        "the name is allowed; that it is at {address} is not taken over, \
                         because Cordon resolves names itself"
                    );
                    out.leave_out(line, name, why);
                    allowed.push(entry);
                }
                Ok(_) => out.leave_out(line, name, "it is no host name"),
                Err(why) => out.leave_out(line, name, why),
            }
        }
    }
    allow(&mut out, "hosts", ports, allowed);
    if let Some(group) = group(&mut out, "blocked", &blocked) {
        out.rules.push(Rule {
            id: "hosts-blocked".into(),
            cedar: format!(
                "forbid (principal, action in Action::\"network\", resource in HostGroup::\"{group}\");"
            ),
            from: "names that lead to nowhere".into(),
        });
    }
    out
}

/// Permits for entries on ports: one for all names, one for each address or network.
fn allow(out: &mut Imported, name: &str, ports: &[u16], entries: Vec<Entry>) {
    let suffix: Vec<String> = ports.iter().map(u16::to_string).collect();
    let id = format!("{name}-{}", suffix.join("-"));
    let ports = format!("[{}].contains(context.port)", suffix.join(", "));
    let permit = |resource: String| {
        format!(
            "permit (principal, action in Action::\"network\", {resource})\nwhen {{ {ports} }};"
        )
    };
    if let Some(group) = group(out, &id, &entries) {
        out.rules.push(Rule {
            id: id.clone(),
            cedar: permit(format!("resource in HostGroup::\"{group}\"")),
            from: format!("names of the {name}"),
        });
    }
    let mut addresses: Vec<String> = entries.iter().filter_map(Entry::condition).collect();
    addresses.sort();
    addresses.dedup();
    for (number, condition) in (1..).zip(addresses) {
        out.rules.push(Rule {
            id: format!("{id}-address-{number}"),
            cedar: permit(condition),
            from: format!("addresses of the {name}"),
        });
    }
}

/// Puts the names of `entries` into a group; none where there are no names.
fn group(out: &mut Imported, name: &str, entries: &[Entry]) -> Option<String> {
    let mut members: Vec<String> = entries.iter().flat_map(Entry::members).collect();
    members.sort();
    members.dedup();
    (!members.is_empty()).then(|| {
        out.groups.insert(name.to_owned(), members);
        name.to_owned()
    })
}

/// An entry, and the port where it names one.
fn with_port(text: &str) -> Result<(Entry, Option<u16>), String> {
    if text.contains("://") {
        return Err("it is a URL; a rule about paths is written by hand, a list has hosts".into());
    }
    if text.split_whitespace().nth(1).is_some() {
        return Err("it is more than one word; write one entry a line".into());
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            let number = port.parse::<u16>().ok().filter(|port| *port > 0);
            let number =
                number.ok_or_else(|| "its port is no number from 1 to 65535".to_owned())?;
            (name, Some(number))
        }
        _ => (text, None),
    };
    let name = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    Entry::read(name).map(|entry| (entry, port))
}

fn is_own(name: &str) -> bool {
    name.starts_with("ip6-")
        || matches!(
            name,
            "localhost" | "localhost.localdomain" | "localhost4" | "localhost6" | "broadcasthost"
        )
}
