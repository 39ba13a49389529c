//! From what the daemon granted to what is built: the sandbox's plan.

use std::path::{Path, PathBuf};

use cordon_policy::{GrantMode, GrantSource};
use cordon_sandbox::{
    guard::GuardedGrant,
    limits::Limits,
    plan::{Access, Command, HostLayout, Identity, Mount, SandboxPlan, Sizes, User},
};
use cordon_session::{
    agents::{ProfileMode, ResolvedAgent},
    config::SandboxLimits,
};

use super::{
    Args,
    ask::{self, HostVariables},
    environment::{self, Environment},
    trust,
};
use crate::{
    control::{GrantMade, Opened},
    error::Failure,
};

mod copies;
pub mod shield;
pub use copies::Copies;

/// A plan, and what goes with it.
#[derive(Debug)]
pub struct Made {
    /// What is built.
    pub plan: SandboxPlan,
    /// Files that the session has a private copy of.
    pub copies: Copies,
    /// The grants as the guard needs to know them.
    pub guarded: Vec<GuardedGrant>,
}

/// Makes the plan of an opened session.
///
/// # Errors
/// When the program is not visible inside, a flag is wrong, or a file to copy cannot be read.
pub fn plan(
    args: &Args,
    agent: Option<&ResolvedAgent>,
    opened: &Opened,
    host: HostVariables<'_>,
    permitted: shield::Permitted<'_>,
    user: &User,
    layout: HostLayout,
) -> Result<Made, Failure> {
    let home = PathBuf::from("/sessions").join(&opened.session);
    let copies = Copies::of(agent, opened, &home)?;
    let shown: Vec<&GrantMade> = opened
        .grants
        .iter()
        .filter(|grant| !copies.contains(&grant.inside))
        .collect();
    let granted: Vec<(PathBuf, PathBuf)> = shown
        .iter()
        .map(|grant| (grant.path.clone(), grant.inside.clone()))
        .collect();
    let none: Vec<PathBuf> = Vec::new();
    let mut profile = agent.map(|agent| agent.env.clone()).unwrap_or_default();
    if agent.is_some_and(|agent| agent.git_identity) {
        profile.extend(environment::git_identity());
    }
    let (mut guarded, mut protected) = (Vec::new(), Vec::new());
    for grant in &shown {
        let found = shield::find(grant, permitted)?;
        protected.extend(found.mounts);
        guarded.push(found.guarded);
    }
    let trust = trust::trust(opened.extra_ca_certificates.as_deref(), &layout)?;
    let environment = Environment {
        session: &opened.session,
        user: &user.name,
        flags: &args.env,
        stripped: args.stripped(),
        profile: &profile,
        path: agent.map_or(&none, |agent| &agent.path_dirs),
        extra_ca: opened.extra_ca_certificates.is_some(),
        tell_java: trust.tell_java,
        placeholders: &opened.placeholders,
    };
    let mut files = copies.files();
    files.extend(trust.files);
    let plan = SandboxPlan {
        session: opened.session.clone(),
        user: user.clone(),
        host_name: "cordon".into(),
        init_program: std::env::current_exe()?,
        layout,
        mounts: shown.iter().copied().map(mount).chain(protected).collect(),
        files,
        sizes: opened
            .limits
            .tmp_bytes
            .map_or_else(Sizes::default, Sizes::within),
        limits: limits(&opened.limits),
        command: Command {
            arguments: match (args.backend, agent) {
                // What is in the container is not looked up on the host.
                (super::Backend::Container, None) => args.command.clone(),
                _ => ask::arguments(args, agent, &granted, host)?,
            },
            environment: environment
                .build(host)
                .map_err(|error| Failure::from(error).usage())?,
            directory: args
                .starts_in(shown.iter().copied())
                .unwrap_or_else(|| directory(&shown, &home)),
        },
        profile: args.profile.into(),
        // Also without a writable grant: one can be given later.
        guard: true,
        walls: opened.walls.clone(),
    };
    Ok(Made {
        plan,
        copies,
        guarded,
    })
}

fn limits(of: &SandboxLimits) -> Limits {
    Limits {
        memory_bytes: of.memory_bytes,
        processes: of.processes,
        cpu_percent: of.cpu_percent,
        open_files: of.open_files,
        file_bytes: of.file_bytes,
        tmp_bytes: of.tmp_bytes,
        wall_seconds: of.wall_seconds,
    }
}

/// The granted working directory, or the session's own.
fn directory(grants: &[&GrantMade], home: &Path) -> PathBuf {
    grants
        .iter()
        .find(|grant| grant.source == GrantSource::WorkingDirectory && grant.directory)
        .map_or_else(|| home.into(), |grant| grant.inside.clone())
}

fn mount(grant: &GrantMade) -> Mount {
    let (device, inode) = grant.identity;
    Mount {
        source: grant.path.clone(),
        target: grant.inside.clone(),
        access: match grant.mode {
            GrantMode::Ro => Access::ReadOnly,
            GrantMode::Rw | GrantMode::Rwd => Access::ReadWrite,
        },
        identity: Identity { device, inode },
    }
}

/// How a profile wants one of its grants.
fn profile_mode(agent: &ResolvedAgent, home: &Path, grant: &GrantMade) -> Option<ProfileMode> {
    let wanted = agent
        .mounts
        .iter()
        .find(|mount| home.join(&mount.inside) == grant.inside)?;
    (grant.source == GrantSource::Profile).then_some(wanted.mode)
}
