"""Decisions over the API's unix socket, an agent's hook as a whole process, and idle sessions.

A session that a runtime holds, a policy with a domain and nothing else, the log on disk. A look has
no effect and is not recorded; every other decision is on disk before it is answered. What a sync of
that disk takes stands beside it, from the same minute. A policy server of others is asked the same,
in turns, where it is installed.
"""

import json
import os
import statistics
import subprocess
import time
import urllib.parse

import policy_server
from world import Running

POLICY = """
@id("start") permit (
  principal, action in [Action::"start_session", Action::"run_without_sandbox"], resource
);
@id("grants") permit (principal, action in Action::"grant", resource);
@id("reach") permit (principal, action in Action::"network", resource in Domain::"example.com");
"""
MANY = 1_000
HOOKS = 40
SILENT = f"{policy_server.NAME}, no log, 64 connections"
LOGGED = f"{policy_server.NAME}, log not synced, 64 connections"


def table(world, rounds, seconds):
    api = Api(world)
    session = api.open()
    asked = {
        "a look, one connection": (api.ask(session, "api.example.com:443", look=True), 1),
        "an allow, one connection": (api.ask(session, "api.example.com:443"), 1),
        "a deny, one connection": (api.ask(session, "api.other.test:443"), 1),
        "a look, 64 connections": (api.ask(session, "api.example.com:443", look=True), 64),
        "an allow, 64 connections": (api.ask(session, "api.example.com:443"), 64),
    }
    asked = {name: (api.socket, *how) for name, how in asked.items()} | others(world)
    runs, syncs = {name: [] for name in asked}, []
    for _round in range(rounds):
        syncs.append(world.sync_latency() * 1e6)
        for name, (socket, request, connections) in asked.items():
            runs[name].append(api.load(socket, request, connections, seconds))
    sync = statistics.median(syncs)
    lines = ["### The API", "", "| | /s | p50 µs | p99 µs | p50 in syncs |", "|---|--:|--:|--:|--:|"]
    for name, measured in runs.items():
        rate, p50, p99 = (
            statistics.median(run[field] for run in measured) for field in ("rate", "p50_us", "p99_us")
        )
        in_syncs = "" if "look" in name or policy_server.NAME in name else f"{p50 / sync:.2f}"
        lines.append(f"| {name} | {rate:,.0f} | {p50:.0f} | {p99:.0f} | {in_syncs} |")
    lines += ["", f"One sync of the disk meanwhile: {sync:.0f} µs.", ""]
    lines += ratios(runs)
    hook = api.hooks()
    grown = api.many()
    lines += [
        f"`cordon hook pre-tool-use`, whole process: p50 {hook:.1f} ms.",
        f"{MANY:,} idle sessions: {grown / 1e6:.1f} MB more in the daemon.",
    ]
    return "\n".join(lines) + "\n"


def others(world):
    """What a policy server of others is asked, where there is one."""
    if not policy_server.is_there():
        return {}
    asked = {}
    for name, logs in [(SILENT, False), (LOGGED, True)]:
        server = policy_server.PolicyServer(world, logs)
        asked[name] = (server.socket, server.request(world), 64)
    return asked


def ratios(runs):
    """How many times as many decisions a second as the other server made."""
    if SILENT not in runs:
        return []
    rate = lambda name: statistics.median(run["rate"] for run in runs[name])
    pairs = [("a look, 64 connections", SILENT), ("an allow, 64 connections", LOGGED)]
    told = [f"{ours} : {theirs} = {rate(ours) / rate(theirs):.1f}" for ours, theirs in pairs]
    return ["Decisions a second, ours to theirs: " + "; ".join(told) + ".", ""]


class Api:
    """The API of a daemon that runs for this alone."""

    def __init__(self, world):
        self.world = world
        self.policy = world.write("policy/api.cedar", POLICY)
        self.socket = f"{world.root}/run/cordon/api.sock"
        here = os.path.dirname(os.path.abspath(__file__))
        self.loader = f"{world.root}/run/ask"
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", self.loader, f"{here}/ask.c"], check=True)
        world.write("config/cordon/cordon.toml", "[check]\nbefore_first_session = false\n")
        with open(f"{world.root}/daemon.out", "ab") as out:
            serving = subprocess.Popen(
                [world.binary, "serve", "--user"], env=world.environment(), stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, cwd=world.root,
            )
        world.processes.append(serving)
        self.daemon = Running(serving.pid)
        for _try in range(200):
            if os.path.exists(self.socket):
                return
            time.sleep(0.05)
        raise SystemExit(f"no API at {self.socket}; see {world.root}/daemon.out")

    def post(self, path, body):
        said = subprocess.run(
            ["curl", "-sS", "--fail-with-body", "--unix-socket", self.socket, "-H",
             "content-type: application/json", "--data-binary", json.dumps(body),
             f"http://localhost{path}"],
            capture_output=True, text=True, check=False,
        )
        if said.returncode:
            raise SystemExit(f"POST {path}: {said.stdout}{said.stderr}")
        return json.loads(said.stdout)

    def open(self):
        return self.post("/v1/sessions", {"program": "bench", "policy": [self.policy]})["id"]

    def ask(self, session, destination, look=False):
        """A file with the whole request."""
        body = json.dumps({"ask": ["connect", destination], "look": look})
        text = (
            f"POST /v1/sessions/{session}/decisions HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        return self.world.write(f"run/{urllib.parse.quote_plus(f'{destination}-{look}')}", text)

    def load(self, socket, request, connections, seconds):
        said = subprocess.run(
            [self.loader, socket, request, str(connections), str(seconds)],
            capture_output=True, text=True, check=False,
        )
        if said.returncode:
            raise SystemExit(f"the load failed: {said.stdout}{said.stderr}")
        run = json.loads(said.stdout)
        return run | {"rate": run["count"] / run["seconds"]}

    def hooks(self):
        """Median milliseconds of the hook, from its start to its end."""
        folder = f"{self.world.root}/granted"
        asked = json.dumps({
            "session_id": "bench", "hook_event_name": "PreToolUse", "cwd": folder,
            "tool_name": "WebFetch", "tool_input": {"url": "https://api.example.com/"},
        })
        command = [self.world.binary, "hook", "pre-tool-use", "--policy", self.policy]
        took = []
        for _run in range(HOOKS):
            begun = time.perf_counter()
            said = subprocess.run(
                command, input=asked, env=self.world.environment(), cwd=folder,
                capture_output=True, text=True, check=False,
            )
            took.append((time.perf_counter() - begun) * 1e3)
            if "hookSpecificOutput" not in said.stdout:
                raise SystemExit(f"the hook failed: {said.stdout}{said.stderr}")
        return statistics.median(took)

    def many(self):
        """Bytes that the daemon grows by with so many sessions that rest."""
        before = self.daemon.resident()
        for _session in range(MANY):
            self.open()
        return self.daemon.resident() - before
