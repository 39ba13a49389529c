//! AuthZEN's searches: who may, to what, and what may be done.
//!
//! A question with one part missing in, a bounded page out, and one record of the whole search.
//! Of applications the stored entities are gone through, of Cordon's own the running sessions. A
//! candidate is looked at as a decision would be, and nothing is done.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Bytes,
    extract::{Extension, State},
    http::{HeaderMap, StatusCode},
};
use cordon_audit::{
    AccessOutcome,
    record::{Access, AccessEntity},
};
use cordon_policy::application::{Act, Named, Page, Search, Wanted};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Fields, LooseAction, LooseEntity, Refused,
    applications::{Asker, computed, failed},
    read, sessions,
    token::Bound,
};
use crate::daemon::{Daemon, api::Caller};

/// Most results of a page, and how many there are where the caller does not say.
const MOST_FOUND: usize = 1_000;
/// Most candidates that one call looks at.
const MOST_EVALUATED: usize = 10_000;
/// Time for one call; then its page ends.
const TIME: Duration = Duration::from_secs(2);

/// A question with one part missing: that is looked for. Its `id` or `name` is ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SearchRequest {
    /// Who; its type alone where subjects are looked for.
    pub(super) subject: Option<LooseEntity>,
    /// What is to be done; absent where actions are looked for.
    pub(super) action: Option<LooseAction>,
    /// To what; its type alone where resources are looked for.
    pub(super) resource: Option<LooseEntity>,
    /// Facts.
    #[schema(value_type = Option<Object>)]
    pub(super) context: Option<Fields>,
    /// Which part of the results.
    page: Option<PageRequest>,
}

/// Which part of the results is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct PageRequest {
    /// `next_token` of the page before; everything else of the question is as it was then.
    token: Option<String>,
    /// Most results, 1 to 1000. Default 1000.
    #[schema(minimum = 1)]
    limit: Option<u64>,
}

/// A part of the results.
#[derive(Debug, Serialize, ToSchema)]
pub struct Results {
    /// What fits, in the order of ids or names.
    results: Vec<Found>,
    /// Where the results go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<PageResponse>,
}

/// One result: a type and an id, or the name of an action.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Found {
    /// A subject or resource.
    Entity {
        /// Its type.
        #[serde(rename = "type")]
        kind: String,
        /// Its id.
        id: String,
    },
    /// An action.
    Action {
        /// Its name.
        name: String,
    },
}

/// Where the results go on.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageResponse {
    /// For the page that follows; empty at the end.
    next_token: String,
    /// How many results are in this one.
    count: usize,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sought {
    Subject,
    Resource,
    Action,
}

/// Finds subjects of a type that may do this to this resource.
#[utoipa::path(post, path = "/access/v1/search/subject", tag = "authzen",
    request_body = SearchRequest,
    responses((status = 200, body = Results), (status = 400, body = String),
              (status = 403, body = String), (status = 503, body = String)))]
pub async fn subject(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Results>, Refused> {
    search(
        &Asker::new(&daemon, &caller, &headers),
        Sought::Subject,
        &headers,
        &body,
    )
    .await
}

/// Finds resources of a type that this subject may do this to.
#[utoipa::path(post, path = "/access/v1/search/resource", tag = "authzen",
    request_body = SearchRequest,
    responses((status = 200, body = Results), (status = 400, body = String),
              (status = 403, body = String), (status = 503, body = String)))]
pub async fn resource(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Results>, Refused> {
    search(
        &Asker::new(&daemon, &caller, &headers),
        Sought::Resource,
        &headers,
        &body,
    )
    .await
}

/// Finds what this subject may do to this resource.
#[utoipa::path(post, path = "/access/v1/search/action", tag = "authzen",
    request_body = SearchRequest,
    responses((status = 200, body = Results), (status = 400, body = String),
              (status = 403, body = String), (status = 503, body = String)))]
pub async fn action(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Results>, Refused> {
    search(
        &Asker::new(&daemon, &caller, &headers),
        Sought::Action,
        &headers,
        &body,
    )
    .await
}

async fn search(
    asker: &Asker<'_>,
    sought: Sought,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Json<Results>, Refused> {
    let asked: SearchRequest = read(headers, body)?;
    asked.check(sought).map_err(Refused::malformed)?;
    let wants_page = asked.page.is_some();
    let found = match asked.page.as_ref().and_then(|page| page.limit) {
        Some(0) => return Err(Refused::malformed("`page.limit` is not 1 to 1000")),
        Some(limit) => usize::try_from(limit).unwrap_or(MOST_FOUND).min(MOST_FOUND),
        None => MOST_FOUND,
    };
    let kind = asked.subject_kind().to_owned();
    let of_sessions = kind == sessions::TYPE;
    if of_sessions && !asker.is_user() {
        return Err(asker.not_yours(None).await);
    }
    let (set, application) = asker.application(&kind, None).await?;
    let question = question(sought, body);
    let bound = Bound {
        caller: &asker.caller.user,
        policy: set.digest(),
        question: &question,
    };
    // An empty token asks for the first page.
    let token = asked.page.as_ref().and_then(|page| page.token.as_deref());
    let after = match token.filter(|token| !token.is_empty()) {
        Some(token) => Some(bound.after(token).ok_or_else(|| {
            Refused::malformed(
                "`page.token` is not of this question, or policy has changed: begin again without",
            )
        })?),
        None => None,
    };
    let mut access = asked.access(sought);
    let limits = Limits {
        after,
        found,
        until: Instant::now() + TIME,
    };
    let page = match application {
        _ if of_sessions => {
            let who = asker.caller.somebody();
            sessions::search(asker.daemon, &who, &asked, sought, &limits).await
        }
        None => Page::default(),
        Some(application) => {
            access.application = Some(application.bundle().to_owned());
            access.said = application.said_of(
                asked.subject.as_ref().and_then(LooseEntity::named),
                asked.action.as_ref().and_then(LooseAction::act),
                asked.resource.as_ref().and_then(LooseEntity::named),
                asked.context.as_ref().map(|fields| &fields.0),
            );
            // It computes for as long as two seconds.
            let work = move || in_application(&application, &asked, sought, &limits);
            match computed(work).await {
                Some(page) => page,
                None => {
                    let why = "not gone through in time: ask for less";
                    asker.record(&set, access, failed(true, why)).await?;
                    return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, why.into()));
                }
            }
        }
    };
    access.evaluated = u64::try_from(page.evaluated).ok();
    access.found = u64::try_from(page.found.len()).ok();
    asker
        .record(&set, access, AccessOutcome::Allowed(Vec::new()))
        .await?;
    let next = match &page.after {
        Some(after) => Some(bound.token(after).ok_or_else(|| {
            let why = "there is no randomness for a token: ask for less";
            Refused(StatusCode::SERVICE_UNAVAILABLE, why.into())
        })?),
        None => None,
    };
    let count = page.found.len();
    Ok(Json(Results {
        page: (wants_page || next.is_some()).then(|| PageResponse {
            next_token: next.unwrap_or_default(),
            count,
        }),
        results: page.found.into_iter().map(Found::from).collect(),
    }))
}

/// Where a search stands, and how far it may go.
pub(super) struct Limits {
    pub(super) after: Option<String>,
    pub(super) found: usize,
    pub(super) until: Instant,
}

impl Limits {
    pub(super) const EVALUATED: usize = MOST_EVALUATED;
}

fn in_application(
    application: &cordon_policy::Application,
    asked: &SearchRequest,
    sought: Sought,
    limits: &Limits,
) -> Page {
    let search = Search {
        context: asked.context.as_ref().map(|fields| &fields.0),
        after: limits.after.as_deref(),
        found: limits.found,
        evaluated: MOST_EVALUATED,
        until: limits.until,
    };
    // What is missing was refused before.
    let wanted = asked.wanted(sought);
    wanted.map_or_else(Page::default, |wanted| application.search(&wanted, search))
}

/// Every field but the page, in one spelling: keys in their order, without white space.
fn question(sought: Sought, body: &[u8]) -> String {
    let mut fields: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("page");
    }
    fields.sort_all_objects();
    format!("{sought:?} {fields}")
}

impl SearchRequest {
    /// What is looked for; `None` where a part of it is missing.
    fn wanted(&self, sought: Sought) -> Option<Wanted<'_>> {
        let (subject, resource) = (self.subject.as_ref()?, self.resource.as_ref()?);
        let action = self.action.as_ref().and_then(LooseAction::act);
        Some(match sought {
            Sought::Subject => Wanted::Subject {
                kind: subject.kind.as_deref()?,
                action: action?,
                resource: resource.named()?,
            },
            Sought::Resource => Wanted::Resource {
                subject: subject.named()?,
                action: action?,
                kind: resource.kind.as_deref()?,
            },
            Sought::Action => Wanted::Action {
                subject: subject.named()?,
                resource: resource.named()?,
            },
        })
    }

    /// What has to be there.
    fn check(&self, sought: Sought) -> Result<(), String> {
        let whole = |name: &str, entity: Option<&LooseEntity>, id: bool| {
            let entity = entity.ok_or_else(|| format!("`{name}` is missing"))?;
            if entity.kind.is_none() {
                return Err(format!("`{name}.type` is missing"));
            }
            match id && entity.id.is_none() {
                true => Err(format!("`{name}.id` is missing")),
                false => Ok(()),
            }
        };
        whole("subject", self.subject.as_ref(), sought != Sought::Subject)?;
        whole(
            "resource",
            self.resource.as_ref(),
            sought != Sought::Resource,
        )?;
        if sought == Sought::Action {
            return Ok(());
        }
        let action = self.action.as_ref().ok_or("`action` is missing")?;
        action.name.as_ref().ok_or("`action.name` is missing")?;
        Ok(())
    }

    pub(super) fn subject_kind(&self) -> &str {
        let kind = self.subject.as_ref().and_then(|one| one.kind.as_deref());
        kind.unwrap_or_default()
    }

    fn access(&self, sought: Sought) -> Access {
        let entity = |entity: &LooseEntity, sought: bool| AccessEntity {
            id: entity.id.clone().filter(|_| !sought),
            kind: entity.kind.clone().unwrap_or_default(),
        };
        let action = self.action.as_ref().filter(|_| sought != Sought::Action);
        Access {
            action: action.and_then(|action| action.name.clone()),
            resource: self
                .resource
                .as_ref()
                .map(|one| entity(one, sought == Sought::Resource)),
            sought: Some(sought.as_str().to_owned()),
            subject: self
                .subject
                .as_ref()
                .map(|one| entity(one, sought == Sought::Subject)),
            ..Access::default()
        }
    }
}

impl Sought {
    fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Resource => "resource",
            Self::Action => "action",
        }
    }
}

impl From<cordon_policy::application::Found> for Found {
    fn from(found: cordon_policy::application::Found) -> Self {
        match found.kind {
            Some(kind) => Self::Entity { kind, id: found.id },
            None => Self::Action { name: found.id },
        }
    }
}

impl LooseEntity {
    fn named(&self) -> Option<Named<'_>> {
        Some(Named {
            kind: self.kind.as_deref()?,
            id: self.id.as_deref().unwrap_or_default(),
            properties: self.properties.as_ref().map(|fields| &fields.0),
        })
    }
}

impl LooseAction {
    fn act(&self) -> Option<Act<'_>> {
        Some(Act {
            name: self.name.as_deref()?,
            properties: self.properties.as_ref().map(|fields| &fields.0),
        })
    }
}
