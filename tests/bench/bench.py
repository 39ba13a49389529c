#!/usr/bin/env python3
"""Cordon's proxy beside others, and its launch beside bubblewrap alone. Prints ratios.

Absolute figures belong to the machine and the minute; ratios travel. So everything of one kind is
run in turns, direct runs between them, and each ratio is that of a run and the direct runs before
and after it.
"""

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import api
import grants
import inside as from_inside
import launch
from world import HOSTS, NAME, ORIGIN, SECRET_NAME, TLS_ORIGIN, Running, World

SMALL, TUNNEL, BULK, INSIDE, HANDSHAKE, INSIDE_BULK = (
    "get", "setups", "bulk", "inside", "handshake", "inside-bulk"
)


class System:
    """One way to the origin: where it listens, what it speaks, and which process does the work."""

    def __init__(self, name, process, http=None, connect=None, socks=None, tls=None, fixed=False):
        self.name, self.process = name, process
        # Whether it leads to the origin without being asked where to.
        self.fixed = fixed
        self.ports = {"get": http, "connect": connect, "socks": socks, "tls": tls}

    @property
    def is_cordon(self):
        return self.name.startswith("cordon")

    def run(self, words, **more):
        return subprocess.run(
            words, shell=True, cwd=os.environ["BENCH_GRANTED"], capture_output=True, text=True,
            check=False, **more,
        ).stdout


def systems(world):
    """Direct first; others as far as they are installed or built."""
    found = [System("direct", None, http=ORIGIN, connect=ORIGIN, socks=ORIGIN, tls=TLS_ORIGIN)]
    for name, port, options in (
        ("cordon", 28120, {}),
        ("cordon, each", 28122, {"each": True}),
        ("cordon, one rule, log in memory", 28124,
         {"rules": 0, "state": tempfile.mkdtemp(prefix="cordon-bench-", dir="/dev/shm")}),
    ):
        folder = name.replace(",", "").replace(" ", "-")
        process = Running(world.start_gateway(folder, port, **options).pid)
        spoken = ("http", "connect") if "," in name else ("http", "connect", "tls")
        ports = {kind: port for kind in spoken} | {"socks": port + 1}
        found.append(System(name, process, **ports))
        if "state" in options:
            world.elsewhere.append(options["state"])
    for name, port, start, spoken in (
        ("bare hyper (decides nothing)", 28115, world.start_bare, ("http", "connect")),
        ("squid", 28110, world.start_squid, ("http", "connect")),
        ("haproxy", 28111, world.start_haproxy, ("http",)),
        ("tinyproxy", 28112, world.start_tinyproxy, ("http", "connect")),
        ("haproxy, TCP (decides nothing)", 28116, world.start_haproxy_tcp, ("connect",)),
        ("microsocks", 28113, world.start_microsocks, ("socks",)),
        ("danted", 28117, world.start_danted, ("socks",)),
        ("mitmproxy", 28114, world.start_mitmproxy, ("tls",)),
    ):
        try:
            process = Running(start(port).pid)
        except FileNotFoundError:
            print(f"{name} is not installed, left out", file=sys.stderr)
            continue
        ports = {kind: port for kind in spoken}
        found.append(System(name, process, fixed="TCP" in name, **ports))
    return found


# -------------------------------------------------------------------- one run

def measure(system, kind, door, seconds):
    """One run: rate, CPU per unit of the proxy, and what failed."""
    before = system.process.cpu() if system.process else 0
    if kind == SMALL:
        result = small(system, seconds)
    elif door == "tls":
        result = inside(system, kind, seconds)
    else:
        result = tunnels(system, kind, door, seconds)
    after = system.process.cpu() if system.process else 0
    result["rate"] = result["count"] / result["seconds"]
    result["cpu"] = (after - before) / max(result["count"], 1)
    return result


def small(system, seconds):
    script = "cordon" if system.is_cordon else "direct" if system.name == "direct" else "peer"
    port = system.ports["get"]
    said = system.run(
        f"wrk -t1 -c64 -d{seconds}s --latency -s {script}.lua http://127.0.0.1:{port}/b200"
    )
    counted = re.search(r"(\d+) requests in ([\d.]+)(m?s|m)", said)
    if not counted:
        raise SystemExit(f"{system.name}: wrk failed:\n{said}")
    unit = {"ms": 0.001, "s": 1, "m": 60}[counted[3]]
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    return {
        "count": int(counted[1]),
        "seconds": float(counted[2]) * unit,
        "failed": int(refused[1] if refused else 0)
        + (int(errors[1]) + int(errors[3]) + int(errors[4]) if errors else 0),
        "p99": re.search(r"99%\s+(\S+)", said)[1],
    }


def tunnels(system, kind, door, seconds):
    path = "/b16" if kind == TUNNEL else "/big"
    said = system.run(f"./load {kind} {way(system, door)} {path} {seconds} 32")
    try:
        return json.loads(said.strip().splitlines()[0])
    except (IndexError, ValueError):
        raise SystemExit(f"{system.name}: load failed:\n{said}") from None


def way(system, door):
    """How `load` reaches the origin by this system: mode, proxy's port, host, port."""
    port = system.ports[door]
    if system.name == "direct" or system.fixed:
        return f"direct 0 127.0.0.1 {port}"
    host = NAME if system.is_cordon else "127.0.0.1"
    return f"{door} {port} {host} {ORIGIN}"


def inside(system, kind, seconds):
    """Requests inside TLS: what a proxy looks into on its way. The client trusts everybody."""
    proxy = "" if system.name == "direct" else f"-x http://127.0.0.1:{system.ports['tls']}"
    name = SECRET_NAME if system.is_cordon else "127.0.0.1"
    url = f"https://{name}"
    if kind == INSIDE_BULK:
        said = system.run(
            f"curl -sk --http1.1 {proxy} -m {seconds} -o /dev/null -w '%{{size_download}} %{{time_total}}' {url}/big"
        )
        count, took = said.split()
        return {"count": int(count), "seconds": float(took), "failed": int(int(count) == 0)}
    workers, kept = (16, "-disable-keepalive") if kind == HANDSHAKE else (64, "")
    path = "/b16" if kind == HANDSHAKE else "/b200"
    said = system.run(f"hey -z {seconds}s -c {workers} {kept} {proxy} {url}{path}")
    took = re.search(r"Total:\s+([\d.]+) secs", said)
    good = re.search(r"\[200\]\s+(\d+) responses", said)
    if not (took and good):
        raise SystemExit(f"{system.name}: hey failed:\n{said}")
    others = sum(int(n) for code, n in re.findall(r"\[(\d+)\]\s+(\d+) responses", said) if code != "200")
    wrong = re.search(r"Error distribution:(.*)", said, re.S)
    # The connections that the end of a run cuts off are counted as errors by hey itself.
    errors = sum(int(n) for n in re.findall(r"\[(\d+)\]", wrong[1])) if wrong else 0
    return {"count": int(good[1]), "seconds": float(took[1]), "failed": others + max(errors - workers, 0)}


# -------------------------------------------------------------------- idle tunnels

def idle(found, tunnels):
    """Memory of tunnels at rest, after one request through each. Each takes two descriptors of a
    proxy, so what a process may open bounds them."""
    tunnels = min(tunnels, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 200)
    lines = [
        "### Idle tunnels, one request through each", "",
        "| | KiB per tunnel | failed |", "|---|--:|--:|",
    ]
    for system in found[1:]:
        # Others are bounded by their configuration at fewer.
        if not (system.name in ("cordon", "squid") or system.fixed):
            continue
        tunnels = tunnels if system.is_cordon else min(tunnels, 7_000)
        before = system.process.resident()
        load = subprocess.Popen(
            ["sh", "-c", f"ulimit -n 65536 2>/dev/null; exec ./load idle {way(system, 'connect')} /b16 {tunnels}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=os.environ["BENCH_GRANTED"],
        )
        said = json.loads(load.stdout.readline())
        grown = system.process.resident() - before
        load.stdin.close()
        load.wait()
        each = f"{grown / 1024 / said['count']:.1f}" if said["count"] else ""
        lines.append(f"| {system.name}, {tunnels:,} | {each} | {said['failed']} |")
        print(f"  idle {system.name}: {each} KiB, failed {said['failed']}", file=sys.stderr)
    return "\n".join(lines) + "\n"


# -------------------------------------------------------------------- many runs

def compare(found, kind, door, rounds, seconds):
    """Runs every system that speaks `door` in turns, direct between them; rows by name."""
    direct, *others = [system for system in found if system.ports[door]]
    if kind == INSIDE_BULK:
        # It holds a whole body before it sends it on, and this one has no end.
        others = [system for system in others if system.name != "mitmproxy"]
    for system in others:
        measure(system, kind, door, 1)
    rows = {}
    last = measure(direct, kind, door, seconds)
    rows.setdefault("direct", []).append({**last, "ratio": 1.0})
    for number in range(rounds):
        turn = number % len(others)
        for system in others[turn:] + others[:turn]:
            run = measure(system, kind, door, seconds)
            following = measure(direct, kind, door, seconds)
            run["ratio"] = run["rate"] / statistics.mean([last["rate"], following["rate"]])
            last = following
            rows["direct"].append({**last, "ratio": 1.0})
            rows.setdefault(system.name, []).append(run)
            note(kind, door, system.name, run)
    return rows


def note(kind, door, name, run):
    print(
        f"  {kind} {door} {name}: {run['rate']:,.0f}/s, {run['ratio']:.3f} of direct, "
        f"failed {run['failed']}", file=sys.stderr, flush=True,
    )


def table(title, rows, unit, scale, cpu_unit, cpu_scale):
    def middle(name, field):
        return statistics.median(run[field] for run in rows[name])

    base = middle("squid", "ratio") if "squid" in rows else None
    lines = [
        f"### {title}", "",
        f"| | {unit} | of direct | {'of squid | ' if base else ''}{cpu_unit} | failed |",
        f"|---|--:|--:|{'--:|' if base else ''}--:|--:|",
    ]
    for name in rows:
        beside = f"{middle(name, 'ratio') / base:.2f} | " if base else ""
        cpu = f"{middle(name, 'cpu') * cpu_scale:.1f}" if name != "direct" else ""
        failed = sum(run["failed"] for run in rows[name])
        lines.append(
            f"| {name} | {middle(name, 'rate') * scale:,.{0 if scale == 1 else 2}f} | "
            f"{middle(name, 'ratio'):.3f} | {beside}{cpu} | {failed} |"
        )
    return "\n".join([*lines, *cost(rows, cpu_unit)]) + "\n"


def cost(rows, cpu_unit):
    """What policy and log cost in CPU, of each pair of runs of the same round. The engine has no way
    to leave deciding and recording out: only a record makes a permit, and only a permit dials. So
    beside it stands the same program with next to none of both: one rule, a log that no disk waits
    for; its bounds are above the load in either."""
    least = "cordon, one rule, log in memory"
    if least not in rows:
        return []
    pairs = zip(rows["cordon"], rows[least])
    shares = [whole["cpu"] / less["cpu"] - 1 for whole, less in pairs if less["cpu"]]
    if not shares:
        return []
    share = statistics.median(shares)
    return ["", f"{cpu_unit}: a policy of {HOSTS:,} hosts and a log on disk take {share:+.0%} over "
                "one rule and a log in memory."]


TESTS = {
    "get": ("Small GET, 64 kept connections", SMALL, "get", "requests/s", 1, "CPU µs/request", 1e6),
    "connect": ("CONNECT, set up and closed, 32 at once", TUNNEL, "connect", "tunnels/s", 1,
                "CPU µs/tunnel", 1e6),
    "socks": ("SOCKS5, set up and closed, 32 at once", TUNNEL, "socks", "tunnels/s", 1,
              "CPU µs/tunnel", 1e6),
    "bulk": ("Bulk through one CONNECT tunnel", BULK, "connect", "GB/s", 1e-9, "CPU s/GB", 1e9),
    "tls": ("Small GET inside TLS, looked into, 64 kept connections", INSIDE, "tls", "requests/s", 1,
            "CPU µs/request", 1e6),
    "tls-setups": ("TLS set up, one GET, closed; looked into, 16 at once", HANDSHAKE, "tls",
                   "connections/s", 1, "CPU µs/connection", 1e6),
    "tls-bulk": ("Bulk inside TLS, looked into", INSIDE_BULK, "tls", "GB/s", 1e-9, "CPU s/GB", 1e9),
    "bulk-socks": ("Bulk through one SOCKS5 tunnel", BULK, "socks", "GB/s", 1e-9, "CPU s/GB", 1e9),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"of {', '.join([*TESTS, 'idle', 'launch', 'inside', 'api'])}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--launches", type=int, default=50)
    parser.add_argument("--tunnels", type=int, default=10_000)
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [*TESTS, "idle", "launch", "inside", "api"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    begun, load = time.time(), os.getloadavg()[0]
    with World(os.environ["CORDON_BIN"]) as world:
        tables = launches(world, options) if "launch" in wanted else []
        if set(wanted) & {*TESTS, "idle"}:
            tables += proxies(world, wanted, options)
        sync = world.sync_latency()
    if "inside" in wanted:
        with World(os.environ["CORDON_BIN"]) as world:
            tables.append(from_inside.table(world, options.rounds, options.seconds))
    if "api" in wanted:
        with World(os.environ["CORDON_BIN"]) as world:
            tables.append(api.table(world, options.rounds, options.seconds))
    print(
        f"\n{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores shared by load, proxy and origin, "
        f"Linux {platform.release()}, load before {load:.1f}, {time.time() - begun:.0f} s; "
        f"medians of {options.rounds} runs of {options.seconds} s, "
        f"{options.launches} launches; one sync of the logs' disk takes {sync * 1e3:.2f} ms\n"
    )
    print("\n".join(tables))


def launches(world, options):
    world.start_cordon()
    lines = [launch.table(world, options.launches), grants.table(world, options.launches)]
    world.session.end()
    world.session = None
    return lines


def proxies(world, wanted, options):
    world.start_origin()
    world.make_load()
    os.environ["BENCH_GRANTED"] = f"{world.root}/granted"
    found = systems(world)
    tables = []

    def ready(text):
        tables.append(text)
        print(f"\n{text}", file=sys.stderr, flush=True)

    for name, (title, kind, door, unit, scale, cpu_unit, cpu_scale) in TESTS.items():
        if name in wanted:
            rows = compare(found, kind, door, options.rounds, options.seconds)
            ready(table(title, rows, unit, scale, cpu_unit, cpu_scale))
    if "idle" in wanted:
        ready(idle(found, options.tunnels))
    return tables


if __name__ == "__main__":
    main()
