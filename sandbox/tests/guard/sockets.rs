//! Unix sockets are the session's own, where its profile lets it make any.

#![expect(clippy::unwrap_used, reason = "helpers of tests may end the test")]

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixDatagram, UnixListener},
    },
};

use cordon_policy::GrantMode;

use super::support::{Folder, Seen, Session};

/// A granted folder of the host's, with a socket of the host's in it and the script that tries.
struct Host {
    folder: Folder,
    listener: UnixListener,
}

impl Host {
    fn new() -> Self {
        let folder = Folder::with(&["file"]);
        let path = folder.path().join("host.sock");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(folder.path().join("try.py"), include_str!("sockets.py")).unwrap();
        Self { folder, listener }
    }

    fn session(&self) -> Session {
        Session::new()
            .grant(&self.folder, "g", GrantMode::Rw)
            .grant(&self.folder, "ro", GrantMode::Ro)
            .with_sockets()
    }

    fn tries(&self, words: &str) -> Seen {
        self.session()
            .run(&format!("sh python3 /mnt/g/try.py {words}"))
    }

    fn was_reached(&self) -> bool {
        let mut reached = false;
        while self.listener.accept().is_ok() {
            reached = true;
        }
        reached
    }
}

#[test]
fn a_session_reaches_its_own_sockets_by_whatever_path() {
    let host = Host::new();
    let seen = host.session().run(
        "listen /tmp/a.sock
         connect /tmp/a.sock
         listen /tmp/a.sock
         chdir /tmp
         connect a.sock
         connect ./a.sock
         listen b.sock
         connect /tmp/b.sock
         symlink /tmp/a.sock /mnt/g/link
         connect /mnt/g/link
         symlink a.sock relative
         connect relative
         connect /proc/self/cwd/a.sock
         connect /proc/self/root/tmp/a.sock
         connect none
         write plain
         connect plain
         connect /tmp
         unlink a.sock
         connect a.sock
         listen a.sock",
    );
    assert_eq!(
        seen.words(),
        "ok ok ADDRINUSE ok ok ok ok ok ok ok ok ok ok ok NOENT ok CONNREFUSED CONNREFUSED ok \
         NOENT ok",
        "{}",
        seen.errors
    );
    assert!(seen.refusals.is_empty());
}

#[test]
fn sockets_behave_as_they_do_without_a_guard() {
    for what in [
        "names", "modes", "abstract", "waits", "internet", "mistakes",
    ] {
        let seen = Host::new().tries(what);
        assert_eq!(seen.words(), "ok", "{what}: {}", seen.errors);
        let host = Host::new();
        let session = host.session().without_guard();
        let seen = session.run(&format!("sh python3 /mnt/g/try.py {what}"));
        assert_eq!(seen.words(), "ok", "the control, {what}: {}", seen.errors);
    }
}

/// A profile without unix sockets has connected pairs, and binding one makes a name.
#[test]
fn f05_an_end_of_a_pair_makes_no_name_in_a_grant() {
    let host = Host::new();
    let session = || Session::new().grant(&host.folder, "g", GrantMode::Rw);
    let tries = "sh python3 /mnt/g/try.py pair /mnt/g/.envrc /mnt/g/new";
    for session in [session(), session().with_sockets()] {
        let seen = session.run(tries);
        assert_eq!(seen.words(), "ok", "{}", seen.errors);
    }
    assert!(!host.folder.path().join(".envrc").exists());
    assert!(!host.folder.path().join("new").exists());
    let seen = session().without_guard().run(tries);
    assert_eq!(seen.words(), "exit-1", "the control");
    assert!(host.folder.path().join(".envrc").exists(), "the control");
    // What programs do with other sockets goes as ever.
    let seen = session().run("sh python3 /mnt/g/try.py internet");
    assert_eq!(seen.words(), "ok", "{}", seen.errors);
}

const REACHES: &str = "connect /mnt/g/host.sock
     connect /mnt/ro/host.sock
     connect /proc/self/root/mnt/g/host.sock
     chdir /mnt/g
     connect host.sock
     connect ../g/host.sock
     connect /proc/self/cwd/host.sock
     symlink /mnt/g/host.sock /tmp/link
     connect /tmp/link
     symlink ../link /mnt/g/there
     sh python3 /mnt/g/try.py descriptor host.sock";

#[test]
fn f12_n27_a_socket_of_the_host_is_reached_by_no_path() {
    let host = Host::new();
    let seen = host.session().run(REACHES);
    assert_eq!(
        seen.words(),
        "ACCES ACCES ACCES ok ACCES ACCES ACCES ok ACCES ok exit-13",
        "{}",
        seen.errors
    );
    assert!(!host.was_reached());

    let host = Host::new();
    let seen = host.session().without_guard().run(REACHES);
    assert_eq!(
        seen.words(),
        "ok ok ok ok ok ok ok ok ok ok ok",
        "the control: {}",
        seen.errors
    );
    assert!(host.was_reached(), "the control");
}

#[test]
fn f12_n27_nothing_is_exchanged_under_a_connection() {
    let host = Host::new();
    let seen = host.tries("swapped /mnt/g");
    assert_eq!(seen.words(), "ok", "{}", seen.errors);
    assert!(!host.was_reached());

    let host = Host::new();
    let session = host.session().without_guard();
    let seen = session.run("sh python3 /mnt/g/try.py swapped /mnt/g");
    assert_eq!(seen.words(), "ok", "{}", seen.errors);
    assert!(host.was_reached(), "the control");
}

#[test]
fn f12_n27_a_session_puts_no_socket_where_the_host_looks_for_one() {
    let host = Host::new();
    let seen = host.session().run(
        "listen /mnt/g/new.sock
         listen /mnt/ro/new.sock
         chdir /mnt/g
         listen new.sock
         symlink /mnt/g /tmp/folder
         listen /tmp/folder/new.sock
         symlink /mnt/g/new.sock /tmp/new
         listen /tmp/new
         listen /proc/self/cwd/new.sock
         listen /usr/new.sock",
    );
    assert_eq!(
        seen.words(),
        "ACCES ACCES ok ACCES ok ACCES ok ADDRINUSE ACCES ACCES",
        "{}",
        seen.errors
    );
    assert!(!host.folder.has("new.sock"));
    let seen = host.session().without_guard().run("listen /mnt/g/new.sock");
    assert_eq!(
        (&*seen.words(), host.folder.has("new.sock")),
        ("ok", true),
        "the control"
    );
}

/// The guard is told before a grant is mounted, so that no socket is bound below it meanwhile.
#[test]
fn f12_n27_nothing_is_bound_where_a_grant_is_about_to_be() {
    let host = Host::new();
    let session = host.session().announcing(&host.folder, "/tmp/soon");
    let seen = session.run(
        "mkdir /tmp/soon
         listen /tmp/soon/a.sock
         chdir /tmp/soon
         listen a.sock
         listen /tmp/sooner.sock",
    );
    assert_eq!(seen.words(), "ok ACCES ok ACCES ok", "{}", seen.errors);
}

/// No profile lets one be made: this is the wall behind that one.
#[test]
fn f12_n27_no_datagram_socket_is_connected_or_bound() {
    let host = Host::new();
    let datagrams = UnixDatagram::bind(host.folder.path().join("datagrams")).unwrap();
    for path in ["/mnt/g/datagrams", "/tmp/datagrams"] {
        let seen = host.tries(&format!("datagram {path}"));
        assert_eq!(seen.words(), "ok", "{}", seen.errors);
    }
    drop(datagrams);
    let session = host.session().without_guard();
    let seen = session.run("sh python3 /mnt/g/try.py datagram /tmp/datagrams");
    assert_ne!(seen.words(), "ok", "the control");
}
