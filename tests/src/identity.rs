//! Who runs a world: root, or an ordinary user that the tests make.

use std::{fs, process::Command, sync::OnceLock};

/// As whom a scenario runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Identity {
    /// The superuser.
    Root,
    /// An account without any privilege.
    User,
}

/// One account of the machine.
#[derive(Clone, Debug)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

impl Identity {
    /// The account behind it, or `None` when this process may not become it.
    pub fn account(self) -> Option<Account> {
        let own = rustix::process::getuid().as_raw();
        match self {
            Self::Root if own == 0 => by_uid(0),
            Self::Root => None,
            Self::User if own == 0 => Some(ordinary_user()),
            Self::User => by_uid(own),
        }
    }
}

/// The account that the tests run as when they do not run as root; made when it is missing.
fn ordinary_user() -> Account {
    static USER: OnceLock<Account> = OnceLock::new();
    USER.get_or_init(|| {
        let name = std::env::var("CORDON_TEST_USER").unwrap_or_else(|_| "cordon-test".into());
        if let Some(account) = by_name(&name) {
            return account;
        }
        // `*` as password: no password fits, and sshd does not take the account for a locked one.
        let made = Command::new("useradd")
            .args(["-m", "-s", "/bin/bash", "-p", "*", &name])
            .output()
            .expect("useradd is part of every Debian");
        by_name(&name).unwrap_or_else(|| panic!("no user `{name}` for the tests: {made:?}"))
    })
    .clone()
}

fn by_name(name: &str) -> Option<Account> {
    accounts().find(|account| account.name == name)
}

fn by_uid(uid: u32) -> Option<Account> {
    accounts().find(|account| account.uid == uid)
}

fn accounts() -> impl Iterator<Item = Account> {
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let accounts: Vec<Account> = passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            Some(Account {
                name: fields.next()?.to_owned(),
                uid: fields.nth(1)?.parse().ok()?,
                gid: fields.next()?.parse().ok()?,
            })
        })
        .collect();
    accounts.into_iter()
}
