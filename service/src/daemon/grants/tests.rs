use cordon_audit::{Log, LogOptions};
use cordon_policy::{Backend, GrantSource, SessionFacts};
use cordon_session::config::PolicyConfig;

use super::*;
use crate::{
    daemon::{
        approvals::own::Holder,
        hosted::Kept,
        policies::{Brought, Policies},
    },
    user::User,
};

/// A session without walls that has one folder, `rw`, under a policy that permits these actions.
struct Room {
    folder: tempfile::TempDir,
    policies: Policies,
    live: Arc<Live>,
}

fn rules(folder: &Path, actions: &str) -> PathBuf {
    let file = folder.join("rules.cedar");
    let rule = format!("@id(\"may\") permit (principal, action in [{actions}], resource);\n");
    std::fs::write(&file, rule).unwrap();
    file
}

impl Room {
    async fn new(actions: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(&folder.path().join("log"), LogOptions::default()).unwrap();
        let user = User {
            name: "ada".into(),
            groups: Vec::new(),
            home: None,
        };
        let directory = folder.path().join("policy");
        let policies = Policies::new(PolicyConfig::default(), &directory, user, log, None).unwrap();
        let facts = SessionFacts {
            id: "0193-a".into(),
            user: "ada".into(),
            groups: Vec::new(),
            agent: None,
            platform: "linux".into(),
            backend: Backend::None,
        };
        let made = GrantMade {
            path: "/srv/work".into(),
            inside: "/sessions/0193-a/mnt/work".into(),
            mode: GrantMode::Rw,
            source: GrantSource::Api,
            identity: (0, 0),
            directory: true,
            preserve: false,
            copied_up_to: None,
            names_stay: false,
            rule: String::new(),
            decision: String::new(),
        };
        let kept = Kept {
            facts: facts.clone(),
            program: "true".into(),
            policy: Vec::new(),
            workspace: None,
            grants: Vec::new(),
            holder: Holder::default(),
            hook: None,
            key: None,
            tokens: Vec::new(),
            ends: None,
            idle_seconds: None,
            leave: None,
        };
        let files = [rules(folder.path(), actions)];
        let follower = policies.follow(Arc::new(facts), &files, None);
        let follower = follower.await.unwrap();
        follower.hold([as_operation(&made)]);
        let live = Live::new(follower, "true", 1, String::new(), vec![made]);
        let live = Arc::new(live.kept_in(folder.path().join("hosted"), kept));
        Self {
            folder,
            policies,
            live,
        }
    }

    async fn permit(&self, actions: &str) {
        let file = rules(self.folder.path(), actions);
        let brought = Brought::of_paths(&[file], None).await.unwrap();
        let policy = self.live.policy();
        self.policies.bring(policy, &Arc::new(brought)).await;
    }

    /// To `ro`, and what there is then.
    async fn narrow(&self) -> (Answer, Vec<GrantMode>) {
        let made = held(&self.live)[0].clone();
        let changed = GrantMade {
            mode: GrantMode::Ro,
            ..made.clone()
        };
        let answer = change(&self.live, &made, changed, false, "ada").await;
        let modes = held(&self.live).iter().map(|made| made.mode).collect();
        (answer, modes)
    }
}

const RO: &str = "Action::\"grant_ro\"";
const RW: &str = "Action::\"grant_rw\"";
const OTHER: &str = "Action::\"start_session\"";

#[tokio::test]
async fn n19_a_folder_that_policy_refuses_does_not_stay_as_less() {
    let room = Room::new(RW).await;
    room.permit(OTHER).await;
    // The refusal waits to be carried out, and is of a folder that is `rw`.
    let (answer, modes) = room.narrow().await;
    let told =
        matches!(&answer, Answer::Failed { message, .. } if message.contains("refuses it now"));
    assert!(told, "{answer:?}");
    assert_eq!(modes, []);
    let mut refusals = room.live.policy().take_refusals().unwrap();
    assert!(refusals.try_recv().is_ok(), "the control");
}

#[tokio::test]
async fn less_needs_no_permission_and_stays_where_policy_allows_it() {
    for (before, meanwhile) in [(RW, None), (RW, Some(RW)), (RW, Some(RO))] {
        let room = Room::new(before).await;
        if let Some(actions) = meanwhile {
            room.permit(actions).await;
        }
        let (answer, modes) = room.narrow().await;
        let given = matches!(&answer, Answer::Session(SessionAnswer::Granted { .. }));
        assert!(given, "{meanwhile:?}: {answer:?}");
        assert_eq!(modes, [GrantMode::Ro]);
        // Held as what it is now.
        room.permit(OTHER).await;
        let refused = room.live.policy().refused_grants();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].contains("ro"), "{refused:?}");
    }
}
