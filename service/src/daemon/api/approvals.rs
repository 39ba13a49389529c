//! Approvals over the API: what waits, one of them, and a person's answer.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Json,
    body::Bytes,
    extract::{Extension, Path, Query, State},
    http::HeaderMap,
};
use cordon_audit::{action_of, rfc3339};
use cordon_policy::{Operation, ask};
use cordon_session::approvals::{Answer, AnswerError, Approval, Given, State as Stands};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Caller, Daemon,
    decide::{LONGEST_WAIT, answered, preferred_wait, unless_stopped},
    events::LARGEST,
    problem::{Code, Problem},
    sessions::read,
};
use crate::daemon::{approvals::NotTaken, policies::AnswerRule};

/// A person's approval of exactly one request of one session.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApprovalView {
    /// Its id.
    id: String,
    /// `pending`, `given`, `used`, `refused`, `expired` or `withdrawn`.
    state: &'static str,
    /// The session that asks.
    session: String,
    /// Whose session it is.
    user: String,
    /// The agent that it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    /// What it asks for, as records call it.
    action: &'static str,
    /// The exact request, in the words of `cordon policy explain`.
    request: String,
    /// What whoever asks says about it, where it does: text of the session's, not to be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<String>,
    /// SHA-256 over the session and the request in words: what is approved.
    digest: String,
    /// How many people must say yes.
    needs: usize,
    /// Of one alone: the rules on who may; all of them decide together, and `explain` asks them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    may_answer: Vec<AnswerRule>,
    /// The question whether somebody may, as `cordon policy explain --user NAME` takes it.
    explain: String,
    /// Who has.
    approved_by: Vec<String>,
    /// Who said no.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_by: Option<String>,
    /// When it was asked, RFC 3339.
    asked: String,
    /// Until when it may be answered, RFC 3339.
    deadline: String,
    /// `once`, `uses` or `session`, where it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    /// For how many uses it is given; absent for as long as the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    uses: Option<u32>,
    /// How many of them are used.
    used: u32,
    /// Until when a use may begin, RFC 3339; absent for as long as the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// Of an answer: the record of the decision that whoever gave it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_id: Option<String>,
}

impl ApprovalView {
    /// Without what the session says of itself: a command may have a secret in it.
    pub fn for_others(self) -> Self {
        Self {
            shown: None,
            ..self
        }
    }
}

/// Several, and where the list stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApprovalList {
    /// Oldest first.
    approvals: Vec<ApprovalView>,
    /// Changes with every change of any of them; `seen` waits for the next.
    revision: u64,
}

/// Which approvals.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Of this session alone.
    session: Option<String>,
    /// In this state alone.
    state: Option<String>,
    /// A revision that the caller has: the answer waits for another one.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    seen: Option<u64>,
    /// Seconds that it waits at most. Default 30, at most 300.
    #[param(maximum = 300)]
    wait: Option<u64>,
}

/// A person's answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAnswer {
    /// Yes or no. No to what was given takes it back.
    answer: Word,
    /// For how much. Default `once`.
    #[serde(default)]
    scope: Scope,
    /// For so many uses, 2 to 1000; goes with the scope `uses`.
    #[schema(minimum = 2, maximum = 1000)]
    uses: Option<u32>,
    /// Seconds in which a use may begin. Default: `hold_seconds` of the configuration; for the
    /// scope `session` its end.
    #[schema(minimum = 1, maximum = 86400)]
    for_seconds: Option<u64>,
    /// Why, for the record; at most 500 bytes.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Yes.
    Approve,
    /// No.
    Deny,
}

/// For how much.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One use.
    #[default]
    Once,
    /// So many uses.
    Uses,
    /// Until the session ends.
    Session,
}

/// What waits, and what was answered lately.
#[utoipa::path(get, path = "/v1/approvals", tag = "approvals", params(Which),
    responses((status = 200, body = ApprovalList), (status = 400, body = Problem)))]
pub async fn list(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    which: Result<Query<Which>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<ApprovalList>, Problem> {
    let Query(which) = which.map_err(|error| Problem::new(Code::Malformed, error.body_text()))?;
    if which.seen.is_some_and(|seen| seen > LARGEST) {
        let why = format!("`seen` is a revision, and none is above {LARGEST}");
        return Err(Problem::new(Code::Malformed, why));
    }
    let wait = Duration::from_secs(which.wait.unwrap_or(30));
    if wait > LONGEST_WAIT {
        let why = format!("`wait` is at most {} seconds", LONGEST_WAIT.as_secs());
        return Err(Problem::new(Code::Malformed, why));
    }
    let mut changes = daemon.approvals.changes();
    if let Some(seen) = which.seen {
        let other = changes.wait_for(|revision| *revision != seen);
        // Late is an answer too: the same list.
        let _late = unless_stopped(&daemon, tokio::time::timeout(wait, other)).await;
    }
    let revision = *changes.borrow_and_update();
    let fits = |approval: &Approval| {
        let of = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|one| one == is);
        of(&which.session, &approval.session.id) && of(&which.state, approval.state.word())
    };
    let mut approvals = Vec::new();
    for one in daemon.approvals.all().iter().filter(|one| fits(one)) {
        if daemon.may_see(&caller.somebody(), one).await {
            approvals.push(view(one));
        }
    }
    Ok(Json(ApprovalList {
        approvals,
        revision,
    }))
}

/// One of them. With `Prefer: wait=SECONDS` the answer waits until somebody has answered.
#[utoipa::path(get, path = "/v1/approvals/{id}", tag = "approvals",
    params(("id" = String, Path, description = "Approval id")),
    responses((status = 200, body = ApprovalView), (status = 404, body = Problem)))]
pub async fn show(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ApprovalView>, Problem> {
    let approval = daemon.approvals.get(&id).ok_or_else(unknown)?;
    // To whoever may not see it, it is not there.
    if !daemon.may_see(&caller.somebody(), &approval).await {
        return Err(unknown());
    }
    let wait = preferred_wait(&headers);
    if !wait.is_zero() {
        answered(&daemon, &id, wait).await;
    }
    let approval = daemon.approvals.get(&id).ok_or_else(unknown)?;
    let rules = daemon.rules_on_answers(&approval).await;
    Ok(Json(ApprovalView {
        may_answer: rules.map_err(Problem::from)?,
        ..view(&approval)
    }))
}

/// A person's answer, where policy permits them to give it (`approve`).
#[utoipa::path(post, path = "/v1/approvals/{id}", tag = "approvals",
    params(("id" = String, Path, description = "Approval id")), request_body = NewAnswer,
    responses((status = 200, body = ApprovalView), (status = 400, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)))]
pub async fn answer(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<ApprovalView>, Problem> {
    let asked: NewAnswer = read(&body)?;
    let hold = daemon.approvals_config.hold();
    let said = said(&asked, hold).map_err(|why| Problem::new(Code::Malformed, why))?;
    let who = caller.somebody();
    let taken = daemon.answer(&id, &who, caller.pid, &said, asked.reason);
    match taken.await {
        Ok((approval, decision)) => Ok(Json(ApprovalView {
            decision_id: Some(decision.to_string()),
            ..view(&approval)
        })),
        Err(not_taken) => Err(problem(not_taken)),
    }
}

/// What was said, within its bounds.
fn said(asked: &NewAnswer, hold: Duration) -> Result<Answer, String> {
    if asked.reason.as_ref().is_some_and(|why| why.len() > 500) {
        return Err("`reason` has more than 500 bytes".into());
    }
    if asked
        .for_seconds
        .is_some_and(|time| !(1..=86_400).contains(&time))
    {
        return Err("`for_seconds` is 1 to 86400".into());
    }
    let Word::Approve = asked.answer else {
        return Ok(Answer::No);
    };
    let uses = match (asked.scope, asked.uses) {
        (Scope::Once, None) => Some(1),
        (Scope::Uses, Some(uses)) if (2..=1_000).contains(&uses) => Some(uses),
        (Scope::Session, None) => None,
        (Scope::Uses, _) => return Err("the scope `uses` takes `uses`, 2 to 1000".into()),
        (Scope::Once | Scope::Session, Some(_)) => {
            return Err("`uses` goes with the scope `uses` alone".into());
        }
    };
    let asked_for = asked.for_seconds.map(Duration::from_secs);
    let hold = match asked.scope {
        Scope::Session => asked_for,
        Scope::Once | Scope::Uses => Some(asked_for.unwrap_or(hold)),
    };
    Ok(Answer::Yes { uses, hold })
}

fn problem(not_taken: NotTaken) -> Problem {
    match not_taken {
        NotTaken::Answer(AnswerError::Unknown) => unknown(),
        NotTaken::Answer(AnswerError::NotAnswered(why)) => {
            Problem::new(Code::Conflict, why.to_string())
        }
        NotTaken::Answer(AnswerError::NotRecorded(error)) => {
            Problem::new(Code::NotRecorded, error.to_string())
        }
        NotTaken::Who(stopped) => stopped.into(),
    }
}

fn unknown() -> Problem {
    let help = "GET /v1/approvals lists them; those of a session go with it";
    Problem::new(Code::NoApproval, "no approval has this id").help(Some(help.into()))
}

/// An approval as everybody outside its session sees it.
pub fn view(approval: &Approval) -> ApprovalView {
    let given: Option<&Given> = match &approval.state {
        Stands::Pending(given) | Stands::Expired(given) => given.as_ref(),
        Stands::Given(given) => Some(given),
        Stands::Refused { .. } | Stands::Withdrawn => None,
    };
    let is_given = matches!(approval.state, Stands::Given(_));
    ApprovalView {
        id: approval.id.to_string(),
        state: approval.state.word(),
        session: approval.session.id.clone(),
        user: approval.session.user.clone(),
        agent: approval.session.agent.clone(),
        action: action_of(&approval.operation),
        request: ask::words(&approval.operation),
        shown: approval.shown.as_deref().map(Into::into),
        digest: approval.digest.to_string(),
        needs: approval.needs,
        may_answer: Vec::new(),
        explain: ask::words(&Operation::Approve {
            asking: Arc::clone(&approval.session),
        }),
        approved_by: given.map_or_else(Vec::new, |given| {
            given.by.iter().map(ToString::to_string).collect()
        }),
        refused_by: match &approval.state {
            Stands::Refused { by, .. } => Some(by.to_string()),
            _ => None,
        },
        asked: time(approval.asked),
        deadline: time(approval.deadline),
        scope: given
            .filter(|_| is_given)
            .map(|given| given.scope().as_str()),
        uses: given.filter(|_| is_given).and_then(|given| given.uses),
        used: given.map_or(0, |given| given.used),
        until: given
            .filter(|_| is_given)
            .and_then(|given| given.until)
            .map(time),
        decision_id: None,
    }
}

fn time(at: SystemTime) -> String {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    rfc3339(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_for_how_much_or_is_none() {
        let read = |text: &str| {
            let asked: NewAnswer = serde_json::from_str(text).map_err(|error| error.to_string())?;
            said(&asked, Duration::from_secs(60))
        };
        let yes = |uses, hold: Option<u64>| {
            Ok(Answer::Yes {
                uses,
                hold: hold.map(Duration::from_secs),
            })
        };
        for (text, expected) in [
            (r#"{"answer": "approve"}"#, yes(Some(1), Some(60))),
            (
                r#"{"answer": "approve", "for_seconds": 5}"#,
                yes(Some(1), Some(5)),
            ),
            (
                r#"{"answer": "approve", "scope": "uses", "uses": 3}"#,
                yes(Some(3), Some(60)),
            ),
            (
                r#"{"answer": "approve", "scope": "session"}"#,
                yes(None, None),
            ),
            (r#"{"answer": "deny"}"#, Ok(Answer::No)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        for text in [
            "{}",
            r#"{"answer": "maybe"}"#,
            r#"{"answer": "approve", "uses": 3}"#,
            r#"{"answer": "approve", "scope": "uses"}"#,
            r#"{"answer": "approve", "scope": "uses", "uses": 1}"#,
            r#"{"answer": "approve", "scope": "uses", "uses": 1001}"#,
            r#"{"answer": "approve", "scope": "session", "uses": 2}"#,
            r#"{"answer": "approve", "for_seconds": 0}"#,
            r#"{"answer": "approve", "for_seconds": 86401}"#,
            r#"{"answer": "approve", "surprise": 1}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
