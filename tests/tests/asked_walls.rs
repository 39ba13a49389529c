//! Walls that policy or configuration asks for, on machines that cannot give them.

use std::process::Command;

use cordon_tests::{Outcome, World, bundle::Bundle, for_both, kernel::WITHOUT_LANDLOCK, process};

const ASKING: &str = "@id(\"behind-two-walls\") @walls(\"second-wall\")\n\
    permit (principal, action == Action::\"start_session\", resource);";

/// A session that makes a file, on a kernel without Landlock.
fn without_landlock(world: &World) -> Outcome {
    on_such_a_kernel(world, &world.session(&["touch", "ran"]).command())
}

fn on_such_a_kernel(world: &World, run: &Command) -> Outcome {
    let mut command = world.as_account("python3");
    let script =
        format!("{WITHOUT_LANDLOCK}\nimport os, sys\nos.execvp(sys.argv[1], sys.argv[1:])");
    command.current_dir(world.project()).arg("-c").arg(script);
    with_words(&mut command, run);
    process::finish(command, b"")
}

fn with_words(command: &mut Command, run: &Command) {
    command.arg(run.get_program()).args(run.get_args());
}

fn ran(world: &World) -> bool {
    world.project().join("ran").exists()
}

for_both! {
    /// F14, F15: a rule asks for a wall; where the machine lacks it nothing runs, and the refusal
    /// says which wall, why, and what to do.
    fn f14_a_wall_that_policy_asks_for_is_there_or_nothing_runs(world) {
        // The control: nobody asks, so a session starts without it.
        without_landlock(world).expect_code(0);
        assert!(ran(world));
        std::fs::remove_file(world.project().join("ran")).unwrap();

        world.policy.rule(ASKING);
        let refused = without_landlock(world);
        refused
            .expect_code(1)
            .expect_stderr("files are behind a second wall (`second-wall`)")
            .expect_stderr("no Landlock")
            .expect_stderr("CONFIG_SECURITY_LANDLOCK");
        assert!(!ran(world), "{refused}");

        // And where it is there, the session starts.
        world.session(&["touch", "ran"]).run().expect_code(0);
        assert!(ran(world));
    }

    /// The machine's configuration asks for it, whatever policy says.
    fn f14_a_wall_that_configuration_asks_for_is_there_or_nothing_runs(world) {
        world.config = "[sandbox]\nwalls = [\"second-wall\", \"no-delete\"]\n".into();
        let refused = without_landlock(world);
        refused.expect_code(1).expect_stderr("(`second-wall`)");
        assert!(!ran(world), "{refused}");
        world.session(&["touch", "ran"]).run().expect_code(0);
        assert!(ran(world));
    }

    /// What only observes lets a session start that no rule permits; the walls that its rules ask for
    /// stand all the same.
    fn n15_f14_observing_asks_for_the_walls_that_any_rule_asks_for(world) {
        let waits = format!("{} when {{ context has approval }};", ASKING.trim_end_matches(';'));
        let house = Bundle::house(1).head("[observe]\nuntil = 2099-01-01").only(&waits);
        let house = house.rule("permit (principal, action in Action::\"grant\", resource);").write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let run = world.session(&["touch", "ran"]).built_in_policy().command();
        let refused = on_such_a_kernel(world, &run);
        refused.expect_code(1).expect_stderr("(`second-wall`)");
        assert!(!ran(world), "{refused}");
        // The control: no rule asks.
        Bundle::house(2).head("[observe]\nuntil = 2099-01-01").write(world, "house");
        world.cordon(&["stop", "--force"]);
        on_such_a_kernel(world, &run).expect_code(0);
        assert!(ran(world));
    }

    /// A launcher that is told of Landlock is not believed: the first process looks itself.
    fn f15_the_first_process_looks_for_the_second_wall_itself(world) {
        world.policy.rule(ASKING);
        if !world.bubblewrap_through(&format!("{WITHOUT_LANDLOCK}\n{BECOME}")) {
            eprintln!("not run: only root can replace bubblewrap");
            return;
        }
        let refused = world.session(&["touch", "ran"]).run();
        refused.expect_code(1).expect_stderr("a second wall for files is asked for");
        assert!(!ran(world), "{refused}");
    }

    /// A wall that nobody knows is a mistake that is named, in policy and in configuration.
    fn f14_a_wall_that_is_not_known_is_an_error(world) {
        world.policy.rule(&ASKING.replace("second-wall", "moat"));
        let refused = world.session(&["touch", "ran"]).run();
        refused.expect_stderr("@walls").expect_stderr("second-wall");
        assert!(!ran(world), "{refused}");
    }
}

/// Becomes the real bubblewrap with the words as they came.
const BECOME: &str = "import os, sys\nos.execv(REAL, ['bwrap'] + sys.argv[1:])";
