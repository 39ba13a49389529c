//! `cordon extension`: installs extensions, shows what they are and what changed, and approves them.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::{Format, api};
use crate::error::Failure;

/// What to do with extensions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install one from a folder or an archive (.mcpb); a session loads it once it is approved
    Install(FromArgs),
    /// Put a new version in place of an installed one; it has to be approved again
    Update(FromArgs),
    /// What is installed
    List(ListArgs),
    /// Everything about one, and what changed since it was approved
    Show(ShowArgs),
    /// Approve one as it is now
    Approve(ApproveArgs),
    /// Take one away
    Remove(NameArgs),
}

/// Options of `cordon extension install` and `update`.
#[derive(Debug, Args)]
pub struct FromArgs {
    /// The folder or archive
    path: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon extension list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon extension show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its name
    name: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon extension approve`.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Its name
    name: String,
    /// The digest that was seen, or its beginning of 12 digits or more; without it, what is there now
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
}

/// Options of `cordon extension remove`.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// Its name
    name: String,
}

/// Does it.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Install(args) => install(&args, false),
        Command::Update(args) => install(&args, true),
        Command::List(args) => list(&args),
        Command::Show(args) => show(&args),
        Command::Approve(args) => approve(&args),
        Command::Remove(args) => remove(&args),
    }
}

fn install(args: &FromArgs, update: bool) -> Result<u8, Failure> {
    let path = args.path.canonicalize();
    let path = path.map_err(|error| Failure::new(format!("`{}`: {error}", args.path.display())))?;
    let asked = json!({"path": path, "update": update});
    let installed = send(&Method::POST, "/v1/extensions", &asked)?;
    match args.format {
        Format::Json => println!("{installed}"),
        Format::Text => {
            print!("{}", as_text(&installed));
            if word(&installed, "state") != "approved" {
                let name = word(&installed, "name");
                println!("no session loads it before `cordon extension approve {name}`");
            }
        }
    }
    Ok(0)
}

fn list(args: &ListArgs) -> Result<u8, Failure> {
    let all = send(&Method::GET, "/v1/extensions", &Value::Null)?;
    match args.format {
        Format::Json => println!("{all}"),
        Format::Text => {
            println!(
                "{:24}  {:10}  {:9}  {:9}  DIGEST",
                "NAME", "VERSION", "SIGNATURE", "STATE"
            );
            for one in all.as_array().into_iter().flatten() {
                println!(
                    "{:24}  {:10}  {:9}  {:9}  {}",
                    shown(word(one, "name")),
                    shown(word(one, "version")),
                    word(one, "signature"),
                    word(one, "state"),
                    short(word(one, "digest")),
                );
            }
        }
    }
    Ok(0)
}

fn show(args: &ShowArgs) -> Result<u8, Failure> {
    let one = get(&args.name)?;
    match args.format {
        Format::Json => println!("{one}"),
        Format::Text => print!("{}", as_text(&one)),
    }
    Ok(0)
}

fn approve(args: &ApproveArgs) -> Result<u8, Failure> {
    let one = get(&args.name)?;
    let digest = word(&one, "digest").to_owned();
    if let Some(seen) = &args.digest
        && (seen.len() < 12 || !digest.starts_with(seen.as_str()))
    {
        return Err(
            Failure::new(format!("`{}` has the digest {digest}", args.name))
                .help("look at it again: `cordon extension show` says what it is"),
        );
    }
    let path = format!("/v1/extensions/{}/approve", args.name);
    let approved = send(&Method::POST, &path, &json!({"digest": digest}))?;
    print!("{}", as_text(&approved));
    Ok(0)
}

fn remove(args: &NameArgs) -> Result<u8, Failure> {
    named(&args.name)?;
    let path = format!("/v1/extensions/{}", args.name);
    send(&Method::DELETE, &path, &json!({}))?;
    println!("removed {}", args.name);
    Ok(0)
}

/// One of them, from the daemon.
pub(super) fn get(name: &str) -> Result<Value, Failure> {
    named(name)?;
    send(
        &Method::GET,
        &format!("/v1/extensions/{name}"),
        &Value::Null,
    )
}

fn named(name: &str) -> Result<(), Failure> {
    crate::daemon::server_name(name).map_err(|why| Failure::new(why).usage())
}

fn send(method: &Method, path: &str, body: &Value) -> Result<Value, Failure> {
    api::send(method, path, body, DEADLINE)
}

/// What an extension says is hostile text: escaped and cut.
fn as_text(one: &Value) -> String {
    let mut out = format!(
        "{} {} by {}: {}\n",
        shown(word(one, "name")),
        shown(word(one, "version")),
        shown(word(one, "author")),
        shown(word(one, "description")),
    );
    let signer = one.get("signer").and_then(Value::as_str);
    let signer = signer
        .map(|signer| format!(" ({})", shown(signer)))
        .unwrap_or_default();
    let lines = [
        ("state", word(one, "state").to_owned()),
        ("signature", format!("{}{signer}", word(one, "signature"))),
        ("digest", word(one, "digest").to_owned()),
        ("permissions", list_of(one, "permissions")),
        ("tools", list_of(one, "tools")),
        ("content", shown(word(one, "folder"))),
    ];
    for (name, value) in lines {
        out.push_str(&format!("  {name:11}  {value}\n"));
    }
    if let Some(before) = one
        .get("approved")
        .filter(|_| word(one, "state") == "changed")
    {
        out.push_str("since it was approved:\n");
        for name in ["version", "signature", "signer", "digest"] {
            let (was, is) = (word(before, name), word(one, name));
            if was != is {
                out.push_str(&format!(
                    "  {name:11}  was {}, is {}\n",
                    shown(was),
                    shown(is)
                ));
            }
        }
        for name in ["permissions", "tools"] {
            let (was, is) = (list_of(before, name), list_of(one, name));
            if was != is {
                out.push_str(&format!("  {name:11}  was {was}, is {is}\n"));
            }
        }
    }
    out
}

fn word<'a>(one: &'a Value, name: &str) -> &'a str {
    one.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list_of(one: &Value, name: &str) -> String {
    let all = one.get(name).and_then(Value::as_array);
    let all: Vec<String> = all
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(shown)
        .collect();
    if all.is_empty() {
        "none".into()
    } else {
        all.join(", ")
    }
}

fn shown(text: &str) -> String {
    text.escape_debug().take(200).collect()
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// A large archive takes a while.
const DEADLINE: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p08_what_changed_since_the_approval_is_shown() {
        let mut one = json!({
            "name": "notes", "version": "2", "author": "\u{1b}[31mAnn", "description": "d",
            "digest": "bb", "signature": "unsigned", "signer": null, "state": "changed",
            "permissions": ["files:read", "net:evil"], "tools": ["add"], "folder": "/x",
            "approved": {"digest": "aa", "version": "1", "signature": "trusted", "signer": "acme",
                "permissions": ["files:read"], "tools": ["add"]},
        });
        let shown = as_text(&one);
        for part in [
            "version      was 1, is 2",
            "signature    was trusted, is unsigned",
            "permissions  was files:read, is files:read, net:evil",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(
            !shown.contains("tools        was") && !shown.contains('\u{1b}'),
            "{shown}"
        );
        one["state"] = json!("approved");
        assert!(!as_text(&one).contains("since"));
    }
}
