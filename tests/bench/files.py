#!/usr/bin/env python3
"""What the guard costs: file-heavy work in an `rw` grant against the same work outside.

    CORDON_BIN=target/release/cordon tests/bench/files.py [--rounds N] [--in DIR] [--wrap CMD]

Each round runs every piece of work outside, then in a session, in a fresh folder, and takes the
time inside the session, so that starting it does not count. Prints the medians and their ratio.
`--wrap` runs the work under another command instead of `cordon run`; `{}` in it is the folder.
Needs git, tar, cc and python3.
"""

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile

FILES = 5000

# Each is a shell script, run in the folder, with what it needs made beforehand and not timed.
WORK = {
    "git status": ("cd repo", "git status >/dev/null"),
    "git add 5000": ("cd fresh", "git add ."),
    "git commit": ("cd fresh", "git commit -qm all"),
    "npm-like install": ("true", "python3 install.py modules"),
    "tar x 5000": ("mkdir -p out", "tar xf files.tar -C out"),
    "c build": ("cd c", "for f in *.c; do cc -c $f -o ${f%.c}.o; done; cc *.o -o all"),
    "rm -rf 5000": ("true", "rm -rf out"),
}

INSTALL = """
import os, sys
root = sys.argv[1]
for package in range(200):
    home = os.path.join(root, "node_modules", f"p{package}")
    temporary = os.path.join(root, "node_modules", f".p{package}-x")
    os.makedirs(os.path.join(temporary, "lib"))
    for number in range(10):
        path = os.path.join(temporary, "lib", f"{number}.js")
        with open(path + ".tmp", "w") as file:
            file.write("module.exports = 1;\\n" * 20)
        os.rename(path + ".tmp", path)
    os.rename(temporary, home)
"""


def prepare(folder):
    """What all pieces of work need; `.git` is made here because a session may not make one."""
    source = os.path.join(folder, "files")
    for number in range(FILES):
        path = os.path.join(source, f"d{number % 50}", f"f{number}.txt")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(f"file {number}\n" * 20)
    run(["tar", "cf", "files.tar", "files"], folder)
    for name in ("repo", "fresh"):
        shutil.copytree(source, os.path.join(folder, name))
        where = os.path.join(folder, name)
        run(["git", "init", "-q"], where)
        run(["git", "config", "user.name", "bench"], where)
        run(["git", "config", "user.email", "bench@example.com"], where)
    run(["git", "add", "."], os.path.join(folder, "repo"))
    run(["git", "commit", "-qm", "one"], os.path.join(folder, "repo"))
    with open(os.path.join(folder, "install.py"), "w") as file:
        file.write(INSTALL)
    os.makedirs(os.path.join(folder, "c"))
    for number in range(60):
        with open(os.path.join(folder, "c", f"m{number}.c"), "w") as file:
            main = "int main(void) { return 0; }\n" if number == 0 else ""
            file.write(f"#include <stdio.h>\nint f{number}(void) {{ return puts(\"x\"); }}\n{main}")
    lines = ["set -e", "now() { date +%s%N; }"]
    for name, (before, work) in WORK.items():
        lines.append(f"({before}; begun=$(now); {work}; ended=$(now);"
                     f" echo \"TOOK {name}: $((ended-begun))\")")
    with open(os.path.join(folder, "work.sh"), "w") as file:
        file.write("\n".join(lines) + "\n")


def run(command, where):
    subprocess.run(command, cwd=where, check=True, stdout=subprocess.DEVNULL)


def measure(command, where):
    done = subprocess.run(command, cwd=where, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)} ended with {done.returncode}")
    took = {}
    for line in done.stdout.splitlines():
        if line.startswith("TOOK "):
            name, _, nanoseconds = line[5:].rpartition(": ")
            took[name] = int(nanoseconds) / 1e6
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in", dest="where", help="on this file system")
    parser.add_argument("--wrap", help="another command than `cordon run`")
    args = parser.parse_args()
    cordon = os.environ.get("CORDON_BIN", "cordon")
    wrap = args.wrap or f"{cordon} run --quiet --grant {{}}:rwd=bench --"
    times = {"outside": {}, "inside": {}}
    for _ in range(args.rounds):
        for place in times:
            with tempfile.TemporaryDirectory(dir=args.where) as folder:
                folder = os.path.realpath(folder)
                prepare(folder)
                script = ["sh", "work.sh"]
                if place == "inside":
                    cd = "cd /sessions/*/mnt/bench 2>/dev/null || cd /mnt/bench; exec sh work.sh"
                    script = [*shlex.split(wrap.format(folder)), "sh", "-c", cd]
                for name, took in measure(script, folder).items():
                    times[place].setdefault(name, []).append(took)
    print(f"{'work':18} {'outside ms':>11} {'inside ms':>11} {'ratio':>7}")
    for name in WORK:
        outside, inside = (statistics.median(times[place][name]) for place in times)
        print(f"{name:18} {outside:11.1f} {inside:11.1f} {inside / outside:7.2f}")


if __name__ == "__main__":
    main()
