//! The made-up part of `/etc`: who the user is, and that names are looked up by the capture.

use std::path::Path;

use super::{MadeFile, SandboxPlan};

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
