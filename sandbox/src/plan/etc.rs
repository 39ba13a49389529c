//! `/etc` of a session: its made-up part (who the user is, and that names are looked up by the
//! capture), and what of the host's is shown.

use std::path::{Path, PathBuf};

use super::{MadeFile, SandboxPlan, SystemDirectory};

/// Names below `/etc` that are made up; nothing else can be put there.
pub(super) const MADE_UP: [&str; 8] = [
    "passwd",
    "group",
    "hosts",
    "nsswitch.conf",
    "resolv.conf",
    "hostname",
    "shells",
    "mtab",
];

/// All of it. Nothing else is in it, and nobody inside changes it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Etc {
    /// Files whose contents we bring.
    pub(crate) files: Vec<MadeFile>,
    /// Links, and what they say.
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
    /// Files and folders of the host, shown where they are.
    pub(crate) shown: Vec<PathBuf>,
}

impl Etc {
    pub(crate) fn of(plan: &SandboxPlan) -> Self {
        let mut etc = Self {
            files: made_up_files(plan),
            links: vec![("/etc/mtab".into(), "/proc/self/mounts".into())],
            shown: Vec::new(),
        };
        for entry in &plan.layout.etc {
            match entry {
                SystemDirectory::Copy { at, bytes } => etc.files.push(MadeFile {
                    target: at.clone(),
                    bytes: bytes.clone(),
                    mode: 0o444,
                }),
                SystemDirectory::Link { at, to } => etc.links.push((at.clone(), to.clone())),
                SystemDirectory::Mount(path) => etc.shown.push(path.clone()),
            }
        }
        let ours = plan.files.iter().filter(|file| is_laid_out(plan, file));
        etc.files.extend(ours.cloned());
        etc
    }
}

/// Whether a file of the plan's is a part of it. Where the host's own folder is shown, a file can
/// only be mounted over the host's.
pub(super) fn is_laid_out(plan: &SandboxPlan, file: &MadeFile) -> bool {
    file.target.starts_with("/etc") && !plan.layout.shows(&file.target)
}

/// The files of `/etc` that every session has, whatever the host's say.
pub(crate) fn made_up_files(plan: &SandboxPlan) -> Vec<MadeFile> {
    let contents = [
        ("passwd", passwd(plan)),
        ("group", group(plan)),
        ("hosts", hosts(plan)),
        ("nsswitch.conf", NSSWITCH.to_owned()),
        (
            "resolv.conf",
            "nameserver 127.0.0.1\noptions edns0\n".to_owned(),
        ),
        ("hostname", format!("{}\n", plan.host_name)),
        ("shells", "/bin/sh\n/bin/bash\n".to_owned()),
    ];
    contents
        .into_iter()
        .map(|(name, text)| MadeFile {
            target: Path::new("/etc").join(name),
            bytes: text.into_bytes(),
            mode: 0o444,
        })
        .collect()
}

/// Root and nobody are there because listings show them: what is root's outside is nobody's inside.
fn passwd(plan: &SandboxPlan) -> String {
    let home = plan.home();
    let user = &plan.user;
    let line = format!(
        "{}:x:{}:{}::{}:/bin/bash\n",
        user.name,
        user.uid,
        user.gid,
        home.display()
    );
    let nobody = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    if user.uid == 0 {
        return format!("{line}{nobody}");
    }
    format!("root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n{line}{nobody}")
}

fn group(plan: &SandboxPlan) -> String {
    let user = &plan.user;
    let line = format!("{}:x:{}:\n", user.name, user.gid);
    if user.gid == 0 {
        return format!("{line}nogroup:x:65534:\n");
    }
    format!("root:x:0:\n{line}nogroup:x:65534:\n")
}

fn hosts(plan: &SandboxPlan) -> String {
    let name = &plan.host_name;
    format!("127.0.0.1 localhost {name}\n::1 localhost ip6-localhost ip6-loopback\n")
}

/// No daemon of the host is asked for anything.
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
                        networks: files\nprotocols: files\nservices: files\nrpc: files\n";
