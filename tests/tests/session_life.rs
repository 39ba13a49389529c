//! The life of a session, steered from outside: `cordon session`, its limits, and what is left.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use cordon_tests::{
    Outcome, Terminal, World, for_both,
    process::{self, Running, eventually},
};
use rustix::process::{Pid, Signal};
use serde_json::Value;

/// Starts a session whose command first makes the file `up`, and waits for that. With its id.
fn start(world: &World, script: &str) -> (Running, String) {
    let script = format!("touch up; {script}");
    let running = world.session(&["sh", "-c", &script]).start();
    let up = world.project().join("up");
    eventually("the session runs", || up.exists());
    let listed = world.cordon(&["session", "list", "--format", "json"]);
    let first: Value = serde_json::from_str(listed.text().lines().next().unwrap()).unwrap();
    (running, first["session"].as_str().unwrap().to_owned())
}

fn show(world: &World, session: &str) -> Value {
    let shown = world.cordon(&["session", "show", session, "--format", "json"]);
    serde_json::from_str(&shown.expect_code(0).text()).unwrap()
}

fn steer(world: &World, what: &str, session: &str) -> Outcome {
    world.cordon(&["session", what, session])
}

/// Ends it and looks at how its run ended.
fn end(world: &World, running: Running, session: &str) -> Outcome {
    steer(world, "end", session).expect_code(0);
    let run = running.finish();
    world.remember(&run);
    run
}

/// The states of all processes below the session's first one.
fn states(world: &World, session: &str) -> Vec<char> {
    let first = show(world, session)["first_process"].as_i64().unwrap();
    let first = Pid::from_raw(i32::try_from(first).unwrap()).unwrap();
    process::tree(first)
        .into_iter()
        .filter(|pid| *pid != first)
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            stat.ok()?.rsplit_once(") ")?.1.chars().next()
        })
        .collect()
}

/// The values of the last records of a session's kind.
fn recorded(world: &World, session: &str, kind: &str, field: &str) -> Vec<String> {
    let records = world.records(session);
    let of_kind = records.iter().filter(|record| record["kind"] == kind);
    of_kind
        .map(|record| record[field].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// The changes of a session's state, as recorded. Records of the same kind tell of its grants too.
fn changes(world: &World, session: &str) -> Vec<String> {
    let mut states = recorded(world, session, "session.state", "state");
    states.retain(|state| ["running", "paused", "ending"].contains(&state.as_str()));
    states
}

/// Starts children as fast as it can, each of which ends at once.
const RESTLESS: &str = "while :; do for i in 1 2 3 4 5 6 7 8; do (:) & done; wait; \
                        n=$((n+1)); echo $n >count; done";

/// No process of it runs: they are stopped, or frozen in its control group, as it says itself.
fn stands_still(world: &World, id: &str) {
    let shown = show(world, id);
    let first = shown["first_process"].as_u64().unwrap();
    let groups = fs::read_to_string(format!("/proc/{first}/cgroup")).unwrap();
    let unified = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let events = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .iter()
        .map(|mount| format!("{mount}/{}/cgroup.events", unified.unwrap_or_default()))
        .find_map(|path| fs::read_to_string(path).ok());
    match (shown["pauses_by"].as_str(), events) {
        (Some("signals"), _) => {
            let now = states(world, id);
            assert!(!now.is_empty());
            assert!(now.iter().all(|state| "TtZD".contains(*state)), "{now:?}");
        }
        (Some("control group (version 2)"), Some(events)) => {
            assert!(unified.is_some_and(|group| group.contains(id)), "{groups}");
            assert!(events.lines().any(|line| line == "frozen 1"), "{events}");
        }
        other => panic!("{other:?}"),
    }
}

for_both! {
    fn a_session_is_listed_shown_and_ended(world) {
        let (running, id) = start(world, "exec sleep 600");
        let status = show(world, &id);
        assert_eq!(status["state"], "running");
        assert_eq!(status["connected"], true);
        assert_eq!(status["grants"].as_array().unwrap().len(), 1, "{status}");
        assert!(status["used"]["processes"].as_u64() >= Some(1), "{status}");
        steer(world, "is-running", &id).expect_code(0);
        steer(world, "is-running", &id[..30]).expect_code(0);
        end(world, running, &id).expect_code(143);
        steer(world, "is-running", &id).expect_code(3);
        steer(world, "show", &id).expect_code(1);
        assert_eq!(changes(world, &id), ["ending"]);
        assert_eq!(recorded(world, &id, "session.end", "end"), ["ended"]);
    }

    /// A command that will not end is made to, at once where that is asked.
    fn a_session_can_be_ended_at_once(world) {
        let (running, id) = start(world, "trap '' TERM; while :; do sleep 1; done");
        world.cordon(&["session", "end", "--now", &id]).expect_code(0);
        let run = running.finish();
        world.remember(&run);
        run.expect_code(137);
    }

    /// When `pause` returns, no process of the session runs, however many it starts; when
    /// `resume` returns they go on where they were.
    fn a_paused_session_does_nothing(world) {
        let (running, id) = start(world, RESTLESS);
        let count = world.project().join("count");
        eventually("it counts", || count.exists());
        for _round in 0..5 {
            steer(world, "pause", &id).expect_code(0).expect_told(" paused");
            stands_still(world, &id);
            let stood_at = fs::read_to_string(&count).unwrap();
            steer(world, "is-running", &id).expect_code(1);
            world.cordon(&["session", "exec", &id, "--", "true"])
                .expect_code(1)
                .expect_stderr("paused");
            assert_eq!(fs::read_to_string(&count).unwrap(), stood_at);
            steer(world, "resume", &id).expect_code(0).expect_told(" running");
            eventually("it goes on", || {
                let now = fs::read_to_string(&count).unwrap();
                !now.is_empty() && now != stood_at
            });
        }
        end(world, running, &id);
        let states = changes(world, &id);
        assert_eq!(states.len(), 11, "{states:?}");
        assert_eq!(states[..2], ["paused", "running"]);
    }

    /// Of a pause and a resume at once one comes after the other: what is shown, recorded and so is
    /// the same.
    fn who_pauses_and_who_resumes_at_once_take_turns(world) {
        let (running, id) = start(world, RESTLESS);
        let count = world.project().join("count");
        eventually("it counts", || count.exists());
        let both = |first: &str, second: &str| {
            let asked = [first, second].map(|what| {
                let mut command = world.command();
                command.args(["session", what, &id]);
                process::start(command, b"")
            });
            for one in asked {
                one.finish().expect_code(0);
            }
        };
        for round in 0..12 {
            match round % 2 {
                0 => both("resume", "pause"),
                _ => both("pause", "resume"),
            }
            let state = show(world, &id)["state"].as_str().unwrap().to_owned();
            assert_eq!(changes(world, &id).last(), Some(&state), "in round {round}");
            if state == "paused" {
                stands_still(world, &id);
            } else {
                let stood_at = fs::read_to_string(&count).unwrap();
                let moves = || fs::read_to_string(&count).is_ok_and(|now| !now.is_empty() && now != stood_at);
                eventually("what is shown as running counts", moves);
            }
        }
        steer(world, "resume", &id).expect_code(0);
        end(world, running, &id);
    }

    /// A paused session can be ended, and its command hears of it.
    fn a_paused_session_can_be_ended(world) {
        let script = "trap 'touch heard; exit 9' TERM; touch trap; while :; do sleep 0.05; done";
        let (running, id) = start(world, script);
        let trap = world.project().join("trap");
        eventually("it listens", || trap.exists());
        steer(world, "pause", &id).expect_code(0);
        end(world, running, &id).expect_code(9);
        assert!(world.project().join("heard").exists());
    }

    /// A flow of a paused session moves nothing, and moves again afterwards.
    fn flows_of_a_paused_session_wait(world) {
        let origin = world.allowed_origin("open.test");
        let url = origin.url("open.test", "/");
        let script = format!("until [ -e go ]; do sleep 0.01; done; curl -sS {url} >got; touch done; exec sleep 600");
        let (running, id) = start(world, &script);
        steer(world, "pause", &id).expect_code(0);
        world.project_file("go", "");
        assert!(!world.project().join("done").exists());
        steer(world, "resume", &id).expect_code(0);
        eventually("the request is answered", || world.project().join("done").exists());
        assert!(fs::metadata(world.project().join("got")).unwrap().len() > 0);
        end(world, running, &id);
    }

    /// A further command is in the same namespaces, under the same filters and without a
    /// capability; it is decided and recorded; its streams and its code are the caller's.
    fn a_further_command_is_under_the_same_walls(world) {
        let look = "for n in user mnt pid net ipc uts; do readlink /proc/self/ns/$n; done; \
                    grep -E '^(Seccomp|NoNewPrivs|CapEff|CapBnd)' /proc/self/status; pwd; \
                    ls /proc/self/fd | wc -l";
        let script = format!("{{ {look}; }} >main; exec sleep 600");
        let (running, id) = start(world, &script);
        let main = world.project().join("main");
        let whole = || fs::read_to_string(&main).is_ok_and(|text| text.lines().count() >= 13);
        eventually("it has looked", whole);
        let further = world.cordon(&["session", "exec", &id, "--", "sh", "-c", look]);
        further.expect_code(0);
        assert_eq!(further.text(), fs::read_to_string(&main).unwrap().trim_end());
        let mut command = world.command();
        command.args(["session", "exec", &id, "--", "sh", "-c", "cat; echo err >&2; exit 7"]);
        let piped = process::finish(command, b"through");
        piped.expect_code(7).expect_stdout("through").expect_stderr("err");
        world.cordon(&["session", "exec", &id, "--", "no-such-program"]).expect_code(127);
        end(world, running, &id);
        let programs: Vec<String> = world
            .records(&id)
            .iter()
            .filter(|record| record["resource"]["type"] == "program")
            .map(|record| format!("{} {}", record["action"], record["resource"]["id"]))
            .collect();
        let expected = [
            "\"session.start\" \"sh\"",
            "\"session.exec\" \"sh\"",
            "\"session.exec\" \"sh\"",
            "\"session.exec\" \"no-such-program\"",
        ];
        assert_eq!(programs, expected);
    }

    /// On a terminal it has one of the session's own.
    fn a_further_command_has_a_terminal_of_its_own(world) {
        let (running, id) = start(world, "exec sleep 600");
        let mut command = world.command();
        command.args(["session", "exec", &id, "--", "sh", "-c", "tty; read line; echo got $line"]);
        let mut terminal = Terminal::start(world, &command);
        terminal.expect("/dev/pts/");
        terminal.send("word\r");
        terminal.expect("got word");
        assert_eq!(terminal.finish(), 0);
        end(world, running, &id);
    }

    /// A further command is a decision of its own: what may start need not be run later.
    fn a_further_command_that_policy_refuses_does_not_run(world) {
        let (running, id) = start(world, "exec sleep 600");
        let rule = "forbid (principal, action == Action::\"exec\", resource)\n\
                    when { context.command == \"touch\" };\n";
        world.folder("strict");
        let policy = world.write("strict/rule.cedar", rule);
        end(world, running, &id);
        let strict = world
            .session(&["sh", "-c", "touch up2; exec sleep 600"])
            .policy(world.policy_folder())
            .policy(policy)
            .start();
        let up = world.project().join("up2");
        eventually("the session runs", || up.exists());
        let listed = world.cordon(&["session", "list", "--format", "json"]);
        let first: Value = serde_json::from_str(listed.text().lines().next().unwrap()).unwrap();
        let id = first["session"].as_str().unwrap().to_owned();
        world.cordon(&["session", "exec", &id, "--", "touch", "refused"])
            .expect_code(3)
            .expect_stderr("denied");
        assert!(!world.project().join("refused").exists());
        world.cordon(&["session", "exec", &id, "--", "sh", "-c", ": >allowed"]).expect_code(0);
        assert!(world.project().join("allowed").exists());
        let records = world.records(&id);
        let exec = |record: &&Value| record["action"] == "session.exec";
        let effects: Vec<_> = records.iter().filter(exec).map(|record| &record["effect"]).collect();
        assert_eq!(effects, ["deny", "allow"]);
        end(world, strict, &id);
        // The control: as the session's own command it is permitted.
        let strict = world.folder("strict").join("rule.cedar");
        world
            .session(&["touch", "started"])
            .policy(world.policy_folder())
            .policy(strict)
            .run()
            .expect_code(0);
    }

    /// The launcher killed: everything of the session goes, further commands too, and nothing is
    /// left once the next session starts.
    fn f18_nothing_outlives_a_killed_launcher(world) {
        let (running, id) = start(world, "sleep 600 & setsid sleep 600 & exec sleep 600");
        let mut command = world.command();
        command.args(["session", "exec", &id, "--", "sh", "-c", "touch further; exec sleep 600"]);
        let further = process::start(command, b"");
        let there = world.project().join("further");
        eventually("the further command runs", || there.exists());
        let description = description(world, &id);
        assert!(description.exists());
        let tree = process::tree(running.pid());
        assert!(tree.len() > 4, "{tree:?}");
        let held = show(world, &id)["limits"].to_string();
        assert_eq!(held.contains("control group"), !groups(&id).is_empty(), "{held}");
        running.signal(Signal::KILL);
        let run = running.finish();
        assert_eq!(run.code, 137);
        for pid in tree {
            assert!(process::gone(pid, process::DEADLINE), "{}", process::name(pid));
        }
        further.finish().expect_code(1);
        eventually("its description is gone", || !description.exists());
        eventually("its control groups are gone", || groups(&id).is_empty());
        world.session(&["true"]).run().expect_code(0);
        assert_eq!(recorded(world, &id, "session.end", "end"), ["launcher_lost"]);
    }

    /// `session.json` is the user's alone, follows the state, and goes with the session.
    fn a_session_is_described_for_tools(world) {
        let (running, id) = start(world, "exec sleep 600");
        let path = description(world, &id);
        let read = || -> Value { serde_json::from_slice(&fs::read(&path).unwrap()).unwrap() };
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read()["state"], "running");
        assert_eq!(read()["session"], id.as_str());
        steer(world, "pause", &id).expect_code(0);
        assert_eq!(read()["state"], "paused");
        steer(world, "resume", &id).expect_code(0);
        end(world, running, &id);
        assert!(!path.exists());
        assert!(!path.parent().unwrap().exists());
    }

    /// A session that is started for another one names it, where it starts and for tools.
    fn a_session_names_the_one_it_is_started_for(world) {
        let (running, id) = start(world, "exec sleep 600");
        let short = id.get(..id.len() - 1).unwrap();
        let for_it = world.session(&["sh", "-c", "touch inner; until [ -e over ]; do sleep 0.02; done"]);
        let inner = for_it.option("--parent", short).start();
        let project = world.project();
        eventually("the other runs", || project.join("inner").exists());
        let listed = world.cordon(&["session", "list", "--format", "json"]);
        let lines = listed.text();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let child = lines.iter().find(|line| line["parent"] == id.as_str()).unwrap();
        assert!(lines.iter().any(|line| line["session"] == id.as_str() && line["parent"].is_null()));
        let child = child["session"].as_str().unwrap();
        world.cordon(&["session", "show", child]).expect_code(0).expect_told(&id);
        let described = fs::read(description(world, child)).unwrap();
        let described: Value = serde_json::from_slice(&described).unwrap();
        assert_eq!(described["parent"], id.as_str());
        world.project_file("over", "");
        let outcome = inner.finish();
        outcome.expect_code(0);
        world.remember(&outcome);
        assert_eq!(recorded(world, child, "session.start", "parent"), [&*id]);
        assert_eq!(recorded(world, &id, "session.start", "parent"), [""]);
        end(world, running, &id);
        let nobody = world.session(&["true"]).option("--parent", &id).run();
        nobody.expect_code(1).expect_stderr("no running session");
    }

    /// A session above its memory is ended or its command is, and the node lives.
    fn f19_a_memory_bomb_ends_the_session(world) {
        let script = "x = []\nwhile True: x.append(bytearray(8 << 20))";
        let bomb = world.session(&["python3", "-c", script]).option("--memory", "200M").run();
        assert_ne!(bomb.code, 0, "{bomb}");
        let fits = "x = bytearray(100 << 20); print(len(x))";
        world
            .session(&["python3", "-c", fits])
            .option("--memory", "200M")
            .run()
            .expect_code(0);
        // Many small ones, and its files in memory, count together.
        let many = "import os, time\nfor _ in range(8):\n  if os.fork() == 0:\n    \
                    x = bytearray(60 << 20); time.sleep(600)\nos.wait(); os._exit(3)";
        let many = world.session(&["python3", "-c", many]).option("--memory", "200M").run();
        assert_ne!(many.code, 0, "{many}");
        // Memory that no process has to itself: open without being mapped, or mapped and shared.
        let open = "x = [os.memfd_create('x') for _ in range(50)]\nfor m in x: os.write(m, b'x' * (8 << 20))";
        let mapped = "x = [mmap.mmap(-1, 8 << 20) for _ in range(50)]\nfor m in x: m.write(b'x' * (8 << 20))";
        for shared in [open, mapped] {
            let script = format!("import mmap, os, time\n{shared}\ntime.sleep(600)");
            let begun = std::time::Instant::now();
            let session = world.session(&["python3", "-c", &script]).option("--memory", "200M");
            let run = session.option("--wall-time", "60s").run();
            assert!(run.code != 0 && begun.elapsed().as_secs() < 50, "{run}");
        }
    }

    /// More processes than allowed cannot be started, whoever asks; as many as allowed can.
    fn f19_a_fork_bomb_is_held(world) {
        let script = "import os, time\nn = 0\ntry:\n  while n < 500:\n    if os.fork() == 0: \
                      time.sleep(600)\n    n += 1\nexcept OSError: pass\nprint(n)";
        let count = |most: &str| -> u64 {
            let run = world.session(&["python3", "-c", script]).option("--processes", most).run();
            run.expect_code(0).text().trim().parse().unwrap()
        };
        let few = count("50");
        assert!((30..50).contains(&few), "{few}");
        assert_eq!(count("2000"), 500);
        // A shell's own: the session ends, and what runs beside it is untouched.
        let bomb = world
            .session(&["bash", "-c", "b() { b | b & }; b; sleep 0.5; exit 5"])
            .option("--processes", "60")
            .option("--wall-time", "20s")
            .run();
        assert_ne!(bomb.code, 64, "{bomb}");
        world.host("/bin/true", &[]).expect_code(0);
    }

    /// No file system of the session's own takes more than its size.
    fn f19_a_disk_fill_is_held(world) {
        let script = "for d in /tmp /dev/shm \"$HOME\" /var/tmp; do \
                      head -c 3000000 /dev/zero >$d/x && echo $d took it; rm -f $d/x; \
                      head -c 300000 /dev/zero >$d/x && echo $d fits; rm $d/x; done; :";
        let run = world.session(&["sh", "-c", script]).option("--tmp-size", "1M").run();
        run.expect_code(0);
        assert_eq!(run.text().matches("fits").count(), 4, "{run}");
        assert!(!run.text().contains("took it"), "{run}");
        // Where nobody says how much: 4 GiB, or an eighth of the machine's memory.
        let script = "stat -f -c '%S %b' /tmp; grep MemTotal: /proc/meminfo | tr -dc '0-9\\n'";
        let run = world.session(&["sh", "-c", script]).run();
        let text = run.expect_code(0).text();
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [block, blocks, memory_kib] = numbers[..] else { panic!("{run}") };
        let size = block * blocks;
        assert!(size <= (4 << 30) && size <= memory_kib * 1024 / 8 + block && size >= 1 << 20, "{run}");
        // In a grant, each file.
        let write = "head -c $1 /dev/zero >file";
        for (size, code) in [("2000000", 153), ("900000", 0)] {
            let command = ["sh", "-c", write, "sh", size];
            let run = world.session(&command).option("--file-size", "1M").run();
            assert_eq!(run.code, code, "{run}");
        }
    }

    /// Each process opens so many files and no more, and cannot raise that.
    fn f19_thousands_of_descriptors_are_held(world) {
        let script = "import os, resource\ntry:\n  resource.setrlimit(resource.RLIMIT_NOFILE, \
                      (9000, 9000)); print('raised')\nexcept (ValueError, OSError): pass\n\
                      n = 0\ntry:\n  while n < 5000:\n    os.open('/dev/null', 0); n += 1\n\
                      except OSError: pass\nprint(n)";
        let run = world.session(&["python3", "-c", script]).option("--open-files", "200").run();
        run.expect_code(0);
        assert!(!run.text().contains("raised"), "{run}");
        let opened: u64 = run.text().trim().parse().unwrap();
        assert!((150..200).contains(&opened), "{opened}");
        let run = world.session(&["python3", "-c", script]).option("--open-files", "9000").run();
        assert!(run.expect_code(0).text().contains("5000"), "{run}");
    }

    /// When its time is over a session is asked to end, and recorded as ended by a limit.
    fn f19_a_session_has_its_time_and_no_more(world) {
        let run = world.session(&["sleep", "600"]).option("--wall-time", "1s").run();
        run.expect_code(1).expect_stderr("time is over");
        let end = recorded(world, &run.session(), "session.end", "end");
        assert_eq!(end, ["over_limit"]);
        world.session(&["true"]).option("--wall-time", "60s").run().expect_code(0);
    }

    /// What `cordon.toml` names is a ceiling for flags, and what holds each limit is shown.
    fn f19_a_flag_does_not_raise_what_the_configuration_names(world) {
        world.config.push_str("[sandbox.limits]\nprocesses = 100\n");
        let command = ["sh", "-c", "exit 5"];
        world
            .session(&command)
            .option("--processes", "101")
            .run()
            .expect_code(1)
            .expect_stderr("sandbox.limits");
        world.session(&command).option("--processes", "99").run().expect_code(5);
        let (running, id) = start(world, "exec sleep 600");
        let limits = show(world, &id)["limits"].clone();
        let line = limits.as_array().unwrap().iter().find(|line| line["name"] == "processes");
        let line = line.unwrap();
        assert_eq!(line["value"], 100, "{line}");
        assert_ne!(line["by"], "nothing", "{line}");
        end(world, running, &id);
    }

    /// The record of the end and the summary say what was used.
    fn what_a_session_used_is_recorded(world) {
        let script = "x = bytearray(64 << 20)\nfor i in range(2000000): pass";
        let run = world.session(&["python3", "-c", script]).run();
        run.expect_code(0);
        let used = run.summary()["used"].clone();
        assert!(used["memory_bytes"].as_u64() > Some(60 << 20), "{used}");
        assert!(used["cpu_us"].as_u64() > Some(10_000), "{used}");
        let records = world.records(&run.session());
        let end = records.iter().find(|record| record["kind"] == "session.end");
        let recorded = &end.unwrap()["summary"]["used"];
        assert_eq!(recorded["cpu_us"], used["cpu_us"]);
    }

    /// The records of one session, and an end to following when it ends.
    fn logs_follow_a_session_to_its_end(world) {
        let (running, id) = start(world, "exec sleep 600");
        let mut command = world.command();
        command.args(["session", "logs", &id, "--follow", "--format", "json"]);
        let follower = process::start(command, b"");
        end(world, running, &id);
        let told = follower.finish();
        told.expect_code(0);
        let last: Value = serde_json::from_str(told.text().lines().last().unwrap()).unwrap();
        assert_eq!(last["kind"], "session.end", "{told}");
        let top = world.cordon(&["session", "top", "--once", "--format", "json"]);
        assert!(top.expect_code(0).text().is_empty(), "{top}");
    }
}

/// The control groups of a session, wherever they are.
fn groups(session: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut all = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = all.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                all.push(entry.path());
            }
        }
        if folder.ends_with(format!("cordon-{session}")) {
            found.push(folder);
        }
    }
    found
}

fn description(world: &World, session: &str) -> PathBuf {
    let sessions = world.state().join("sessions");
    sessions.join(session).join("session.json")
}
