//! What registries have: one package each, in their own format, with the digests that clients check.
//!
//! A path below the registry and the registry's own URL in, a file out. Archives are made once, by
//! Python and `dpkg-deb`.

use std::{process::Command, sync::OnceLock};

/// A wheel in PyPI's simple repository API (PEP 503).
pub(super) fn python_index(path: &str, _base: &str) -> Option<Vec<u8>> {
    static WHEEL: OnceLock<Vec<u8>> = OnceLock::new();
    match path {
        "/simple/tiny/" => Some(b"<a href=\"../../tiny-1.0-py3-none-any.whl\">tiny</a>".to_vec()),
        "/tiny-1.0-py3-none-any.whl" => Some(WHEEL.get_or_init(wheel).clone()),
        _ => None,
    }
}

fn wheel() -> Vec<u8> {
    zip(&[
        ("tiny.py", "print('hello from a package')\n"),
        (
            "tiny-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        ),
        (
            "tiny-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        (
            "tiny-1.0.dist-info/RECORD",
            "tiny.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\n\
             tiny-1.0.dist-info/RECORD,,\n",
        ),
    ])
}

pub(super) fn npm_registry(path: &str, base: &str) -> Option<Vec<u8>> {
    static TARBALL: OnceLock<Vec<u8>> = OnceLock::new();
    match path {
        "/tiny" => Some(
            format!(
                r#"{{"name":"tiny","dist-tags":{{"latest":"1.0.0"}},"versions":{{"1.0.0":{{"name":"tiny",
                "version":"1.0.0","dist":{{"tarball":"{base}/tiny/-/tiny-1.0.0.tgz"}}}}}}}}"#
            )
            .into_bytes(),
        ),
        "/tiny/-/tiny-1.0.0.tgz" => {
            let files = [
                ("package/package.json", r#"{"name":"tiny","version":"1.0.0"}"#),
                ("package/index.js", "console.log('hello from a package')\n"),
            ];
            Some(TARBALL.get_or_init(|| tar(&files)).clone())
        }
        _ => None,
    }
}

/// Cargo's sparse index, and the crate that it leads to.
pub(super) fn cargo_index(path: &str, base: &str) -> Option<Vec<u8>> {
    static CRATE: OnceLock<(Vec<u8>, String)> = OnceLock::new();
    let made = || {
        let manifest = "[package]\nname = \"tiny\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
        let file = tar(&[
            ("tiny-1.0.0/Cargo.toml", manifest),
            ("tiny-1.0.0/src/lib.rs", "// hello from a package\n"),
        ]);
        let digest = sha256(&file);
        (file, digest)
    };
    let (file, digest) = CRATE.get_or_init(made);
    match path {
        "/index/config.json" => Some(format!(r#"{{"dl":"{base}/{{crate}}.crate"}}"#).into_bytes()),
        "/index/ti/ny/tiny" => Some(
            format!(
                r#"{{"name":"tiny","vers":"1.0.0","deps":[],"cksum":"{digest}","features":{{}},"yanked":false}}"#
            )
            .into_bytes(),
        ),
        "/tiny.crate" => Some(file.clone()),
        _ => None,
    }
}

/// A flat repository. apt asks for `/debian/./Packages`: a proxy that reads the request takes the
/// `.` out, in a tunnel that nobody looks into it stays.
pub(super) fn apt_repository(path: &str, _base: &str) -> Option<Vec<u8>> {
    static DEB: OnceLock<(Vec<u8>, String)> = OnceLock::new();
    let (file, digest) = DEB.get_or_init(|| {
        let file = deb();
        let digest = sha256(&file);
        (file, digest)
    });
    match path.replace("/./", "/").as_str() {
        "/debian/Packages" => Some(
            format!(
                "Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: Test\n\
                 Filename: ./tiny.deb\nSize: {}\nSHA256: {digest}\nDescription: a package\n\n",
                file.len()
            )
            .into_bytes(),
        ),
        "/debian/tiny.deb" => Some(file.clone()),
        _ => None,
    }
}

fn deb() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let inside = folder.path().join("tiny");
    let file = folder.path().join("tiny.deb");
    let write = |path: &str, text: &str| {
        let path = inside.join(path);
        std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write(
        "DEBIAN/control",
        "Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: Test\nDescription: a package\n",
    );
    write("usr/share/tiny", "hello from a package\n");
    let mut make = Command::new("dpkg-deb");
    make.args(["--root-owner-group", "--build"])
        .args([&inside, &file]);
    let made = make.output().expect("dpkg-deb is installed");
    assert!(made.status.success(), "{made:?}");
    std::fs::read(file).expect("the package")
}

/// Go's module proxy.
pub(super) fn go_proxy(path: &str, _base: &str) -> Option<Vec<u8>> {
    static ZIP: OnceLock<Vec<u8>> = OnceLock::new();
    let module = "module tiny.test/tiny\n";
    match path.strip_prefix("/tiny.test/tiny/@v/")? {
        "list" => Some(b"v1.0.0\n".to_vec()),
        "v1.0.0.info" => Some(br#"{"Version":"v1.0.0"}"#.to_vec()),
        "v1.0.0.mod" => Some(module.into()),
        "v1.0.0.zip" => {
            let files = [
                ("tiny.test/tiny@v1.0.0/go.mod", module),
                (
                    "tiny.test/tiny@v1.0.0/tiny.go",
                    "// hello from a package\npackage tiny\n",
                ),
            ];
            Some(ZIP.get_or_init(|| zip(&files)).clone())
        }
        _ => None,
    }
}

/// A ZIP archive of stored files.
fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    python(
        "with zipfile.ZipFile(out, 'w') as archive:\n  for name, text in files: archive.writestr(name, text)",
        files,
    )
}

/// A compressed tar archive.
fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    python(
        "with tarfile.open(fileobj=out, mode='w:gz') as archive:\n  for name, text in files:\n    \
         entry = tarfile.TarInfo(name); entry.size = len(text)\n    \
         archive.addfile(entry, io.BytesIO(text.encode()))",
        files,
    )
}

/// What a script writes to `out` of `files`.
fn python(script: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let files = serde_json::to_string(files).expect("texts are JSON");
    let script = format!(
        "import io, json, sys, tarfile, zipfile\nout = io.BytesIO()\nfiles = json.loads(sys.argv[1])\n\
         {script}\nsys.stdout.buffer.write(out.getvalue())"
    );
    let made = Command::new("/usr/bin/python3")
        .args(["-c", &script, &files])
        .output()
        .expect("Python is installed");
    assert!(made.status.success(), "{made:?}");
    made.stdout
}

fn sha256(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("a file");
    let made = Command::new("sha256sum").arg(file.path()).output();
    let made = String::from_utf8(made.expect("coreutils are installed").stdout);
    let made = made.expect("digits");
    made.split(' ').next().expect("a digest").to_owned()
}
