//! A private world for one scenario: folders, configuration, policy, and what must be true of it
//! at its end.

mod end;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::OsStr,
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    Authority, Identity, Origin, Outcome, Session, binary, identity::Account, origin::http::Reply,
    policy::Policy, process,
};

/// Everything a scenario needs, owned by one account and gone at the end.
#[derive(Debug)]
pub struct World {
    /// What policy the sessions run under; change it before a session, or between two.
    pub policy: Policy,
    /// Further text of `cordon.toml`.
    pub config: String,
    account: Account,
    root: TempDir,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    permitted: BTreeMap<String, IpAddr>,
    authority: Option<Authority>,
    private_mounts: Vec<String>,
    sessions: RefCell<Vec<String>>,
}

impl World {
    /// Runs `scenario` in a new world of `identity`, then asks the world whether it is whole.
    ///
    /// Only root can become both identities; what cannot run says so and is not a failure.
    pub fn scenario(identity: Identity, scenario: fn(&mut Self)) {
        let Some(account) = identity.account() else {
            eprintln!("not run as {identity:?}: only root can become it");
            return;
        };
        let mut world = Self::new(account);
        scenario(&mut world);
        world.end();
    }

    /// An empty world of `account`.
    pub fn new(account: Account) -> Self {
        let root = tempfile::Builder::new()
            .prefix("cordon-world-")
            .tempdir_in("/tmp")
            .expect("/tmp takes a folder");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let world = Self {
            policy: Policy::default(),
            config: String::new(),
            account,
            root,
            addresses: BTreeMap::new(),
            permitted: BTreeMap::new(),
            authority: None,
            private_mounts: Vec::new(),
            sessions: RefCell::default(),
        };
        for folder in [
            "home",
            "home/project",
            "state",
            "config",
            "config/cordon",
            "run",
        ] {
            let folder = world.root.path().join(folder);
            fs::create_dir(&folder).expect("the world is new");
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("it is ours");
            world.give(&folder);
        }
        world
    }

    /// Whose world it is.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The user's home.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// The project folder: the current directory of every session here.
    pub fn project(&self) -> PathBuf {
        self.root.path().join("home/project")
    }

    /// The state directory of the product.
    pub fn state(&self) -> PathBuf {
        self.root.path().join("state/cordon")
    }

    /// The runtime directory of the product.
    pub fn runtime(&self) -> PathBuf {
        self.root.path().join("run/cordon")
    }

    /// Where `cordon.toml` lies.
    pub fn config_file(&self) -> PathBuf {
        self.root.path().join("config/cordon/cordon.toml")
    }

    /// Writes a file of the user's, below the world's folder.
    pub fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.path().join(path);
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.give(&path);
        path
    }

    /// Writes a file into the project folder.
    pub fn project_file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        self.write(self.project().join(name), bytes)
    }

    /// Makes a folder of the user's, below the world's folder.
    pub fn folder(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.root.path().join(path);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.give(&path);
        path
    }

    /// Makes the account the owner of something.
    pub fn give(&self, path: &Path) {
        chown(path, Some(self.account.uid), Some(self.account.gid))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Runs a host program as the account, in the world's home, and expects it to succeed.
    #[track_caller]
    pub fn host(&self, program: &str, args: &[&str]) -> Outcome {
        let mut command = self.as_account(program);
        command.args(args);
        let outcome = process::finish(command, b"");
        outcome.expect_code(0);
        outcome
    }

    /// `name` resolves to `address`; without [`World::permit`] it is classified like any other.
    pub fn resolve(&mut self, name: &str, address: IpAddr) {
        self.addresses.entry(name.into()).or_default().push(address);
    }

    /// `name` may resolve to the special-use address `address`.
    pub fn permit(&mut self, name: &str, address: IpAddr) {
        self.permitted.insert(name.into(), address);
    }

    /// `name` leads to `address`, and may.
    pub fn route(&mut self, name: &str, address: SocketAddr) {
        self.resolve(name, address.ip());
        self.permit(name, address.ip());
    }

    /// Starts an HTTP origin that answers `hello from NAME`, led to by `name`; policy is not told.
    pub fn origin(&mut self, name: &str) -> Origin {
        let text = format!("hello from {name}\n");
        let origin = Origin::http(move |_request| Reply::ok(text.clone()));
        self.route(name, origin.address());
        origin
    }

    /// As [`World::origin`], and policy allows it.
    pub fn allowed_origin(&mut self, name: &str) -> Origin {
        self.policy.allow(name);
        self.origin(name)
    }

    /// The world's certificate authority, which its sessions trust.
    pub fn authority(&mut self) -> Authority {
        if self.authority.is_none() {
            let authority = Authority::new();
            self.write("authority.pem", authority.certificate());
            self.authority = Some(authority);
        }
        self.authority.clone().expect("just made")
    }

    /// Bind-mounts `from` over `to` for everything of the product that this world runs. Root's.
    ///
    /// Returns `false`, and says so, where the tests do not run as root and so cannot.
    pub fn mount_over(&mut self, from: &Path, to: &str) -> bool {
        let able = can_mount();
        if able {
            self.private_mounts
                .push(format!("mount --bind '{}' '{to}'", from.display()));
        }
        able
    }

    /// Has a Python script stand where bubblewrap does, in which `REAL` is where bubblewrap itself
    /// is now. Root's, as [`World::mount_over`].
    pub fn bubblewrap_through(&mut self, script: &str) -> bool {
        let installed = fs::read("/usr/bin/bwrap").expect("bubblewrap is installed");
        let real = self.write("bwrap-real", installed);
        let text = format!("#!/usr/bin/python3\nREAL = '{}'\n{script}", real.display());
        let wrapper = self.write("bwrap-wrapper", text);
        for path in [&real, &wrapper] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        self.mount_over(&wrapper, "/usr/bin/bwrap")
    }

    /// Takes a program of `/usr/bin` away from everything of the product that this world runs, by
    /// an overlay with a hole in it. Root's, as [`World::mount_over`].
    pub fn without_program(&mut self, name: &str) -> bool {
        let able = can_mount();
        if able {
            let [upper, work] = ["upper", "work"].map(|name| self.folder(name));
            self.private_mounts.push(format!(
                "mount -t overlay overlay -o lowerdir=/usr/bin,upperdir='{}',workdir='{}' /usr/bin \
                 && rm -f '/usr/bin/{name}' && chmod 755 /usr/bin && chown root:root /usr/bin",
                upper.display(),
                work.display()
            ));
        }
        able
    }

    /// A session of this world, to run `command`.
    pub fn session(&self, command: &[&str]) -> Session<'_> {
        Session::new(self, command)
    }

    /// Runs the product with `args` as they are.
    #[track_caller]
    pub fn cordon<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome {
        let mut command = self.command();
        command.args(args);
        process::finish(command, b"")
    }

    /// The records of one session, in order, as the log shows them.
    #[track_caller]
    pub fn records(&self, session: &str) -> Vec<serde_json::Value> {
        let shown = self.cordon(&["audit", "show", "--format", "json", session]);
        shown.expect_code(0);
        shown
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }

    /// The product's command line, to be completed: as the account, in the project folder, with
    /// the world's environment and nothing of ours.
    pub fn command(&self) -> Command {
        let text = self.config_text();
        // A daemon that is starting may be reading it.
        if fs::read(self.config_file()).ok().as_deref() != Some(text.as_bytes()) {
            self.write(self.config_file(), text);
        }
        let mut command = if self.private_mounts.is_empty() {
            self.as_account(binary::cordon())
        } else {
            self.behind_private_mounts()
        };
        command.current_dir(self.project());
        command
    }

    /// Writes the world's policy and returns where it is.
    pub fn policy_folder(&self) -> PathBuf {
        let folder = self.folder("policy");
        for (name, text) in self.policy.files() {
            self.write(folder.join(name), text);
        }
        folder
    }

    /// Remembers a session for [`World::end`].
    pub fn remember(&self, outcome: &Outcome) {
        let id = outcome
            .stderr
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find_map(|value| Some(value.get("session")?.as_str()?.to_owned()));
        self.sessions.borrow_mut().extend(id);
    }

    /// What a process of this world carries in its environment or is named by.
    pub fn marks(&self) -> Vec<String> {
        let folder = self.root.path().to_string_lossy().into_owned();
        let sessions = self.sessions.borrow();
        std::iter::once(folder)
            .chain(sessions.iter().cloned())
            .collect()
    }

    /// A program as the account, with the world's environment, in its home.
    pub fn as_account(&self, program: impl AsRef<OsStr>) -> Command {
        use std::os::unix::process::CommandExt;

        let mut command = Command::new(program);
        self.environment(&mut command);
        command.current_dir(self.home());
        if self.account.uid != rustix::process::getuid().as_raw() {
            command.uid(self.account.uid).gid(self.account.gid);
        }
        command
    }

    /// The product in a mount namespace of its own, where [`World::mount_over`] took effect.
    fn behind_private_mounts(&self) -> Command {
        let mut script = self.private_mounts.join(" && ");
        write!(
            script,
            " && exec setpriv --reuid={} --regid={} --clear-groups \"$@\"",
            self.account.uid, self.account.gid
        )
        .expect("a text takes text");
        let mut command = Command::new("unshare");
        self.environment(&mut command);
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            &script,
            "sh",
        ]);
        command.arg(binary::cordon());
        command
    }

    fn environment(&self, command: &mut Command) {
        let root = self.root.path();
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.home())
            .env("USER", &self.account.name)
            .env("LOGNAME", &self.account.name)
            .env("SHELL", "/bin/bash")
            .env("LANG", "C.UTF-8")
            .env("XDG_STATE_HOME", root.join("state"))
            .env("XDG_CONFIG_HOME", root.join("config"))
            .env("XDG_RUNTIME_DIR", root.join("run"));
    }

    fn config_text(&self) -> String {
        let mut text = self.config.clone();
        // Every world is new to the product; each would try its walls first.
        if !text.contains("[check]") {
            text.push_str("\n[check]\nbefore_first_session = false\n");
        }
        if !self.addresses.is_empty() {
            text.push_str("\n[resolve.overrides]\n");
        }
        for (name, addresses) in &self.addresses {
            let list: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
            writeln!(text, "\"{name}\" = [{}]", list.join(", ")).expect("a text takes text");
        }
        for (name, address) in &self.permitted {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            writeln!(
                text,
                "\n[[network.permit_addresses]]\nhost = \"{name}\"\naddresses = [\"{address}/{bits}\"]"
            )
            .expect("a text takes text");
        }
        if self.authority.is_some() {
            let path = self.root.path().join("authority.pem");
            writeln!(
                text,
                "\n[tls]\nextra_ca_certificates = [\"{}\"]",
                path.display()
            )
            .expect("a text takes text");
        }
        text
    }
}

/// Whether this run of the tests may mount over the system's files.
fn can_mount() -> bool {
    let able = rustix::process::getuid().is_root();
    if !able {
        eprintln!("not run: only root can mount over the system's files");
    }
    able
}
