"""How long a session takes to start and end, beside the same bubblewrap line alone.

The line is taken from a real run: a program that stands in bubblewrap's place for that one run,
in a mount namespace of its own, keeps the arguments and what the descriptors in them hold. Alone
it gets a network namespace too (Cordon makes that itself) and runs `true` as its first process.

Only an ordinary user's line: root's sessions mount from places that are made for each and gone
after it.
"""

import json
import os
import statistics
import subprocess
import time

BUBBLEWRAP = "/usr/bin/bwrap"
TAKES_DESCRIPTOR = ("--file", "--bind-data", "--ro-bind-data", "--seccomp")

RECORDER = """#!/usr/bin/python3 -I
import json, os, sys
def content(number):
    size = os.fstat(number).st_size
    return os.pread(number, size, 0)
words = content(int(sys.argv[sys.argv.index("--args") + 1])).split(b"\\0")[:-1]
line = [word.decode() for word in words]
held = {{at: content(int(line[at])).hex() for at in range(1, len(line))
        if line[at - 1] in {takes}}}
with open({out!r}, "w") as file:
    json.dump([line, held], file)
"""


def same_line(world):
    """The arguments that Cordon gives bubblewrap, with descriptors of our own for its files."""
    out = f"{world.root}/run/line.json"
    recorder = world.write("recorder", RECORDER.format(takes=TAKES_DESCRIPTOR, out=out))
    os.chmod(recorder, 0o755)
    unshare = ["unshare", "--mount"]
    if os.getuid() != 0:
        unshare += ["--map-current-user", "--keep-caps"]
    script = f"mount --bind {recorder} {BUBBLEWRAP} && exec {' '.join(session(world))}"
    subprocess.run(
        [*unshare, "sh", "-c", script], env=world.environment(), cwd=f"{world.root}/granted",
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )
    with open(out, encoding="utf-8") as file:
        line, held = json.load(file)
    # Cordon lays `/etc` out for each session and shows it by one mount; here it is the host's.
    line[line.index("/etc") - 1] = "/etc"
    for at, content in held.items():
        # Bubblewrap reads each once, and shares our offset: opened anew for every run.
        line[int(at)] = world.write_bytes(f"run/held-{at}", bytes.fromhex(content))
    return line, [int(at) for at in held]


def session(world):
    return [world.binary, "run", "--quiet", "--policy", f"{world.root}/policy", "--", "true"]


def timed(world, command, opened=()):
    """Milliseconds from the start of a process to its end."""
    begun = time.perf_counter()
    pid = os.posix_spawn(command[0], command, world.environment(), file_actions=opened)
    _pid, status = os.waitpid(pid, 0)
    took = time.perf_counter() - begun
    if status != 0:
        raise SystemExit(f"status {status}: {' '.join(command)}")
    return took * 1e3


def alone(world, line, held):
    """One run of the same line, its files opened anew."""
    line, opened = list(line), []
    for number, at in enumerate(held, start=20):
        opened.append((os.POSIX_SPAWN_OPEN, number, line[at], os.O_RDONLY, 0))
        line[at] = str(number)
    command = [BUBBLEWRAP, "--unshare-net", *line, "--", "/usr/bin/true"]
    return timed(world, command, opened)


def bare(world):
    return timed(world, [BUBBLEWRAP, "--unshare-all", "--ro-bind", "/", "/", "/usr/bin/true"])


def table(world, launches):
    os.chdir(f"{world.root}/granted")
    # It would be the check's line that is taken, and the recorder holds no wall.
    os.makedirs(f"{world.root}/config/cordon", exist_ok=True)
    world.write("config/cordon/cordon.toml", "[check]\nbefore_first_session = false\n")
    kinds = {"`cordon run --quiet true`": lambda: timed(world, session(world))}
    if os.getuid() != 0:
        line, held = same_line(world)
        kinds["the same bubblewrap line alone"] = lambda: alone(world, line, held)
    kinds["`bwrap --unshare-all`"] = lambda: bare(world)
    times = {name: [] for name in kinds}
    for number in range(launches + 3):
        for name, run in kinds.items():
            took = run()
            # The first few fill caches.
            if number >= 3:
                times[name].append(took)
    middle = {name: statistics.median(took) for name, took in times.items()}
    first, *same, plain = middle.values()
    lines = ["### Launch, the daemon running", "", "| | p50 ms | p90 ms |", "|---|--:|--:|"]
    for name, took in times.items():
        p90 = sorted(took)[len(took) * 9 // 10]
        lines.append(f"| {name} | {middle[name]:.1f} | {p90:.1f} |")
    to_same = "".join(f"Ratio to the same line: {first / one:.2f}. " for one in same)
    lines += ["", f"{to_same}Ratio to bare: {first / plain:.2f}."]
    return "\n".join(lines) + "\n"
