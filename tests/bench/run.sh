#!/bin/sh
# Benchmarks against other proxies and against bubblewrap alone. Debian 12, as root: installs what
# it compares with, builds the release binary, measures, and prints tables of ratios.
#
#   tests/bench/run.sh                    everything, about ten minutes after the build
#   tests/bench/run.sh --only get,launch  some of it; --help names the rest
#
#   CORDON_BIN   measure this binary instead of building one
#   CORDON_BARE  with it, the example `bare`, where that is not in `examples` beside the binary
set -eu

cd "$(dirname "$0")/../.."
# shellcheck source=deploy/setup.sh
. deploy/setup.sh

# Installed for their programs alone: none of them is to be started on this machine.
STILL=no
release_services() { [ "$STILL" = no ] || rm -f /usr/sbin/policy-rc.d; }
trap release_services EXIT
if [ "$(id -u)" = 0 ] && [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    STILL=yes
fi
need_packages bwrap=bubblewrap cc=build-essential curl=curl hey=hey \
    /usr/sbin/nginx=nginx-light openssl=openssl \
    /usr/sbin/squid=squid /usr/sbin/haproxy=haproxy tinyproxy=tinyproxy microsocks=microsocks \
    /usr/sbin/danted=dante-server \
    /usr/bin/python3=python3 wrk=wrk ||
    die "packages are installed with apt-get, which is not here" \
        "on another system install the packages that tests/bench/run.sh names, by hand"
if [ -z "${CORDON_BIN:-}" ]; then
    need_rust
    # The example is what the same libraries do that decide nothing.
    cargo build --release --quiet --package cordon --bin cordon --example bare
    CORDON_BIN=$(realpath "${CARGO_TARGET_DIR:-target}/release/cordon")
    export CORDON_BIN
fi
# Not in Debian; without it the tables of what is inside TLS have no peer.
MITMPROXY=${CORDON_TEST_CACHE:-/var/cache/cordon-tests}/mitmproxy
[ -x "$MITMPROXY/bin/mitmdump" ] ||
    { /usr/bin/python3 -m venv "$MITMPROXY" && "$MITMPROXY/bin/pip" install --quiet mitmproxy; } ||
    echo "mitmproxy could not be installed, left out" >&2
# A policy decision server to stand beside the API, as npm has it.
SERVER=${CORDON_TEST_CACHE:-/var/cache/cordon-tests}/policy-server
CERBOS=$SERVER/node_modules/@cerbos/cerbos-linux-x64
[ -x "$CERBOS/cerbos" ] ||
    { need_packages npm=npm && npm install --silent --no-fund --no-audit --prefix "$SERVER" cerbos &&
        ln -s cerbos-linux-x64 "$CERBOS/cerbos"; } ||
    echo "cerbos could not be installed, left out" >&2
PATH="$PATH:$MITMPROXY/bin:$CERBOS" python3 tests/bench/bench.py "$@"
