//! What is fuzzed: hostile bytes in, and what must hold whatever they are.
//!
//! The same functions run under libFuzzer (`fuzz_targets/`) and, on the stable toolchain with the
//! corpus and mutations of it, in `tests/fuzz_smoke.rs`.

use std::{io::Write as _, path::Path, time::SystemTime};

use cordon_policy::{
    Snapshot, ask,
    bundle::{Bundle, BundleError, Limits, Role, Signed, SigningKey, TrustRoot, sign, verify},
    check,
    source::{PolicyFile, PolicySource},
    testing,
};
use flate2::{Compression, write::GzEncoder};

/// One parser and what must hold of it.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 10] = [
    ("gzip", gzip),
    ("tar", tar),
    ("manifest", manifest),
    ("data_toml", data_toml),
    ("data_json", data_json),
    ("rules", rules),
    ("signature", signature),
    ("trust", trust),
    ("tests", tests),
    ("words", words),
];

const MANIFEST: &str = "name = \"corp\"\nrevision = 7\nschema = 1\nlayer = \"organisation\"\n";

/// An archive as it comes.
pub fn gzip(bytes: &[u8]) {
    let limits = Limits {
        packed_bytes: 1 << 20,
        total_bytes: 1 << 20,
        file_bytes: 1 << 18,
        files: 64,
    };
    match Bundle::read_archive(bytes, &limits) {
        Err(error) => clear(&error),
        Ok(bundle) => {
            let packed = bundle.pack().expect("a bundle that was read packs");
            let again = Bundle::read_archive(&packed, &limits).expect("what was packed is read");
            assert_eq!(again.digest(), bundle.digest());
            assert_eq!(again.pack().expect("it packs again"), packed);
            for file in bundle.source().files {
                let path = file.path.to_str().expect("names are text");
                assert!(!path.contains("..") && !path.starts_with('/'), "{path:?}");
            }
        }
    }
}

/// What is in an archive, without the checksum of gzip in the way.
pub fn tar(bytes: &[u8]) {
    gzip(&gzipped(bytes));
}

/// `bundle.toml`.
pub fn manifest(bytes: &[u8]) {
    match Bundle::read_archive(&archive(&[("bundle.toml", bytes)]), &Limits::default()) {
        Err(error) => clear(&error),
        Ok(bundle) => {
            assert!(bundle.manifest().revision > 0);
            assert!(!bundle.manifest().name.is_empty());
        }
    }
}

/// `data/*.toml`.
pub fn data_toml(bytes: &[u8]) {
    loads("data.toml", bytes);
}

/// `data/*.json`.
pub fn data_json(bytes: &[u8]) {
    loads("data.json", bytes);
}

/// `*.cedar`.
pub fn rules(bytes: &[u8]) {
    loads("rules.cedar", bytes);
}

/// `bundle.sig`: no text is accepted but one with the line that the key made.
pub fn signature(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let archive = archive(&[("bundle.toml", MANIFEST.as_bytes())]);
    let bundle = Bundle::read_archive(&archive, &Limits::default()).expect("it is well formed");
    let key = SigningKey::new("alice", Role::PolicyPublisher, [7; 32]).expect("a good name");
    let root = format!(
        "[[key]]\nid = \"alice\"\npublic = \"{}\"\nroles = [\"policy-publisher\"]\n\
         layers = [\"organisation\"]\n",
        key.public()
    );
    let root = TrustRoot::parse(Path::new("trust.toml"), &root).expect("it is well formed");
    let made = sign(&bundle, &key).expect("it signs").text;
    let signed = Signed {
        text: text.to_owned(),
        kept: 0,
        dropped: 0,
    };
    match verify(
        &bundle.with_signatures(&signed),
        &root,
        SystemTime::UNIX_EPOCH,
        None,
    ) {
        Ok(_) => assert!(same_signature(text, made.trim()), "forged: {text:?}"),
        Err(refusal) => assert!(!refusal.to_string().chars().any(char::is_control)),
    }
}

/// `trust.toml`: whatever is accepted needs somebody to sign.
pub fn trust(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match TrustRoot::parse(Path::new("trust.toml"), text) {
        Err(error) => clear(&error),
        Ok(root) => {
            assert!(root.keys().count() > 0);
            assert!(root.needed(cordon_policy::Layer::Organisation) > 0);
        }
    }
}

/// `tests/*.toml`: what is read can be run and reported.
pub fn tests(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match testing::parse(text) {
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error}"),
        Ok(file) => {
            let policy = PolicySource::pack("developer").expect("it is shipped");
            let snapshot = Snapshot::load(&policy).expect("it loads");
            let report = testing::run(&snapshot, &[("fuzz".into(), file)], None);
            let xml = testing::junit(&report.tests);
            assert!(!xml.chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}

/// A request in words: what is read is written back to the same request.
pub fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match ask::parse(text) {
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error}"),
        Ok(operation) => {
            let written = ask::words(&operation);
            assert_eq!(ask::parse(&written), Ok(operation), "{written:?}");
        }
    }
}

/// Whether a line says and signs what the made one does; spaces in JSON are nobody's.
fn same_signature(text: &str, made: &str) -> bool {
    let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok();
    let made = read(made);
    text.lines()
        .any(|line| made.is_some() && read(line) == made)
}

fn loads(name: &str, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let source = PolicySource::new("fuzz", vec![PolicyFile::new(name, text)]);
    for finding in check::check(&source) {
        assert!(!finding.message.chars().any(char::is_control), "{finding}");
    }
}

fn clear(error: &BundleError) {
    let message = error.to_string();
    assert!(!message.chars().any(char::is_control), "{message:?}");
    assert!(message.len() < 8_000 && !error.hint().is_empty());
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, path, *bytes)
            .expect("memory takes it");
    }
    gzipped(&builder.into_inner().expect("memory takes it"))
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).expect("memory takes it");
    gzip.finish().expect("memory takes it")
}
