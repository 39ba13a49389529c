//! The host's side of the attempts: sockets that nobody inside may reach, and a project in which some
//! files are protected and others were there before.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
            net::{SocketAddr, UnixDatagram, UnixListener},
        },
    },
    path::{Path, PathBuf},
    process::Command,
};

use cordon_tests::World;
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// An abstract socket, and in the project a datagram socket, a stream socket, a repository and files.
pub struct Host {
    name: String,
    project: PathBuf,
    listener: UnixListener,
    datagrams: UnixDatagram,
    streams: UnixListener,
}

impl Host {
    /// In the project of this world.
    pub fn new(world: &World) -> Self {
        let project = world.project();
        let name = format!("{}/abstract", project.display());
        let address = SocketAddr::from_abstract_name(&name).expect("short enough");
        let listener = UnixListener::bind_addr(&address).expect("nobody else has this name");
        listener.set_nonblocking(true).expect("a socket of ours");
        let datagrams = UnixDatagram::bind(project.join(DATAGRAMS)).expect("the folder is new");
        datagrams.set_nonblocking(true).expect("a socket of ours");
        let streams = UnixListener::bind(project.join(STREAM)).expect("the folder is new");
        streams.set_nonblocking(true).expect("a socket of ours");
        for name in [DATAGRAMS, STREAM] {
            let open = fs::Permissions::from_mode(0o777);
            fs::set_permissions(project.join(name), open).expect("it is ours");
        }
        for folder in ["sub", "old", "old/folder", ".git", ".git/hooks"] {
            world.folder(project.join(folder));
        }
        for name in OLD {
            world.write(project.join(name), WAS_THERE);
        }
        world.write(project.join("../beside"), WAS_THERE);
        symlink("../beside", project.join("out")).expect("the name is free");
        let behind = project.join("behind");
        mknodat(CWD, &behind, FileType::Fifo, Mode::from(0o600), 0).expect("the name is free");
        world.give(&behind);
        Self {
            name,
            project,
            listener,
            datagrams,
            streams,
        }
    }

    /// What the hostile program is told, to run in the project.
    pub fn words(&self) -> Vec<String> {
        let uptime = fs::read_to_string("/proc/uptime").expect("there is `/proc`");
        let uptime = uptime.split('.').next().expect("a number");
        let words = [
            "--abstract",
            &self.name,
            "--socket",
            DATAGRAMS,
            "--stream",
            STREAM,
            "--uptime",
            uptime,
        ];
        words.map(str::to_owned).into()
    }

    /// What its session has of `/tmp`: less than an attempt takes, so that outside there need not be
    /// room for more than the usual size.
    pub const TMP_SIZE: &str = "64M";

    /// Variables of the caller that a session must not have.
    pub fn variables(command: &mut Command) {
        // Empty, they do nothing where they are passed on.
        for name in [
            "LD_PRELOAD",
            "BASH_ENV",
            "GIT_CONFIG_COUNT",
            "HOSTILE_SECRET",
        ] {
            command.env(name, "");
        }
    }

    /// Which of the sockets somebody reached.
    pub fn reached(&self) -> [bool; 3] {
        [
            self.listener.accept().is_ok(),
            self.datagrams.recv(&mut [0; 16]).is_ok(),
            self.streams.accept().is_ok(),
        ]
    }

    /// Whether a process that the program left behind is still there; it ends with the answer.
    pub fn somebody_stayed(&self) -> bool {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits();
        let flags = i32::try_from(nonblocking).expect("a small number");
        let opened = fs::OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(self.project.join("behind"));
        opened.is_ok()
    }

    /// What is gone, changed or made that must not be.
    pub fn harm(&self) -> Vec<String> {
        let kept = |name: &&str| {
            let text = fs::read_to_string(self.project.join(name));
            // Contents may be changed where only names are kept: what stands in for a file stays.
            text.is_ok_and(|text| text == WAS_THERE || STAND_INS.contains(name))
        };
        let harmed = OLD.iter().filter(|name| !kept(name));
        let there = |name: &&&str| self.project.join(name).symlink_metadata().is_ok();
        let made = NEVER_MADE.iter().filter(there);
        let mut all: Vec<String> = harmed.chain(made).map(|name| (*name).to_owned()).collect();
        if !self.project.join("old/folder").is_dir() {
            all.push("old/folder".into());
        }
        all
    }

    /// Takes it all away again.
    pub fn clear(self) {
        for folder in ["sub", "old", ".git", ".vscode"] {
            let _absent = fs::remove_dir_all(self.project.join(folder));
        }
        for name in [
            DATAGRAMS,
            STREAM,
            "out",
            "behind",
            "../beside",
            ".mcp.json",
            ".envrc",
        ] {
            let _absent = fs::remove_file(self.project.join(Path::new(name)));
        }
    }
}

const DATAGRAMS: &str = "datagrams.sock";
const STREAM: &str = "stream.sock";
const WAS_THERE: &str = "was there\n";

const OLD: [&str; 9] = [
    ".git/config",
    "old/removed",
    "old/proc",
    "old/descriptor",
    "old/moved",
    "old/linked",
    "old/second",
    "old/replaced",
    "old/exchanged",
];

const STAND_INS: [&str; 2] = ["old/replaced", "old/exchanged"];

const NEVER_MADE: [&str; 7] = [
    ".git/hooks/pre-commit",
    ".git/commondir",
    ".mcp.json",
    ".vscode",
    ".envrc",
    "sub/.envrc",
    "sub/.git",
];
