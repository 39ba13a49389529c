//! What is asked of the daemon: the command, its agent, and the grants.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use cordon_policy::{GrantMode, GrantSource};
use cordon_sandbox::places;
use cordon_session::{
    agents::{AgentProfile, PlainProgram, ResolvedAgent, resolve_plain},
    grants::GrantFlag,
};

use super::Args;
use crate::daemon::is_pack;
use crate::{
    control::{GrantAsked, OpenSession},
    error::Failure,
    paths::Paths,
};

/// The host's variables, looked up by name.
pub type HostVariables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The agent of this run, by `--agent` or by the command's name.
///
/// # Errors
/// When `--agent` names no profile, or the agent's program is not there as its profile says.
pub fn agent(
    args: &Args,
    paths: &Paths,
    env: HostVariables<'_>,
) -> Result<Option<ResolvedAgent>, Failure> {
    let Some(program) = args.command.first() else {
        return Ok(None);
    };
    let profile = match args.agent.as_deref() {
        Some("none") => None,
        Some(name) => Some(AgentProfile::named(name)?.ok_or_else(|| unknown_agent(name))?),
        None => AgentProfile::for_command(program)?,
    };
    match profile {
        Some(profile) => Ok(Some(profile.resolve(env, &paths.home, program)?)),
        None => Ok(None),
    }
}

fn unknown_agent(name: &str) -> Failure {
    let known: Vec<String> = AgentProfile::builtin()
        .into_iter()
        .flatten()
        .map(|profile| profile.name)
        .collect();
    Failure::new(format!("there is no agent profile `{name}`"))
        .help(format!(
            "the profiles are {}; `--agent none` runs the command without one",
            known
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        ))
        .usage()
}

/// Everything the daemon needs to decide the session.
///
/// # Errors
/// When a flag or a path cannot be understood.
pub fn open(
    args: &Args,
    paths: &Paths,
    agent: Option<&ResolvedAgent>,
    directory: &Path,
    image: Option<String>,
) -> Result<OpenSession, Failure> {
    let mut grants = Vec::new();
    let defaults = args.defaults.clone().unwrap_or_default();
    for flag in &args.grant {
        let flag = GrantFlag::parse(flag, Path::exists).map_err(|error| {
            Failure::from(error)
                .usage()
                .help("`--grant DIR[:ro|rw|rwd][=NAME]`")
        })?;
        let flag = defaults
            .flag(flag, directory)
            .map_err(|why| Failure::new(why).usage())?;
        grants.push(granted(flag, directory));
    }
    let handed = args.handed.grants.iter();
    let handed = handed.map(|handed| defaults.handed(handed));
    let handed: Vec<_> = handed
        .collect::<Result<_, _>>()
        .map_err(|why| Failure::new(why).usage())?;
    // Of what is handed over it is said what it is, and never the current directory.
    if !args.no_grant || args.handed_over {
        let named = grants.iter().chain(&handed);
        let named: Vec<_> = named.map(|grant| grant.name.clone()).collect();
        let by_default = defaults.grants(&named).into_iter();
        grants.extend(by_default.map(|flag| granted(flag, directory)));
    }
    grants.extend(handed);
    // Without walls a grant would promise what nothing holds.
    let walls = args.backend != super::Backend::None;
    if grants.is_empty() && !args.no_grant && walls {
        grants.push(defaults.bounded(GrantAsked {
            path: directory.into(),
            mode: agent.map_or(GrantMode::Rw, |agent| agent.grant_mode),
            name: None,
            source: GrantSource::WorkingDirectory,
            inside: None,
        }));
    }
    grants.extend(
        agent
            .filter(|_agent| walls)
            .into_iter()
            .flat_map(|agent| &agent.mounts)
            .map(|mount| GrantAsked {
                path: mount.host.clone(),
                mode: mount.mode.grant_mode(),
                name: None,
                source: GrantSource::Profile,
                inside: Some(mount.inside.clone()),
            }),
    );
    let program = args
        .command
        .first()
        .map(OsString::as_os_str)
        .unwrap_or_default();
    Ok(OpenSession {
        workspace: args.workspace(directory),
        command: shell_words(&args.command),
        program: file_name(program),
        agent: agent.map(|agent| agent.name.clone()),
        backend: args.backend.into(),
        image,
        parent: args.parent.clone(),
        profile: args.profile.into(),
        policy: args
            .policy
            .iter()
            .map(|path| {
                if is_pack(path) {
                    path.clone()
                } else {
                    // In one spelling, for summaries; what is not there is told by the daemon.
                    let path = directory.join(path);
                    path.canonicalize().unwrap_or(path)
                }
            })
            .collect(),
        grants,
        publish: args.publish.clone(),
        limits: args.limits.asked(),
        home: paths.home.clone(),
        loads: args.loads.clone(),
        platform: None,
    })
}

fn granted(flag: GrantFlag, directory: &Path) -> GrantAsked {
    GrantAsked {
        path: directory.join(flag.path),
        mode: flag.mode,
        name: flag.name,
        source: GrantSource::CommandLine,
        inside: None,
    }
}

/// What is executed inside: the agent's program, or the command as the session will find it.
///
/// `granted` are the folders of the session: canonical host path, and path inside.
///
/// # Errors
/// When the program lies where the session cannot see it.
pub fn arguments(
    args: &Args,
    agent: Option<&ResolvedAgent>,
    granted: &[(PathBuf, PathBuf)],
    env: HostVariables<'_>,
) -> Result<Vec<OsString>, Failure> {
    let (program, rest) = args.command.split_first().unwrap_or((&EMPTY, &[]));
    let first = match agent {
        Some(agent) => agent.program.clone().into_os_string(),
        None => plain(program, granted, env)?,
    };
    let of_agent = agent
        .into_iter()
        .flat_map(|agent| &agent.args)
        .map(OsString::from);
    Ok(std::iter::once(first)
        .chain(of_agent)
        .chain(rest.iter().cloned())
        .collect())
}

static EMPTY: OsString = OsString::new();

/// A command without a profile, by the path it has inside. One that is nowhere on the host is
/// left as it is: the session says that it is not found.
fn plain(
    program: &OsStr,
    granted: &[(PathBuf, PathBuf)],
    env: HostVariables<'_>,
) -> Result<OsString, Failure> {
    let folders: Vec<PathBuf> = granted.iter().map(|(host, _inside)| host.clone()).collect();
    match resolve_plain(env, &folders, program) {
        Ok(PlainProgram::System(path)) => Ok(path.into_os_string()),
        Ok(PlainProgram::Granted { host, folder }) => {
            // By the folder that it was found in, whatever else shows it.
            let place = places::inside(granted.get(folder), &host);
            Ok(place.map_or_else(|| program.into(), |(_, inside)| inside.into_os_string()))
        }
        Ok(PlainProgram::Hidden(path)) => Err(Failure::new(format!(
            "`{}` is outside of what the session sees",
            path.display()
        ))
        .help(
            "put it into a folder of its own and grant that folder beside the project: \
             `--grant .:rw --grant FOLDER`; home directories as a whole are never granted",
        )),
        Err(_not_found) => Ok(program.into()),
    }
}

fn file_name(program: &OsStr) -> String {
    let name = Path::new(program).file_name().unwrap_or(program);
    name.to_string_lossy().chars().take(128).collect()
}

/// The command as it could be typed again.
fn shell_words(command: &[OsString]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    let word = |word: &OsString| {
        let text = word.to_string_lossy();
        if !text.is_empty() && text.chars().all(plain) {
            text.into_owned()
        } else {
            let shown = text.chars().map(|c| match c {
                '\'' => r"'\''".to_owned(),
                c if c.is_control() => c.escape_default().to_string(),
                c => c.to_string(),
            });
            format!("'{}'", shown.collect::<String>())
        }
    };
    let mut text = command.iter().map(word).collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = text.char_indices().nth(512) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_could_be_typed() {
        let words =
            |words: &[&str]| shell_words(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(
            words(&["curl", "-s", "http://a/?x=1"]),
            "curl -s 'http://a/?x=1'"
        );
        assert_eq!(words(&["echo", "", "it's"]), r"echo '' 'it'\''s'");
        assert!(!words(&["x\x1b[31m"]).contains('\x1b'));
        assert!(words(&["x".repeat(5000).as_str()]).len() < 600);
    }
}
