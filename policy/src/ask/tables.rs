//! The words of a fixed vocabulary, each with what it means.

use crate::{
    Backend, BrowserAct, Definition, GrantMode, GrantSource, Handshake, SessionAct, Signature,
    ToolKind, Transport,
};

pub(super) fn act_named(word: &str) -> Option<BrowserAct> {
    ACTS.iter().copied().find(|act| act.as_str() == word)
}

const ACTS: &[BrowserAct] = &[
    BrowserAct::Click,
    BrowserAct::Type,
    BrowserAct::Submit,
    BrowserAct::Upload,
    BrowserAct::Download,
    BrowserAct::Script,
];
pub(super) const SESSION_ACTS: &[(&str, SessionAct)] = &[
    ("open", SessionAct::Open),
    ("read", SessionAct::Read),
    ("ask", SessionAct::Ask),
    ("steer", SessionAct::Steer),
    ("change", SessionAct::Change),
    ("end", SessionAct::End),
    ("token", SessionAct::Token),
];
pub(super) const MODES: &[(&str, GrantMode)] = &[
    ("ro", GrantMode::Ro),
    ("rw", GrantMode::Rw),
    ("rwd", GrantMode::Rwd),
];
pub(super) const SOURCES: &[(&str, GrantSource)] = &[
    ("command-line", GrantSource::CommandLine),
    ("working-directory", GrantSource::WorkingDirectory),
    ("profile", GrantSource::Profile),
    ("api", GrantSource::Api),
];
pub(super) const TRANSPORTS: &[(&str, Transport)] = &[
    ("http-connect", Transport::HttpConnect),
    ("socks5", Transport::Socks5),
    ("capture", Transport::Capture),
];
pub(super) const HANDSHAKES: &[(&str, Handshake)] =
    &[("hello", Handshake::Hello), ("not-tls", Handshake::NoHello)];
pub(super) const SIGNATURES: &[(&str, Signature)] = &[
    ("trusted", Signature::Trusted),
    ("untrusted", Signature::Untrusted),
    ("broken", Signature::Broken),
    ("unsigned", Signature::Unsigned),
];
pub(super) const TOOL_KINDS: &[(&str, ToolKind)] = &[
    ("tool", ToolKind::Tool),
    ("resource", ToolKind::Resource),
    ("prompt", ToolKind::Prompt),
    ("sampling", ToolKind::Sampling),
    ("elicitation", ToolKind::Elicitation),
    ("roots", ToolKind::Roots),
];
pub(super) const DEFINITIONS: &[(&str, Definition)] = &[
    ("unseen", Definition::Unseen),
    ("first", Definition::First),
    ("accepted", Definition::Accepted),
    ("changed", Definition::Changed),
];
pub(super) const BACKENDS: &[(&str, Backend)] = &[
    ("bubblewrap", Backend::Bubblewrap),
    ("container", Backend::Container),
    ("none", Backend::None),
    ("gateway", Backend::Gateway),
];
