//! For tests: policy sets from text, sessions, and a real log with decisions in it.

use std::{sync::Arc, time::SystemTime};

use cordon_audit::{Log, LogOptions, read::Reader};
use cordon_policy::{
    Backend, Decision, Request, SessionFacts, Snapshot, ask,
    source::{PolicyFile, PolicySource},
};
use tempfile::TempDir;

/// A set of one file of rules and one of data.
pub(crate) fn set(rules: &str, data: &str) -> PolicySource {
    PolicySource::new(
        "t",
        vec![
            PolicyFile::new("t.cedar", rules),
            PolicyFile::new("t.toml", data),
        ],
    )
}

pub(crate) fn loaded(rules: &str) -> Snapshot {
    Snapshot::load(&set(rules, "")).unwrap_or_else(|error| panic!("{error}: {rules}"))
}

pub(crate) fn session(id: &str, user: &str, agent: Option<&str>) -> SessionFacts {
    SessionFacts {
        id: id.into(),
        user: user.into(),
        groups: vec!["staff".into()],
        agent: agent.map(str::to_owned),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    }
}

pub(crate) fn asked(session: &SessionFacts, words: &str) -> Request {
    Request {
        session: Arc::new(session.clone()),
        operation: ask::parse(words).unwrap_or_else(|error| panic!("{words}: {error}")),
        at: SystemTime::now(),
    }
}

/// A log of what `snapshot` decided about `requests`, each session's start before.
pub(crate) struct Recorded {
    folder: TempDir,
}

impl Recorded {
    pub(crate) fn of(snapshot: &Snapshot, requests: Vec<Request>) -> Self {
        Self::by(requests, |request| snapshot.decide(request))
    }

    /// Each session's start decided by the same.
    pub(crate) fn by(requests: Vec<Request>, decide: impl Fn(Request) -> Decision) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let log = Log::open(&folder.path().join("log"), LogOptions::default()).unwrap();
            let mut started = std::collections::HashSet::new();
            for request in requests {
                if started.insert(request.session.id.clone()) {
                    let start = asked(&request.session, "start true");
                    let _recorded = log.record(decide(start)).await.unwrap();
                }
                let _recorded = log.record(decide(request)).await.unwrap();
            }
            log.close();
        });
        Self { folder }
    }

    pub(crate) fn log(&self) -> Reader {
        Reader::open(&self.folder.path().join("log")).unwrap()
    }
}

/// A rule that lets sessions start, so that a set of it is no more than that.
pub(crate) const START: &str =
    "@id(\"start\") permit (principal, action == Action::\"start_session\", resource);\n";
