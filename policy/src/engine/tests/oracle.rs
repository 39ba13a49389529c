//! What plain Cedar says about a generated case: the whole set, over a store as a person would
//! write it down.

use std::collections::HashSet;

use cedar_policy::{
    Context, Entities, Entity, EntityUid, PolicyId, PolicySet, RestrictedExpression as Expression,
};

use super::{
    slicing::{Case, NAMES},
    *,
};
use crate::{Host, engine::question::Question, schema::schema};

impl Case {
    /// The store as a person would write it down: every entity there is, parents one step up.
    fn store(&self, question: &Question<'_>) -> Entities {
        let mut entities: Vec<Entity> = question
            .entities
            .iter()
            .filter(|entity| {
                let kind = entity.uid().type_name().to_string();
                kind == "Session" || kind == "User"
            })
            .cloned()
            .collect();
        for (name, (at, _)) in NAMES.into_iter().zip(self.groups.iter().enumerate()) {
            let outer = self
                .groups
                .iter()
                .enumerate()
                .filter(|(_, group)| group.1.contains(&at));
            let parents = outer
                .map(|(outer, _)| euid("HostGroup", NAMES[outer]))
                .collect();
            entities.push(Entity::new_no_attrs(euid("HostGroup", name), parents));
        }
        let mut names = vec!["api.example.com".to_owned()];
        let mut addresses = vec!["192.0.2.7".to_owned()];
        let mut paths = Vec::new();
        match &self.request.operation {
            Operation::Connect { destination, .. } | Operation::HttpRequest { destination, .. } => {
                match &destination.host {
                    Host::Name(name) => names.push(name.to_string()),
                    Host::Address(address) => addresses.push(address.to_string()),
                }
            }
            Operation::GrantFolder { path, .. } => paths.push(("Folder", path)),
            Operation::DeletePath { path, .. } => paths.push(("File", path)),
            Operation::OpenOrigin { origin } | Operation::ActInOrigin { origin, .. } => {
                let own = own_entity(question);
                match &origin.destination.host {
                    // An origin is where its host is.
                    Host::Name(name) => {
                        entities.push(with_parents(&own, self.parents_of_name(name.as_str())));
                        names.push(name.to_string());
                    }
                    Host::Address(_) => entities.push(own),
                }
            }
            Operation::PublishPort { address, .. } => addresses.push(address.to_string()),
            Operation::StartSession { .. }
            | Operation::ExecInSession { .. }
            | Operation::EnableConnector { .. }
            | Operation::UseScope { .. }
            | Operation::InstallExtension { .. }
            | Operation::LoadExtension { .. }
            | Operation::UsePermission { .. }
            | Operation::CallTool { .. }
            | Operation::EnableBrowser
            | Operation::Approve { .. }
            | Operation::PublishPolicy { .. }
            | Operation::ManageSession { .. }
            | Operation::ReadLog { .. } => entities.push(own_entity(question)),
            Operation::ReadPath { path, .. } | Operation::WritePath { path, .. } => {
                paths.push(("File", path));
            }
            Operation::ReachAddress { .. } => unreachable!("no rule is asked about it"),
        }
        self.add_names(names, &mut entities);
        for address in addresses {
            let v4 = address.starts_with("192.0.2.").then_some("192.0.2.0/24");
            // A network holds addresses of its own family.
            let every = if address.contains(':') {
                "::/0"
            } else {
                "0.0.0.0/0"
            };
            let nets = v4
                .into_iter()
                .chain([every])
                .map(|net| euid("Network", net));
            entities.push(resource_like(question, "Address", &address, nets.collect()));
        }
        for (kind, path) in paths {
            let path = path.to_str().unwrap();
            let above = std::path::Path::new(path).ancestors().skip(1);
            let parents = above
                .map(|above| euid("Folder", above.to_str().unwrap()))
                .collect();
            entities.push(resource_like(question, kind, path, parents));
        }
        dedup(&mut entities);
        Entities::from_entities(entities, Some(schema().unwrap())).unwrap()
    }

    fn add_names(&self, names: Vec<String>, entities: &mut Vec<Entity>) {
        for name in names {
            let parents = self.parents_of_name(&name);
            let facts = [
                ("name", Expression::new_string(name.clone())),
                (
                    "length",
                    Expression::new_long(i64::try_from(name.len()).unwrap()),
                ),
                (
                    "labels",
                    Expression::new_long(i64::try_from(name.split('.').count()).unwrap()),
                ),
                ("longest_label", Expression::new_long(0)),
                ("entropy", Expression::new_long(0)),
            ];
            let facts = facts
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect();
            entities.push(Entity::new(euid("Host", &name), facts, parents).unwrap());
            let mut rest = name.as_str();
            while let Some((_, above)) = rest.split_once('.') {
                let parent = HashSet::from([euid("Domain", above)]);
                entities.push(Entity::new_no_attrs(euid("Domain", rest), parent));
                rest = above;
            }
            entities.push(Entity::new_no_attrs(euid("Domain", rest), HashSet::new()));
        }
    }

    fn parents_of_name(&self, name: &str) -> HashSet<EntityUid> {
        let mut parents = HashSet::from([euid("Domain", name)]);
        for (group, (members, _)) in NAMES.into_iter().zip(&self.groups) {
            let within = members.iter().any(|member| match member.strip_prefix('*') {
                Some(dotted) => name.ends_with(dotted),
                None => *member == name,
            });
            if within {
                parents.insert(euid("HostGroup", group));
            }
        }
        parents
    }

    /// What Cedar itself says about the whole set: outcome and rules as [`outcome`] writes them.
    pub(super) fn expected(&self, snapshot: &Snapshot) -> String {
        let asker = all_facts(snapshot);
        let question = asker.ask(&self.request).unwrap();
        let store = self.store(&question);
        let set = whole_set(&self.rules);
        let plain = whole(&question, question.context.clone(), &set, &store);
        let is_asked = question.can_be_approved;
        if !is_asked || plain != "default_deny" && !plain.starts_with("rule") {
            return plain;
        }
        let mut context = question.context.clone();
        context.push(question::hypothetical_approval().unwrap());
        match whole(&question, context, &set, &store).strip_prefix("allow") {
            Some(rules) => format!("approval_required{rules}"),
            None => plain,
        }
    }
}

/// The request's own resource, as the question has it.
fn own_entity(question: &Question<'_>) -> Entity {
    let mut own = question.entities.iter();
    own.find(|entity| entity.uid() == question.resource)
        .unwrap()
        .clone()
}

fn with_parents(entity: &Entity, parents: HashSet<EntityUid>) -> Entity {
    let (uid, attributes, _) = entity.clone().into_inner();
    Entity::new(uid, attributes, parents).unwrap()
}

fn euid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.parse().unwrap(), cedar_policy::EntityId::new(id))
}

/// Attributes as the question has them, where it is about this very entity.
fn resource_like(
    question: &Question<'_>,
    kind: &str,
    id: &str,
    parents: HashSet<EntityUid>,
) -> Entity {
    let facts: Vec<(&str, Expression)> = match kind {
        "Address" => vec![
            ("ip", Expression::new_ip(id)),
            (
                "kind",
                Expression::new_string(crate::address::classify(id.parse().unwrap()).to_string()),
            ),
        ],
        _ => vec![
            ("path", Expression::new_string(id.to_owned())),
            (
                "name",
                Expression::new_string(
                    std::path::Path::new(id)
                        .file_name()
                        .map_or("/", |n| n.to_str().unwrap())
                        .to_owned(),
                ),
            ),
        ],
    };
    let facts = facts
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    assert!(question.resource.type_name().to_string() != "Backend" || kind == "Address");
    Entity::new(euid(kind, id), facts, parents).unwrap()
}

fn dedup(entities: &mut Vec<Entity>) {
    let mut seen = HashSet::new();
    entities.retain(|entity| seen.insert(entity.uid()));
}

fn whole_set(rules: &str) -> PolicySet {
    let mut set = PolicySet::new();
    for (number, rule) in rules.lines().enumerate() {
        let id = PolicyId::new(format!("test.cedar:{}", number + 1));
        set.add(cedar_policy::Policy::parse(Some(id), rule).unwrap())
            .unwrap();
    }
    set
}

fn whole(
    question: &Question<'_>,
    context: question::Context,
    set: &PolicySet,
    store: &Entities,
) -> String {
    let request = cedar_policy::Request::new(
        question.principal.clone(),
        question.action.uid.clone(),
        question.resource.clone(),
        Context::from_pairs(context).unwrap(),
        Some(schema().unwrap()),
    )
    .unwrap();
    let response = Authorizer::new().is_authorized(&request, set, store);
    let mut rules: Vec<String> = response
        .diagnostics()
        .reason()
        .map(|id| id.to_string())
        .collect();
    rules.sort_by_key(|id| id.rsplit(':').next().unwrap().parse::<usize>().unwrap());
    let failed = response.diagnostics().errors().next().is_some();
    let word = match (failed, response.decision(), rules.is_empty()) {
        (true, cedar_policy::Decision::Allow, _) => return "evaluation_error".into(),
        (true, cedar_policy::Decision::Deny, _) => "evaluation_error",
        (false, cedar_policy::Decision::Allow, _) => "allow",
        (false, cedar_policy::Decision::Deny, true) => "default_deny",
        (false, cedar_policy::Decision::Deny, false) => "rule",
    };
    format!("{word} {}", rules.join(",")).trim_end().to_owned()
}
