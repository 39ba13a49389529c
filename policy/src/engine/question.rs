//! Turns a canonical request into what Cedar is asked: action, resource, entities, context.
//!
//! Builds only what varies; what is the same for every request was made when the set was loaded.

mod facts;
mod past;
mod seen;

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entity, EntityUid, RestrictedExpression};

use self::facts::{
    Attributes, address_facts, extension_facts, host_facts, operation_context, origin_facts,
    path_facts, string,
};
use super::{
    mentions::Mentions,
    slices::Within,
    target::{Resource, Target, Untargetable, backend_name},
    time,
    vocabulary::{ActionFacts, Vocabulary, uid},
};
use crate::{ApprovalScope, ExtensionFacts, History, Host, NormalizedHost, Request, SessionFacts};

/// One question to Cedar, with every entity that a rule can look at.
pub(crate) struct Question<'a> {
    pub(crate) action: &'a ActionFacts,
    pub(crate) principal: EntityUid,
    pub(crate) resource: EntityUid,
    /// Who, what and on what, each with everything it is in that a rule can name.
    pub(crate) within: Within<'a>,
    pub(crate) entities: Vec<Entity>,
    /// How many of them, from the first, are the same whatever the resource is.
    pub(crate) shared: usize,
    /// Whether a person's approval is a fact of its context. Administration is not approved by
    /// asking: who may do it is who may do it.
    pub(crate) can_be_approved: bool,
    pub(crate) context: Context,
}

/// Facts that cost time to work out, and whether any rule mentions them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uses {
    pub(crate) time: bool,
    pub(crate) host_facts: bool,
    pub(crate) approval: bool,
    /// What a handshake shows.
    pub(crate) tls: bool,
    /// Names that a lookup led to.
    pub(crate) names: bool,
    /// Whether the address is known at all.
    pub(crate) unverified: bool,
    /// Which program made it.
    pub(crate) process: bool,
    /// What an HTTP request says beside method and path.
    pub(crate) http_facts: bool,
    /// What the session did before.
    pub(crate) past: bool,
}

/// Why a request cannot be put to Cedar. Always a deny.
#[derive(Debug)]
pub(crate) enum Unaskable {
    /// It has no canonical target.
    Target(Untargetable),
    /// A fact could not be expressed.
    Fact(String),
}

pub(crate) type Context = Vec<(String, RestrictedExpression)>;

/// What a snapshot knows that a question needs.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) vocabulary: &'a Vocabulary,
    pub(crate) mentions: &'a Mentions,
    pub(crate) uses: Uses,
    /// What the session did before the request.
    pub(crate) past: &'a History,
}

impl<'a> Asker<'a> {
    pub(crate) fn ask(self, request: &Request) -> Result<Question<'a>, Unaskable> {
        let target = Target::of(request).map_err(Unaskable::Target)?;
        let action = self.vocabulary.action(target.action).ok_or_else(|| {
            Unaskable::Fact(format!("the schema has no action `{}`", target.action))
        })?;
        let (resource, parents, attributes) = self.resource(&target.resource);
        let mut resources = vec![resource.clone()];
        resources.extend(parents.iter().cloned());
        let administration = target.is_administration();
        let (principals, mut entities) = if administration {
            self.user(&request.session)
        } else {
            self.principal(&request.session)?
        };
        let principal = if administration {
            uid(&self.vocabulary.types.user, &request.session.user)
        } else {
            uid(&self.vocabulary.types.session, &request.session.id)
        };
        entities.push(action.entity.clone());
        let shared = entities.len();
        // A person who answers their own session is in the store as principal and as its owner.
        if let Resource::Session(asking) = &target.resource
            && asking.user != request.session.user
        {
            entities.extend(self.user(asking).1);
        }
        entities.push(entity(resource.clone(), attributes, parents)?);
        Ok(Question {
            action,
            principal,
            resource,
            within: Within {
                actions: &action.scopes,
                principals,
                resources,
            },
            entities,
            shared,
            can_be_approved: !administration,
            context: self.context(request)?,
        })
    }

    /// The user alone, in their groups.
    fn user(self, facts: &SessionFacts) -> (Vec<EntityUid>, Vec<Entity>) {
        let types = &self.vocabulary.types;
        let user = uid(&types.user, &facts.user);
        let groups = self.groups(facts);
        let mut uids = vec![user.clone()];
        uids.extend(groups.iter().cloned());
        let entity = Entity::new_no_attrs(user, groups.into_iter().collect());
        (uids, vec![entity])
    }

    fn groups(self, facts: &SessionFacts) -> Vec<EntityUid> {
        let group = &self.vocabulary.types.group;
        facts.groups.iter().map(|name| uid(group, name)).collect()
    }

    /// A session and all it is in.
    pub(crate) fn principals(self, facts: &SessionFacts) -> Vec<EntityUid> {
        let (session, _attributes, parents) = self.session(facts);
        std::iter::once(session).chain(parents).collect()
    }

    /// The session and its user, each with all it is in, so that `in` needs no other entity.
    fn principal(self, facts: &SessionFacts) -> Result<(Vec<EntityUid>, Vec<Entity>), Unaskable> {
        let uids = self.principals(facts);
        let (session, attributes, parents) = self.session(facts);
        let mut entities = vec![entity(session, attributes, parents)?];
        entities.extend(self.user(facts).1);
        Ok((uids, entities))
    }

    /// A session as an entity: principal of what it asks, resource of what is answered to it.
    fn session(self, facts: &SessionFacts) -> (EntityUid, Attributes, Vec<EntityUid>) {
        let types = &self.vocabulary.types;
        let session = uid(&types.session, &facts.id);
        let user = uid(&types.user, &facts.user);
        let mut parents = vec![user.clone(), uid(&types.platform, &facts.platform)];
        parents.extend(self.groups(facts));
        let mut attributes = vec![
            ("user", RestrictedExpression::new_entity_uid(user)),
            ("platform", string(&facts.platform)),
            ("backend", string(backend_name(facts.backend))),
        ];
        if let Some(name) = &facts.agent {
            let agent = uid(&types.agent, name);
            attributes.push(("agent", RestrictedExpression::new_entity_uid(agent.clone())));
            parents.push(agent);
        }
        (session, attributes, parents)
    }

    fn resource(self, resource: &Resource) -> (EntityUid, Vec<EntityUid>, Attributes) {
        let types = &self.vocabulary.types;
        let plain = |kind, id: &str| (uid(kind, id), Vec::new(), Vec::new());
        let named = |name: &str| vec![("name", string(name))];
        match resource {
            Resource::Backend(name) => plain(&types.backend, name),
            Resource::Host(host) => (
                uid(&types.host, host.as_str()),
                self.mentions.parents_of_host(host),
                self.host_facts(host),
            ),
            Resource::Address(address) => (
                uid(&types.address, &address.to_string()),
                self.mentions.parents_of_address(*address),
                address_facts(*address),
            ),
            Resource::Folder(path) => (
                uid(&types.folder, path),
                self.mentions.parents_of_path(path),
                path_facts(path),
            ),
            Resource::File(path) => (
                uid(&types.file, path),
                self.mentions.parents_of_path(path),
                path_facts(path),
            ),
            Resource::Connector(name) => plain(&types.connector, name),
            Resource::ConnectorScope { connector, name } => (
                uid(&types.connector_scope, &resource.id()),
                vec![uid(&types.connector, connector)],
                named(name),
            ),
            Resource::Extension(facts) => (
                uid(&types.extension, &facts.id),
                self.publisher(facts),
                extension_facts(facts),
            ),
            Resource::ExtensionPermission { extension, name } => (
                uid(&types.extension_permission, &resource.id()),
                self.extension(extension),
                named(name),
            ),
            Resource::ExtensionTool { extension, name } => (
                uid(&types.extension_tool, &resource.id()),
                self.extension(extension),
                named(name),
            ),
            Resource::Platform(name) => plain(&types.platform, name),
            Resource::Origin(origin) => (
                uid(&types.origin, &origin.to_string()),
                match &origin.destination.host {
                    Host::Name(host) => self.mentions.parents_of_host(host),
                    Host::Address(_) => Vec::new(),
                },
                origin_facts(origin),
            ),
            Resource::Session(facts) => {
                let (uid, attributes, parents) = self.session(facts);
                (uid, parents, attributes)
            }
            Resource::PolicyBundle(name) => plain(&types.policy_bundle, name),
            Resource::AuditLog(name) => plain(&types.audit_log, name),
        }
    }

    fn publisher(self, facts: &ExtensionFacts) -> Vec<EntityUid> {
        let publisher = |name: &String| uid(&self.vocabulary.types.publisher, name);
        facts.publisher.iter().map(publisher).collect()
    }

    /// The extension and all it is in: the parents of its permissions and tools.
    fn extension(self, facts: &ExtensionFacts) -> Vec<EntityUid> {
        let mut parents = vec![uid(&self.vocabulary.types.extension, &facts.id)];
        parents.extend(self.publisher(facts));
        parents
    }

    fn host_facts(self, host: &NormalizedHost) -> Attributes {
        if self.uses.host_facts {
            host_facts(host)
        } else {
            Vec::new()
        }
    }

    /// The part of a question that differs from request to request.
    pub(crate) fn context(self, request: &Request) -> Result<Context, Unaskable> {
        let mut context = operation_context(&request.operation, self.uses)?;
        if self.uses.time {
            let date = time::cedar_datetime(request.at)
                .ok_or_else(|| Unaskable::Fact("the time is outside years 1 to 9999".into()))?;
            context.push(("time".into(), RestrictedExpression::new_datetime(date)));
        }
        // What nobody knows is left out; no rule that looks at it is evaluated then.
        if self.uses.past
            && let History::Known(past) = self.past
        {
            past::add(&mut context, &request.operation, past)?;
        }
        Ok(context)
    }

    /// An entity that a rule's condition names: with the parents and facts it would have as a
    /// resource, so that a condition about it means what it says. None where absence is the same.
    pub(crate) fn literal(self, literal: &EntityUid) -> Result<Option<Entity>, Unaskable> {
        if let Some(action) = self.vocabulary.action_entity(literal) {
            return Ok(Some(action.clone()));
        }
        let (parents, attributes) = self.literal_facts(literal);
        if parents.is_empty() && attributes.is_empty() {
            return Ok(None);
        }
        entity(literal.clone(), attributes, parents).map(Some)
    }

    fn literal_facts(self, literal: &EntityUid) -> (Vec<EntityUid>, Attributes) {
        let types = &self.vocabulary.types;
        let (kind, id) = (literal.type_name(), literal.id().unescaped());
        let none = (Vec::new(), Vec::new());
        if *kind == types.host {
            return id.parse().map_or(none, |host| {
                (self.mentions.parents_of_host(&host), host_facts(&host))
            });
        }
        if *kind == types.domain {
            return id.parse().map_or(none, |host| {
                (self.mentions.parents_of_domain(&host), Vec::new())
            });
        }
        if *kind == types.address {
            return id.parse().map_or(none, |address| {
                (
                    self.mentions.parents_of_address(address),
                    address_facts(address),
                )
            });
        }
        if *kind == types.network {
            return id.parse().map_or(none, |network| {
                (self.mentions.parents_of_network(network), Vec::new())
            });
        }
        if *kind == types.folder || *kind == types.file {
            return (self.mentions.parents_of_path(id), path_facts(id));
        }
        if *kind == types.host_group {
            return (self.mentions.parents_of_group(id), Vec::new());
        }
        none
    }
}

/// The approval that a request has not got, to learn whether one would help.
pub(crate) fn hypothetical_approval() -> Result<(String, RestrictedExpression), Unaskable> {
    approval(ApprovalScope::Once)
}

/// An approval as a fact of the context.
pub(crate) fn approval(scope: ApprovalScope) -> Result<(String, RestrictedExpression), Unaskable> {
    RestrictedExpression::new_record([("scope".to_owned(), string(scope.as_str()))])
        .map(|record| ("approval".to_owned(), record))
        .map_err(|error| Unaskable::Fact(error.to_string()))
}

fn entity(
    uid: EntityUid,
    attributes: Attributes,
    parents: Vec<EntityUid>,
) -> Result<Entity, Unaskable> {
    let attributes: HashMap<String, RestrictedExpression> = attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let parents: HashSet<EntityUid> = parents.into_iter().collect();
    Entity::new(uid, attributes, parents).map_err(|error| Unaskable::Fact(error.to_string()))
}
