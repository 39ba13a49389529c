//! Puts one question to the rules that can answer it, and combines what they say.
//!
//! Error, then `forbid`, then `permit`, then nothing: the first of them that there is is the
//! verdict. Only a plain deny is asked again, with an approval that is not there.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, PolicyId, PolicySet};

use super::{
    compile::Ready,
    prepared::{Kept, Prepared, Rules, Topic},
    question::{self, Asker, Question, Unaskable, approval},
    slices::{Slices, Within},
    target::Untargetable,
};
use crate::{ApprovalScope, History, Observe, Request};

/// What a policy set says about a request. Rules are positions in the set.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Allow {
        rules: Vec<usize>,
        /// `forbid` rules that matched and only observe.
        observed: Vec<usize>,
    },
    Forbid {
        rules: Vec<usize>,
    },
    Ask {
        rules: Vec<usize>,
    },
    NoRule,
    Error {
        errors: Vec<String>,
        rules: Vec<usize>,
    },
    Unasked(Untargetable),
}

/// What a snapshot decides by.
#[derive(Clone, Copy)]
pub(crate) struct By<'a> {
    pub(crate) asker: Asker<'a>,
    pub(crate) slices: &'a Slices,
    pub(crate) policies: &'a [Ready],
    pub(crate) kept: &'a Kept,
    pub(crate) authorizer: &'a Authorizer,
    pub(crate) observing: &'a HashMap<usize, Observe>,
}

pub(crate) fn evaluate(request: &Request, approved: Option<ApprovalScope>, by: By<'_>) -> Verdict {
    let prepared = match prepare(request, by) {
        Ok(prepared) => prepared,
        Err(verdict) => return verdict,
    };
    let bench = Bench {
        prepared: &prepared,
        request,
        by,
    };
    if prepared.rules.read_past && *by.asker.past == History::Unknown {
        return error_verdict(NOT_KNOWN.to_owned());
    }
    if let Some(scope) = approved.filter(|_| prepared.can_be_approved) {
        return bench.judge_as_approved(scope);
    }
    let verdict = bench.judge();
    let may_ask = by.asker.uses.approval && prepared.can_be_approved;
    if !may_ask || !matches!(verdict, Verdict::NoRule | Verdict::Forbid { .. }) {
        return verdict;
    }
    match bench.judge_as_approved(ApprovalScope::Once) {
        Verdict::Allow { rules, .. } => Verdict::Ask { rules },
        // An approval would not help; the answer without one stands.
        Verdict::Forbid { .. }
        | Verdict::Ask { .. }
        | Verdict::NoRule
        | Verdict::Error { .. }
        | Verdict::Unasked(_) => verdict,
    }
}

/// The question; kept from the last time where it was asked before.
fn prepare(request: &Request, by: By<'_>) -> Result<Arc<Prepared>, Verdict> {
    let topic = Topic::of(&request.operation);
    if let Some(prepared) = by.kept.find(&request.session, &topic) {
        return Ok(prepared);
    }
    let question = by.asker.ask(request).map_err(unaskable)?;
    let (mut prepared, context, _within) =
        assemble(request, question, by).map_err(error_verdict)?;
    let is_fixed = topic.fixes_context() && !by.asker.uses.time && !prepared.rules.read_past;
    if !prepared.rules.read_context || is_fixed {
        prepared.request = Some(prepared.request_in(context).map_err(error_verdict)?);
    }
    let prepared = Arc::new(prepared);
    by.kept.keep(&request.session, topic, Arc::clone(&prepared));
    Ok(prepared)
}

/// One request as Cedar sees it, to ask it about parts of rules.
pub(crate) struct Subject<'a> {
    pub(crate) request: cedar_policy::Request,
    pub(crate) entities: Entities,
    pub(crate) within: Within<'a>,
}

impl<'a> Subject<'a> {
    pub(crate) fn of(request: &Request, by: By<'a>) -> Result<Self, Verdict> {
        let question = by.asker.ask(request).map_err(unaskable)?;
        let (prepared, context, within) = assemble(request, question, by).map_err(error_verdict)?;
        Ok(Self {
            request: prepared.request_in(context).map_err(error_verdict)?,
            entities: prepared.entities,
            within,
        })
    }
}

impl Prepared {
    /// The question in one context.
    fn request_in(&self, context: question::Context) -> Result<cedar_policy::Request, String> {
        let context = Context::from_pairs(context).map_err(|error| error.to_string())?;
        // No schema: the question is built from typed values, and a test holds it to the schema.
        cedar_policy::Request::new(
            self.principal.clone(),
            self.action.clone(),
            self.resource.clone(),
            context,
            None,
        )
        .map_err(|error| error.to_string())
    }
}

/// The question with the rules that can apply to it, and the entities that they name.
fn assemble<'a>(
    request: &Request,
    question: Question<'a>,
    by: By<'_>,
) -> Result<(Prepared, question::Context, Within<'a>), String> {
    let relevant = by.slices.of(&question.within);
    let mut entities = question.entities;
    let mut known: Option<HashSet<EntityUid>> = None;
    let named = relevant.iter().filter_map(|at| by.policies.get(*at));
    for entity in named.flat_map(|rule| &rule.named) {
        let known = known.get_or_insert_with(|| entities.iter().map(Entity::uid).collect());
        if known.insert(entity.uid()) {
            entities.push(entity.clone());
        }
    }
    let own = entities.split_off(question.shared);
    // Parents are complete for each entity, so nothing hangs on the others' presence.
    let shared = by.kept.store(&request.session, &question.action.uid, || {
        Entities::from_entities(entities, None).map_err(|error| error.to_string())
    })?;
    let store = Entities::clone(&shared)
        .add_entities(own, None)
        .map_err(|error| error.to_string())?;
    let prepared = Prepared {
        can_be_approved: question.can_be_approved,
        entities: store,
        principal: question.principal,
        action: question.action.uid.clone(),
        resource: question.resource,
        rules: by.kept.rules(&relevant, || ready(&relevant, by))?,
        request: None,
        said: OnceLock::new(),
    };
    Ok((prepared, question.context, question.within))
}

/// The rules at these positions, as sets that Cedar evaluates.
fn ready(positions: &[usize], by: By<'_>) -> Result<Rules, String> {
    let mut rules = Rules::default();
    for at in positions {
        let rule = by.policies.get(*at).ok_or("a rule is not in the set")?;
        let set = if by.observing.contains_key(at) {
            &mut rules.observing
        } else {
            &mut rules.enforced
        };
        set.add(rule.policy.clone())
            .map_err(|error| error.to_string())?;
        rules.positions.push((rule.policy.id().clone(), *at));
        rules.read_context |= rule.reads_context;
        rules.read_past |= rule.reads_past;
    }
    rules.positions.sort_unstable();
    Ok(rules)
}

/// Why a rule that looks at the session's past is not evaluated.
const NOT_KNOWN: &str = "a rule looks at what the session did before, and that is not known any more; \
                         start a new session";

fn unaskable(why: Unaskable) -> Verdict {
    match why {
        Unaskable::Target(why) => Verdict::Unasked(why),
        Unaskable::Fact(error) => error_verdict(error),
    }
}

fn error_verdict(error: String) -> Verdict {
    Verdict::Error {
        errors: vec![error],
        rules: Vec::new(),
    }
}

/// Everything that is the same for both evaluations of one request.
struct Bench<'a> {
    prepared: &'a Prepared,
    request: &'a Request,
    by: By<'a>,
}

impl Bench<'_> {
    fn judge(&self) -> Verdict {
        let Some(asked) = &self.prepared.request else {
            return match self.by.asker.context(self.request) {
                Ok(context) => self.judge_in(context),
                Err(why) => unaskable(why),
            };
        };
        // Who finds this question asks the very same one, and Cedar answers it by nothing else.
        let said = self.prepared.said.get().cloned().unwrap_or_else(|| {
            let said = self.put(asked);
            if said.errors.is_empty() {
                // An error may be this thread's own: of how much stack it has left.
                let _kept_by_another = self.prepared.said.set(said.clone());
            }
            said
        });
        self.verdict(said)
    }

    fn judge_as_approved(&self, scope: ApprovalScope) -> Verdict {
        let context = self.by.asker.context(self.request);
        let with_approval = context.and_then(|mut context| {
            context.push(approval(scope)?);
            Ok(context)
        });
        match with_approval {
            Ok(context) => self.judge_in(context),
            Err(why) => unaskable(why),
        }
    }

    fn judge_in(&self, context: question::Context) -> Verdict {
        match self.prepared.request_in(context) {
            Ok(asked) => self.verdict(self.put(&asked)),
            Err(error) => error_verdict(error),
        }
    }

    fn put(&self, asked: &cedar_policy::Request) -> Said {
        let Prepared {
            entities, rules, ..
        } = self.prepared;
        let mut said = Said::default();
        let mut put_to = |set: &PolicySet| {
            let response = self.by.authorizer.is_authorized(asked, set, entities);
            said.add(&response, &rules.positions);
        };
        put_to(&rules.enforced);
        if !rules.observing.is_empty() {
            put_to(&rules.observing);
        }
        said
    }

    /// What that comes to at the time of the request, which rules that only observe go by.
    fn verdict(&self, said: Said) -> Verdict {
        said.verdict(self.by.observing, self.request.at)
    }
}

/// What the rules said, whatever the time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    permits: Vec<usize>,
    forbids: Vec<usize>,
    errors: Vec<String>,
}

impl Said {
    fn add(&mut self, response: &cedar_policy::Response, positions: &[(PolicyId, usize)]) {
        let diagnostics = response.diagnostics();
        let determining = match response.decision() {
            cedar_policy::Decision::Allow => &mut self.permits,
            cedar_policy::Decision::Deny => &mut self.forbids,
        };
        for id in diagnostics.reason() {
            let place = positions.binary_search_by(|(known, _)| known.cmp(id));
            match place.ok().and_then(|place| positions.get(place)) {
                Some((_, at)) => determining.push(*at),
                None => self.errors.push(format!("rule `{id}` is not in the set")),
            }
        }
        self.errors
            .extend(diagnostics.errors().map(ToString::to_string));
    }

    fn verdict(self, observing: &HashMap<usize, Observe>, at: SystemTime) -> Verdict {
        let Self {
            mut permits,
            mut forbids,
            mut errors,
        } = self;
        for rules in [&mut permits, &mut forbids] {
            rules.sort_unstable();
            rules.dedup();
        }
        errors.sort_unstable();
        errors.dedup();
        let is_observing = |rule: &usize| observing.get(rule).is_some_and(|end| end.is_on(at));
        let (observed, forbids): (Vec<_>, Vec<_>) = if observing.is_empty() {
            (Vec::new(), forbids)
        } else {
            forbids.into_iter().partition(is_observing)
        };
        if !errors.is_empty() {
            Verdict::Error {
                errors,
                rules: forbids,
            }
        } else if !forbids.is_empty() {
            Verdict::Forbid { rules: forbids }
        } else if !permits.is_empty() {
            Verdict::Allow {
                rules: permits,
                observed,
            }
        } else {
            Verdict::NoRule
        }
    }
}
