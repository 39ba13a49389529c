//! Approvals through the gate and the log: what counts, when, and what a restart knows.

use cordon_audit::{LogOptions, Recorded};
use cordon_policy::{Backend, Decision, DenyReason, Operation, Request, Snapshot, ask, source};

use super::*;
use crate::{Durability, Gate, GateError};

const RULES: &str = "@id(\"open\") permit (principal, action == Action::\"connect\", resource == Host::\"open.test\");
@id(\"ask\") permit (principal, action == Action::\"connect\", resource) when { context has approval };
@id(\"two\") @approvers(\"2\") permit (principal, action == Action::\"http_delete\", resource) when { context has approval };
@id(\"never\") forbid (principal, action, resource == Host::\"never.test\");";

struct World {
    gate: Gate,
    approvals: Arc<Approvals>,
    log: Log,
    _directory: tempfile::TempDir,
}

fn facts() -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: "s".into(),
        user: "ann".into(),
        groups: Vec::new(),
        agent: None,
        platform: "linux".into(),
        backend: Backend::None,
    })
}

impl World {
    fn new() -> Self {
        Self::by(RULES)
    }

    fn by(rules: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(&directory.path().join("log"), LogOptions::default()).unwrap();
        Self::over(rules, log, directory)
    }

    /// As a daemon that starts over this log: what it knows is what the log has.
    fn again(self) -> Self {
        Self::over(RULES, self.log, self._directory)
    }

    fn over(rules: &str, log: Log, directory: tempfile::TempDir) -> Self {
        let files = vec![source::PolicyFile::new("test.cedar", rules)];
        let snapshot = Snapshot::load(&source::PolicySource::new("test", files)).unwrap();
        let gate = Gate::new(facts(), Arc::new(snapshot), log.clone());
        let approvals = Arc::new(Approvals::new(log.clone(), Duration::from_secs(600)));
        approvals.enter(gate.session(), &log.session("s").unwrap());
        gate.ask_people(Arc::clone(&approvals));
        Self {
            gate,
            approvals,
            log,
            _directory: directory,
        }
    }

    /// `Ok` with the approval that it rests on, `Err` with the one that it waits for.
    async fn try_to(&self, words: &str) -> Result<Option<String>, Option<String>> {
        let operation = ask::parse(words).unwrap();
        let named = |approval: &Option<Box<ApprovalRef>>| {
            approval.as_ref().map(|approval| approval.id.to_string())
        };
        match self.gate.admit(operation, Durability::Written).await {
            Ok(permit) => Ok(named(&permit.basis().approval)),
            Err(GateError::Denied(denied)) => Err(named(&denied.verdict().basis.approval)),
            Err(GateError::NotRecorded(error)) => panic!("{error}"),
        }
    }

    async fn waits(&self, words: &str) -> String {
        self.try_to(words).await.unwrap_err().unwrap()
    }

    async fn yes(&self, id: &str, uses: Option<u32>) -> Result<Approval, AnswerError> {
        let hold = Some(Duration::from_secs(60));
        let answer = Answer::Yes { uses, hold };
        self.approvals.answer(id, "bob", &answer, None).await
    }

    fn steps(&self) -> Vec<String> {
        let records = self.log.session("s").unwrap();
        let steps = records.iter().filter_map(|record| {
            let approval = record.approval.as_ref()?;
            let what = match (&record.state, record.effect) {
                (Some(state), _) => state.clone(),
                (None, Some(effect)) => effect.as_str().into(),
                (None, None) => return None,
            };
            Some(
                format!("{what} {}", approval.by.join("+"))
                    .trim()
                    .to_owned(),
            )
        });
        steps.collect()
    }
}

#[tokio::test]
async fn p04_exactly_what_was_asked_is_approved_and_every_step_is_a_record() {
    let world = World::new();
    assert_eq!(world.try_to("connect open.test:443").await, Ok(None));
    let id = world.waits("connect a.test:443").await;
    assert_eq!(world.waits("connect a.test:443").await, id, "it waits once");
    world.yes(&id, Some(1)).await.unwrap();
    // The changed request is another one, and waits by itself.
    for changed in [
        "connect a.test:444",
        "connect b.test:443",
        "connect a.test:443 via socks5",
    ] {
        assert_ne!(world.waits(changed).await, id, "{changed}");
    }
    assert_eq!(world.try_to("connect never.test:443").await, Err(None));
    assert_eq!(
        world.try_to("connect a.test:443").await,
        Ok(Some(id.clone()))
    );
    let next = world.waits("connect a.test:443").await;
    assert_ne!(next, id, "used up: a person is asked again");
    let steps = world.steps();
    let expected = [
        "requested",
        "ask",
        "ask",
        "granted bob",
        "requested",
        "ask",
        "requested",
        "ask",
        "requested",
        "ask",
        "allow bob",
        "requested",
        "ask",
    ];
    assert_eq!(steps, expected);
}

#[tokio::test]
async fn p04_what_an_approval_let_begin_goes_on_until_it_is_taken_back() {
    let world = World::new();
    let id = world.waits("connect a.test:443").await;
    let operation = || ask::parse("connect a.test:443").unwrap();
    assert!(world.gate.review(operation()).is_err());
    world.yes(&id, None).await.unwrap();
    assert!(
        world.gate.review(operation()).is_err(),
        "nothing was begun yet"
    );
    assert!(world.gate.look(operation()).is_ok());
    world.try_to("connect a.test:443").await.unwrap();
    let seen = ask::parse("connect a.test:443 tls hello sni a.test cname b.test").unwrap();
    assert!(
        world.gate.review(seen).is_ok(),
        "what is seen of it later is the same request"
    );
    let no = world.approvals.answer(&id, "eve", &Answer::No, None).await;
    assert_eq!(no.unwrap().state, State::Withdrawn);
    assert!(world.gate.review(operation()).is_err());
    assert!(world.gate.look(operation()).is_err());
}

#[tokio::test]
async fn who_said_no_is_not_asked_again_and_two_means_two() {
    let world = World::new();
    let id = world.waits("connect a.test:443").await;
    world
        .approvals
        .answer(&id, "bob", &Answer::No, None)
        .await
        .unwrap();
    assert_eq!(world.waits("connect a.test:443").await, id);
    assert!(world.yes(&id, None).await.is_err(), "answered twice");
    let two = world.waits("DELETE http://a.test/x").await;
    assert_eq!(
        world.yes(&two, Some(1)).await.unwrap().state.word(),
        "pending"
    );
    assert_eq!(world.waits("DELETE http://a.test/x").await, two);
    assert!(
        world.yes(&two, Some(1)).await.is_err(),
        "the same person twice"
    );
    let yes = Answer::Yes {
        uses: None,
        hold: None,
    };
    world
        .approvals
        .answer(&two, "eve", &yes, None)
        .await
        .unwrap();
    assert_eq!(world.try_to("DELETE http://a.test/x").await, Ok(Some(two)));
    assert!(world.steps().contains(&"allow bob+eve".to_owned()));
}

/// One person for a session that read nothing secret, two after that.
const LABELLED: &str = "@id(\"vault\") @label(\"secret\") permit (principal, action == Action::\"connect\", resource == Host::\"vault.test\");
@id(\"one\") permit (principal, action == Action::\"connect\", resource)
when { context has approval && !context.session.labels.contains(\"secret\") };
@id(\"two\") @approvers(\"2\") permit (principal, action == Action::\"connect\", resource)
when { context has approval && context.session.labels.contains(\"secret\") };";

#[tokio::test]
async fn p04_as_many_people_are_wanted_as_when_it_is_used() {
    let world = World::by(LABELLED);
    let given = world.waits("connect a.test:443").await;
    world.yes(&given, None).await.unwrap();
    let pending = world.waits("connect b.test:443").await;
    let operation = || ask::parse("connect a.test:443").unwrap();
    assert_eq!(
        world.try_to("connect a.test:443").await,
        Ok(Some(given.clone())),
        "the control"
    );
    assert!(world.gate.review(operation()).is_ok());

    assert_eq!(world.try_to("connect vault.test:443").await, Ok(None));

    assert!(world.gate.review(operation()).is_err());
    assert!(world.gate.look(operation()).is_err());
    let again = world.waits("connect a.test:443").await;
    assert_ne!(again, given);
    assert_eq!(world.waits("connect b.test:443").await, pending);
    for id in [&again, &pending] {
        let one = world.yes(id, None).await.unwrap();
        assert_eq!((one.state.word(), one.needs), ("pending", 2));
        let yes = Answer::Yes {
            uses: None,
            hold: None,
        };
        world.approvals.answer(id, "eve", &yes, None).await.unwrap();
    }
    assert_eq!(world.try_to("connect a.test:443").await, Ok(Some(again)));
    assert_eq!(world.try_to("connect b.test:443").await, Ok(Some(pending)));
}

#[tokio::test]
async fn p04_a_person_is_asked_and_it_is_refused_also_where_who_wanted_it_went_away() {
    let world = World::new();
    tokio::select! {
        biased;
        done = world.try_to("connect a.test:443") => panic!("it waits for the disk: {done:?}"),
        () = std::future::ready(()) => {}
    }
    while world.steps() != ["requested", "ask"] {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.approvals.all().len(), 1);
}

#[tokio::test]
async fn what_a_daemon_knew_the_next_one_reads_from_the_log() {
    let world = World::new();
    let pending = world.waits("connect a.test:443").await;
    let used = world.waits("connect b.test:443").await;
    let left = world.waits("connect c.test:443").await;
    let refused = world.waits("connect d.test:443").await;
    let half = world.waits("DELETE http://a.test/x").await;
    world.yes(&used, Some(1)).await.unwrap();
    world.yes(&left, Some(3)).await.unwrap();
    world.yes(&half, None).await.unwrap();
    world
        .approvals
        .answer(&refused, "bob", &Answer::No, None)
        .await
        .unwrap();
    for host in ["b", "c"] {
        world
            .try_to(&format!("connect {host}.test:443"))
            .await
            .unwrap();
    }
    let world = world.again();
    let words: Vec<&str> = world
        .approvals
        .all()
        .iter()
        .map(|one| one.state.word())
        .collect();
    assert_eq!(words, ["pending", "used", "given", "refused", "pending"]);
    assert_eq!(world.waits("connect a.test:443").await, pending);
    assert_ne!(world.waits("connect b.test:443").await, used);
    assert_eq!(world.waits("connect d.test:443").await, refused);
    for _left in 0..2 {
        assert_eq!(
            world.try_to("connect c.test:443").await,
            Ok(Some(left.clone()))
        );
    }
    assert_ne!(
        world.waits("connect c.test:443").await,
        left,
        "three uses in all"
    );
    world.yes(&pending, Some(1)).await.unwrap();
    assert_eq!(world.try_to("connect a.test:443").await, Ok(Some(pending)));
    assert!(
        world.yes(&half, None).await.is_err(),
        "the one who said yes is remembered"
    );
}

#[tokio::test]
async fn what_is_late_is_over_and_so_is_what_a_session_leaves() {
    let world = World::new();
    let short = Arc::new(Approvals::new(world.log.clone(), Duration::ZERO));
    short.enter(world.gate.session(), &[]);
    let deny = || {
        let request = Request {
            session: facts(),
            operation: ask::parse("connect a.test:443").unwrap(),
            at: SystemTime::now(),
        };
        Decided::<Deny>::deny(
            Asked::Request(request),
            DenyReason::ApprovalRequired,
            cordon_policy::Basis::default(),
        )
    };
    let asked = short.ask(deny()).await.unwrap();
    let id = asked
        .verdict()
        .basis
        .approval
        .as_ref()
        .unwrap()
        .id
        .to_string();
    let yes = Answer::Yes {
        uses: None,
        hold: None,
    };
    let late = short.answer(&id, "bob", &yes, None).await.unwrap_err();
    assert!(matches!(
        late,
        AnswerError::NotAnswered(NotAnswered::Expired)
    ));
    assert_eq!(short.expire().await, None);
    assert_eq!(short.get(&id).unwrap().state, State::Expired(None));
    // The end of the session.
    let open = world.waits("connect b.test:443").await;
    world.yes(&open, None).await.unwrap();
    world.approvals.leave("s").await;
    assert_eq!(
        world.try_to("connect b.test:443").await,
        Err(None),
        "and nobody is asked any more"
    );
    assert!(matches!(
        world.yes(&open, None).await,
        Err(AnswerError::Unknown)
    ));
    assert!(world.steps().contains(&"withdrawn".to_owned()));
}

#[tokio::test]
async fn only_so_many_wait() {
    let world = World::new();
    for port in 1..=MOST_PENDING {
        world.waits(&format!("connect a.test:{port}")).await;
    }
    assert_eq!(world.try_to("connect a.test:9999").await, Err(None));
    assert_eq!(world.approvals.all().len(), MOST_PENDING);
}

#[tokio::test]
async fn p04_a_record_of_another_request_approves_nothing() {
    let world = World::new();
    let id = world.waits("connect a.test:443").await;
    world.yes(&id, None).await.unwrap();
    let mut records = world.log.session("s").unwrap();
    for record in &mut records {
        if let Some(net) = &mut record.net {
            net.host = Some("evil.test".into());
        }
        if let Some(resource) = &mut record.resource {
            resource.id = "evil.test:443".into();
        }
    }
    assert!(past::approvals(&facts(), &records).is_empty());
    // The twin: as they were they are read.
    let whole = world.log.session("s").unwrap();
    assert_eq!(past::approvals(&facts(), &whole).len(), 1);
}

/// A use of an approval is on disk before anything is done by it, whatever the caller asked for.
#[tokio::test]
async fn a_decision_by_an_approval_names_it_in_its_record() {
    let world = World::new();
    let id = world.waits("connect a.test:443").await;
    world.yes(&id, Some(1)).await.unwrap();
    let operation: Operation = ask::parse("connect a.test:443").unwrap();
    let permit = world
        .gate
        .admit(operation, Durability::Written)
        .await
        .unwrap();
    let records = world.log.session("s").unwrap();
    let record = records
        .iter()
        .find(|record| record.id == permit.id())
        .unwrap();
    let approval = record.approval.as_ref().unwrap();
    assert_eq!(
        (approval.reference.as_str(), &approval.by[..]),
        (id.as_str(), &["bob".to_owned()][..])
    );
    assert_eq!(approval.scope.as_deref(), Some("once"));
    // Nobody makes an allow of a refusal: the twin.
    let request = permit.request().clone();
    let deny = Decided::<Deny>::deny(
        Asked::Request(request),
        DenyReason::Rule,
        permit.basis().clone(),
    );
    let recorded = world.log.record(Decision::Deny(deny)).await.unwrap();
    assert!(matches!(recorded, Recorded::Deny(_)));
}
