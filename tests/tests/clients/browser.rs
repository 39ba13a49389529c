//! A real Chromium, headless.

use cordon_tests::{Origin, for_both};

use crate::{both_paths, inspected_origin, run, tls_origin, words};

const SHELL: &str =
    "chromium-headless-shell --no-sandbox --disable-gpu --disable-dev-shm-usage --dump-dom";

const WHOLE: &str =
    "chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --dump-dom";

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

    /// Without a look inside: the tunnel to the denied name is refused, and nothing is shown. The
    /// shell hides the name in its handshakes or seems to, whatever it is told; that is accepted by
    /// rule or not at all.
    fn chromium_over_https(world) {
        world.policy.allow("open.test");
        let [open, shut] = ["open.test", "shut.test"].map(|name| tls_origin(world, name));
        let url = |name: &str, origin: &Origin| format!("https://{name}:{}/", origin.port());
        let hidden = run(world, &trusting(&url("open.test", &open)));
        assert_eq!(hidden.reason("connect open.test"), "tls_hidden", "{hidden}");
        assert!(open.requests().is_empty(), "{hidden}");
        world.policy.rule("@tls(\"ech\") permit (principal, action == Action::\"connect\", \
            resource == Host::\"open.test\");");
        let allowed = run(world, &trusting(&url("open.test", &open)));
        allowed.expect_code(0).expect_allowed("open.test");
        assert!(allowed.text().contains("hello from open.test"), "{allowed}");
        let denied = run(world, &trusting(&url("shut.test", &shut)));
        denied.expect_denied("shut.test", "default_deny");
        assert!(!denied.text().contains("hello from"), "{denied}");
        assert_eq!(shut.connections(), 0, "{denied}");
    }

    /// The whole Chromium trusts the session by its managed settings: nothing is done by hand.
    fn whole_chromium_inside_tls(world) {
        let origin = inspected_origin(world);
        let open = |path: &str| {
            let url = format!("https://open.test:{}/{path}/a", origin.port());
            let command = words(WHOLE, &url);
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            world.session(&command).option("--profile", "build").run()
        };
        let allowed = open("public");
        allowed.expect_code(0);
        assert!(allowed.text().contains("hello from open.test"), "{allowed}");
        let denied = open("private");
        assert_eq!(denied.reason("GET https://open.test"), "default_deny", "{denied}");
        assert!(denied.text().contains("reason: default_deny"), "{denied}");
        assert_eq!(origin.requests().iter().filter(|asked| asked.target == "/private/a").count(), 0);
    }

    /// The shell reads no managed settings, only the certificate store of its user: without the
    /// session's authority in there it goes no further, with it requests are decided one by one.
    fn chromium_inside_tls(world) {
        let origin = inspected_origin(world);
        let url = format!("https://open.test:{}/public/a", origin.port());
        let unknown = run(world, &words(SHELL, &url));
        assert!(!unknown.text().contains("hello from"), "{unknown}");
        assert!(origin.requests().is_empty(), "{unknown}");
        let denied = both_paths(world, origin.port(), trusting, "hello from open.test");
        denied.expect_code(0).expect_told("reason: default_deny");
        assert_eq!(origin.requests().len(), 1, "{denied}");
    }
}

/// The shell with the session's authorities in its store.
fn trusting(url: &str) -> Vec<String> {
    let command = format!("{TRUST} && {SHELL} \"$1\"");
    ["sh", "-c", &command, "sh", url]
        .map(str::to_owned)
        .to_vec()
}

/// What `docs/egress/clients.md` tells to do.
const TRUST: &str = "store=sql:$HOME/.pki/nssdb; mkdir -p ~/.pki/nssdb &&
    certutil -d $store -N --empty-password &&
    csplit -sz -f /tmp/ca- /etc/cordon/extra-ca.pem '/BEGIN/' '{*}' &&
    for ca in /tmp/ca-*; do certutil -d $store -A -t C,, -n $ca -i $ca || exit; done";
