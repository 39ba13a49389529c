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
    policies: Vec<PathBuf>,
    command: Vec<String>,
    stdin: Vec<u8>,
    folder: PathBuf,
}

impl<'w> Session<'w> {
    pub(crate) fn new(world: &'w World, command: &[&str]) -> Self {
        Self {
            world,
            options: vec!["--format".into(), "json".into()],
            policies: Vec::new(),
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
        self.policies.push(path.into());
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
        if self.policies.is_empty() {
            command.arg("--policy").arg(self.world.policy_folder());
        }
        for policy in &self.policies {
            command.arg("--policy").arg(policy);
        }
        command.arg("--").args(&self.command);
        command
    }
}
