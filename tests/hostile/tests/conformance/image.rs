//! Containers of images.

use std::{path::Path, process::Command};

use cordon_tests::{Identity, World};

use super::rootfs::{end_podman, make_rootfs};

/// What a name means is asked once: that image runs, and is on record. The walls of a container are
/// tried like bubblewrap's.
#[test]
fn an_image_is_known_by_its_digest_and_its_walls_are_tried() {
    World::scenario(Identity::User, |world| {
        if !Path::new("/usr/bin/podman").exists() {
            panic!("podman is needed: apt install podman runc uidmap");
        }
        let rootfs = make_rootfs(world);
        let archive = world.write("image.tar", "");
        let tar = Command::new("tar")
            .arg("-C")
            .arg(&rootfs)
            .arg("-cf")
            .arg(&archive)
            .arg(".")
            .status();
        assert!(tar.expect("part of every system").success());
        world.give(&archive);
        let podman = |words: &[&str]| {
            let mut podman = world.as_account("/usr/bin/podman");
            let done = podman
                .args(["--cgroup-manager", "cgroupfs"])
                .args(words)
                .output();
            let done = done.expect("it is installed");
            assert!(done.status.success(), "{done:?}");
            String::from_utf8_lossy(&done.stdout).trim().to_owned()
        };
        podman(&["import", &archive.to_string_lossy(), "localhost/tools:1"]);
        let digest = podman(&[
            "image",
            "inspect",
            "--format",
            "{{.Id}}",
            "localhost/tools:1",
        ]);
        let run = |image: &str| {
            let session = world.session(&["/bin/sh", "-c", "echo ran"]);
            session
                .option("--backend", "container")
                .option("--image", image)
                .run()
        };
        let outcome = run("localhost/tools:1");
        outcome.expect_code(0).expect_stdout("ran");
        let records = world.records(&outcome.session());
        let start = records
            .iter()
            .find(|record| record["kind"] == "session.start");
        let start = start.expect("it is recorded");
        assert_eq!(
            start["facts"]["image"],
            format!("sha256:{digest}"),
            "{start}"
        );
        let absent = run("localhost/tools:2");
        absent.expect_code(1).expect_stderr("podman has no image");
        let walls = [
            "check",
            "boundary",
            "--format",
            "json",
            "--backend",
            "container",
        ];
        let of_image = ["--image", "localhost/tools:1"];
        let of_folder = ["--rootfs", &*rootfs.to_string_lossy()];
        for contents in [of_image, of_folder] {
            let checked = world.cordon(&[&walls[..], &contents].concat());
            checked.expect_code(0);
            let report: serde_json::Value =
                serde_json::from_str(checked.text().trim()).expect("a report");
            assert_eq!(report["passed"], true, "{checked}");
            assert_eq!(report["backend"], "container");
            let findings = report["findings"].as_array().expect("it has findings");
            assert!(findings.len() > 60, "every wall: {checked}");
        }
        podman(&["rmi", "localhost/tools:1"]);
        end_podman(world);
    });
}
