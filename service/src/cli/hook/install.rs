//! `cordon hook install`: writes an agent's settings, shows what they would be, and undoes them.

use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{error::Failure, paths::Paths};

/// Options of `cordon hook install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The agent
    #[arg(long, value_enum, default_value_t)]
    agent: Agent,
    /// Whose settings: yours for every project, or this project's
    #[arg(long, value_enum, default_value_t)]
    scope: Scope,
    /// Packs, policy files or directories that decide, as `cordon run --policy`
    #[arg(long, value_name = "FILE|DIR|NAME")]
    policy: Vec<PathBuf>,
    /// Write them; otherwise they are only shown
    #[arg(long)]
    write: bool,
    /// Take the hook out again
    #[arg(long)]
    undo: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Agent {
    /// Claude Code
    #[default]
    Claude,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Scope {
    /// `~/.claude/settings.json`
    #[default]
    User,
    /// `.claude/settings.json` here
    Project,
}

/// Does it.
pub fn install(args: &InstallArgs) -> Result<u8, Failure> {
    let Agent::Claude = args.agent;
    let folder = match args.scope {
        Scope::User => Paths::from_env(|name| env::var_os(name))?.home,
        Scope::Project => env::current_dir()?,
    };
    let file = folder.join(".claude").join("settings.json");
    let before = read(&file)?;
    let mut settings = before.clone();
    take_out(&mut settings);
    if !args.undo {
        put_in(&mut settings, &command(&args.policy)?)?;
    }
    let text = format!("{settings:#}\n");
    if !args.write {
        print!("{text}");
        eprintln!(
            "this is what `{}` would be; --write writes it",
            file.display()
        );
        return Ok(0);
    }
    if settings == before {
        println!("`{}` is like that already", file.display());
        return Ok(0);
    }
    write(&file, &text)?;
    if args.undo {
        println!("taken out of `{}`", file.display());
    } else {
        println!("written to `{}`", file.display());
        println!("Claude Code asks Cordon before every tool from its next start on.");
        if args.policy.is_empty() {
            println!(
                "The built-in policy refuses agents without a sandbox: name one that allows them, \
                 for example `--policy host-tools`, or run the agent inside: `cordon run -- claude`."
            );
        }
    }
    Ok(0)
}

/// The command that the agent runs, quoted for a shell.
fn command(policy: &[PathBuf]) -> Result<String, Failure> {
    let mut words = vec![env::current_exe()?.display().to_string()];
    words.extend(["hook".into(), MARK.into()]);
    for path in policy {
        let path = if crate::daemon::is_pack(path) {
            path.clone()
        } else {
            path.canonicalize()?
        };
        words.extend(["--policy".into(), path.display().to_string()]);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    let quoted = words.iter().map(|word| {
        if word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    Ok(quoted.collect::<Vec<_>>().join(" "))
}

fn read(file: &Path) -> Result<Value, Failure> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(json!({})),
        Err(error) => return Err(Failure::new(format!("`{}`: {error}", file.display()))),
    };
    let unusable = |why: String| {
        Failure::new(format!("`{}` is not usable: {why}", file.display()))
            .help("correct it first; nothing was changed")
    };
    let settings: Value =
        serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
    if settings.is_object() {
        Ok(settings)
    } else {
        Err(unusable("it is not an object".into()))
    }
}

/// Adds the hook behind those that are there.
fn put_in(settings: &mut Value, command: &str) -> Result<(), Failure> {
    let unusable = |what: &str| {
        Failure::new(format!(
            "`{what}` in the settings is not what the agent documents"
        ))
        .help("correct it first; nothing was changed")
    };
    let hooks = settings
        .as_object_mut()
        .ok_or_else(|| unusable("settings"))?
        .entry("hooks")
        .or_insert_with(|| json!({}));
    let hooks = hooks.as_object_mut().ok_or_else(|| unusable("hooks"))?;
    let event = hooks.entry(EVENT).or_insert_with(|| json!([]));
    let event = event.as_array_mut().ok_or_else(|| unusable(EVENT))?;
    event.push(json!({
        "matcher": "*",
        "hooks": [{"type": "command", "command": command, "timeout": TIMEOUT_SECONDS}],
    }));
    Ok(())
}

/// Takes our hook out, and what would be empty without it.
fn take_out(settings: &mut Value) {
    let Some(hooks) = settings.get_mut("hooks").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(event) = hooks.get_mut(EVENT).and_then(Value::as_array_mut) else {
        return;
    };
    let count = event.len();
    for matcher in event.iter_mut() {
        if let Some(commands) = matcher.get_mut("hooks").and_then(Value::as_array_mut) {
            commands.retain(|hook| !is_ours(hook));
        }
    }
    event.retain(|matcher| {
        matcher["hooks"]
            .as_array()
            .is_none_or(|hooks| !hooks.is_empty())
    });
    if event.is_empty() && count > 0 {
        hooks.remove(EVENT);
        if hooks.is_empty()
            && let Some(settings) = settings.as_object_mut()
        {
            settings.remove("hooks");
        }
    }
}

fn is_ours(hook: &Value) -> bool {
    let command = hook["command"].as_str().unwrap_or_default();
    let mut words = command.split(" hook ");
    let program = words.next().unwrap_or_default().trim_matches('\'');
    let rest = words.next().unwrap_or_default();
    program.ends_with("cordon") && rest.split(' ').next() == Some(MARK)
}

/// In one step, so that the agent never reads half of it; with the mode it had.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let target = file.canonicalize().unwrap_or_else(|_new| file.to_owned());
    let folder = target
        .parent()
        .ok_or_else(|| Failure::new("no folder for the settings"))?;
    fs::create_dir_all(folder)?;
    let mode = target
        .metadata()
        .map_or(0o600, |meta| meta.permissions().mode());
    let temporary = folder.join(format!(".settings.json.cordon-{}", std::process::id()));
    let written = (|| {
        let mut new = fs::File::create_new(&temporary)?;
        new.set_permissions(fs::Permissions::from_mode(mode))?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&temporary, &target)
    })();
    if written.is_err() {
        let _gone = fs::remove_file(&temporary);
    }
    Ok(written?)
}

const EVENT: &str = "PreToolUse";

/// The subcommand, by which our hook is known again.
const MARK: &str = "pre-tool-use";

/// The agent's own limit, in seconds; ours is shorter.
pub(super) const TIMEOUT_SECONDS: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "/usr/bin/cordon hook pre-tool-use --policy host-tools";

    #[test]
    fn the_hook_goes_in_beside_others_and_out_again_without_a_trace() {
        for text in [
            "{}",
            r#"{"model": "x", "hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "check"}]}]}}"#,
            r#"{"hooks": {"PostToolUse": []}, "permissions": {"deny": ["WebFetch"]}}"#,
        ] {
            let before: Value = serde_json::from_str(text).unwrap();
            let mut settings = before.clone();
            put_in(&mut settings, OURS).unwrap();
            let event = settings["hooks"][EVENT].as_array().unwrap();
            assert_eq!(event.last().unwrap()["hooks"][0]["command"], OURS);
            take_out(&mut settings);
            assert_eq!(settings, before);
        }
    }

    #[test]
    fn settings_that_are_something_else_are_left_alone() {
        for text in [r#"{"hooks": []}"#, r#"{"hooks": {"PreToolUse": {}}}"#] {
            let mut settings: Value = serde_json::from_str(text).unwrap();
            take_out(&mut settings);
            assert!(put_in(&mut settings, OURS).is_err(), "{text}");
        }
        for (command, ours) in [
            (OURS, true),
            ("'/home/a b/cordon' hook pre-tool-use", true),
            ("/usr/bin/other hook pre-tool-use", false),
            ("echo cordon hook pre-tool-use-not", false),
        ] {
            assert_eq!(is_ours(&json!({"command": command})), ours, "{command}");
        }
    }
}
