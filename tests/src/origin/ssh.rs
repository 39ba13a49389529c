//! An sshd of the test's own: an ordinary user's, on a high port, with its own keys.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use crate::{Identity, World};

/// A running sshd; it lets in whoever holds the key it made, as the user it runs as.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    address: SocketAddr,
    /// Login name at the server.
    pub user: String,
    /// Folder with `key` and `known_hosts`, to be granted to a session.
    pub client: PathBuf,
}

impl Sshd {
    /// Starts it as the ordinary user, known to clients as `name`.
    pub fn start(world: &World, name: &str) -> Self {
        let account = Identity::User.account().expect("everybody is someone");
        let server = world.folder("sshd");
        let client = world.folder("ssh-client");
        let key = client.join("key");
        world.host(
            "ssh-keygen",
            &[
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-f",
                &key.to_string_lossy(),
            ],
        );
        let address = free_address();
        let files = [("host_key", ""), ("authorized_keys", ""), ("config", "")];
        let [host_key, authorized, config] = files.map(|(file, _)| server.join(file));
        world.host(
            "ssh-keygen",
            &[
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-f",
                &host_key.to_string_lossy(),
            ],
        );
        fs::copy(client.join("key.pub"), &authorized).expect("just made");
        let text = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             UsePAM no\nStrictModes no\nPasswordAuthentication no\n",
            host_key.display(),
            authorized.display()
        );
        fs::write(&config, text).expect("the folder is ours");
        let public = fs::read_to_string(server.join("host_key.pub")).expect("just made");
        world.write(
            client.join("known_hosts"),
            format!("[{name}]:{} {public}", address.port()),
        );
        own(&server, account.uid, account.gid);
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(&config);
        if rustix::process::getuid().is_root() {
            use std::os::unix::process::CommandExt;
            command.uid(account.uid).gid(account.gid);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssh-server is installed");
        wait_until_listening(&mut child);
        Self {
            child,
            address,
            user: account.name,
            client,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes the account that the server runs as the owner of a folder and all in it.
    pub fn own(&self, folder: &Path) {
        let status = Command::new("chown")
            .arg("-R")
            .arg(&self.user)
            .arg(folder)
            .status()
            .expect("chown is part of every Linux");
        assert!(status.success(), "chown {}", folder.display());
    }

    /// The options a client needs, with the granted folder as it is seen inside.
    pub fn client_options(&self, inside: &str) -> Vec<String> {
        let port = self.address.port();
        [
            "-F",
            "none",
            "-i",
            &format!("{inside}/key"),
            "-p",
            &port.to_string(),
        ]
        .map(str::to_owned)
        .into_iter()
        .chain([
            "-o".into(),
            format!("UserKnownHostsFile={inside}/known_hosts"),
        ])
        .chain(["-o".into(), "BatchMode=yes".into()])
        .collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago; sshd cannot be asked to choose one.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback has free ports")
}

fn own(folder: &Path, uid: u32, gid: u32) {
    let entries = fs::read_dir(folder).expect("it is there").flatten();
    for path in entries.map(|entry| entry.path()).chain([folder.to_owned()]) {
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("root, or already ours");
    }
}

/// sshd says so on standard error; the rest is read away so that it never blocks.
fn wait_until_listening(child: &mut Child) {
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut said = Vec::new();
    for line in lines.by_ref().map_while(Result::ok) {
        if line.contains("Server listening on") {
            thread::spawn(move || lines.for_each(drop));
            return;
        }
        said.push(line);
    }
    panic!("sshd did not start: {said:?}");
}
