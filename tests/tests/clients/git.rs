//! git and ssh: over HTTP, over TLS, and by ssh through the capture.

use cordon_tests::{
    Origin, World, for_both,
    origin::{
        git,
        http::{Reply, Request},
        ssh::Sshd,
    },
};

for_both! {
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
            .expect_stderr("no rule allows it")
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
            .expect_stderr("no rule allows it")
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
