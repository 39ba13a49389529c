#!/usr/bin/python3
"""Runs Claude Code on the host, outside any sandbox, with the hook that Cordon installs.

    run_hooked.py --program PATH --work DIR --cordon PATH --policy DIR [--user NAME]
                  [--api ADDRESS:PORT]

The model asks for a file in the project, a file outside of it, a command, a file that policy lets
a person approve, and a page of an allowed and of a denied host. The hook is put in by `cordon hook
install`. One JSON object on standard output says what happened; exit codes as of
`run_agent.py`.
"""

import argparse
import json
import os
import pathlib
import pwd
import subprocess
import sys

import run_agent

INSIDE, OUTSIDE, COMMAND, ASKED, ALLOWED, DENIED = range(6)


class Hooked(run_agent.Setup):
    """The agent as it is, and its settings by Cordon."""

    def write_script(self):
        self.outside = self.work / "outside.txt"
        steps = [
            {"write": str(self.project / "hello.txt"), "content": run_agent.TEXT},
            {"write": str(self.outside), "content": run_agent.TEXT},
            {"run": "cat hello.txt"},
            {"write": str(self.project / "asked.txt"), "content": run_agent.TEXT},
            {"fetch": "https://allowed.test/"},
            {"fetch": "https://denied.test/"},
            {"say": run_agent.SAID},
        ]
        self.script.write_text(json.dumps(steps))

    def install(self):
        """As a user would, with one line."""
        options = self.options
        command = [options.cordon, "hook", "install", "--agent", "claude", "--write"]
        command += ["--policy", options.policy]
        identity = {}
        if options.user:
            user = pwd.getpwnam(options.user)
            for path in [self.work, *self.work.rglob("*")]:
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        subprocess.run(command, env=self.environment(), stdout=sys.stderr, check=True, **identity)


def failures(setup, happened):
    """Names of the expectations that did not hold."""
    texts = [result["text"] for result in happened["results"]] + [""] * 6
    expected = {
        "exits with 0": happened["exit"] == 0,
        "says the last line": happened["said"],
        "writes the file that policy allows": happened["file"] == run_agent.TEXT,
        "does not write the one that it denies": not setup.outside.exists(),
        "is told why by Cordon": "Cordon" in texts[OUTSIDE] and "granted" in texts[OUTSIDE],
        "does not write what nobody approved": not (setup.project / "asked.txt").exists(),
        "is told that a person has to": "permission" in texts[ASKED] or "approv" in texts[ASKED],
        "is told why it may not fetch": "Cordon" in texts[DENIED],
        "is not told so of what it may": "Cordon" not in texts[ALLOWED],
        "runs the command that policy allows": run_agent.TEXT.strip() in texts[COMMAND],
    }
    return [name for name, held in expected.items() if not held]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--cordon", required=True)
    parser.add_argument("--policy", required=True)
    parser.add_argument("--user")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--api", type=run_agent.address, default=("127.0.0.77", 443))
    options = parser.parse_args()
    options.agent, options.auth, options.prefix = "claude", "key", []
    options.allowed = options.denied = (options.api[0], 0)
    try:
        setup = Hooked(options)
        setup.install()
        with run_agent.model(setup):
            done = run_agent.run(setup)
    except (OSError, RuntimeError, KeyError, subprocess.SubprocessError) as error:
        print(f"error: not run: {error}", file=sys.stderr)
        return 2
    happened = run_agent.report(setup, done)
    happened["failed"] = failures(setup, happened)
    print(json.dumps(happened, indent=2))
    return 1 if happened["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
