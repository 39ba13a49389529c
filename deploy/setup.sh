# Functions of the set-up scripts: sourced by deploy/quickstart.sh and tests/all.sh, never run.

# Oldest compiler that builds this; the same as `rust-version` in Cargo.toml.
RUST_VERSION=1.95

say() { printf '%s\n' "$*"; }

die() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf 'help: %s\n' "$line" >&2; done
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# As root, directly or by sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        die "this needs root: $*" "install sudo, or run this script as root once"
    fi
}

# need_packages PACKAGE|COMMAND=PACKAGE...: installs packages that are not installed, or whose
# command is not there, by whatever it came (Debian, Ubuntu). Fails on a system without apt-get.
need_packages() {
    missing=
    for need in "$@"; do
        case $need in
            *=*) has "${need%=*}" || missing="$missing ${need#*=}" ;;
            *) installed "$need" || missing="$missing $need" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    has apt-get || return 1
    say "installing:$missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086  # a list of names
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]
}

# need_rust COMPONENT...: a compiler that is new enough, by rustup where there is none.
need_rust() {
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    export PATH
    if ! has cargo && ! has rustup; then
        install_rustup
    fi
    has cargo || die "cargo was not found" "see https://rustup.rs"
    found=$(rustc --version | cut -d ' ' -f 2)
    if ! at_least "$found" "$RUST_VERSION"; then
        has rustup || die "rustc $found is too old, $RUST_VERSION is needed" "see https://rustup.rs"
        say "installing Rust $RUST_VERSION beside $found"
        rustup toolchain install --profile minimal "$RUST_VERSION"
        RUSTUP_TOOLCHAIN=$RUST_VERSION
        export RUSTUP_TOOLCHAIN
    fi
    for component in "$@"; do
        case $component in
            rustfmt) has cargo-fmt && cargo fmt --version >/dev/null 2>&1 && continue ;;
            clippy) has cargo-clippy && cargo clippy --version >/dev/null 2>&1 && continue ;;
        esac
        rustup component add "$component"
    done
}

# Debian 12 has no compiler that is new enough and no rustup; this takes the official one, checks
# the checksum that is published beside it, and installs for this user alone.
install_rustup() {
    say "installing Rust $RUST_VERSION with rustup, into ${CARGO_HOME:-$HOME/.cargo}"
    has curl || need_packages curl ca-certificates || die "curl is missing" "install curl"
    folder=$(mktemp -d)
    url="https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu/rustup-init"
    if ! curl --proto '=https' --tlsv1.2 -sSf -o "$folder/rustup-init" "$url" ||
        ! curl --proto '=https' --tlsv1.2 -sSf -o "$folder/sum" "$url.sha256"; then
        rm -rf "$folder"
        die "rustup could not be downloaded" "install Rust $RUST_VERSION by hand: https://rustup.rs"
    fi
    want=$(cut -d ' ' -f 1 "$folder/sum")
    got=$(sha256sum "$folder/rustup-init" | cut -d ' ' -f 1)
    [ "$want" = "$got" ] || die "rustup-init does not have its published checksum"
    chmod 700 "$folder/rustup-init"
    "$folder/rustup-init" -y -q --no-modify-path --profile minimal \
        --default-toolchain "$RUST_VERSION"
    rm -rf "$folder"
}

# at_least HAVE WANT: whether version HAVE is not older than WANT.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
