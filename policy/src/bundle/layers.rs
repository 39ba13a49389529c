//! Several policy sets as one: organisation, team, user and workspace.
//!
//! Whose a rule is follows from the place that a set was given here, never from what the set says
//! of itself: a user's file cannot call itself the organisation's.

use serde::{Deserialize, Serialize};

use super::{BundleError, error::Artefact};
use crate::{Layer, Trust, source::PolicySource};

/// A bundle within a policy set.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BundleRef {
    /// Its name.
    pub name: String,
    /// The layer it speaks in.
    pub layer: Layer,
    /// Its revision.
    pub revision: u64,
    /// Its digest.
    pub digest: String,
}

/// The policy sets of one session, from the most to the least trusted.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The organisation's.
    pub organisation: Option<PolicySource>,
    /// Those of teams.
    pub team: Vec<PolicySource>,
    /// Those of the user.
    pub user: Vec<PolicySource>,
    /// That of the folder that is worked in.
    pub workspace: Option<PolicySource>,
}

impl Layers {
    /// All as one set, under the organisation's trust. Without an organisation team and user may
    /// both `permit`. The organisation's revision is the whole set's.
    ///
    /// Rules of two layers may have the same `@id`: when it is loaded, the less trusted layer's is
    /// then called `LAYER:ID`. Within a layer ids are unique. Host groups are unique in the whole
    /// set, and a rule or group uses those of its own and more trusted layers only.
    ///
    /// # Errors
    /// [`BundleError`] when there is nothing to join, or when a lower layer would only observe: a
    /// set observes as a whole, and that is for the most trusted layer to say.
    pub fn join(self) -> Result<PolicySource, BundleError> {
        let trust = self
            .organisation
            .as_ref()
            .map_or(Trust::WITHOUT_ORGANISATION, |source| source.trust);
        let placed = self
            .organisation
            .into_iter()
            .map(|source| (Layer::Organisation, source))
            .chain(self.team.into_iter().map(|source| (Layer::Team, source)))
            .chain(self.user.into_iter().map(|source| (Layer::User, source)))
            .chain(self.workspace.into_iter().map(|s| (Layer::Workspace, s)));
        let mut joined: Option<PolicySource> = None;
        for (layer, source) in placed {
            let source = place(source, layer);
            joined = Some(match joined {
                None => PolicySource { trust, ..source },
                Some(_) if source.observe.is_some() => return Err(only_observes(&source, layer)),
                Some(upper) => upper.join(source),
            });
        }
        joined.ok_or_else(|| {
            Artefact::Bundle.error("there is no policy set", "name at least one layer's")
        })
    }
}

fn place(mut source: PolicySource, layer: Layer) -> PolicySource {
    for file in &mut source.files {
        file.layer = layer;
    }
    for bundle in &mut source.bundles {
        bundle.layer = layer;
    }
    for application in &mut source.applications {
        application.set_layer(layer);
    }
    source
}

fn only_observes(source: &PolicySource, layer: Layer) -> BundleError {
    Artefact::Bundle.error(
        format!(
            "`{}` of layer `{layer}` has `[observe]`, beside a more trusted layer that enforces",
            source.name
        ),
        "take `[observe]` out, and mark its rules with `@observe(\"DATE\")` instead",
    )
}
