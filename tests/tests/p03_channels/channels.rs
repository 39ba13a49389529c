//! The channels of one session, each the real one; what it says is held against the record.

use std::{fs, path::Path};

use cordon_tests::{
    World,
    api::{curl, send},
    process,
};
use serde_json::{Value, json};

use crate::{server::Server, table::Row};

/// What was decided.
#[derive(Debug, Default)]
pub struct Said {
    pub effect: String,
    pub reason: String,
    pub rules: Vec<String>,
    /// Where the channel says which record it is.
    decision: Option<String>,
}

/// The channels of one session.
pub struct Channels<'a> {
    world: &'a World,
    id: &'a str,
    /// Where the log was read to.
    after: u64,
    servers: [Server; 2],
}

impl<'a> Channels<'a> {
    pub fn new(world: &'a World, id: &'a str, servers: [Server; 2]) -> Self {
        let mut new = Self {
            world,
            id,
            after: 0,
            servers,
        };
        new.since();
        new
    }

    /// What the channel says, which is what the log says.
    pub fn ask(&mut self, channel: &str, row: &Row, question: &Value) -> Said {
        let told = match channel {
            "decide" => self.decide(question),
            "authzen" => self.authzen(question),
            "hook" => self.hook(question),
            "can_use_tool" => self.can_use_tool(question),
            "gateway" => self.gateway(question),
            "proxy" => self.proxy(row, question),
            _sandbox => self.sandbox(question),
        };
        let records = self.since();
        // What the kernel holds was decided when its folder was mounted.
        let told = if row.action.starts_with("path.") && channel == "sandbox" {
            return self.mounted(told);
        } else {
            told
        };
        let is = |record: &&Value| match &told.decision {
            Some(id) => record["id"] == **id,
            None => record["action"] == row.action,
        };
        // Inside a sandbox the connection is refused before there is a request on it.
        let record = records.iter().rev().find(is);
        let record = record.or_else(|| records.last().filter(|_| channel == "sandbox"));
        let recorded = record.map(of_record).unwrap_or_default();
        let agrees = told.effect == recorded.effect
            && (told.reason.is_empty() || told.reason == recorded.reason)
            && (told.rules.is_empty() || told.rules == recorded.rules);
        assert!(
            agrees,
            "{} by {channel}: {told:?}, and in the log {record:?}",
            row.name
        );
        recorded
    }

    /// The tools that servers were called for.
    pub fn called(&self, folder: &Path) -> Vec<String> {
        let text = fs::read_to_string(folder.join("notes")).unwrap();
        assert!(!folder.join("tracker").exists());
        text.lines().map(str::to_owned).collect()
    }

    fn decide(&self, question: &Value) -> Said {
        let mut words = vec!["decide", "--format", "json", "--session", self.id];
        words.extend(texts(question));
        let told = self.world.cordon(&words);
        let said = of_told(&serde_json::from_slice(&told.stdout).unwrap());
        assert_eq!(
            told.code,
            if said.effect == "allow" { 0 } else { 3 },
            "{told}"
        );
        said
    }

    fn authzen(&self, question: &Value) -> Said {
        let asked = json!({
            "subject": {"type": "Session", "id": self.id},
            "action": {"name": question[0]},
            "resource": {"type": question[1], "id": question[2]},
            "context": question[3],
        });
        let told = send(
            self.world,
            "POST",
            "/access/v1/evaluation",
            &asked.to_string(),
        )
        .1;
        let mut context = told["context"].clone();
        context["allowed"] = told["decision"].clone();
        of_told(&context)
    }

    fn hook(&self, question: &Value) -> Said {
        let asked = json!({"session_id": "agent", "cwd": self.world.project(),
            "hook_event_name": "PreToolUse", "tool_name": question[0], "tool_input": question[1]});
        let mut product = self.world.command();
        product
            .args(["hook", "pre-tool-use", "--policy"])
            .arg(self.world.policy_folder());
        let told = process::finish(product, asked.to_string().as_bytes());
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        let told = &told["hookSpecificOutput"];
        Said {
            effect: text(&told["permissionDecision"]),
            decision: decision_in(&told["permissionDecisionReason"]),
            ..Said::default()
        }
    }

    fn can_use_tool(&self, question: &Value) -> Said {
        let asked = json!({"type": "control_request", "request_id": "1", "request": {
            "subtype": "can_use_tool", "tool_name": question[0], "input": question[1]}});
        let mut product = self.world.command();
        product.args(["hook", "can-use-tool", "--session-id", "agent", "--policy"]);
        product.arg(self.world.policy_folder());
        let told = process::finish(product, format!("{asked}\n").as_bytes());
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        let told = &told["response"]["response"];
        // This is where the agent asks, so what waits for an approval is denied here, and says so.
        let waits = text(&told["message"]).contains("it needs an approval");
        let behavior = text(&told["behavior"]);
        Said {
            effect: if waits && behavior == "deny" {
                "ask".into()
            } else {
                behavior
            },
            decision: decision_in(&told["message"]),
            ..Said::default()
        }
    }

    fn gateway(&mut self, question: &Value) -> Said {
        let [notes, tracker] = &mut self.servers;
        let server = if question[0] == "notes" {
            notes
        } else {
            tracker
        };
        let told = server.ask("tools/call", &json!({"name": question[1], "arguments": {}}));
        if let Value::String(did) = &told["result"]["content"][0]["text"] {
            assert_eq!(*did, format!("did {}", text(&question[1])));
            return Said {
                effect: "allow".into(),
                ..Said::default()
            };
        }
        assert_eq!(told["error"]["code"], -32010, "{told}");
        of_told(&told["error"]["data"])
    }

    /// What curl meets by the session's proxy; of a tunnel, how that was answered.
    fn proxy(&self, row: &Row, question: &Value) -> Said {
        let url = text(question);
        let told = self
            .inside(&[
                "curl",
                "-s",
                "-D",
                "-",
                "-o",
                "/dev/null",
                "--max-time",
                "20",
                "-w",
                "\n%{http_connect} %{http_code}",
                &url,
            ])
            .text();
        let codes = told.lines().last().unwrap_or_default().to_owned();
        let (tunnel, answer) = codes.split_once(' ').unwrap();
        let code = if row.action == "net.connect" {
            tunnel
        } else {
            answer
        };
        let refused = code == "403" || tunnel == "403";
        let heads = told.lines();
        let mut decisions = heads.filter_map(|line| line.strip_prefix("x-cordon-decision: id=\""));
        // The tunnel's comes first; that of a request comes with its refusal.
        let decision = match row.action {
            "net.connect" => decisions.next(),
            _ if refused => decisions.next_back(),
            _ => None,
        };
        assert!(decision.is_some() || code == "200", "{told}");
        let decision = decision.and_then(|told| Some(told.split_once('"')?.0.to_owned()));
        Said {
            effect: if refused {
                "deny"
            } else if code == "200" {
                "allow"
            } else {
                code
            }
            .into(),
            decision,
            ..Said::default()
        }
    }

    /// Really does it, in the sandbox, by a program that knows of no proxy.
    fn sandbox(&self, question: &Value) -> Said {
        let done = self.inside(&texts(question));
        let reason = ["No such file", "not permitted"]
            .iter()
            .any(|why| done.stderr.contains(why));
        Said {
            effect: if done.code == 0 { "allow" } else { "deny" }.into(),
            reason: if reason { "grant_mode" } else { "" }.into(),
            ..Said::default()
        }
    }

    /// The same with the rules that let the folder in.
    fn mounted(&self, mut said: Said) -> Said {
        if said.effect == "allow" {
            let records = self.world.records(self.id);
            let project = self.world.project();
            let is = |record: &&Value| {
                record["action"] == "folder.grant"
                    && record["resource"]["id"].as_str() == project.to_str()
            };
            let granted = of_record(records.iter().find(is).unwrap());
            assert_eq!(granted.effect, "allow");
            said.reason = granted.reason;
            said.rules = granted.rules;
        }
        said
    }

    fn inside(&self, command: &[&str]) -> cordon_tests::Outcome {
        let own = ["session", "exec", self.id, "--"];
        self.world.cordon(&[&own[..], command].concat())
    }

    /// The decisions since it was called last.
    fn since(&mut self) -> Vec<Value> {
        let mut records = Vec::new();
        loop {
            let path = format!("/v1/events?after={}&limit=1000", self.after);
            let (code, page) = curl(self.world, &path, &[]);
            assert_eq!(code, 200, "{page}");
            let events = page["events"].as_array().unwrap();
            // That a program was started inside is ours, and no part of the question.
            let is_decision = |record: &&Value| {
                record["effect"].is_string() && record["action"] != "session.exec"
            };
            records.extend(events.iter().filter(is_decision).cloned());
            self.after = page["next"].as_u64().unwrap();
            if events.len() < 1000 {
                return records;
            }
        }
    }
}

/// What a channel of JSON says.
fn of_told(told: &Value) -> Said {
    let effect = match (&told["allowed"], told["code"].as_str()) {
        (Value::Bool(true), _) => "allow",
        (_, Some("approval_required")) => "ask",
        _denied => "deny",
    };
    let reason = if effect == "allow" {
        "rule".into()
    } else {
        text(&told["code"])
    };
    Said {
        effect: effect.into(),
        reason,
        rules: texts(&told["rules"])
            .into_iter()
            .map(str::to_owned)
            .collect(),
        decision: Some(text(&told["decision_id"])),
    }
}

fn of_record(record: &Value) -> Said {
    let reason = text(&record["reason"]);
    let asks = reason == "approval_required";
    Said {
        effect: if asks {
            "ask".into()
        } else {
            text(&record["effect"])
        },
        reason,
        rules: texts(&record["rules"])
            .into_iter()
            .map(str::to_owned)
            .collect(),
        decision: None,
    }
}

/// `… (Cordon, decision ID)`, which each refusal ends with.
fn decision_in(told: &Value) -> Option<String> {
    let (_, rest) = told.as_str()?.split_once("(Cordon, decision ")?;
    Some(rest.split_once(')')?.0.to_owned())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<&str> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).collect()
}
