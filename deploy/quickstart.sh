#!/bin/sh
# From a checkout to a first session: installs what is missing, builds the release binary, and runs
# a demonstration that can be followed. It disturbs nothing: the demonstration's home, log and
# configuration are in a folder that is removed at the end, its one origin is on loopback, and
# nothing but the build's own downloads touches the network.
#
# Run it as yourself (it asks for root only to install packages) or as root.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source=deploy/setup.sh
. deploy/setup.sh

main() {
    heading "1. What is needed"
    need_packages bwrap=bubblewrap cc=build-essential make=make ca-certificates curl=curl \
        /usr/bin/python3=python3 || die "packages are installed with apt-get, which is not here" \
        "install bubblewrap, a C compiler, make, curl and python3, then run this again"
    need_rust
    say "bubblewrap $(bwrap --version | cut -d ' ' -f 2), $(rustc --version)"

    heading "2. The release binary"
    cargo build --release --locked --package cordon
    BINARY=$(pwd)/target/release/cordon
    [ -z "${CARGO_TARGET_DIR:-}" ] || BINARY=$CARGO_TARGET_DIR/release/cordon
    say "$BINARY, $(du -h "$BINARY" | cut -f 1)"

    heading "3. A session"
    stage
    demonstrate

    heading "4. From here"
    say "The binary is $BINARY; put it where your PATH finds it:"
    say "    install -m 755 $BINARY ~/.local/bin/"
    say "Then, in a project folder:"
    say "    cordon run -- claude          an agent, with the project and nothing else"
    say "    cordon run -- bash            a look round from inside"
    say "    cordon run --help"
}

# A home of its own, an origin on loopback, and names that lead to it.
stage() {
    STAGE=$(mktemp -d)
    export HOME="$STAGE/home"
    export XDG_STATE_HOME="$STAGE/state" XDG_CONFIG_HOME="$STAGE/config" XDG_RUNTIME_DIR="$STAGE/run"
    mkdir -p "$HOME/project" "$XDG_CONFIG_HOME/cordon" "$STAGE/site" "$STAGE/policy"
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
    cat >"$STAGE/policy/demo.cedar" <<'CEDAR'
@id("sessions")
permit (principal, action == Action::"start_session", resource == Backend::"bubblewrap");

@id("what-the-command-line-names")
permit (principal, action in Action::"grant", resource) when { context.source == "command-line" };

@id("demo-site")
@reason("the demonstration's own site")
permit (principal, action in Action::"network", resource == Host::"demo.example");
CEDAR
    cat >"$HOME/project/visit.sh" <<VISIT
echo "I run as \$(id -un), and this is all there is in my home:" \$(ls "\$HOME")
echo; echo "An allowed fetch:"
curl -sS http://demo.example:$PORT/hello.txt
echo; echo "A refused one:"
curl -sS http://other.example:$PORT/hello.txt
echo; echo; echo "A file, written through the grant:"
date > "\$HOME/mnt/project/note.txt" && cat "\$HOME/mnt/project/note.txt"
echo; echo "The host's files:"
cat /etc/shadow "$STAGE/policy/demo.cedar"
exit 0
VISIT
}

demonstrate() {
    say "The policy:"
    sed 's/^/    /' "$STAGE/policy/demo.cedar"
    say ""
    say "The session's program:"
    sed 's/^/    /' "$HOME/project/visit.sh"
    shown cordon run --grant "$HOME/project:rw" --policy "$STAGE/policy" -- sh mnt/project/visit.sh
    shown ls -l "$HOME/project/note.txt"
    shown cordon policy check "$STAGE/policy"
    shown cordon audit verify
    shown cordon stop
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
