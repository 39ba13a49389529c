//! Looks for what a world left behind: processes, mounts, sockets, folders.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

/// Processes whose environment, command line or working directory names one of `marks`.
///
/// The marks are a world's folder, which every process outside the walls has in its environment,
/// and the ids of its sessions, which every process inside has (home is `/sessions/<id>`).
pub fn processes(marks: &[String]) -> Vec<Pid> {
    let own = std::process::id();
    let Ok(proc) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    proc.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| u32::try_from(*pid) != Ok(own))
        .filter(|pid| marks.iter().any(|mark| mentions(*pid, mark)))
        .filter_map(Pid::from_raw)
        .collect()
}

/// Ends processes that a failed scenario left, so that the next one starts clean.
pub fn end(marks: &[String]) {
    for pid in processes(marks) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// One process in words, for a message.
pub fn describe(pid: Pid) -> String {
    let raw = pid.as_raw_nonzero();
    let line = fs::read(format!("/proc/{raw}/cmdline")).unwrap_or_default();
    let line: Vec<u8> = line
        .into_iter()
        .map(|b| if b == 0 { b' ' } else { b })
        .collect();
    format!("{raw} {}", String::from_utf8_lossy(&line))
}

/// Lines of this process's mount table that name one of `marks`.
pub fn mounts(marks: &[String]) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter(|line| marks.iter().any(|mark| line.contains(mark.as_str())))
        .map(str::to_owned)
        .collect()
}

/// Everything below a folder, by path; nothing when the folder is not there.
pub fn contents(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(contents(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

fn mentions(pid: i32, mark: &str) -> bool {
    let reads = ["environ", "cmdline"]
        .iter()
        .filter_map(|file| fs::read(format!("/proc/{pid}/{file}")).ok());
    let mut texts: Vec<Vec<u8>> = reads.collect();
    if let Ok(cwd) = fs::read_link(format!("/proc/{pid}/cwd")) {
        texts.push(cwd.as_os_str().as_encoded_bytes().to_vec());
    }
    texts
        .iter()
        .any(|text| text.windows(mark.len()).any(|part| part == mark.as_bytes()))
}

/// Whether a file below `folder` has `text` in it.
pub fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            let path = entry.path();
            if path.is_dir() {
                return holds(&path, text);
            }
            let bytes = fs::read(&path).unwrap_or_default();
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        })
}
