"""Cerbos, a policy decision server that npm installs, asked over a unix socket what Cordon is asked.

The same question in its own words: may this principal connect to this host, by a rule with a domain
and nothing else. Its decisions go into no log, as those of a look; with its log of decisions (a
file, not synced) they are as those of an allow that is not made sure of.
"""

import json
import os
import shutil
import subprocess
import time

POLICY = """
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: host
  version: default
  rules:
    - name: reach
      actions: ["connect"]
      effect: EFFECT_ALLOW
      roles: ["agent"]
      condition:
        match:
          expr: R.attr.host == "example.com" || R.attr.host.endsWith(".example.com")
"""
NAME = "cerbos"


def is_there():
    return shutil.which(NAME) is not None


class PolicyServer:
    """One that runs until the world ends."""

    def __init__(self, world, logs):
        name = f"cerbos-{'logs' if logs else 'silent'}"
        root = f"{world.root}/{name}"
        os.makedirs(f"{root}/policies")
        world.write(f"{name}/policies/host.yaml", POLICY)
        self.socket = f"{root}/http.sock"
        settings = {
            "server": {"httpListenAddr": f"unix:{self.socket}", "grpcListenAddr": f"unix:{root}/grpc.sock"},
            "telemetry": {"disabled": True},
            "storage": {"driver": "disk", "disk": {"directory": f"{root}/policies"}},
        }
        if logs:
            settings["audit"] = {
                "enabled": True, "backend": "file", "accessLogsEnabled": False,
                "decisionLogsEnabled": True, "file": {"path": f"{root}/decisions.log"},
            }
        # JSON is YAML too.
        config = world.write(f"{name}/config.yaml", json.dumps(settings))
        with open(f"{root}/out", "wb") as out:
            serving = subprocess.Popen(
                [NAME, "server", "--config", config, "--log-level", "error", "--debug-listen-addr="],
                env=world.environment() | {"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, cwd=root,
            )
        world.processes.append(serving)
        for _try in range(400):
            if os.path.exists(self.socket):
                return
            time.sleep(0.05)
        raise SystemExit(f"{NAME} does not listen; see {root}/out")

    def request(self, world):
        """A file with the whole request."""
        host = {"host": "api.example.com", "port": 443}
        body = json.dumps({
            "requestId": "bench",
            "principal": {"id": "bench", "roles": ["agent"]},
            "resources": [{
                "actions": ["connect"],
                "resource": {"kind": "host", "id": "api.example.com:443", "attr": host},
            }],
        })
        text = (
            "POST /api/check/resources HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        return world.write("run/cerbos", text)
