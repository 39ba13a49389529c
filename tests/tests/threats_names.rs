//! The rows of the threat list about names, addresses and ports, by their ids, through the whole
//! binary. That a byte did not arrive is shown at listeners that count, never by a status alone;
//! every refusal has its control.

use std::net::IpAddr;

use cordon_tests::{
    World, for_both,
    origin::{dns::DnsCanary, parent::Parent, raw::Echo},
    probe::{allow_address, connect, expect_status, expect_tunnel, greeter, socks},
};

for_both! {
    /// No rule at all, an empty list of hosts, and no policy named are three different things; only
    /// the last opens anything, and that is the built-in pack.
    fn n01_empty_means_deny_all(world) {
        let origin = world.origin("open.test");
        let url = origin.url("open.test", "/");
        let empty = world.write("empty.cedar", "// no rule\n");
        let nothing = world.session(&["touch", "ran"]).policy(&empty).run();
        nothing.expect_code(3);
        assert!(!world.project().join("ran").exists(), "{nothing}");
        let command = ["curl", "-sS", url.as_str()];
        world
            .session(&command)
            .run()
            .expect_denied("open.test", "default_deny");
        world
            .session(&command)
            .built_in_policy()
            .run()
            .expect_denied("open.test", "default_deny");
        assert_eq!(origin.connections(), 0);
        world.policy.allow("open.test");
        world
            .session(&command)
            .run()
            .expect_stdout("hello from open.test");
    }

    /// A name with a zero byte, or any other byte that no name has, is refused before policy.
    fn n02_a_name_with_a_zero_byte_is_refused(world) {
        let open = greeter(world, "open.test");
        let shut = greeter(world, "shut.test");
        world.policy.allow("open.test");
        world.policy.rule(
            "@id(\"suffix\") permit (principal, action in Action::\"network\", \
             resource in Domain::\"open.test\");",
        );
        for name in [
            &b"shut.test\0.open.test"[..],
            b"shut.test\0",
            b"\0open.test",
            b"shut.test\x01.open.test",
            b"shut.test\xff.open.test",
        ] {
            let refused = socks(world, name, shut.port());
            assert_ne!(refused.text(), "reply 0", "{name:?}: {refused}");
            refused.expect_only_refusals("malformed");
            let mut authority = name.to_vec();
            authority.extend_from_slice(format!(":{}", shut.port()).as_bytes());
            expect_status(&connect(world, &authority), &[400]);
        }
        assert_eq!((open.connections(), shut.connections()), (0, 0));
        socks(world, b"open.test", open.port()).expect_stdout("reply 0");
        expect_tunnel(&connect(
            world,
            format!("open.test:{}", open.port()).as_bytes(),
        ));
    }

    /// Every spelling of an address is one address: to policy, to the log, and when it is allowed.
    fn n05_inet_aton_spellings_are_one_address(world) {
        let origin = Echo::start("good day\n");
        let canonical = format!("127.0.0.1:{}", origin.port());
        let spellings = [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "0x7f000001",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
        ];
        let ask = |world: &World, spelling: &str| {
            connect(world, format!("{spelling}:{}", origin.port()).as_bytes())
        };
        for spelling in spellings {
            let refused = ask(world, spelling);
            expect_status(&refused, &[403]);
            assert!(refused.denied(&canonical) > 0, "{spelling}: {refused}");
        }
        // Allowed by name of the address, it is still a special one that nobody named.
        allow_address(world, "127.0.0.1");
        for spelling in spellings {
            ask(world, spelling).expect_address_refused(&canonical);
        }
        assert_eq!(origin.connections(), 0);
        world.permit("127.0.0.1", IpAddr::from([127, 0, 0, 1]));
        world.stop();
        for spelling in spellings {
            expect_tunnel(&ask(world, spelling));
        }
        assert_eq!(origin.connections(), spellings.len());
    }

    /// Behind a parent proxy an address is still checked here; where the parent resolves, nobody
    /// checks it, and only a rule that says so accepts that.
    fn n10_a_parent_proxy_does_not_take_the_check_of_addresses_away(world) {
        let open = world.allowed_origin("open.test");
        let metadata = open.port();
        world.policy.allow("rebound.test");
        world.resolve("rebound.test", IpAddr::from([169, 254, 169, 254]));
        world.policy.allow("unknown.test");
        let parent = Parent::start(open.address());
        let entry = format!("[[network.parents]]\nurl = \"http://{}\"\n", parent.address());
        world.config.push_str(&entry);
        let ask = |world: &World, name: &str| {
            let url = format!("http://{name}:{metadata}/");
            world.session(&["curl", "-sS", &url]).run()
        };
        ask(world, "open.test").expect_stdout("hello from open.test");
        let checked = format!("127.0.0.1:{metadata}");
        assert_eq!(parent.targets(), std::slice::from_ref(&checked));
        let rebound = format!("rebound.test:{metadata}");
        ask(world, "rebound.test").expect_address_refused(&rebound);
        // The daemon reads its configuration once.
        world.stop();
        world.config = world.config.replace(&entry, &format!("{entry}resolve = \"parent\"\n"));
        let unknown = format!("unknown.test:{metadata}");
        ask(world, "unknown.test").expect_address_refused(&unknown);
        assert_eq!(parent.targets(), std::slice::from_ref(&checked));
        world.policy.rule(
            "@id(\"through-the-parent\") @address(\"unverified\") permit (principal, \
             action in Action::\"network\", resource == Host::\"unknown.test\");",
        );
        ask(world, "unknown.test").expect_stdout("hello from open.test");
        assert_eq!(parent.targets(), [checked, unknown]);
    }

    /// The metadata service, in the spellings that filters miss.
    fn n05_the_metadata_address_has_no_other_spelling(world) {
        allow_address(world, "169.254.169.254");
        for spelling in [
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "[::ffff:a9fe:a9fe]",
        ] {
            let refused = connect(world, format!("{spelling}:80").as_bytes());
            expect_status(&refused, &[403]);
            refused.expect_address_refused("169.254.169.254:80");
        }
    }

    /// Case and a trailing dot change nothing: neither what is allowed nor what is forbidden.
    fn n06_case_and_trailing_dot_change_nothing(world) {
        let open = greeter(world, "open.test");
        let shut = greeter(world, "shut.test");
        world.policy.allow("open.test");
        world.policy.allow("shut.test");
        world.policy.rule(
            "@id(\"never\") forbid (principal, action in Action::\"network\", \
             resource == Host::\"shut.test\");",
        );
        for spelling in ["open.test", "OPEN.TEST", "Open.Test.", "open.test."] {
            let allowed = connect(world, format!("{spelling}:{}", open.port()).as_bytes());
            expect_tunnel(&allowed);
            allowed.expect_allowed(&format!("open.test:{}", open.port()));
        }
        for spelling in ["shut.test", "SHUT.TEST", "shut.test.", "Shut.Test."] {
            let refused = connect(world, format!("{spelling}:{}", shut.port()).as_bytes());
            expect_status(&refused, &[403]);
            refused.expect_denied(&format!("shut.test:{}", shut.port()), "rule");
        }
        assert_eq!((open.connections(), shut.connections()), (4, 0));
    }

    /// What only looks like the allowed name is another name, or none.
    fn n07_lookalikes_are_other_names(world) {
        let open = greeter(world, "open.test");
        let shut = greeter(world, "openx.test");
        for name in ["evilopen.test", "open.test.evil.test", "xn--pen-5cd.test"] {
            world.route(name, shut.address());
        }
        world.policy.allow("open.test");
        let port = shut.port();
        for other in [
            "openx.test",
            "evilopen.test",
            "open.test.evil.test",
            "xn--pen-5cd.test",
        ] {
            let refused = connect(world, format!("{other}:{port}").as_bytes());
            expect_status(&refused, &[403]);
            refused.expect_denied(other, "default_deny");
        }
        for malformed in [
            "open\u{ff0e}test",
            "\u{43e}pen.test",
            "open%2etest",
            "user@open.test",
            "open.test\\@evil.test",
            "open.test/..",
            "open..test",
            ".open.test",
            "-open-.test%00",
        ] {
            let refused = connect(world, format!("{malformed}:{port}").as_bytes());
            expect_status(&refused, &[400]);
            refused.expect_only_refusals("malformed");
        }
        assert_eq!((open.connections(), shut.connections()), (0, 0));
        expect_tunnel(&connect(
            world,
            format!("open.test:{}", open.port()).as_bytes(),
        ));
    }

    /// The port is part of what policy decides, and is a plain number or nothing.
    fn n08_the_port_is_part_of_the_request(world) {
        let open = greeter(world, "open.test");
        let other = Echo::start("good day\n");
        world.policy.rule(&format!(
            "@id(\"one-port\") permit (principal, action == Action::\"connect\", \
             resource == Host::\"open.test\") when {{ context.port == {} }};",
            open.port()
        ));
        let refused = connect(world, format!("open.test:{}", other.port()).as_bytes());
        expect_status(&refused, &[403]);
        refused.expect_denied(&format!("open.test:{}", other.port()), "default_deny");
        socks(world, b"open.test", 0).expect_only_refusals("malformed");
        let port = open.port();
        for bad in [
            "0",
            "65536",
            &format!("+{port}"),
            &format!("0{port}"),
            "",
            "http",
            &format!("{port}.open.test"),
            &format!("{port} "),
            "99999999999999999999",
        ] {
            let refused = connect(world, format!("open.test:{bad}").as_bytes());
            expect_status(&refused, &[400]);
        }
        assert_eq!((open.connections(), other.connections()), (0, 0));
        expect_tunnel(&connect(world, format!("open.test:{port}").as_bytes()));
    }

    /// An allowed name that leads to a special-use address is refused until an admin names it.
    fn n09_an_allowed_name_may_not_lead_to_a_special_address(world) {
        world.policy.allow("open.test");
        let echo = Echo::start("good day\n");
        let addresses = [
            "127.0.0.1",
            "127.8.8.8",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.7",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "2001:0:7f00:1::1",
        ];
        for (number, address) in addresses.iter().enumerate() {
            let name = format!("n{number}.test");
            world.resolve(&name, address.parse().unwrap());
            world.policy.allow(&name);
        }
        for (number, address) in addresses.iter().enumerate() {
            let refused = connect(world, format!("n{number}.test:{}", echo.port()).as_bytes());
            expect_status(&refused, &[403]);
            assert!(
                refused
                    .reasons()
                    .contains(&"address_not_permitted".to_owned()),
                "{address}: {refused}"
            );
        }
        assert_eq!(echo.connections(), 0);
        world.route("open.test", echo.address());
        world.stop();
        expect_tunnel(&connect(
            world,
            format!("open.test:{}", echo.port()).as_bytes(),
        ));
    }

    /// A name that cannot be looked up is refused, and says so.
    fn n09_a_failed_lookup_is_a_refusal(world) {
        let Some(canary) = DnsCanary::start() else {
            return;
        };
        let resolv = world.write("resolv.conf", canary.resolv_conf());
        if !world.mount_over(&resolv, "/etc/resolv.conf") {
            return;
        }
        world.policy.allow("nowhere.test");
        expect_status(&connect(world, b"nowhere.test:80"), &[502, 504]);
    }
}
