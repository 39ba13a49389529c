//! `cordon approve`: what sessions ask people, and their answers.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use cordon_audit::escape;
use hyper::Method;
use serde_json::{Map, Value, json};

use super::{
    Format, api,
    audit::table::{Column, Table, terminal_width},
    time,
};
use crate::error::Failure;

/// Options of `cordon approve`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "An approval is of exactly one request of one session. It never becomes a rule: \
                  `cordon policy\nsuggest` proposes one. Exit codes: 0 done, 1 it does not count \
                  any more, 3 you may not answer."
)]
pub struct ApproveArgs {
    #[command(subcommand)]
    command: Option<Command>,
    /// The approval: its id, or a unique beginning of it
    #[arg(value_name = "ID", required = true)]
    id: Option<String>,
    /// Yes, for one use (the default)
    #[arg(long, group = "scope")]
    once: bool,
    /// Yes, for so many uses, 2 to 1000
    #[arg(long, value_name = "N", group = "scope", value_parser = clap::value_parser!(u32).range(2..=1000))]
    uses: Option<u32>,
    /// Yes, until the session ends
    #[arg(long, group = "scope")]
    session: bool,
    /// No; of what was given already: no longer
    #[arg(long, group = "scope")]
    deny: bool,
    /// Time in which a use may begin, for example `10m`; at most `24h`
    #[arg(long = "for", value_name = "TIME", conflicts_with = "deny", value_parser = duration)]
    hold: Option<Duration>,
    /// Why, for the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What waits for an answer
    List(ListArgs),
    /// One of them, with everything that is known of it
    Show(ShowArgs),
    /// Each as it is asked, until this is interrupted
    Follow(FollowArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Also what was answered
    #[arg(long)]
    all: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Its id, or a unique beginning of it
    #[arg(value_name = "ID")]
    id: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
struct FollowArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it.
pub fn approve(args: ApproveArgs) -> Result<u8, Failure> {
    match (&args.command, &args.id) {
        (Some(Command::List(list)), _) => show_list(list),
        (Some(Command::Show(show)), _) => show_one(&whole(&find(&show.id)?)?, show.format),
        (Some(Command::Follow(follow)), _) => follow_all(follow.format),
        (None, Some(id)) => answer(&args, id),
        (None, None) => Err(Failure::new("which approval?")
            .help("`cordon approve list` shows what waits")
            .usage()),
    }
}

fn answer(args: &ApproveArgs, id: &str) -> Result<u8, Failure> {
    let found = find(id)?;
    let scope = match args.uses {
        Some(_) => Some("uses"),
        None => args.session.then_some("session"),
    };
    let said = [
        (
            "answer",
            Some(json!(if args.deny { "deny" } else { "approve" })),
        ),
        ("scope", scope.map(|scope| json!(scope))),
        ("uses", args.uses.map(|uses| json!(uses))),
        ("for_seconds", args.hold.map(|hold| json!(hold.as_secs()))),
        ("reason", args.reason.as_ref().map(|reason| json!(reason))),
    ];
    let said: Map<String, Value> = said
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
    let path = format!("/v1/approvals/{}", text(&found, "id"));
    let body = Value::Object(said).to_string().into_bytes();
    let reply = api::ask(&Method::POST, &path, body, DEADLINE)?;
    if reply.status != 200 {
        return Err(reply.failure());
    }
    println!("{}", outcome(&reply.body));
    Ok(0)
}

/// What came of an answer, in one line.
fn outcome(approval: &Value) -> String {
    let (id, request) = (text(approval, "id"), text(approval, "request"));
    let what = match text(approval, "state") {
        "pending" => "one more person must say yes to".to_owned(),
        "given" => format!("approved {}:", scope(approval)),
        other => format!("{other}:"),
    };
    format!("{id} {what} {}", escape(request))
}

fn scope(approval: &Value) -> String {
    let until = match text(approval, "until") {
        "" => String::new(),
        until => format!(", until {until}"),
    };
    match (text(approval, "scope"), number(approval, "uses")) {
        ("session", _) => format!("for this session{until}"),
        (_, 1) => format!("once{until}"),
        (_, uses) => format!("for {uses} uses, {} used{until}", number(approval, "used")),
    }
}

fn show_list(args: &ListArgs) -> Result<u8, Failure> {
    let (all, _revision) = fetch(None)?;
    let shown: Vec<&Value> = all
        .iter()
        .filter(|one| args.all || text(one, "state") == "pending")
        .collect();
    match args.format {
        Format::Json => shown.iter().for_each(|one| println!("{one}")),
        Format::Text if shown.is_empty() => println!("nothing waits for an answer"),
        Format::Text => print!("{}", as_table(&shown)),
    }
    Ok(0)
}

fn as_table(shown: &[&Value]) -> String {
    let columns = [
        Column::new("APPROVAL"),
        Column::new("STATE"),
        Column::new("LEFT"),
        Column::new("USER"),
        Column::new("AGENT"),
        Column::cut("REQUEST"),
    ];
    let mut table = Table::new(&columns, terminal_width());
    for one in shown {
        let left = left(one).unwrap_or_else(|| "-".into());
        let agent = match text(one, "agent") {
            "" => "-",
            agent => agent,
        };
        let (id, state) = (text(one, "id"), text(one, "state"));
        table.add([
            id,
            state,
            &left,
            text(one, "user"),
            agent,
            text(one, "request"),
        ]);
    }
    table.render(|_, cell| cell.to_owned())
}

fn show_one(approval: &Value, format: Format) -> Result<u8, Failure> {
    if format == Format::Json {
        println!("{approval}");
        return Ok(0);
    }
    println!("{}", escape(text(approval, "request")));
    let list = |name: &str| {
        let people = approval.get(name).and_then(Value::as_array);
        let people = people.into_iter().flatten().filter_map(Value::as_str);
        people.collect::<Vec<_>>().join(", ")
    };
    let needs = number(approval, "needs");
    let lines = [
        ("says", text(approval, "shown").to_owned()),
        ("approval", text(approval, "id").to_owned()),
        ("state", text(approval, "state").to_owned()),
        ("session", text(approval, "session").to_owned()),
        ("user", text(approval, "user").to_owned()),
        ("agent", text(approval, "agent").to_owned()),
        ("asked", text(approval, "asked").to_owned()),
        ("answer by", text(approval, "deadline").to_owned()),
        (
            "people",
            if needs > 1 {
                needs.to_string()
            } else {
                String::new()
            },
        ),
        ("approved by", list("approved_by")),
        ("refused by", text(approval, "refused_by").to_owned()),
        (
            "given",
            match text(approval, "scope") {
                "" => String::new(),
                _ => scope(approval),
            },
        ),
        ("digest", text(approval, "digest").to_owned()),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        println!("  {name:11}  {}", escape(value));
    }
    show_who(approval);
    if let Some(left) = left(approval) {
        let id = text(approval, "id");
        println!("  time left    {left}; without an answer it is refused");
        println!("  yes          `cordon approve {id}`: exactly this request, once");
        println!(
            "               `--uses N`, `--session` and `--for TIME` say how often and how long"
        );
        println!(
            "  no           `cordon approve {id} --deny`: for 10 minutes nobody is asked again"
        );
    }
    Ok(0)
}

/// Who may answer: the rules, and how to ask them about somebody.
fn show_who(approval: &Value) {
    let rules = approval.get("may_answer").and_then(Value::as_array);
    for rule in rules.into_iter().flatten() {
        let words = escape(text(rule, "words"));
        println!(
            "  may answer   {words} (rule `{}`)",
            escape(text(rule, "rule"))
        );
    }
    let question = escape(text(approval, "explain"));
    println!(
        "  who exactly  `cordon policy explain --policy PACK-OR-FOLDER --user NAME {question}`"
    );
}

/// How long one that waits for an answer still does.
fn left(approval: &Value) -> Option<String> {
    let now = SystemTime::now();
    let deadline = time::before(now, text(approval, "deadline"))?;
    let left = deadline.duration_since(now).unwrap_or_default().as_secs();
    (text(approval, "state") == "pending").then(|| match left {
        3_600.. => format!("{}h {:02}m", left / 3_600, left % 3_600 / 60),
        _under_an_hour => format!("{}m {:02}s", left / 60, left % 60),
    })
}

/// One line for each that is asked from now on, and for those that wait already.
fn follow_all(format: Format) -> Result<u8, Failure> {
    let mut told = std::collections::BTreeSet::new();
    let mut seen = None;
    loop {
        let (all, revision) = fetch(seen)?;
        let waiting = |one: &&Value| text(one, "state") == "pending";
        for one in all.iter().filter(waiting) {
            if !told.insert(text(one, "id").to_owned()) {
                continue;
            }
            match format {
                Format::Json => println!("{one}"),
                Format::Text => println!(
                    "{}  {}  {}",
                    text(one, "id"),
                    escape(text(one, "user")),
                    escape(text(one, "request"))
                ),
            }
        }
        told.retain(|id| all.iter().any(|one| text(one, "id") == id));
        seen = Some(revision);
    }
}

/// All that the daemon knows; after `seen` once something has changed, or in a while.
fn fetch(seen: Option<u64>) -> Result<(Vec<Value>, u64), Failure> {
    let path = match seen {
        None => "/v1/approvals".to_owned(),
        Some(seen) => format!("/v1/approvals?seen={seen}&wait=30"),
    };
    let mut reply = api::ask(&Method::GET, &path, Vec::new(), DEADLINE)?;
    if reply.status != 200 {
        return Err(reply.failure());
    }
    let revision = number(&reply.body, "revision");
    match reply.body.get_mut("approvals").map(Value::take) {
        Some(Value::Array(all)) => Ok((all, revision)),
        _other => Err(Failure::new("the daemon answered something unexpected")),
    }
}

/// One with all that is told of it alone.
fn whole(found: &Value) -> Result<Value, Failure> {
    let path = format!("/v1/approvals/{}", text(found, "id"));
    let reply = api::ask(&Method::GET, &path, Vec::new(), DEADLINE)?;
    match reply.status {
        200 => Ok(reply.body),
        _other => Err(reply.failure()),
    }
}

/// The one whose id is, or begins with, `id`.
fn find(id: &str) -> Result<Value, Failure> {
    let (all, _revision) = fetch(None)?;
    let begins = |one: &&Value| !id.is_empty() && text(one, "id").starts_with(id);
    let mut found = all.iter().filter(begins);
    let why = match (found.next(), found.next()) {
        (Some(one), None) => return Ok(one.clone()),
        (None, _) => "no approval begins so",
        (Some(_), Some(_)) => "more than one approval begins so",
    };
    Err(Failure::new(format!("`{}`: {why}", escape(id)))
        .help("`cordon approve list --all` shows them; those of a session go with it")
        .usage())
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(of: &Value, name: &str) -> u64 {
    of.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn duration(text: &str) -> Result<Duration, String> {
    time::duration(text)
        .filter(|time| (1..=86_400).contains(&time.as_secs()))
        .ok_or_else(|| "a time is `90s`, `30m` or `2h`, at most `24h`".into())
}

/// Longer than the daemon takes at most.
const DEADLINE: Duration = Duration::from_secs(45);
