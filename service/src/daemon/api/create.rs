//! Opens sessions: of a command that Cordon starts inside walls, or one without walls that a runtime
//! holds and asks for.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json,
    body::Bytes,
    extract::{Extension, State},
    http::{HeaderMap, StatusCode},
};
use cordon_policy::SeccompProfile;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Caller, Daemon, Peer,
    grants::NewGrant,
    manage,
    problem::{Code, Problem},
    sessions::{SessionView, not_opened, read, view},
};
use crate::{
    control::{GrantAsked, Handed},
    daemon::{
        approvals::own::Holder,
        hosted::{self, Repeatable, Wish},
        is_pack,
        launch::{self, NotStarted, Start},
        policies::Somebody,
    },
};

/// What a new session is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// What Cordon starts, inside walls: the command and its arguments. Without it the runtime runs
    /// what it runs by itself and asks.
    #[schema(min_items = 1, max_items = 4096)]
    command: Option<Vec<String>>,
    /// Without `command`: what it runs, a program's name, for policy and the log.
    program: Option<String>,
    /// Agent profile; for a `command` by its name when left out, and `none` for no profile.
    agent: Option<String>,
    /// What it runs on, for policy. A `command` runs on this machine; a session without one where
    /// its runtime says, and on this when left out.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,31}$")]
    platform: Option<String>,
    /// What holds its walls: of a `command` `bubblewrap`, where nothing is said, or `container`;
    /// without one `none`.
    #[schema(pattern = "^(bubblewrap|container|none)$")]
    backend: Option<String>,
    /// With `container`: an image that podman has.
    image: Option<String>,
    /// With `container`: a folder with a root file system.
    #[schema(value_type = Option<String>, pattern = "^/[^\\x00]*$")]
    rootfs: Option<PathBuf>,
    /// Which system calls a `command` may make.
    #[schema(value_type = Option<String>, pattern = "^(strict|default|build)$")]
    profile: Option<SeccompProfile>,
    /// Without `command`: seconds without a question or a heartbeat after which it ends; 12 hours
    /// where not said.
    #[schema(minimum = 10, maximum = 43200)]
    idle_seconds: Option<u64>,
    /// What it may use. Without walls only `wall_seconds` can be held.
    #[serde(default)]
    limits: NewLimits,
    /// Variables of a `command`, with their values.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// The running session that a `command` is started for.
    parent: Option<String>,
    /// Packs by name, and files and folders by absolute path, that decide it, as `--policy` of
    /// `cordon run`; absent: the same as there.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    policy: Vec<PathBuf>,
    /// Folders that it may use.
    #[serde(default)]
    grants: Vec<NewGrant>,
    /// Session defaults of a `command`, by the file's absolute path, as `--defaults` of `cordon run`:
    /// modes of grants by their names, folders that are always granted, variables that never go in.
    #[schema(value_type = Option<String>, pattern = "^/[^\\x00]*$")]
    defaults: Option<PathBuf>,
    /// The folder that is worked in: its `.cordon/policy` can narrow, and a `command` starts in it
    /// where it is granted.
    #[schema(value_type = Option<String>, pattern = "^/[^\\x00]*$")]
    workspace: Option<PathBuf>,
}

/// What a new session may use: each lowers what `[sandbox.limits]` names, or stands for its default.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewLimits {
    /// Memory of all its processes, in bytes.
    memory_bytes: Option<u64>,
    /// Processes and threads at a time.
    processes: Option<u64>,
    /// Processor time, in hundredths of one processor.
    cpu_percent: Option<u64>,
    /// Open files of each process.
    open_files: Option<u64>,
    /// Size of each file that it writes, in bytes.
    file_bytes: Option<u64>,
    /// Size of `/tmp`, in bytes.
    tmp_bytes: Option<u64>,
    /// Time from start to end, pauses included, in seconds.
    wall_seconds: Option<u64>,
}

/// Opens a session: starts a command inside walls, or holds a session without any.
///
/// Of a command it answers once the walls stand and the command is about to run, at most 60 s later.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", request_body = NewSession,
    responses((status = 201, body = SessionView), (status = 400, body = Problem),
        (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)))]
pub async fn create(
    State(daemon): State<Arc<Daemon>>,
    Extension(peer): Extension<Peer>,
    Extension(caller): Extension<Caller>,
    key: Option<Extension<Repeatable>>,
    body: Bytes,
) -> Result<(StatusCode, HeaderMap, Json<SessionView>), Problem> {
    let asked: NewSession = read(&body)?;
    asked.check_paths()?;
    let live = match &asked.command {
        Some(_command) if !caller.commands => return Err(may_not_start(&caller)),
        Some(_command) => {
            let start = asked.start(caller.somebody())?;
            launch::start(&daemon, start).await.map_err(not_started)?
        }
        None => {
            let holder = Holder::of(peer.0);
            let mut wish = asked.wish(holder, key.map(|Extension(key)| key))?;
            wish.by = caller.somebody();
            let opened = hosted::create(&daemon, wish).await;
            opened.map_err(|answer| not_opened(&daemon, answer))?
        }
    };
    let leave = manage::naming(live.leave());
    Ok((StatusCode::CREATED, leave, Json(view(&live))))
}

impl NewSession {
    fn check_paths(&self) -> Result<(), Problem> {
        let named = self.policy.iter().filter(|path| !is_pack(path));
        let folders = self
            .workspace
            .iter()
            .chain(&self.rootfs)
            .chain(&self.defaults);
        for path in folders.chain(named) {
            if !path.is_absolute() {
                let why = format!("`{}` is not an absolute path", path.display());
                return Err(Problem::new(Code::Malformed, why));
            }
        }
        Ok(())
    }

    /// A session without walls.
    fn wish(self, holder: Holder, key: Option<Repeatable>) -> Result<Wish, Problem> {
        let walled = [
            ("image", self.image.is_some()),
            ("rootfs", self.rootfs.is_some()),
            ("profile", self.profile.is_some()),
            ("env", !self.env.is_empty()),
            ("parent", self.parent.is_some()),
            ("defaults", self.defaults.is_some()),
        ];
        let limit = |(name, value): &(&'static str, Option<u64>)| {
            (value.is_some() && *name != "wall_seconds").then_some(*name)
        };
        let named = walled.iter().find_map(|(name, is)| is.then_some(*name));
        if let Some(name) = named.or_else(|| self.limits.rows().iter().find_map(limit)) {
            let why = format!("`{name}` cannot be held without walls");
            return Err(malformed(
                why,
                "leave it out, or name a `command` for Cordon to start inside walls",
            ));
        }
        if self
            .backend
            .as_deref()
            .is_some_and(|backend| backend != "none")
        {
            let why = "walls need a `command` that Cordon starts inside them";
            return Err(malformed(why, "name one, or leave `backend` out"));
        }
        let plain = |platform: &String| {
            let first =
                platform.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
            let rest = |c: char| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
            };
            first && platform.len() <= 32 && platform.chars().all(rest)
        };
        if self.platform.as_ref().is_some_and(|name| !plain(name)) {
            let why = "`platform` is a short word: `linux`, `macos`, `windows`";
            return Err(Problem::new(Code::Malformed, why));
        }
        let longest = hosted::IDLE.as_secs();
        let wrong = |seconds: u64| !(LEAST_IDLE..=longest).contains(&seconds);
        if self.idle_seconds.is_some_and(wrong) {
            let why = format!("`idle_seconds` is {LEAST_IDLE} to {longest}");
            return Err(Problem::new(Code::Malformed, why));
        }
        let missing = || malformed("`program` is missing", "or name a `command` to start");
        Ok(Wish {
            program: self.program.ok_or_else(missing)?,
            agent: self.agent,
            grants: asked_for(self.grants)?,
            workspace: self.workspace,
            policy: self.policy,
            holder,
            hook: None,
            key,
            by: Somebody::default(),
            platform: self.platform,
            wall_seconds: self.limits.wall_seconds,
            idle_seconds: self.idle_seconds,
        })
    }

    /// A session of a command, inside walls.
    fn start(self, by: Somebody) -> Result<Start, Problem> {
        let command = self.command.unwrap_or_default();
        if command.first().is_none_or(String::is_empty) {
            let why = "`command` is a program and its arguments";
            return Err(Problem::new(Code::Malformed, why));
        }
        if self.program.is_some() {
            let why = "a `command` has its program's name already";
            return Err(malformed(why, "leave `program` out"));
        }
        if self.idle_seconds.is_some() {
            let why = "`idle_seconds` is for a session whose runtime asks";
            return Err(malformed(why, "`limits.wall_seconds` bounds a command"));
        }
        let here = std::env::consts::OS;
        if self.platform.as_ref().is_some_and(|name| name != here) {
            let why = format!("a command that Cordon starts here runs on `{here}`");
            return Err(malformed(why, "leave `platform` out"));
        }
        let backend = match self.backend.as_deref() {
            None | Some("bubblewrap") => "bubblewrap",
            Some("container") => "container",
            Some("none") => {
                let help = "start it yourself, in a session without `command`";
                return Err(malformed("Cordon starts no command without walls", help));
            }
            Some(_other) => {
                let why = "`backend` is `bubblewrap`, `container` or `none`";
                return Err(Problem::new(Code::Malformed, why));
            }
        };
        for name in self.env.keys() {
            let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                let why = format!("`{}` is no name of a variable", name.escape_default());
                return Err(Problem::new(Code::Malformed, why));
            }
        }
        let mut options = vec![option("--backend", Path::new(backend))];
        let texts = [
            ("--agent", &self.agent),
            ("--image", &self.image),
            ("--parent", &self.parent),
        ];
        for (name, value) in texts {
            options.extend(value.iter().map(|value| option(name, Path::new(value))));
        }
        options.extend(self.rootfs.iter().map(|path| option("--rootfs", path)));
        options.extend(self.defaults.iter().map(|path| option("--defaults", path)));
        options.extend(self.policy.iter().map(|path| option("--policy", path)));
        let profile = self.profile.map(SeccompProfile::name);
        options.extend(profile.map(|name| option("--profile", Path::new(name))));
        options.extend(self.limits.options());
        Ok(Start {
            by,
            options,
            command,
            handed: Handed {
                grants: asked_for(self.grants)?,
                variables: self.env.into_iter().collect(),
                workspace: self.workspace,
            },
        })
    }
}

fn asked_for(grants: Vec<NewGrant>) -> Result<Vec<GrantAsked>, Problem> {
    grants.into_iter().map(NewGrant::asked).collect()
}

impl NewLimits {
    fn rows(&self) -> [(&'static str, Option<u64>); 7] {
        [
            ("memory_bytes", self.memory_bytes),
            ("processes", self.processes),
            ("cpu_percent", self.cpu_percent),
            ("open_files", self.open_files),
            ("file_bytes", self.file_bytes),
            ("tmp_bytes", self.tmp_bytes),
            ("wall_seconds", self.wall_seconds),
        ]
    }

    /// As flags of `cordon run`: a number without a unit is one of bytes, or of seconds.
    fn options(&self) -> Vec<OsString> {
        let flags = [
            "--memory",
            "--processes",
            "--cpu",
            "--open-files",
            "--file-size",
            "--tmp-size",
            "--wall-time",
        ];
        let rows = flags.into_iter().zip(self.rows());
        let named = rows.filter_map(|(flag, (_name, value))| Some((flag, value?)));
        named
            .map(|(flag, value)| format!("{flag}={value}").into())
            .collect()
    }
}

/// Shortest time without a question, in seconds: a heartbeat every few must be enough.
const LEAST_IDLE: u64 = 10;

/// In one word, so that no value is taken for another option.
fn option(name: &str, value: &Path) -> OsString {
    let mut word = OsString::from(format!("{name}="));
    word.push(value);
    word
}

fn malformed(why: impl Into<String>, help: &str) -> Problem {
    Problem::new(Code::Malformed, why).help(Some(help.into()))
}

fn may_not_start(caller: &Caller) -> Problem {
    let why = format!("{} may not start commands on this machine", caller.user);
    let help = "ask over the socket, or say `commands = true` for this caller in `[[api.callers]]`";
    Problem::new(Code::NotOpen, why).help(Some(help.into()))
}

fn not_started(why: NotStarted) -> Problem {
    let (code, words) = match why {
        NotStarted::Refused(refused) => return super::sessions::refused(refused),
        NotStarted::Usage(words) => (Code::Malformed, words),
        NotStarted::Failed(words) => (Code::Conflict, words),
        NotStarted::Late(words) => {
            let seconds = launch::DEADLINE.as_secs();
            let why = format!("it did not run within {seconds} s: {words}");
            return Problem::new(Code::Late, why);
        }
        NotStarted::Crowded => {
            let why = format!("{} sessions that the API started run already", launch::MOST);
            let help = "end those that are over with their work";
            return Problem::new(Code::Busy, why).help(Some(help.into()));
        }
    };
    let words = words.strip_prefix("error: ").unwrap_or(&words);
    match words.split_once("\nhelp: ") {
        Some((what, help)) => Problem::new(code, what).help(Some(help.into())),
        None => Problem::new(code, words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> NewSession {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_value_is_never_an_option_of_its_own() {
        let all = asked(
            r#"{"command": ["sh", "--", "-c"], "agent": "--backend=none", "policy": ["/--x"],
                "parent": "-q", "profile": "strict", "limits": {"memory_bytes": 67108864},
                "env": {"TOKEN": "secret"}, "grants": [{"path": "/a:rw=b", "mode": "ro"}]}"#,
        );
        let start = all.start(Somebody::default()).unwrap();
        assert_eq!(
            start.options,
            [
                "--backend=bubblewrap",
                "--agent=--backend=none",
                "--parent=-q",
                "--policy=/--x",
                "--profile=strict",
                "--memory=67108864",
            ]
        );
        assert_eq!(start.handed.variables, [("TOKEN".into(), "secret".into())]);
        assert_eq!(start.handed.grants[0].path, Path::new("/a:rw=b"));
    }

    #[test]
    fn f14_what_cannot_be_held_is_refused_by_name() {
        for (text, named) in [
            (
                r#"{"program": "x", "limits": {"processes": 9}}"#,
                "`processes`",
            ),
            (r#"{"program": "x", "profile": "strict"}"#, "`profile`"),
            (r#"{"program": "x", "env": {"A": "b"}}"#, "`env`"),
            (r#"{"program": "x", "image": "a"}"#, "`image`"),
            (r#"{"program": "x", "defaults": "/a"}"#, "`defaults`"),
            (r#"{"program": "x", "backend": "bubblewrap"}"#, "walls"),
            (r#"{"program": "x", "platform": "Mac OS"}"#, "`platform`"),
            (r#"{"program": "x", "idle_seconds": 9}"#, "`idle_seconds`"),
            ("{}", "`program`"),
        ] {
            let refused = asked(text).wish(Holder::default(), None).unwrap_err();
            assert!(refused.to_string().contains(named), "{text}: {refused}");
        }
        let held = r#"{"program": "x", "platform": "macos", "backend": "none",
            "limits": {"wall_seconds": 60}}"#;
        let wish = asked(held).wish(Holder::default(), None).unwrap();
        assert_eq!(
            (wish.platform.as_deref(), wish.wall_seconds),
            (Some("macos"), Some(60))
        );
        for (text, named) in [
            (r#"{"command": []}"#, "`command`"),
            (r#"{"command": [""]}"#, "`command`"),
            (r#"{"command": ["x"], "program": "y"}"#, "program"),
            (r#"{"command": ["x"], "backend": "none"}"#, "walls"),
            (r#"{"command": ["x"], "backend": "vm"}"#, "`backend`"),
            (
                r#"{"command": ["x"], "idle_seconds": 60}"#,
                "`idle_seconds`",
            ),
            (r#"{"command": ["x"], "platform": "plan9"}"#, "runs on"),
            (r#"{"command": ["x"], "env": {"A=B": "c"}}"#, "variable"),
        ] {
            let refused = asked(text).start(Somebody::default()).unwrap_err();
            assert!(refused.to_string().contains(named), "{text}: {refused}");
        }
    }
}
