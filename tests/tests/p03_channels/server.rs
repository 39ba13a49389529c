//! A real tool server behind the real gateway, and a client of it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use cordon_tests::World;
use serde_json::{Value, json};

/// A tool server behind the gateway, spoken to by standard input and output.
pub struct Server {
    gateway: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    asked: u64,
}

impl Server {
    /// Starts one that notes its calls in a file of its name in `folder`.
    pub fn start(world: &World, session: &str, name: &str, folder: &Path) -> Self {
        world.project_file("server.py", include_bytes!("server.py"));
        let grants = [
            format!("{}:ro=project", world.project().display()),
            format!("{}:rw=reached", folder.display()),
        ];
        let mut gateway = world.command();
        gateway.args([
            "mcp",
            "wrap",
            "--server",
            name,
            "--session",
            session,
            "--policy",
        ]);
        gateway.arg(world.policy_folder());
        gateway.args(["--grant", &grants[0], "--grant", &grants[1], "--"]);
        gateway.args(["python3", "mnt/project/server.py"]);
        gateway
            .arg(format!("mnt/reached/{name}"))
            .args(["may", "other"]);
        for prefix in ["may", "never", "ask", "other"] {
            gateway.args((0..5).map(|at| format!("{prefix}{at}")));
        }
        let mut gateway = gateway
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Self {
            input: gateway.stdin.take(),
            output: BufReader::new(gateway.stdout.take().unwrap()),
            gateway,
            asked: 0,
        };
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "table", "version": "1"}});
        let greeted = server.ask("initialize", &hello);
        assert!(greeted["result"]["serverInfo"].is_object(), "{greeted}");
        server.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        // The client has seen what is there before it calls.
        assert!(server.ask("tools/list", &json!({}))["result"]["tools"].is_array());
        server
    }

    /// Its answer to a request.
    pub fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.asked += 1;
        let asked = json!({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params});
        self.say(&asked);
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).unwrap() > 0,
                "no answer to {asked}"
            );
            let told: Value = serde_json::from_str(&line).unwrap();
            if told["id"] == self.asked {
                return told;
            }
        }
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{message}").unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its input ends, and with it the gateway, its session and the server.
        drop(self.input.take());
        let _ended = self.gateway.wait();
    }
}
