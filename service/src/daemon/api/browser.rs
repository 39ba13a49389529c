//! The browser of a session: switching it on and off, each page and action, and the session's proxy
//! for a browser that the runtime drives itself.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use cordon_policy::{BrowserAct, Operation, Origin};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Daemon,
    decide::{DOOR, decide, decide_waiting, look_over, preferred_wait},
    operation::{Wanted, act_named, origin},
    problem::{Code, Problem},
    sessions::{Told, find, read},
};
use crate::daemon::{
    browser::{Browser, NAME, SWITCHED_OFF, Way},
    grants::told as told_of,
    live::Live,
};

/// A session's browser.
#[derive(Debug, Serialize, ToSchema)]
pub struct BrowserView {
    /// Whether it is on.
    enabled: bool,
    /// Why it is off, where that was not by a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    off_because: Option<&'static str>,
    /// The session's proxy, while it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<ProxyView>,
    /// The authority that inspected tunnels are signed by, in PEM: the browser must trust it where
    /// policy inspects.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_certificate: Option<String>,
    /// Options with which a Chromium has no other way out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chromium: Vec<String>,
}

/// A proxy and what it asks for.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProxyView {
    /// Its URL.
    server: String,
    /// The user name.
    username: &'static str,
    /// The password: whoever knows it is this session.
    password: String,
}

/// What came of switching it on.
#[derive(Debug, Serialize, ToSchema)]
pub struct BrowserEnabled {
    /// The decision.
    #[serde(flatten)]
    told: Told,
    /// The browser as it is now.
    browser: BrowserView,
}

/// A page that is to be opened.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Navigation {
    /// Its URL, `http` or `https`.
    url: String,
    /// Only look: nothing is done, so nothing is recorded and no approval is asked for.
    #[serde(default)]
    look: bool,
}

/// Something that is to be done on a page.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PageAction {
    /// The page's URL, as the browser shows it now.
    url: String,
    /// `click`, `type`, `submit`, `upload`, `download` or `script`.
    #[schema(pattern = "^(click|type|submit|upload|download|script)$")]
    kind: String,
    /// As of a navigation.
    #[serde(default)]
    look: bool,
}

/// Switches the browser on: a decision about `enable_browser`.
#[utoipa::path(put, path = "/v1/sessions/{id}/browser", tag = "browser",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, body = BrowserEnabled), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)))]
pub async fn enable(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<Json<BrowserEnabled>, Problem> {
    let live = session(&daemon, &id)?;
    let lives = |session: &str| daemon.registry.of_id(session).is_some();
    let turn = daemon.browsers.switches().begin(live.id(), NAME, lives);
    // From before it is decided: a change of policy meanwhile switches it off again.
    live.policy().hold([Operation::EnableBrowser]);
    let verdict = decide(&daemon, &live, Wanted::Operation(Operation::EnableBrowser)).await;
    let verdict = verdict?;
    if !verdict.allowed && !daemon.browsers.is_on(live.id()) {
        live.policy().release(&Operation::EnableBrowser);
    }
    if verdict.allowed {
        let opened = Browser::open(&daemon.egress, &live);
        let opened = opened.map_err(|why| Problem::new(Code::Conflict, why))?;
        match daemon.browsers.switches().finish(&turn, opened) {
            Ok(before) => {
                live.settle_browser();
                if let Some(before) = before {
                    before.close().await;
                }
            }
            Err(opened) => {
                opened.close().await;
                let why = "it was switched off, or on once more, while this was decided";
                return Err(Problem::new(Code::Conflict, why));
            }
        }
        // A session that ended meanwhile has switched off what it found.
        if !lives(live.id()) {
            daemon.browsers.off(live.id()).await;
            return Err(Problem::new(Code::Conflict, "the session has ended"));
        }
    }
    Ok(Json(BrowserEnabled {
        told: verdict.into(),
        browser: view(&daemon, &live),
    }))
}

/// Switches the browser off, at once: what goes on through its proxy is cut.
#[utoipa::path(delete, path = "/v1/sessions/{id}/browser", tag = "browser",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn disable(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let live = session(&daemon, &id)?;
    live.policy().release(&Operation::EnableBrowser);
    let was_lost = live.lost_its_browser();
    live.settle_browser();
    if daemon.browsers.off(live.id()).await || was_lost {
        told_of(&live, SWITCHED_OFF.into()).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the browser is on, and with which settings it is started.
#[utoipa::path(get, path = "/v1/sessions/{id}/browser", tag = "browser",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, body = BrowserView), (status = 404, body = Problem)))]
pub async fn show(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<Json<BrowserView>, Problem> {
    let live = find(&daemon, &id)?;
    Ok(Json(view(&daemon, &live)))
}

/// The session's proxy as a file for automatic proxy configuration.
#[utoipa::path(get, path = "/v1/sessions/{id}/browser/proxy.pac", tag = "browser",
    params(("id" = String, Path, description = "Session id")),
    responses((status = 200, content_type = "application/x-ns-proxy-autoconfig", body = String),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn pac(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let live = find(&daemon, &id)?;
    let Some(Way { address, .. }) = daemon.browsers.way(live.id()) else {
        let why = live.why_no_browser();
        return Err(Problem::new(Code::Conflict, why).help(Some(switch_on(&live))));
    };
    // Nothing is direct, and there is no second choice: a proxy that is gone leads nowhere.
    let text =
        format!("function FindProxyForURL(url, host) {{\n  return \"PROXY {address}\";\n}}\n");
    let media = "application/x-ns-proxy-autoconfig";
    Ok(([(header::CONTENT_TYPE, media)], text).into_response())
}

/// Decides whether a page may be opened.
#[utoipa::path(post, path = "/v1/sessions/{id}/browser/navigations", tag = "browser",
    params(("id" = String, Path, description = "Session id")), request_body = Navigation,
    responses((status = 200, body = Told), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn navigate(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Told>, Problem> {
    let Navigation { url, look } = read(&body)?;
    let live = session(&daemon, &id)?;
    let origin = of_page(&live, &url, look).await?;
    let operation = Operation::OpenOrigin { origin };
    decided(&daemon, &live, operation, look, &headers).await
}

/// Decides whether something may be done on a page.
#[utoipa::path(post, path = "/v1/sessions/{id}/browser/actions", tag = "browser",
    params(("id" = String, Path, description = "Session id")), request_body = PageAction,
    responses((status = 200, body = Told), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn act(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Told>, Problem> {
    let PageAction { url, kind, look } = read(&body)?;
    let live = session(&daemon, &id)?;
    let act: BrowserAct = act_named(&kind).map_err(|why| Problem::new(Code::Malformed, why))?;
    let origin = of_page(&live, &url, look).await?;
    let operation = Operation::ActInOrigin { origin, act };
    decided(&daemon, &live, operation, look, &headers).await
}

async fn decided(
    daemon: &Daemon,
    live: &Live,
    operation: Operation,
    look: bool,
    headers: &HeaderMap,
) -> Result<Json<Told>, Problem> {
    let wanted = Wanted::Operation(operation);
    if look {
        return Ok(Json(look_over(daemon, live, wanted).await.into()));
    }
    let verdict = decide_waiting(daemon, live, wanted, preferred_wait(headers)).await;
    Ok(Json(verdict?.into()))
}

/// The origin of a page, or the recorded refusal of what has none that policy could speak of.
async fn of_page(live: &Live, url: &str, look: bool) -> Result<Origin, Problem> {
    match page_origin(url) {
        Ok(origin) => Ok(origin),
        Err(why) => {
            if !look {
                let raw = recorded(url);
                let _refused = live
                    .gate()
                    .refuse_raw(DOOR, raw.as_bytes(), why.clone())
                    .await;
            }
            let help = "a page is `https://HOST[:PORT]/...`, or `http`";
            Err(Problem::new(Code::Malformed, why).help(Some(help.into())))
        }
    }
}

/// What a record holds of a URL that is refused: no password, path or content of the page's own (A08).
fn recorded(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once(':') else {
        return "something that is no URL".into();
    };
    let is_web = ["http", "https"].contains(&&*scheme.to_ascii_lowercase());
    match rest.strip_prefix("//").filter(|_| is_web) {
        Some(rest) => {
            let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
            let (authority, further) = rest.split_at(end);
            match authority.rsplit_once('@') {
                // What looks like a port can be the beginning of a password with one of those in it.
                None if further.contains('@') => {
                    let host = authority.split(':').next().unwrap_or_default();
                    format!("{scheme}://{host}")
                }
                None => format!("{scheme}://{authority}"),
                Some((_secret, host)) => format!("{scheme}://{host}"),
            }
        }
        None => format!("{}:", scheme.get(..MOST_SCHEME).unwrap_or(scheme)),
    }
}

/// The origin of a URL. Refuses what browsers would read in another way: they take `\` for `/` and
/// leave out line breaks.
fn page_origin(url: &str) -> Result<Origin, String> {
    if url.len() > LONGEST_URL
        || !url
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    {
        return Err("the URL is too long, or has a character that no URL has".into());
    }
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    origin(&format!("{}://{authority}", scheme.to_ascii_lowercase()))
}

fn session(daemon: &Daemon, id: &str) -> Result<Arc<Live>, Problem> {
    let live = find(daemon, id)?;
    daemon.hosted.touch(live.id());
    Ok(live)
}

fn switch_on(live: &Live) -> String {
    format!(
        "PUT /v1/sessions/{}/browser decides whether it may be",
        live.id()
    )
}

fn view(daemon: &Daemon, live: &Live) -> BrowserView {
    match daemon.browsers.way(live.id()) {
        None => BrowserView {
            enabled: false,
            off_because: live.lost_its_browser().then(|| live.why_no_browser()),
            proxy: None,
            ca_certificate: None,
            chromium: Vec::new(),
        },
        Some(way) => {
            let server = format!("http://{}", way.address);
            BrowserView {
                enabled: true,
                off_because: None,
                chromium: chromium(&server),
                proxy: Some(ProxyView {
                    server,
                    username: NAME,
                    password: way.secret,
                }),
                ca_certificate: way.certificate,
            }
        }
    }
}

/// Options of Chromium: everything by the proxy, this machine's own addresses included; no name is
/// looked up, and nothing is sent by UDP.
fn chromium(server: &str) -> Vec<String> {
    [
        &format!("--proxy-server={server}"),
        "--proxy-bypass-list=<-loopback>",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        "--dns-prefetch-disable",
        "--disable-quic",
        "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
        "--webrtc-ip-handling-policy=disable_non_proxied_udp",
        "--disable-background-networking",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Bytes of a scheme that are recorded.
const MOST_SCHEME: usize = 32;

/// Longest URL of a page, in bytes.
const LONGEST_URL: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a08_the_record_of_a_refused_url_has_no_secret() {
        for (url, kept) in [
            ("https://u:secret@a.test/p?token=secret", "https://a.test"),
            ("HTTP://u:p@ss@a.test:8080#secret", "HTTP://a.test:8080"),
            ("https://a.test\\@secret/", "https://a.test"),
            ("https://u:secret/more@a.test/", "https://u"),
            ("https://u:1234?5@a.test/", "https://u"),
            ("https://a.test:8080/p", "https://a.test:8080"),
            ("data:text/html,secret", "data:"),
            ("javascript:alert('secret')", "javascript:"),
            ("blob:https://a.test/secret", "blob:"),
            ("file:///home/u/secret", "file:"),
            ("secret", "something that is no URL"),
        ] {
            assert_eq!(recorded(url), kept, "{url}");
        }
    }

    #[test]
    fn a_page_has_the_origin_that_a_browser_gives_it() {
        for (url, origin) in [
            ("https://a.test/x?y#z", "https://a.test"),
            ("HTTPS://A.test", "https://a.test"),
            ("http://a.test:8080?x", "http://a.test:8080"),
            ("https://a.test#@b.test/", "https://a.test"),
        ] {
            assert_eq!(page_origin(url).unwrap().to_string(), origin, "{url}");
        }
        for url in [
            "",
            "a.test",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:text/html,x",
            "blob:https://a.test/x",
            "view-source:https://a.test",
            "https://a.test\\@b.test/",
            "https://u:p@a.test/",
            "https://a.\ntest/",
            "https:///a.test",
            "https://",
        ] {
            assert!(page_origin(url).is_err(), "{url:?}");
        }
    }
}
