//! `cordon hook`: an agent's own hooks ask Cordon before a tool runs.

mod can_use_tool;
mod install;

use std::{
    ffi::OsString,
    io::{self, Read, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::{api, exit};
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

/// How to end where the command line is not understood: an agent runs the tool on any exit code but
/// [`BLOCK`], so settings with a flag that this version does not have must not end as other wrong usage
/// does (P01).
pub fn usage_code(mut args: impl Iterator<Item = OsString>) -> u8 {
    let is_hook = args.nth(1).is_some_and(|word| word == "hook")
        && args.next().is_some_and(|word| word == "pre-tool-use");
    if is_hook { BLOCK } else { exit::USAGE }
}

/// Whatever goes wrong is a denial in the shape that the agent reads, and exit code 2, which blocks
/// the tool even where standard output is not read (P01). Nothing here panics over an output that
/// cannot be written: that would be another exit code.
fn pre_tool_use(args: &PreToolUseArgs) -> u8 {
    let policy = args.policy.clone();
    // The agent's own limit lets the tool run (P02), so nothing here waits longer than that: not
    // for an input that never ends, and not for a daemon that hangs.
    match api::within(WHOLE, move || answered(&policy)) {
        Ok(answer) => match put(&answer) {
            Ok(()) => 0,
            // It may be a refusal, and nobody has read it.
            Err(error) => {
                tell(&format!(
                    "Cordon's answer could not be given, so it is denied: {error}"
                ));
                BLOCK
            }
        },
        Err(failure) => {
            let why = format!("Cordon cannot decide, so it is denied: {failure}");
            tell(&why);
            if let Some(help) = failure.help_text() {
                tell(&format!("help: {help}"));
            }
            // The exit code says it too.
            let _unread = put(&json!({"hookSpecificOutput": {
                "hookEventName": "PreToolUse",
                "permissionDecision": "deny",
                "permissionDecisionReason": why,
            }}));
            BLOCK
        }
    }
}

/// Writes an answer to standard output, all of it.
fn put(answer: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{answer}")?;
    out.flush()
}

/// Writes a line to standard error, where anybody reads that. `eprintln!` would panic.
fn tell(line: &str) {
    let _unread = writeln!(io::stderr(), "{line}");
}

fn answered(policy: &[PathBuf]) -> Result<Value, Failure> {
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
    ask(asked_of(input, &policy_of(policy)?)?)
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

/// For the daemon's answer, and for reaching it.
const DEADLINE: Duration = Duration::from_secs(20);

/// For all of it: before the agent's own limit of [`install::TIMEOUT_SECONDS`].
const WHOLE: Duration = Duration::from_secs(30);

/// Blocks the tool.
const BLOCK: u8 = 2;
