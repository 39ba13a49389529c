//! `cordon session browser`: the browser of a running session.

use std::time::Duration;

use clap::ValueEnum;
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    cli::{Format, api, decide, exit},
    error::Failure,
};

/// Options of `cordon session browser`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "docs/browser.md has the settings of a browser that is started beside the \
    sandbox."
)]
pub struct Args {
    /// The running session: its id, or a unique beginning of it
    #[arg(value_name = "SESSION")]
    session: String,
    /// What to do with it
    #[arg(value_enum, default_value_t)]
    what: What,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum What {
    /// Say whether it is on, and the session's proxy with its password
    #[default]
    Show,
    /// Switch it on: a decision
    Enable,
    /// Switch it off, at once
    Disable,
    /// Print the proxy as a file for automatic proxy configuration
    Pac,
}

/// Does it. Exit 3 when policy refuses.
pub fn browser(args: &Args) -> Result<u8, Failure> {
    let place = format!("/v1/sessions/{}/browser", api::session(&args.session)?);
    match args.what {
        What::Pac => {
            print!("{}", api::text(&format!("{place}/proxy.pac"), DEADLINE)?);
            Ok(0)
        }
        What::Show => {
            let shown = send(&Method::GET, &place)?;
            print(args.format, &shown, &as_text(&shown));
            Ok(0)
        }
        What::Disable => {
            send(&Method::DELETE, &place)?;
            print(args.format, &json!({"enabled": false}), "browser off\n");
            Ok(0)
        }
        What::Enable => {
            let answer = send(&Method::PUT, &place)?;
            let allowed = answer.get("allowed") == Some(&Value::Bool(true));
            let text = match allowed {
                true => as_text(answer.get("browser").unwrap_or(&Value::Null)),
                false => decide::as_text(&answer, false),
            };
            print(args.format, &answer, &text);
            Ok(if allowed { 0 } else { exit::DENIED })
        }
    }
}

fn send(method: &Method, path: &str) -> Result<Value, Failure> {
    api::send(method, path, &json!({}), DEADLINE)
}

fn print(format: Format, value: &Value, text: &str) {
    match format {
        Format::Json => println!("{value}"),
        Format::Text => print!("{text}"),
    }
}

fn text(value: &Value, pointer: &str) -> String {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_default().escape_debug().to_string()
}

fn as_text(browser: &Value) -> String {
    if browser.get("enabled") != Some(&Value::Bool(true)) {
        return "browser off\n".into();
    }
    let flags = browser.get("chromium").and_then(Value::as_array);
    let flags: Vec<String> = flags
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|flag| format!("  '{}'\n", flag.escape_debug()))
        .collect();
    format!(
        "browser on\nproxy {}\nuser  {}\npassword {}\noptions of Chromium:\n{}",
        text(browser, "/proxy/server"),
        text(browser, "/proxy/username"),
        text(browser, "/proxy/password"),
        flags.concat(),
    )
}

/// Longer than the daemon takes at most.
const DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_is_started_with_is_shown() {
        assert_eq!(as_text(&json!({"enabled": false})), "browser off\n");
        let on = json!({"enabled": true, "chromium": ["--a=b c"],
            "proxy": {"server": "http://127.0.0.1:1", "username": "browser", "password": "x"}});
        let shown = as_text(&on);
        assert!(shown.contains("proxy http://127.0.0.1:1\n"), "{shown}");
        assert!(shown.ends_with("  '--a=b c'\n"), "{shown}");
    }
}
