//! The same sixty requests by every channel that can say them: the same answer, by the same rule, for
//! the same reason (P03).
//!
//! Every channel is the real one: a sandbox with the session in it, its proxy, a tool server behind
//! the gateway, an agent's hook and its control protocol. What a channel cannot say stands in the
//! table with the reason, and how many such cells there are is a part of the test.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeMap;

use cordon_tests::{
    Origin, World,
    api::{only_session, send},
    for_both,
    origin::http::Reply,
};

use crate::{
    channels::Channels,
    server::Server,
    table::{CHANNELS, Cell, Row, rows},
};

mod channels;
mod server;
mod table;

for_both! {
    /// Files, hosts, tools, connectors, pages and commands: allowed, denied, forbidden, asked about,
    /// and refused by a floor.
    fn p03_every_channel_gives_the_same_answer(world) {
        let authority = world.authority();
        let open = Origin::https(&authority, "open.test", |_request| Reply::ok("hello"));
        for name in ["open.test", "www.open.test", "shut.test"] {
            world.route(name, open.address());
        }
        world.policy.rule(RULES);
        world.config.push_str(CONNECTORS);
        let outside = world.write("home/outside", "not yours");
        // What is there before the session is what it may not delete.
        for name in ["f1", "f2", "f3", "f4"] {
            world.project_file(name, "x");
        }
        let reached = world.folder("reached");
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        set_up(world, &id);
        let rows = rows(open.port(), &world.project(), &outside);
        assert_eq!(rows.len(), 60);
        let servers = ["notes", "tracker"].map(|name| Server::start(world, &id, name, &reached));
        // A server that is spoken to already is cut from it too.
        let off = ["connector", "disable", "tracker", "--session", &id];
        world.cordon(&off).expect_code(0);
        let mut channels = Channels::new(world, &id, servers);
        let wrong: Vec<String> = rows.iter().flat_map(|row| disagreeing(&mut channels, row)).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        // What was refused did not reach the servers, and what was allowed did.
        let mut called = channels.called(&reached);
        called.sort();
        assert_eq!(called, ["may0", "may1", "may2", "may3", "may4"]);
        // Pages and tunnels aside, each request to the origin is one that a rule allowed.
        let paths: Vec<String> = open.requests().iter().map(|request| request.target.clone()).collect();
        assert!(!paths.is_empty());
        assert!(paths.iter().all(|path| path.starts_with("/public/")), "{paths:?}");
        drop(channels);
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
        // The session of the hooks stays for the agent.
        world.cordon(&["stop", "--force"]).expect_code(0);
    }

    /// How much of the table can be said, channel by channel: a cell that is lost is a change here.
    fn p03_what_a_channel_cannot_say_is_counted(world) {
        let rows = rows(443, &world.project(), &world.project());
        let mut says: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &rows {
            let named: Vec<&str> = row.cells.iter().map(|(channel, _cell)| *channel).collect();
            assert_eq!(named, CHANNELS, "{}", row.name);
            for (channel, cell) in &row.cells {
                match cell {
                    Cell::Says(_) | Cell::Rests(..) => *says.entry(channel).or_default() += 1,
                    Cell::Cannot(why) => assert!(why.len() > 20, "{}: {channel}", row.name),
                }
            }
        }
        let expected = BTreeMap::from([
            ("decide", 60), ("authzen", 60), ("hook", 44), ("can_use_tool", 44), ("gateway", 22),
            ("proxy", 14), ("sandbox", 25),
        ]);
        assert_eq!(says, expected);
        // 420 cells; these 151 have a reason in place of a question.
        assert_eq!(rows.len() * CHANNELS.len() - says.values().sum::<usize>(), 151);
    }
}

/// Switches on what the table takes for granted.
fn set_up(world: &World, id: &str) {
    for (connector, scopes) in [
        ("mail", r#"{"scopes": ["read"]}"#),
        ("tracker", r#"{"scopes": ["read"]}"#),
    ] {
        let path = format!("/v1/sessions/{id}/connectors/{connector}");
        assert_eq!(send(world, "PUT", &path, scopes).0, 200, "{path}");
    }
    let path = format!("/v1/sessions/{id}/browser");
    assert_eq!(send(world, "PUT", &path, "{}").0, 200);
}

/// What a row's channels say that the row does not.
fn disagreeing(channels: &mut Channels<'_>, row: &Row) -> Vec<String> {
    let mut wrong = Vec::new();
    for (channel, cell) in &row.cells {
        let (question, rules) = match cell {
            Cell::Says(question) => (question, &row.rules),
            Cell::Rests(question, rules) => (question, rules),
            Cell::Cannot(_) => continue,
        };
        let said = channels.ask(channel, row, question);
        let expected = (row.answer, row.reason, rules.iter().map(String::as_str));
        if said.effect != expected.0 || said.reason != expected.1 || !expected.2.eq(&said.rules) {
            wrong.push(format!(
                "{} by {channel}: {said:?}, wanted {} ({}) by {rules:?}",
                row.name, row.answer, row.reason
            ));
        }
    }
    wrong
}

const RULES: &str = r#"
permit (principal, action in [Action::"run_without_sandbox", Action::"load_extension", Action::"enable_connector", Action::"enable_browser"], resource);
@id("tunnel") @inspect("tls")
permit (principal, action == Action::"connect", resource == Host::"open.test");
@id("public") permit (principal, action == Action::"http_read", resource == Host::"open.test")
when { context.path like "/public/*" };
@id("files") permit (principal, action in [Action::"read", Action::"write", Action::"delete"], resource);
@id("tools") permit (principal, action == Action::"call_tool", resource)
when { resource.name like "may*" || resource.name == "Bash" };
@id("never") forbid (principal, action == Action::"call_tool", resource)
when { resource.name like "never*" || resource.name == "WebSearch" };
@id("asked") permit (principal, action == Action::"call_tool", resource)
when { (resource.name like "ask*" || resource.name == "Skill") && context has approval };
@id("scopes") permit (principal, action == Action::"use_scope", resource) unless { resource.name == "admin" };
@id("pages") permit (principal, action == Action::"open", resource in Domain::"open.test");
@id("no-plain-pages") forbid (principal, action == Action::"open", resource)
when { resource.scheme == "http" };
"#;

const CONNECTORS: &str = r#"
[connectors.tracker]
kind = "mcp"
[connectors.tracker.scopes]
"read" = "Read"
[connectors.mail]
kind = "mcp"
[connectors.mail.scopes]
"read" = "Read"
"write" = "Write"
"admin" = "Everything"
"#;
