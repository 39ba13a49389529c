//! Reads the words of a request, one function for each family of forms.

mod network;
mod words;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use network::{connect, http, is_method, reach};
use words::Words;

use super::{
    AskError, CALL_FORM, Given,
    tables::{
        BACKENDS, DEFINITIONS, MODES, SESSION_ACTS, SIGNATURES, SOURCES, TOOL_KINDS, act_named,
    },
};
use crate::{
    BrowserAct, Destination, ExtensionFacts, GrantMode, GrantSource, Operation, Origin, Scheme,
    SeccompProfile, SessionFacts, Signature, ToolCall, ToolHints, host::shown, request::own_name,
};

pub(super) fn operation(words: &[String]) -> Result<Operation, AskError> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (first, rest) = words.split_first().ok_or(AskError::Empty)?;
    let second = rest.first().copied().unwrap_or_default();
    match *first {
        "start" => start(rest),
        "exec" => exec(rest),
        "grant" => grant(rest),
        "read" if second == "log" => read_log(rest),
        "read" | "write" | "delete" => path(first, rest),
        "connect" => connect(rest),
        "reach" => reach(rest),
        "enable" => enable(rest),
        "use" => use_something(rest),
        "install" | "load" => extension(first, rest),
        "call" => call(rest),
        "open" => open(rest),
        "approve" => approve(rest),
        "manage" => manage(rest),
        "publish" if second == "port" => publish_port(rest),
        "publish" => publish(rest),
        method => match act_named(method) {
            Some(act) => act_in(act, rest),
            None if second.contains("://") && is_method(method) => http(method, rest),
            None => Err(AskError::Unknown {
                word: shown(method),
            }),
        },
    }
}

fn start(rest: &[&str]) -> Result<Operation, AskError> {
    let (command, profile) = program(Words::new(rest, "start NAME [with PROFILE]"))?;
    Ok(Operation::StartSession { command, profile })
}

fn exec(rest: &[&str]) -> Result<Operation, AskError> {
    let (command, profile) = program(Words::new(rest, "exec NAME [with PROFILE]"))?;
    Ok(Operation::ExecInSession { command, profile })
}

fn program(mut words: Words<'_>) -> Result<(String, SeccompProfile), AskError> {
    let command = words.take("the program's name")?.to_owned();
    let mut profile = SeccompProfile::Default;
    if let Some(name) = words.option("with")? {
        profile = SeccompProfile::named(name)
            .ok_or_else(|| words.unexpected(name, "`strict`, `default` or `build`"))?;
    }
    words.end()?;
    Ok((command, profile))
}

fn publish_port(rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(rest, "publish port ADDRESS:PORT [to PORT]");
    words.keyword("port")?;
    let word = words.take("address and port")?;
    let at: Option<SocketAddr> = word.parse().ok();
    let at = at
        .filter(|at| at.port() != 0)
        .ok_or_else(|| words.unexpected(word, "an address with a port"))?;
    let inside = match words.option("to")? {
        None => at.port(),
        Some(word) => {
            let port = word.parse().ok().filter(|port| *port != 0);
            port.ok_or_else(|| words.unexpected(word, "a port"))?
        }
    };
    words.end()?;
    Ok(Operation::PublishPort {
        address: at.ip().to_canonical(),
        port: at.port(),
        inside,
    })
}

fn grant(rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(
        rest,
        "grant ro|rw|rwd PATH [named NAME] [from command-line|working-directory|profile|api]",
    );
    let word = words.take("the mode")?;
    let mode = words.one_of(word, "`ro`, `rw` or `rwd`", MODES)?;
    let path = absolute(&mut words)?;
    let name = words.option("named")?.map(|word| {
        let is_component = !matches!(word, "" | "." | "..") && !word.contains('/');
        let name = is_component.then_some(word);
        name.ok_or_else(|| words.unexpected(word, "one name of a folder"))
    });
    let name = name.transpose()?;
    let source = match words.option("from")? {
        Some(word) => words.one_of(
            word,
            "`command-line`, `working-directory`, `profile` or `api`",
            SOURCES,
        )?,
        None => GrantSource::CommandLine,
    };
    words.end()?;
    let name = name.map_or_else(|| own_name(&path).into_owned(), str::to_owned);
    Ok(Operation::grant(path, mode, source, &name))
}

fn path(verb: &str, rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(rest, "read|write|delete PATH [in ro|rw|rwd]");
    let path = absolute(&mut words)?;
    let mode = match words.option("in")? {
        Some(word) => words.one_of(word, "`ro`, `rw` or `rwd`", MODES)?,
        None => GrantMode::Rw,
    };
    words.end()?;
    Ok(match verb {
        "read" => Operation::ReadPath { path, mode },
        "write" => Operation::WritePath { path, mode },
        _delete => Operation::DeletePath { path, mode },
    })
}

/// An absolute path. Whether it is canonical is for the engine to say: what is not is denied.
fn absolute(words: &mut Words<'_>) -> Result<PathBuf, AskError> {
    let word = words.take("the path")?;
    if word.starts_with('/') {
        Ok(word.into())
    } else {
        Err(words.unexpected(word, "an absolute path"))
    }
}

fn enable(rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(rest, "enable connector NAME, or enable browser");
    let operation = match words.take("`connector` or `browser`")? {
        "browser" => Operation::EnableBrowser,
        "connector" => Operation::EnableConnector {
            connector: words.take("the connector's name")?.to_owned(),
        },
        other => return Err(words.unexpected(other, "`connector` or `browser`")),
    };
    words.end()?;
    Ok(operation)
}

fn use_something(rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(
        rest,
        "use scope SCOPE of CONNECTOR, or use permission PERMISSION of ID",
    );
    let what = words.take("`scope` or `permission`")?;
    let is_scope = match what {
        "scope" => true,
        "permission" => false,
        other => return Err(words.unexpected(other, "`scope` or `permission`")),
    };
    let name = words.take("its name")?.to_owned();
    words.keyword("of")?;
    if is_scope {
        let connector = words.take("the connector's name")?.to_owned();
        words.end()?;
        return Ok(Operation::UseScope {
            connector,
            scope: name,
        });
    }
    let extension = extension_facts(&mut words)?;
    words.end()?;
    Ok(Operation::UsePermission {
        extension,
        permission: name,
    })
}

fn extension(verb: &str, rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(rest, EXTENSION_FORM);
    words.keyword("extension")?;
    let extension = extension_facts(&mut words)?;
    words.end()?;
    Ok(if verb == "install" {
        Operation::InstallExtension { extension }
    } else {
        Operation::LoadExtension { extension }
    })
}

const EXTENSION_FORM: &str = "install|load extension ID [version V] \
    [signed trusted|untrusted|broken|unsigned] [by PUBLISHER] [digest HEX]";

fn call(rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(rest, CALL_FORM);
    let tool = words.take("the tool's name")?.to_owned();
    words.keyword("of")?;
    let extension = extension_facts(&mut words)?;
    let mut call = ToolCall::default();
    if let Some(word) = words.option("as")? {
        call.kind = words.one_of(word, "`tool`, `resource`, `prompt` and so on", TOOL_KINDS)?;
    }
    if let Some(word) = words.option("definition")? {
        let wanted = "`unseen`, `first`, `accepted` or `changed`";
        call.definition = words.one_of(word, wanted, DEFINITIONS)?;
    }
    call.hints = ToolHints {
        read_only: words.flag("read-only"),
        destructive: !words.flag("harmless"),
        open_world: !words.flag("closed"),
    };
    while let Some(argument) = words.option("with")? {
        call.arguments.push(argument.to_owned());
    }
    call.arguments.sort_unstable();
    call.arguments.dedup();
    call.input = words.option("input")?.map(Into::into);
    words.end()?;
    Ok(Operation::CallTool {
        extension,
        tool,
        call: Box::new(call),
    })
}

/// The extension's id and what is said about it. What is not said is the least trusted: unsigned.
fn extension_facts(words: &mut Words<'_>) -> Result<ExtensionFacts, AskError> {
    let mut facts = ExtensionFacts {
        id: words.take("the extension's id")?.to_owned(),
        publisher: None,
        version: String::new(),
        digest: String::new(),
        signature: Signature::Unsigned,
    };
    if let Some(version) = words.option("version")? {
        version.clone_into(&mut facts.version);
    }
    if let Some(word) = words.option("signed")? {
        facts.signature = words.one_of(
            word,
            "`trusted`, `untrusted`, `broken` or `unsigned`",
            SIGNATURES,
        )?;
    }
    facts.publisher = words.option("by")?.map(str::to_owned);
    if let Some(digest) = words.option("digest")? {
        digest.clone_into(&mut facts.digest);
    }
    Ok(facts)
}

fn open(rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(rest, "open https://HOST[:PORT]");
    let origin = origin(&mut words)?;
    words.end()?;
    Ok(Operation::OpenOrigin { origin })
}

fn act_in(act: BrowserAct, rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(
        rest,
        "click|type|submit|upload|download|script in https://HOST[:PORT]",
    );
    words.keyword("in")?;
    let origin = origin(&mut words)?;
    words.end()?;
    Ok(Operation::ActInOrigin { origin, act })
}

fn origin(words: &mut Words<'_>) -> Result<Origin, AskError> {
    let word = words.take("the origin")?;
    let (scheme, authority) = match word.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        _other => return Err(words.unexpected(word, "`https://HOST` or `http://HOST`")),
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.ends_with(']'));
    let with_port = if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:{}", scheme.default_port())
    };
    Ok(Origin {
        scheme,
        destination: Destination::from_authority(with_port.as_bytes())?,
    })
}

fn approve(rest: &[&str]) -> Result<Operation, AskError> {
    let words = Words::new(
        rest,
        "approve for USER [group G]... [agent A] [platform P] [backend B] [session ID]",
    );
    let asking = for_session(words)?;
    Ok(Operation::Approve { asking })
}

fn manage(rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(
        rest,
        "manage ACT for USER [group G]... [agent A] [platform P] [backend B] [session ID]",
    );
    let act = words.take("what is done")?;
    let known = "`open`, `read`, `ask`, `steer`, `change`, `end` or `token`";
    let act = words.one_of(act, known, SESSION_ACTS)?;
    let of = for_session(words)?;
    Ok(Operation::ManageSession { act, of })
}

/// A session by whose it is.
fn for_session(mut words: Words<'_>) -> Result<Arc<SessionFacts>, AskError> {
    words.keyword("for")?;
    let mut asking = Given {
        user: Some("somebody".into()),
        ..Given::default()
    };
    let mut id = None;
    // The short form of a summary names the session alone.
    if words.rest.first() != Some(&"session") || words.rest.len() == 1 {
        asking.user = match words.option("user")? {
            Some(user) => Some(user.to_owned()),
            None => Some(words.take("the user")?.to_owned()),
        };
    }
    let mut groups = Vec::new();
    while let Some(group) = words.option("group")? {
        groups.push(group.to_owned());
    }
    asking.groups = Some(groups);
    asking.agent = words.option("agent")?.map(str::to_owned);
    asking.platform = words.option("platform")?.map(str::to_owned);
    if let Some(word) = words.option("backend")? {
        asking.backend = Some(words.one_of(
            word,
            "`bubblewrap`, `container`, `none` or `gateway`",
            BACKENDS,
        )?);
    }
    if let Some(session) = words.option("session")? {
        id = Some(session.to_owned());
    }
    words.end()?;
    let mut facts = asking.session();
    if let Some(id) = id {
        facts.id = id;
    }
    Ok(Arc::new(facts))
}

fn publish(rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(rest, "publish policy NAME");
    words.keyword("policy")?;
    let bundle = words.take("the bundle's name")?.to_owned();
    words.end()?;
    Ok(Operation::PublishPolicy { bundle })
}

fn read_log(rest: &[&str]) -> Result<Operation, AskError> {
    let mut words = Words::new(rest, "read log NAME");
    words.keyword("log")?;
    let log = words.take("the log's name")?.to_owned();
    words.end()?;
    Ok(Operation::ReadLog { log })
}
