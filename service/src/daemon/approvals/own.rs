//! Whether whoever answers is the session that asks: a process below what holds it, or one that
//! carries its id. Inside walls no process reaches the API at all; this is for sessions without.

use std::{fs, io, path::Path};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};
use serde::{Deserialize, Serialize};

use crate::daemon::live::Live;

/// The process that holds a session: a runtime, or an agent whose hook asks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Its number; 0 where it is on another machine or not known.
    pub pid: u32,
    /// When it was started, in the kernel's ticks: a later process with its number is another.
    pub since: Option<u64>,
}

/// Why `pid` may not answer for this session, where it is one of its own processes.
pub fn process_of(live: &Live, pid: u32) -> Option<String> {
    let Some(chain) = ancestors(pid) else {
        return Some("what started the process that answers cannot be told".into());
    };
    let below = if live.has_launcher() {
        chain.iter().any(|above| live.is_its_process(*above))
    } else {
        // A runtime that opened a session asks the person itself, and says what they answered; what
        // it started (an agent, a tool) does not, nor an agent that its hook asks for.
        if live.runtime().is_some_and(|runtime| runtime.is(pid)) {
            return None;
        }
        let holders = live.holders();
        let holds = |pid: &u32| holders.iter().any(|holder| holder.is(*pid));
        chain.iter().any(holds)
    };
    let carries = match environment(pid) {
        Ok(session) => session.is_some_and(|session| session == live.id()),
        // One that has ended, or hides what it carries, could be anybody's.
        Err(_unreadable) => true,
    };
    (below || carries).then(|| "a process of the session does not answer what it asks".into())
}

/// The agent whose hook the process `pid` is: the nearest above it that is neither a shell, which
/// only starts the hook, nor this program.
pub fn agent_of(pid: u32) -> Holder {
    let chain = ancestors(pid).unwrap_or_default();
    let agent = chain.into_iter().skip(1).find_map(|above| {
        let program = fs::read_link(format!("/proc/{above}/exe")).ok();
        match program {
            Some(program) if only_starts(&program) => None,
            Some(_agent) => Some(Holder::of(above)),
            // Another user's: no agent of this one is above it.
            None => Some(Holder::default()),
        }
    });
    agent.unwrap_or_default()
}

impl Holder {
    /// This process, as it is now.
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            since: stat(pid).map(|stat| stat.since),
        }
    }

    /// Whether the process of this number, now, is it.
    pub fn is(self, pid: u32) -> bool {
        self.pid != 0 && self == Self::of(pid)
    }
}

fn only_starts(program: &Path) -> bool {
    let name = program.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| STARTERS.contains(&name))
}

/// Programs that hooks are started by.
const STARTERS: [&str; 8] = [
    "sh", "bash", "dash", "zsh", "fish", "busybox", "env", "cordon",
];

/// The process and those above it; nothing where that cannot be told.
fn ancestors(pid: u32) -> Option<Vec<u32>> {
    // One that ends meanwhile gives its children to another: then they are looked for again.
    (0..TRIES).find_map(|_try| {
        let mut chain = vec![pid];
        while chain.len() < MOST {
            let last = *chain.last()?;
            match stat(last) {
                Some(stat) if stat.parent <= 1 => return Some(chain),
                Some(stat) => chain.push(stat.parent),
                // Hidden, because it is another user's: so is what is above it.
                None if chain.len() > 1 && is_anothers(last) => return Some(chain),
                None => return None,
            }
        }
        None
    })
}

fn is_anothers(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::PERM))
}

/// What is known of a process.
struct Stat {
    parent: u32,
    since: u64,
}

/// proc_pid_stat(5): fields 4 and 22; those after the name begin behind its last parenthesis.
fn stat(pid: u32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_name, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let since = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, since })
}

fn environment(pid: u32) -> io::Result<Option<String>> {
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    let mut variables = environment.split(|byte| *byte == 0);
    let session = variables.find_map(|one| one.strip_prefix(b"CORDON_SESSION=".as_slice()));
    Ok(session.map(|session| String::from_utf8_lossy(session).into_owned()))
}

/// Processes above one that are looked at. More is a chain that nobody can tell.
const MOST: usize = 256;
/// How often a chain is looked for.
const TRIES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_below_those_that_started_it() {
        let own = std::process::id();
        let above = ancestors(own).unwrap();
        assert_eq!(above.first(), Some(&own));
        assert!(above.contains(&std::os::unix::process::parent_id()));
        assert_eq!(ancestors(u32::MAX), None, "nobody can tell");
    }

    #[test]
    fn a_later_process_of_the_same_number_is_another() {
        let own = std::process::id();
        let now = Holder::of(own);
        assert!(now.is(own) && now.since.is_some());
        let before = Holder {
            since: now.since.map(|since| since - 1),
            ..now
        };
        assert!(!before.is(own));
        assert!(!Holder::default().is(own));
    }

    #[test]
    fn shells_only_start_a_hook() {
        assert!(only_starts(Path::new("/usr/bin/dash")));
        assert!(!only_starts(Path::new("/usr/bin/node")));
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        assert_eq!(agent_of(child.id()), Holder::of(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
