//! What a set permits, in words and bounded: for the page that a session reads about itself.
//!
//! A snapshot and a session in, sentences and host groups out. Forbidding rules are not told; they
//! show in refusals. Nor is what only others may, as far as scopes say so, or who administers.

use cedar_policy::ActionConstraint;
use serde::Serialize;

use super::{actions::Kind, overview::member, sentence};
use crate::{
    Effect, History, Layer, SessionFacts, Snapshot,
    engine::{
        compile::{Ready, on_large_stack},
        data::HostGroups,
        is_about,
    },
};

/// What a set permits, as far as it is shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Allowed {
    /// Permits that speak of the network, alone or beside other things.
    pub network: Vec<PermitInWords>,
    /// How many more of these there are.
    pub network_not_shown: usize,
    /// Host groups that these name.
    pub groups: Vec<GroupShown>,
    /// Permits of other things: starting, folders, connectors and the rest.
    pub other: Vec<PermitInWords>,
    /// How many more of these there are.
    pub other_not_shown: usize,
}

/// One permit.
#[derive(Clone, Debug, Serialize)]
pub struct PermitInWords {
    /// Its `@id`, or file and line.
    pub rule: String,
    /// What it says.
    pub words: String,
    /// Its `@reason`.
    pub reason: Option<String>,
    /// Whose it is.
    pub layer: Layer,
}

/// A host group, as far as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct GroupShown {
    /// Its name.
    pub name: String,
    /// Its first members, spelled as in a data file.
    pub members: Vec<String>,
    /// How many more it has.
    pub not_shown: usize,
}

impl Allowed {
    /// What a snapshot permits this session, `most` about the network and as many others.
    pub fn of(snapshot: &Snapshot, session: &SessionFacts, most: usize) -> Self {
        let principals = snapshot.asker(&History::default()).principals(session);
        let rules = snapshot.compiled.rules.iter();
        let permits = rules
            .zip(&snapshot.compiled.policies)
            .filter(|(rule, ready)| {
                rule.effect == Effect::Permit
                    && is_about(&ready.policy, &principals)
                    && !is_administration(ready)
            });
        let (network, other): (Vec<_>, Vec<_>) = permits.partition(|(_, ready)| is_network(ready));
        let network_not_shown = network.len().saturating_sub(most);
        let other_not_shown = other.len().saturating_sub(most);
        let shown = [network, other].map(|rules| rules.into_iter().take(most).collect::<Vec<_>>());
        let named: Vec<_> = shown[0]
            .iter()
            .flat_map(|(rule, _)| groups_in(&rule.text))
            .collect();
        let in_words = |rules: &Vec<(&crate::Rule, &Ready)>| {
            let told = rules.iter().map(|(rule, ready)| PermitInWords {
                rule: rule.id.to_string(),
                words: ready
                    .policy
                    .to_json()
                    .map_or_else(|_no_json| NO_WORDS.into(), |policy| sentence(&policy)),
                reason: rule.reason.as_ref().map(ToString::to_string),
                layer: rule.layer,
            });
            told.collect()
        };
        let [network, other] =
            on_large_stack(|| [in_words(&shown[0]), in_words(&shown[1])]).unwrap_or_default();
        let groups = snapshot.compiled.groups.iter();
        let groups = groups.filter(|group| named.contains(&group.name.as_str()));
        Self {
            network,
            network_not_shown,
            groups: groups.take(most).cloned().collect(),
            other,
            other_not_shown,
        }
    }
}

impl GroupShown {
    /// Members that are shown at most.
    const MEMBERS: usize = 20;

    /// Every group of a set.
    pub(crate) fn all(groups: &HostGroups) -> Vec<Self> {
        let shown = groups.groups.iter().map(|group| Self {
            name: group.name.clone(),
            members: group
                .members
                .iter()
                .take(Self::MEMBERS)
                .map(|each| member(each, &groups.groups))
                .collect(),
            not_shown: group.members.len().saturating_sub(Self::MEMBERS),
        });
        shown.collect()
    }
}

/// Said of a rule that cannot be told; never its text.
const NO_WORDS: &str = "It cannot be said in words.";

/// The names in a permit's scope; none where it is about every action.
fn actions(ready: &Ready) -> Vec<String> {
    let names = match ready.policy.action_constraint() {
        ActionConstraint::Any => Vec::new(),
        ActionConstraint::Eq(uid) => vec![uid],
        ActionConstraint::In(uids) => uids,
    };
    let names = names.iter().map(|uid| uid.id().unescaped().to_owned());
    names.collect()
}

/// Whether a permit is about what people do with sessions and policy, and not about what sessions do.
fn is_administration(ready: &Ready) -> bool {
    let names = actions(ready);
    let is_of_it = |name: &String| Kind::of(std::slice::from_ref(name)).is_administration();
    !names.is_empty()
        && names
            .iter()
            .all(|name| name == "administration" || is_of_it(name))
}

/// Whether a permit's scope has actions of the network.
fn is_network(ready: &Ready) -> bool {
    let names = actions(ready);
    names.is_empty()
        || names
            .iter()
            .any(|name| Kind::of(std::slice::from_ref(name)) == Kind::Network)
}

/// Names of host groups in a rule's text. One in a comment is shown too, which misleads nobody.
fn groups_in(text: &str) -> impl Iterator<Item = &str> {
    let behind = text.split("HostGroup::\"").skip(1);
    behind.filter_map(|rest| rest.split('"').next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{PolicyFile, PolicySource};

    fn ada() -> SessionFacts {
        SessionFacts {
            id: "one".into(),
            user: "ada".into(),
            groups: vec!["people".into()],
            agent: None,
            platform: "linux".into(),
            backend: crate::Backend::Bubblewrap,
        }
    }

    #[test]
    fn permits_of_the_network_stand_apart_with_the_groups_they_name() {
        let rules = r#"
            @id("start") permit (principal, action == Action::"start_session", resource);
            @id("forges") @reason("for builds")
            permit (principal, action == Action::"connect", resource in HostGroup::"forges");
            @id("reads")
            permit (principal, action == Action::"http_read", resource == Host::"a.example.com");
            @id("mixed") permit (principal,
              action in [Action::"grant", Action::"http"], resource);
            @id("never") forbid (principal, action, resource == Host::"secret.example.com");
            @id("hers") permit (principal in User::"olga", action, resource == Host::"hers.example.com");
            @id("theirs") permit (principal in Group::"staff",
              action == Action::"connect", resource == Host::"staff.example.com");
            @id("people") permit (principal in Group::"people",
              action == Action::"connect", resource == Host::"people.example.com");
            @id("who") permit (principal in User::"ada",
              action in [Action::"approve", Action::"read_log"], resource);
        "#;
        let groups = "[host_groups]\nforges = [\"b.example.com\", \"*.c.example.com\", \"@more\"]\n\
                      more = [\"d.example.com\"]\nunnamed = [\"e.example.com\"]\n";
        let files = vec![
            PolicyFile::new("test.cedar", rules),
            PolicyFile::new("hosts.toml", groups),
        ];
        let snapshot = Snapshot::load(&PolicySource::new("test", files)).unwrap();
        let allowed = Allowed::of(&snapshot, &ada(), 50);
        let ids = |rules: &[PermitInWords]| {
            let ids = rules.iter().map(|rule| rule.rule.clone());
            ids.collect::<Vec<_>>()
        };
        assert_eq!(
            ids(&allowed.network),
            ["forges", "reads", "mixed", "people"]
        );
        assert_eq!(ids(&allowed.other), ["start"]);
        assert_eq!(
            allowed.network[0].words,
            "Every session may open connections to the hosts of group `forges`."
        );
        assert_eq!(allowed.network[0].reason.as_deref(), Some("for builds"));
        assert!(allowed.network[1].words.contains("a.example.com"));
        let names: Vec<_> = allowed.groups.iter().map(|group| &*group.name).collect();
        assert_eq!(names, ["forges"]);
        assert_eq!(
            allowed.groups[0].members,
            ["b.example.com", "*.c.example.com", "@more"]
        );
        let told = serde_json::to_string(&allowed).unwrap();
        for of_others in ["secret", "hers", "staff", "answer", "who"] {
            assert!(!told.contains(of_others), "{told}");
        }

        let allowed = Allowed::of(&snapshot, &ada(), 1);
        assert_eq!(ids(&allowed.network), ["forges"]);
        assert_eq!((allowed.network_not_shown, allowed.other_not_shown), (3, 0));
    }

    #[test]
    fn of_a_large_group_the_first_are_shown() {
        let rules = "permit (principal, action == Action::\"connect\", \
                     resource in HostGroup::\"many\");";
        let hosts: Vec<_> = (0..100)
            .map(|at| format!("\"h{at}.example.com\""))
            .collect();
        let groups = format!("[host_groups]\nmany = [{}]\n", hosts.join(", "));
        let files = vec![
            PolicyFile::new("test.cedar", rules),
            PolicyFile::new("hosts.toml", groups),
        ];
        let snapshot = Snapshot::load(&PolicySource::new("test", files)).unwrap();
        let group = Allowed::of(&snapshot, &ada(), 50).groups.remove(0);
        assert_eq!(
            (group.members.len(), group.not_shown),
            (GroupShown::MEMBERS, 80)
        );
    }
}
