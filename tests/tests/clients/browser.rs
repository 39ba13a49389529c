//! A real Chromium, headless.

use cordon_tests::for_both;

use crate::{both_paths, inspected_origin, run, words};

const SHELL: &str =
    "chromium-headless-shell --no-sandbox --disable-gpu --disable-dev-shm-usage --dump-dom";

for_both! {
    /// The page that was refused shows its reason.
    fn chromium_over_http(world) {
        let open = world.allowed_origin("open.test");
        let shut = world.origin("shut.test");
        let allowed = run(world, &words(SHELL, &open.url("open.test", "/")));
        allowed.expect_code(0).expect_allowed("open.test");
        assert!(allowed.text().contains("hello from open.test"), "{allowed}");
        let denied = run(world, &words(SHELL, &shut.url("shut.test", "/")));
        denied.expect_denied("shut.test", "default_deny");
        assert!(denied.text().contains("reason: default_deny"), "{denied}");
        assert_eq!(shut.connections(), 0, "{denied}");
    }

    /// The shell reads no managed settings, only the certificate store of its user: without the
    /// session's authority in there it goes no further, with it requests are decided one by one.
    fn chromium_inside_tls(world) {
        let origin = inspected_origin(world);
        let url = format!("https://open.test:{}/public/a", origin.port());
        let unknown = run(world, &words(SHELL, &url));
        assert!(!unknown.text().contains("hello from"), "{unknown}");
        assert!(origin.requests().is_empty(), "{unknown}");
        let trusting = |url: &str| {
            let command = format!("{TRUST} && {SHELL} \"$1\"");
            ["sh", "-c", &command, "sh", url].map(str::to_owned).to_vec()
        };
        let denied = both_paths(world, origin.port(), trusting, "hello from open.test");
        denied.expect_code(0).expect_told("reason: default_deny");
        assert_eq!(origin.requests().len(), 1, "{denied}");
    }
}

/// What `docs/egress/clients.md` tells to do.
const TRUST: &str = "store=sql:$HOME/.pki/nssdb; mkdir -p ~/.pki/nssdb &&
    certutil -d $store -N --empty-password &&
    csplit -sz -f /tmp/ca- /etc/cordon/extra-ca.pem '/BEGIN/' '{*}' &&
    for ca in /tmp/ca-*; do certutil -d $store -A -t C,, -n $ca -i $ca || exit; done";
