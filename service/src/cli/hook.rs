//! `cordon hook`: an agent's own hooks ask Cordon before a tool runs.

mod can_use_tool;
mod install;

use std::{
    io::{self, Read},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::api;
use crate::{daemon::is_pack, error::Failure, hook_input};

/// What an agent's hooks need.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write an agent's settings so that it asks Cordon before every tool, or show what they would be
    Install(install::InstallArgs),
    /// Answer one `PreToolUse` hook: its input on standard input, the documented object on standard
    /// output
    PreToolUse(PreToolUseArgs),
    /// Answer an agent's control protocol: `control_request` on standard input, `control_response` on
    /// standard output, a JSON object a line
    CanUseTool(can_use_tool::CanUseToolArgs),
}

/// Options of `cordon hook pre-tool-use`.
#[derive(Debug, Args)]
pub struct PreToolUseArgs {
    /// Packs, policy files (*.cedar, *.toml) or directories that decide, as `cordon run --policy`
    #[arg(long, value_name = "FILE|DIR|NAME")]
    policy: Vec<PathBuf>,
}

/// Does it.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Install(args) => install::install(&args),
        Command::PreToolUse(args) => Ok(pre_tool_use(&args)),
        Command::CanUseTool(args) => can_use_tool::can_use_tool(&args),
    }
}

/// Whatever goes wrong is a denial in the shape that the agent reads, and exit code 2, which blocks
/// the tool even where standard output is not read (P01).
fn pre_tool_use(args: &PreToolUseArgs) -> u8 {
    match answered(args) {
        Ok(answer) => {
            println!("{answer}");
            0
        }
        Err(failure) => {
            let why = format!("Cordon cannot decide, so it is denied: {failure}");
            eprintln!("{why}");
            if let Some(help) = failure.help_text() {
                eprintln!("help: {help}");
            }
            println!(
                "{}",
                json!({"hookSpecificOutput": {
                    "hookEventName": "PreToolUse",
                    "permissionDecision": "deny",
                    "permissionDecisionReason": why,
                }})
            );
            BLOCK
        }
    }
}

fn answered(args: &PreToolUseArgs) -> Result<Value, Failure> {
    let mut input = Vec::new();
    let read = io::stdin()
        .lock()
        .take(LONGEST + 1)
        .read_to_end(&mut input)?;
    if u64::try_from(read).is_ok_and(|read| read > LONGEST) {
        return Err(Failure::new(format!(
            "the hook's input is over {LONGEST} bytes"
        )));
    }
    let input = cordon_runtime::read(&input).map_err(Failure::new)?;
    ask(asked_of(input, &policy_of(&args.policy)?)?)
}

/// What the daemon is asked of a hook's input.
fn asked_of(mut input: Value, policy: &[PathBuf]) -> Result<Value, Failure> {
    let fields = input
        .as_object_mut()
        .ok_or_else(|| Failure::new("the hook's input is not an object"))?;
    // What a file's contents are is not asked about, and can be large.
    if let Some(Value::Object(tool)) = fields.get_mut("tool_input") {
        *tool = hook_input::reduced(std::mem::take(tool));
    }
    fields.insert("cordon_policy".into(), json!(policy));
    Ok(input)
}

/// Policies as the daemon finds them.
fn policy_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let absolute = |path: &PathBuf| {
        if is_pack(path) {
            Ok(path.clone())
        } else {
            path.canonicalize()
        }
    };
    Ok(paths.iter().map(absolute).collect::<io::Result<_>>()?)
}

/// Has the daemon decide.
fn ask(input: Value) -> Result<Value, Failure> {
    let body = input.to_string().into_bytes();
    let reply = api::ask(
        &Method::POST,
        "/v1/hooks/claude-code/pre-tool-use",
        body,
        DEADLINE,
    )?;
    if reply.status == 200 {
        Ok(reply.body)
    } else {
        Err(reply.failure())
    }
}

/// Longest input of a hook, in bytes: a file that is written whole is in it.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Before the agent's own limit, which lets the tool run (P02).
const DEADLINE: Duration = Duration::from_secs(20);

/// Blocks the tool.
const BLOCK: u8 = 2;
