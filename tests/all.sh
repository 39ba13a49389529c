#!/bin/sh
# All tests: sets up what they need (Debian 12, as root), then formatting, lints, dependency rules,
# unit and integration tests, and the whole-binary tests as root and as an ordinary user.
#
# The last line counts tests; the exit status is 0 only when everything passed. A clean checkout
# takes about a quarter of an hour on two cores, most of it for compiling dependencies once.
#
#   CORDON_TEST_USER   the ordinary user, made when missing (default cordon-test)
#   CORDON_TEST_CACHE  where the agents' packages are kept (default /var/cache/cordon-tests)
set -eu

cd "$(dirname "$0")/.."
# shellcheck source=deploy/setup.sh
. deploy/setup.sh

main() {
    [ "$(id -u)" = 0 ] || die "the tests run as root: they make a user and try both" \
        "run: sudo tests/all.sh" \
        "or, for the part that needs no root: cargo test --workspace"

    step "set-up"
    set_up

    # One resolution of features for the binary and the tests, so that nothing is built twice; and
    # no incremental state, which costs time and is of use only to a second build.
    export CARGO_INCREMENTAL=0
    export CARGO_TERM_COLOR=never
    step "formatting"
    check cargo fmt --all --check
    step "dependency rules"
    check cargo deny --log-level error check bans licenses sources
    step "lints"
    check cargo clippy --quiet --workspace --all-targets -- -D warnings
    step "build"
    cargo build --quiet --workspace --bins --tests --examples
    step "unit and integration tests"
    run_tests --workspace --exclude cordon-tests
    step "whole-binary tests"
    publish_binary
    run_tests --package cordon-tests
    finish
}

set_up() {
    keep_services_still
    need_packages bwrap=bubblewrap /bin/busybox=busybox-static podman=podman runc=runc newuidmap=uidmap cc=build-essential make=make ca-certificates \
        certutil=libnss3-tools chromium=chromium chromium-headless-shell=chromium-headless-shell curl=curl cvc5=cvc5 \
        docker-registry=docker-registry gdb=gdb git=git go=golang-go golang-golang-x-mod-dev \
        /usr/sbin/haproxy=haproxy java=default-jdk-headless less=less /usr/sbin/mkfs.ext4=e2fsprogs nft=nftables \
        gnome-keyring-daemon=gnome-keyring secret-tool=libsecret-tools dbus-daemon=dbus-daemon \
        node=nodejs npm=npm nvim=neovim ssh=openssh-client openssl=openssl psql=postgresql-client \
        postgresql ps=procps /usr/sbin/sshd=openssh-server \
        /usr/bin/python3=python3 python3-requests python3-venv redis-cli=redis-tools \
        redis-server=redis-server /usr/sbin/squid=squid /usr/sbin/rsyslogd=rsyslog rsyslog-gnutls strace=strace systemd-analyze=systemd \
        /usr/sbin/danted=dante-server tinyproxy=tinyproxy tmux=tmux setpriv=util-linux vim=vim wget=wget ||
        die "packages are installed with apt-get, which is not here" \
            "on another system install the packages that tests/all.sh names, by hand"
    release_services
    need_rust rustfmt clippy
    has cargo-deny || cargo install --quiet --locked cargo-deny@0.20.2
    id "$TEST_USER" >/dev/null 2>&1 || useradd -m -s /bin/bash -p '*' "$TEST_USER"
    agents
    verifiers
    clients
}

# Servers are needed for their programs alone: they are not to be started on this machine.
keep_services_still() {
    [ -e /usr/sbin/policy-rc.d ] && return 0
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    STILL=yes
}

release_services() {
    [ "$STILL" = yes ] && rm -f /usr/sbin/policy-rc.d
    STILL=no
}

# The agents as npm has them. Without them their tests fail; everything else still runs.
agents() {
    CORDON_TEST_AGENTS="$CACHE/agents"
    export CORDON_TEST_AGENTS
    mkdir -p "$CORDON_TEST_AGENTS"
    if [ ! -e "$CORDON_TEST_AGENTS/node_modules/.bin/claude" ] ||
        [ ! -e "$CORDON_TEST_AGENTS/node_modules/.bin/codex" ]; then
        check npm install --silent --no-fund --no-audit --prefix "$CORDON_TEST_AGENTS" \
            @anthropic-ai/claude-code @openai/codex
    fi
}

# What others wrote to check logs, exports and receivers with. Without it those tests are skipped.
verifiers() {
    CORDON_TEST_PYTHON="$CACHE/python/bin/python"
    export CORDON_TEST_PYTHON
    if ! "$CORDON_TEST_PYTHON" -c 'import jsonschema, moto, ocsf_json_schema, rfc8785, schemathesis, sigstore' \
        >/dev/null 2>&1; then
        check python3 -m venv --clear "$CACHE/python"
        check "$CORDON_TEST_PYTHON" -m pip install --quiet jsonschema==4.26.0 'moto[s3,server]==5.2.5' \
            ocsf-json-schema==1.2.0 opentelemetry-proto==1.45.2 rfc8785==0.1.4 schemathesis==4.32.5 \
            sigstore==4.5.1
    fi
}

# Clients that come from other registries, for the client matrix: Python's with the system's
# interpreter, which sessions see; cargo without its toolchain; a Go program, built here.
clients() {
    CORDON_TEST_CLIENTS="$CACHE/clients"
    export CORDON_TEST_CLIENTS
    mkdir -p "$CORDON_TEST_CLIENTS"
    if ! "$CORDON_TEST_CLIENTS/python/bin/python" -c 'import aiohttp, grpc, h2, httpx, websockets' \
        >/dev/null 2>&1; then
        check /usr/bin/python3 -m venv --clear "$CORDON_TEST_CLIENTS/python"
        check "$CORDON_TEST_CLIENTS/python/bin/python" -m pip install --quiet aiohttp==3.14.5 \
            grpcio==1.85.1 'httpx[http2]==0.28.1' websockets==17.4
    fi
    # Client and servers of the Model Context Protocol, by those who write it.
    if ! "$CORDON_TEST_CLIENTS/mcp/bin/python" -c 'import httpx, mcp, mcp_server_time' \
        >/dev/null 2>&1; then
        check /usr/bin/python3 -m venv --clear "$CORDON_TEST_CLIENTS/mcp"
        check "$CORDON_TEST_CLIENTS/mcp/bin/python" -m pip install --quiet httpx==0.28.1 \
            mcp==2.3.0 mcp-server-time==2026.10.19
    fi
    [ -e "$CORDON_TEST_CLIENTS/node_modules/axios" ] ||
        check npm install --silent --no-fund --no-audit --prefix "$CORDON_TEST_CLIENTS" axios
    [ -e "$CORDON_TEST_CLIENTS/cargo" ] ||
        check cp "$(rustup which cargo)" "$CORDON_TEST_CLIENTS/cargo"
    [ "$CORDON_TEST_CLIENTS/go-client" -nt tests/fixtures/clients/client.go ] ||
        check go build -o "$CORDON_TEST_CLIENTS/go-client" tests/fixtures/clients/client.go
    chmod -R a+rX "$CORDON_TEST_CLIENTS"
}

# A checkout below root's home is out of an ordinary user's reach.
publish_binary() {
    PUBLIC=$(mktemp -d /tmp/cordon-under-test-XXXXXX)
    chmod 755 "$PUBLIC"
    cp "${CARGO_TARGET_DIR:-target}/debug/cordon" "$PUBLIC/cordon"
    export CORDON_BIN="$PUBLIC/cordon"
    export CORDON_TEST_USER="$TEST_USER"
}

# run_tests CARGO-ARGUMENT...: runs and counts. A job in the background of a script ignores
# interrupts, and what ignores them from its start cannot be tested with them.
run_tests() {
    status=$(mktemp)
    { env --default-signal cargo test --no-fail-fast "$@" 2>&1 && echo 0 >"$status" || echo 1 >"$status"; } |
        tee -a "$LOG" | grep -v -e '^$' -e '^running ' -e '^test .* ok$' || true
    [ "$(cat "$status")" = 0 ] || FAILED="$FAILED '$STEP'"
    rm -f "$status"
}

now() { date +%s; }

# check COMMAND...: a step that is not a test; its failure is remembered and the rest still runs.
check() { "$@" || FAILED="$FAILED '$STEP'"; }

step() {
    [ -z "$STEP" ] || say "    $STEP: $(($(now) - BEGUN_STEP)) s"
    STEP=$1
    BEGUN_STEP=$(now)
    say "==> $STEP"
}

finish() {
    step "end"
    counts=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed;.*/\1 \2/p' "$LOG" |
        awk '{ passed += $1; failed += $2 } END { print passed + 0, failed + 0 }')
    say "all of it: $(($(now) - BEGUN)) s"
    [ -z "$FAILED" ] || say "failed:$FAILED"
    say "${counts% *} passed, ${counts#* } failed"
    [ -z "$FAILED" ] && [ "${counts#* }" = 0 ] && [ "${counts% *}" != 0 ]
}

clean_up() {
    release_services
    rm -rf "$LOG" ${PUBLIC:+"$PUBLIC"}
}

TEST_USER=${CORDON_TEST_USER:-cordon-test}
CACHE=${CORDON_TEST_CACHE:-/var/cache/cordon-tests}
FAILED=
PUBLIC=
STEP=
STILL=no
BEGUN=$(now)
BEGUN_STEP=$BEGUN
LOG=$(mktemp)
trap clean_up EXIT
trap 'exit 130' INT TERM
main
