//! Searches among Cordon's own: which running session may, and what one may do.
//!
//! Sessions and actions can be gone through; hosts, paths and whatever else a session may ask for
//! cannot, so a search for resources of a session finds nothing.

use std::{sync::Arc, time::Instant};

use cordon_policy::application::{Found, Page};

use super::search::{Limits, SearchRequest, Sought};
use crate::daemon::{
    Daemon,
    api::{
        decide::look_over,
        operation::{ACTIONS, Question},
    },
    live::Live,
    policies::Somebody,
};

/// The type of subject that is a running session.
pub(super) const TYPE: &str = "Session";

pub(super) async fn search(
    daemon: &Daemon,
    who: &Somebody,
    asked: &SearchRequest,
    sought: Sought,
    limits: &Limits,
) -> Page {
    match sought {
        Sought::Resource => Page::default(),
        Sought::Subject => {
            let action = asked.action.as_ref().and_then(|act| act.name.clone());
            let action = action.unwrap_or_default();
            let all = daemon.registry.all();
            let candidates = all
                .iter()
                .map(|live| (live.id().to_owned(), live, &*action));
            go_through(daemon, who, candidates, Some(TYPE), asked, limits).await
        }
        Sought::Action => {
            let id = asked.subject.as_ref().and_then(|one| one.id.as_deref());
            let Some(live) = id.and_then(|id| daemon.registry.of_id(id)) else {
                return Page::default();
            };
            let kind = asked.resource.as_ref().and_then(|one| one.kind.as_deref());
            let candidates = ACTIONS
                .iter()
                .filter(|(_, kinds)| kind.is_some_and(|kind| kinds.contains(&kind)))
                .map(|(name, _)| ((*name).to_owned(), &live, *name));
            go_through(daemon, who, candidates, None, asked, limits).await
        }
    }
}

/// Looks at candidates, which come in the order of their ids.
async fn go_through<'a>(
    daemon: &Daemon,
    who: &Somebody,
    candidates: impl Iterator<Item = (String, &'a Arc<Live>, &'a str)>,
    kind: Option<&str>,
    asked: &SearchRequest,
    limits: &Limits,
) -> Page {
    let mut page = Page::default();
    let mut last = None;
    for (id, live, action) in candidates {
        if limits.after.as_ref().is_some_and(|after| id <= *after) {
            continue;
        }
        let full = page.found.len() >= limits.found || page.evaluated >= Limits::EVALUATED;
        if page.evaluated > 0 && (full || Instant::now() >= limits.until) {
            page.after = last;
            return page;
        }
        page.evaluated += 1;
        last = Some(id.clone());
        if !daemon.policies.may_read(who, live.facts()).await {
            continue;
        }
        if may(daemon, live, action, asked).await {
            page.found.push(Found {
                kind: kind.map(str::to_owned),
                id,
            });
        }
    }
    page
}

async fn may(daemon: &Daemon, live: &Live, action: &str, asked: &SearchRequest) -> bool {
    let Some(resource) = &asked.resource else {
        return false;
    };
    let properties = asked
        .action
        .as_ref()
        .and_then(|act| act.properties.as_ref());
    let facts = [
        asked.context.as_ref(),
        properties,
        resource.properties.as_ref(),
    ];
    let question = Question::new(
        action,
        resource.kind.as_deref().unwrap_or_default(),
        resource.id.as_deref().unwrap_or_default(),
        facts.into_iter().flatten().collect(),
    );
    match question.wanted() {
        Ok(wanted) => look_over(daemon, live, wanted).await.allowed,
        Err(_not_askable) => false,
    }
}
