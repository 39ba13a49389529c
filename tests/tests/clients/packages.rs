//! Package clients against registries on loopback: pip, npm, cargo, apt.
//!
//! Each installs or reads one package from the allowed name, and gets its own error from the
//! denied one.

use std::fmt::Write as _;

use cordon_tests::{
    Origin, Outcome, World, for_both,
    origin::http::{Reply, Request},
};

use crate::{clients, run};

/// A package client and its registry.
pub(crate) struct Package {
    /// What the registry has.
    pub(crate) files: fn(&Request) -> Option<Vec<u8>>,
    /// A shell script that takes the registry's URL, and a name that it is to trust without TLS.
    command: &'static str,
}

impl Package {
    /// The command line that installs or reads the one package.
    pub(crate) fn install(&self, url: &str, trusted: &str) -> Vec<String> {
        ["bash", "-c", self.command, "bash", url, trusted]
            .map(str::to_owned)
            .to_vec()
    }
}

/// What a registry answers.
pub(crate) fn answer(files: fn(&Request) -> Option<Vec<u8>>, request: &Request) -> Reply {
    match files(request) {
        Some(body) => Reply {
            body,
            headers: vec!["Content-Type: text/html".into()],
            ..Reply::ok("")
        },
        None => Reply::status("404 Not Found", ""),
    }
}

/// A registry under an allowed and a denied name.
#[track_caller]
fn from_both(world: &mut World, package: &Package) -> Outcome {
    let files = package.files;
    let origin = Origin::http(move |request| answer(files, request));
    world.route("open.test", origin.address());
    world.route("shut.test", origin.address());
    let urls = ["open", "shut"].map(|name| format!("http://{name}.test:{}", origin.port()));
    installed(world, package, &urls, ["open.test", "shut.test"], &origin)
}

/// The same with TLS that nobody looks into: the denied name gets no tunnel.
#[track_caller]
fn from_both_by_tls(world: &mut World, package: &Package) -> Outcome {
    let files = package.files;
    let authority = world.authority();
    let origins = ["open.test", "shut.test"].map(|name| {
        let origin = Origin::https(&authority, name, move |request| answer(files, request));
        world.route(name, origin.address());
        origin
    });
    let [open, shut] = &origins;
    let urls = [
        format!("https://open.test:{}", open.port()),
        format!("https://shut.test:{}", shut.port()),
    ];
    // Trusted as the session's other authorities are, not by name.
    installed(world, package, &urls, ["", ""], shut)
}

/// Installs from `open.test` and, in vain, from `shut.test`; `shut` hears nothing of the latter.
#[track_caller]
fn installed(
    world: &mut World,
    package: &Package,
    [open_url, shut_url]: &[String; 2],
    trusted: [&str; 2],
    shut: &Origin,
) -> Outcome {
    world.policy.allow("open.test");
    let allowed = run(world, &package.install(open_url, trusted[0]));
    allowed.expect_code(0).expect_allowed("open.test");
    assert!(allowed.text().contains("hello from a package"), "{allowed}");
    let before = shut.connections();
    let denied = run(world, &package.install(shut_url, trusted[1]));
    assert_ne!(denied.code, 0, "{denied}");
    denied.expect_denied("shut.test", "default_deny");
    assert_eq!(shut.connections(), before, "{denied}");
    denied
}

for_both! {
    fn pip(world) {
        if clients() {
            let denied = from_both(world, &PIP);
            denied.expect_stderr("No matching distribution");
            denied.expect_told("default_deny");
        }
    }

    fn npm(world) {
        let denied = from_both(world, &NPM);
        denied.expect_stderr("E403").expect_stderr("default_deny");
    }

    /// The reason is in cargo's own error.
    fn cargo(world) {
        if clients() {
            let denied = from_both(world, &CARGO);
            denied.expect_stderr("default_deny");
        }
    }

    /// A flat repository: apt asks for `/debian/./Packages`, and what is sent is the plain path.
    fn apt(world) {
        let denied = from_both(world, &APT);
        denied.expect_stderr("403  Denied by cordon: default_deny");
    }

    fn pip_by_tls(world) {
        if clients() {
            let denied = from_both_by_tls(world, &PIP);
            denied.expect_told("Tunnel connection failed: 403 Denied by cordon: default_deny");
        }
    }

    fn npm_by_tls(world) {
        from_both_by_tls(world, &NPM).expect_stderr("403");
    }

    fn cargo_by_tls(world) {
        if clients() {
            let denied = from_both_by_tls(world, &CARGO);
            denied.expect_stderr("CONNECT tunnel failed, response 403");
        }
    }

    fn apt_by_tls(world) {
        let denied = from_both_by_tls(world, &APT);
        denied.expect_stderr("403 Denied by cordon: default_deny");
    }
}

/// With `-vv`, because pip says only then why an index did not answer.
pub(crate) const PIP: Package = Package {
    files: python_index,
    command: "mnt/clients/python/bin/python -m pip install -vv --no-deps --retries 0 \
    --disable-pip-version-check --target /tmp/target --index-url $1/simple/ \
    ${2:+--trusted-host $2} tiny && mnt/clients/python/bin/python /tmp/target/tiny.py",
};

pub(crate) const NPM: Package = Package {
    files: npm_registry,
    command: "npm view tiny description --fetch-retries 0 --registry $1/",
};

pub(crate) const CARGO: Package = Package {
    files: cargo_index,
    command: "mkdir -p /tmp/crate/src && cd /tmp/crate && : >src/lib.rs &&
    printf '[package]\\nname = \"user\"\\nedition = \"2021\"\\n[dependencies]\\ntiny = { version = \"1\", registry = \"test\" }\\n' >Cargo.toml &&
    CARGO_HOME=/tmp/cargo CARGO_NET_RETRY=0 CARGO_REGISTRIES_TEST_INDEX=sparse+$1/index/ \
    \"$OLDPWD\"/mnt/clients/cargo generate-lockfile && grep -q 'name = \"tiny\"' Cargo.lock &&
    echo hello from a package",
};

pub(crate) const APT: Package = Package {
    files: apt_repository,
    command: "mkdir -p /tmp/apt/lists/partial /tmp/apt/archives/partial && : >/tmp/apt/status &&
    echo \"deb [trusted=yes] $1/debian ./\" >/tmp/apt/sources &&
    options='-o Dir::State=/tmp/apt -o Dir::State::status=/tmp/apt/status -o Dir::Cache=/tmp/apt
        -o Dir::Etc::sourcelist=/tmp/apt/sources -o Dir::Etc::sourceparts=- -o Dir::Etc::parts=-
        -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=0
        -o APT::Update::Error-Mode=any' &&
    apt-get $options update && apt-cache $options show tiny",
};

/// A wheel in PyPI's simple repository API (PEP 503).
fn python_index(request: &Request) -> Option<Vec<u8>> {
    match request.target.as_str() {
        "/simple/tiny/" => Some(b"<a href=\"../../tiny-1.0-py3-none-any.whl\">tiny</a>".to_vec()),
        "/tiny-1.0-py3-none-any.whl" => Some(wheel()),
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

/// A ZIP archive of stored files, as Python makes it.
fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut script = String::from("import io, sys, zipfile\nout = io.BytesIO()\n");
    script.push_str("with zipfile.ZipFile(out, 'w') as archive:\n");
    for (name, text) in files {
        writeln!(script, "    archive.writestr({name:?}, {text:?})").expect("a text takes text");
    }
    script.push_str("sys.stdout.buffer.write(out.getvalue())\n");
    let made = std::process::Command::new("/usr/bin/python3")
        .args(["-c", &script])
        .output()
        .expect("Python is installed");
    assert!(made.status.success(), "{made:?}");
    made.stdout
}

fn npm_registry(request: &Request) -> Option<Vec<u8>> {
    let text = r#"{"name":"tiny","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"tiny",
        "version":"1.0.0","description":"hello from a package","dist":{"tarball":"http://open.test/"}}}}"#;
    (request.target == "/tiny").then(|| text.into())
}

/// Cargo's sparse index. (An edition before 2024, whose resolver does not ask for `rustc`.)
fn cargo_index(request: &Request) -> Option<Vec<u8>> {
    let text = match request.target.as_str() {
        "/index/config.json" => r#"{"dl":"http://open.test/"}"#.to_owned(),
        "/index/ti/ny/tiny" => format!(
            r#"{{"name":"tiny","vers":"1.0.0","deps":[],"cksum":"{}","features":{{}},"yanked":false}}"#,
            "0".repeat(64)
        ),
        _ => return None,
    };
    Some(text.into_bytes())
}

fn apt_repository(request: &Request) -> Option<Vec<u8>> {
    let text = "Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: Test\n\
                Filename: ./tiny.deb\nSize: 1\nDescription: hello from a package\n\n";
    (request.target == "/debian/Packages").then(|| text.into())
}
