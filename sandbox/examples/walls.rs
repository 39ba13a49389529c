//! Runs one command in a sandbox with no policy, no proxy and no daemon: what the launch tests
//! drive, and a way to look at the walls by hand.
//!
//! `walls [--ro DIR|--rw DIR]... [--guard] [--profile NAME] [--identity-of DIR] [--env NAME=VALUE]... -- COMMAND [ARG]...`

use std::{
    env,
    error::Error,
    ffi::OsString,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::ExitCode,
};

use cordon_policy::{GrantMode, SeccompProfile};
use cordon_sandbox::{
    adapter::Sandbox,
    guard::{Books, GuardedGrant, Refusal, Ruling, SessionStart, Shield, Supervisor},
    init,
    launch::{self, LaunchError, NoHooks, RunHooks},
    owners::Owners,
    plan::{Access, Command, HostLayout, Identity, Mount, SandboxPlan, Sizes, User},
    terminal::Stdio,
};

fn main() -> ExitCode {
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(init::NAME.as_ref()) {
        return init::main(words);
    }
    match run(words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut cause = error.source();
            while let Some(next) = cause {
                text.push_str(&format!(": {next}"));
                cause = next.source();
            }
            if let Some(hint) = error
                .downcast_ref::<LaunchError>()
                .and_then(LaunchError::hint)
            {
                text.push_str(&format!("\nhelp: {hint}"));
            }
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: impl Iterator<Item = OsString>) -> Result<u8, Box<dyn Error>> {
    let start = SessionStart::now();
    let plan = plan(words)?;
    let sandbox = launch::prepare(&plan, Stdio::inherit().map_err(LaunchError::from)?)?;
    let mut sandbox: Box<dyn Sandbox> = Box::new(sandbox);
    let _listeners = sandbox.take_listeners();
    if !plan.guard {
        return Ok(sandbox.run(&mut NoHooks)?.code());
    }
    let guarded = |mount: &Mount| GuardedGrant {
        host: mount.source.clone(),
        inside: mount.target.clone(),
        mode: GrantMode::Rw,
        shield: Some(Shield::default()),
        preserve: false,
        names_stay: false,
        since: start,
    };
    let mut guard = Guard {
        grants: plan.mounts.iter().map(guarded).collect(),
        start,
        owners: sandbox.owners(),
    };
    Ok(sandbox.run(&mut guard)?.code())
}

/// Holds removals to what the session made.
struct Guard {
    grants: Vec<GuardedGrant>,
    start: SessionStart,
    owners: Option<Owners>,
}

impl RunHooks for Guard {
    fn supervise(&mut self, listener: OwnedFd) -> Result<(), String> {
        let grants = std::mem::take(&mut self.grants);
        let supervisor = Supervisor::new(
            grants,
            self.start,
            listener,
            Books::default(),
            |_refusal: &Refusal| Ruling::Refused,
        )
        .map_err(|error| error.to_string())?
        .acting_as(self.owners.clone());
        // Ends with the last process under its filter, and with this program at the latest.
        std::thread::spawn(move || supervisor.run());
        Ok(())
    }
}

fn plan(mut words: impl Iterator<Item = OsString>) -> Result<SandboxPlan, Box<dyn Error>> {
    let session = "test".to_owned();
    let home = Path::new("/sessions").join(&session);
    let mut mounts: Vec<Mount> = Vec::new();
    let mut environment: Vec<(OsString, OsString)> = vec![
        (
            "PATH".into(),
            "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into(),
        ),
        ("HOME".into(), home.clone().into()),
    ];
    let mut profile = SeccompProfile::Default;
    let mut guard = false;
    while let Some(word) = words.next().filter(|word| word != "--") {
        if word == "--guard" {
            guard = true;
            continue;
        }
        let value = words.next().ok_or("an option without a value")?;
        match word.to_str() {
            Some("--ro") => mounts.push(mount(&home, value.into(), Access::ReadOnly)?),
            Some("--rw") => mounts.push(mount(&home, value.into(), Access::ReadWrite)?),
            Some("--profile") => {
                let name = value.to_str().unwrap_or_default();
                profile = SeccompProfile::named(name).ok_or("no such profile")?;
            }
            // As if another directory had been decided about.
            Some("--identity-of") => {
                let identity = Identity::of(Path::new(&value))?;
                mounts
                    .iter_mut()
                    .for_each(|mount| mount.identity = identity);
            }
            Some("--env") => {
                let text = value
                    .into_string()
                    .map_err(|_| "a variable that is not text")?;
                let (name, value) = text.split_once('=').ok_or("a variable without `=`")?;
                environment.push((name.into(), value.into()));
            }
            _ => return Err(format!("unknown option {word:?}").into()),
        }
    }
    let (uid, gid) = user();
    Ok(SandboxPlan {
        session,
        user: User {
            uid,
            gid,
            name: "tester".into(),
        },
        host_name: "cordon".into(),
        init_program: env::current_exe()?,
        layout: HostLayout::read()?,
        mounts,
        files: Vec::new(),
        sizes: Sizes::default(),
        limits: cordon_sandbox::limits::Limits::default(),
        command: Command {
            arguments: words.collect(),
            environment,
            directory: home,
        },
        profile,
        guard,
        walls: Default::default(),
    })
}

/// Root's sessions are somebody else's.
fn user() -> (u32, u32) {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    match (uid.as_raw(), gid.as_raw()) {
        (0, _) => (2_000_200_000, 2_000_200_000),
        own => own,
    }
}

fn mount(home: &Path, source: PathBuf, access: Access) -> Result<Mount, Box<dyn Error>> {
    let source = source.canonicalize()?;
    let name = source.file_name().ok_or("a folder without a name")?;
    Ok(Mount {
        target: home.join("mnt").join(name),
        identity: Identity::of(&source)?,
        source,
        access,
    })
}
