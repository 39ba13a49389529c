//! What the hostile program's report must say inside: the rows, and which of them may succeed.

use std::{fs, path::PathBuf};

use cordon_tests::{Identity, Outcome};

/// Each attempt and what came of it, in order.
pub fn rows(outcome: &Outcome) -> Vec<(String, String)> {
    let text = outcome.text();
    let rows = text.lines().filter(|line| !line.starts_with("scan "));
    let rows = rows.filter_map(|line| line.split_once(' '));
    let rows: Vec<_> = rows
        .map(|(name, came)| (name.to_owned(), came.to_owned()))
        .collect();
    assert!(rows.len() > 100, "a whole report in {outcome}");
    rows
}

/// Whether this attempt succeeds in a profile.
pub fn may(profile: &str, name: &str) -> bool {
    let works = name.starts_with("works_");
    let of_build = name.starts_with("works_in_build_");
    match profile {
        "build" => works || IN_BUILD_ONLY.contains(&name),
        "strict" => works && !of_build && !NOT_IN_STRICT.contains(&name),
        _ => works && !of_build,
    }
}

/// The golden report.
pub fn golden(profile: &str, identity: Identity) -> PathBuf {
    let user = match identity {
        Identity::Root => "root",
        Identity::User => "user",
    };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    folder.join(format!("{profile}-{user}.txt"))
}

/// The golden report's lines.
pub fn golden_lines(profile: &str, identity: Identity) -> Vec<String> {
    let path = golden(profile, identity);
    let text = fs::read_to_string(&path).unwrap_or_default();
    assert!(!text.is_empty(), "{} is in the checkout", path.display());
    text.lines().map(str::to_owned).collect()
}

/// What a wider profile lets through, and no other does.
const IN_BUILD_ONLY: [&str; 7] = [
    "f10_personality_fixed_addresses",
    "f11_ptrace_self",
    "f11_process_vm_read_self",
    "f11_process_vm_write_self",
    "f11_kcmp_self",
    // The guard holds what can be done with it.
    "f12_unix_stream",
    "f12_unix_stream_high_bits",
];

/// What the strict profile takes away.
const NOT_IN_STRICT: [&str; 2] = ["works_route_netlink", "works_shared_memory"];
