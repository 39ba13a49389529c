//! `[limits]`: bounds of the egress, for every session and for some.
//!
//! ```toml
//! [limits]
//! idle_seconds = 600
//! bytes_out_per_session = 1_000_000_000
//!
//! [[limits.sessions]]                    # the first entry that fits a session overrides
//! agent = "claude"                       # or `user`, or `group`
//! limits = { connections = 256, bytes_out_per_destination = 50_000_000 }
//! ```
//!
//! What is not named keeps the default that the proxy's own table gives it.

use std::time::Duration;

use cordon_policy::SessionFacts;
use serde::{Deserialize, Deserializer, de::Error as _};

/// `[limits]`. Absent values keep their defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Time for one request head, and the longest rest between two.
    #[serde(deserialize_with = "seconds")]
    pub head_seconds: Option<Duration>,
    /// Time without a byte in either direction after which a flow ends.
    #[serde(deserialize_with = "seconds")]
    pub idle_seconds: Option<Duration>,
    /// Time without a byte after which an HTTP connection closes whose client has ended its side.
    #[serde(deserialize_with = "seconds")]
    pub half_closed_seconds: Option<Duration>,
    /// Longest life of one flow.
    #[serde(deserialize_with = "seconds")]
    pub flow_seconds: Option<Duration>,
    /// Time for an origin to begin its response.
    #[serde(deserialize_with = "seconds")]
    pub response_seconds: Option<Duration>,
    /// Time for a name to be resolved.
    #[serde(deserialize_with = "seconds")]
    pub resolve_seconds: Option<Duration>,
    /// Time for a destination to be connected to.
    #[serde(deserialize_with = "seconds")]
    pub connect_seconds: Option<Duration>,
    /// Open client connections of a session.
    pub connections: Option<u32>,
    /// Open upstream connections of a session to one destination.
    pub connections_per_destination: Option<u32>,
    /// New client connections of a session per second, after a burst of as many.
    pub new_connections_per_second: Option<u32>,
    /// Bytes that a session may send, all flows together.
    pub bytes_out_per_session: Option<u64>,
    /// Bytes that a session may receive, all flows together.
    pub bytes_in_per_session: Option<u64>,
    /// Bytes that a session may send to one destination.
    pub bytes_out_per_destination: Option<u64>,
    /// Bytes that a session may receive from one destination.
    pub bytes_in_per_destination: Option<u64>,
    /// Open client connections of all sessions together. Of the node, not of a session.
    pub connections_per_node: Option<u32>,
    /// Bytes in relay buffers of all sessions together. Of the node, not of a session.
    pub buffer_bytes: Option<u64>,
    /// Overrides for some sessions; the first that fits counts.
    pub sessions: Vec<SessionLimits>,
}

/// Overrides for the sessions of one user, group or agent. Exactly one of them is named.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionLimits {
    /// Login name of the user.
    #[serde(default)]
    pub user: Option<String>,
    /// A group of the user.
    #[serde(default)]
    pub group: Option<String>,
    /// The agent profile.
    #[serde(default)]
    pub agent: Option<String>,
    /// The values that differ.
    pub limits: Box<LimitsConfig>,
}

impl LimitsConfig {
    /// The values for one session: its override where one fits, over the common ones.
    pub fn for_session(&self, session: &SessionFacts) -> Self {
        let common = Self {
            sessions: Vec::new(),
            ..self.clone()
        };
        match self.sessions.iter().find(|entry| entry.fits(session)) {
            Some(entry) => common.under((*entry.limits).clone()),
            None => common,
        }
    }

    /// Values of `over` where it has them, else these.
    pub(super) fn under(self, over: Self) -> Self {
        let mut sessions = self.sessions;
        sessions.extend(over.sessions);
        Self {
            head_seconds: over.head_seconds.or(self.head_seconds),
            idle_seconds: over.idle_seconds.or(self.idle_seconds),
            half_closed_seconds: over.half_closed_seconds.or(self.half_closed_seconds),
            flow_seconds: over.flow_seconds.or(self.flow_seconds),
            response_seconds: over.response_seconds.or(self.response_seconds),
            resolve_seconds: over.resolve_seconds.or(self.resolve_seconds),
            connect_seconds: over.connect_seconds.or(self.connect_seconds),
            connections: over.connections.or(self.connections),
            connections_per_destination: over
                .connections_per_destination
                .or(self.connections_per_destination),
            new_connections_per_second: over
                .new_connections_per_second
                .or(self.new_connections_per_second),
            bytes_out_per_session: over.bytes_out_per_session.or(self.bytes_out_per_session),
            bytes_in_per_session: over.bytes_in_per_session.or(self.bytes_in_per_session),
            bytes_out_per_destination: over
                .bytes_out_per_destination
                .or(self.bytes_out_per_destination),
            bytes_in_per_destination: over
                .bytes_in_per_destination
                .or(self.bytes_in_per_destination),
            connections_per_node: over.connections_per_node.or(self.connections_per_node),
            buffer_bytes: over.buffer_bytes.or(self.buffer_bytes),
            sessions,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.check_values()?;
        for entry in &self.sessions {
            let named = [&entry.user, &entry.group, &entry.agent];
            if named.into_iter().flatten().count() != 1 {
                return Err(
                    "an entry of `limits.sessions` needs exactly one of `user`, `group` and \
                     `agent`"
                        .into(),
                );
            }
            let own = &entry.limits;
            if own.connections_per_node.is_some()
                || own.buffer_bytes.is_some()
                || !own.sessions.is_empty()
            {
                return Err(
                    "`connections_per_node`, `buffer_bytes` and `sessions` belong to the node; \
                     name them right under `[limits]`"
                        .into(),
                );
            }
            own.check_values()?;
        }
        Ok(())
    }

    fn check_values(&self) -> Result<(), String> {
        let least: [(&str, Option<u64>, u64); 5] = [
            ("connections", self.connections.map(u64::from), 1),
            (
                "connections_per_destination",
                self.connections_per_destination.map(u64::from),
                1,
            ),
            (
                "new_connections_per_second",
                self.new_connections_per_second.map(u64::from),
                1,
            ),
            (
                "connections_per_node",
                self.connections_per_node.map(u64::from),
                1,
            ),
            ("buffer_bytes", self.buffer_bytes, 1 << 20),
        ];
        for (key, value, least) in least {
            if value.is_some_and(|value| value < least) {
                return Err(format!(
                    "`limits.{key}` is below {least}, with which nothing works; name more, or \
                     remove it for the default"
                ));
            }
        }
        Ok(())
    }
}

impl SessionLimits {
    fn fits(&self, session: &SessionFacts) -> bool {
        match (&self.user, &self.group, &self.agent) {
            (Some(user), None, None) => session.user == *user,
            (None, Some(group), None) => session.groups.contains(group),
            (None, None, Some(agent)) => session.agent.as_ref() == Some(agent),
            // Refused when loaded, and never a match.
            _ => false,
        }
    }
}

/// Longest time that a limit may name: 30 days.
const LONGEST: f64 = 30.0 * 86_400.0;

/// Seconds, fractions allowed; a thousandth at least, 30 days at most.
pub(super) fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let Some(seconds) = Option::<f64>::deserialize(from)? else {
        return Ok(None);
    };
    if !(0.001..=LONGEST).contains(&seconds) {
        return Err(D::Error::custom(format!(
            "{seconds} is not between 0.001 and {LONGEST} seconds"
        )));
    }
    Ok(Some(Duration::from_secs_f64(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<LimitsConfig, String> {
        let limits: LimitsConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        limits.check()?;
        Ok(limits)
    }

    fn facts(user: &str, group: &str, agent: Option<&str>) -> SessionFacts {
        SessionFacts {
            id: "s".into(),
            user: user.into(),
            groups: vec![group.into()],
            agent: agent.map(Into::into),
            platform: "linux".into(),
            backend: cordon_policy::Backend::Bubblewrap,
        }
    }

    #[test]
    fn the_first_override_that_fits_a_session_counts() {
        let limits = load(
            "connections = 100\nidle_seconds = 60\n\
             [[sessions]]\nagent = \"claude\"\nlimits = { connections = 10 }\n\
             [[sessions]]\nuser = \"alice\"\nlimits = { connections = 20, flow_seconds = 0.5 }\n\
             [[sessions]]\ngroup = \"staff\"\nlimits = { connections = 30 }\n",
        )
        .unwrap();
        let table = [
            (facts("alice", "staff", Some("claude")), 10, None),
            (facts("alice", "staff", None), 20, Some(500)),
            (facts("bob", "staff", Some("other")), 30, None),
            (facts("bob", "guests", None), 100, None),
        ];
        for (session, connections, flow_ms) in table {
            let own = limits.for_session(&session);
            assert_eq!(own.connections, Some(connections), "{session:?}");
            assert_eq!(own.flow_seconds, flow_ms.map(Duration::from_millis));
            assert_eq!(own.idle_seconds, Some(Duration::from_secs(60)));
            assert!(own.sessions.is_empty());
        }
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("connections = 0\n", "below 1"),
            ("idle_seconds = 0\n", "not between"),
            ("idle_seconds = 1e9\n", "not between"),
            ("idle_secs = 1\n", "idle_secs"),
            (
                "[[sessions]]\nlimits = { connections = 1 }\n",
                "exactly one",
            ),
            (
                "[[sessions]]\nuser = \"a\"\nagent = \"b\"\nlimits = {}\n",
                "exactly one",
            ),
            (
                "[[sessions]]\nuser = \"a\"\nlimits = { buffer_bytes = 9000000 }\n",
                "belong to the node",
            ),
            (
                "[[sessions]]\nuser = \"a\"\nlimits = { connections = 0 }\n",
                "below 1",
            ),
        ];
        for (text, expected) in table {
            let error = load(text).unwrap_err();
            assert!(error.contains(expected), "{text:?} gave {error:?}");
        }
    }
}
