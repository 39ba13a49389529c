//! Bundles, shares and times in words.

use std::time::{Duration, SystemTime};

use cordon_policy::bundle::Accepted;

use super::Share;

/// `house revision 7`.
pub(super) fn words(accepted: &Accepted) -> String {
    format!("{} revision {}", accepted.name, accepted.revision)
}

/// Whom a rollout is for, in words.
pub(super) fn share_words(to: &Share) -> String {
    let mut parts = Vec::new();
    if to.per_mille > 0 {
        let (whole, tenth) = (to.per_mille / 10, to.per_mille % 10);
        parts.push(match tenth {
            0 => format!("{whole} % of the sessions"),
            _ => format!("{whole}.{tenth} % of the sessions"),
        });
    }
    parts.extend(to.groups.iter().map(|group| format!("group {group}")));
    parts.extend(to.users.iter().map(|user| format!("user {user}")));
    parts.join(", ")
}

/// A time in the unit that fits.
pub(super) fn days(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

pub(super) fn now_seconds() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
