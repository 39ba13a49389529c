//! Why a session's network could not be built, and what to do about it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

use thiserror::Error;

use crate::sys::fdpass::send_with_fds;

/// The step of building a session's network that failed. Nothing was started.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// A setting of this host forbids what the sandbox is made of.
    #[error("sandbox network not built: {what} (`{setting}` is {value})")]
    Forbidden {
        /// What it forbids.
        what: &'static str,
        /// The sysctl.
        setting: &'static str,
        /// Its value now.
        value: u64,
        /// The command that changes it.
        hint: &'static str,
    },
    /// unshare(2) failed.
    #[error("sandbox network not built: no new user and network namespace")]
    Namespaces(#[source] io::Error),
    /// A file of the new user namespace did not take the process' user or group.
    #[error("sandbox network not built: `{file}` not written")]
    Identity {
        /// The file.
        file: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No netlink socket of the route family.
    #[error("sandbox network not built: no route netlink socket")]
    RouteSocket(#[source] io::Error),
    /// The loopback interface did not come up.
    #[error("sandbox network not built: loopback not brought up")]
    Loopback(#[source] io::Error),
    /// The loopback interface did not take the session's address.
    #[error("sandbox network not built: address not added to loopback")]
    Address(#[source] io::Error),
    /// A listener could not be opened.
    #[error("sandbox network not built: no listener on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel did not take the nftables rules.
    #[error("sandbox network not built: the kernel did not take the nftables rules")]
    Rules(#[source] io::Error),
    /// The kernel did not take the route to loopback.
    #[error("sandbox network not built: route not added")]
    Route(#[source] io::Error),
    /// The check could not run its trial.
    #[error("sandbox network not checked: the trial did not run")]
    Trial(#[source] io::Error),
    /// What a child told of its own failure.
    #[error("{message}")]
    Told {
        /// The whole message, with its causes.
        message: String,
        /// The hint.
        hint: String,
    },
}

impl NetworkError {
    /// What to do; shown after `help:`.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Forbidden { hint, .. } => hint,
            Self::Told { hint, .. } => hint,
            Self::Namespaces(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                "the kernel needs CONFIG_USER_NS and CONFIG_NET_NS, and the calling process only \
                 one thread"
            }
            Self::Namespaces(_) | Self::Identity { .. } | Self::Loopback(_) => USER_NAMESPACES,
            Self::Rules(_) => {
                "the kernel needs nf_tables with nat, redirect, reject and connection tracking; \
                 as root: `modprobe -a nf_tables nft_chain_nat nft_redir nft_reject_inet \
                 nf_conntrack`"
            }
            Self::RouteSocket(_) | Self::Address(_) | Self::Route(_) => {
                "the kernel needs CONFIG_INET and rtnetlink; in a container, allow netlink sockets"
            }
            Self::Listen { .. } => "in a container, allow internet sockets and listening on them",
            Self::Trial(_) => "check the limits of processes and open files (`ulimit -a`)",
        }
    }

    /// Tells the parent why there will be no listeners; [`Listeners::receive`] understands it.
    ///
    /// Shape: the byte `E`, the message with its causes, a zero byte, the hint.
    ///
    /// # Errors
    /// What sendmsg(2) says.
    ///
    /// [`Listeners::receive`]: super::Listeners::receive
    pub fn send(&self, over: impl AsFd) -> io::Result<()> {
        let mut message = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        let mut bytes = vec![ERROR];
        bytes.extend(message.bytes().filter(|byte| *byte != 0));
        bytes.push(0);
        bytes.extend(self.hint().bytes());
        bytes.truncate(MAX_TOLD_BYTES);
        send_with_fds(over, &bytes, &[])
    }

    /// Reads what [`NetworkError::send`] sent.
    pub(super) fn told(bytes: &[u8]) -> Option<Self> {
        let (&ERROR, text) = bytes.split_first()? else {
            return None;
        };
        let text = String::from_utf8_lossy(text);
        let (message, hint) = text.split_once('\0')?;
        Some(Self::Told {
            message: message.to_owned(),
            hint: hint.to_owned(),
        })
    }

    pub(super) fn namespaces(source: io::Error) -> Self {
        forbidden(Path::new("/proc/sys")).unwrap_or(Self::Namespaces(source))
    }

    pub(super) fn identity(file: &'static str, source: io::Error) -> Self {
        forbidden(Path::new("/proc/sys")).unwrap_or(Self::Identity { file, source })
    }

    pub(super) fn loopback(source: io::Error) -> Self {
        forbidden(Path::new("/proc/sys")).unwrap_or(Self::Loopback(source))
    }
}

/// The first setting that explains a refusal. Asked only after one: AppArmor's, for example,
/// forbids nothing to a program that has a profile.
fn forbidden(settings: &Path) -> Option<NetworkError> {
    first_of(&SETTINGS, settings)
}

/// The first setting that forbids namespaces to everybody, whoever asks.
pub(crate) fn forbidden_to_everybody() -> Option<NetworkError> {
    let [_ordinary, to_all @ .., _apparmor] = &SETTINGS;
    first_of(to_all, Path::new("/proc/sys"))
}

fn first_of(those: &[Setting], settings: &Path) -> Option<NetworkError> {
    those.iter().find_map(|setting| {
        let text = fs::read_to_string(settings.join(setting.path)).ok()?;
        let value = text.trim().parse().ok()?;
        (value == setting.forbids).then_some(NetworkError::Forbidden {
            what: setting.what,
            setting: setting.path,
            value,
            hint: setting.hint,
        })
    })
}

struct Setting {
    path: &'static str,
    forbids: u64,
    what: &'static str,
    hint: &'static str,
}

const SETTINGS: [Setting; 4] = [
    Setting {
        path: "kernel/unprivileged_userns_clone",
        forbids: 0,
        what: "this host forbids user namespaces to ordinary users",
        hint: "as root: `sysctl -w kernel.unprivileged_userns_clone=1`, and the same line in \
               /etc/sysctl.d to keep it",
    },
    Setting {
        path: "user/max_user_namespaces",
        forbids: 0,
        what: "this host forbids user namespaces",
        hint: "as root: `sysctl -w user.max_user_namespaces=15000`, and the same line in \
               /etc/sysctl.d to keep it",
    },
    Setting {
        path: "user/max_net_namespaces",
        forbids: 0,
        what: "this host forbids network namespaces",
        hint: "as root: `sysctl -w user.max_net_namespaces=15000`, and the same line in \
               /etc/sysctl.d to keep it",
    },
    Setting {
        path: "kernel/apparmor_restrict_unprivileged_userns",
        forbids: 1,
        what: "AppArmor takes the capabilities in a user namespace from programs without a \
               profile",
        hint: "give this program an AppArmor profile with the rule `userns,`, or as root: `sysctl \
               -w kernel.apparmor_restrict_unprivileged_userns=0`",
    },
];

const USER_NAMESPACES: &str = "unprivileged user namespaces must be allowed: see the sysctls \
     kernel.unprivileged_userns_clone, user.max_user_namespaces and \
     kernel.apparmor_restrict_unprivileged_userns; in a container, its seccomp profile must \
     allow `unshare`, and root there needs CAP_SETFCAP (or use an ordinary user)";

/// First byte of the message that carries an error.
const ERROR: u8 = b'E';

/// The longest message of a child.
pub(super) const MAX_TOLD_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::super::Listeners;
    use super::*;

    #[test]
    fn f15_each_forbidding_setting_is_named_with_its_way_out() {
        for setting in &SETTINGS {
            let root = tempfile::tempdir().unwrap();
            let file = root.path().join(setting.path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, format!("{}\n", setting.forbids)).unwrap();
            let error = forbidden(root.path()).unwrap();
            assert!(error.to_string().contains(setting.path), "{error}");
            let name = setting.path.replace('/', ".");
            assert!(error.hint().contains(&name), "{}", error.hint());

            let allows = 1 - setting.forbids;
            fs::write(&file, format!("{allows}\n")).unwrap();
            assert!(forbidden(root.path()).is_none(), "{name}={allows}");
        }
        assert!(forbidden(Path::new("/nonexistent")).is_none());
    }

    #[test]
    fn f15_an_error_told_by_the_child_keeps_its_message_cause_and_hint() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let error = NetworkError::Rules(io::Error::from_raw_os_error(libc::ENOENT));
        error.send(&theirs).unwrap();
        let received = Listeners::receive(&ours).unwrap_err();
        let told = received.downcast::<NetworkError>().unwrap();
        let message = told.to_string();
        assert!(
            message.contains("nftables rules: No such file"),
            "{message}"
        );
        assert_eq!(told.hint(), error.hint());
    }

    #[test]
    fn receiving_refuses_silence_garbage_and_wrong_sockets() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send_with_fds(&theirs, b"?", &[]).unwrap();
        let error = Listeners::receive(&ours).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        send_with_fds(&theirs, b"L", &[ours.as_fd(); 5]).unwrap();
        let error = Listeners::receive(&ours).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(theirs);
        let error = Listeners::receive(&ours).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
