#!/usr/bin/python3
"""Runs a real agent against the scripted model, and says what happened.

    run_agent.py {claude|codex} --program PATH --work DIR [--auth key|account] [--user NAME]
                 [--api ADDRESS:PORT] [--allowed ADDRESS:PORT] [--denied ADDRESS:PORT]
                 [-- PREFIX...]

Without PREFIX the agent runs as it is, the control: both origins must be reached. With PREFIX
(for example `cordon run --policy P --`) the agent is started through it, and the denied origin must
not see a single connection.

One JSON object on standard output says what happened; exit 0 when all of it was as expected, 1 when
not (`failed` lists what), 2 when the test itself could not be set up.
"""

import argparse
import contextlib
import json
import os
import pathlib
import pwd
import subprocess
import sys

import agents
import certs

HERE = pathlib.Path(__file__).resolve().parent
TEXT = "hello from the agent\n"
SAID = "done as scripted"
WRITE, RUN, ALLOWED, DENIED = range(4)


class Setup:
    """Everything one run needs, below one directory."""

    def __init__(self, options):
        self.options = options
        self.agent = agents.AGENTS[options.agent]
        self.inside = bool(options.prefix)
        self.work = pathlib.Path(options.work).resolve()
        self.home, self.project = self.work / "home", self.work / "project"
        self.log, self.script = self.work / "seen.jsonl", self.work / "script.json"
        for name in ("home", "project", "run", "bin"):
            (self.work / name).mkdir(parents=True, exist_ok=True)
        (self.work / "run").chmod(0o700)
        link = self.work / "bin" / options.agent
        link.unlink(missing_ok=True)
        link.symlink_to(pathlib.Path(options.program).resolve())
        names = [*self.agent.hosts, options.api[0]]
        self.ca, self.leaf, self.key = certs.make(self.work / "tls", names)
        self.write_script()
        if options.auth == "account":
            self.agent.sign_in(self.home)
        if self.inside:
            self.write_configuration()

    def url(self, name):
        """Of an origin: by name where Cordon resolves it, by address where nothing does."""
        address, port = getattr(self.options, name)
        return f"http://{f'{name}.test' if self.inside else address}:{port}/from-the-agent"

    def write_script(self):
        fetch = "curl -sS -m 20 -w ' status %{http_code}' "
        steps = [
            {"write": "hello.txt", "content": TEXT},
            {"run": "cat hello.txt; echo \"home is $HOME\""},
            {"run": fetch + self.url("allowed")},
            {"run": fetch + self.url("denied")},
            {"say": SAID},
        ]
        self.script.write_text(json.dumps(steps))

    def write_configuration(self):
        """Names of the test on addresses of the test; both origins alike, so that only policy
        tells them apart."""
        where = {host: self.options.api[0] for host in self.agent.hosts}
        where |= {f"{name}.test": getattr(self.options, name)[0] for name in ("allowed", "denied")}
        lines = ["[resolve.overrides]"]
        lines += [f'"{host}" = ["{address}"]' for host, address in where.items()]
        for host, address in where.items():
            lines += ["[[network.permit_addresses]]", f'host = "{host}"', f'addresses = ["{address}/32"]']
        lines += ["[tls]", f'extra_ca_certificates = ["{self.ca}"]']
        file = self.home / ".config" / "cordon" / "cordon.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")

    def environment(self):
        """What a user's shell would have, and nothing of ours."""
        user = self.options.user or pwd.getpwuid(os.getuid()).pw_name
        env = {
            "HOME": str(self.home),
            "PATH": f"{self.work}/bin:{os.environ.get('CORDON_TEST_PATH', '/usr/local/bin:/usr/bin:/bin')}",
            "USER": user,
            "LOGNAME": user,
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "XDG_RUNTIME_DIR": str(self.work / "run"),
        }
        if self.options.auth == "key":
            env |= self.agent.key
        if not self.inside:
            bundle = self.work / "tls" / "bundle.pem"
            bundle.write_text(SYSTEM_CERTIFICATES.read_text() + self.ca.read_text())
            env |= {name: str(bundle) for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")}
            env |= {"IS_SANDBOX": "1"}
        return env

    def command(self):
        """The command line; outside, the API is named by its address."""
        base = None if self.inside else "https://{}:{}".format(*self.options.api)
        command = [self.options.agent, *self.agent.arguments(base, self.options.auth)]
        if not self.inside:
            command[0] = str(self.work / "bin" / self.options.agent)
        return [*self.options.prefix, *command]


@contextlib.contextmanager
def model(setup):
    """The endpoint and both origins, until the block ends."""
    setup.log.unlink(missing_ok=True)
    options = setup.options
    command = ["/usr/bin/python3", HERE / "model.py", "--script", setup.script, "--log", setup.log]
    command += ["--https", "{}:{}".format(*options.api), "--certificate", setup.leaf, "--key", setup.key]
    for name in ("allowed", "denied"):
        command += ["--origin", "{}={}:{}".format(name, *getattr(options, name))]
    process = subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        if not process.stdout.readline():
            raise RuntimeError("the model endpoint did not start; its message is above")
        yield
    finally:
        process.stdin.close()
        process.wait()


def run(setup):
    """Runs the command as the user; its exit code, standard output and standard error."""
    identity = {}
    if setup.options.user:
        user = pwd.getpwnam(setup.options.user)
        for path in [setup.work, *setup.work.rglob("*")]:
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}
    done = subprocess.run(
        setup.command(),
        cwd=setup.project,
        env=setup.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=setup.options.seconds,
        check=False,
        **identity,
    )
    (setup.work / "stdout").write_text(done.stdout)
    (setup.work / "stderr").write_text(done.stderr)
    return done


def report(setup, done):
    """What happened, from three sides: the agent, the endpoint, the file system."""
    seen = [json.loads(line) for line in setup.log.read_text().splitlines()]
    turns = [entry for entry in seen if entry.get("main")]
    file = setup.project / "hello.txt"
    return {
        "exit": done.returncode,
        "said": SAID in done.stdout,
        "file": file.read_text() if file.exists() else None,
        "file_uid": file.stat().st_uid if file.exists() else None,
        "turns": len(turns),
        "results": turns[-1]["results"] if turns else [],
        "accepts": {n: accepts(seen, n) for n in ("https", "allowed", "denied")},
        "hosts": sorted({e["host"] for e in seen if e.get("listener") == "https" and e.get("host")}),
        "refreshed": any(entry.get("refresh") for entry in seen),
        "kept_refresh": setup.agent.signed_in_anew(setup.home) if setup.options.auth == "account" else None,
    }


def accepts(seen, listener):
    return sum(1 for e in seen if e["kind"] == "accept" and e["listener"] == listener)


def failures(setup, happened):
    """Names of the expectations that did not hold."""
    texts = [result["text"] for result in happened["results"]] + [""] * 4
    owner = setup.project.stat().st_uid
    expected = {
        "exits with 0": happened["exit"] == 0,
        "says the last line": happened["said"],
        "writes the file": happened["file"] == TEXT,
        "writes it as the user": happened["file_uid"] == owner,
        "runs the command": TEXT.strip() in texts[RUN],
        "reaches the allowed origin": happened["accepts"]["allowed"] == 1 and "origin allowed" in texts[ALLOWED],
    }
    if setup.inside:
        expected["home is the session's"] = str(setup.home) not in texts[RUN]
        expected["denied origin sees no connection"] = happened["accepts"]["denied"] == 0
        expected["denied fetch returns nothing of it"] = "origin denied" not in texts[DENIED]
    else:
        expected["control: denied origin is there"] = "origin denied" in texts[DENIED]
    if setup.options.auth == "account":
        expected["refreshes the sign-in"] = happened["refreshed"]
        expected["the host keeps the new sign-in"] = happened["kept_refresh"]
    return [name for name, held in expected.items() if not held]


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def parse(arguments):
    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, prefix = arguments[:at], arguments[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("agent", choices=sorted(agents.AGENTS))
    parser.add_argument("--program", required=True, help="the agent as npm installed it")
    parser.add_argument("--work", required=True, help="an empty directory; everything is written below it")
    parser.add_argument("--auth", choices=("key", "account"), default="key")
    parser.add_argument("--user", help="run the agent as this user (needs root)")
    parser.add_argument("--seconds", type=int, default=120, help="end it after so many seconds")
    parser.add_argument("--api", type=address, default=("127.0.0.77", 443))
    parser.add_argument("--allowed", type=address, default=("127.0.0.78", 80))
    parser.add_argument("--denied", type=address, default=("127.0.0.79", 80))
    options = parser.parse_args(own)
    options.prefix = prefix
    if options.auth == "account" and not prefix:
        parser.error("an account's hosts can only be stood in for behind a PREFIX")
    return options


def main():
    options = parse(sys.argv[1:])
    try:
        setup = Setup(options)
        with model(setup):
            done = run(setup)
    except (OSError, RuntimeError, KeyError, subprocess.TimeoutExpired) as error:
        print(f"error: not run: {error}", file=sys.stderr)
        return 2
    happened = report(setup, done)
    happened["failed"] = failures(setup, happened)
    print(json.dumps(happened, indent=2))
    return 1 if happened["failed"] else 0


SYSTEM_CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")

if __name__ == "__main__":
    sys.exit(main())
