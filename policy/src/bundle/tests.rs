//! Bundles, by what reading, packing, signing and joining them promises.

mod layers;
mod manifest;
mod reading;
mod trust;

use std::{fs, path::Path};

use super::*;

const MANIFEST: &str = "name = \"corp\"\nrevision = 7\nschema = 1\nlayer = \"organisation\"\n";
const RULES: &str = "@id(\"net\")\npermit (principal, action == Action::\"connect\", \
                     resource in HostGroup::\"ok\");\n";
const HOSTS: &str = "[host_groups]\nok = [\"a.example.com\"]\n";

/// A bundle that loads, with these files besides or instead.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("bundle.toml", MANIFEST);
    put("rules/net.cedar", RULES);
    put("data/hosts.toml", HOSTS);
    for (path, text) in files {
        put(path, text);
    }
    folder
}

fn bundle(files: &[(&str, &str)]) -> Bundle {
    Bundle::read_directory(directory(files).path()).unwrap()
}

fn with_manifest(text: &str) -> Bundle {
    bundle(&[("bundle.toml", text)])
}

fn refusal(folder: &Path) -> String {
    let error = Bundle::read_directory(folder).unwrap_err();
    assert!(!error.hint().is_empty(), "{error}");
    format!("{error}\nhelp: {}", error.hint())
}

fn snapshot(source: &PolicySource) -> crate::Snapshot {
    crate::Snapshot::load(source).unwrap_or_else(|error| panic!("{error}"))
}
