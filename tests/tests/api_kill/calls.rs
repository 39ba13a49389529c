//! Every call that changes something: how it comes about, and how it is known whether it was done.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use cordon_tests::api::{curl, hosted, send};
use serde_json::{Value, json};

use super::{logged, sessions, told::Told};

/// A call, and how it is known whether it was done.
pub struct Call {
    pub path: String,
    pub body: String,
    /// The status of its answer when it is done.
    pub answered: u16,
    /// Whether a daemon that is killed keeps it.
    pub kept: bool,
    /// Whether it is so when the log says so.
    pub rebuilt: bool,
    pub done: Box<dyn Fn(&Told) -> bool>,
    /// How many records say so.
    pub logged: Box<dyn Fn(&Told) -> usize>,
}

pub type Step = fn(&Told) -> Call;

impl Call {
    fn new(path: String, body: impl ToString, answered: u16) -> Self {
        Self {
            path,
            body: body.to_string(),
            answered,
            kept: true,
            rebuilt: false,
            done: Box::new(|_| false),
            logged: Box::new(|_| 1),
        }
    }

    fn done(mut self, done: impl Fn(&Told) -> bool + 'static) -> Self {
        self.done = Box::new(done);
        self
    }

    fn logged(mut self, logged: impl Fn(&Told) -> usize + 'static) -> Self {
        self.logged = Box::new(logged);
        self
    }

    /// The log and the state are each as the other says.
    fn rebuilt(mut self) -> Self {
        self.rebuilt = true;
        self
    }

    /// It is off after a restart.
    fn not_kept(mut self) -> Self {
        self.kept = false;
        self
    }
}

/// Every operation that changes something, with its call.
pub fn steps() -> Vec<(&'static str, Step)> {
    vec![
        ("POST /v1/approvals/{id}", answer),
        ("POST /v1/sessions/{id}/decisions", request),
        ("POST /v1/sessions/{id}/decisions", use_up),
        ("POST /v1/sessions/{id}/tokens", make_token),
        ("DELETE /v1/sessions/{id}/tokens", take_tokens),
        ("POST /v1/extensions", install),
        ("POST /v1/extensions", update),
        ("POST /v1/extensions/{name}/approve", approve),
        ("DELETE /v1/extensions/{name}", remove),
        ("PUT /v1/sessions/{id}/connectors/{name}", enable),
        ("DELETE /v1/sessions/{id}/connectors/{name}", disable),
        ("PUT /v1/sessions/{id}/browser", browser_on),
        ("DELETE /v1/sessions/{id}/browser", browser_off),
        ("POST /v1/sessions/{id}/mcp/{server}", load),
        ("POST /v1/mcp/{server}/accept", accept),
        ("DELETE /v1/mcp/{server}", forget),
        ("POST /v1/hooks/claude-code/session-end", agent_ends),
        ("POST /v1/sessions/{id}/pause", pause),
        ("POST /v1/sessions/{id}/resume", resume),
        ("POST /v1/sessions/{id}/cancel", cancel),
    ]
}

fn answer(told: &Told) -> Call {
    let (_tool, approval) = told.approval(false);
    let path = format!("/v1/approvals/{approval}");
    let shown = path.clone();
    Call::new(path, json!({"answer": "approve"}), 200)
        .done(move |told| told.get(&shown).1["state"] == "given")
        .logged(move |told| {
            told.count(&told.id, |one| {
                one["approval"]["ref"] == approval.as_str() && one["state"] == "granted"
            })
        })
        .rebuilt()
}

fn request(told: &Told) -> Call {
    let tool = told.tool();
    let wanted = format!("call {tool} of issues");
    let asked = json!({"ask": ["call", tool, "of", "issues"]});
    Call::new(told.at("decisions"), asked, 200)
        .done(move |told| {
            let listed = told.get("/v1/approvals?state=pending").1;
            let all = listed["approvals"].as_array().unwrap();
            all.iter().any(|one| one["request"] == wanted.as_str())
        })
        .logged(|told| {
            told.count(&told.id, |one| {
                one["kind"] == "approval" && one["state"] == "requested"
            })
        })
        .rebuilt()
}

/// An approval of one use is used once, whatever is killed.
fn use_up(told: &Told) -> Call {
    let (tool, approval) = told.approval(true);
    let asked = json!({"ask": ["call", tool, "of", "issues"]});
    let shown = format!("/v1/approvals/{approval}");
    Call::new(told.at("decisions"), asked, 200)
        .done(move |told| told.get(&shown).1["state"] == "used")
        .logged(move |told| {
            told.count(&told.id, |one| {
                one["approval"]["ref"] == approval.as_str() && one["effect"] == "allow"
            })
        })
        .rebuilt()
}

fn tokens_known(told: &Told) -> usize {
    let kept = told
        .world
        .state()
        .join("hosted")
        .join(format!("{}.json", told.id));
    let kept: Value = serde_json::from_slice(&fs::read(kept).unwrap()).unwrap();
    kept["tokens"].as_array().map_or(0, Vec::len)
}

fn make_token(told: &Told) -> Call {
    assert_eq!(
        curl(told.world, &told.at("tokens"), &["-X", "DELETE"]).0,
        204
    );
    Call::new(told.at("tokens"), "", 201)
        .done(|told| tokens_known(told) == 1)
        .logged(|told| told.said("token "))
}

fn take_tokens(told: &Told) -> Call {
    let (code, made) = send(told.world, "POST", &told.at("tokens"), "");
    assert_eq!(code, 201, "{made}");
    let bearer = format!("authorization: Bearer {}", made["token"].as_str().unwrap());
    let own = format!("/v1/sessions/{}", told.id);
    Call::new(told.at("tokens"), "", 204)
        .done(move |told| curl(told.world, &own, &["-H", &bearer]).0 == 401)
        .logged(|told| told.said("tokens taken back"))
}

fn install(told: &Told) -> Call {
    told.without_extension();
    let path = told.world.home().join("content-1");
    Call::new("/v1/extensions".into(), json!({"path": path}), 201)
        .done(|told| told.notes()["version"] == "1")
        .logged(|told| told.about_extensions())
}

fn update(told: &Told) -> Call {
    told.without_extension();
    told.installed("1", false);
    let path = told.world.home().join("content-2");
    Call::new(
        "/v1/extensions".into(),
        json!({"path": path, "update": true}),
        201,
    )
    .done(|told| {
        let version = told.notes()["version"].clone();
        assert!(
            version == "1" || version == "2",
            "one of the two is there whole: {version}"
        );
        version == "2"
    })
    .logged(|told| told.about_extensions())
}

fn approve(told: &Told) -> Call {
    told.without_extension();
    let digest = told.installed("1", false)["digest"].clone();
    Call::new(
        "/v1/extensions/notes/approve".into(),
        json!({"digest": digest}),
        200,
    )
    .done(|told| told.notes()["state"] == "approved")
    .logged(|told| told.about_extensions())
}

fn remove(told: &Told) -> Call {
    told.without_extension();
    told.installed("1", false);
    Call::new("/v1/extensions/notes".into(), "", 204)
        .done(|told| told.get("/v1/extensions/notes").0 == 404)
        .logged(|told| told.about_extensions())
}

fn enable(told: &Told) -> Call {
    assert_eq!(
        curl(
            told.world,
            &told.at("connectors/tracker"),
            &["-X", "DELETE"]
        )
        .0,
        204
    );
    Call::new(
        told.at("connectors/tracker"),
        json!({"scopes": ["read"]}),
        200,
    )
    .done(|told| told.connected())
    .logged(|told| told.allowed("connector.enable"))
    .not_kept()
}

fn disable(told: &Told) -> Call {
    let (code, said) = send(
        told.world,
        "PUT",
        &told.at("connectors/tracker"),
        "{\"scopes\": [\"read\"]}",
    );
    assert_eq!((code, &said["allowed"]), (200, &json!(true)), "{said}");
    Call::new(told.at("connectors/tracker"), "", 204)
        .done(|told| !told.connected())
        .logged(|_| off())
}

fn browser_on(told: &Told) -> Call {
    curl(told.world, &told.at("browser"), &["-X", "DELETE"]);
    Call::new(told.at("browser"), "", 200)
        .done(|told| told.get(&told.at("browser")).1["enabled"] == true)
        .logged(|told| told.allowed("browser.enable"))
        .not_kept()
}

fn browser_off(told: &Told) -> Call {
    let (code, said) = send(told.world, "PUT", &told.at("browser"), "");
    assert_eq!((code, &said["allowed"]), (200, &json!(true)), "{said}");
    Call::new(told.at("browser"), "", 204)
        .done(|told| told.get(&told.at("browser")).1["enabled"] == false)
        .logged(|_| off())
}

/// Off is off after a restart, whether somebody said so or not: each is another record than none.
fn off() -> usize {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    CALLS.fetch_add(1, Relaxed)
}

fn load(told: &Told) -> Call {
    assert!(!told.loaded(), "it is not, after a restart");
    Call::new(told.at("mcp/tools"), "", 200)
        .done(|told| told.loaded())
        .logged(|told| told.allowed("extension.load"))
        .not_kept()
}

fn accept(told: &Told) -> Call {
    told.listed();
    told.listed();
    let offered = told.tools();
    assert_eq!(offered["state"], "changed", "{offered}");
    let digest = offered["digest"].clone();
    Call::new(
        "/v1/mcp/tools/accept".into(),
        json!({"tools": {"add": digest}}),
        204,
    )
    .done(|told| told.tools()["state"] == "accepted")
    .logged(|told| told.about_extensions())
}

fn forget(told: &Told) -> Call {
    told.listed();
    Call::new("/v1/mcp/tools".into(), "", 204)
        .done(|told| told.get("/v1/mcp/tools").0 == 404)
        .logged(|told| told.about_extensions())
}

fn agent_ends(told: &Told) -> Call {
    let name = told.tool();
    let asked = json!({
        "session_id": name, "cwd": told.world.project(), "hook_event_name": "PreToolUse", "tool_name": "Read",
        "tool_input": {"file_path": "/x"}, "cordon_policy": ["host-tools"],
    });
    let before = sessions(told.world);
    let (code, said) = send(
        told.world,
        "POST",
        "/v1/hooks/claude-code/pre-tool-use",
        &asked.to_string(),
    );
    assert_eq!(code, 200, "{said}");
    let now = sessions(told.world);
    let own = now.difference(&before).next().unwrap().clone();
    let ended = own.clone();
    let over = json!({"session_id": name, "cordon_policy": ["host-tools"]});
    Call::new("/v1/hooks/claude-code/session-end".into(), over, 204)
        .done(move |told| !sessions(told.world).contains(&own))
        .logged(move |told| usize::from(logged(told.world, "session.end").contains(&ended)))
        .rebuilt()
}

/// Of a session of its own, which stands still when it is done, also for the next daemon.
fn pause(told: &Told) -> Call {
    let own = hosted(told.world, &[]);
    let (shown, logged) = (format!("/v1/sessions/{own}"), own.clone());
    Call::new(format!("{shown}/pause"), "", 200)
        .done(move |told| told.get(&shown).1["state"] == "paused")
        .logged(move |told| told.count(&logged, |one| one["state"] == "paused"))
        .rebuilt()
}

fn resume(told: &Told) -> Call {
    let own = hosted(told.world, &[]);
    let (shown, logged) = (format!("/v1/sessions/{own}"), own.clone());
    let (code, paused) = send(told.world, "POST", &format!("{shown}/pause"), "");
    assert_eq!(
        (code, &paused["state"]),
        (200, &json!("paused")),
        "{paused}"
    );
    Call::new(format!("{shown}/resume"), "", 200)
        .done(move |told| told.get(&shown).1["state"] == "running")
        .logged(move |told| {
            told.count(&logged, |one| {
                one["kind"] == "session.state" && one["state"] == "running"
            })
        })
        .rebuilt()
}

fn cancel(told: &Told) -> Call {
    let own = hosted(told.world, &[]);
    let (path, ended) = (format!("/v1/sessions/{own}/cancel"), own.clone());
    Call::new(path, "", 200)
        .done(move |told| !sessions(told.world).contains(&own))
        .logged(move |told| usize::from(logged(told.world, "session.end").contains(&ended)))
        .rebuilt()
}
