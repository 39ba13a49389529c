//! Loads applications: schema, mapping, rules and entities, checked against each other.
//!
//! Text in, [`Application`]s or findings out. Nothing is half loaded: one mistake refuses the set.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cedar_policy::{
    Authorizer, Entities, EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet,
};
use serde_json::Value;
use toml::Spanned;

use super::{
    Action, Application, Kind,
    mapping::Mapping,
    schema::{self, Attributes, Own},
};
use crate::{
    Rule, Trust,
    bundle::{APPLICATION_ENTITIES, APPLICATION_MAPPING},
    check::{Code, Finding, Findings},
    engine::{
        bounds::{MAX_FILES, MAX_SET_BYTES},
        compile::rules::{check_layers, name_rules, parse_rules, validate},
    },
    source::{ApplicationSource, PolicyFile, PolicySource},
};

/// Most entities of one application.
pub const MAX_ENTITIES: usize = 10_000;
/// Most pairs of an entity and one that it is in, through others too.
const MAX_PAIRS: usize = 500_000;

/// Loads every application of a set; all findings are reported.
pub(crate) fn applications(
    source: &PolicySource,
    findings: &mut Findings,
) -> Vec<Arc<Application>> {
    let mut taken: HashMap<String, String> = HashMap::new();
    let mut loaded = Vec::new();
    for own in &source.applications {
        let Some(application) = load(own, source.trust, findings) else {
            continue;
        };
        for name in application.types.keys() {
            if let Some(other) = taken.insert(name.clone(), own.bundle.clone()) {
                let message = format!("the type `{name}` is one of the bundle `{other}` already");
                findings.error(|| {
                    own.finding(APPLICATION_MAPPING, 0, message)
                        .with_help("call it otherwise: callers tell applications apart by types")
                });
            }
        }
        loaded.push(Arc::new(application));
    }
    loaded
}

/// Whether applications are too large to be looked at.
pub(crate) fn check_sizes(source: &PolicySource) -> Result<(), String> {
    let files = source.applications.iter().flat_map(|own| &own.files);
    let (mut count, mut bytes) = (source.files.len(), 0_usize);
    for file in files {
        count += 1;
        bytes = bytes.saturating_add(file.text.len());
    }
    if count > MAX_FILES || bytes > MAX_SET_BYTES {
        return Err(format!(
            "the policy set has more than {MAX_FILES} files, or {MAX_SET_BYTES} bytes of applications"
        ));
    }
    Ok(())
}

fn load(own: &ApplicationSource, trust: Trust, findings: &mut Findings) -> Option<Application> {
    if !trust.may_permit(own.layer) {
        let message = format!(
            "an application in the {}'s layer, which may only `forbid`",
            own.layer
        );
        findings.error(|| {
            own.finding(APPLICATION_MAPPING, 0, message)
                .with_code(Code::Layer)
                .with_help("put it into a layer that may `permit`")
        });
        return None;
    }
    let mapping = own.read(APPLICATION_MAPPING, findings, Mapping::read)?;
    let namespace = mapping.namespace.get_ref().clone();
    let text = own.schema(findings)?;
    let schema = match schema::read(&text.text, &namespace) {
        Ok(schema) => schema,
        Err((at, why)) => {
            findings.error(|| at_file(text, at, why).with_code(Code::Schema));
            return None;
        }
    };
    let rules = rules(own, trust, &schema, findings);
    let entities = own.read(APPLICATION_ENTITIES, findings, |text| {
        entities(text, &schema)
    })?;
    let mut names = Names {
        own,
        namespace: &namespace,
        findings,
    };
    let types = names.types(&mapping, &schema, &entities);
    let actions = names.actions(&mapping, &schema);
    let (rules, written) = rules?;
    let reference = |rule: &Rule| (PolicyId::new(&rule.id), rule.to_ref());
    Some(Application {
        bundle: own.bundle.as_str().into(),
        namespace: namespace.as_str().into(),
        callers: mapping.callers,
        types,
        actions,
        context: mapping.context.trusted,
        schema: schema.schema,
        rules,
        by_id: written.iter().map(reference).collect(),
        written,
        entities,
        authorizer: Authorizer::new(),
    })
}

/// The rules, parsed and validated as Cordon's own are, against the application's schema.
fn rules(
    own: &ApplicationSource,
    trust: Trust,
    schema: &Own,
    findings: &mut Findings,
) -> Option<(PolicySet, Vec<Rule>)> {
    let files: Vec<&PolicyFile> = own.rule_files().collect();
    let parsed = name_rules(parse_rules(&files, findings), findings);
    check_layers(&parsed, trust, findings);
    validate(&parsed, &schema.schema, findings);
    let (mut set, mut written) = (PolicySet::new(), Vec::new());
    for rule in parsed {
        if rule.terms.observe.is_some() || !rule.terms.obligations.is_empty() {
            let message = "`@observe` and obligations are for what Cordon itself carries out";
            findings.error(|| {
                rule.finding(message)
                    .with_code(Code::Unenforceable)
                    .with_help("leave the annotation out")
            });
        }
        if let Err(error) = set.add(rule.policy.clone()) {
            findings.error(|| rule.finding(error.to_string()));
            return None;
        }
        written.push(Rule::new(&rule));
    }
    Some((set, written))
}

/// The stored entities, each of which fits the schema.
fn entities(text: &str, schema: &Own) -> Result<Entities, (usize, String)> {
    let refuse = |why: String| (0, why);
    let json: Value = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
    let list = json
        .as_array()
        .ok_or_else(|| refuse("it is not a list of entities as Cedar writes them".into()))?;
    if list.len() > MAX_ENTITIES {
        return Err(refuse(format!("it has more than {MAX_ENTITIES} entities")));
    }
    if pairs(list) > MAX_PAIRS {
        return Err(refuse(format!(
            "its entities are in each other more than {MAX_PAIRS} times"
        )));
    }
    // From the text once more: Cedar refuses names that are there twice.
    Entities::from_json_str(text, Some(&schema.schema)).map_err(|error| {
        let source = std::error::Error::source(&error);
        refuse(source.map_or_else(|| error.to_string(), |why| format!("{error}: {why}")))
    })
}

/// How many pairs of an entity and one above it there are, counted to just beyond the bound; of
/// entities in a circle Cedar says what is wrong.
fn pairs(list: &[Value]) -> usize {
    let key = |uid: &Value| uid.get("__entity").unwrap_or(uid).to_string();
    let parents: HashMap<String, Vec<String>> = list
        .iter()
        .filter_map(|entity| {
            let above = entity.get("parents")?.as_array()?;
            Some((key(entity.get("uid")?), above.iter().map(key).collect()))
        })
        .collect();
    let mut count = 0;
    for start in parents.keys() {
        let (mut seen, mut open) = (HashSet::new(), vec![start]);
        while let Some(entity) = open.pop() {
            for above in parents.get(entity).into_iter().flatten() {
                if seen.insert(above) {
                    open.push(above);
                }
            }
            if count + seen.len() > MAX_PAIRS {
                return MAX_PAIRS + 1;
            }
        }
        count += seen.len();
    }
    count
}

/// Holds the names of the mapping against the schema.
struct Names<'a> {
    own: &'a ApplicationSource,
    namespace: &'a str,
    findings: &'a mut Findings,
}

impl Names<'_> {
    fn types(
        &mut self,
        mapping: &Mapping,
        schema: &Own,
        entities: &Entities,
    ) -> HashMap<String, Kind> {
        let mut ids: HashMap<String, Vec<String>> = HashMap::new();
        for entity in entities.iter() {
            let uid = entity.uid();
            let known = ids.entry(uid.type_name().to_string()).or_default();
            known.push(uid.id().unescaped().to_owned());
        }
        ids.values_mut().for_each(|known| known.sort_unstable());
        let mut types = HashMap::new();
        for (name, entry) in &mapping.types {
            let declared = schema.types.get(entry.entity.get_ref());
            let Some(entity) = self.known(&entry.entity, declared, "entity type") else {
                continue;
            };
            self.trusted(&entry.trusted, declared);
            let kind = Kind {
                trusted: plain(&entry.trusted),
                unknown: entry.unknown,
                ids: ids.get(&entity.to_string()).cloned().unwrap_or_default(),
                entity,
            };
            types.insert(name.get_ref().clone(), kind);
        }
        types
    }

    fn actions(&mut self, mapping: &Mapping, schema: &Own) -> HashMap<String, Action> {
        let mut actions = HashMap::new();
        for (name, entry) in &mapping.actions {
            let declared = schema.actions.get(entry.action.get_ref());
            if declared.is_none() {
                self.unknown(&entry.action, "action");
                continue;
            }
            self.trusted(&entry.trusted, declared);
            let Ok(kind) = format!("{}::Action", self.namespace).parse::<EntityTypeName>() else {
                self.unknown(&entry.action, "action");
                continue;
            };
            let id = EntityId::new(entry.action.get_ref());
            let action = Action {
                uid: EntityUid::from_type_name_and_id(kind, id),
                trusted: plain(&entry.trusted),
            };
            actions.insert(name.get_ref().clone(), action);
        }
        actions
    }

    fn known(
        &mut self,
        name: &Spanned<String>,
        declared: Option<&Attributes>,
        what: &str,
    ) -> Option<EntityTypeName> {
        let full = format!("{}::{}", self.namespace, name.get_ref());
        let parsed = declared.and_then(|_| full.parse().ok());
        if parsed.is_none() {
            self.unknown(name, what);
        }
        parsed
    }

    fn unknown(&mut self, name: &Spanned<String>, what: &str) {
        let message = format!(
            "the namespace `{}` has no {what} `{:.100}`",
            self.namespace,
            name.get_ref()
        );
        self.refuse(name, message, "name one of its schema");
    }

    /// A name that nothing has would make callers believe that what they say counts.
    fn trusted(&mut self, names: &[Spanned<String>], declared: Option<&Attributes>) {
        let Some(Some(attributes)) = declared else {
            return;
        };
        for name in names {
            if !attributes.contains(name.get_ref()) {
                let message = format!("the schema has no `{:.100}` there", name.get_ref());
                self.refuse(name, message, "trust what the schema has");
            }
        }
    }

    fn refuse(&mut self, name: &Spanned<String>, message: String, help: &str) {
        let own = self.own;
        self.findings.error(|| {
            own.finding(APPLICATION_MAPPING, name.span().start, message)
                .with_help(help)
        });
    }
}

impl ApplicationSource {
    fn rule_files(&self) -> impl Iterator<Item = &PolicyFile> {
        let is_rules = |file: &&PolicyFile| file.path.extension().is_some_and(|e| e == "cedar");
        self.files.iter().filter(is_rules)
    }

    /// Its one schema.
    fn schema(&self, findings: &mut Findings) -> Option<&PolicyFile> {
        let mut found = self
            .files
            .iter()
            .filter(|file| file.path.extension().is_some_and(|e| e == "cedarschema"));
        match (found.next(), found.next()) {
            (Some(one), None) => Some(one),
            _ => {
                findings.error(|| {
                    self.finding(APPLICATION_MAPPING, 0, "it needs just one schema beside it")
                        .with_help("write `app/NAME.cedarschema`")
                });
                None
            }
        }
    }

    /// Reads one of its files; what is wrong is a finding at its place.
    fn read<T>(
        &self,
        name: &str,
        findings: &mut Findings,
        read: impl FnOnce(&str) -> Result<T, (usize, String)>,
    ) -> Option<T> {
        let Some(file) = self.file(name) else {
            let message = format!("an application without `app/{name}`");
            findings.error(|| Finding::in_file(&self.bundle, message).with_code(Code::Data));
            return None;
        };
        match read(&file.text) {
            Ok(value) => Some(value),
            Err((at, why)) => {
                findings.error(|| at_file(file, at, why));
                None
            }
        }
    }

    fn finding(&self, name: &str, at: usize, message: impl Into<String>) -> Finding {
        match self.file(name) {
            Some(file) => at_file(file, at, message),
            None => Finding::in_file(&self.bundle, message).with_code(Code::Data),
        }
    }
}

fn at_file(file: &PolicyFile, at: usize, message: impl Into<String>) -> Finding {
    Finding::at(&file.path, &file.text, at, message).with_code(Code::Data)
}

fn plain(names: &[Spanned<String>]) -> Vec<String> {
    names.iter().map(|name| name.get_ref().clone()).collect()
}
