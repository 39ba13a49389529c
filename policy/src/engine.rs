//! Decides: an immutable snapshot of one policy set, sliced so that a decision costs
//! microseconds whatever the set's size.
//!
//! Cedar fails open in three ways, and each is closed here: an error while evaluating is a deny
//! (Cedar skips the rule, even a `forbid`); the action's groups are always in the store (without
//! them `action in Group` is silently false); and text is bounded before it is parsed, on a
//! thread with a large stack (the parser would abort the process).

pub(crate) mod bounds;
mod clauses;
pub(crate) mod compile;
pub(crate) mod data;
mod evaluate;
mod labels;
mod mentions;
mod outcome;
mod prepared;
pub(crate) mod question;
mod slices;
pub(crate) mod target;
mod vocabulary;
mod why_not;

use std::{
    collections::HashMap,
    mem::take,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Instant,
};

use cedar_policy::Authorizer;
use sha2::{Digest, Sha256};

pub(crate) use self::why_not::is_about;
pub use self::why_not::{Clause, Part, WhyNot};
use self::{
    compile::{Compiled, Parsed, compile},
    evaluate::{By, Verdict},
    outcome::Outcome,
    prepared::Kept,
    question::Asker,
};
use crate::moment as time;
use crate::{
    Allow, Application, ApprovalRef, Asked, Decided, Decision, Deny, History, Layer,
    NormalizedHost, Obligation, Observe, Operation, Request, RuleRef, Shadow, ShadowEffect,
    check::Finding,
    schema::SCHEMA_TEXT,
    source::{LoadError, PolicySource},
};

/// One validated policy set, ready to decide. Immutable; share it behind an `Arc`.
pub struct Snapshot {
    name: Arc<str>,
    digest: Arc<str>,
    pub(crate) compiled: Compiled,
    warnings: Vec<Finding>,
    revision: Option<u64>,
    observe: Option<Observe>,
    /// Rules that only observe, by position, and until when. Nearly always empty.
    observing: HashMap<usize, Observe>,
    authorizer: Authorizer,
    kept: Kept,
}

/// Whether a rule permits or forbids.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// `permit`.
    Permit,
    /// `forbid`.
    Forbid,
}

/// A fact of a connection that is known only after it was first decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LateFact {
    /// `context.tls`: what the handshake shows.
    Tls,
    /// `context.names`: names that the lookup led to.
    Names,
    /// `context.address_unverified`: whether a parent proxy resolves the name.
    AddressUnverified,
    /// `context.process`: the program that made it.
    Process,
}

/// One rule of a snapshot, as a person finds it again.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Rule {
    /// `@id`, or `file:line` where it has none.
    pub id: Arc<str>,
    /// `@reason`.
    pub reason: Option<Arc<str>>,
    /// Whose rule it is.
    pub layer: Layer,
    /// What it does.
    pub effect: Effect,
    /// Its file, as it was named.
    pub file: PathBuf,
    /// Line of its first word, from 1.
    pub line: usize,
    /// Until when it only observes, where it does.
    pub observe: Option<Observe>,
    /// What it asks of the enforcement point when it permits.
    pub obligations: Vec<Obligation>,
    /// Its text, as it stands in the file.
    pub text: Arc<str>,
}

impl Snapshot {
    /// Parses, validates strictly against the schema, and indexes a policy set.
    ///
    /// # Errors
    /// [`LoadError`] names the file, the line and what to do. Nothing is ever half loaded.
    pub fn load(source: &PolicySource) -> Result<Self, LoadError> {
        let (compiled, warnings) = compile(source).map_err(LoadError::from_findings)?;
        let ends = compiled.rules.iter().enumerate();
        let observing = ends.filter_map(|(at, rule)| Some((at, rule.observe?)));
        Ok(Self {
            revision: source.revision,
            observe: source.observe,
            observing: observing.collect(),
            name: source.name.as_str().into(),
            digest: digest(source).into(),
            compiled,
            warnings,
            authorizer: Authorizer::new(),
            kept: Kept::default(),
        })
    }

    /// Name of the policy set.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 over the schema, the set's trust and its files with their layers, lower-case hex.
    /// Folders do not count, so the same files are the same set wherever they lie.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Every rule, in the order of the files.
    pub fn rules(&self) -> &[Rule] {
        &self.compiled.rules
    }

    /// What is dubious about the set, though it loads.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    /// The applications of its bundles.
    pub fn applications(&self) -> &[Arc<Application>] {
        &self.compiled.applications
    }

    /// Names of every host group that a host is in.
    pub fn host_groups_of(&self, host: &NormalizedHost) -> Vec<Arc<str>> {
        self.compiled.mentions.group_names_of(host)
    }

    /// Revision of the bundle, where the set is one.
    pub fn revision(&self) -> Option<u64> {
        self.revision
    }

    /// Until when the whole set only observes, where it does.
    pub fn observe(&self) -> Option<Observe> {
        self.observe
    }

    /// Whether a rule can look at this fact. Too often rather than too seldom: it goes by the text
    /// of the rules.
    pub fn reads(&self, fact: LateFact) -> bool {
        match fact {
            LateFact::Tls => self.compiled.uses.tls,
            LateFact::Names => self.compiled.uses.names,
            LateFact::AddressUnverified => self.compiled.uses.unverified,
            LateFact::Process => self.compiled.uses.process,
        }
    }

    /// Whether a rule speaks of HTTP requests apart from the network as a whole: then those inside a
    /// tunnel may be decided otherwise than the tunnel was. Too often rather than too seldom.
    pub fn speaks_of_requests(&self) -> bool {
        self.compiled.speaks_of_requests
    }

    /// Whether a rule can look at what the session did before.
    pub fn reads_past(&self) -> bool {
        self.compiled.uses.past
    }

    /// Labels that a session takes on by doing this, as the data of this set says. What a rule
    /// gives by `@label` is among the obligations of the decision.
    pub fn labels_of(&self, operation: &Operation) -> Vec<Arc<str>> {
        self.compiled.labels.of(operation)
    }

    /// Decides one request of a session that did nothing yet. Pure: same request and snapshot, same
    /// decision. An evaluation error anywhere is a deny.
    pub fn decide(&self, request: Request) -> Decision {
        self.decide_after(&History::default(), request, None)
    }

    /// As [`Self::decide`], of a request that a person has approved: the approval is a fact like
    /// any other, so a `forbid` that does not ask for it still refuses (P04). Whoever calls this
    /// answers for the approval being of exactly this request.
    pub fn decide_approved(&self, request: Request, approval: ApprovalRef) -> Decision {
        self.decide_after(&History::default(), request, Some(approval))
    }

    /// Decides one request of a session that did this before, with the approval where there is one.
    pub fn decide_after(
        &self,
        past: &History,
        request: Request,
        approval: Option<ApprovalRef>,
    ) -> Decision {
        let started = Instant::now();
        let outcome = self.judge(past, &request, approval.as_ref());
        let refusal = outcome.refusal;
        let mut basis = outcome.basis(self);
        basis.approval = approval.map(Box::new);
        basis.evaluation = started.elapsed();
        match refusal {
            None => Decision::Allow(Decided::<Allow>::allow(request, basis)),
            Some(reason) => Decided::<Deny>::deny(Asked::Request(request), reason, basis).into(),
        }
    }

    /// Decides one request as [`Self::decide_after`] does, and notes what a candidate says about
    /// it. Whatever the candidate does, the decision is this set's.
    pub fn decide_beside(
        &self,
        past: &History,
        request: Request,
        approval: Option<ApprovalRef>,
        candidate: &Self,
    ) -> Decision {
        let judge = || {
            candidate
                .judge(past, &request, approval.as_ref())
                .shadow(candidate)
        };
        let shadow = catch_unwind(AssertUnwindSafe(judge))
            .unwrap_or_else(|_| Shadow::of(candidate, ShadowEffect::Error, Vec::new()));
        let mut decision = self.decide_after(past, request, approval);
        decision.note_shadow(shadow);
        decision
    }

    fn judge(&self, past: &History, request: &Request, approval: Option<&ApprovalRef>) -> Outcome {
        let given = approval.and_then(|approval| approval.given.as_ref());
        let scope = given.map(|given| given.scope);
        let outcome = Outcome::of(evaluate::evaluate(request, scope, self.by(past)));
        match self.observe {
            Some(observe) if observe.is_on(request.at) => outcome.observed(request),
            _ => outcome,
        }
    }

    fn evaluate(&self, past: &History, request: &Request) -> Verdict {
        evaluate::evaluate(request, None, self.by(past))
    }

    /// What turns a request into a question to Cedar.
    pub(crate) fn asker<'a>(&'a self, past: &'a History) -> Asker<'a> {
        Asker {
            past,
            vocabulary: &self.compiled.vocabulary,
            mentions: &self.compiled.mentions,
            uses: self.compiled.uses,
        }
    }

    /// What it decides by.
    fn by<'a>(&'a self, past: &'a History) -> By<'a> {
        By {
            asker: self.asker(past),
            slices: &self.compiled.slices,
            policies: &self.compiled.policies,
            kept: &self.kept,
            authorizer: &self.authorizer,
            observing: &self.observing,
        }
    }

    fn rule_refs(&self, rules: &[usize]) -> Vec<RuleRef> {
        let rules = rules.iter().filter_map(|at| self.compiled.rules.get(*at));
        rules.map(Rule::to_ref).collect()
    }
}

impl Drop for Snapshot {
    /// Taking a large set apart takes tens of milliseconds, and the last to hold one may be in
    /// the middle of a decision: it is done elsewhere.
    fn drop(&mut self) {
        if self.compiled.rules.len() < DROPPED_HERE {
            return;
        }
        let Compiled {
            mentions,
            slices,
            rules,
            policies,
            ..
        } = &mut self.compiled;
        let parts = (
            (take(mentions), take(slices), take(rules), take(policies)),
            take(&mut self.kept),
        );
        // Where there is no thread to be had, the parts are dropped here.
        let _thread = thread::Builder::new()
            .name("cordon-policy-drop".into())
            .spawn(move || drop(parts));
    }
}

/// Sets with fewer rules are dropped by whoever holds them last.
const DROPPED_HERE: usize = 256;

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .field("rules", &self.compiled.rules.len())
            .finish_non_exhaustive()
    }
}

impl Rule {
    pub(crate) fn new(parsed: &Parsed<'_>) -> Self {
        let policy = &parsed.policy;
        Self {
            id: AsRef::<str>::as_ref(policy.id()).into(),
            reason: policy.annotation("reason").map(Into::into),
            layer: parsed.file.layer,
            effect: match policy.effect() {
                cedar_policy::Effect::Permit => Effect::Permit,
                cedar_policy::Effect::Forbid => Effect::Forbid,
            },
            file: parsed.file.path.clone(),
            line: parsed.line,
            observe: parsed.terms.observe,
            obligations: parsed.terms.obligations.clone(),
            text: parsed.text().into(),
        }
    }

    pub(crate) fn to_ref(&self) -> RuleRef {
        RuleRef {
            id: Arc::clone(&self.id),
            reason: self.reason.clone(),
            layer: self.layer,
        }
    }
}

pub(crate) fn digest(source: &PolicySource) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    add(SCHEMA_TEXT.as_bytes());
    // The same text in another layer, or under another trust, is another policy.
    add(&[source.trust.team.into(), source.trust.user.into()]);
    add(source
        .observe
        .map_or_else(String::new, |o| o.to_string())
        .as_bytes());
    for file in &source.files {
        let name = file.path.file_name().unwrap_or(Path::new("").as_os_str());
        add(name.as_encoded_bytes());
        add(file.layer.as_str().as_bytes());
        add(file.text.as_bytes());
    }
    for application in &source.applications {
        add(b"application");
        add(application.layer.as_str().as_bytes());
        for file in &application.files {
            let name = file.path.file_name().unwrap_or(Path::new("").as_os_str());
            add(name.as_encoded_bytes());
            add(file.text.as_bytes());
        }
    }
    crate::bundle::hex(&hash.finalize())
}

#[cfg(test)]
mod tests;
