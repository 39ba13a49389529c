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
import statistics
import subprocess
import sys
import time

import launch
from world import ORIGIN, NAME, Running, World

SMALL, TUNNEL, BULK = "get", "setups", "bulk"


class System:
    """One way to the origin: where it listens, what it speaks, and which process does the work."""

    def __init__(self, name, process, http=None, connect=None, socks=None, session=None):
        self.name, self.process, self.session = name, process, session
        self.ports = {"get": http, "connect": connect, "socks": socks}

    def run(self, words):
        if self.session:
            return self.session.run(words)
        folder = os.environ["BENCH_GRANTED"]
        return subprocess.run(
            words, shell=True, cwd=folder, capture_output=True, text=True, check=False
        ).stdout


def systems(world):
    """Direct first; others as far as they are installed."""
    found = [System("direct", None, http=ORIGIN, connect=ORIGIN, socks=ORIGIN)]
    cordon = Running(world.start_cordon().pid)
    found.append(
        System("cordon", cordon, http=3128, connect=3128, socks=1080, session=world.session)
    )
    for name, port, start, spoken in (
        ("squid", 28110, world.start_squid, ("http", "connect")),
        ("haproxy", 28111, world.start_haproxy, ("http",)),
        ("tinyproxy", 28112, world.start_tinyproxy, ("http", "connect")),
        ("microsocks", 28113, world.start_microsocks, ("socks",)),
    ):
        try:
            process = Running(start(port).pid)
        except FileNotFoundError:
            print(f"{name} is not installed, left out", file=sys.stderr)
            continue
        found.append(System(name, process, **{kind: port for kind in spoken}))
    return found


# -------------------------------------------------------------------- one run

def measure(system, kind, door, seconds):
    """One run: rate, CPU per unit of the proxy, and what failed."""
    before = system.process.cpu() if system.process else 0
    result = small(system, seconds) if kind == SMALL else tunnels(system, kind, door, seconds)
    after = system.process.cpu() if system.process else 0
    result["rate"] = result["count"] / result["seconds"]
    result["cpu"] = (after - before) / max(result["count"], 1)
    return result


def small(system, seconds):
    script = {"direct": "direct", "cordon": "cordon"}.get(system.name, "peer")
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
    mode = "direct" if system.name == "direct" else door
    host = NAME if system.name == "cordon" else "127.0.0.1"
    path = "/b16" if kind == TUNNEL else "/big"
    said = system.run(
        f"./load {kind} {mode} {system.ports[door]} {host} {ORIGIN} {path} {seconds} 32"
    )
    try:
        return json.loads(said.strip().splitlines()[0])
    except (IndexError, ValueError):
        raise SystemExit(f"{system.name}: load failed:\n{said}") from None


# -------------------------------------------------------------------- many runs

def compare(found, kind, door, rounds, seconds):
    """Runs every system that speaks `door` in turns, direct between them; rows by name."""
    direct, *others = [system for system in found if system.ports[door]]
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
    return "\n".join(lines) + "\n"


TESTS = {
    "get": ("Small GET, 64 kept connections", SMALL, "get", "requests/s", 1, "CPU µs/request", 1e6),
    "connect": ("CONNECT, set up and closed, 32 at once", TUNNEL, "connect", "tunnels/s", 1,
                "CPU µs/tunnel", 1e6),
    "socks": ("SOCKS5, set up and closed, 32 at once", TUNNEL, "socks", "tunnels/s", 1,
              "CPU µs/tunnel", 1e6),
    "bulk": ("Bulk through one CONNECT tunnel", BULK, "connect", "GB/s", 1e-9, "CPU s/GB", 1e9),
    "bulk-socks": ("Bulk through one SOCKS5 tunnel", BULK, "socks", "GB/s", 1e-9, "CPU s/GB", 1e9),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"of {', '.join([*TESTS, 'launch'])}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--launches", type=int, default=50)
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [*TESTS, "launch"]
    begun, load = time.time(), os.getloadavg()[0]
    with World(os.environ["CORDON_BIN"]) as world:
        tables = launches(world, options) if "launch" in wanted else []
        if set(wanted) & set(TESTS):
            tables += proxies(world, wanted, options)
    print(
        f"\n{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores shared by load, proxy and origin, "
        f"Linux {platform.release()}, load before {load:.1f}, {time.time() - begun:.0f} s; "
        f"medians of {options.rounds} runs of {options.seconds} s, "
        f"{options.launches} launches\n"
    )
    print("\n".join(tables))


def launches(world, options):
    world.start_cordon()
    lines = launch.table(world, options.launches)
    world.session.end()
    world.session = None
    return [lines]


def proxies(world, wanted, options):
    world.start_origin()
    world.make_load()
    os.environ["BENCH_GRANTED"] = f"{world.root}/granted"
    found = systems(world)
    tables = []
    for name, (title, kind, door, unit, scale, cpu_unit, cpu_scale) in TESTS.items():
        if name in wanted:
            rows = compare(found, kind, door, options.rounds, options.seconds)
            tables.append(table(title, rows, unit, scale, cpu_unit, cpu_scale))
    return tables


if __name__ == "__main__":
    main()
