//! Credentials of `cordon gateway`, from the places where they are kept.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    process::{Child, Stdio},
};

use cordon_tests::{
    World, for_both,
    gateway::{ANY, Gateway, curl},
    leaks::holds,
    origin::parent::Parent,
    process,
};

for_both! {
    /// Values of credentials by the environment, by the service manager and by a real keyring, and a
    /// parent's by the environment: each goes where it belongs, and none is in the log.
    fn n21_credentials_come_from_where_they_are_kept(world) {
        let origin = world.allowed_origin("env.test");
        let given = world.folder("given");
        let file = world.write("given/forge", "s3cret-of-the-manager");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        for (name, from) in [
            ("env", "env:FORGE_TOKEN"),
            ("manager", "systemd:forge"),
            ("ring", "keyring:forge/ann"),
        ] {
            world.route(&format!("{name}.test"), origin.address());
            world.policy.rule(&format!(
                "@id(\"{name}\") @credential(\"{name}\") permit (principal, action == \
                 Action::\"http_read\", resource == Host::\"{name}.test\");"
            ));
            world.config.push_str(&format!(
                "[[credentials]]\nname = \"{name}\"\nhosts = [\"{name}.test\"]\nas = \"bearer\"\n\
                 from = \"{from}\"\nplain = true\n"
            ));
        }
        let parent = Parent::start(origin.address());
        world.config.push_str(&format!(
            "[[network.parents]]\nurl = \"http://{}\"\ncredentials_env = \"PARENT_LOGIN\"\n",
            parent.address()
        ));
        let keyring = Keyring::start(world, "s3cret-of-the-ring");
        let mut command = world.command();
        command.args(["gateway", "--http", ANY, "--policy"]).arg(world.policy_folder());
        command
            .env("FORGE_TOKEN", "s3cret-of-the-environment")
            .env("CREDENTIALS_DIRECTORY", &given)
            .env("PARENT_LOGIN", "ann:s3cret-of-the-parent")
            .env(BUS, &keyring.address);
        let gateway = Gateway::ready(command);
        let proxy = format!("http://{}", gateway.address("http"));
        for (name, value) in [
            ("env", "s3cret-of-the-environment"),
            ("manager", "s3cret-of-the-manager"),
            ("ring", "s3cret-of-the-ring"),
        ] {
            let host = format!("{name}.test");
            curl(world, &["-x", &proxy, &origin.url(&host, "/")]).expect_code(0);
            let asked = origin.requests();
            let sent = asked.last().unwrap().header("authorization");
            assert_eq!(sent, Some(format!("Bearer {value}").as_str()), "{name}");
        }
        // `ann:s3cret-of-the-parent`
        let basic = "Basic YW5uOnMzY3JldC1vZi10aGUtcGFyZW50";
        let heads = parent.heads();
        assert!(heads.len() == 3 && heads.iter().all(|head| head.contains(basic)), "{heads:?}");
        gateway.stop().expect_code(0);
        assert!(!holds(&world.state(), "s3cret-of"), "a value is in the state directory");
    }
}

/// A session bus with a keyring that is unlocked; both end with this.
struct Keyring {
    address: String,
    programs: Vec<Child>,
}

/// Where programs find the session bus.
const BUS: &str = "DBUS_SESSION_BUS_ADDRESS";

impl Keyring {
    /// With one value in it, of `ann` for `forge`.
    fn start(world: &World, value: &str) -> Self {
        let folder = world.folder("bus");
        let address = format!("unix:path={}", folder.join("socket").display());
        let mut bus = world.as_account("dbus-daemon");
        bus.args(["--session", "--nofork", "--print-address"]);
        bus.arg(format!("--address={address}"));
        let mut bus = bus
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let told = bus.stdout.take().unwrap();
        BufReader::new(told).read_line(&mut ready).unwrap();
        let mut ring = world.as_account("gnome-keyring-daemon");
        ring.args(["--foreground", "--unlock", "--components=secrets"]);
        ring.env(BUS, &address)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut ring = ring.spawn().unwrap();
        ring.stdin.take().unwrap().write_all(b"password").unwrap();
        let keyring = Self {
            address,
            programs: vec![ring, bus],
        };
        process::eventually("the keyring takes a value", || {
            let mut store = world.as_account("secret-tool");
            store.args([
                "store",
                "--label=forge",
                "service",
                "forge",
                "username",
                "ann",
            ]);
            store.env(BUS, &keyring.address);
            process::finish(store, value.as_bytes()).code == 0
        });
        keyring
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        for program in &mut self.programs {
            let _ended = program.kill();
            let _reaped = program.wait();
        }
    }
}
