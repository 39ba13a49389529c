//! What policy may know about a resource and about an operation, as Cedar values.

use std::{collections::BTreeMap, net::IpAddr};

use cedar_policy::RestrictedExpression;

use super::{Context, Unaskable, Uses, seen};
use crate::{
    Destination, ExtensionFacts, GrantSource, NormalizedHost, Operation, Origin, ToolCall,
    Transport, address::classify, request::own_name,
};

pub(super) type Attributes = Vec<(&'static str, RestrictedExpression)>;

/// What an operation says about itself. Of facts that cost something, those that a rule uses.
pub(super) fn operation_context(operation: &Operation, uses: Uses) -> Result<Context, Unaskable> {
    Ok(match operation {
        Operation::StartSession { command, profile }
        | Operation::ExecInSession { command, profile } => {
            vec![text("command", command), text("profile", profile.name())]
        }
        Operation::PublishPort { port, inside, .. } => {
            vec![number("port", *port), number("inside", *inside)]
        }
        Operation::GrantFolder {
            path,
            mode,
            source,
            name,
        } => vec![
            text("mode", &mode.to_string()),
            text("name", name.as_deref().unwrap_or(&own_name(path))),
            text("source", source_name(*source)),
        ],
        Operation::DeletePath { mode, .. }
        | Operation::ReadPath { mode, .. }
        | Operation::WritePath { mode, .. } => vec![text("mode", &mode.to_string())],
        Operation::Connect {
            destination,
            transport,
            seen: what,
        } => {
            let mut context = vec![
                port(destination),
                text("transport", transport_name(*transport)),
            ];
            seen::add_connection(&mut context, destination, what, uses)?;
            context
        }
        Operation::HttpRequest {
            destination,
            method,
            path,
            facts,
        } => {
            let mut context = vec![
                port(destination),
                text("transport", "http"),
                text("method", &method.0),
                text("path", path),
            ];
            seen::add_request(&mut context, facts, uses);
            seen::add_connection(&mut context, destination, &facts.seen, uses)?;
            context
        }
        Operation::CallTool { call, .. } => tool_call(call),
        Operation::ActInOrigin { act, .. } => vec![text("kind", act.as_str())],
        Operation::ReachAddress { .. }
        | Operation::EnableConnector { .. }
        | Operation::UseScope { .. }
        | Operation::InstallExtension { .. }
        | Operation::LoadExtension { .. }
        | Operation::UsePermission { .. }
        | Operation::EnableBrowser
        | Operation::OpenOrigin { .. }
        | Operation::Approve { .. }
        | Operation::PublishPolicy { .. }
        | Operation::ManageSession { .. }
        | Operation::ReadLog { .. } => Vec::new(),
    })
}

fn tool_call(call: &ToolCall) -> Context {
    let arguments = call.arguments.iter().map(|argument| string(argument));
    vec![
        text("kind", call.kind.as_str()),
        text("definition", call.definition.as_str()),
        seen::boolean("read_only", call.hints.read_only),
        seen::boolean("destructive", call.hints.destructive),
        seen::boolean("open_world", call.hints.open_world),
        (
            "arguments".to_owned(),
            RestrictedExpression::new_set(arguments),
        ),
    ]
}

pub(super) fn host_facts(host: &NormalizedHost) -> Attributes {
    let name = host.as_str();
    let longest = name.split('.').map(str::len).max().unwrap_or(0);
    vec![
        ("name", string(name)),
        ("length", long(name.len())),
        ("labels", long(name.split('.').count())),
        ("longest_label", long(longest)),
        ("entropy", RestrictedExpression::new_long(entropy(name))),
    ]
}

/// Shannon entropy in thousandths of a bit per byte. Summed in one order, so that it rounds the
/// same way every time.
fn entropy(name: &str) -> i64 {
    let mut counts: BTreeMap<u8, u32> = BTreeMap::new();
    for byte in name.bytes() {
        *counts.entry(byte).or_default() += 1;
    }
    let total = f64::from(u32::try_from(name.len()).unwrap_or(u32::MAX));
    let bits: f64 = counts
        .values()
        .map(|count| f64::from(*count) / total)
        .map(|share| -share * share.log2())
        .sum();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "between 0 and 8,000: a byte holds at most eight bits"
    )]
    let thousandths = (bits * 1_000.0).round() as i64;
    thousandths
}

pub(super) fn address_facts(address: IpAddr) -> Attributes {
    vec![
        ("ip", RestrictedExpression::new_ip(address.to_string())),
        ("kind", string(classify(address).as_str())),
    ]
}

pub(super) fn path_facts(path: &str) -> Attributes {
    let name = path.rsplit('/').next().filter(|name| !name.is_empty());
    vec![
        ("path", string(path)),
        ("name", string(name.unwrap_or("/"))),
    ]
}

pub(super) fn extension_facts(facts: &ExtensionFacts) -> Attributes {
    vec![
        ("version", string(&facts.version)),
        ("digest", string(&facts.digest)),
        ("signature", string(facts.signature.as_str())),
    ]
}

pub(super) fn origin_facts(origin: &Origin) -> Attributes {
    let port = i64::from(origin.destination.port.get());
    vec![
        ("scheme", string(origin.scheme.as_str())),
        ("host", string(&origin.destination.host.to_string())),
        ("port", RestrictedExpression::new_long(port)),
    ]
}

fn source_name(source: GrantSource) -> &'static str {
    match source {
        GrantSource::CommandLine => "command-line",
        GrantSource::WorkingDirectory => "working-directory",
        GrantSource::Profile => "profile",
        GrantSource::Api => "api",
    }
}

fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::HttpConnect => "http-connect",
        Transport::Socks5 => "socks5",
        Transport::Capture => "capture",
    }
}

fn port(destination: &Destination) -> (String, RestrictedExpression) {
    number("port", destination.port.get())
}

fn number(name: &str, value: u16) -> (String, RestrictedExpression) {
    let value = RestrictedExpression::new_long(value.into());
    (name.to_owned(), value)
}

pub(super) fn text(name: &str, value: &str) -> (String, RestrictedExpression) {
    (name.to_owned(), string(value))
}

pub(super) fn string(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn long(value: usize) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n11_entropy_tells_names_from_encoded_data() {
        assert_eq!(entropy("aaaa"), 0);
        assert_eq!(entropy("ab"), 1_000);
        assert!(entropy("api.github.com") < 3_700);
        assert!(entropy("mzxw6ytboi2dgnbrgu4tqmzsgaydambqgeztkobzgi3dm.k7qp9xv.evil.com") > 4_000);
    }
}
