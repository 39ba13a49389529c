//! One `cordon run`, built up and then run to its end or left running.

use std::{ffi::OsString, path::PathBuf, process::Command};

use crate::{
    Outcome, World,
    process::{self, Running},
};

/// A session that has not been started yet.
#[derive(Debug)]
pub struct Session<'w> {
    world: &'w World,
    options: Vec<OsString>,
    policies: Option<Vec<PathBuf>>,
    command: Vec<String>,
    stdin: Vec<u8>,
    folder: PathBuf,
}

impl<'w> Session<'w> {
    pub(crate) fn new(world: &'w World, command: &[&str]) -> Self {
        Self {
            world,
            options: vec!["--format".into(), "json".into()],
            policies: None,
            command: command.iter().map(|&arg| arg.to_owned()).collect(),
            stdin: Vec::new(),
            folder: world.project(),
        }
    }

    /// Adds `--grant`.
    #[must_use]
    pub fn grant(self, grant: impl Into<OsString>) -> Self {
        self.option("--grant", grant)
    }

    /// Adds `--env`.
    #[must_use]
    pub fn env(self, variable: &str) -> Self {
        self.option("--env", variable)
    }

    /// Adds any option with its value.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.options.extend([name.into(), value.into()]);
        self
    }

    /// Uses this policy and not the world's.
    #[must_use]
    pub fn policy(mut self, path: impl Into<PathBuf>) -> Self {
        self.policies.get_or_insert_default().push(path.into());
        self
    }

    /// Names no policy at all, so that the built-in one applies.
    #[must_use]
    pub fn built_in_policy(mut self) -> Self {
        self.policies = Some(Vec::new());
        self
    }

    /// What the command reads.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Where `cordon run` is called, in place of the project folder.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = folder.into();
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        let world = self.world;
        let outcome = self.start().finish();
        world.remember(&outcome);
        outcome
    }

    /// Starts it.
    #[track_caller]
    pub fn start(self) -> Running {
        let stdin = self.stdin.clone();
        process::start(self.command(), &stdin)
    }

    /// The command line of it.
    pub fn command(self) -> Command {
        let mut command = self.world.command();
        command.current_dir(&self.folder);
        command.arg("run").args(&self.options);
        let policies = self
            .policies
            .unwrap_or_else(|| vec![self.world.policy_folder()]);
        for policy in policies {
            command.arg("--policy").arg(policy);
        }
        command.arg("--").args(&self.command);
        command
    }
}
