//! Files: what is sealed, what is granted, what may not vanish.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use super::{Finding, OLD, ORDERS, Orders, READ, WORK};

pub(super) fn findings(home: &Path, orders: &Orders) -> Vec<Finding> {
    let work = home.join("mnt").join(WORK);
    let read = home.join("mnt").join(READ);
    let mut found = sealed(&work, orders);
    found.extend(read_only(&read));
    found.extend(no_delete(&work));
    found
}

fn sealed(work: &Path, orders: &Orders) -> Vec<Finding> {
    let wall = "host files";
    let mut found: Vec<Finding> = orders
        .sealed
        .iter()
        .map(|path| {
            let attempt = format!("open {}", path.display());
            Finding::refused(wall, &attempt, File::open(path))
        })
        .collect();
    found.push(Finding::works(
        wall,
        "read a file of a granted folder",
        fs::read(work.join(ORDERS)).map(|bytes| format!("{} bytes", bytes.len())),
    ));
    found
}

fn read_only(read: &Path) -> Vec<Finding> {
    let wall = "read-only";
    let mut found: Vec<Finding> = ["/", "/usr", "/usr/bin", "/etc", "/dev", "/proc/sys/kernel"]
        .iter()
        .map(|folder| {
            let at = Path::new(folder).join("cordon-probe");
            Finding::refused(wall, &format!("make a file in {folder}"), File::create(at))
        })
        .collect();
    found.push(Finding::refused(
        wall,
        "write to a kernel setting",
        OpenOptions::new()
            .write(true)
            .open("/proc/sys/kernel/core_pattern"),
    ));
    found.push(Finding::refused(
        wall,
        "write into a folder granted `ro`",
        File::create(read.join("made")),
    ));
    found.push(Finding::works(
        wall,
        "read from a folder granted `ro`",
        fs::read_to_string(read.join(OLD)).map(|_text| "read".into()),
    ));
    found.push(Finding::works(
        wall,
        "write to /tmp",
        fs::write("/tmp/cordon-probe", "x").map(|()| "written".into()),
    ));
    found
}

fn no_delete(work: &Path) -> Vec<Finding> {
    let wall = "no delete";
    let (old, own, other) = (work.join(OLD), work.join("own"), work.join("other"));
    let by_descriptor = || -> io::Result<()> {
        let folder = File::open(work)?;
        let flags = rustix::fs::AtFlags::empty();
        Ok(rustix::fs::unlinkat(&folder, OLD, flags)?)
    };
    vec![
        Finding::works(
            wall,
            "make a file in a folder granted `rw`",
            File::create(&own)
                .and_then(|mut file| file.write_all(b"x"))
                .map(|()| "made".into()),
        ),
        Finding::works(
            wall,
            "remove a file that the session made",
            fs::remove_file(&own).map(|()| "removed".into()),
        ),
        Finding::refused(wall, "remove a file that was there", fs::remove_file(&old)),
        Finding::refused(wall, "the same by a descriptor", by_descriptor()),
        Finding::refused(
            wall,
            "rename it, then remove it",
            moved_and_removed(&old, &other),
        ),
        // The kernel's wall, whatever else holds: no name moves from one mount to another.
        Finding::refused(
            wall,
            "move it to another mount",
            fs::rename(&old, "/tmp/old"),
        ),
    ]
}

fn moved_and_removed(old: &Path, other: &Path) -> io::Result<()> {
    fs::rename(old, other)?;
    fs::remove_file(other).inspect_err(|_stays| {
        // For the next attempt, and for who looks afterwards.
        let _back = fs::rename(other, old);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_holds_a_file_the_attempt_to_move_and_remove_it_works() {
        let folder = tempfile::tempdir().unwrap();
        let (old, other) = (folder.path().join("old"), folder.path().join("other"));
        fs::write(&old, "x").unwrap();
        moved_and_removed(&old, &other).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // What stays is where it was.
        fs::create_dir(&old).unwrap();
        assert!(moved_and_removed(&old, &other).is_err());
        assert!(old.exists() && !other.exists());
    }
}
