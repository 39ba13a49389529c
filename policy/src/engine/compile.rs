//! Turns the text of a policy set into rules, or into findings that say where and why not.
//!
//! Bounds first, then Cedar's parser on a thread with a large stack, then our own checks, then
//! strict validation against the schema. Nothing is ever half loaded.

mod annotations;
mod depth;
mod past;
mod requests;
pub(crate) mod rules;
mod workers;

use std::{collections::HashSet, ops::Range, sync::Arc, time::SystemTime};

use cedar_policy::{Entity, EntityUid, Policy};

#[cfg(test)]
pub(crate) use self::depth::MAX_STEPS;
use self::rules::{check_layers, check_literals, name_rules, parse_rules, validate};
pub(crate) use self::{annotations::Terms, workers::on_large_stack};
use super::{
    bounds,
    data::HostGroups,
    labels::Labels,
    mentions::Mentions,
    question::{Asker, Uses},
    slices::Slices,
    vocabulary::Vocabulary,
};
use crate::{
    Application, History, application,
    check::{Code, Finding, Findings},
    engine::Rule,
    plain_words::GroupShown,
    schema::{SCHEMA_TEXT, schema},
    source::{PolicyFile, PolicySource},
};

/// A policy set that may decide.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) mentions: Mentions,
    pub(crate) labels: Labels,
    pub(crate) slices: Slices,
    pub(crate) rules: Vec<Rule>,
    /// The rules themselves, by position as in `rules`.
    pub(crate) policies: Vec<Ready>,
    pub(crate) uses: Uses,
    /// Whether a rule speaks of HTTP requests apart from the network as a whole.
    pub(crate) speaks_of_requests: bool,
    pub(crate) applications: Vec<Arc<Application>>,
    /// Its host groups as they are shown: the first members of each.
    pub(crate) groups: Vec<GroupShown>,
}

/// A rule that may be evaluated.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) policy: Policy,
    /// Entities that its conditions name.
    pub(crate) named: Box<[Entity]>,
    /// Whether its conditions can look at the context.
    pub(crate) reads_context: bool,
    /// Whether they can look at what the session did before.
    pub(crate) reads_past: bool,
}

/// A rule between parsing and indexing.
pub(crate) struct Parsed<'a> {
    pub(crate) policy: Policy,
    pub(crate) file: &'a PolicyFile,
    /// Where in its file the text begins that it was parsed from.
    pub(crate) base: usize,
    /// Where it stands in its file.
    pub(crate) range: Range<usize>,
    /// The line of that, from 1; known once the rule has a name.
    pub(crate) line: usize,
    /// Every entity it names, each once.
    pub(crate) literals: Vec<EntityUid>,
    /// What its annotations ask for; known once the rule has a name.
    pub(crate) terms: Terms,
}

impl Parsed<'_> {
    /// Its text, as it stands in the file.
    pub(crate) fn text(&self) -> &str {
        self.file.text.get(self.range.clone()).unwrap_or_default()
    }

    /// A finding at the rule's begin.
    pub(crate) fn finding(&self, message: impl Into<String>) -> Finding {
        Finding::at(&self.file.path, &self.file.text, self.range.start, message)
    }
}

/// Compiles a policy set: the rules and what is dubious about them, or why there are none.
pub(crate) fn compile(source: &PolicySource) -> Result<(Compiled, Vec<Finding>), Vec<Finding>> {
    check_sizes(source)?;
    on_large_stack(|| compile_here(source))
        .unwrap_or_else(|message| Err(vec![Finding::in_file(&source.name, message)]))
}

fn compile_here(source: &PolicySource) -> Result<(Compiled, Vec<Finding>), Vec<Finding>> {
    let broken = |message: String| vec![Finding::in_file("cordon.cedarschema", message)];
    let schema = schema().map_err(|error| broken(error.to_owned()))?;
    let vocabulary = Vocabulary::new(schema).map_err(broken)?;
    let mut findings = Findings::default();

    let (data_files, rule_files): (Vec<_>, Vec<_>) =
        source.files.iter().partition(|file| is_data(file));
    let groups = HostGroups::read(&data_files, &mut findings);
    let labels = Labels::read(&data_files, &groups, &mut findings);
    let parsed = parse_rules(&rule_files, &mut findings);
    let parsed = name_rules(parsed, &mut findings);
    check_layers(&parsed, source.trust, &mut findings);
    check_literals(&parsed, &vocabulary, &groups, &mut findings);
    let looks = past::looks(&parsed);
    past::check(&parsed, &looks, &labels, &mut findings);
    check_observe(source, &mut findings);
    // Validation is the dearest step; a set with a hundred mistakes is refused without it.
    if !findings.is_full() {
        validate(&parsed, schema, &mut findings);
    }
    let applications = application::applications(source, &mut findings);
    let warnings = findings.finish()?;

    let literals: HashSet<EntityUid> = parsed
        .iter()
        .flat_map(|rule| rule.literals.iter().cloned())
        .collect();
    let mentions = Mentions::new(&vocabulary, &groups, &literals);
    let uses = Uses {
        past: looks.iter().any(|look| look.at_past),
        ..Uses::of(&source.files)
    };
    let nothing = History::default();
    let asker = Asker {
        past: &nothing,
        vocabulary: &vocabulary,
        mentions: &mentions,
        uses,
    };
    let rules = parsed.iter().map(Rule::new).collect();
    let speaks_of_requests = parsed.iter().any(requests::speaks_of);
    let mut slices = Slices::default();
    let mut policies = Vec::with_capacity(parsed.len());
    for (at, (rule, look)) in parsed.into_iter().zip(looks).enumerate() {
        slices.add(at, &rule.policy);
        policies.push(Ready {
            reads_past: look.at_past,
            named: named(&rule, asker)?,
            // Too much found costs microseconds; nothing is missed: it is a word of the language.
            reads_context: rule.text().contains("context"),
            policy: rule.policy,
        });
    }
    Ok((
        Compiled {
            vocabulary,
            mentions,
            labels,
            slices,
            rules,
            policies,
            uses,
            speaks_of_requests,
            applications,
            groups: GroupShown::all(&groups),
        },
        warnings,
    ))
}

pub(crate) fn is_data(file: &PolicyFile) -> bool {
    file.path
        .extension()
        .is_some_and(|extension| extension == "toml" || extension == "json")
}

/// Warns where the whole set was to observe until a moment that is past: it enforces, and whoever
/// reads `[observe]` in its bundle may take it not to.
fn check_observe(source: &PolicySource, findings: &mut Findings) {
    // A look at a clock for a warning to the author. Deciding goes by the request's time.
    let ended = source
        .observe
        .filter(|observe| !observe.is_on(SystemTime::now()));
    if let Some(end) = ended {
        findings.warning(|| {
            Finding::in_file(
                &source.name,
                format!("`[observe]` ended on {end}, so the whole set enforces"),
            )
            .with_code(Code::ObserveEnded)
            .with_help(
                "take `[observe]` out of `bundle.toml`, or set another end if it is not ready",
            )
        });
    }
}

/// Entities that a rule's conditions name, with what is known about them.
fn named(rule: &Parsed<'_>, asker: Asker<'_>) -> Result<Box<[Entity]>, Vec<Finding>> {
    let mut named = Vec::new();
    if rule.policy.has_non_scope_constraint() {
        for literal in &rule.literals {
            let entity = asker.literal(literal).map_err(|error| {
                vec![rule.finding(format!("`{literal}` cannot be used: {error:?}"))]
            })?;
            named.extend(entity);
        }
    }
    Ok(named.into())
}

fn check_sizes(source: &PolicySource) -> Result<(), Vec<Finding>> {
    let mut total = SCHEMA_TEXT.len();
    for file in &source.files {
        total = total.saturating_add(file.text.len());
        if file.text.len() > bounds::MAX_FILE_BYTES {
            return Err(vec![
                Finding::in_file(
                    &file.path,
                    format!("the file has more than {} bytes", bounds::MAX_FILE_BYTES),
                )
                .with_code(Code::Bounds)
                .with_help("split it into several files"),
            ]);
        }
    }
    if let Err(why) = application::check_sizes(source) {
        return Err(vec![
            Finding::in_file(&source.name, why).with_code(Code::Bounds),
        ]);
    }
    if total > bounds::MAX_SET_BYTES || source.files.len() > bounds::MAX_FILES {
        return Err(vec![
            Finding::in_file(
                &source.name,
                format!(
                    "the policy set has more than {} files or {} bytes",
                    bounds::MAX_FILES,
                    bounds::MAX_SET_BYTES
                ),
            )
            .with_code(Code::Bounds),
        ]);
    }
    Ok(())
}

impl Uses {
    /// What any rule can look at, found in the text: a name stands there as it is, or with an
    /// escape. Too much found costs microseconds; nothing is missed.
    fn of(files: &[PolicyFile]) -> Self {
        let mentions = |word: &str| {
            files
                .iter()
                .filter(|file| !is_data(file))
                .any(|file| file.text.contains(word) || file.text.contains('\\'))
        };
        Self {
            time: mentions("time"),
            host_facts: ["name", "length", "labels", "longest_label", "entropy"]
                .into_iter()
                .any(mentions),
            approval: mentions("approval"),
            tls: mentions("tls"),
            names: mentions("names"),
            unverified: mentions("address_unverified"),
            process: mentions("process"),
            // By each rule's own expressions; see `past`.
            past: false,
            http_facts: [
                "scheme",
                "query_keys",
                "content_type",
                "content_length",
                "credential",
                "upgrade",
            ]
            .into_iter()
            .any(mentions),
        }
    }
}
