//! Tries the ways out of a session and reports each: one line `NAME OUTCOME DETAIL`, where OUTCOME
//! is `allowed`, `refused` (with the error) or `killed` (with the signal).
//!
//! `hostile [--scan] [--abstract NAME] [--socket PATH] [--stream PATH] [--uptime SECONDS] [PREFIX]`: the rows whose name starts with
//! PREFIX; `--scan` tries every system call number too, which it does behind a filter only.
//!
//! Every attempt runs in a child of its own, for at most 2 s, and is harmless where it succeeds: it
//! unshares before it mounts, traces only itself, and reads only what it may. So the same program,
//! run outside by root, is the control that shows that the attempts are real. It never uses what it
//! wins.

#![expect(unsafe_code, reason = "the attempts are raw system calls")]

mod call;
mod files;
mod rows;
mod scan;

use std::{env, io::Write as _, process::ExitCode};

use call::{Outcome, attempt};

fn main() -> ExitCode {
    let mut told = rows::Told::default();
    let (mut scan, mut prefix) = (false, String::new());
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match &*word {
            "--scan" => scan = true,
            "--abstract" => told.abstract_name = words.next().unwrap_or_default(),
            "--socket" => told.socket = words.next().unwrap_or_default(),
            "--stream" => told.stream = words.next().unwrap_or_default(),
            "--uptime" => {
                let seconds = words.next().and_then(|word| word.parse().ok());
                told.uptime = seconds.unwrap_or(u64::MAX);
            }
            _ => prefix = word,
        }
    }
    // A killed attempt leaves no core file in a granted folder.
    call::no_core_files();
    for (name, row) in rows::ROWS {
        if name.starts_with(&prefix) {
            report(name, &attempt(|| row(&told)));
        }
    }
    if scan {
        match scan::scan() {
            Ok(lines) => lines.iter().for_each(|line| println!("{line}")),
            Err(why) => {
                eprintln!("error: not scanned: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn report(name: &str, outcome: &Outcome) {
    println!("{name} {outcome}");
    // The next attempt's child must not have it in its buffer.
    let _reader_gone = std::io::stdout().flush();
}
