//! Who wrote a rule: the layer of a policy set that it comes from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a rule comes from, from the most to the least trusted. `forbid` wins from any layer;
/// who may `permit` is the organisation's choice ([`Trust`]), and a workspace never may.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// The organisation, or the built-in pack where there is none.
    Organisation,
    /// A team within it.
    Team,
    /// The user whose session it is: what `--policy` names.
    #[default]
    User,
    /// The folder that is worked in. It can only narrow.
    Workspace,
}

/// Which layers may `permit`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Whether the team's layer may permit.
    #[serde(default)]
    pub team: bool,
    /// Whether the user's layer may permit.
    #[serde(default)]
    pub user: bool,
}

impl Layer {
    /// As it stands in records and in `bundle.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::User => "user",
            Self::Workspace => "workspace",
        }
    }
}

impl Trust {
    /// Where no organisation says otherwise: the user decides on their own machine.
    pub const WITHOUT_ORGANISATION: Self = Self {
        team: true,
        user: true,
    };

    /// Whether rules of this layer may `permit`.
    pub fn may_permit(self, layer: Layer) -> bool {
        match layer {
            Layer::Organisation => true,
            Layer::Team => self.team,
            Layer::User => self.user,
            Layer::Workspace => false,
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f02_a_workspace_never_may_permit_and_the_organisation_always_may() {
        for team in [false, true] {
            for user in [false, true] {
                let trust = Trust { team, user };
                assert!(trust.may_permit(Layer::Organisation), "{trust:?}");
                assert!(!trust.may_permit(Layer::Workspace), "{trust:?}");
                assert_eq!(trust.may_permit(Layer::Team), team, "{trust:?}");
                assert_eq!(trust.may_permit(Layer::User), user, "{trust:?}");
            }
        }
    }
}
