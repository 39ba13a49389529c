//! Directories and archives: the same bundle either way.

use std::{os::unix::fs::symlink, process::Command};

use super::*;

#[test]
fn a_directory_and_its_archive_are_the_same_bundle() {
    let folder = directory(&[
        (
            "top.cedar",
            "@id(\"top\")\nforbid (principal, action, resource);\n",
        ),
        ("data/more.json", "{\"host_groups\": {\"more\": [\"@ok\"]}}"),
        ("tests/net.toml", "# a test\n"),
        ("README.md", "For people.\n"),
        (".hidden", "left out"),
        ("rules/net.cedar~", "left out"),
    ]);
    let bundle = Bundle::read_directory(folder.path()).unwrap();
    let packed = bundle.pack().unwrap();
    let unpacked = Bundle::read_archive(&packed, &Limits::default()).unwrap();
    assert_eq!(unpacked.digest(), bundle.digest());
    assert_eq!(unpacked.pack().unwrap(), packed, "deterministic");
    assert_eq!(unpacked.reference(), bundle.reference());
    let files = |bundle: &Bundle| {
        let texts = bundle.source().files.into_iter().map(|file| file.text);
        texts.collect::<Vec<_>>()
    };
    assert_eq!(files(&unpacked), files(&bundle));
    assert_eq!(files(&bundle).len(), 4);
    assert_eq!(bundle.tests().count(), 1);
    assert_eq!(snapshot(&bundle.source()).rules().len(), 2);
    assert_eq!(
        snapshot(&unpacked.source()).digest(),
        snapshot(&bundle.source()).digest()
    );
    let shown = unpacked.source().files[0].path.clone();
    assert_eq!(shown, Path::new("corp/data/hosts.toml"));
}

#[test]
fn the_digest_is_one_line_of_shell() {
    let folder = directory(&[("README.md", "For people.\n")]);
    let bundle = Bundle::read_directory(folder.path()).unwrap();
    let line = "find . -type f | cut -c3- | LC_ALL=C sort | xargs sha256sum | sha256sum";
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let shell = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shell.split(' ').next(), Some(bundle.digest()));
}

#[test]
fn every_file_but_the_signatures_counts_in_the_digest() {
    let digest = |files: &[(&str, &str)]| bundle(files).digest().to_owned();
    let plain = digest(&[]);
    assert_eq!(digest(&[("bundle.sig", "\n")]), plain);
    for changed in [
        ("README.md", ""),
        ("tests/a.toml", ""),
        ("data/hosts.toml", "[host_groups]\nok = []\n"),
        ("rules/net.cedar", ""),
        ("rules/more.cedar", RULES),
    ] {
        assert_ne!(digest(&[changed]), plain, "{changed:?}");
    }
}

#[test]
fn an_archive_of_a_tar_program_is_read() {
    let folder = directory(&[("tests/net.toml", "")]);
    let ours = Bundle::read_directory(folder.path()).unwrap();
    for format in ["--format=ustar", "--format=gnu"] {
        let output = Command::new("tar")
            .args([format, "-czf", "-", "-C"])
            .arg(folder.path())
            .arg(".")
            .output()
            .unwrap();
        let theirs = Bundle::read_archive(&output.stdout, &Limits::default()).unwrap();
        assert_eq!(theirs.digest(), ours.digest(), "{format}");
    }
    let file = folder.path().join("ours.tar.gz");
    fs::write(&file, ours.pack().unwrap()).unwrap();
    let listed = Command::new("tar").arg("-tzf").arg(&file).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        [
            "bundle.toml",
            "data/hosts.toml",
            "rules/net.cedar",
            "tests/net.toml"
        ]
    );
}

#[test]
fn json_data_means_what_toml_data_means() {
    let toml = bundle(&[]);
    let folder = directory(&[(
        "data/hosts.json",
        "{\"host_groups\": {\"ok\": [\"a.example.com\"]}}",
    )]);
    fs::remove_file(folder.path().join("data/hosts.toml")).unwrap();
    let json = Bundle::read_directory(folder.path()).unwrap();
    let host = "a.example.com".parse().unwrap();
    for bundle in [&toml, &json] {
        let groups = snapshot(&bundle.source()).host_groups_of(&host);
        assert_eq!(groups.len(), 1, "{groups:?}");
    }
    let broken = bundle_with_json("{\"host_groups\": {\n\"ok\": [\"a b\"]}}");
    assert!(broken.contains("hosts.json` line 2"), "{broken}");
    let broken = bundle_with_json("{\"host_groups\":\n{\"x\": [], \"x\": []}}");
    assert!(
        broken.contains("twice") && broken.contains("line 2"),
        "{broken}"
    );
}

fn bundle_with_json(text: &str) -> String {
    let source = bundle(&[("data/hosts.json", text)]).source();
    crate::Snapshot::load(&source).unwrap_err().to_string()
}

#[test]
fn policy_source_reads_bundles() {
    let folder = directory(&[]);
    let bundle = Bundle::read_directory(folder.path()).unwrap();
    let archive = folder.path().join("corp.tar.gz");
    fs::write(&archive, bundle.pack().unwrap()).unwrap();
    let alone = PolicySource::read(&[&archive]).unwrap();
    assert_eq!(alone.revision, Some(7));
    assert_eq!(alone.bundles, [bundle.reference()]);
    assert_eq!(alone.files[0].layer, crate::Layer::Organisation);
    let rules = folder.path().join("own.cedar");
    fs::write(&rules, "permit (principal, action, resource);").unwrap();
    let among = PolicySource::read(&[&archive, &rules]).unwrap();
    assert_eq!((among.revision, among.bundles.len()), (None, 0));
    assert!(among.files.iter().all(|f| f.layer == crate::Layer::User));
}

#[test]
fn what_has_no_place_in_a_directory_is_refused() {
    for path in [
        "hosts.toml",
        "data/a/hosts.toml",
        "ruels/net.cedar",
        "rules/net.ceder",
        "Makefile",
    ] {
        let folder = directory(&[(path, "")]);
        assert!(refusal(folder.path()).contains("no place"), "{path}");
        fs::remove_file(folder.path().join(path)).unwrap();
        let _keep_data = fs::remove_dir(folder.path().join(path).parent().unwrap());
        Bundle::read_directory(folder.path()).unwrap();
    }
}

#[test]
fn a_directory_is_not_left_by_links_and_does_not_block() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.cedar"), RULES).unwrap();
    let folder = directory(&[]);
    let link = folder.path().join("x.cedar");
    symlink(outside.path().join("x.cedar"), &link).unwrap();
    assert!(refusal(folder.path()).contains("symlink"));
    fs::remove_file(&link).unwrap();
    let tests = folder.path().join("tests");
    symlink(outside.path(), &tests).unwrap();
    assert!(refusal(folder.path()).contains("symlink"));
    fs::remove_file(&tests).unwrap();
    let made = Command::new("mkfifo").arg(&link).status().unwrap();
    assert!(made.success());
    assert!(refusal(folder.path()).contains("not a regular file"));
    fs::remove_file(&link).unwrap();
    // The positive control, through a link that the caller named.
    let named = outside.path().join("named");
    symlink(folder.path(), &named).unwrap();
    Bundle::read(&named).unwrap();
}

#[test]
fn text_that_is_not_utf8_and_odd_names_are_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = directory(&[]);
    let bad = folder.path().join("bad.cedar");
    fs::write(&bad, b"\xff").unwrap();
    assert!(refusal(folder.path()).contains("`bad.cedar` is not UTF-8 text"));
    fs::remove_file(bad).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"b\xffd.cedar");
    fs::write(folder.path().join(name), RULES).unwrap();
    assert!(refusal(folder.path()).contains("not UTF-8"));
    fs::remove_file(folder.path().join(name)).unwrap();
    fs::write(folder.path().join("RULES.cedar"), "").unwrap();
    fs::write(folder.path().join("rules.cedar"), "").unwrap();
    assert!(refusal(folder.path()).contains("another case"));
}
