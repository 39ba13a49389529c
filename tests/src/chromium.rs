//! A real Chromium beside the sandbox, driven by its debugging protocol over a pipe, as a runtime
//! drives one.
//!
//! Source: the protocol's domains Target, Page, Fetch and Runtime; messages end with a zero byte.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use serde_json::{Value, json};

use crate::{World, process};

/// The small one, which knows no automatic proxy configuration.
pub const SHELL: &[&str] = &["chromium-headless-shell"];

/// The whole one.
pub const WHOLE: &[&str] = &["chromium", "--headless=new"];

/// A browser with one page.
#[derive(Debug)]
pub struct Chromium {
    child: Child,
    orders: File,
    messages: Receiver<Value>,
    next: u64,
    page: String,
    /// What the proxy is told when it asks: name and password.
    credentials: Option<(String, String)>,
}

impl Chromium {
    /// Starts `program` as the world's account with these options.
    pub fn start(
        world: &World,
        program: &[&str],
        options: &[String],
        credentials: Option<(&str, &str)>,
    ) -> Self {
        let folder = world.folder("browser");
        let [orders, messages] = ["orders", "messages"].map(|name| folder.join(name));
        for pipe in [&orders, &messages] {
            let _gone = std::fs::remove_file(pipe);
            world.host("mkfifo", &[pipe.to_str().expect("a path of ours")]);
        }
        let profile = folder.join("profile");
        let mut command = world.as_account("sh");
        command
            .args(["-c", "exec \"$@\" 3<orders 4>messages", "sh"])
            .args(program)
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(options)
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("a shell");
        let orders = OpenOptions::new().write(true).open(&orders);
        let messages = File::open(&messages).expect("the pipe is there");
        let mut browser = Self {
            child,
            orders: orders.expect("the pipe is there"),
            messages: read(messages),
            next: 0,
            page: String::new(),
            credentials: credentials.map(|(name, secret)| (name.into(), secret.into())),
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let asked = json!({"targetId": target["targetId"], "flatten": true});
        let page = browser.call("Target.attachToTarget", asked);
        browser.page = page["sessionId"].as_str().expect("a page").into();
        browser.call("Page.enable", json!({}));
        browser.call("Fetch.enable", json!({"handleAuthRequests": true}));
        browser
    }

    /// Opens a page: its text, or the browser's own error.
    pub fn open(&mut self, url: &str) -> String {
        let opened = self.call("Page.navigate", json!({"url": url}));
        if let Some(error) = opened["errorText"].as_str() {
            return error.into();
        }
        while self.event()["method"] != "Page.loadEventFired" {}
        self.evaluate("document.documentElement.innerText")
    }

    /// What a script on the page comes to, as text; promises are waited for.
    pub fn evaluate(&mut self, script: &str) -> String {
        let asked = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let done = self.call("Runtime.evaluate", asked);
        match &done["result"]["value"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.order(method, params);
        loop {
            let message = self.event();
            if message["id"] == id {
                return message["result"].clone();
            }
        }
    }

    fn order(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let mut order = json!({"id": self.next, "method": method, "params": params});
        if !self.page.is_empty() {
            order["sessionId"] = self.page.as_str().into();
        }
        let line = format!("{order}\0");
        self.orders
            .write_all(line.as_bytes())
            .expect("the browser takes orders");
        self.next
    }

    /// The next message; what stops a request is answered on the way.
    fn event(&mut self) -> Value {
        let message = self.messages.recv_timeout(process::DEADLINE);
        let message = message.expect("the browser says something in time");
        let request = &message["params"]["requestId"];
        match message["method"].as_str() {
            Some("Fetch.requestPaused") => {
                self.order("Fetch.continueRequest", json!({"requestId": request}));
            }
            Some("Fetch.authRequired") => {
                let answer = match &self.credentials {
                    Some((name, secret)) => {
                        json!({"response": "ProvideCredentials", "username": name, "password": secret})
                    }
                    None => json!({"response": "CancelAuth"}),
                };
                let asked = json!({"requestId": request, "authChallengeResponse": answer});
                self.order("Fetch.continueWithAuth", asked);
            }
            _other => {}
        }
        message
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn read(from: File) -> Receiver<Value> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut message = Vec::new();
            match from.read_until(0, &mut message) {
                Ok(read) if read > 0 => message.pop(),
                _ended => return,
            };
            let message = serde_json::from_slice(&message);
            if sender.send(message.unwrap_or_default()).is_err() {
                return;
            }
        }
    });
    receiver
}
