//! Asks the solver, one environment after the other: an action, a kind of principal, a kind of
//! resource.
//!
//! The solver is another program: it is started with an empty environment, one process for each
//! question, and killed when the question takes too long. Its answer decides nothing that is listed
//! as a difference; a counterexample counts when our own engine confirms it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use cedar_policy::{EntityTypeName, Policy, PolicyId, PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::{
    CedarSymCompiler, CompiledPolicy, CompiledPolicySet, Env, solver::LocalSolver,
};
use cordon_policy::SCHEMA_TEXT;
use serde::Serialize;
use tokio::process::Command;

use super::{
    Finder, Found,
    pools::Pools,
    realise,
    terms::{Kind, well_formed},
};
use crate::outcome::Change;

/// What to ask, and how.
pub(super) struct Plan<'a> {
    pub(super) solver: &'a Path,
    pub(super) limit: Duration,
    pub(super) checks: bool,
    pub(super) progress: &'a (dyn Fn(&str, usize, usize) + Sync),
}

/// What the solver said.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) environments: Vec<Environment>,
    pub(super) checks: Vec<Check>,
}

/// What the solver says about one environment.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// The action.
    pub action: String,
    /// The kind of principal.
    pub principal: String,
    /// The kind of resource.
    pub resource: String,
    /// Whether anything is newly allowed.
    pub newly_allowed: Verdict,
    /// Whether anything is newly denied.
    pub newly_denied: Verdict,
}

/// An answer to one question.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No request whatever.
    Nothing,
    /// There is one, and our own engine confirms it: it is listed.
    Confirmed,
    /// The solver knows one that our engine does not confirm for any request that we could make of
    /// it: it may rest on facts that no real request has together.
    Unconfirmed,
    /// No answer within the time, or at all, and why.
    Unanswered(String),
}

/// What holds of one rule, or of the whole set for one action, whatever is asked.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What holds.
    pub kind: CheckKind,
    /// The rule's id, or the environment in words.
    pub about: String,
    /// Why there is no answer, where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What can hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// The set allows every request of an environment.
    AlwaysAllows,
    /// The rule never matches.
    NeverFires,
    /// The rule can fail while it is evaluated, which denies the request.
    MayError,
    /// The solver gave no answer.
    Unanswered,
}

impl Environment {
    /// Whether the solver answered, and our engine confirmed what it said.
    pub fn is_answered(&self) -> bool {
        [&self.newly_allowed, &self.newly_denied]
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Nothing | Verdict::Confirmed))
    }
}

/// Where the solver is: `CVC5` (what `set` says), or `cvc5` on the path.
pub fn find_solver(set: Option<PathBuf>, path: Option<std::ffi::OsString>) -> Option<PathBuf> {
    if let Some(solver) = set {
        return Some(solver).filter(|solver| solver.is_file());
    }
    std::env::split_paths(&path?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("cvc5"))
        .find(|solver| solver.is_file())
}

pub(super) fn ask(
    plan: &Plan<'_>,
    pools: &Pools,
    found: &mut Found<'_>,
) -> Result<Answers, String> {
    let (schema, _warnings) =
        Schema::from_cedarschema_str(SCHEMA_TEXT).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(
        Asking {
            plan,
            pools,
            schema: &schema,
        }
        .run(found),
    )
}

struct Asking<'a> {
    plan: &'a Plan<'a>,
    pools: &'a Pools,
    schema: &'a Schema,
}

impl Asking<'_> {
    async fn run(&self, found: &mut Found<'_>) -> Result<Answers, String> {
        let mut answers = Answers::default();
        let mut envs: Vec<RequestEnv> = self.schema.request_envs().collect();
        envs.sort();
        let count = envs.len();
        for (env, number) in envs.iter().zip(1..) {
            let kind = kind(env);
            (self.plan.progress)(&kind.words(), number, count);
            let old = self.of_env(&self.pools.old, env, &kind);
            let new = self.of_env(&self.pools.new, env, &kind);
            let (environment, compiled) = match (old, new) {
                (Ok(old), Ok(new)) => {
                    let newly_allowed = self.implied(&new, &old, Change::NewlyAllowed, found).await;
                    let newly_denied = self.implied(&old, &new, Change::NewlyDenied, found).await;
                    (kind.answered(newly_allowed, newly_denied), Some(new))
                }
                (Err(why), _) | (_, Err(why)) => {
                    let unanswered = Verdict::Unanswered(why);
                    (kind.answered(unanswered.clone(), unanswered), None)
                }
            };
            if let Some(new) = compiled.filter(|_| self.plan.checks) {
                answers.checks.extend(self.always(&new, &kind).await);
            }
            answers.environments.push(environment);
        }
        if self.plan.checks {
            answers.checks.extend(self.rules(&envs).await);
        }
        Ok(answers)
    }

    /// The rules, and beside them what keeps requests well formed.
    fn of_env(
        &self,
        rules: &[Policy],
        env: &RequestEnv,
        kind: &Names,
    ) -> Result<CompiledPolicySet, String> {
        let (condition, _is_whole) = well_formed(
            self.pools,
            &Kind {
                principal: &kind.principal,
                action: &kind.action,
                resource: &kind.resource,
            },
        );
        // Rules of other actions say nothing here, and cost the solver time.
        let applies = |policy: &&Policy| {
            policy
                .get_valid_request_envs(self.schema)
                .any(|valid| valid == *env)
        };
        let mut set = PolicySet::new();
        for policy in rules.iter().filter(applies) {
            set.add(policy.clone()).map_err(|error| error.to_string())?;
        }
        let guard = format!(
            "forbid (principal is {}, action == Action::{:?}, resource is {}) unless {{ {condition} }};",
            kind.principal, kind.action, kind.resource
        );
        let guard = Policy::parse(Some(PolicyId::new(GUARD)), &guard)
            .map_err(|error| format!("the condition of well-formed requests: {error}"))?;
        set.add(guard).map_err(|error| error.to_string())?;
        CompiledPolicySet::compile(&set, env, self.schema).map_err(|error| error.to_string())
    }

    /// Whether `wide` allows only what `narrow` allows.
    async fn implied(
        &self,
        wide: &CompiledPolicySet,
        narrow: &CompiledPolicySet,
        change: Change,
        found: &mut Found<'_>,
    ) -> Verdict {
        let answer = self
            .question(async |solver| {
                solver
                    .check_implies_with_counterexample_opt(wide, narrow)
                    .await
            })
            .await;
        match answer {
            Ok(None) => Verdict::Nothing,
            Ok(Some(env)) => confirm(&env, self.pools, change, found),
            Err(why) => Verdict::Unanswered(why),
        }
    }

    async fn always(&self, set: &CompiledPolicySet, kind: &Names) -> Option<Check> {
        // The guard refuses what is not well formed, so "always" is put as: nothing is refused
        // that the guard alone lets through.
        let open = "permit (principal, action, resource);";
        let open = Policy::parse(Some(PolicyId::new("open")), open).ok()?;
        let env = kind.env.clone();
        let all = self.of_env(std::slice::from_ref(&open), &env, kind).ok()?;
        let answer = self
            .question(async |solver| solver.check_implies_opt(&all, set).await)
            .await;
        let (holds, why) = match answer {
            Ok(true) => (CheckKind::AlwaysAllows, None),
            Ok(false) => return None,
            Err(why) => (CheckKind::Unanswered, Some(why)),
        };
        Some(Check {
            kind: holds,
            about: kind.words(),
            why,
        })
    }

    /// Rules that never match, and rules that can fail, over all environments that they are for.
    async fn rules(&self, envs: &[RequestEnv]) -> Vec<Check> {
        let mut checks = Vec::new();
        for policy in &self.pools.new {
            checks.extend(self.rule(policy, envs).await);
        }
        checks
    }

    async fn rule(&self, policy: &Policy, envs: &[RequestEnv]) -> Vec<Check> {
        let mut never_fires = true;
        let mut may_error = false;
        let mut unanswered = None;
        let valid: Vec<RequestEnv> = policy.get_valid_request_envs(self.schema).collect();
        for env in envs.iter().filter(|env| valid.contains(env)) {
            let compiled = match CompiledPolicy::compile(policy, env, self.schema) {
                Ok(compiled) => compiled,
                Err(error) => {
                    unanswered = Some(error.to_string());
                    continue;
                }
            };
            let fires = self
                .question(async |solver| solver.check_never_matches_opt(&compiled).await)
                .await;
            let errs = self
                .question(async |solver| solver.check_never_errors_opt(&compiled).await)
                .await;
            never_fires &= fires == Ok(true);
            may_error |= errs == Ok(false);
            unanswered = unanswered.or(fires.err()).or(errs.err());
        }
        [
            (never_fires && unanswered.is_none(), CheckKind::NeverFires),
            (may_error, CheckKind::MayError),
            (unanswered.is_some(), CheckKind::Unanswered),
        ]
        .into_iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, kind)| Check {
            kind,
            about: policy.id().to_string(),
            why: unanswered.clone().filter(|_| kind == CheckKind::Unanswered),
        })
        .collect()
    }

    /// One question to a solver of its own, in bounded time. The process is killed with the
    /// question, whatever came of it.
    async fn question<T>(
        &self,
        put: impl AsyncFnOnce(&mut CedarSymCompiler<LocalSolver>) -> cedar_policy_symcc::err::Result<T>,
    ) -> Result<T, String> {
        let seconds = self.plan.limit.as_secs_f64();
        let mut command = Command::new(self.plan.solver);
        command
            .args(["--lang", "smt"])
            .arg(format!("--tlimit={}", self.plan.limit.as_millis()))
            .env_clear()
            .current_dir("/")
            .kill_on_drop(true);
        let solver = LocalSolver::from_command(&mut command).map_err(|error| error.to_string())?;
        let mut compiler = CedarSymCompiler::new(solver).map_err(|error| error.to_string())?;
        match tokio::time::timeout(self.plan.limit, put(&mut compiler)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_elapsed) => Err(format!("no answer within {seconds} s")),
        }
    }
}

/// Believes a counterexample only as far as our engine does.
fn confirm(env: &Env, pools: &Pools, change: Change, found: &mut Found<'_>) -> Verdict {
    let is_confirmed = realise::requests(env, pools)
        .iter()
        .any(|request| found.compare(request, Finder::Solver) == Some(change));
    if is_confirmed {
        Verdict::Confirmed
    } else {
        Verdict::Unconfirmed
    }
}

/// Id of the rule that keeps requests well formed.
const GUARD: &str = " well-formed";

struct Names {
    principal: String,
    action: String,
    resource: String,
    env: RequestEnv,
}

fn kind(env: &RequestEnv) -> Names {
    let name = |kind: &EntityTypeName| kind.to_string();
    Names {
        principal: name(env.principal()),
        action: env.action().id().unescaped().to_owned(),
        resource: name(env.resource()),
        env: env.clone(),
    }
}

impl Names {
    fn words(&self) -> String {
        format!(
            "{} of a {} by a {}",
            self.action, self.resource, self.principal
        )
    }

    fn answered(&self, newly_allowed: Verdict, newly_denied: Verdict) -> Environment {
        Environment {
            action: self.action.clone(),
            principal: self.principal.clone(),
            resource: self.resource.clone(),
            newly_allowed,
            newly_denied,
        }
    }
}
