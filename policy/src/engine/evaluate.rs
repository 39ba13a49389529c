//! Puts one question to the rules that can answer it, and combines what they say.
//!
//! Error, then `forbid`, then `permit`, then nothing: the first of them that there is is the
//! verdict. Only a plain deny is asked again, with an approval that is not there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, PolicyId, PolicySet};

use super::{
    compile::Ready,
    prepared::{Kept, Prepared},
    question::{self, Asker, Question, Unaskable, hypothetical_approval},
    slices::{Slices, Within},
    target::{Target, Untargetable},
};
use crate::{Observe, Request};

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
pub(crate) struct Rules<'a> {
    pub(crate) asker: Asker<'a>,
    pub(crate) slices: &'a Slices,
    pub(crate) policies: &'a [Ready],
    pub(crate) kept: &'a Kept,
    pub(crate) authorizer: &'a Authorizer,
    pub(crate) order: &'a HashMap<PolicyId, usize>,
    pub(crate) observing: &'a HashMap<usize, Observe>,
}

pub(crate) fn evaluate(request: &Request, rules: Rules<'_>) -> Verdict {
    let (prepared, context) = match prepare(request, rules) {
        Ok(question) => question,
        Err(verdict) => return verdict,
    };
    let bench = Bench {
        prepared: &prepared,
        context: &context,
        at: request.at,
        rules,
    };
    let verdict = bench.judge(context.clone());
    let may_ask = rules.asker.uses.approval && prepared.can_be_approved;
    if !may_ask || !matches!(verdict, Verdict::NoRule | Verdict::Forbid { .. }) {
        return verdict;
    }
    match bench.judge_as_approved() {
        Verdict::Allow { rules, .. } => Verdict::Ask { rules },
        // An approval would not help; the answer without one stands.
        Verdict::Forbid { .. }
        | Verdict::Ask { .. }
        | Verdict::NoRule
        | Verdict::Error { .. }
        | Verdict::Unasked(_) => verdict,
    }
}

/// The question and its context; kept from the last time where it was asked before.
fn prepare(
    request: &Request,
    rules: Rules<'_>,
) -> Result<(Arc<Prepared>, question::Context), Verdict> {
    let target = Target::of(request).map_err(Verdict::Unasked)?;
    if let Some(prepared) = rules.kept.find(&request.session, &target) {
        return Ok((prepared, rules.asker.context(request).map_err(unaskable)?));
    }
    let question = rules.asker.ask(request).map_err(unaskable)?;
    let (prepared, context, _within) = assemble(question, rules).map_err(error_verdict)?;
    let prepared = Arc::new(prepared);
    rules.kept.keep(&request.session, &target, &prepared);
    Ok((prepared, context))
}

/// One request as Cedar sees it, to ask it about parts of rules.
pub(crate) struct Subject<'a> {
    pub(crate) request: cedar_policy::Request,
    pub(crate) entities: Entities,
    pub(crate) within: Within<'a>,
}

impl<'a> Subject<'a> {
    pub(crate) fn of(request: &Request, rules: Rules<'a>) -> Result<Self, Verdict> {
        let question = rules.asker.ask(request).map_err(unaskable)?;
        let (prepared, context, within) = assemble(question, rules).map_err(error_verdict)?;
        Ok(Self {
            request: prepared.request(context).map_err(error_verdict)?,
            entities: prepared.entities,
            within,
        })
    }
}

impl Prepared {
    /// The question in one context.
    fn request(&self, context: question::Context) -> Result<cedar_policy::Request, String> {
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
    question: Question<'a>,
    rules: Rules<'_>,
) -> Result<(Prepared, question::Context, Within<'a>), String> {
    let relevant = rules.slices.of(&question.within);
    let mut entities = question.entities;
    let mut known: Option<HashSet<EntityUid>> = None;
    let (mut enforced, mut observing) = (PolicySet::new(), PolicySet::new());
    for at in relevant {
        let rule = rules.policies.get(at).ok_or("a rule is not in the set")?;
        let set = if rules.observing.contains_key(&at) {
            &mut observing
        } else {
            &mut enforced
        };
        set.add(rule.policy.clone())
            .map_err(|error| error.to_string())?;
        for entity in &rule.named {
            let known = known.get_or_insert_with(|| entities.iter().map(Entity::uid).collect());
            if known.insert(entity.uid()) {
                entities.push(entity.clone());
            }
        }
    }
    let prepared = Prepared {
        can_be_approved: question.can_be_approved,
        // Parents are complete for each entity, so nothing hangs on the others' presence.
        entities: Entities::from_entities(entities, None).map_err(|error| error.to_string())?,
        principal: question.principal,
        action: question.action.uid.clone(),
        resource: question.resource,
        rules: enforced,
        observing,
    };
    Ok((prepared, question.context, question.within))
}

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
    context: &'a question::Context,
    at: SystemTime,
    rules: Rules<'a>,
}

impl Bench<'_> {
    fn judge(&self, context: question::Context) -> Verdict {
        match self.put(context) {
            Ok(tally) => tally.verdict(self.rules.observing, self.at),
            Err(error) => error_verdict(error),
        }
    }

    fn judge_as_approved(&self) -> Verdict {
        match hypothetical_approval() {
            Ok(approval) => {
                let mut context = self.context.clone();
                context.push(approval);
                self.judge(context)
            }
            Err(error) => error_verdict(format!("{error:?}")),
        }
    }

    fn put(&self, context: question::Context) -> Result<Tally, String> {
        let request = self.prepared.request(context)?;
        let mut tally = Tally::default();
        let Prepared {
            rules, observing, ..
        } = self.prepared;
        let mut put_to = |set: &PolicySet| {
            let authorizer = self.rules.authorizer;
            let response = authorizer.is_authorized(&request, set, &self.prepared.entities);
            tally.add(&response, self.rules.order);
        };
        put_to(rules);
        if !observing.is_empty() {
            put_to(observing);
        }
        Ok(tally)
    }
}

/// What the rules said.
#[derive(Default)]
struct Tally {
    permits: Vec<usize>,
    forbids: Vec<usize>,
    errors: Vec<String>,
}

impl Tally {
    fn add(&mut self, response: &cedar_policy::Response, order: &HashMap<PolicyId, usize>) {
        let diagnostics = response.diagnostics();
        let determining = match response.decision() {
            cedar_policy::Decision::Allow => &mut self.permits,
            cedar_policy::Decision::Deny => &mut self.forbids,
        };
        for id in diagnostics.reason() {
            match order.get(id) {
                Some(at) => determining.push(*at),
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
