#!/bin/sh
# From a checkout to a first session: installs what is missing, builds the release binary, and runs
# a demonstration that can be followed. It disturbs nothing: the demonstration's home, log and
# configuration are in a folder that is removed at the end, its one origin is on loopback, and
# nothing but the build's own downloads touches the network.
#
# Run it as yourself (it asks for root only to install packages) or as root. `CORDON=FILE` names a
# binary that is there already: nothing is built then.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source=deploy/setup.sh
. deploy/setup.sh

main() {
    heading "1. What is needed"
    need_packages bwrap=bubblewrap ca-certificates curl=curl /usr/bin/python3=python3 ||
        not_installed "bubblewrap, curl, python3 and CA certificates"
    say "bubblewrap $(bwrap --version | cut -d ' ' -f 2)"

    heading "2. The binary"
    BINARY=${CORDON:-}
    [ -n "$BINARY" ] || build
    [ -x "$BINARY" ] || die "\`$BINARY\` is not a program"
    BINARY=$(realpath "$BINARY")
    say "$BINARY, $(du -h "$BINARY" | cut -f 1)"

    heading "3. A session"
    stage
    demonstrate

    heading "4. From here"
    say "The binary is $BINARY; put it where your PATH finds it:"
    say "    install -D -m 755 $BINARY ~/.local/bin/cordon"
    say "Then, in a project folder:"
    say "    cordon run -- claude          an agent, with the project and nothing else"
    say "    cordon run -- bash            a look round from inside"
    say "    cordon run --help"
}

# The release binary: some minutes on two cores.
build() {
    need_packages cc=build-essential make=make || not_installed "a C compiler and make"
    need_rust
    say "$(rustc --version); this takes some minutes"
    cargo build --release --locked --package cordon
    BINARY=${CARGO_TARGET_DIR:-target}/release/cordon
}

not_installed() {
    ! has apt-get || die "not everything could be installed: $1" "see what apt-get says above"
    die "packages are installed with apt-get, which is not here" \
        "install $1, then run this again"
}

# A home of its own, an origin on loopback, and names that lead to it.
stage() {
    STAGE=$(mktemp -d)
    export HOME="$STAGE/home"
    export XDG_STATE_HOME="$STAGE/state" XDG_CONFIG_HOME="$STAGE/config" XDG_RUNTIME_DIR="$STAGE/run"
    mkdir -p "$STAGE/project" "$HOME" "$XDG_CONFIG_HOME/cordon" "$STAGE/site"
    mkdir -m 700 "$XDG_RUNTIME_DIR"
    say "Hello from demo.example." >"$STAGE/site/hello.txt"
    (cd "$STAGE/site" && exec /usr/bin/python3 -u -c "$ORIGIN" >"$STAGE/port" 2>/dev/null) &
    SERVER=$!
    until [ -s "$STAGE/port" ]; do
        kill -0 "$SERVER" 2>/dev/null || die "the demonstration's origin did not start"
        sleep 0.05
    done
    PORT=$(cat "$STAGE/port")
    # Loopback is a special-use address: an allowed name may lead there because this file says so.
    cat >"$XDG_CONFIG_HOME/cordon/cordon.toml" <<TOML
[resolve.overrides]
"demo.example" = ["127.0.0.1"]
"other.example" = ["127.0.0.1"]

[[network.permit_addresses]]
host = "demo.example"
addresses = ["127.0.0.1/32"]
TOML
    cat >"$STAGE/demo.cedar" <<'CEDAR'
@id("sessions")
permit (principal, action == Action::"start_session", resource == Backend::"bubblewrap");

@id("what-the-command-line-names")
permit (principal, action in Action::"grant", resource) when { context.source == "command-line" };

@id("demo-site")
@reason("the demonstration's own site")
permit (principal, action in Action::"network", resource == Host::"demo.example");
CEDAR
    cat >"$STAGE/project/visit.sh" <<VISIT
echo "I run as \$(id -un), and this is all there is in my home:" \$(ls "\$HOME")
echo; echo "An allowed fetch:"
curl -sS http://demo.example:$PORT/hello.txt
echo; echo "A refused one:"
curl -sS http://other.example:$PORT/hello.txt
echo; echo "A file, written through the grant:"
date > "\$HOME/mnt/project/note.txt" && cat "\$HOME/mnt/project/note.txt"
echo; echo "The host's files:"
cat /etc/shadow "$STAGE/demo.cedar"
exit 0
VISIT
}

demonstrate() {
    cd "$STAGE"
    say "The policy:"
    sed 's/^./    &/' "$STAGE/demo.cedar"
    say ""
    say "The session's program:"
    sed 's/^./    &/' "$STAGE/project/visit.sh"
    shown cordon run --grant project:rw --policy demo.cedar -- sh mnt/project/visit.sh
    shown ls -l project/note.txt
    # The daemon signs a checkpoint when it leaves, so that the log's end is proven too.
    shown cordon stop
    shown cordon audit verify
}

# shown COMMAND...: says what it runs, and runs it.
shown() {
    say ""
    say "\$ $*"
    if [ "$1" = cordon ]; then
        shift
        "$BINARY" "$@"
    else
        "$@"
    fi
}

heading() {
    say ""
    say "== $*"
}

clean_up() {
    [ -z "$SERVER" ] || kill "$SERVER" 2>/dev/null || true
    if [ -n "$STAGE" ]; then
        "$BINARY" stop >/dev/null 2>&1 || true
        rm -rf "$STAGE"
    fi
}

# Serves the current folder on a free port of loopback, and says which.
ORIGIN='
import http.server
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print(server.server_port)
server.serve_forever()
'
BINARY=
SERVER=
STAGE=
trap clean_up EXIT
trap 'exit 130' INT TERM
main
