//! Reading policy sets.

use std::os::unix::fs::symlink;

use super::*;

const RULE: &str = "permit (principal, action, resource);\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.cedar"), RULE).unwrap();
    fs::write(folder.path().join("a.cedar"), RULE).unwrap();
    fs::write(folder.path().join("hosts.toml"), "").unwrap();
    fs::write(folder.path().join("README.md"), "not read").unwrap();
    fs::create_dir(folder.path().join("tests")).unwrap();
    fs::write(folder.path().join("tests/t.toml"), "not read").unwrap();
    fs::write(folder.path().join(".hidden.cedar"), "not read").unwrap();
    folder
}

fn names(source: &PolicySource) -> Vec<&str> {
    source
        .files
        .iter()
        .map(|file| file.path.file_name().unwrap().to_str().unwrap())
        .collect()
}

#[test]
fn a_directory_is_read_in_the_order_of_names() {
    let folder = folder();
    let source = PolicySource::read(&[folder.path()]).unwrap();
    assert_eq!(names(&source), ["a.cedar", "b.cedar", "hosts.toml"]);
    let file = folder.path().join("b.cedar");
    let source = PolicySource::read(&[&file]).unwrap();
    assert_eq!(names(&source), ["b.cedar"]);
    assert_eq!(source.name, file.display().to_string());
}

#[test]
fn a_file_named_twice_is_read_once() {
    let folder = folder();
    let file = folder.path().join("b.cedar");
    let source = PolicySource::read(&[&file, folder.path()]).unwrap();
    assert_eq!(names(&source), ["b.cedar", "a.cedar", "hosts.toml"]);
}

#[test]
fn what_is_no_policy_is_refused() {
    let folder = folder();
    let refused = |path: &Path| PolicySource::read(&[path]).unwrap_err().to_string();
    assert!(refused(&folder.path().join("none.cedar")).contains("No such file"));
    assert!(refused(&folder.path().join("README.md")).contains("neither"));
    assert!(refused(&folder.path().join("hosts.toml")).contains("no `.cedar` file"));
    assert!(refused(Path::new("/dev/null")).contains("neither"));
    fs::write(folder.path().join("bad.cedar"), b"\xff").unwrap();
    assert!(refused(folder.path()).contains("not UTF-8"));
}

#[test]
fn links_and_pipes_in_a_directory_are_refused_and_a_named_link_is_followed() {
    let folder = folder();
    let other = tempfile::tempdir().unwrap();
    let link = other.path().join("link.cedar");
    symlink(folder.path().join("a.cedar"), &link).unwrap();
    assert!(PolicySource::read(&[&link]).is_ok());
    let refused = PolicySource::read(&[other.path()]).unwrap_err().to_string();
    assert!(refused.contains("not a regular file"), "{refused}");

    let pipe = other.path().join("device.cedar");
    symlink("/dev/zero", &pipe).unwrap();
    let refused = PolicySource::read(&[&pipe]).unwrap_err().to_string();
    assert!(refused.contains("not a regular file"), "{refused}");
}

#[test]
fn rules_in_a_folder_below_are_not_left_out_silently() {
    let folder = folder();
    let below = folder.path().join("tests/t.cedar");
    fs::write(&below, RULE).unwrap();
    let refused = PolicySource::read(&[folder.path()])
        .unwrap_err()
        .to_string();
    assert!(refused.contains("t.cedar"), "{refused}");
    fs::remove_file(&below).unwrap();
    assert!(PolicySource::read(&[folder.path()]).is_ok());
}

#[test]
fn sizes_are_bounded() {
    let folder = folder();
    let big = folder.path().join("big.cedar");
    File::create(&big).unwrap().set_len(10 << 30).unwrap();
    let refused = PolicySource::read(&[folder.path()])
        .unwrap_err()
        .to_string();
    assert!(refused.contains("bytes in a file"), "{refused}");
    fs::remove_file(&big).unwrap();
    assert!(PolicySource::read(&[folder.path()]).is_ok());
}

#[test]
fn an_error_counts_the_others() {
    let source = PolicySource::new(
        "t",
        vec![PolicyFile::new(
            "t.cedar",
            "permit (principal, action, resource == Host::\"A.com\");\n".repeat(3),
        )],
    );
    let error = crate::Snapshot::load(&source).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("policy not loaded: `t.cedar` line 1: "),
        "{error}"
    );
    assert!(
        error.to_string().ends_with("(and 2 more errors)"),
        "{error}"
    );
    assert!(error.help.as_deref().unwrap().contains("a.com"));
    assert_eq!(error.findings.len(), 3);
}
