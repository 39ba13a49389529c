//! Parsing, naming and checking of rules.

use std::{collections::HashMap, ops::Range};

use cedar_policy::{
    Effect, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator,
};
use miette::Diagnostic;

use super::{Parsed, Terms, annotations, depth, workers};
use crate::{
    Layer, Trust,
    check::{Code, Finding, Findings, plain},
    engine::{
        bounds::{self, Statement},
        data::HostGroups,
        target::check_literal,
        vocabulary::Vocabulary,
    },
    source::PolicyFile,
};

/// Parses every file; all findings of all files are reported.
pub(crate) fn parse_rules<'a>(
    files: &[&'a PolicyFile],
    findings: &mut Findings,
) -> Vec<Parsed<'a>> {
    let mut scanned = Vec::new();
    let mut count = 0;
    for file in files {
        match bounds::scan(&file.text) {
            Ok(statements) => {
                count += statements.len();
                scanned.push((*file, statements));
            }
            Err(error) => findings.error(|| {
                Finding::at(&file.path, &file.text, error.offset, error.message)
                    .with_code(Code::Bounds)
                    .with_help(error.help)
            }),
        }
        if count > bounds::MAX_RULES {
            findings.error(|| {
                Finding::in_file(
                    &file.path,
                    format!("the policy set has more than {} rules", bounds::MAX_RULES),
                )
                .with_help("put lists of hosts into a data file (`[host_groups]`)")
            });
            return Vec::new();
        }
    }
    let portions: Vec<Portion<'_, '_>> = scanned
        .iter()
        .flat_map(|(file, statements)| Portion::all(file, statements))
        .collect();
    let mut parsed = Vec::with_capacity(count);
    for (rules, wrong) in workers::on_each(&portions, Portion::parse) {
        parsed.extend(rules);
        for finding in wrong {
            findings.error(|| finding);
        }
    }
    parsed
}

/// Some of the rules of a file, to be parsed at once.
struct Portion<'a, 's> {
    file: &'a PolicyFile,
    statements: &'s [Statement],
    /// Their text and what stands between them.
    range: Range<usize>,
}

/// Rules that are parsed, or validated, in one go.
const PORTION: usize = 1_000;

impl<'a, 's> Portion<'a, 's> {
    /// A file in portions. Together they are its whole text: nothing is left unparsed.
    fn all(file: &'a PolicyFile, statements: &'s [Statement]) -> Vec<Self> {
        let mut portions = Vec::new();
        let mut start = 0;
        for (number, chunk) in statements.chunks(PORTION).enumerate() {
            let next = statements.get((number + 1) * PORTION);
            let end = next.map_or(file.text.len(), |statement| statement.range.start);
            portions.push(Self {
                file,
                statements: chunk,
                range: start..end,
            });
            start = end;
        }
        portions
    }

    /// The rules, and what is wrong with the others.
    fn parse(&self) -> (Vec<Parsed<'a>>, Vec<Finding>) {
        let text = self.file.text.get(self.range.clone()).unwrap_or_default();
        let set: PolicySet = match text.parse() {
            Ok(set) => set,
            Err(error) => {
                let errors: cedar_policy::ParseErrors = error;
                let errors = errors.iter().take(Findings::MOST);
                let start = self.range.start;
                let wrong = errors.map(|error| diagnosed(self.file, start, start, error));
                return (Vec::new(), wrong.collect());
            }
        };
        // Cedar numbers the rules of a text in their order, templates included.
        let count = set.num_of_policies() + set.num_of_templates();
        if count != self.statements.len() {
            let stand = self.statements.len();
            let message = format!("{count} rules were read where {stand} stand");
            return (Vec::new(), vec![Finding::in_file(&self.file.path, message)]);
        }
        let (mut rules, mut wrong) = (Vec::with_capacity(count), Vec::new());
        for (number, statement) in self.statements.iter().enumerate() {
            let policy = set.policy(&PolicyId::new(format!("policy{number}")));
            match self.check(policy, statement) {
                Ok(rule) => rules.push(rule),
                Err(finding) if wrong.len() < Findings::MOST => wrong.push(*finding),
                Err(_) => {}
            }
        }
        (rules, wrong)
    }

    fn check(
        &self,
        policy: Option<&Policy>,
        statement: &Statement,
    ) -> Result<Parsed<'a>, Box<Finding>> {
        let here = |message: &str| {
            Finding::at(
                &self.file.path,
                &self.file.text,
                statement.range.start,
                message,
            )
        };
        let policy = policy.ok_or_else(|| {
            Box::new(
                here("the rule is a template (`?principal`, `?resource`)")
                    .with_help("write one rule for each entity, or use a group"),
            )
        })?;
        if depth::is_too_deep(policy, statement.tokens) {
            let most = depth::MAX_STEPS;
            let problem = "the rule's condition is nested or chained too deep";
            return Err(Box::new(here(problem).with_code(Code::Bounds).with_help(
                format!(
                    "keep it under {most} steps: split it into several rules, or use host groups"
                ),
            )));
        }
        let mut literals = policy.entity_literals();
        literals.sort_unstable();
        literals.dedup();
        Ok(Parsed {
            policy: policy.clone(),
            file: self.file,
            base: self.range.start,
            range: statement.range.clone(),
            line: 0,
            literals,
            terms: Terms::default(),
        })
    }
}

/// Names every rule by its `@id`, or by file and line where it has none. Names are unique: where
/// layers use the same `@id`, the later, less trusted layer's rule is called `LAYER:ID`, so that
/// no layer can take a name away from another by using it.
pub(crate) fn name_rules<'a>(parsed: Vec<Parsed<'a>>, findings: &mut Findings) -> Vec<Parsed<'a>> {
    let mut taken: HashMap<String, (String, Layer)> = HashMap::new();
    let mut named = Vec::with_capacity(parsed.len());
    let mut lines = LineCounter::default();
    for rule in parsed {
        let file = plain(&rule.file.path.display().to_string());
        let line = lines.line_of(&rule);
        let place = format!("{file}:{line}");
        let layer = rule.file.layer;
        let mut name = rule.policy.annotation("id").unwrap_or(&place).to_owned();
        if taken.get(&name).is_some_and(|(_, other)| *other != layer) {
            name = format!("{layer}:{name}");
        }
        let terms = annotations::read(&rule.policy, &|message| rule.finding(message), findings);
        if let Some((other, _)) = taken.get(&name) {
            findings.error(|| {
                rule.finding(format!("rule `{name}` is there twice, first at {other}"))
                    .with_help("give one of them another `@id`")
            });
        } else {
            taken.insert(name.clone(), (place, layer));
            named.push(Parsed {
                policy: rule.policy.new_id(PolicyId::new(name)),
                line,
                terms,
                ..rule
            });
        }
    }
    named
}

/// Checks that only layers that are trusted to do so `permit`.
pub(crate) fn check_layers(parsed: &[Parsed<'_>], trust: Trust, findings: &mut Findings) {
    for rule in parsed {
        let layer = rule.file.layer;
        if rule.policy.effect() == Effect::Forbid || trust.may_permit(layer) {
            continue;
        }
        let help = match layer {
            Layer::Workspace => {
                "a workspace only narrows: write a `forbid`, or ask for the rule to be put into \
                 the user's, the team's or the organisation's layer"
            }
            Layer::Organisation | Layer::Team | Layer::User => {
                "write a `forbid`, or let the organisation trust this layer with `permit` \
                 (`[trust]` in its `bundle.toml`)"
            }
        };
        findings.error(|| {
            rule.finding(format!(
                "a `permit` in the {layer}'s layer, which may only `forbid`"
            ))
            .with_code(Code::Layer)
            .with_help(help)
        });
    }
}

/// Line numbers of rules that come in the order of their files.
#[derive(Default)]
struct LineCounter<'a> {
    file: Option<&'a PolicyFile>,
    offset: usize,
    line: usize,
}

impl<'a> LineCounter<'a> {
    fn line_of(&mut self, rule: &Parsed<'a>) -> usize {
        if !self.file.is_some_and(|file| std::ptr::eq(file, rule.file)) {
            *self = Self {
                file: Some(rule.file),
                offset: 0,
                line: 1,
            };
        }
        let between = rule.file.text.get(self.offset..rule.range.start);
        self.line += between.unwrap_or_default().matches('\n').count();
        self.offset = rule.range.start;
        self.line
    }
}

/// Strict validation against the schema.
pub(crate) fn validate(parsed: &[Parsed<'_>], schema: &Schema, findings: &mut Findings) {
    let validator = Validator::new(schema.clone());
    let portions: Vec<&[Parsed<'_>]> = parsed.chunks(PORTION).collect();
    let found = workers::on_each(&portions, |portion| validate_portion(portion, &validator));
    let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    for error in one_for_each_place(errors.into_iter().flatten().collect()) {
        findings.error(|| error);
    }
    for warning in one_for_each_place(warnings.into_iter().flatten().collect()) {
        findings.warning(|| warning);
    }
}

/// Errors and warnings of some of the rules. Each rule is validated for itself, so portions find
/// what the whole set would.
fn validate_portion(parsed: &[Parsed<'_>], validator: &Validator) -> (Vec<Finding>, Vec<Finding>) {
    let mut set = PolicySet::new();
    let mut by_id: HashMap<PolicyId, &Parsed<'_>> = HashMap::with_capacity(parsed.len());
    let mut errors = Vec::new();
    for rule in parsed {
        if let Err(error) = set.add(rule.policy.clone()) {
            errors.push(rule.finding(error.to_string()));
        }
        by_id.insert(rule.policy.id().clone(), rule);
    }
    let result = validator.validate(&set, ValidationMode::Strict);
    let place = |id: &PolicyId, error: &dyn Diagnostic, code: Code| match by_id.get(id) {
        Some(rule) => diagnosed(rule.file, rule.base, rule.range.start, error).with_code(code),
        None => Finding::in_file("", error.to_string()),
    };
    let found = result.validation_errors().take(MOST_FROM_CEDAR);
    errors.extend(found.map(|e| place(e.policy_id(), e, Code::Schema)));
    // Cedar's own word, in case nothing of the above was an error.
    if !result.validation_passed() && errors.is_empty() {
        errors.push(Finding::in_file("", result.to_string()));
    }
    let found = result.validation_warnings().take(MOST_FROM_CEDAR);
    let warnings = found
        .map(|w| place(w.policy_id(), w, Code::Validator))
        .collect();
    (errors, warnings)
}

/// Most of Cedar's findings that are looked at: it has one for each action of a rule.
const MOST_FROM_CEDAR: usize = 1_000;

/// Cedar reports a mistake once for every action that a rule can be about, in any order.
fn one_for_each_place(mut findings: Vec<Finding>) -> Vec<Finding> {
    let place = |f: &Finding| (f.file.clone(), f.line, f.column);
    findings.sort_by_key(|finding| (place(finding), finding.message.clone()));
    findings.dedup_by_key(|finding| place(finding));
    findings
}

/// Checks that every entity a rule names is in canonical form and known: one that is not never
/// matches, and a `forbid` on it would silently not fire.
pub(crate) fn check_literals(
    parsed: &[Parsed<'_>],
    vocabulary: &Vocabulary,
    groups: &HostGroups,
    findings: &mut Findings,
) {
    for rule in parsed {
        for literal in &rule.literals {
            let kind = literal.type_name();
            let id = literal.id().unescaped();
            let problem = if *kind == vocabulary.types.host_group {
                groups
                    .named(id, rule.file.layer)
                    .err()
                    .map(|(message, help)| (Code::UnknownGroup, message, help))
            } else if *kind == vocabulary.types.organisation {
                Some((
                    Code::NeverInScope,
                    "sessions carry no organisation, so the rule could not match".to_owned(),
                    "name a group: `principal in Group::\"...\"`".to_owned(),
                ))
            } else {
                check_literal(&kind.to_string(), id).err().map(|help| {
                    (
                        Code::Spelling,
                        format!("`{kind}::{id:.100?}` is not in canonical form and never matches"),
                        help,
                    )
                })
            };
            if let Some((code, message, help)) = problem {
                findings.error(|| literal_finding(rule, literal, code, message, &help));
            }
        }
    }
}

/// A finding at a literal, with the change that does away with it where the help says just one.
fn literal_finding(
    rule: &Parsed<'_>,
    literal: &EntityUid,
    code: Code,
    message: String,
    help: &str,
) -> Finding {
    let id = literal.id().unescaped();
    let whole = format!("{}::\"{id}\"", literal.type_name());
    let at = |offset| Finding::at(&rule.file.path, &rule.file.text, offset, message.clone());
    let text = rule.file.text.get(rule.range.clone()).unwrap_or_default();
    let instead = help
        .strip_prefix("write `")
        .and_then(|rest| rest.split_once('`'))
        .map(|(instead, _)| instead)
        .filter(|instead| instead.contains("::\""));
    let finding = match (text.find(&whole), instead) {
        (Some(found), Some(instead)) => {
            at(rule.range.start + found).with_fix(whole.as_str(), instead)
        }
        _ => at(find_literal(rule, id)),
    };
    finding.with_code(code).with_help(help)
}

/// Where a rule's text names an id, for the message; the rule's begin where it is escaped.
fn find_literal(rule: &Parsed<'_>, id: &str) -> usize {
    let quoted = format!("\"{id}\"");
    rule.file
        .text
        .get(rule.range.start..)
        .and_then(|text| text.find(&quoted))
        .map_or(rule.range.start, |at| rule.range.start + at)
}

/// A Cedar error with its place. Cedar's offsets count from the begin of the text it parsed,
/// which is `base` in the file.
fn diagnosed(file: &PolicyFile, base: usize, fallback: usize, error: &dyn Diagnostic) -> Finding {
    let offset = error
        .labels()
        .and_then(|mut labels| labels.next())
        .map_or(fallback, |label| base + label.offset());
    let mut message = without_policy(&error.to_string()).to_owned();
    if let Some(label) = error.labels().and_then(|mut labels| labels.next())
        && let Some(text) = label.label()
    {
        message = format!("{message}: {text}");
    }
    let finding = Finding::at(&file.path, &file.text, offset, message);
    match error.help() {
        Some(help) => finding.with_help(without_policy(&help.to_string())),
        None => finding,
    }
}

/// The message without the rule it is about: file and line say that better.
fn without_policy(message: &str) -> &str {
    message
        .strip_prefix("for policy `")
        .and_then(|rest| rest.split_once("`, "))
        .map_or(message, |(_, rest)| rest)
}
