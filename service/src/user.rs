//! Who the user is, by uid, from the system's own files; never from what a caller says.

use std::{fs, io, path::PathBuf};

/// A user with the groups that policy may name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// Login name, or `uid-N` for a uid without one.
    pub name: String,
    /// Names of the groups it is in, sorted.
    pub groups: Vec<String>,
    /// Home directory, by the system and not by `HOME`.
    pub home: Option<PathBuf>,
}

impl User {
    /// Whether this is who is called so, by whichever way they come.
    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// The user that this process runs as.
    ///
    /// # Errors
    /// When `/etc/passwd` or `/etc/group` cannot be read.
    pub fn current() -> io::Result<Self> {
        let uid = rustix::process::getuid().as_raw();
        let passwd = fs::read_to_string("/etc/passwd")?;
        let group = fs::read_to_string("/etc/group")?;
        Ok(Self::lookup(uid, &passwd, &group))
    }

    /// passwd(5) and group(5): fields between colons.
    fn lookup(uid: u32, passwd: &str, group: &str) -> Self {
        let line = passwd
            .lines()
            .find(|line| field(line, 2) == Some(&uid.to_string()));
        let Some(line) = line else {
            return Self {
                name: format!("uid-{uid}"),
                groups: vec![],
                home: None,
            };
        };
        let name = field(line, 0).unwrap_or_default();
        let primary = field(line, 3);
        let member = |line: &&str| {
            field(line, 2) == primary
                || field(line, 3).is_some_and(|users| users.split(',').any(|user| user == name))
        };
        let mut groups: Vec<String> = group
            .lines()
            .filter(member)
            .filter_map(|line| field(line, 0))
            .map(Into::into)
            .collect();
        groups.sort();
        groups.dedup();
        let home = field(line, 5)
            .map(PathBuf::from)
            .filter(|home| home.is_absolute());
        Self {
            name: name.into(),
            groups,
            // `/` is nobody's home, whatever a system account says.
            home: home.filter(|home| home.parent().is_some()),
        }
    }
}

fn field(line: &str, n: usize) -> Option<&str> {
    line.split(':').nth(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_the_primary_and_those_that_list_the_user() {
        let passwd = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/bash\n";
        let group = "root:x:0:\nada:x:1000:\nstaff:x:50:bob,ada\nother:x:51:adam\n";
        let ada = User::lookup(1000, passwd, group);
        assert_eq!(
            ada,
            User {
                name: "ada".into(),
                groups: vec!["ada".into(), "staff".into()],
                home: Some("/home/ada".into()),
            }
        );
        assert_eq!(User::lookup(77, passwd, group).name, "uid-77");
    }
}
