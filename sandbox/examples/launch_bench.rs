//! How long a sandbox takes to start and end: the median of 20 runs of `true` in each way.
//!
//! `launch_bench [PATH-OF-walls]` (beside this program if not given).

use std::{
    env,
    error::Error,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

fn main() -> Result<(), Box<dyn Error>> {
    let beside = env::current_exe()?.with_file_name("walls");
    let walls = env::args_os().nth(1).map_or(beside, PathBuf::from);
    let bare = median(|| {
        let mut command = Command::new("/usr/bin/bwrap");
        command.args(["--unshare-all", "--ro-bind", "/", "/", "true"]);
        command
    })?;
    let whole = median(|| {
        let mut command = Command::new(&walls);
        command.args(["--", "true"]);
        command
    })?;
    println!("bwrap --unshare-all: {bare:.2?}");
    println!("with every wall:     {whole:.2?}");
    println!(
        "ratio:               {:.2}",
        whole.as_secs_f64() / bare.as_secs_f64()
    );
    Ok(())
}

fn median(command: impl Fn() -> Command) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        let status = command().stdin(Stdio::null()).status()?;
        times.push(start.elapsed());
        if !status.success() {
            return Err(format!("the run ended with {status}").into());
        }
    }
    times.sort();
    times.get(RUNS / 2).copied().ok_or_else(|| "no runs".into())
}

const RUNS: usize = 20;
