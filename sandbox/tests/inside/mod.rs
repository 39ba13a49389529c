//! Starts a forked child in a session network (or behind the filter) and hears what it saw.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cordon_sandbox::child::Child;
use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

/// Who the child is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum User {
    /// Whoever runs the tests.
    Same,
    /// An ordinary user: nobody.
    Nobody,
}

/// The users that this test run can be.
pub fn users() -> Vec<User> {
    if geteuid().is_root() {
        vec![User::Same, User::Nobody]
    } else {
        vec![User::Same]
    }
}

/// A child at work.
pub struct Inside {
    child: Child,
    pub talk: UnixStream,
}

/// Forks a child that becomes `user` and does `work`; what it returns is what it saw.
///
/// The harness catches this thread's output, so a child speaks over a socket.
pub fn start(user: User, work: impl FnOnce(&mut UnixStream) -> String) -> Inside {
    let (talk, mut theirs) = UnixStream::pair().unwrap();
    let child = Child::fork(|| {
        let saw = catch_unwind(AssertUnwindSafe(|| {
            become_user(user);
            work(&mut theirs)
        }))
        .unwrap_or_else(|panic| match panic.downcast::<String>() {
            Ok(text) => format!("panicked: {text}"),
            Err(_) => "panicked".to_owned(),
        });
        u8::from(theirs.write_all(saw.as_bytes()).is_err())
    })
    .unwrap();
    drop(theirs);
    Inside { child, talk }
}

impl Inside {
    /// What the child saw, after its end.
    pub fn saw(mut self) -> String {
        let mut text = String::new();
        self.talk.read_to_string(&mut text).unwrap();
        let status = self.child.wait().unwrap();
        match status.terminating_signal() {
            Some(signal) => format!("{text}killed by {signal}"),
            None => text,
        }
    }
}

fn become_user(user: User) {
    const NOBODY: u32 = 65534;
    if user == User::Nobody {
        // The child has one thread, so the thread's ids are the process'.
        set_thread_groups(&[]).unwrap();
        set_thread_gid(rustix::thread::Gid::from_raw(NOBODY)).unwrap();
        set_thread_uid(rustix::thread::Uid::from_raw(NOBODY)).unwrap();
        // A change of user hides /proc/self from the user; a program started afresh is open.
        set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
    }
}
