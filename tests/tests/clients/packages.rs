//! Package clients against registries on loopback: pip, npm, cargo, apt, Go.
//!
//! Each fetches one package, index and file, from the allowed name, and gets its own error from the
//! denied one.

mod registries;

use cordon_tests::{
    Origin, Outcome, World, for_both,
    origin::http::{Reply, Request},
};

use self::registries::{apt_repository, cargo_index, go_proxy, npm_registry, python_index};
use crate::{clients, run};

/// What a registry has at a path below it; its own URL is for what names others of its files.
type Files = fn(path: &str, base: &str) -> Option<Vec<u8>>;

/// A package client and its registry.
pub(crate) struct Package {
    /// What the registry has.
    files: Files,
    /// How its package files are called, as policy writes it.
    pub(crate) file: &'static str,
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

impl Package {
    /// A registry that has it, below `folder` of its origin.
    pub(crate) fn registry(
        &self,
        scheme: &'static str,
        folder: &'static str,
    ) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
        let files = self.files;
        move |request| {
            let host = request.header("host").unwrap_or_default();
            let base = format!("{scheme}://{host}{folder}");
            let path = request.target.strip_prefix(folder);
            match path.and_then(|path| files(path, &base)) {
                Some(body) => Reply {
                    body,
                    headers: vec!["Content-Type: text/html".into()],
                    ..Reply::ok("")
                },
                None => Reply::status("404 Not Found", ""),
            }
        }
    }
}

/// A registry under an allowed and a denied name.
#[track_caller]
fn from_both(world: &mut World, package: &Package) -> Outcome {
    let origin = Origin::http(package.registry("http", ""));
    world.route("open.test", origin.address());
    world.route("shut.test", origin.address());
    let urls = ["open", "shut"].map(|name| format!("http://{name}.test:{}", origin.port()));
    installed(world, package, &urls, ["open.test", "shut.test"], &origin)
}

/// The same with TLS that nobody looks into: the denied name gets no tunnel.
#[track_caller]
fn from_both_by_tls(world: &mut World, package: &Package) -> Outcome {
    let authority = world.authority();
    let origins = ["open.test", "shut.test"].map(|name| {
        let origin = Origin::https(&authority, name, package.registry("https", ""));
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

    fn go(world) {
        let denied = from_both(world, &GO_MODULES);
        denied.expect_stderr("403 Denied by cordon: default_deny");
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

    fn go_by_tls(world) {
        let denied = from_both_by_tls(world, &GO_MODULES);
        denied.expect_stderr("Denied by cordon: default_deny");
    }
}

/// With `-vv`, because pip says only then why an index did not answer.
pub(crate) const PIP: Package = Package {
    files: python_index,
    file: "*.whl",
    command: "mnt/clients/python/bin/python -m pip install -vv --no-deps --retries 0 \
    --disable-pip-version-check --target /tmp/target --index-url $1/simple/ \
    ${2:+--trusted-host $2} tiny && mnt/clients/python/bin/python /tmp/target/tiny.py",
};

pub(crate) const NPM: Package = Package {
    files: npm_registry,
    file: "*.tgz",
    command: "npm install tiny --prefix /tmp/app --fetch-retries 0 --no-audit --no-fund \
    --registry $1/ && node -e 'require(\"/tmp/app/node_modules/tiny\")'",
};

/// `vendor` gets and checks the file as `fetch` does, and needs no compiler. (An edition before 2024,
/// whose resolver does not ask for `rustc` either.)
pub(crate) const CARGO: Package = Package {
    files: cargo_index,
    file: "*.crate",
    command: "mkdir -p /tmp/crate/src && cd /tmp/crate && : >src/lib.rs &&
    printf '[package]\\nname = \"user\"\\nedition = \"2021\"\\n[dependencies]\\ntiny = { version = \"1\", registry = \"test\" }\\n' >Cargo.toml &&
    CARGO_HOME=/tmp/cargo CARGO_NET_RETRY=0 CARGO_REGISTRIES_TEST_INDEX=sparse+$1/index/ \
    \"$OLDPWD\"/mnt/clients/cargo vendor && cat vendor/tiny/src/lib.rs",
};

pub(crate) const APT: Package = Package {
    files: apt_repository,
    file: "*.deb",
    command: "mkdir -p /tmp/apt/lists/partial /tmp/apt/archives/partial && : >/tmp/apt/status &&
    echo \"deb [trusted=yes] $1/debian ./\" >/tmp/apt/sources &&
    options='-o Dir::State=/tmp/apt -o Dir::State::status=/tmp/apt/status -o Dir::Cache=/tmp/apt
        -o Dir::Etc::sourcelist=/tmp/apt/sources -o Dir::Etc::sourceparts=- -o Dir::Etc::parts=-
        -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=0
        -o APT::Update::Error-Mode=any' &&
    apt-get $options update && cd /tmp && apt-get $options download tiny &&
    dpkg-deb --fsys-tarfile tiny_*.deb | tar -xO ./usr/share/tiny",
};

pub(crate) const GO_MODULES: Package = Package {
    files: go_proxy,
    file: "*.zip",
    command:
        "mkdir -p /tmp/module && cd /tmp/module && export GOPATH=/tmp/go GOCACHE=/tmp/go-cache \
    GOSUMDB=off GOFLAGS=-mod=mod GOPROXY=$1 &&
    printf 'module user\\nrequire tiny.test/tiny v1.0.0\\n' >go.mod &&
    go mod download && cat /tmp/go/pkg/mod/tiny.test/tiny@v1.0.0/tiny.go",
};
