use std::{fs, path::PathBuf};

use cordon_audit::{Kind, LogOptions, Record};
use cordon_policy::{
    Backend, Operation, SessionFacts,
    bundle::{Role, SigningKey, sign},
};
use cordon_session::{Role as Part, comparison::Bound};

use super::{offer::Taken, *};
use crate::control::PolicyAnswer;

/// A daemon's policies with a log, in a folder of their own.
struct House {
    folder: tempfile::TempDir,
    config: PolicyConfig,
    log: Log,
    policies: Arc<Policies>,
}

const START: &str =
    "@id(\"start\") permit (principal, action == Action::\"start_session\", resource);\n";
const NETWORK: &str = "@id(\"net\") permit (principal, action in Action::\"network\", resource);\n";

fn config(layers: &[Layer], trust: Option<PathBuf>) -> PolicyConfig {
    let each = |layer| format!("[[bundle]]\nlayer = \"{layer}\"\nsource = \"manual\"\n");
    let text: String = layers.iter().map(each).collect();
    PolicyConfig {
        trust,
        ..toml::from_str(&text).unwrap()
    }
}

fn open(folder: &Path, config: &PolicyConfig, log: &Log) -> Arc<Policies> {
    let user = User {
        name: "ada".into(),
        groups: vec!["staff".into()],
        home: None,
    };
    let directory = folder.join("policy");
    Arc::new(Policies::new(config.clone(), &directory, user, log.clone(), None).unwrap())
}

impl House {
    fn new() -> Self {
        Self::with_trust("")
    }

    /// With a trust file where `trust` is not empty.
    fn with_trust(trust: &str) -> Self {
        Self::with(&[Layer::Organisation], trust)
    }

    /// With a bundle in each of these layers by configuration.
    fn with(layers: &[Layer], trust: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trust.toml");
        let config = if trust.is_empty() {
            config(layers, None)
        } else {
            fs::write(&file, trust).unwrap();
            config(layers, Some(file))
        };
        let log = Log::open(&folder.path().join("log"), LogOptions::default()).unwrap();
        let policies = open(folder.path(), &config, &log);
        Self {
            folder,
            config,
            log,
            policies,
        }
    }

    /// The daemon is gone, whatever it was doing, and another one starts.
    fn restart(&mut self) {
        self.policies = open(self.folder.path(), &self.config, &self.log);
    }

    /// Writes a bundle of the organisation with these rules.
    fn bundle(&self, revision: u64, rules: &str) -> PathBuf {
        let rules = format!("{START}{rules}");
        self.write("house", Layer::Organisation, revision, &rules)
    }

    /// Writes a bundle of the team, which forbids a host and nothing else.
    fn team_bundle(&self, revision: u64) -> PathBuf {
        let rules = "@id(\"no-team\") forbid (principal, action == Action::\"connect\", \
                     resource == Host::\"team.example.com\");\n";
        self.write("crew", Layer::Team, revision, rules)
    }

    fn write(&self, name: &str, layer: Layer, revision: u64, rules: &str) -> PathBuf {
        let folder = self.folder.path().join(format!("{name}-{revision}"));
        fs::create_dir_all(&folder).unwrap();
        let manifest =
            format!("name = \"{name}\"\nschema = 1\nrevision = {revision}\nlayer = \"{layer}\"\n");
        fs::write(folder.join("bundle.toml"), manifest).unwrap();
        fs::write(folder.join("rules.cedar"), rules).unwrap();
        folder
    }

    /// What its source brings.
    async fn brings(&self, bundle: &Path) -> Taken {
        let bundle = Bundle::read(bundle).unwrap();
        let layer = bundle.manifest().layer;
        self.policies.offer(layer, bundle).await
    }

    /// The validity of all that is in force ends at this moment.
    fn ends_at(&self, moment: SystemTime) {
        for loaded in self.policies.state().live.values_mut() {
            *loaded = Arc::new(Loaded {
                accepted: loaded.accepted.clone(),
                source: loaded.source.clone(),
                not_after: Some(moment),
            });
        }
    }

    /// Gives a bundle a validity that ended long ago.
    fn over(bundle: PathBuf) -> PathBuf {
        let manifest = bundle.join("bundle.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(manifest, format!("{text}not_after = 2020-01-01\n")).unwrap();
        bundle
    }

    /// Keeps a bundle as the daemon does that accepts it, while it is valid.
    fn keep(&self, bundle: &Path) -> Accepted {
        let bundle = Bundle::read(bundle).unwrap();
        self.policies.store.keep(&bundle).unwrap();
        let reference = bundle.reference();
        Accepted {
            name: reference.name,
            revision: reference.revision,
            digest: reference.digest,
            signers: Vec::new(),
        }
    }

    /// The daemon that had accepted this bundle is gone, and another one starts.
    fn restart_with(&mut self, bundle: &Path) {
        let accepted = self.keep(bundle);
        let layer = Bundle::read(bundle).unwrap().manifest().layer;
        let mut board = self.policies.state().board.clone();
        board.layers.entry(layer).or_default().promote(accepted, 3);
        board.write(&self.policies.board_file).unwrap();
        self.restart();
    }

    fn sign(&self, bundle: &Path, key: &SigningKey) {
        let read = Bundle::read(bundle).unwrap();
        fs::write(bundle.join("bundle.sig"), sign(&read, key).unwrap().text).unwrap();
    }

    async fn live(&self) -> Option<u64> {
        let status = self.policies.status().await;
        Some(status.layers[0].live.as_ref()?.revision)
    }

    fn kinds(&self, wanted: Kind) -> Vec<Record> {
        self.log.close();
        let reader = cordon_audit::read::Reader::open(&self.folder.path().join("log")).unwrap();
        let all = reader.last(1000).unwrap();
        all.into_iter()
            .filter(|record| record.kind == wanted)
            .collect()
    }
}

fn facts(id: &str) -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: id.into(),
        user: "ada".into(),
        groups: vec!["staff".into()],
        agent: None,
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    })
}

fn connect() -> Operation {
    Operation::Connect {
        destination: cordon_policy::Destination::from_parts(b"a.example.com", 443).unwrap(),
        transport: cordon_policy::Transport::Socks5,
        seen: cordon_policy::Seen::default(),
    }
}

fn key(id: &str, seed: u8) -> SigningKey {
    SigningKey::new(id, Role::PolicyPublisher, [seed; 32]).unwrap()
}

fn trust(keys: &[&SigningKey], needed: usize) -> String {
    let mut text = format!("[signatures]\norganisation = {needed}\nteam = {needed}\n");
    for key in keys {
        text.push_str(&format!(
            "[[key]]\nid = \"{}\"\npublic = \"{}\"\nroles = [\"policy-publisher\"]\nlayers = \
             [\"organisation\", \"team\"]\n",
            key.id(),
            key.public()
        ));
    }
    text
}

fn is_done(changed: &Result<PolicyAnswer, Stopped>) -> bool {
    matches!(changed, Ok(PolicyAnswer::Done { pending: false, .. }))
}

fn is_pending(changed: &Result<PolicyAnswer, Stopped>) -> bool {
    matches!(
        changed,
        Err(Stopped::Denied(PolicyAnswer::Done { pending: true, .. }))
    )
}

fn is_denied(changed: &Result<PolicyAnswer, Stopped>) -> bool {
    matches!(changed, Err(Stopped::Denied(PolicyAnswer::Denied { .. })))
}

async fn session(house: &House, id: &str) -> Arc<Follower> {
    house.policies.follow(facts(id), &[], None).await.unwrap()
}

fn allows(follower: &Follower) -> bool {
    follower.gate().review(connect()).is_ok()
}

#[tokio::test]
async fn what_is_published_decides_in_running_sessions_and_can_be_taken_back() {
    let house = House::new();
    let closed = house.policies.follow(facts("s0"), &[], None).await;
    assert!(closed.is_err(), "nothing is in force, so nothing may start");
    let first = house
        .policies
        .publish(house.bundle(1, NETWORK), false)
        .await;
    assert!(is_done(&first), "{first:?}");
    let running = session(&house, "s1").await;
    assert!(allows(&running));
    let second = house.policies.publish(house.bundle(2, ""), false).await;
    assert!(is_done(&second), "{second:?}");
    assert!(!allows(&running));
    let back = house.policies.roll_back(None, None).await;
    assert!(is_done(&back), "{back:?}");
    assert!(allows(&running));
    assert_eq!(house.live().await, Some(1));
    let forth = house.policies.roll_back(None, Some(2)).await;
    assert!(is_done(&forth), "{forth:?}");
    assert_eq!(house.live().await, Some(2));
    let missing = house.policies.roll_back(None, Some(77)).await;
    assert!(matches!(missing, Err(Stopped::Failed(..))), "{missing:?}");
    assert_eq!(house.kinds(Kind::PolicyPromote).len(), 2);
    assert_eq!(house.kinds(Kind::PolicyRollback).len(), 2);
}

#[tokio::test]
async fn a_trial_decides_nothing_and_a_rollout_only_for_its_share() {
    let house = House::new();
    let published = house
        .policies
        .publish(house.bundle(1, NETWORK), false)
        .await;
    assert!(is_done(&published), "{published:?}");
    let running = session(&house, "s1").await;
    let candidate = house.bundle(2, "");
    let tried = house.policies.try_out(Some(candidate), None, 3600).await;
    assert!(is_done(&tried), "{tried:?}");
    assert!(allows(&running), "a trial decides nothing");
    let part = |follower: &Follower| follower.current().beside.as_ref().map(|beside| beside.role);
    assert_eq!(part(&running), Some(Part::Trial));
    let durability = cordon_session::Durability::Synced;
    let permit = running.gate().admit(connect(), durability).await;
    assert!(permit.is_ok(), "{permit:?}");
    let status = house.policies.status().await.candidate.unwrap();
    assert_eq!(
        (status.counts.newly_refused, status.counts.both_allow),
        (1, 0)
    );

    let nobody = Share {
        users: vec!["bob".into()],
        ..Share::default()
    };
    let rolled = house.policies.roll_out(None, None, nobody, None).await;
    assert!(is_done(&rolled), "{rolled:?}");
    assert!(allows(&running), "not in the share");
    assert_eq!(part(&running), None);
    let staff = Share {
        groups: vec!["staff".into()],
        ..Share::default()
    };
    let rolled = house.policies.roll_out(None, None, staff, None).await;
    assert!(is_done(&rolled), "{rolled:?}");
    assert!(!allows(&running), "in the share");
    assert_eq!(part(&running), Some(Part::Rollout));
    let promoted = house.policies.promote(None).await;
    assert!(is_done(&promoted), "{promoted:?}");
    assert_eq!((house.live().await, part(&running)), (Some(2), None));
    assert!(house.policies.status().await.candidate.is_none());
    let again = house.policies.promote(None).await;
    assert!(matches!(again, Err(Stopped::Failed(..))), "{again:?}");
}

#[tokio::test]
async fn a_rollout_that_refuses_too_much_is_taken_back_by_itself() {
    let house = House::new();
    house
        .policies
        .publish(house.bundle(1, NETWORK), false)
        .await
        .unwrap();
    let stop = watch::channel(false).0;
    let mut tasks = watch_policies(&house.policies, &stop).await;
    let running = session(&house, "s1").await;
    let everybody = Share {
        per_mille: 1000,
        ..Share::default()
    };
    let bound = Bound {
        refused_per_mille: 50,
        window_seconds: 600,
        at_least: 5,
    };
    let candidate = house.bundle(2, "");
    let rolled = house
        .policies
        .roll_out(Some(candidate), None, everybody, Some(bound))
        .await;
    assert!(is_done(&rolled), "{rolled:?}");
    assert!(!allows(&running));
    let mut feed = running.changes();
    for _ in 0..5 {
        let durability = cordon_session::Durability::Synced;
        assert!(running.gate().admit(connect(), durability).await.is_err());
    }
    tokio::time::timeout(std::time::Duration::from_secs(20), feed.changed())
        .await
        .expect("it is taken back")
        .unwrap();
    assert!(allows(&running));
    assert_eq!(house.live().await, Some(1));
    // It holds this until it is recorded.
    drop(house.policies.changing.lock().await);
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    let status = house.policies.status().await;
    assert!(status.candidate.is_none());
    assert!(
        status.notes[0].contains("taken back by itself"),
        "{status:?}"
    );
    let back = house.kinds(Kind::PolicyRollback);
    assert!(
        back[0].message.as_ref().unwrap().contains("5 of 5"),
        "{back:?}"
    );
    assert!(back[0].principal.is_none(), "nobody asked for it");
}

#[tokio::test]
async fn what_is_in_force_and_rolled_out_survives_the_end_of_the_daemon() {
    let mut house = House::new();
    house
        .policies
        .publish(house.bundle(1, NETWORK), false)
        .await
        .unwrap();
    house
        .policies
        .publish(house.bundle(2, NETWORK), false)
        .await
        .unwrap();
    let share = Share {
        per_mille: 500,
        users: vec!["ada".into()],
        ..Share::default()
    };
    let candidate = house.bundle(3, "");
    house
        .policies
        .roll_out(Some(candidate), None, share, None)
        .await
        .unwrap();
    let before = house.policies.status().await;
    house.restart();
    let after = house.policies.status().await;
    let json = |status| serde_json::to_value(status).unwrap();
    assert_eq!(json(before), json(after));
    let again = session(&house, "s1").await;
    assert!(!allows(&again), "ada is in the rollout still");

    // A kept bundle that is not what it was is never used.
    let digest = house.policies.state().live[&Layer::Organisation]
        .accepted
        .digest
        .clone();
    let kept = house
        .folder
        .path()
        .join(format!("policy/bundles/{digest}.tar.gz"));
    let other = Bundle::read(&house.bundle(9, NETWORK)).unwrap();
    fs::write(&kept, other.pack().unwrap()).unwrap();
    house.restart();
    assert_eq!(house.live().await, None);
    let status = house.policies.status().await;
    let fault = status.layers[0].fault.as_ref().unwrap();
    assert!(fault.contains("another digest"), "{fault}");
    assert!(house.policies.follow(facts("s2"), &[], None).await.is_err());
}

#[tokio::test]
async fn f03_where_a_key_is_trusted_nothing_unsigned_or_older_comes_into_force() {
    let (ada, mallory) = (key("ada", 1), key("mallory", 2));
    let house = House::with_trust(&trust(&[&ada], 1));
    let unsigned = house.bundle(1, NETWORK);
    let refused = house.policies.publish(unsigned.clone(), false).await;
    assert!(is_denied(&refused), "{refused:?}");
    house.sign(&unsigned, &mallory);
    let refused = house.policies.publish(unsigned.clone(), false).await;
    assert!(is_denied(&refused), "{refused:?}");
    assert_eq!(house.live().await, None);
    fs::remove_file(unsigned.join("bundle.sig")).unwrap();
    house.sign(&unsigned, &ada);
    assert!(is_done(&house.policies.publish(unsigned, false).await));
    let second = house.bundle(2, NETWORK);
    house.sign(&second, &ada);
    assert!(is_done(&house.policies.publish(second, false).await));
    let older = house.folder.path().join("house-1");
    let refused = house.policies.publish(older, false).await;
    assert!(is_denied(&refused), "{refused:?}");
    assert_eq!(house.live().await, Some(2));
    // Going back on purpose is another thing.
    assert!(is_done(&house.policies.roll_back(None, Some(1)).await));
}

#[tokio::test]
async fn where_two_must_sign_one_signature_waits_for_the_other() {
    let (ada, bob) = (key("ada", 1), key("bob", 2));
    let house = House::with_trust(&trust(&[&ada, &bob], 2));
    let bundle = house.bundle(1, NETWORK);
    house.sign(&bundle, &ada);
    let nothing = house.policies.publish(bundle.clone(), true).await;
    assert!(matches!(nothing, Err(Stopped::Failed(..))), "{nothing:?}");
    let first = house.policies.publish(bundle.clone(), false).await;
    assert!(is_pending(&first), "{first:?}");
    assert_eq!(house.live().await, None);
    let pending = house.policies.status().await.pending;
    assert!(pending[0].contains("house revision 1"), "{pending:?}");
    assert!(pending[0].contains("asked for by ada"), "{pending:?}");
    // Its source may bring it as well: it stays hers.
    assert_eq!(house.brings(&bundle).await, Taken::No);
    assert_eq!(house.policies.status().await.pending, pending);
    // The second signature is for just this content.
    let other = house.bundle(2, "");
    house.sign(&other, &ada);
    house.sign(&other, &bob);
    let swapped = house.policies.publish(other, true).await;
    assert!(matches!(swapped, Err(Stopped::Failed(..))), "{swapped:?}");
    // One person twice is one person.
    house.sign(&bundle, &ada);
    assert!(is_pending(
        &house.policies.publish(bundle.clone(), true).await
    ));
    house.sign(&bundle, &bob);
    let second = house.policies.publish(bundle, true).await;
    assert!(is_done(&second), "{second:?}");
    assert_eq!(house.live().await, Some(1));
    assert!(house.policies.status().await.pending.is_empty());
    let pending = house.kinds(Kind::PolicyPending);
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].principal.as_ref().unwrap().id, "ada");
    assert_eq!(house.kinds(Kind::PolicyPromote).len(), 1);
}

#[tokio::test]
async fn who_may_publish_is_decided_by_the_policy_in_force() {
    let house = House::new();
    let only_bob = "@id(\"bob-publishes\") permit (principal == User::\"bob\", \
                    action == Action::\"publish_policy\", resource);\n";
    let staff = "@id(\"staff-publishes\") permit (principal in Group::\"staff\", \
                 action == Action::\"publish_policy\", resource);\n";
    // Nothing in force speaks of administration.
    assert!(is_done(
        &house.policies.publish(house.bundle(1, staff), false).await
    ));
    // Ada is of the staff.
    assert!(is_done(
        &house
            .policies
            .publish(house.bundle(2, only_bob), false)
            .await
    ));
    // And now only Bob may.
    let candidate = house.bundle(3, staff);
    let everybody = || Share {
        per_mille: 1000,
        ..Share::default()
    };
    assert!(is_denied(
        &house.policies.publish(candidate.clone(), false).await
    ));
    assert!(is_denied(
        &house
            .policies
            .try_out(Some(candidate.clone()), None, 60)
            .await
    ));
    let rolled = house
        .policies
        .roll_out(Some(candidate), None, everybody(), None)
        .await;
    assert!(is_denied(&rolled), "{rolled:?}");
    assert!(is_denied(&house.policies.roll_back(None, None).await));
    assert_eq!(house.live().await, Some(2));
    let decisions = house.kinds(Kind::Decision);
    let denied = decisions
        .iter()
        .filter(|record| record.action.as_deref() == Some("policy.publish"))
        .filter(|record| record.effect == Some(cordon_audit::Effect::Deny))
        .count();
    assert_eq!((decisions.len(), denied), (6, 4));
}

#[tokio::test]
async fn what_is_over_says_who_may_do_what_after_a_restart_as_before() {
    let rules = format!(
        "{NETWORK}@id(\"bob-publishes\") permit (principal == User::\"bob\", \
         action == Action::\"publish_policy\", resource);\n\
         @id(\"unseen\") forbid (principal, action in Action::\"manage_sessions\", resource);\n"
    );
    let mut house = House::new();
    let first = house.bundle(1, &rules);
    assert!(is_done(&house.policies.publish(first, false).await));
    let next = house.bundle(5, NETWORK);
    let is_as_it_was = async |house: &House, moment: &str| {
        let policies = &house.policies;
        let published = policies.publish(next.clone(), false).await;
        assert!(is_denied(&published), "{moment}: {published:?}");
        assert!(is_denied(&policies.roll_back(None, None).await), "{moment}");
        let sees = policies.may_read(&policies.own_user(), &facts("s1")).await;
        assert!(!sees, "{moment}");
        let started = policies.follow(facts("s1"), &[], None).await;
        assert!(started.is_err(), "{moment}: it decides for no session");
        assert!(policies.applications().await.is_err(), "{moment}");
        assert_eq!(house.live().await, None, "{moment}");
        let status = policies.status().await;
        let fault = status.layers[0].fault.as_ref().unwrap();
        assert!(fault.contains("its validity is over"), "{moment}: {fault}");
    };
    // So that there is something to go back to.
    house.restart_with(&house.bundle(2, &rules));
    house.ends_at(SystemTime::now());
    is_as_it_was(&house, "before").await;
    let over = House::over(house.bundle(3, &rules));
    house.restart_with(&over);
    is_as_it_was(&house, "after").await;
    // Its source has nothing newer.
    assert_eq!(house.brings(&over).await, Taken::No);
    is_as_it_was(&house, "after its source was asked").await;
    assert_eq!(house.brings(&next).await, Taken::Yes);
    assert_eq!(house.live().await, Some(5));
}

#[tokio::test]
async fn what_is_over_and_was_signed_by_nobody_trusted_says_nothing() {
    let (ada, mallory) = (key("ada", 1), key("mallory", 2));
    let mut house = House::with_trust(&trust(&[&ada], 1));
    let held = |house: &House| house.policies.state().live.len();
    for (key, expected) in [(&mallory, 0), (&ada, 1)] {
        let over = House::over(house.bundle(1, NETWORK));
        house.sign(&over, key);
        house.restart_with(&over);
        assert_eq!(held(&house), expected, "{}", key.id());
        assert_eq!(house.live().await, None);
    }
}

/// Has the clock's task end a candidate that is over, and looks at what is left.
async fn is_ended(house: &House, running: &Follower) {
    let mut feed = running.changes();
    let stop = watch::channel(false).0;
    let mut tasks = watch_policies(&house.policies, &stop).await;
    let ended = async {
        while house.policies.state().board.candidate.is_some() {
            feed.changed().await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), ended)
        .await
        .expect("it is ended");
    // It holds this until it is recorded.
    drop(house.policies.changing.lock().await);
    assert!(allows(running));
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    assert_eq!(house.live().await, Some(1));
    let status = house.policies.status().await;
    assert!(status.candidate.is_none());
    assert!(status.notes[0].contains("validity"), "{status:?}");
}

#[tokio::test]
async fn a_rollout_ends_with_the_validity_of_its_candidate() {
    let mut house = House::new();
    let first = house.bundle(1, NETWORK);
    assert!(is_done(&house.policies.publish(first, false).await));
    let running = session(&house, "s1").await;
    let everybody = Share {
        per_mille: 1000,
        ..Share::default()
    };
    let candidate = house.bundle(2, "");
    let roll_out = house
        .policies
        .roll_out(Some(candidate), None, everybody.clone(), None);
    assert!(is_done(&roll_out.await));
    assert!(!allows(&running));
    // At that moment it decides for nobody any more, whenever the clock's task comes to it.
    let end = SystemTime::now();
    {
        let mut state = house.policies.state();
        let loaded = state.candidate.take().unwrap();
        state.candidate = Some(Arc::new(Loaded {
            accepted: loaded.accepted.clone(),
            source: loaded.source.clone(),
            not_after: Some(end),
        }));
        assert_eq!(state.next_moment(SystemTime::now()), Some(end));
    }
    let later = session(&house, "s2").await;
    assert!(allows(&later));
    is_ended(&house, &running).await;
    // Over while no daemon ran.
    let over = House::over(house.bundle(3, ""));
    let bundle = house.keep(&over);
    let mut board = house.policies.state().board.clone();
    board.candidate = Some(Candidate {
        layer: Layer::Organisation,
        bundle,
        stage: Stage::Rollout {
            to: everybody,
            bound: None,
        },
        by: "ada".into(),
        since: 0,
    });
    board.write(&house.policies.board_file).unwrap();
    house.restart();
    let running = session(&house, "s3").await;
    assert!(allows(&running));
    is_ended(&house, &running).await;
    let back = house.kinds(Kind::PolicyRollback);
    assert_eq!(back.len(), 2);
    for record in back {
        assert!(record.message.as_ref().unwrap().contains("validity"));
        assert!(record.principal.is_none(), "nobody asked for it");
    }
}

#[tokio::test]
async fn a_rule_may_want_two_people_where_the_trust_file_wants_one() {
    let (ada, bob) = (key("ada", 1), key("bob", 2));
    let house = House::with_trust(&trust(&[&ada, &bob], 1));
    let two = "@id(\"two\") @people(\"2\") permit (principal, \
               action == Action::\"publish_policy\", resource);\n";
    let first = house.bundle(1, two);
    house.sign(&first, &ada);
    assert!(
        is_done(&house.policies.publish(first, false).await),
        "no such rule yet"
    );
    let second = house.bundle(2, two);
    house.sign(&second, &ada);
    assert!(is_pending(
        &house.policies.publish(second.clone(), false).await
    ));
    assert_eq!(house.live().await, Some(1));
    house.sign(&second, &bob);
    let published = house.policies.publish(second, true).await;
    assert!(is_done(&published), "{published:?}");
    assert_eq!(house.live().await, Some(2));
    // The first has one signature: going back to it wants the other as well.
    assert!(!is_done(&house.policies.roll_back(None, Some(1)).await));
    assert_eq!(house.live().await, Some(2));
}

#[tokio::test]
async fn no_layer_waits_for_another_to_be_replaced() {
    let house = House::with(&[Layer::Organisation, Layer::Team], "");
    let may_start = async |id| house.policies.follow(facts(id), &[], None).await.is_ok();
    // From nothing, whichever comes first.
    assert_eq!(house.brings(&house.team_bundle(1)).await, Taken::Yes);
    assert!(!may_start("s0").await, "the organisation's is missing");
    assert_eq!(house.brings(&house.bundle(1, NETWORK)).await, Taken::Yes);
    assert!(may_start("s1").await);
    // With both over.
    house.ends_at(SystemTime::now());
    assert!(!may_start("s2").await, "both are over");
    let organisation = house.policies.publish(house.bundle(2, NETWORK), false);
    let organisation = organisation.await;
    assert!(is_done(&organisation), "{organisation:?}");
    assert!(!may_start("s3").await, "the team's is over");
    let team = house.policies.publish(house.team_bundle(2), false).await;
    assert!(is_done(&team), "{team:?}");
    assert!(may_start("s4").await);
    // What is over still has its say on what a new one must load beside.
    house.ends_at(SystemTime::now());
    let clash = house.write(
        "crew",
        Layer::Team,
        3,
        "permit (principal, action, resource);",
    );
    assert_eq!(house.brings(&clash).await, Taken::No);
}

#[tokio::test]
async fn a_bundle_of_each_layer_waits_for_its_second_signature() {
    let (ada, bob) = (key("ada", 1), key("bob", 2));
    let house = House::with(
        &[Layer::Organisation, Layer::Team],
        &trust(&[&ada, &bob], 2),
    );
    let both = [house.bundle(1, NETWORK), house.team_bundle(1)];
    for bundle in &both {
        house.sign(bundle, &ada);
    }
    // At every poll; neither takes the other's place.
    for bundle in both.iter().chain(&both) {
        assert_eq!(house.brings(bundle).await, Taken::No);
    }
    let pending = house.policies.status().await.pending;
    assert_eq!(pending.len(), 2, "{pending:?}");
    for bundle in both {
        house.sign(&bundle, &bob);
        let second = house.policies.publish(bundle, true).await;
        assert!(is_done(&second), "{second:?}");
    }
    assert!(house.policies.status().await.pending.is_empty());
    assert_eq!(house.kinds(Kind::PolicyPending).len(), 2);
}

#[tokio::test]
async fn a_moment_that_passed_before_it_was_waited_for_is_dealt_with() {
    let house = House::new();
    house
        .policies
        .publish(house.bundle(1, NETWORK), false)
        .await
        .unwrap();
    let running = session(&house, "s1").await;
    let mut feed = running.changes();
    house.ends_at(SystemTime::now());
    let stop = watch::channel(false).0;
    let mut tasks = watch_policies(&house.policies, &stop).await;
    // And once more while the clock's task is busy with the first.
    for _ in 0..2 {
        tokio::time::timeout(std::time::Duration::from_secs(20), feed.changed())
            .await
            .expect("it is seen")
            .unwrap();
        assert!(!allows(&running));
        house.ends_at(SystemTime::now());
        house.policies.moments.notify_one();
    }
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
}
