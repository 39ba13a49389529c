//! What the commands that change policy share: asking the daemon, and printing its answer.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::Format;
use crate::{
    cli::{connect, exit, time},
    control::{Answer, Ask, PolicyAnswer, PolicyAsk},
    error::Failure,
    paths::Paths,
};

/// Exit status of a change that waits for a second signature: it is not in force.
const PENDING: u8 = exit::DENIED;

/// Asks the user's daemon, starting it when none runs.
pub fn ask(ask: PolicyAsk) -> Result<PolicyAnswer, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let mut client = connect::reach(&paths)?;
    match client.ask(&Ask::Policy(ask))? {
        Answer::Policy(answer) => Ok(answer),
        _other => Err(Failure::new("the daemon answered something unexpected")),
    }
}

/// Asks for a change and says what came of it.
pub fn change(what: PolicyAsk, format: Format) -> Result<u8, Failure> {
    told(ask(what)?, format)
}

/// Says what came of it: done, or denied.
pub fn told(answer: PolicyAnswer, format: Format) -> Result<u8, Failure> {
    match answer {
        PolicyAnswer::Done { message, pending } => {
            match format {
                Format::Json => println!("{}", json!({ "done": !pending, "message": message })),
                Format::Text => println!("{message}"),
            }
            Ok(if pending { PENDING } else { 0 })
        }
        PolicyAnswer::Denied {
            message,
            decision,
            help,
        } => {
            if format == Format::Json {
                println!(
                    "{}",
                    json!({ "done": false, "denied": message, "decision": decision })
                );
                return Ok(exit::DENIED);
            }
            eprintln!("denied: {message}");
            if let Some(help) = help {
                eprintln!("help: {help}");
            }
            if let Some(decision) = decision {
                eprintln!("record: {decision}");
            }
            Ok(exit::DENIED)
        }
        PolicyAnswer::Status(_) | PolicyAnswer::Effective(_) => {
            Err(Failure::new("the daemon answered something unexpected"))
        }
    }
}

/// The daemon has another working directory.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path)?)
}

/// A time: a number and `s`, `m`, `h`, `d` or `w`.
pub fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no time; write it as in `30m`, `12h` or `7d`");
    let seconds = time::duration(text).ok_or_else(wrong)?.as_secs();
    if (1..=366 * 86_400).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("`{text}` is not between 1 s and 366 d"))
    }
}

/// A share in per mille: `10%`, `0.5%`.
pub fn per_mille(text: &str) -> Result<u16, String> {
    let wrong = || format!("`{text}` is no share; write it as in `10%` or `0.5%`, 100% at most");
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, tenth) = match number.split_once('.') {
        None => (number, "0"),
        Some((whole, tenth)) if tenth.len() == 1 => (whole, tenth),
        Some(_finer) => return Err(wrong()),
    };
    let digits = |text: &str| -> Result<u16, String> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        text.parse().map_err(|_| wrong())
    };
    let (whole, tenth) = (digits(whole)?, digits(tenth)?);
    whole
        .checked_mul(10)
        .map(|whole| whole + tenth)
        .filter(|share| (1..=1000).contains(share))
        .ok_or_else(wrong)
}

/// A layer by its name.
pub fn layer(text: &str) -> Result<cordon_policy::Layer, String> {
    use cordon_policy::Layer;
    [Layer::Organisation, Layer::Team, Layer::User]
        .into_iter()
        .find(|layer| layer.as_str() == text)
        .ok_or_else(|| "the layers with bundles are organisation, team and user".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_bounds() {
        let table = [
            ("30s", Some(30)),
            ("10m", Some(600)),
            ("12h", Some(43_200)),
            ("7d", Some(604_800)),
            ("0s", None),
            ("367d", None),
            ("7", None),
            ("", None),
            ("-1d", None),
            ("99999999999999999999d", None),
            ("7\u{e9}", None),
        ];
        for (text, expected) in table {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn shares_are_percent_with_one_digit_behind_the_point() {
        let table = [
            ("10%", Some(100)),
            ("100%", Some(1000)),
            ("0.5%", Some(5)),
            ("12.5%", Some(125)),
            ("0%", None),
            ("100.1%", None),
            ("0.05%", None),
            ("10", None),
            (".5%", None),
            ("+5%", None),
            ("%", None),
        ];
        for (text, expected) in table {
            assert_eq!(per_mille(text).ok(), expected, "{text}");
        }
    }
}
