//! Ordinary clients, with no configuration of their own, reach what policy allows and get their
//! own clear error for the rest.

use cordon_tests::{
    Origin, Outcome, World, for_both,
    origin::{
        git,
        http::{Reply, Request},
        raw::Echo,
        ssh::Sshd,
    },
};

/// An HTTPS origin led to by `name`, under the world's authority; policy is not told.
fn tls_origin(world: &mut World, name: &str) -> Origin {
    let authority = world.authority();
    let text = format!("hello from {name}\n");
    let answer = move |_request: &Request| Reply::ok(text.clone());
    let origin = Origin::https(&authority, name, answer);
    world.route(name, origin.address());
    origin
}

/// Runs the command that `client` makes of a URL against an allowed and a denied HTTP origin, and
/// returns what the denied run left: it got nothing through.
#[track_caller]
fn over_http(world: &mut World, client: fn(&str) -> Vec<String>) -> Outcome {
    let open = world.allowed_origin("open.test");
    let shut = world.origin("shut.test");
    both_ways(world, client, &open, &shut, "http")
}

/// As [`over_http`], with TLS.
#[track_caller]
fn over_https(world: &mut World, client: fn(&str) -> Vec<String>) -> Outcome {
    world.policy.allow("open.test");
    let open = tls_origin(world, "open.test");
    let shut = tls_origin(world, "shut.test");
    both_ways(world, client, &open, &shut, "https")
}

#[track_caller]
fn both_ways(
    world: &World,
    client: fn(&str) -> Vec<String>,
    open: &Origin,
    shut: &Origin,
    scheme: &str,
) -> Outcome {
    let url = |name: &str, origin: &Origin| format!("{scheme}://{name}:{}/", origin.port());
    let run = |url: String| {
        let words = client(&url);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        world.session(&words).run()
    };
    let allowed = run(url("open.test", open));
    allowed
        .expect_code(0)
        .expect_stdout("hello from open.test")
        .expect_allowed("open.test");
    assert_eq!(open.requests().len(), 1, "{allowed}");
    let denied = run(url("shut.test", shut));
    denied.expect_denied("shut.test", "default_deny");
    assert_eq!(shut.connections(), 0, "{denied}");
    denied
}

fn words(command: &str, url: &str) -> Vec<String> {
    let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    words.push(url.to_owned());
    words
}

fn script(interpreter: &str, script: &str, url: &str) -> Vec<String> {
    let flag = if interpreter == "node" { "-e" } else { "-c" };
    [interpreter, flag, script, url].map(str::to_owned).to_vec()
}

for_both! {
    /// The refusal carries its reason in the body.
    fn curl_over_http(world) {
        let denied = over_http(world, |url| words("curl -sS", url));
        denied.expect_code(0);
        assert!(denied.text().contains("default_deny"), "{denied}");
    }

    /// curl reports the refused tunnel with the proxy's status.
    fn curl_over_https(world) {
        let denied = over_https(world, |url| words("curl -sS", url));
        denied.expect_code(56).expect_stderr("403");
    }

    /// Captured, and refused in HTTP all the same.
    fn curl_over_http_without_proxy(world) {
        let denied = over_http(world, |url| words("curl -sS --noproxy *", url));
        denied.expect_code(0);
        assert!(denied.text().contains("default_deny"), "{denied}");
    }

    /// Captured, and refused by a TLS alert.
    fn curl_over_https_without_proxy(world) {
        let denied = over_https(world, |url| words("curl -sS --noproxy *", url));
        denied.expect_code(35);
    }

    /// By SOCKS, with the name left to the proxy.
    fn curl_over_socks(world) {
        let denied = over_http(world, |url| {
            words("curl -sS -x socks5h://127.0.0.1:1080", url)
        });
        denied.expect_code(97);
    }

    /// wget's code for an answer of 400 and above is 8.
    fn wget_over_http(world) {
        over_http(world, |url| words("wget -q -O -", url)).expect_code(8);
    }

    fn wget_over_https(world) {
        let denied = over_https(world, |url| words("wget -nv -O -", url));
        assert_ne!(denied.code, 0, "{denied}");
        denied.expect_stderr("Forbidden");
    }

    fn wget_without_proxy(world) {
        over_http(world, |url| words("wget -q -O - --no-proxy", url)).expect_code(8);
    }

    fn python_urllib(world) {
        let denied = over_http(world, |url| script("/usr/bin/python3", PYTHON_URLLIB, url));
        denied.expect_code(1).expect_stderr("HTTP Error 403");
    }

    fn python_urllib_over_https(world) {
        let denied = over_https(world, |url| script("/usr/bin/python3", PYTHON_URLLIB, url));
        denied.expect_code(1).expect_stderr("403");
    }

    fn python_requests(world) {
        let denied = over_http(world, |url| {
            script("/usr/bin/python3", PYTHON_REQUESTS, url)
        });
        denied.expect_code(1).expect_stderr("403");
    }

    fn python_requests_over_https(world) {
        let denied = over_https(world, |url| {
            script("/usr/bin/python3", PYTHON_REQUESTS, url)
        });
        denied.expect_code(1).expect_stderr("403");
    }

    /// Node's fetch knows no proxy by itself: this is the capture.
    fn node_fetch(world) {
        let denied = over_http(world, |url| script("node", NODE_FETCH, url));
        denied.expect_code(1).expect_stderr("403");
    }

    fn node_fetch_over_https(world) {
        let denied = over_https(world, |url| script("node", NODE_FETCH, url));
        denied.expect_code(1).expect_stderr("fetch failed");
    }

    /// A program that opens sockets and asks nobody is decided by name all the same.
    fn a_program_that_knows_no_proxy(world) {
        let open = Echo::start("good day\n");
        let shut = Echo::start("good day\n");
        world.route("open.test", open.address());
        world.route("shut.test", shut.address());
        world.policy.allow("open.test");
        cordon_tests::fixtures::probe(world);
        let connect = |name: &str, port: u16| {
            world
                .session(&[
                    "/usr/bin/python3",
                    "probe.py",
                    "tcp",
                    name,
                    &port.to_string(),
                ])
                .run()
        };
        let allowed = connect("open.test", open.port());
        allowed.expect_code(0).expect_stdout("connected good day");
        allowed.expect_allowed(&format!("open.test:{}", open.port()));
        let denied = connect("shut.test", shut.port());
        assert_ne!(denied.text(), "connected good day", "{denied}");
        denied.expect_denied(&format!("shut.test:{}", shut.port()), "default_deny");
        assert_eq!((open.connections(), shut.connections()), (1, 0));
    }

    fn git_clone_over_http(world) {
        clone_over(world, "http");
    }

    fn git_clone_over_https(world) {
        clone_over(world, "https");
    }

    /// git over ssh, through the capture; the denied host's reason is in ssh's own error.
    fn git_clone_over_ssh(world) {
        let repository = git::bare_repository(world);
        let server = Sshd::start(world, "open.test");
        // git serves a repository to its owner, and the server runs as the ordinary user.
        world.host("chmod", &["-R", "a+rX", &repository.to_string_lossy()]);
        server.own(&repository);
        world.route("open.test", server.address());
        world.route("shut.test", server.address());
        world.policy.allow("open.test");
        let clone = |name: &str| {
            let ssh = format!("ssh {}", server.client_options("mnt/ssh").join(" "));
            let url = format!("{}@{name}:{}", server.user, repository.display());
            let command =
                "git -c safe.directory=* clone -q \"$1\" /tmp/clone && cat /tmp/clone/README";
            world
                .session(&["sh", "-c", command, "sh", &url])
                .grant(format!("{}:ro=ssh", server.client.display()))
                .env(&format!("GIT_SSH_COMMAND={ssh}"))
                .run()
        };
        clone("open.test")
            .expect_code(0)
            .expect_stdout("hello")
            .expect_allowed("open.test");
        let denied = clone("shut.test");
        denied
            .expect_code(128)
            .expect_stderr("default_deny")
            .expect_denied("shut.test", "default_deny");
    }

    fn ssh_runs_a_command(world) {
        let server = Sshd::start(world, "open.test");
        world.route("open.test", server.address());
        world.route("shut.test", server.address());
        world.policy.allow("open.test");
        let ssh = |name: &str| {
            let options = server.client_options("mnt/ssh");
            let target = format!("{}@{name}", server.user);
            let mut command = vec!["ssh"];
            command.extend(options.iter().map(String::as_str));
            command.extend([target.as_str(), "echo", "from", "the", "server"]);
            world
                .session(&command)
                .grant(format!("{}:ro=ssh", server.client.display()))
                .run()
        };
        ssh("open.test")
            .expect_code(0)
            .expect_stdout("from the server")
            .expect_allowed("open.test");
        let denied = ssh("shut.test");
        denied
            .expect_code(255)
            .expect_stderr("default_deny")
            .expect_denied("shut.test", "default_deny");
    }
}

#[track_caller]
fn clone_over(world: &mut World, scheme: &str) {
    let repository = git::bare_repository(world);
    let projects = repository.parent().map(std::path::Path::to_owned);
    let answer = move |request: &Request| {
        projects
            .as_deref()
            .map_or_else(|| Reply::status("500 No", ""), |p| git::answer(p, request))
    };
    let origin = if scheme == "https" {
        let authority = world.authority();
        Origin::https(&authority, "open.test", answer)
    } else {
        Origin::http(answer)
    };
    world.route("open.test", origin.address());
    world.route("shut.test", origin.address());
    world.policy.allow("open.test");
    let clone = |name: &str| {
        let url = format!("{scheme}://{name}:{}/project.git", origin.port());
        let command = "git clone -q \"$1\" /tmp/clone && cat /tmp/clone/README";
        world.session(&["sh", "-c", command, "sh", &url]).run()
    };
    clone("open.test")
        .expect_code(0)
        .expect_stdout("hello")
        .expect_allowed("open.test");
    let before = origin.connections();
    let denied = clone("shut.test");
    denied
        .expect_code(128)
        .expect_stderr("403")
        .expect_denied("shut.test", "default_deny");
    assert_eq!(origin.connections(), before, "{denied}");
}

const PYTHON_URLLIB: &str =
    "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())";

const PYTHON_REQUESTS: &str = "import sys, requests
answer = requests.get(sys.argv[1])
answer.raise_for_status()
print(answer.text)";

const NODE_FETCH: &str = "fetch(process.argv[1]).then(async answer => {
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  console.log((await answer.text()).trimEnd());
}).catch(error => { console.error(String(error), String(error.cause)); process.exit(1) })";
