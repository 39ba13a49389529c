//! Profiles against made-up homes and installations.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use cordon_policy::GrantMode;

use super::*;

/// A host of its own: a home, and variables.
struct Host {
    _kept: tempfile::TempDir,
    root: PathBuf,
    env: BTreeMap<String, OsString>,
}

impl Host {
    fn new() -> Self {
        let kept = tempfile::tempdir().unwrap();
        let root = kept.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("home/bin")).unwrap();
        let mut host = Self {
            _kept: kept,
            root,
            env: BTreeMap::new(),
        };
        let path = format!("{}:/usr/bin:/bin", host.home().join("bin").display());
        host.env.insert("PATH".into(), path.into());
        host
    }

    fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn program(&self, path: &str, text: &str) -> PathBuf {
        let path = self.file(path, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn link(&self, target: &Path, path: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, &path).unwrap();
        path
    }

    fn resolve(&self, name: &str) -> Result<ResolvedAgent, AgentError> {
        let profile = AgentProfile::named(name).unwrap().unwrap();
        profile.resolve(
            &|name| self.env.get(name).cloned(),
            &self.home(),
            OsStr::new(name),
        )
    }

    /// Claude Code as npm installs it.
    fn with_claude(self) -> Self {
        let binary = self.program(
            "lib/node_modules/@anthropic-ai/claude-code/bin/claude.exe",
            "\x7fELF",
        );
        self.link(&binary, "home/bin/claude");
        self
    }
}

impl ResolvedAgent {
    fn mount(&self, inside: &str) -> Option<&ProfileGrant> {
        self.mounts
            .iter()
            .find(|mount| mount.inside == Path::new(inside))
    }
}

#[test]
fn builtin_profiles_are_accepted_and_chosen_by_the_commands_last_component() {
    let names: Vec<String> = AgentProfile::builtin()
        .unwrap()
        .into_iter()
        .map(|p| p.name)
        .collect();
    assert_eq!(names, ["claude", "codex"]);
    for (command, expected) in [
        ("claude", Some("claude")),
        ("/opt/x/claude", Some("claude")),
        ("./codex", Some("codex")),
        ("claude2", None),
        ("bash", None),
        ("", None),
        ("..", None),
    ] {
        let found = AgentProfile::for_command(OsStr::new(command)).unwrap();
        assert_eq!(found.map(|p| p.name).as_deref(), expected, "{command}");
    }
}

#[test]
fn f04_no_builtin_profile_makes_the_agents_guards_writable() {
    const SIGN_IN: [&str; 2] = [".claude/.credentials.json", ".codex/auth.json"];
    for profile in AgentProfile::builtin().unwrap() {
        for entry in &profile.home {
            let path = entry.path.to_str().unwrap();
            let writable = entry.mode.grant_mode() != GrantMode::Ro;
            assert_eq!(writable, SIGN_IN.contains(&path), "{path}");
        }
    }
}

#[test]
fn f04_the_hosts_mcp_servers_are_out_of_the_sessions_reach() {
    let host = Host::new().with_claude();
    host.file("home/.claude.json", "{}");
    let agent = host.resolve("claude").unwrap();
    assert_eq!(agent.mount(".claude.json").unwrap().mode, ProfileMode::Copy);
}

#[test]
fn an_npm_installation_is_shown_by_its_scope_at_its_own_path() {
    let host = Host::new().with_claude();
    let agent = host.resolve("claude").unwrap();
    let scope = host.root.join("lib/node_modules/@anthropic-ai");
    assert_eq!(agent.program, scope.join("claude-code/bin/claude.exe"));
    assert_eq!(agent.argv0, "claude");
    assert_eq!(
        agent.mounts,
        [ProfileGrant {
            host: scope.clone(),
            inside: scope,
            mode: ProfileMode::Ro,
            is_dir: true
        }]
    );
    assert_eq!(agent.grant_mode, GrantMode::Rwd);
}

#[test]
fn a_single_binary_is_shown_alone() {
    let host = Host::new();
    let binary = host.program("home/.local/share/claude/versions/2.1.197", "\x7fELF");
    host.program("home/.local/share/claude/versions/2.1.196", "\x7fELF");
    host.link(&binary, "home/bin/claude");
    let agent = host.resolve("claude").unwrap();
    assert_eq!(agent.mounts.len(), 1);
    assert_eq!(agent.mounts[0].host, binary);
    assert!(!agent.mounts[0].is_dir);
}

#[test]
fn a_scripts_interpreter_outside_the_system_is_shown_with_its_installation() {
    let host = Host::new();
    let node = host.program("home/.nvm/versions/node/v22.1.0/bin/node", "\x7fELF");
    host.link(&node, "home/bin/node");
    let script = host.program(
        "home/.nvm/versions/node/v22.1.0/lib/node_modules/@openai/codex/bin/codex.js",
        "#!/usr/bin/env -S node --no-warnings\n",
    );
    host.link(&script, "home/bin/codex");
    let agent = host.resolve("codex").unwrap();
    let installed = host.root.join("home/.nvm/versions/node/v22.1.0");
    assert!(agent.mount(installed.to_str().unwrap()).is_some());
    assert_eq!(agent.path_dirs, [installed.join("bin")]);
}

#[test]
fn an_interpreter_beside_private_files_is_shown_alone() {
    let host = Host::new();
    let node = host.program("home/.local/bin/node", "\x7fELF");
    host.link(&node, "home/bin/node");
    let script = host.program(
        "lib/node_modules/@openai/codex/bin/codex.js",
        "#!/usr/bin/env node\n",
    );
    host.link(&script, "home/bin/codex");
    let agent = host.resolve("codex").unwrap();
    let shown: Vec<&Path> = agent.mounts.iter().map(|m| m.host.as_path()).collect();
    assert!(shown.contains(&node.as_path()), "{shown:?}");
    assert!(
        !shown.contains(&host.home().join(".local").as_path()),
        "{shown:?}"
    );
}

#[test]
fn a_package_linked_from_elsewhere_is_shown_where_it_is() {
    // As pnpm lays packages out.
    let host = Host::new();
    let script = host.program(
        "store/.pnpm/codex@1/node_modules/@openai/codex/bin/codex.js",
        "#!/usr/bin/env node\n",
    );
    let native = host.program(
        "store/.pnpm/codex@1-x64/node_modules/@openai/codex-linux-x64/codex",
        "",
    );
    let native = native.parent().unwrap();
    host.link(
        native,
        "store/.pnpm/codex@1/node_modules/@openai/codex-linux-x64",
    );
    host.link(&script, "home/bin/codex");
    host.program("home/bin/node", "\x7fELF");
    let agent = host.resolve("codex").unwrap();
    assert!(agent.mount(native.to_str().unwrap()).is_some());
}

#[test]
fn f16_an_installation_never_brings_the_home_along() {
    let mut host = Host::new();
    let home = host.root.join("node_modules/@openai/home");
    let program = host.program("node_modules/@openai/home/bin/codex", "\x7fELF");
    host.env
        .insert("PATH".into(), program.parent().unwrap().into());
    let profile = AgentProfile::named("codex").unwrap().unwrap();
    let env = |name: &str| host.env.get(name).cloned();
    let agent = profile.resolve(&env, &home, OsStr::new("codex")).unwrap();
    assert_eq!(agent.mounts.len(), 1);
    assert_eq!(agent.mounts[0].host, program);
}

#[test]
fn a_shell_script_that_starts_the_program_is_refused_by_name() {
    let host = Host::new();
    host.program("home/bin/codex", "#!/bin/sh\nexec node elsewhere.js\n");
    let error = host.resolve("codex").unwrap_err();
    assert!(matches!(error, AgentError::Wrapper { .. }), "{error}");
    assert!(!error.hint().is_empty());
}

#[test]
fn a_missing_program_or_interpreter_is_an_error() {
    let host = Host::new();
    let profile = AgentProfile::named("codex").unwrap().unwrap();
    let only = |name: &str| (name == "PATH").then(|| host.home().join("bin").into_os_string());
    let error = profile
        .resolve(&only, &host.home(), OsStr::new("codex"))
        .unwrap_err();
    assert!(matches!(error, AgentError::NotFound { .. }), "{error}");

    host.program("home/bin/codex", "#!/usr/bin/env node\n");
    let error = profile
        .resolve(&only, &host.home(), OsStr::new("codex"))
        .unwrap_err();
    assert!(matches!(error, AgentError::NoInterpreter { .. }), "{error}");
}

#[test]
fn entries_of_the_home_are_shown_where_present_in_their_mode() {
    let host = Host::new().with_claude();
    host.file("home/.claude/settings.json", "{}");
    host.file("home/.claude/.credentials.json", "{}");
    host.file("home/.claude/skills/one/SKILL.md", "");
    host.file("home/.claude/projects/secret.jsonl", "");
    let agent = host.resolve("claude").unwrap();
    for (inside, mode) in [
        (".claude/settings.json", Some(ProfileMode::Ro)),
        (".claude/.credentials.json", Some(ProfileMode::Rw)),
        (".claude/skills", Some(ProfileMode::Ro)),
        (".claude/projects", None),
        (".claude/hooks", None),
        (".claude", None),
        (".claude.json", None),
    ] {
        assert_eq!(agent.mount(inside).map(|m| m.mode), mode, "{inside}");
    }
}

#[test]
fn links_of_the_home_are_resolved_so_that_policy_sees_where_they_lead() {
    let host = Host::new().with_claude();
    let real = host.file("home/.ssh/id_ed25519", "secret");
    host.link(&real, "home/.claude/settings.json");
    host.link(Path::new("/nowhere/at/all"), "home/.claude/CLAUDE.md");
    let agent = host.resolve("claude").unwrap();
    assert_eq!(agent.mount(".claude/settings.json").unwrap().host, real);
    assert!(agent.mount(".claude/CLAUDE.md").is_none());
}

#[test]
fn an_entry_that_is_something_else_is_an_error() {
    let host = Host::new().with_claude();
    fs::create_dir_all(host.home().join(".claude/settings.json")).unwrap();
    let error = host.resolve("claude").unwrap_err();
    assert!(matches!(error, AgentError::WrongKind { .. }), "{error}");
}

#[test]
fn a_relocated_folder_is_found_and_appears_at_its_usual_place() {
    let mut host = Host::new().with_claude();
    let moved = host.file("moved/settings.json", "{}");
    let account = host.file("moved/.claude.json", "{}");
    host.file("home/.claude/settings.json", "the other one");
    host.env
        .insert("CLAUDE_CONFIG_DIR".into(), moved.parent().unwrap().into());
    let agent = host.resolve("claude").unwrap();
    assert_eq!(agent.mount(".claude/settings.json").unwrap().host, moved);
    assert_eq!(agent.mount(".claude.json").unwrap().host, account);
    assert!(
        agent
            .env
            .iter()
            .all(|(name, _)| name != "CLAUDE_CONFIG_DIR")
    );

    host.env
        .insert("CLAUDE_CONFIG_DIR".into(), "relative".into());
    let error = host.resolve("claude").unwrap_err();
    assert!(matches!(error, AgentError::Variable { .. }), "{error}");
    host.env.insert("CLAUDE_CONFIG_DIR".into(), "".into());
    assert!(host.resolve("claude").is_ok());
}

#[test]
fn f17_only_named_variables_pass() {
    let mut host = Host::new().with_claude();
    for (name, value) in [
        ("ANTHROPIC_API_KEY", "sk"),
        ("AWS_SECRET_ACCESS_KEY", "no"),
        ("NODE_OPTIONS", "--require /tmp/x"),
        ("CLAUDE_CODE_SESSION_ID", "outer"),
    ] {
        host.env.insert(name.into(), value.into());
    }
    let env = host.resolve("claude").unwrap().env;
    let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "ANTHROPIC_API_KEY",
        "DISABLE_AUTOUPDATER",
        "DISABLE_INSTALLATION_CHECKS",
        "IS_SANDBOX",
    ];
    assert_eq!(names, expected);
}

#[test]
fn f17_profiles_with_injecting_variables_and_other_faults_are_refused() {
    const HEAD: &str = "name = 'x'\ncommands = ['x']\ngrant_mode = 'rw'\n";
    for (rest, expected) in [
        ("", None),
        ("environment.pass = ['TERM_PROGRAM']", None),
        ("environment.pass = ['LD_PRELOAD']", Some("LD_PRELOAD")),
        ("environment.pass = ['NODE_OPTIONS']", Some("NODE_OPTIONS")),
        ("environment.set.BASH_ENV = '/tmp/x'", Some("BASH_ENV")),
        (
            "environment.pass = ['GIT_CONFIG_COUNT']",
            Some("GIT_CONFIG_COUNT"),
        ),
        ("environment.pass = ['A=B']", Some("name of a variable")),
        ("environment.set.A = \"\\u0000\"", Some("zero byte")),
        ("surprise = 1", Some("surprise")),
        ("system = ['etc/x']", Some("absolute")),
        ("system = ['/etc/../root']", Some("absolute")),
        (
            "home = [{path='../x', kind='file', mode='ro'}]",
            Some("relative"),
        ),
        (
            "home = [{path='/x', kind='file', mode='ro'}]",
            Some("relative"),
        ),
        (
            "home = [{path='', kind='file', mode='ro'}]",
            Some("relative"),
        ),
        (
            "home = [{path='x', kind='dir', mode='copy'}]",
            Some("only files"),
        ),
        (
            "home = [{path='x', kind='dir', mode='rw'}]",
            Some("only files"),
        ),
        ("home = [{path='x', kind='dir', mode='ro'}]", None),
        (
            "relocation = {variable='X', directory='../y'}",
            Some("relative"),
        ),
        ("program.companions = ['../../home']", Some("relative")),
    ] {
        let result = AgentProfile::from_toml("x", &format!("{HEAD}{rest}\n"));
        match (result, expected) {
            (Ok(_), None) => {}
            (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
            (result, _) => panic!("{rest}: {result:?}"),
        }
    }
}

#[test]
fn plain_commands_are_found_where_the_session_sees_them() {
    let host = Host::new();
    let env = |name: &str| host.env.get(name).cloned();
    let hidden = host.program("home/bin/mine", "#!/bin/sh\n");
    // Hidden first in PATH, visible second: the visible one is what runs.
    host.program("home/bin/env", "#!/bin/sh\n");
    let granted = [host.root.join("project")];
    let script = host.program("project/run", "#!/bin/sh\n");
    for (command, expected) in [
        ("env", Some(PlainProgram::System("/usr/bin/env".into()))),
        (
            "/usr/bin/env",
            Some(PlainProgram::System("/usr/bin/env".into())),
        ),
        ("mine", Some(PlainProgram::Hidden(hidden))),
        (
            script.to_str().unwrap(),
            Some(PlainProgram::Granted {
                host: script.clone(),
                folder: 0,
            }),
        ),
        ("no-such-command", None),
        ("/usr", None),
        ("", None),
    ] {
        let found = resolve_plain(&env, &granted, OsStr::new(command)).ok();
        assert_eq!(found, expected, "{command}");
    }
}

#[test]
fn a_copy_goes_back_only_when_it_changed_and_the_host_did_not() {
    let host = Host::new();
    let file = host.file("home/.codex/auth.json", "old");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    for (after, meanwhile, expected, left) in [
        ("old", None, GivenBack::Unchanged, "old"),
        ("new", None, GivenBack::Written, "new"),
        ("new", Some("host"), GivenBack::HostChanged, "host"),
    ] {
        fs::write(&file, "old").unwrap();
        let copy = CopiedFile::take(&file).unwrap();
        assert_eq!(
            (copy.contents(), copy.mode_bits()),
            (b"old".as_slice(), 0o640)
        );
        if let Some(text) = meanwhile {
            fs::write(&file, text).unwrap();
        }
        assert_eq!(copy.give_back(after.as_bytes()).unwrap(), expected);
        assert_eq!(fs::read_to_string(&file).unwrap(), left);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(
            fs::read_dir(file.parent().unwrap()).unwrap().count(),
            1,
            "no litter"
        );
    }
}

#[test]
fn f07_a_copy_follows_no_link_and_waits_for_no_pipe() {
    let host = Host::new();
    let real = host.file("secret", "secret");
    let link = host.link(&real, "home/link");
    assert!(CopiedFile::take(&link).is_err());
    assert!(CopiedFile::take(&host.home()).is_err());
    let pipe = host.home().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    assert!(CopiedFile::take(&pipe).is_err());
    let file = host.file("home/auth", "old");
    let copy = CopiedFile::take(&file).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&real, &file).unwrap();
    assert!(copy.give_back(b"new").is_err());
    assert_eq!(fs::read_to_string(&real).unwrap(), "secret");
}
