"""Requests per second from inside a session beside the same from outside.

The same load, policy and origin, and a log on the same disk: outside by a gateway, inside by the
session's proxy, and by the capture, as a program does it that knows no proxy. In turns; the ratio
is that of a run inside to the runs outside before and after it.
"""

import json
import re
import statistics
import subprocess
import sys

from world import NAME, ORIGIN, Session

PORT = 28130
LOAD = "wrk -t1 -c64 -d{seconds}s"
KINDS = {
    "by its proxy": f"{LOAD} -s cordon.lua http://127.0.0.1:3128/b200",
    "captured": f"{LOAD} http://{NAME}:{ORIGIN}/b200",
}


def table(world, rounds, seconds):
    world.start_origin()
    world.make_load()
    world.start_gateway("outside", PORT, rules=0)
    world.write("config/cordon/cordon.toml", world.network() + "[check]\nbefore_first_session = false\n")
    world.write("policy/bench.cedar", world.rules())
    world.write("policy/hosts.toml", f'[host_groups]\nallowed = ["{NAME}"]\n')
    world.session = Session(world)
    world.daemon = json.loads(world.cordon("status", "--format", "json").stdout)["pid"]

    def outside():
        words = f"{LOAD} -s cordon.lua http://127.0.0.1:{PORT}/b200".format(seconds=seconds)
        return rate(subprocess.run(
            words, shell=True, cwd=f"{world.root}/granted", capture_output=True, text=True,
            check=False,
        ).stdout)

    rates, ratios = {name: [] for name in KINDS}, {name: [] for name in KINDS}
    last = outside()
    for _round in range(rounds):
        for name, words in KINDS.items():
            inside, following = rate(world.session.run(words.format(seconds=seconds))), outside()
            rates[name].append(inside)
            ratios[name].append(2 * inside / (last + following))
            print(f"  inside, {name}: {inside:,.0f}/s, {ratios[name][-1]:.3f}", file=sys.stderr)
            last = following
    lines = ["### From inside a session", "", "| small GET, 64 kept connections | /s | of outside |",
             "|---|--:|--:|"]
    for name in KINDS:
        middle = statistics.median(rates[name]), statistics.median(ratios[name])
        lines.append(f"| inside, {name} | {middle[0]:,.0f} | {middle[1]:.3f} |")
    return "\n".join(lines) + "\n"


def rate(said):
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    failed = re.search(r"Non-2xx.*|Socket errors.*", said)
    if not found or failed:
        raise SystemExit(f"wrk failed:\n{said}")
    return float(found[1])
