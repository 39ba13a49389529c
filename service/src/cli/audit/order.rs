//! Has the log do something: by the daemon when one runs, else by opening the log itself.

use std::path::PathBuf;

use cordon_audit::{Done, Log, Order, Task};

use super::log_options;
use crate::{
    cli::connect,
    control::{Answer, Ask},
    error::Failure,
    paths::Paths,
    user::User,
};

/// Has `task` done on the log in `log`, or on the user's own.
pub fn carry_out(log: Option<&PathBuf>, task: Task, because: &str) -> Result<Done, Failure> {
    let because = because.trim();
    if because.is_empty() {
        return Err(Failure::new("`--because` is empty")
            .help("say why: it is recorded in the log")
            .usage());
    }
    let order = Order {
        task,
        by: Some(User::current()?.name),
        because: because.into(),
    };
    let Some(log) = log else {
        let paths = Paths::from_env(|name| std::env::var_os(name))?;
        if let Some(mut client) = connect::reach_running(&paths)? {
            return match client.ask(&Ask::Administer(Box::new(order)))? {
                Answer::Done(done) => Ok(*done),
                _other => Err(Failure::new("the daemon answered something unexpected")),
            };
        }
        return by_ourselves(paths.log(), order);
    };
    by_ourselves(log.clone(), order)
}

fn by_ourselves(directory: PathBuf, order: Order) -> Result<Done, Failure> {
    if !directory.join("checkpoint").exists() {
        return Err(
            Failure::new(format!("there is no log in `{}`", directory.display()))
                .help("the first `cordon run` makes the log; `--log DIR` names another"),
        );
    }
    let log = Log::open(&directory, log_options()?)?;
    let done = log.administer(order);
    log.close();
    done.map_err(|error| Failure::new(error.message))
}
