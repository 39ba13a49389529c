//! The schema's names as Cedar values, made once per snapshot.

use std::collections::HashMap;

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, Schema};

/// Entity types and actions, ready to be used.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    pub(crate) types: Types,
    actions: HashMap<String, ActionFacts>,
}

/// One action that can be asked for.
#[derive(Debug)]
pub(crate) struct ActionFacts {
    pub(crate) uid: EntityUid,
    /// The action below all its groups. Without it in the store `action in Group` is silently
    /// false, and a `forbid` written so would never fire.
    pub(crate) entity: Entity,
    /// The action itself and every group it is in.
    pub(crate) scopes: Vec<EntityUid>,
}

macro_rules! types {
    ($($field:ident = $name:literal),* $(,)?) => {
        /// Entity types of the schema that requests are built from.
        #[derive(Debug)]
        pub(crate) struct Types { $(pub(crate) $field: EntityTypeName),* }

        impl Types {
            fn new() -> Result<Self, String> {
                Ok(Self { $($field: $name.parse().map_err(
                    |error| format!("{}: {error}", $name))?),* })
            }
        }
    };
}

types! {
    address = "Address",
    agent = "Agent",
    audit_log = "AuditLog",
    backend = "Backend",
    connector = "Connector",
    connector_scope = "ConnectorScope",
    domain = "Domain",
    extension = "Extension",
    extension_permission = "ExtensionPermission",
    extension_tool = "ExtensionTool",
    file = "File",
    folder = "Folder",
    group = "Group",
    host = "Host",
    host_group = "HostGroup",
    network = "Network",
    organisation = "Organisation",
    origin = "Origin",
    platform = "Platform",
    policy_bundle = "PolicyBundle",
    publisher = "Publisher",
    session = "Session",
    user = "User",
}

impl Vocabulary {
    pub(crate) fn new(schema: &Schema) -> Result<Self, String> {
        let entities = schema.action_entities().map_err(|e| e.to_string())?;
        let actions = schema
            .actions()
            .map(|uid| {
                let facts = ActionFacts::new(uid, &entities);
                (uid.id().unescaped().to_owned(), facts)
            })
            .collect();
        Ok(Self {
            types: Types::new()?,
            actions,
        })
    }

    pub(crate) fn action(&self, name: &str) -> Option<&ActionFacts> {
        self.actions.get(name)
    }

    /// Every action, for conditions that name one.
    pub(crate) fn action_entity(&self, uid: &EntityUid) -> Option<&Entity> {
        self.actions
            .values()
            .find(|facts| facts.uid == *uid)
            .map(|facts| &facts.entity)
    }
}

impl ActionFacts {
    fn new(uid: &EntityUid, entities: &Entities) -> Self {
        let groups: Vec<EntityUid> = entities
            .ancestors(uid)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        Self {
            uid: uid.clone(),
            entity: Entity::new_no_attrs(uid.clone(), groups.iter().cloned().collect()),
            scopes: std::iter::once(uid.clone()).chain(groups).collect(),
        }
    }
}

/// An entity's uid from its type and plain id.
pub(crate) fn uid(type_name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(type_name.clone(), EntityId::new(id))
}
