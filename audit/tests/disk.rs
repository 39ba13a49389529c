//! Disks that fail: a power cut, a full one, and each write and sync failing in turn.
//!
//! The power cut and the full disk need root and loop devices, the failing calls need `strace`;
//! without them a test says so and passes. `CORDON_POWER_ROUNDS` (default 4) and
//! `CORDON_FAULT_CALLS` (default 6, of each kind) set how much is done.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    collections::HashSet,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use common::{COUNT, DIRECTORY, Random, check, is_id, options, recorder, refusal, rounds};
use cordon_audit::{Kind, Log, Recorded, read::Reader, verify::verify};

/// Does nothing unless started by a test.
#[test]
fn the_process_that_records() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        common::record(Path::new(&directory));
    }
}

#[test]
fn a02_every_acknowledged_record_survives_a_power_cut() {
    let place = tempfile::tempdir().unwrap();
    let mut random = Random::new();
    for round in 0..rounds("CORDON_POWER_ROUNDS", 4) {
        let Some(disk) = Disk::ext4(place.path()) else {
            return;
        };
        let log = disk.mount.join("log");
        let mut acknowledged = HashSet::new();
        if round % 2 == 1 {
            let mut child = recorder(&[], &log).env(COUNT, "40").spawn().unwrap();
            let out = BufReader::new(child.stdout.take().unwrap());
            acknowledged.extend(out.lines().map(Result::unwrap).filter(|line| is_id(line)));
            child.wait().unwrap();
            assert_eq!(acknowledged.len(), 320);
        }
        let patience = 1 + random.below(400);
        let mut child = recorder(&[], &log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ids = lines
            .by_ref()
            .map(Result::unwrap)
            .filter(|line| is_id(line));
        // Only what was acknowledged before the power goes counts.
        acknowledged.extend(ids.take(usize::try_from(patience).unwrap()));
        disk.cut_power();
        child.kill().unwrap();
        child.wait().unwrap();
        disk.mount_again();
        check(&log, &acknowledged, &format!("round {round}"));
    }
}

#[test]
fn a03_on_a_full_disk_everything_is_refused_until_there_is_space() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::memory(place.path()) else {
        return;
    };
    let filler = disk.mount.join("filler");
    fs::write(&filler, vec![0; 2 << 20]).unwrap();
    let directory = disk.mount.join("log");
    let log = Log::open(&directory, options()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut acknowledged = HashSet::new();
    let mut record = || match runtime.block_on(log.record(refusal(&"x".repeat(900)))) {
        Ok(Recorded::Deny(denied)) => {
            acknowledged.insert(denied.id().to_string());
            true
        }
        _ => false,
    };
    let begun = Instant::now();
    while record() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never full");
    }
    assert!(!record(), "still full");
    assert!(log.healthy().is_err());
    fs::remove_file(filler).unwrap();
    let begun = Instant::now();
    while log.healthy().is_err() || !record() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never healed");
        std::thread::yield_now();
    }
    log.close();
    let gaps = Reader::open(&directory).unwrap().records(0);
    let gaps: Vec<_> = gaps
        .map(Result::unwrap)
        .filter(|r| r.kind == Kind::LogGap)
        .collect();
    assert!(gaps.iter().any(|gap| gap.lost > Some(0)), "{gaps:?}");
    check(&directory, &acknowledged, "full disk");
}

#[test]
fn a03_each_failing_write_and_sync_refuses_and_heals() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: `strace` is not installed");
        return;
    }
    let calls = [
        ("pwrite64", "ENOSPC"),
        ("fdatasync", "EIO"),
        ("fsync", "EIO"),
        ("syncfs", "EIO"),
        ("rename", "EIO"),
        ("write", "ENOSPC"),
        ("mkdir", "ENOSPC"),
        ("unlink", "EIO"),
        ("openat", "EIO"),
    ];
    let mut refusals = 0;
    for (call, error) in calls {
        for nth in 1..=rounds("CORDON_FAULT_CALLS", 6) {
            let what = format!("{call} {nth}");
            let place = tempfile::tempdir().unwrap();
            let log = place.path().join("log");
            // A log with something in it, so that opening it is broken as well.
            drop(Log::open(&log, options()).unwrap());
            let inject = format!("inject={call}:error={error}:when={nth}");
            // Its standard output is not the log: what fails is below the log's directory alone.
            let path = log.to_str().unwrap().to_owned();
            let strace = [
                "strace",
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-P",
                &path,
                "-e",
                &inject,
            ];
            let paths = below(&log);
            let mut before: Vec<&str> = strace.to_vec();
            for path in &paths {
                before.extend(["-P", path]);
            }
            let mut child = recorder(&before, &log).env(COUNT, "12").spawn().unwrap();
            let out = BufReader::new(child.stdout.take().unwrap());
            let lines: Vec<String> = out.lines().map(Result::unwrap).collect();
            child.wait().unwrap();
            refusals += lines.iter().filter(|line| *line == "refused").count();
            let ended = |line: &String| line == "closed" || line == "not opened";
            assert!(lines.iter().any(ended), "{what}: {lines:?}");
            let acknowledged = lines.into_iter().filter(|line| is_id(line)).collect();
            check(&log, &acknowledged, &what);
        }
    }
    assert!(
        refusals > 0,
        "nothing was ever refused: the faults did not reach it"
    );
}

/// The index is a short cut: whatever becomes of it, everything is recorded, signed and sealed.
#[test]
fn a03_an_index_that_cannot_be_written_takes_nothing_with_it() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: `strace` is not installed");
        return;
    }
    // A sync alone is the worst: where a write has failed, sled does not panic at its end.
    for calls in ["fsync", "pwrite64,fsync,fdatasync,sync_file_range"] {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("log");
        let trace = place.path().join("trace");
        let inject = format!("inject={calls}:error=EIO:when=1+");
        let paths: Vec<String> = [0, 64, 128]
            .map(|first| log.join(format!("index-{first:020}/db")))
            .map(|path| path.to_str().unwrap().to_owned())
            .into();
        let mut before = vec!["strace", "-f", "-qq", "-o", trace.to_str().unwrap()];
        before.extend(["-e", &inject]);
        for path in &paths {
            before.extend(["-P", path]);
        }
        let output = recorder(&before, &log).env(COUNT, "12").output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let ids = lines.lines().filter(|line| is_id(line)).map(str::to_owned);
        let acknowledged: HashSet<String> = ids.collect();
        assert_eq!(acknowledged.len(), 8 * 12, "{calls}: {lines}");
        assert!(lines.contains("closed"), "{calls}: {lines}");
        let injected = fs::read_to_string(&trace).unwrap();
        assert!(injected.contains("(INJECTED)"), "{calls}: nothing failed");
        let report = verify(&log).unwrap();
        assert!(report.is_clean(), "{calls}: {report:?}");
        let signed = report.checkpoint_size;
        assert_eq!(signed, Some(report.records), "{calls}: signed to its end");
        assert_eq!(report.sealed, report.records, "{calls}: sealed to its end");
        check(&log, &acknowledged, calls);
    }
}

/// Files that the log will work on, by name.
fn below(log: &Path) -> Vec<String> {
    let mut paths = vec![
        "checkpoint".to_owned(),
        "checkpoint.tmp".into(),
        "segments/0.json.tmp".into(),
        "tile/entries/000.p/64.tmp".into(),
        "tile/0/000.p/64.tmp".into(),
    ];
    paths.extend([0, 64, 128].map(|first| format!("journal-{first:020}.log")));
    paths.extend([64, 128].map(|first| format!("journal-{first:020}.log.tmp")));
    paths
        .iter()
        .map(|path| log.join(path).to_str().unwrap().to_owned())
        .collect()
}

/// A file system of its own, gone with it.
struct Disk {
    mount: PathBuf,
    image: Option<PathBuf>,
}

impl Disk {
    fn ext4(place: &Path) -> Option<Self> {
        let image = place.join("disk.img");
        fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
        let made = run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
        let disk = Self::mounted(
            place,
            &["-o", "loop", image.to_str().unwrap()],
            Some(&image),
        );
        disk.filter(|_| made)
    }

    fn memory(place: &Path) -> Option<Self> {
        Self::mounted(place, &["-t", "tmpfs", "-o", "size=8m", "tmpfs"], None)
    }

    fn mounted(place: &Path, options: &[&str], image: Option<&Path>) -> Option<Self> {
        let mount = place.join("disk");
        fs::create_dir_all(&mount).unwrap();
        let mut arguments = options.to_vec();
        arguments.push(mount.to_str().unwrap());
        if !run("mount", &arguments) {
            eprintln!("skipped: file systems cannot be mounted here (needs root and loop devices)");
            return None;
        }
        Some(Self {
            mount,
            image: image.map(Path::to_owned),
        })
    }

    /// EXT4_IOC_SHUTDOWN without a flush of the file system's journal: all that is not on the
    /// device is lost.
    fn cut_power(&self) {
        let program = "import fcntl,os,struct,sys\n\
             fd = os.open(sys.argv[1], os.O_RDONLY)\n\
             fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))";
        let cut = run("python3", &["-c", program, self.mount.to_str().unwrap()]);
        assert!(cut, "the power was not cut");
    }

    fn mount_again(&self) {
        let mount = self.mount.to_str().unwrap();
        assert!(run("umount", &[mount]), "something still uses the disk");
        let image = self.image.as_ref().unwrap();
        let options = ["-o", "loop", image.to_str().unwrap(), mount];
        assert!(run("mount", &options), "it cannot be mounted again");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", self.mount.to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let ended = Command::new(program).args(arguments).output();
    ended.is_ok_and(|ended| ended.status.success())
}
