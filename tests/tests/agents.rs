//! Real agents, as npm has them, inside `cordon run`, against a scripted model on loopback: they
//! write a file, run a command, fetch an allowed and a denied host, and the log says the same.
//!
//! What the model asks for and what must come of it is in `tests/agents/run_agent.py`. The agents
//! are looked for in `$CORDON_TEST_AGENTS` (`tests/all.sh` installs them); their API's name is
//! overridden to port 443 of a loopback address, so these tests run as root only.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use cordon_tests::{Outcome, World, binary, for_both, process};

for_both! {
    fn claude_code_with_a_key(world) {
        run(world, "claude", "key", 1);
    }

    fn claude_code_with_an_account(world) {
        run(world, "claude", "account", 2);
    }

    /// On the host, outside any sandbox: its own tools run only as Cordon answers its hook.
    fn p03_claude_code_asks_by_its_hook(world) {
        hooked(world, 5);
    }

    fn codex_with_a_key(world) {
        run(world, "codex", "key", 3);
    }

    fn codex_with_an_account(world) {
        run(world, "codex", "account", 4);
    }
}

/// Names that the agents need beside the two that the model's script fetches.
const SERVICES: [&str; 5] = [
    "api.anthropic.com",
    "platform.claude.com",
    "api.openai.com",
    "auth.openai.com",
    "chatgpt.com",
];

/// Runs one agent through one session; `place` keeps the loopback addresses of tests apart.
#[track_caller]
fn run(world: &mut World, agent: &str, auth: &str, place: u8) {
    if !rustix::process::getuid().is_root() {
        eprintln!("not run: only root can listen on port 443");
        return;
    }
    for host in SERVICES.iter().chain(&["allowed.test"]) {
        world.policy.allow(host);
    }
    let account = world.account().clone();
    let work = world.folder("agent");
    let addresses = |last: u8| format!("127.77.{place}.{}", last + u8::from(account.uid == 0));
    let mut command = Command::new("/usr/bin/python3");
    command.arg(tests().join("agents/run_agent.py")).arg(agent);
    command.arg("--program").arg(program(agent));
    command.arg("--work").arg(&work);
    command.args(["--auth", auth, "--user", &account.name]);
    command.args(["--api", &format!("{}:443", addresses(10))]);
    command.args(["--allowed", &format!("{}:80", addresses(20))]);
    command.args(["--denied", &format!("{}:80", addresses(30))]);
    command.arg("--").arg(binary::cordon());
    command
        .args(["run", "--format", "json", "--policy"])
        .arg(world.policy_folder())
        .arg("--");
    let outcome = process::finish(command, b"");
    let session = session(&work, &outcome);
    outcome.expect_code(0);
    session.expect_allowed("allowed.test");
    session.expect_denied("denied.test", "default_deny");
    for arguments in [&["stop"][..], &["audit", "verify"]] {
        process::finish(cordon_of(world, &work, arguments), b"").expect_code(0);
    }
}

#[track_caller]
fn hooked(world: &mut World, place: u8) {
    if !rustix::process::getuid().is_root() {
        eprintln!("not run: only root can listen on port 443");
        return;
    }
    world.policy.rule(
        "@id(\"asked\") permit (principal, action == Action::\"write\", resource) when { context has \
         approval && resource.name == \"asked.txt\" };\n@id(\"on-the-host\") permit (principal, action == Action::\"run_without_sandbox\", \
         resource);\n@id(\"files\") permit (principal, action in [Action::\"read\", \
         Action::\"write\"], resource) unless { resource.name == \"asked.txt\" };\n@id(\"tools\") permit (principal, action == \
         Action::\"call_tool\", resource in Extension::\"claude-code\");",
    );
    world.policy.allow("allowed.test");
    let account = world.account().clone();
    let work = world.folder("agent");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(tests().join("agents/run_hooked.py"));
    command.arg("--program").arg(program("claude"));
    command.arg("--work").arg(&work);
    command.arg("--cordon").arg(binary::cordon());
    command.arg("--policy").arg(world.policy_folder());
    command.args(["--user", &account.name]);
    let address = format!("127.77.{place}.{}:443", 10 + u8::from(account.uid == 0));
    command.args(["--api", &address]);
    process::finish(command, b"").expect_code(0);
    // What its hook left to a person waits for one, also for the agent that could ask nobody.
    let waiting = process::finish(cordon_of(world, &work, &["approve", "list"]), b"");
    waiting.expect_code(0).expect_told("asked.txt");
    // What the hook decided of the two hosts is what the walled runs above are told of them.
    for (effect, host) in [("allow", "allowed.test"), ("deny", "denied.test")] {
        let query = ["audit", "query", "--effect", effect, "--host", host];
        let found = process::finish(cordon_of(world, &work, &query), b"");
        found.expect_code(0).expect_told(host);
    }
    let mut decided = String::new();
    for arguments in [
        &["audit", "query", "--format", "json"][..],
        &["stop", "--force"],
        &["audit", "verify"],
    ] {
        let said = process::finish(cordon_of(world, &work, arguments), b"");
        said.expect_code(0);
        decided.push_str(&said.text());
    }
    for what in [
        "path.write",
        "outside.txt",
        "grant_mode",
        "claude-code/Bash",
    ] {
        assert!(decided.contains(what), "{what}: {decided}");
    }
}

/// The product, as the agent's hook in `work` runs it.
fn cordon_of(world: &World, work: &Path, arguments: &[&str]) -> Command {
    let mut cordon = world.as_account(binary::cordon());
    cordon.args(arguments);
    cordon
        .env("HOME", work.join("home"))
        .env("XDG_RUNTIME_DIR", work.join("run"));
    cordon
        .env_remove("XDG_STATE_HOME")
        .env_remove("XDG_CONFIG_HOME");
    cordon
}

/// What `cordon run` itself printed, which the script keeps in files.
fn session(work: &Path, outcome: &Outcome) -> Outcome {
    let read = |name| std::fs::read(work.join(name)).unwrap_or_default();
    Outcome {
        command: outcome.command.clone(),
        code: outcome.code,
        stdout: [outcome.stdout.clone(), read("stdout")].concat(),
        stderr: String::from_utf8_lossy(&read("stderr")).into_owned(),
    }
}

fn tests() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where npm put the agent.
#[track_caller]
fn program(agent: &str) -> PathBuf {
    let folder = std::env::var("CORDON_TEST_AGENTS")
        .unwrap_or_else(|_| "/var/cache/cordon-tests/agents".into());
    let program = Path::new(&folder).join("node_modules/.bin").join(agent);
    assert!(
        program.exists(),
        "no `{}`: npm install --prefix {folder} @anthropic-ai/claude-code @openai/codex",
        program.display()
    );
    program
}
