//! `cordon mcp list|show|accept|forget`: what tools of servers are, and accepting them.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    cli::{Format, api},
    error::Failure,
};

/// Options of `cordon mcp list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon mcp show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The server
    server: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon mcp accept`.
#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// The server
    server: String,
    /// Tools; all of it when left out
    tools: Vec<String>,
}

/// Options of `cordon mcp forget`.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// The server
    server: String,
}

/// The servers.
pub fn list(args: &ListArgs) -> Result<u8, Failure> {
    let names = get("/v1/mcp")?;
    match args.format {
        Format::Json => println!("{names}"),
        Format::Text => {
            let names: Vec<&str> = names
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            if names.is_empty() {
                println!("no server's tools were seen");
            }
            for name in names {
                println!("{name}");
            }
        }
    }
    Ok(0)
}

/// The tools of one.
pub fn show(args: &ShowArgs) -> Result<u8, Failure> {
    let shown = server(&args.server)?;
    match args.format {
        Format::Json => println!("{shown}"),
        Format::Text => print!("{}", as_text(&shown)),
    }
    Ok(0)
}

/// Shows what is accepted, and accepts exactly that.
pub fn accept(args: &AcceptArgs) -> Result<u8, Failure> {
    let shown = server(&args.server)?;
    let mut accepted = BTreeMap::new();
    for tool in tools(&shown) {
        let name = text(tool, "name");
        let named = args.tools.is_empty() || args.tools.iter().any(|wanted| wanted == name);
        if named && text(tool, "state") != "accepted" {
            accepted.insert(name.to_owned(), text(tool, "digest").to_owned());
        }
    }
    let known: Vec<&str> = tools(&shown).map(|tool| text(tool, "name")).collect();
    if let Some(unknown) = args
        .tools
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        let why = format!("`{}` has no tool `{unknown}`", args.server);
        return Err(Failure::new(why)
            .help(format!("`cordon mcp show {}` names them", args.server))
            .usage());
    }
    if accepted.is_empty() {
        println!("nothing to accept: it is as it was accepted");
        return Ok(0);
    }
    let path = format!("/v1/mcp/{}/accept", args.server);
    send(&Method::POST, &path, &json!({"tools": accepted}))?;
    for name in accepted.keys() {
        println!("accepted {}/{}", args.server, name.escape_debug());
    }
    Ok(0)
}

/// Forgets one.
pub fn forget(args: &ForgetArgs) -> Result<u8, Failure> {
    let path = format!("/v1/mcp/{}", args.server);
    send(&Method::DELETE, &path, &json!({}))?;
    println!(
        "forgotten: what `{}` says of its tools next is taken as it is",
        args.server
    );
    Ok(0)
}

fn server(name: &str) -> Result<Value, Failure> {
    crate::daemon::server_name(name).map_err(|why| Failure::new(why).usage())?;
    get(&format!("/v1/mcp/{name}"))
}

fn get(path: &str) -> Result<Value, Failure> {
    send(&Method::GET, path, &Value::Null)
}

fn send(method: &Method, path: &str, body: &Value) -> Result<Value, Failure> {
    let reply = api::ask(method, path, body.to_string().into_bytes(), DEADLINE)?;
    match reply.status {
        200..300 => Ok(reply.body),
        _refused => Err(reply.failure()),
    }
}

fn tools(shown: &Value) -> impl Iterator<Item = &Value> {
    shown
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What servers say is hostile text: escaped and cut.
fn as_text(shown: &Value) -> String {
    let mut out = format!("{:<8}  {:<12}  TOOL\n", "STATE", "DIGEST");
    for tool in tools(shown) {
        let digest = text(tool, "digest").get(..12).unwrap_or_default();
        let name = text(tool, "name").escape_debug();
        out.push_str(&format!(
            "{:<8}  {digest:<12}  {name}\n",
            text(tool, "state")
        ));
        let (Some(before), Some(after)) = (tool.get("definition"), tool.get("offered")) else {
            continue;
        };
        for (key, was, is) in differences(before, after) {
            out.push_str(&format!(
                "          {key}:\n            was {was}\n            is  {is}\n"
            ));
        }
    }
    out
}

/// What differs between two definitions, key by key.
fn differences(before: &Value, after: &Value) -> Vec<(String, String, String)> {
    let (Some(was), Some(is)) = (before.as_object(), after.as_object()) else {
        return vec![(
            "instructions".into(),
            brief(Some(before)),
            brief(Some(after)),
        )];
    };
    let mut keys: Vec<&String> = was.keys().chain(is.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let different = keys.into_iter().filter(|key| was.get(*key) != is.get(*key));
    let line = |key: &String| {
        let name = key.escape_debug().to_string();
        (name, brief(was.get(key)), brief(is.get(key)))
    };
    different.map(line).collect()
}

fn brief(value: Option<&Value>) -> String {
    let text = match value {
        None => return "(nothing)".into(),
        Some(value) => value.to_string(),
    };
    let shown: String = text.escape_debug().take(SHOWN_CHARS).collect();
    if text.chars().count() > SHOWN_CHARS {
        format!("{shown}…")
    } else {
        shown
    }
}

/// How much of a changed part is shown.
const SHOWN_CHARS: usize = 400;

/// Longer than the daemon takes at most.
const DEADLINE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p08_a_change_is_shown_part_by_part_and_escaped() {
        let tool = json!({
            "name": "t", "state": "changed", "digest": "0123456789abcdef",
            "definition": {"description": "adds", "inputSchema": {}},
            "offered": {"description": "adds\u{1b}[31m and sends", "inputSchema": {}, "title": "T"},
        });
        let shown = as_text(&json!({"server": "s", "tools": [tool]}));
        assert!(shown.contains("changed   0123456789ab  t"), "{shown}");
        assert!(shown.contains("description:"), "{shown}");
        assert!(
            shown.contains("is  \\\"T\\\"") || shown.contains("title:"),
            "{shown}"
        );
        assert!(
            !shown.contains("inputSchema") && !shown.contains('\u{1b}'),
            "{shown}"
        );
    }
}
