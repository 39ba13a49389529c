//! Puts one question to the slices that can answer it, and combines what they say.
//!
//! Error, then `forbid`, then `permit`, then nothing: the first of them that any slice shows is
//! the verdict. Only a plain deny is asked again, with an approval that is not there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, PolicyId};

use super::{
    prepared::{Kept, Prepared},
    question::{self, Asker, Question, Unaskable, hypothetical_approval},
    slices::{Slice, Slices},
    target::{Target, Untargetable},
};
use crate::Request;

/// What a policy set says about a request. Rules are positions in the set.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Allow {
        rules: Vec<usize>,
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
    pub(crate) kept: &'a Kept,
    pub(crate) authorizer: &'a Authorizer,
    pub(crate) order: &'a HashMap<PolicyId, usize>,
}

pub(crate) fn evaluate(request: &Request, rules: Rules<'_>) -> Verdict {
    let (prepared, context) = match prepare(request, rules) {
        Ok(question) => question,
        Err(verdict) => return verdict,
    };
    let bench = Bench {
        prepared: &prepared,
        context: &context,
        rules,
    };
    let verdict = bench.judge(context.clone());
    if !rules.asker.uses.approval || !matches!(verdict, Verdict::NoRule | Verdict::Forbid { .. }) {
        return verdict;
    }
    match bench.judge_as_approved() {
        Verdict::Allow { rules } => Verdict::Ask { rules },
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
    let mut question = rules.asker.ask(request).map_err(unaskable)?;
    let relevant = rules.slices.of(&question);
    let prepared = Arc::new(Prepared {
        entities: store(&mut question, &relevant).map_err(error_verdict)?,
        principal: question.principal,
        action: question.action.uid.clone(),
        resource: question.resource,
        relevant,
    });
    rules.kept.keep(&request.session, &target, &prepared);
    Ok((prepared, question.context))
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

/// The entities of the question, and those that the relevant rules name.
fn store(question: &mut Question<'_>, relevant: &[Arc<Slice>]) -> Result<Entities, String> {
    let mut entities = std::mem::take(&mut question.entities);
    if relevant.iter().any(|slice| !slice.named.is_empty()) {
        let mut known: HashSet<EntityUid> = entities.iter().map(Entity::uid).collect();
        for (uid, entity) in relevant.iter().flat_map(|slice| &slice.named) {
            if known.insert(uid.clone()) {
                entities.push(entity.clone());
            }
        }
    }
    // Parents are complete for each entity, so nothing hangs on the others' presence.
    Entities::from_entities(entities, None).map_err(|error| error.to_string())
}

/// Everything that is the same for both evaluations of one request.
struct Bench<'a> {
    prepared: &'a Prepared,
    context: &'a question::Context,
    rules: Rules<'a>,
}

impl Bench<'_> {
    fn judge(&self, context: question::Context) -> Verdict {
        match self.put(context) {
            Ok(tally) => tally.verdict(),
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
        let context = Context::from_pairs(context).map_err(|error| error.to_string())?;
        // No schema: the question is built from typed values, and a test holds it to the schema.
        let request = cedar_policy::Request::new(
            self.prepared.principal.clone(),
            self.prepared.action.clone(),
            self.prepared.resource.clone(),
            context,
            None,
        )
        .map_err(|error| error.to_string())?;
        let mut tally = Tally::default();
        for slice in &self.prepared.relevant {
            let response = self.rules.authorizer.is_authorized(
                &request,
                &slice.rules,
                &self.prepared.entities,
            );
            tally.add(&response, self.rules.order);
        }
        Ok(tally)
    }
}

/// What the slices said.
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

    fn verdict(self) -> Verdict {
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
        if !errors.is_empty() {
            Verdict::Error {
                errors,
                rules: forbids,
            }
        } else if !forbids.is_empty() {
            Verdict::Forbid { rules: forbids }
        } else if !permits.is_empty() {
            Verdict::Allow { rules: permits }
        } else {
            Verdict::NoRule
        }
    }
}
