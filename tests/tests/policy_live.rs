//! A running session follows the policy in force: tunnels, refusals, mounts, and what is shown.

use cordon_tests::{
    Bundle, World,
    api::{curl, send},
    for_both,
    origin::raw::Echo,
    process::{Running, eventually},
};
use serde_json::json;

/// Opens a tunnel to each HOST:PORT, says `up`, and from then on keeps a file for each, named by
/// its host: `open` as long as the tunnel echoes, then `closed`. Ends when a file `end` is there.
const TUNNELS: &str = r#"
import os, socket, sys, time
def tunnel(target):
    stream = socket.create_connection(("127.0.0.1", 3128), 10)
    stream.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    got = b""
    while b"good day\n" not in got:
        chunk = stream.recv(4096)
        if not chunk:
            sys.exit(f"{target}: {got}")
        got += chunk
    return stream
def echoes(stream):
    try:
        stream.sendall(b"?")
        return stream.recv(1) == b"?"
    except OSError:
        return False
streams = {target.split(":")[0]: tunnel(target) for target in sys.argv[1:]}
def write(name, text):
    with open(name + ".new", "w") as file:
        file.write(text)
    os.replace(name + ".new", name)
rounds = 0
while not os.path.exists("end"):
    rounds += 1
    for host, stream in streams.items():
        write(host, f"{'open' if echoes(stream) else 'closed'} {rounds}")
    time.sleep(0.02)
"#;

/// What the session says of a tunnel: whether it is open, and in which round it was tried.
fn tunnel(world: &World, host: &str) -> Option<(bool, u64)> {
    let text = std::fs::read_to_string(world.project().join(host)).ok()?;
    let (state, round) = text.split_once(' ')?;
    Some((state == "open", round.parse().ok()?))
}

fn start_tunnels(world: &World, targets: &[String]) -> Running {
    let mut command = vec!["/usr/bin/python3", "-c", TUNNELS];
    command.extend(targets.iter().map(String::as_str));
    let session = world.session(&command).built_in_policy().start();
    for target in targets {
        let (host, _port) = target.split_once(':').unwrap_or((target, ""));
        eventually("the tunnel stands", || {
            tunnel(world, host).is_some_and(|it| it.0)
        });
    }
    session
}

fn finish(world: &World, session: Running) -> cordon_tests::Outcome {
    world.project_file("end", "");
    let outcome = session.finish();
    world.remember(&outcome);
    outcome
}

fn greeter(world: &mut World, name: &str) -> Echo {
    cordon_tests::probe::greeter(world, name)
}

for_both! {
    /// Within a second of the change; the tunnel that both revisions allow goes on.
    fn n19_a_tunnel_that_the_new_revision_denies_is_closed_and_another_stays(world) {
        let ends = greeter(world, "ends.test");
        let stays = greeter(world, "stays.test");
        let house = Bundle::house(1).allow("ends.test").allow("stays.test").write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let targets = [
            format!("ends.test:{}", ends.port()),
            format!("stays.test:{}", stays.port()),
        ];
        let session = start_tunnels(world, &targets);

        Bundle::house(2).allow("stays.test").write(world, "house");
        eventually("revision 2 is in force", || world.live_revision() == Some(2));
        let in_force = std::time::Instant::now();
        eventually("the tunnel is closed", || tunnel(world, "ends.test").is_some_and(|it| !it.0));
        assert!(in_force.elapsed().as_secs_f64() < 1.0, "{:?}", in_force.elapsed());
        let (_, round) = tunnel(world, "stays.test").unwrap();
        eventually("the other goes on", || {
            tunnel(world, "stays.test").is_some_and(|it| it.0 && it.1 > round + 3)
        });

        let outcome = finish(world, session);
        outcome.expect_code(0);
        let records = world.records(&outcome.session());
        let ended: Vec<_> = records.iter().filter(|record| record["end"] == "revoked").collect();
        assert_eq!(ended.len(), 1, "{ended:?}");
        let denied: Vec<_> = records.iter().filter(|record| record["effect"] == "deny").collect();
        assert_eq!(denied.len(), 1, "{denied:?}");
        assert_eq!(denied[0]["policy"]["revision"], 2);
        assert_eq!(world.records_of("policy.load").len(), 2);
    }

    /// A folder that policy refuses now is recorded as refused and unmounted while the session runs.
    /// Whoever works in it, and so could read on, is ended; whoever does not goes on.
    fn n19_a_grant_that_the_new_revision_denies_is_recorded_and_unmounted(world) {
        let house = Bundle::house(1).write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let script = "sh -c 'trap : TERM; while :; do sleep 0.02; done' & reads=$!; cd /; \
                      touch $HOME/mnt/project/up; ls $HOME/mnt; \
                      wait $reads; echo the reader ended with $?; ls $HOME/mnt";
        let session = world.session(&["sh", "-c", script]).built_in_policy().start();
        eventually("it runs", || world.project().join("up").exists());
        let project = world.project();
        Bundle::house(2)
            .rule(&format!(
                "@id(\"no-project\") forbid (principal, action in Action::\"grant\", \
                 resource == Folder::\"{}\");",
                project.display()
            ))
            .write(world, "house");
        eventually("revision 2 is in force", || world.live_revision() == Some(2));
        let outcome = session.finish();
        world.remember(&outcome);
        outcome.expect_code(0);
        assert_eq!(outcome.text(), "project\nthe reader ended with 137");
        let records = world.records(&outcome.session());
        let denied = records
            .iter()
            .find(|record| record["effect"] == "deny" && record["action"] == "folder.grant");
        assert_eq!(denied.expect("recorded")["rules"][0], "no-project");
        // And the next session does not get it.
        let next = world.session(&["true"]).built_in_policy().run();
        assert!(next.summary().to_string().contains("no-project"), "{next}");
    }

    /// By the name that it has inside, which another folder does not have.
    fn n19_a_grant_that_is_denied_by_its_name_is_unmounted_and_another_stays(world) {
        let house = Bundle::house(1).write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let other = world.folder("home/other");
        let script = "cd /; touch $HOME/mnt/work/up; while [ -e $HOME/mnt/work/up ]; do sleep 0.02; \
                      done; ls $HOME/mnt";
        let session = world
            .session(&["sh", "-c", script])
            .grant(format!("{}:rw=work", world.project().display()))
            .grant(other.display().to_string());
        let session = session.built_in_policy().start();
        eventually("it runs", || world.project().join("up").exists());
        Bundle::house(2)
            .rule(
                "@id(\"no-work\") forbid (principal, action in Action::\"grant\", resource) \
                 when { context.name == \"work\" };",
            )
            .write(world, "house");
        let outcome = session.finish();
        world.remember(&outcome);
        outcome.expect_code(0).expect_stdout("other");
    }

    /// What goes on without being asked for again is decided again: a browser, a connector, a server.
    fn n19_what_the_new_revision_denies_is_switched_off(world) {
        world.config.push_str("\n[connectors.notes]\nkind = \"mcp\"\n[connectors.notes.scopes]\nread = \"Read\"\n");
        let may = |what: &str| format!("permit (principal, action in [{what}], resource);");
        let all = "Action::\"enable_browser\", Action::\"enable_connector\", Action::\"use_scope\", Action::\"load_extension\", \
                   Action::\"run_without_sandbox\"";
        let house = Bundle::house(1).rule(&may(all)).write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let new = json!({"program": "harness"}).to_string();
        let (code, session) = send(world, "POST", "/v1/sessions", &new);
        assert_eq!(code, 201, "{session}");
        let id = session["id"].as_str().unwrap().to_owned();
        let own = format!("/v1/sessions/{id}");
        let scopes = json!({"scopes": ["read"]}).to_string();
        for (method, what, body) in [
            ("PUT", "/browser", ""),
            ("PUT", "/connectors/notes", &*scopes),
            ("POST", "/mcp/files", ""),
            ("POST", "/mcp/stays", ""),
        ] {
            let (code, said) = send(world, method, &format!("{own}{what}"), body);
            assert_eq!((code, said["allowed"] != json!(false)), (200, true), "{what}: {said}");
        }
        let state = || {
            let of = |what: &str| curl(world, &format!("{own}{what}"), &[]);
            let connectors = of("/connectors").1;
            let enabled = &connectors[0]["enabled"];
            (
                of("/browser").1["enabled"] == true,
                enabled.as_array().is_some_and(|scopes| !scopes.is_empty()),
                of("/mcp/files").0 == 200,
                of("/mcp/stays").0 == 200,
            )
        };
        assert_eq!(state(), (true, true, true, true));
        let browser = curl(world, &format!("{own}/browser"), &[]).1;
        let proxy = browser["proxy"]["server"].as_str().unwrap();
        let reached = || world.host("sh", &["-c", "curl -s -o /dev/null \"$1\"; echo $?", "sh", proxy]).text();
        assert_eq!(reached(), "0");

        let left = "Action::\"load_extension\", Action::\"use_scope\"";
        let forbids = "forbid (principal, action, resource == Extension::\"files\");";
        Bundle::house(2).rule(&may(left)).rule(forbids).write(world, "house");
        eventually("it is switched off", || state() == (false, false, false, true));
        assert_eq!(reached(), "7", "nobody listens");
        let records = world.records(&id);
        for action in ["browser.enable", "connector.enable", "extension.load"] {
            let denied = records.iter().filter(|one| one["action"] == action && one["effect"] == "deny");
            assert_eq!(denied.count(), 1, "{action}");
        }
        let taken = records.iter().filter_map(|one| one["message"].as_str());
        assert_eq!(taken.filter(|text| text.contains("taken back")).count(), 3);
        assert_eq!(send(world, "DELETE", &own, "").0, 204);
        world.cordon(&["stop"]).expect_code(0);
    }

    /// A bundle that is no good never replaces one that is.
    fn f03_a_bad_revision_is_refused_recorded_and_shown_and_the_last_good_stays(world) {
        let origin = world.origin("good.test");
        let house = Bundle::house(1).allow("good.test").write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let url = format!("http://good.test:{}/", origin.port());
        let get = ["curl", "-sSf", url.as_str()];
        world.session(&get).built_in_policy().run().expect_code(0);

        Bundle::house(2).rule("permit (principal, action, resource").write(world, "house");
        eventually("the fault is shown", || {
            world.policy_status()["layers"][0]["fault"].as_str().is_some_and(|fault| {
                fault.contains("rules.cedar")
            })
        });
        assert_eq!(world.live_revision(), Some(1));
        world.session(&get).built_in_policy().run().expect_code(0);
        world.cordon(&["status"]).expect_code(0);
        let status = world.cordon(&["status"]).text();
        assert!(status.contains("FAULT") && status.contains("house revision 1"), "{status}");
        let refused = world.records_of("policy.refused");
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(refused[0]["policy"]["revision"], 2);

        // Also when the daemon starts anew and finds nothing better.
        world.stop();
        world.session(&get).built_in_policy().run().expect_code(0);
        assert_eq!(world.live_revision(), Some(1));

        Bundle::house(3).write(world, "house");
        eventually("a good one comes into force", || world.live_revision() == Some(3));
        assert!(world.policy_status()["layers"][0]["fault"].is_null());
        world.session(&get).built_in_policy().run().expect_denied("good.test", "default_deny");
    }

    /// Without its bundle an organisation's policy is not there, and then nothing starts.
    fn f03_without_any_good_revision_no_session_starts(world) {
        let house = world.folder("house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let refused = world.session(&["true"]).built_in_policy().run();
        assert_ne!(refused.code, 0, "{refused}");
        refused.expect_stderr("organisation").expect_stderr("not available");
        Bundle::house(1).write(world, "house");
        eventually("it is in force", || world.live_revision() == Some(1));
        world.session(&["true"]).built_in_policy().run().expect_code(0);
    }

    /// Under an organisation's bundle `--policy` is the user's layer: it narrows, and permits only
    /// where the organisation trusts it.
    fn f02_the_command_line_joins_the_organisation_and_never_replaces_it(world) {
        let origin = world.origin("a.test");
        let house = Bundle::house(1).allow("a.test").write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let url = format!("http://a.test:{}/", origin.port());
        let get = ["curl", "-sSf", url.as_str()];
        let narrow = world.write(
            "narrow.cedar",
            "@id(\"not-today\") forbid (principal, action in Action::\"network\", resource);",
        );
        let wide = world.write("wide.cedar", "@id(\"all\") permit (principal, action, resource);");
        world.session(&get).built_in_policy().run().expect_code(0);
        world.session(&get).policy(&narrow).run().expect_denied("a.test", "rule");
        let refused = world.session(&get).policy(&wide).run();
        assert_ne!(refused.code, 0, "{refused}");
        refused.expect_stderr("wide.cedar");

        let trusting = Bundle::house(2).head("[trust]\nuser = true");
        trusting.write(world, "house");
        eventually("it is in force", || world.live_revision() == Some(2));
        world.session(&get).policy(&wide).run().expect_code(0);
    }

    /// `.cordon/policy` of the folder that is worked in narrows, and can do nothing else.
    fn f02_a_workspace_narrows_and_never_widens(world) {
        let origin = world.allowed_origin("a.test");
        let url = format!("http://a.test:{}/", origin.port());
        let get = ["curl", "-sSf", url.as_str()];
        world.session(&get).run().expect_code(0);
        world.folder(world.project().join(".cordon"));
        let folder = world.folder(world.project().join(".cordon/policy"));
        let file = folder.join("here.cedar");
        world.write(
            &file,
            "@id(\"not-here\") forbid (principal, action in Action::\"network\", resource);\n",
        );
        let narrowed = world.session(&get).run();
        narrowed.expect_denied("a.test", "rule");
        world.write(&file, "\n@id(\"wide\")\npermit (principal, action, resource);\n");
        let refused = world.session(&get).run();
        assert_ne!(refused.code, 0, "{refused}");
        refused.expect_stderr("here.cedar").expect_stderr("line 2");
        assert_eq!(origin.requests().len(), 1);
    }

    /// A running session can be asked what decides it, and every refusal says which rule did.
    fn n20_effective_policy_is_shown_and_a_refusal_names_rule_layer_and_revision(world) {
        let house = Bundle::house(7)
            .rule(
                "@id(\"no-bad\") @reason(\"known to be bad\") forbid (principal, \
                 action in Action::\"network\", resource in Domain::\"bad.test\");",
            )
            .write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let narrow = world.write(
            "mine.cedar",
            "@id(\"mine\") forbid (principal, action in Action::\"network\", \
             resource in Domain::\"mine.test\");",
        );
        let script = "touch up; curl -s http://bad.test/ >bad; curl -s http://mine.test/ >mine; \
                      until [ -e end ]; do sleep 0.02; done";
        let session = world.session(&["sh", "-c", script]).policy(&narrow).start();
        let bad = world.project().join("mine");
        eventually("it has asked", || {
            std::fs::read_to_string(&bad).is_ok_and(|text| text.contains("help:"))
        });
        let text = std::fs::read_to_string(world.project().join("bad")).unwrap();
        for part in ["rule: no-bad: known to be bad", "layer: organisation", "revision 7"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = std::fs::read_to_string(world.project().join("mine")).unwrap();
        assert!(text.contains("rule: mine") && text.contains("layer: user"), "{text}");

        let status = world.cordon(&["status", "--format", "json"]).text();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let id = status["sessions"][0]["session"].as_str().unwrap().to_owned();
        let shown = world.cordon(&["policy", "effective", &id]);
        shown.expect_code(0);
        for part in [
            "house revision 7",
            "organisation forbid no-bad",
            "user         forbid mine",
            "known to be bad",
            "enforces",
            "Domain::\"bad.test\"",
        ] {
            assert!(shown.text().contains(part), "{part} in {shown}");
        }
        let json = world.cordon(&["policy", "effective", "--format", "json", &id]);
        let json: serde_json::Value = serde_json::from_str(&json.text()).unwrap();
        let outcome = finish(world, session);
        let record = world
            .records(&outcome.session())
            .into_iter()
            .find(|record| record["effect"] == "deny")
            .unwrap();
        assert_eq!(record["policy"]["sha256"], json["digest"], "as in its records");
        assert_eq!(record["policy"]["revision"], 7);
        world.cordon(&["policy", "effective", &id]).expect_code(1);
    }

    /// Observe mode is a state of a policy set that everybody can see, and that ends.
    fn n15_observe_mode_is_announced_recorded_shown_and_ends(world) {
        let origin = world.origin("a.test");
        let house = Bundle::house(1)
            .head("[observe]\nuntil = 2099-01-01")
            .write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let url = format!("http://a.test:{}/", origin.port());
        let get = ["curl", "-sSf", url.as_str()];
        let script = format!("curl -sSf {url}; touch up; until [ -e end ]; do sleep 0.02; done");
        let session = world.session(&["sh", "-c", &script]).built_in_policy().start();
        eventually("it runs", || world.project().join("up").exists());
        let status = world.cordon(&["status"]).text();
        assert_eq!(status.matches("ONLY OBSERVES until 2099-01-01").count(), 2, "{status}");
        let outcome = finish(world, session);
        outcome.expect_code(0);
        assert_eq!(outcome.summary()["observe"], "2099-01-01T00:00:00Z");
        let observed: Vec<_> = world
            .records(&outcome.session())
            .into_iter()
            .filter(|record| record["mode"] == "observe")
            .collect();
        assert_eq!(observed.len(), 1, "{observed:?}");
        assert_eq!(observed[0]["enforced"], "observed");
        let mut text = world.command();
        text.args(["run", "--"]).args(get);
        let text = cordon_tests::process::finish(text, b"");
        text.expect_code(0).expect_stderr("ONLY OBSERVES until 2099-01-01");

        Bundle::house(2).head("[observe]\nuntil = 2020-01-01").write(world, "house");
        eventually("it is in force", || world.live_revision() == Some(2));
        let enforced = world.session(&get).built_in_policy().run();
        enforced.expect_denied("a.test", "default_deny");
        assert!(enforced.summary().get("observe").is_none());
    }
}
