use super::*;

pub(crate) fn plan() -> SandboxPlan {
    SandboxPlan {
        session: "s1".into(),
        user: User {
            uid: 1000,
            gid: 100,
            name: "ada".into(),
        },
        host_name: "cordon".into(),
        init_program: "/opt/cordon".into(),
        layout: HostLayout {
            system: vec![
                SystemDirectory::Mount("/usr".into()),
                SystemDirectory::Link {
                    at: "/bin".into(),
                    to: "usr/bin".into(),
                },
                SystemDirectory::Mount("/lib64".into()),
            ],
            etc: vec![
                SystemDirectory::Mount("/etc/ssl/certs".into()),
                SystemDirectory::Copy {
                    at: "/etc/services".into(),
                    bytes: b"x".to_vec(),
                },
            ],
            kernel: vec!["/proc/sys".into()],
        },
        mounts: vec![
            mount(
                "/home/ada/p/.git/hooks",
                "/sessions/s1/mnt/p/.git/hooks",
                Access::ReadOnly,
            ),
            mount("/home/ada/p", "/sessions/s1/mnt/p", Access::ReadWrite),
        ],
        files: vec![MadeFile {
            target: "/sessions/s1/.config/x".into(),
            bytes: b"x".to_vec(),
            mode: 0o600,
        }],
        sizes: Sizes {
            home: 1,
            tmp: 2,
            shm: 3,
        },
        command: Command {
            arguments: vec!["true".into()],
            environment: vec![("PATH".into(), "/usr/bin".into())],
            directory: "/sessions/s1".into(),
        },
        limits: crate::limits::Limits::default(),
        profile: cordon_policy::SeccompProfile::Default,
        guard: false,
        walls: BTreeSet::new(),
    }
}

fn mount(source: &str, target: &str, access: Access) -> Mount {
    Mount {
        source: source.into(),
        target: target.into(),
        access,
        identity: Identity {
            device: 1,
            inode: 2,
        },
    }
}

#[test]
fn arguments_are_the_golden_ones() {
    let descriptors = PlanDescriptors {
        etc: "/sys/etc".into(),
        files: vec![18],
        seccomp: 20,
    };
    let got = bubblewrap_arguments(&plan(), &descriptors);
    let text: Vec<String> = got
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut lines = String::new();
    for word in text {
        lines.push_str(if word.starts_with("--") { "\n" } else { " " });
        lines.push_str(&word);
    }
    assert_eq!(lines.trim(), include_str!("golden.txt").trim(), "{lines}");
}

#[test]
fn f07_a_folder_is_mounted_before_what_lies_below_it() {
    let descriptors = PlanDescriptors {
        etc: "/sys/etc".into(),
        files: vec![],
        seccomp: 20,
    };
    let got = bubblewrap_arguments(&plan(), &descriptors);
    let at = |path: &str| got.iter().rposition(|word| word == path).unwrap();
    assert!(at("/sessions/s1/mnt/p") < at("/sessions/s1/mnt/p/.git/hooks"));
}

#[test]
fn only_what_can_be_built_as_asked_is_accepted() {
    assert_eq!(plan().check(), Ok(()));
    type Change = fn(&mut SandboxPlan);
    let refused: [(&str, Change); 16] = [
        ("slash in the id", |p| p.session = "a/b".into()),
        ("dots as the id", |p| p.session = "..".into()),
        ("empty id", |p| p.session.clear()),
        ("line break in the host name", |p| {
            p.host_name = "a\nb".into()
        }),
        ("colon in the user name", |p| p.user.name = "root:x".into()),
        ("no command", |p| p.command.arguments.clear()),
        ("nul in an argument", |p| {
            p.command.arguments.push("a\0b".into())
        }),
        ("nul in a variable", |p| {
            p.command.environment.push(("A".into(), "a\0".into()))
        }),
        ("relative directory", |p| {
            p.command.directory = "here".into()
        }),
        ("target with dots", |p| {
            p.mounts
                .push(mount("/a", "/sessions/s1/../x", Access::ReadOnly))
        }),
        ("relative source", |p| {
            p.mounts.push(mount("a", "/a", Access::ReadOnly))
        }),
        ("over the home", |p| {
            p.mounts.push(mount("/a", "/sessions/s1", Access::ReadOnly))
        }),
        ("over the sessions", |p| {
            p.mounts.push(mount("/a", "/sessions", Access::ReadOnly))
        }),
        ("over proc", |p| {
            p.mounts.push(mount("/a", "/proc/1", Access::ReadOnly))
        }),
        ("over passwd", |p| {
            p.mounts.push(mount("/a", "/etc/passwd", Access::ReadOnly))
        }),
        ("twice", |p| {
            p.mounts
                .push(mount("/a", "/sessions/s1/mnt/p", Access::ReadOnly))
        }),
    ];
    for (name, change) in refused {
        let mut changed = plan();
        change(&mut changed);
        assert!(changed.check().is_err(), "{name}");
    }
}

#[test]
fn a_made_file_is_never_written_into_a_grant() {
    let mut plan = plan();
    plan.files.push(MadeFile {
        target: "/sessions/s1/mnt/p/x".into(),
        bytes: vec![],
        mode: 0o600,
    });
    assert!(matches!(plan.check(), Err(PlanError::FileInMount { .. })));
}

#[test]
fn passwd_has_the_user_and_nobody_twice() {
    for (uid, lines) in [(0, 2), (1000, 3)] {
        let mut plan = plan();
        plan.user.uid = uid;
        let passwd = Etc::of(&plan)
            .files
            .into_iter()
            .find(|file| file.target == Path::new("/etc/passwd"))
            .unwrap();
        let text = String::from_utf8(passwd.bytes).unwrap();
        assert_eq!(text.lines().count(), lines, "{text}");
        assert!(
            text.contains(&format!("ada:x:{uid}:100::/sessions/s1:/bin/bash\n")),
            "{text}"
        );
    }
}
