//! Interactive programs in a session behave as in a plain terminal.

use std::{fs, process::Command};

use cordon_tests::{Terminal, World, for_both, process::eventually};
use rustix::process::{Signal, kill_process};

/// A session on a terminal, without a summary.
#[track_caller]
fn on_terminal(world: &World, command: &[&str]) -> Terminal {
    Terminal::start(world, &quiet(world, command))
}

fn quiet(world: &World, command: &[&str]) -> Command {
    let mut plain = world.command();
    plain
        .args(["run", "--quiet", "--policy"])
        .arg(world.policy_folder());
    plain.arg("--").args(command);
    plain
}

for_both! {
    fn the_command_has_a_terminal_and_its_size(world) {
        let mut terminal = on_terminal(
            world,
            &[
                "sh",
                "-c",
                "test -t 0 && test -t 1 && test -t 2 && tty && stty size",
            ],
        );
        terminal.expect("/dev/pts/");
        terminal.expect("24 80");
        assert_eq!(terminal.finish(), 0);
        assert!(terminal.is_cooked());
    }

    fn a_resize_reaches_the_command(world) {
        let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
        let mut terminal = on_terminal(world, &["sh", "-c", script]);
        terminal.expect("ready");
        terminal.resize(132, 50);
        terminal.expect("50 132");
        terminal.resize(40, 10);
        terminal.expect("10 40");
        terminal.send("\x03");
        assert_eq!(terminal.finish(), 130);
    }

    /// Ctrl-C ends the command as the line discipline does it, and gives the terminal back.
    fn ctrl_c_interrupts_the_command(world) {
        let mut terminal = on_terminal(world, &["sh", "-c", "echo ready; exec sleep 1000"]);
        terminal.expect("ready");
        terminal.send("\x03");
        assert_eq!(terminal.finish(), 130);
        assert!(terminal.is_cooked());
    }

    fn ctrl_c_can_be_handled_and_ctrl_backslash_quits(world) {
        let script = "trap 'echo caught' INT; echo ready; while :; do sleep 0.05; done";
        let mut terminal = on_terminal(world, &["sh", "-c", script]);
        terminal.expect("ready");
        terminal.send("\x03");
        terminal.expect("caught");
        terminal.send("\x1c");
        assert_eq!(terminal.finish(), 131);
        assert!(terminal.is_cooked());
    }

    /// Ctrl-D on an empty line is the end of input.
    fn typed_lines_and_the_end_of_input_arrive(world) {
        let mut terminal = on_terminal(world, &["sh", "-c", "echo ready; cat; echo over"]);
        terminal.expect("ready");
        terminal.send("hello\r");
        terminal.expect("hello");
        terminal.expect("hello");
        terminal.send("\x04");
        terminal.expect("over");
        assert_eq!(terminal.finish(), 0);
    }

    fn exit_codes_pass_through_the_terminal(world) {
        for (script, code) in [("exit 0", 0), ("exit 42", 42), ("kill -KILL $$", 137)] {
            assert_eq!(
                on_terminal(world, &["sh", "-c", script]).finish(),
                code,
                "{script}"
            );
        }
    }

    /// An editor takes the whole screen, and what it wrote is in the folder.
    fn vim_edits_a_file(world) {
        world.project_file("text", "one\n");
        let mut terminal = on_terminal(world, &["vim", "-u", "NONE", "-i", "NONE", "text"]);
        terminal.expect("one");
        terminal.send("otwo\x1b:wq\r");
        assert_eq!(terminal.finish(), 0);
        assert_eq!(
            fs::read_to_string(world.project().join("text")).unwrap(),
            "one\ntwo\n"
        );
        assert!(terminal.is_cooked());
    }

    fn less_pages_and_quits(world) {
        let lines: String = (1..=200).map(|n| format!("line {n}\n")).collect();
        world.project_file("text", lines);
        let mut terminal = on_terminal(world, &["less", "text"]);
        terminal.expect("line 20");
        terminal.send("G");
        terminal.expect("line 200");
        terminal.send("q");
        assert_eq!(terminal.finish(), 0);
    }

    /// From an interactive shell: stop with Ctrl-Z, see the shell, come back with `fg`.
    fn job_control_stops_and_continues_the_session(world) {
        let session = quiet(world, &["sh", "-c", "echo begun; cat; echo over"]);
        let words: Vec<String> = std::iter::once(session.get_program())
            .chain(session.get_args())
            .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''")))
            .collect();
        let mut shell = Command::new("bash");
        shell
            .args(["--norc", "--noprofile", "-i"])
            .current_dir(world.project());
        let mut terminal = Terminal::start(world, &shell);
        terminal.send("PS1='$ '\r");
        terminal.send(&format!("{}\r", words.join(" ")));
        terminal.expect("begun\r\n");
        // Once cat answers. Sooner, the stop can hit the shell's child between vfork and exec, and
        // then the kernel lets the shell itself not stop, on any terminal.
        terminal.send("here\r");
        terminal.expect("here");
        terminal.expect("here");
        terminal.send("\x1a");
        terminal.expect("Stopped");
        terminal.send("echo in the she''ll\r");
        terminal.expect("in the shell");
        terminal.send("fg\r");
        terminal.expect("cordon");
        terminal.send("again\r");
        // The shell's terminal may echo once before the session has it back; what is shown twice
        // has been through the session's own. Sooner, the end of input would be the shell's.
        terminal.expect("again");
        terminal.expect("again");
        terminal.send("\x04");
        terminal.expect("over\r\n");
        terminal.expect("$ ");
        terminal.send("exit 3\r");
        assert_eq!(terminal.finish(), 3);
    }

    /// Whatever ends the launcher but SIGKILL, the terminal is as it was.
    fn the_terminal_is_given_back_when_the_launcher_is_told_to_end(world) {
        let mut terminal = on_terminal(world, &["sh", "-c", "echo ready; exec sleep 1000"]);
        terminal.expect("ready");
        let launcher = cordon_tests::process::tree(terminal.pid())
            .into_iter()
            .find(|pid| cordon_tests::process::name(*pid).starts_with("cordon"))
            .unwrap();
        eventually("the terminal is the launcher's", || !terminal.is_cooked());
        kill_process(launcher, Signal::TERM).unwrap();
        assert_eq!(terminal.finish(), 143);
        assert!(terminal.is_cooked());
    }
}
