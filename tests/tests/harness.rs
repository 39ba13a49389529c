//! The harness itself, without the product: what the other tests take for granted of origins,
//! terminals and processes holds. A failure here explains failures elsewhere.

use std::process::Command;

use cordon_tests::{
    Origin, Terminal, for_both, leaks,
    origin::{
        dns::DnsCanary,
        git,
        http::{Reply, Request},
        raw::Echo,
        ssh::Sshd,
    },
    process,
};
use rustix::process::Signal;

for_both! {
    fn an_origin_counts_what_reaches_it(world) {
        let origin = Origin::http(|request: &Request| Reply::ok(request.body.clone()));
        let url = format!("http://{}/echo", origin.address());
        let run = world.host(
            "curl",
            &[
                "-sS",
                "-H",
                "Transfer-Encoding: chunked",
                "-d",
                "payload",
                &url,
            ],
        );
        run.expect_stdout("payload");
        assert_eq!((origin.connections(), origin.requests().len()), (1, 1));
        assert_eq!(origin.requests()[0].target, "/echo");
    }

    fn an_origin_with_tls_is_trusted_by_its_authority_alone(world) {
        let authority = world.authority();
        let origin = Origin::https(&authority, "open.test", |_request| Reply::ok("hello"));
        let url = format!("https://open.test:{}/", origin.port());
        let to = format!("open.test:{}:127.0.0.1", origin.port());
        let pem = world.write("authority.pem", authority.certificate());
        world
            .host(
                "curl",
                &[
                    "-sS",
                    "--resolve",
                    &to,
                    "--cacert",
                    &pem.to_string_lossy(),
                    &url,
                ],
            )
            .expect_stdout("hello");
        let mut untrusting = world.as_account("curl");
        untrusting.args(["-sS", "--resolve", &to, &url]);
        process::finish(untrusting, b"").expect_code(60);
    }

    fn a_repository_can_be_cloned_over_http_and_ssh(world) {
        let repository = git::bare_repository(world);
        let projects = repository.parent().unwrap().to_owned();
        let origin = Origin::http(move |request: &Request| git::answer(&projects, request));
        let url = format!("http://{}/project.git", origin.address());
        let clone = world.home().join("clone").to_string_lossy().into_owned();
        world.host("git", &["clone", "-q", &url, &clone]);
        world
            .host("cat", &[&format!("{clone}/README")])
            .expect_stdout("hello");
        let server = Sshd::start(world, "127.0.0.1");
        let mut ssh = server.client_options(&server.client.to_string_lossy());
        ssh.push(format!("{}@127.0.0.1", server.user));
        ssh.push("echo in".into());
        let words: Vec<&str> = ssh.iter().map(String::as_str).collect();
        world.host("ssh", &words).expect_stdout("in");
    }

    fn an_echo_greets_and_counts(world) {
        let echo = Echo::start("good day\n");
        cordon_tests::fixtures::probe(world);
        let probe = world
            .project()
            .join("probe.py")
            .to_string_lossy()
            .into_owned();
        let port = echo.port().to_string();
        world
            .host("/usr/bin/python3", &[&probe, "tcp", "127.0.0.1", &port])
            .expect_stdout("connected good day");
        assert_eq!(echo.connections(), 1);
    }

    fn the_canary_keeps_what_it_is_asked(world) {
        let Some(canary) = DnsCanary::start() else {
            return;
        };
        cordon_tests::fixtures::probe(world);
        let mut ask = world.as_account("timeout");
        ask.args(["1", "/usr/bin/python3"])
            .arg(world.project().join("probe.py"));
        ask.args(["dns", "Some.Name.test", &canary.address().to_string()]);
        process::finish(ask, b"").expect_code(124);
        assert_eq!(canary.asked(), ["some.name.test"]);
    }

    fn a_terminal_is_one(world) {
        let mut shell = Command::new("bash");
        shell.args([
            "--norc",
            "-c",
            "tty; stty size; read -r line; echo \"got $line\"; exit 5",
        ]);
        let mut terminal = Terminal::start(world, &shell);
        terminal.expect("/dev/pts/");
        terminal.expect("24 80");
        terminal.send("typed\r");
        terminal.expect("got typed");
        assert_eq!(terminal.finish(), 5);
        assert!(terminal.is_cooked());
    }

    fn a_process_of_the_world_is_found_and_its_end_is_seen(world) {
        let mut sleeper = world.as_account("sh");
        sleeper.args(["-c", "sleep 1000 & wait"]);
        let running = process::start(sleeper, b"");
        process::eventually("it has a child", || process::tree(running.pid()).len() == 2);
        let tree = process::tree(running.pid());
        let found = leaks::processes(&world.marks());
        assert!(
            tree.iter().all(|pid| found.contains(pid)),
            "{tree:?} in {found:?}"
        );
        leaks::end(&world.marks());
        running.finish().expect_code(128 + Signal::KILL.as_raw());
        for pid in tree {
            assert!(process::gone(pid, process::DEADLINE));
        }
    }
}
