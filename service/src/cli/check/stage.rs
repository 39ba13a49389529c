//! A stage for one check: a folder of our own with a home, a state, a configuration and a policy
//! that nobody else has, a daemon in it, and the session with the probe.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use cordon_sandbox::{
    adapter::probe::{FLAG, OLD, ORDERS, Orders, READ, WORK},
    plan::INIT_PROGRAM,
};

use super::passed::{self, IN_CHECK};
use crate::{cli::serve::Announcement, error::Failure, paths::Paths};

/// The folder. Gone with it.
#[derive(Debug)]
pub struct Stage {
    root: PathBuf,
    daemon: Option<Child>,
    /// What chooses the walls.
    flags: Vec<OsString>,
    /// Variables of the stage's daemon and session.
    variables: Vec<(&'static str, PathBuf)>,
}

/// What the session's command said.
#[derive(Debug)]
pub struct Said {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// How `cordon run` ended; absent when it was ended for taking too long.
    pub status: Option<ExitStatus>,
}

impl Stage {
    /// A new one in /tmp: a folder that may be granted, and that no session sees otherwise.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(flags: &[OsString], in_container: bool) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!("{PREFIX}{:016x}", u64::from_ne_bytes(random));
        let root = Path::new("/tmp").join(name);
        let private = |path: &Path| DirBuilder::new().mode(0o700).create(path);
        remove_left();
        // Fails on whatever is there already, a link too.
        private(&root)?;
        let mut stage = Self {
            root,
            daemon: None,
            flags: flags.to_vec(),
            variables: Vec::new(),
        };
        stage.variables = stage.variables(in_container);
        for folder in ["home", "state", "run", "config", WORK, READ] {
            private(&stage.at(folder))?;
        }
        fs::write(stage.at(WORK).join(OLD), "old")?;
        fs::write(stage.at(READ).join(OLD), "old")?;
        fs::write(stage.at("secret"), "secret")?;
        Ok(stage)
    }

    /// A path in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Starts the daemon, which reads no configuration but the stage's own.
    ///
    /// # Errors
    /// [`Failure`] with what the daemon said.
    pub fn start_daemon(&mut self, orders: &Orders) -> Result<(), Failure> {
        fs::write(self.at("policy.cedar"), policy(orders))?;
        fs::write(self.at("cordon.toml"), configuration(orders))?;
        let messages = File::create(self.at("messages"))?;
        let mut command = self.command()?;
        command
            .args(["serve", "--user", "--announce", "--config-alone"])
            .arg(self.at("cordon.toml"))
            .stdout(Stdio::piped())
            .stderr(messages);
        let mut child = command.spawn()?;
        let mut said = String::new();
        let out = child.stdout.take();
        self.daemon = Some(child);
        if let Some(mut out) = out {
            out.read_to_string(&mut said)?;
        }
        match serde_json::from_str(&said) {
            Ok(Announcement::Ready) => Ok(()),
            Ok(Announcement::Failed { message, .. }) => Err(Failure::new(format!(
                "the walls could not be tried: the check's daemon did not start: {message}"
            ))),
            Err(_garbled) => Err(Failure::new(
                "the walls could not be tried: the check's daemon ended without a word",
            )),
        }
    }

    /// Runs the session with the probe.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run_probe(&self, orders: &Orders) -> Result<Said, Failure> {
        fs::write(self.at(WORK).join(ORDERS), serde_json::to_vec(orders)?)?;
        // The session of the check is the one session that runs unchecked.
        passed::remember(&self.paths()?, &self.flags)?;
        // Left open on purpose: the session must not have it.
        let (stray, _other) = io::pipe()?;
        rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty())?;
        let grant = |name: &str, mode: &str| format!("{}:{mode}", self.at(name).display());
        let mut command = self.command()?;
        command
            .args(["run", "--quiet", "--agent", "none", "--policy"])
            .arg(self.at("policy.cedar"))
            .args(["--grant", &grant(WORK, "rw"), "--grant", &grant(READ, "ro")])
            .args(&self.flags)
            .args(["--", INIT_PROGRAM, FLAG])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        finish(command.spawn()?)
    }

    /// The directories of the stage's daemon and session.
    fn paths(&self) -> Result<Paths, Failure> {
        let paths = Paths::from_env(|name| {
            let mut known = self.variables.iter();
            let (_, folder) = known.find(|(variable, _)| *variable == name)?;
            Some(folder.clone().into_os_string())
        })?;
        paths.make()?;
        Ok(paths)
    }

    /// Everything of its own; but where podman has its images is the user's. Without a runtime
    /// directory the stage's daemon has its socket in its state, and podman finds its own.
    fn variables(&self, in_container: bool) -> Vec<(&'static str, PathBuf)> {
        let own = |(name, folder): &(&'static str, &str)| (*name, self.at(folder));
        let state = OWN.iter().map(own);
        if !in_container {
            return state.chain(ELSEWHERE.iter().map(own)).collect();
        }
        let users = ["HOME", "XDG_DATA_HOME", "CONTAINERS_STORAGE_CONF"];
        let users = users
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?.into())));
        state.chain(users).collect()
    }

    fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env(IN_CHECK, "1")
            .envs(self.variables.iter().map(|(name, folder)| (name, folder)))
            .current_dir(self.at("home"))
            .stdin(Stdio::null());
        Ok(command)
    }
}

/// What checks left that were killed: no check takes so long.
fn remove_left() {
    for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
        let is_stage = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes());
        let Ok(found) = entry
            .metadata()
            .and_then(|found| Ok((found.uid(), found.modified()?)))
        else {
            continue;
        };
        let (owner, made) = found;
        let is_old = made.elapsed().is_ok_and(|age| age > OLDEST);
        if is_stage && is_old && owner == rustix::process::geteuid().as_raw() {
            // Never through a link: then it is no folder.
            let _busy = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // Its state is thrown away with it.
            let _gone = daemon.kill();
            let _reaped = daemon.wait();
        }
        let _left = fs::remove_dir_all(&self.root);
    }
}

/// What a stage's name begins with.
const PREFIX: &str = "cordon-boundary-";

/// A stage of this age is nobody's any more.
const OLDEST: Duration = Duration::from_secs(600);

const OWN: [(&str, &str); 2] = [("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "config")];
const ELSEWHERE: [(&str, &str); 2] = [("HOME", "home"), ("XDG_RUNTIME_DIR", "run")];

fn policy(orders: &Orders) -> String {
    format!(
        r#"@id("start")
permit (principal, action == Action::"start_session", resource);

@id("grants")
permit (principal, action in Action::"grant", resource);

@id("allowed")
permit (principal, action in Action::"network", resource == Host::"{}");
"#,
        orders.allowed
    )
}

fn configuration(orders: &Orders) -> String {
    let mut text = String::from("[resolve.overrides]\n");
    let names = [&orders.allowed, &orders.denied];
    for name in names {
        text += &format!("\"{name}\" = [\"127.0.0.1\"]\n");
    }
    for name in names {
        text += &format!(
            "\n[[network.permit_addresses]]\nhost = \"{name}\"\naddresses = [\"127.0.0.1/32\"]\n"
        );
    }
    text
}

/// Waits for the end, for as long as that may take.
fn finish(mut child: Child) -> Result<Said, Failure> {
    let (told, heard) = mpsc::channel();
    let mut readers = 0;
    let streams: [Option<Box<dyn io::Read + Send>>; 2] = [
        child.stdout.take().map(|stream| Box::new(stream) as _),
        child.stderr.take().map(|stream| Box::new(stream) as _),
    ];
    for (at, stream) in streams.into_iter().enumerate() {
        let Some(stream) = stream else { continue };
        let told = told.clone();
        readers += 1;
        thread::Builder::new().spawn(move || {
            let mut bytes = Vec::new();
            let _cut = stream.take(MOST_SAID).read_to_end(&mut bytes);
            let _nobody = told.send((at, String::from_utf8_lossy(&bytes).into_owned()));
        })?;
    }
    let (mut out, mut err, mut late) = (String::new(), String::new(), false);
    for _reader in 0..readers {
        match heard.recv_timeout(PATIENCE) {
            Ok((0, text)) => out = text,
            Ok((_, text)) => err = text,
            Err(_late) => late = true,
        }
    }
    if late {
        let _gone = child.kill();
    }
    let status = child.wait()?;
    Ok(Said {
        out,
        err,
        status: (!late).then_some(status),
    })
}

/// More than all attempts say, in bytes.
const MOST_SAID: u64 = 1 << 20;

/// How long the session may take: each attempt is bounded, and all but a few fail at once.
const PATIENCE: Duration = Duration::from_secs(30);
