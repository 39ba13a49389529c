//! A real Chromium, headless.

use cordon_tests::for_both;

use crate::{run, words};

const CHROMIUM: &str =
    "chromium-headless-shell --no-sandbox --disable-gpu --disable-dev-shm-usage --dump-dom";

for_both! {
    /// The page that was refused shows its reason.
    fn chromium_over_http(world) {
        let open = world.allowed_origin("open.test");
        let shut = world.origin("shut.test");
        let allowed = run(world, &words(CHROMIUM, &open.url("open.test", "/")));
        allowed.expect_code(0).expect_allowed("open.test");
        assert!(allowed.text().contains("hello from open.test"), "{allowed}");
        let denied = run(world, &words(CHROMIUM, &shut.url("shut.test", "/")));
        denied.expect_denied("shut.test", "default_deny");
        assert!(denied.text().contains("reason: default_deny"), "{denied}");
        assert_eq!(shut.connections(), 0, "{denied}");
    }
}
