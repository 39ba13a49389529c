//! What this kernel gives of what every adapter's walls are made of: seccomp, namespaces, Landlock.
//!
//! Looks only: a few files and one system call. What only trying can tell (a module that is missing,
//! AppArmor) is found when a sandbox is built, which then fails.

use super::{Capabilities, Wall, host};
use crate::network;

/// All walls but those that the kernel cannot hold.
pub(super) fn capabilities() -> Capabilities {
    let seccomp = host::seccomp_lacks()
        .map_err(|_none| "this kernel has no seccomp filters".to_owned())
        .map(|lacks| lacks.join(", "));
    let forbidden = network::forbidden_to_everybody();
    let forbidden = forbidden.map(|error| (error.to_string(), error.hint().to_owned()));
    from(seccomp, forbidden, host::landlock_version().is_ok())
}

/// What follows from what seccomp lacks, or that there is none; from what forbids namespaces, with
/// its way out; and from Landlock.
fn from(
    seccomp: Result<String, String>,
    namespaces: Option<(String, String)>,
    landlock: bool,
) -> Capabilities {
    let mut found = Capabilities {
        holds: Wall::ALL.into(),
        ..Capabilities::default()
    };
    match &seccomp {
        Ok(actions) if actions.is_empty() => {}
        Ok(actions) if actions == "user_notif" => found.without(
            &[Wall::NoDelete],
            "this kernel's seccomp lacks user notification",
            "take a kernel of version 5.19 or newer",
        ),
        Ok(actions) => {
            let why = format!("this kernel's seccomp lacks {actions}");
            found.without(&FILTERED, &why, SECCOMP);
        }
        Err(why) => found.without(&FILTERED, why, SECCOMP),
    }
    if let Some((why, help)) = namespaces {
        found.without(&OF_NAMESPACES, &why, &help);
    }
    if !landlock {
        found.without(
            &[Wall::SecondWall],
            "this kernel has no Landlock, or it is not switched on",
            LANDLOCK,
        );
    }
    found
}

/// What a filter of system calls holds.
const FILTERED: [Wall; 3] = [Wall::SystemCalls, Wall::HostChannels, Wall::NoDelete];

/// What is held by namespaces.
const OF_NAMESPACES: [Wall; 6] = [
    Wall::HostFiles,
    Wall::ReadOnlyGrants,
    Wall::Network,
    Wall::HostChannels,
    Wall::Processes,
    Wall::WholeEnd,
];

const SECCOMP: &str = "take a kernel with CONFIG_SECCOMP_FILTER, 5.19 or newer";

const LANDLOCK: &str = "take a kernel with CONFIG_SECURITY_LANDLOCK, and `landlock` in its boot \
    parameter `lsm=` (`cat /sys/kernel/security/lsm`); or ask for less: `second-wall` stands in \
    `sandbox.walls` of `cordon.toml` or in `@walls` of the rule that permits the session";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f15_what_the_kernel_lacks_is_not_held() {
        let whole = from(Ok(String::new()), None, true);
        assert!(whole.lacks.is_empty());
        let without_notification = from(Ok("user_notif".into()), None, true);
        assert!(!without_notification.holds.contains(&Wall::NoDelete));
        assert!(without_notification.holds.contains(&Wall::SystemCalls));
        let without_filters = from(Err("none".into()), None, false);
        for wall in FILTERED.into_iter().chain([Wall::SecondWall]) {
            assert!(!without_filters.holds.contains(&wall), "{wall}");
            assert!(without_filters.lacks.contains_key(&wall), "{wall}");
        }
        assert!(without_filters.holds.contains(&Wall::Network));
        let forbidden = Some(("forbidden".to_owned(), "allow it".to_owned()));
        let without_namespaces = from(Ok(String::new()), forbidden, true);
        for wall in OF_NAMESPACES {
            let lack = without_namespaces.lacks.get(&wall);
            assert_eq!(lack.map(|lack| &*lack.help), Some("allow it"), "{wall}");
        }
        assert!(without_namespaces.holds.contains(&Wall::SystemCalls));
    }
}
