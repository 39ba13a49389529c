//! What is in force, what is tried out, what may be gone back to: one small file, always whole.
//!
//! Written beside the old one, synced and renamed, so that a crash leaves the one or the other.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File},
    io::{self, Read},
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use cordon_audit::durable::replace;
use cordon_policy::{Layer, SessionFacts, bundle::Accepted};
use cordon_session::comparison::Bound;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

/// What a daemon remembers of its policies.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// By layer; only layers that have ever had a bundle.
    pub layers: BTreeMap<Layer, Held>,
    /// What is tried out or rolled out, one at a time.
    pub candidate: Option<Candidate>,
    /// What waits for a second signature, at most one of a layer.
    #[serde(deserialize_with = "pending")]
    pub pending: Vec<Pending>,
}

/// The bundles of one layer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// In force.
    pub live: Option<Accepted>,
    /// The highest revision ever accepted: the next one is held against it.
    pub last: Option<Accepted>,
    /// Digest of what the source gave last and was dealt with: when it gives that again, nothing
    /// happens, though it may have been taken back since.
    pub seen: Option<String>,
    /// Brought by the source, not put into force by anybody yet (`adopt = "manual"`).
    pub waiting: Option<Accepted>,
    /// What was in force before, the newest first.
    pub former: Vec<Accepted>,
}

/// A bundle that is tried out or rolled out.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Its layer.
    pub layer: Layer,
    /// Which it is.
    pub bundle: Accepted,
    /// How far it is.
    pub stage: Stage,
    /// Who began it.
    pub by: String,
    /// Since when, seconds since the epoch.
    pub since: u64,
}

/// How far a candidate is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Stage {
    /// Asked beside what is in force, until then (seconds since the epoch).
    Trial {
        /// Its end.
        until: u64,
    },
    /// Decides for some sessions.
    Rollout {
        /// Which.
        to: Share,
        /// When it is taken back by itself.
        bound: Option<Bound>,
    },
}

/// Which sessions a rollout is for: whoever is named by any of the three.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// So many sessions of a thousand, chosen by session id.
    pub per_mille: u16,
    /// Sessions of users in these groups.
    pub groups: Vec<String>,
    /// Sessions of these users.
    pub users: Vec<String>,
}

/// A bundle that lacks signatures.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Its layer.
    pub layer: Layer,
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: u64,
    /// Its digest: the second signature has to be for just this.
    pub digest: String,
    /// Who asked for it.
    pub by: String,
    /// What it waits for, in words.
    pub why: String,
}

/// Before there was one for each layer, there was one or none.
fn pending<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Pending>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Read {
        Each(Vec<Pending>),
        One(Option<Pending>),
    }
    Ok(match Read::deserialize(from)? {
        Read::Each(each) => each,
        Read::One(one) => one.into_iter().collect(),
    })
}

/// The file as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    board: Board,
}

const VERSION: u32 = 1;
const MAX_BYTES: u64 = 1 << 20;

impl Board {
    /// Reads the file; an empty board when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is not such a file. What was in force is then not known, and
    /// nothing must be assumed.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened?,
        };
        let mut text = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut text)?;
        let written: Written = serde_json::from_slice(&text)?;
        if written.version == VERSION {
            Ok(written.board)
        } else {
            Err(io::Error::other(format!(
                "version {} is not {VERSION}",
                written.version
            )))
        }
    }

    /// Replaces the file; durable when this returns.
    ///
    /// # Errors
    /// When it cannot be written; the old one is there still.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let written = Written {
            version: VERSION,
            board: self.clone(),
        };
        if let Some(directory) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        replace(path, &serde_json::to_vec_pretty(&written)?)
    }

    /// Digests of everything that may be needed again.
    pub fn needed(&self) -> Vec<&str> {
        let of_layers = self.layers.values().flat_map(|held| {
            [&held.live, &held.waiting]
                .into_iter()
                .flatten()
                .chain(&held.former)
        });
        of_layers
            .chain(self.candidate.iter().map(|candidate| &candidate.bundle))
            .map(|accepted| accepted.digest.as_str())
            .collect()
    }
}

impl Held {
    /// Puts `next` into force and keeps what was, `keep` of them in all.
    pub fn promote(&mut self, next: Accepted, keep: usize) {
        self.remember(&next);
        // An older one that waited would be a way back that nobody asked for.
        if self
            .waiting
            .as_ref()
            .is_some_and(|waiting| waiting.revision <= next.revision)
        {
            self.waiting = None;
        }
        self.former.retain(|former| former.digest != next.digest);
        if let Some(live) = self.live.take().filter(|live| live.digest != next.digest) {
            self.former.insert(0, live);
        }
        self.former.truncate(keep.saturating_sub(1));
        self.live = Some(next);
    }

    /// The next one is held against the highest revision ever accepted.
    pub fn remember(&mut self, accepted: &Accepted) {
        if self
            .last
            .as_ref()
            .is_none_or(|last| last.revision <= accepted.revision)
        {
            self.last = Some(accepted.clone());
        }
    }
}

impl Share {
    /// Whether a session is one of them: the same answer for its whole life, and after a restart.
    pub fn covers(&self, session: &SessionFacts, candidate: &str) -> bool {
        self.users.contains(&session.user)
            || self
                .groups
                .iter()
                .any(|group| session.groups.contains(group))
            || place_of(&session.id, candidate) < u64::from(self.per_mille)
    }
}

/// A session's place among a thousand, another one for each candidate.
fn place_of(session: &str, candidate: &str) -> u64 {
    let hash = Sha256::digest(format!("{candidate}\n{session}"));
    let first = hash
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    first % 1000
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn accepted(revision: u64) -> Accepted {
        Accepted {
            name: "house".into(),
            revision,
            digest: format!("{revision:064x}"),
            signers: Vec::new(),
        }
    }

    fn waits(layer: Layer) -> Pending {
        Pending {
            layer,
            name: "house".into(),
            revision: 2,
            digest: format!("{:064x}", 2),
            by: "ada".into(),
            why: "1 signed it and 2 must".into(),
        }
    }

    fn session(id: &str) -> SessionFacts {
        SessionFacts {
            id: id.into(),
            user: "ada".into(),
            groups: vec!["staff".into()],
            agent: None,
            platform: "linux".into(),
            backend: cordon_policy::Backend::Bubblewrap,
        }
    }

    #[test]
    fn a_board_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(Board::read(&path).unwrap(), Board::default());
        let mut board = Board::default();
        let held = board.layers.entry(Layer::Organisation).or_default();
        held.promote(accepted(1), 3);
        board.candidate = Some(Candidate {
            layer: Layer::Organisation,
            bundle: accepted(2),
            stage: Stage::Rollout {
                to: Share {
                    per_mille: 100,
                    groups: vec!["developers".into()],
                    users: vec![],
                },
                bound: None,
            },
            by: "ada".into(),
            since: 7,
        });
        board.pending = [Layer::Organisation, Layer::Team].map(waits).into();
        board.write(&path).unwrap();
        assert_eq!(Board::read(&path).unwrap(), board);
        // A write that a crash cut short lies beside it and is not read.
        fs::write(path.with_extension("json.tmp"), b"{\"version\":").unwrap();
        assert_eq!(Board::read(&path).unwrap(), board);
        // Damage is an error, never an empty board.
        fs::write(&path, b"{\"version\":1,\"board\":{").unwrap();
        assert!(Board::read(&path).is_err());
    }

    #[test]
    fn a_board_of_the_time_when_one_bundle_could_wait_is_read() {
        let one = serde_json::to_value(waits(Layer::Team)).unwrap();
        for (was, is) in [
            (serde_json::Value::Null, vec![]),
            (one, vec![waits(Layer::Team)]),
        ] {
            let text = json!({ "layers": {}, "candidate": null, "pending": was });
            let board: Board = serde_json::from_value(text).unwrap();
            assert_eq!(board.pending, is);
        }
        let other = json!({ "layers": {}, "candidate": null, "pending": { "layer": "team" } });
        assert!(serde_json::from_value::<Board>(other).is_err());
    }

    #[test]
    fn former_revisions_are_kept_in_their_order_and_bounded() {
        let mut held = Held::default();
        for revision in 1..=5 {
            held.promote(accepted(revision), 3);
        }
        let former: Vec<u64> = held.former.iter().map(|former| former.revision).collect();
        assert_eq!(former, [4, 3]);
        // Going back does not lower what the next one is held against.
        held.promote(accepted(3), 3);
        assert_eq!(held.live.as_ref().unwrap().revision, 3);
        assert_eq!(held.last.as_ref().unwrap().revision, 5);
        let former: Vec<u64> = held.former.iter().map(|former| former.revision).collect();
        assert_eq!(former, [5, 4]);
    }

    #[test]
    fn what_waits_is_over_when_it_or_something_newer_comes_into_force() {
        let waits = |next| {
            let mut held = Held {
                waiting: Some(accepted(5)),
                ..Held::default()
            };
            held.promote(accepted(next), 3);
            held.waiting.is_some()
        };
        assert_eq!([4, 5, 6].map(waits), [true, false, false]);
    }

    #[test]
    fn a_share_is_the_same_every_time_and_about_as_large_as_asked() {
        let share = Share {
            per_mille: 100,
            ..Share::default()
        };
        let ids: Vec<String> = (0..2000).map(|n| format!("session-{n}")).collect();
        let chosen = || {
            ids.iter()
                .filter(|id| share.covers(&session(id), "digest"))
                .count()
        };
        assert_eq!(chosen(), chosen());
        assert!((140..260).contains(&chosen()), "{}", chosen());
        let nobody = Share::default();
        assert!(!ids.iter().any(|id| nobody.covers(&session(id), "digest")));
        let everybody = Share {
            per_mille: 1000,
            ..Share::default()
        };
        assert!(
            ids.iter()
                .all(|id| everybody.covers(&session(id), "digest"))
        );
        let by_group = Share {
            groups: vec!["staff".into()],
            ..Share::default()
        };
        assert!(by_group.covers(&session("any"), "digest"));
        let by_user = Share {
            users: vec!["bob".into()],
            ..Share::default()
        };
        assert!(!by_user.covers(&session("any"), "digest"));
    }
}
