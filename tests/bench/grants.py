"""How long a folder takes to enter a running session, to change its mode there, and to leave it.

By the API over its unix socket, from the call to the answer, which is given when the mount stands or
is gone and that is on record; and by command line, as a whole process. Each time the session itself is
asked whether it is so.
"""

import http.client
import json
import os
import socket
import statistics
import time

MARK_MS = 50


class Unix(http.client.HTTPConnection):
    """HTTP to the API's socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

    def call(self, method, path, body=None):
        body = None if body is None else json.dumps(body)
        self.request(method, path, body, {"content-type": "application/json"})
        answer = self.getresponse()
        said = answer.read()
        if answer.status not in (200, 201):
            raise SystemExit(f"{method} {path}: {answer.status} {said.decode()}")
        return json.loads(said)


def table(world, times):
    folder = f"{world.root}/more"
    os.makedirs(folder, exist_ok=True)
    world.write("more/inside", "here\n")
    api = Unix(f"{world.root}/run/cordon/api.sock")
    session = api.call("GET", "/v1/sessions")[0]["id"]
    grants = f"/v1/sessions/{session}/grants"
    steps = {
        "given, by the API": (
            lambda: api.call("POST", grants, {"path": folder, "mode": "ro"}), True),
        "mode changed, by the API": (
            lambda: api.call("PATCH", grants, {"grant": "more", "mode": "rw"}), True),
        "taken, by the API": (lambda: api.call("DELETE", f"{grants}?grant=more"), False),
        "`cordon session grant`": (
            lambda: command(world, "grant", session, f"{folder}:ro"), True),
        "`cordon session revoke`": (lambda: command(world, "revoke", session, "more"), False),
    }
    took = {name: [] for name in steps}
    for _round in range(times):
        for name, (step, is_there) in steps.items():
            begun = time.perf_counter()
            step()
            took[name].append((time.perf_counter() - begun) * 1e3)
            seen = world.session.run("cat ../more/inside")
            if seen.startswith("here") != is_there:
                raise SystemExit(f"{name}: the session sees {seen!r}")
    lines = [f"### Live grants (mark: under {MARK_MS} ms)", "", "| | p50 ms | p99 ms |", "|---|--:|--:|"]
    for name, times_of in took.items():
        last = sorted(times_of)[min(len(times_of) * 99 // 100, len(times_of) - 1)]
        lines.append(f"| {name} | {statistics.median(times_of):.1f} | {last:.1f} |")
    return "\n".join(lines) + "\n"


def command(world, *words):
    done = world.cordon("session", *words)
    if done.returncode != 0:
        raise SystemExit(f"cordon session {' '.join(words)}: {done.stderr}")
