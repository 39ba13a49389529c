//! Whether whoever answers is the session that asks: a process below its launcher, or one that
//! carries its id. Inside walls no process reaches the API at all; this is for sessions without.

use std::{fs, io};

use crate::daemon::live::Live;

/// Why `pid` may not answer for this session, where it is one of its own processes.
pub fn process_of(live: &Live, pid: u32) -> Option<String> {
    // A runtime that holds a session asks the person itself, and says what they answered.
    if !live.has_launcher() {
        return None;
    }
    let mut above = ancestors(pid);
    let below = above.any(|above| live.is_its_process(above));
    let carries = match environment(pid) {
        Ok(session) => session.is_some_and(|session| session == live.id()),
        // One that has ended, or hides what it carries, could be anybody's.
        Err(_unreadable) => true,
    };
    (below || carries).then(|| "a process of the session does not answer what it asks".into())
}

/// The process and those above it, at most as many as processes nest sensibly.
fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(pid), |pid| parent(*pid).filter(|above| *above > 1)).take(MOST)
}

/// proc_pid_stat(5): the field after the state, behind the last parenthesis of the name.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_name, rest) = stat.rsplit_once(") ")?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn environment(pid: u32) -> io::Result<Option<String>> {
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    let mut variables = environment.split(|byte| *byte == 0);
    let session = variables.find_map(|one| one.strip_prefix(b"CORDON_SESSION=".as_slice()));
    Ok(session.map(|session| String::from_utf8_lossy(session).into_owned()))
}

/// Processes above one that are looked at.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_below_those_that_started_it() {
        let own = std::process::id();
        let above: Vec<u32> = ancestors(own).collect();
        assert_eq!(above.first(), Some(&own));
        assert!(above.contains(&std::os::unix::process::parent_id()));
        assert_eq!(parent(u32::MAX), None);
    }
}
