//! `cordon doctor` through the whole binary.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of tests reports by panicking"
)]

use cordon_tests::{Outcome, for_both};
use serde_json::Value;

fn report(outcome: &Outcome) -> Value {
    serde_json::from_str(outcome.text().trim()).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}

fn state<'a>(report: &'a Value, what: &str) -> &'a Value {
    let items = report["items"].as_array().expect("a report has items");
    items
        .iter()
        .find(|item| item["what"] == what)
        .unwrap_or_else(|| panic!("no {what} in {report}"))
}

for_both! {
    /// Where sessions run, it says so; root is told that a session has root's files.
    fn f15_a_machine_that_can_is_told_so(world) {
        let outcome = world.cordon(&["doctor", "--format", "json"]);
        outcome.expect_code(0);
        let report = report(&outcome);
        assert_eq!(report["ready"], true, "{outcome}");
        for needed in ["user", "bubblewrap", "session network", "seccomp"] {
            assert_eq!(state(&report, needed)["state"], "ok", "{needed}: {outcome}");
        }
        let user = state(&report, "user").to_string();
        let of_its_own = user.contains("a user id of its own");
        assert_eq!(of_its_own, world.account().uid == 0, "{user}");
        let text = world.cordon(&["doctor"]);
        text.expect_code(0);
        assert!(text.text().trim().ends_with("sessions can run"), "{text}");
    }

    /// Without bubblewrap it is named, with the way to get it, and the exit code says that no
    /// session can run.
    fn f15_what_is_missing_is_named(world) {
        if !world.without_program("bwrap") {
            eprintln!("not run: only root can take bubblewrap away");
            return;
        }
        let outcome = world.cordon(&["doctor", "--format", "json"]);
        outcome.expect_code(1);
        let report = report(&outcome);
        assert_eq!(report["ready"], false, "{outcome}");
        let found = state(&report, "bubblewrap");
        assert_eq!(found["state"], "missing", "{outcome}");
        assert!(found["get"].as_str().is_some_and(|get| get.contains("bubblewrap")), "{outcome}");
    }

    /// `/etc` is never granted, so that nobody reads root's files through it, root's own session
    /// least of all; another folder is.
    fn f16_etc_is_never_granted_and_shadow_stays_unread(world) {
        let cat = ["sh", "-c", "cat /etc/shadow mnt/etc/shadow; true"];
        let refused = world.session(&cat).grant("/etc:ro").run();
        refused.expect_code(3);
        assert!(!refused.text().contains("root:"), "{refused}");
        let other = world.folder("home/other");
        let granted = world.session(&cat).grant(format!("{}:ro", other.display())).run();
        granted.expect_code(0);
        assert!(!granted.text().contains("root:"), "{granted}");
    }
}
