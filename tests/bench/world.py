"""What is measured: an origin, other proxies, and a Cordon of its own, all in one folder.

Everything listens on loopback and ends with the benchmark. Other proxies run without access log,
cache or rules: the least they can do. Cordon runs as a user has it: each request decided and
recorded.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

ORIGIN = 28101
NAME = "bench.test"
HERTZ = os.sysconf("SC_CLK_TCK")


class World:
    def __init__(self, binary):
        self.binary = binary
        # Not /tmp, which may be in memory: a log on such a disk would be durable for nothing.
        self.root = tempfile.mkdtemp(prefix="cordon-bench-", dir="/var/tmp")
        os.chmod(self.root, 0o755)
        self.processes = []
        self.session = None
        self.daemon = None
        for folder in ("www", "granted", "policy", "home", "state", "config/cordon", "run"):
            os.makedirs(f"{self.root}/{folder}", mode=0o755)
        os.chmod(f"{self.root}/run", 0o700)
        self.write("www/b200", "x" * 199 + "\n")
        self.write("www/b16", "x" * 15 + "\n")
        self.write("www/big", "")
        os.truncate(f"{self.root}/www/big", 64 << 30)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        if self.session:
            self.session.end()
        self.cordon("stop", "--force")
        # It closes its log after it has said so.
        for _try in range(200):
            if not (self.daemon and os.path.exists(f"/proc/{self.daemon}")):
                break
            time.sleep(0.05)
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def write(self, name, text):
        path = f"{self.root}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def write_bytes(self, name, content):
        path = f"{self.root}/{name}"
        with open(path, "wb") as file:
            file.write(content)
        return path

    def spawn(self, port, *command, silent=False):
        """Starts a program of ours and waits until it listens."""
        said = f"{self.root}/{os.path.basename(command[0])}.out"
        with open(os.devnull if silent else said, "ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.root
            )
        self.processes.append(process)
        for _try in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return process
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"`{' '.join(command)}` does not listen on {port}")

    # ---------------------------------------------------------------- the origin and the load

    def start_origin(self):
        bodies = "\n".join(
            f"{kind}_temp_path {self.root}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        conf = self.write("nginx.conf", f"""
daemon off; master_process off; worker_rlimit_nofile 16384;
pid {self.root}/nginx.pid; error_log {self.root}/nginx.err;
events {{ worker_connections 8000; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000; keepalive_timeout 600s;
  open_file_cache max=10; {bodies}
  server {{ listen 127.0.0.1:{ORIGIN} backlog=4096; root {self.root}/www; }}
}}
""")
        self.spawn(ORIGIN, "/usr/sbin/nginx", "-c", conf)

    def make_load(self):
        here = os.path.dirname(os.path.abspath(__file__))
        load = f"{self.root}/granted/load"
        subprocess.run(["cc", "-O2", "-pthread", "-o", load, f"{here}/load.c"], check=True)
        for name, host, target in (
            ("direct", "127.0.0.1", "/b200"),
            ("peer", "127.0.0.1", f"http://127.0.0.1:{ORIGIN}/b200"),
            ("cordon", NAME, f"http://{NAME}:{ORIGIN}/b200"),
        ):
            self.write(f"granted/{name}.lua", f"""
wrk.headers["Host"] = "{host}:{ORIGIN}"
local request_text
init = function() request_text = wrk.format("GET", "{target}") end
request = function() return request_text end
""")

    # ---------------------------------------------------------------- other proxies

    def start_squid(self, port):
        folder = f"{self.root}/squid"
        os.makedirs(folder)
        if os.getuid() == 0:
            shutil.chown(folder, "proxy", "proxy")
        conf = self.write("squid.conf", f"""
http_port 127.0.0.1:{port}
acl everyone src all
http_access allow everyone
cache deny all
cache_mem 0 MB
access_log none
cache_store_log none
cache_log {folder}/cache.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
pinger_enable off
client_db off
max_filedescriptors 16384
shutdown_lifetime 0 seconds
""")
        return self.spawn(port, "/usr/sbin/squid", "--foreground", "-n", "cordonbench", "-f", conf)

    def start_haproxy(self, port):
        conf = self.write("haproxy.cfg", f"""
global
  maxconn 9000
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
listen forward
  bind 127.0.0.1:{port}
  http-reuse always
  http-request set-dst req.hdr_ip(host)
  http-request set-dst-port hdr(host),field(2,:)
  server origin 0.0.0.0:0
""")
        return self.spawn(port, "/usr/sbin/haproxy", "-db", "-f", conf)

    def start_tinyproxy(self, port):
        conf = self.write("tinyproxy.conf", f"""
Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients 4000
Allow 127.0.0.1
LogLevel Critical
LogFile "{self.root}/tinyproxy.log"
PidFile "{self.root}/tinyproxy.pid"
""")
        return self.spawn(port, "tinyproxy", "-d", "-c", conf)

    def start_microsocks(self, port):
        # It tells of every connection and cannot be asked not to.
        return self.spawn(
            port, "microsocks", "-i", "127.0.0.1", "-p", str(port), silent=True
        )

    # ---------------------------------------------------------------- Cordon

    def start_cordon(self):
        """A daemon with a log on disk, and one session in which the load runs."""
        self.write("config/cordon/cordon.toml", f"""
[resolve.overrides]
"{NAME}" = ["127.0.0.1"]
[[network.permit_addresses]]
host = "{NAME}"
addresses = ["127.0.0.1/32"]
""")
        self.write("policy/bench.cedar", f"""
@id("start") permit (principal, action == Action::"start_session", resource);
@id("grants") permit (principal, action in Action::"grant", resource);
@id("origin") permit (principal, action in Action::"network", resource == Host::"{NAME}");
""")
        self.session = Session(self)
        found = json.loads(self.cordon("status", "--format", "json").stdout)
        self.daemon = found["pid"]
        return Running(self.daemon)

    def environment(self):
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": f"{self.root}/home",
            "USER": "bench",
            "XDG_STATE_HOME": f"{self.root}/state",
            "XDG_CONFIG_HOME": f"{self.root}/config",
            "XDG_RUNTIME_DIR": f"{self.root}/run",
        }

    def cordon(self, *arguments):
        return subprocess.run(
            [self.binary, *arguments], env=self.environment(), cwd=f"{self.root}/home",
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )


class Session:
    """A shell inside a session, told by its standard input what to run."""

    def __init__(self, world):
        command = [
            world.binary, "run", "--quiet", "--policy", f"{world.root}/policy",
            "--grant", f"{world.root}/granted:ro=bench", "--", "sh",
        ]
        self.shell = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=world.environment(),
            cwd=f"{world.root}/home", text=True, bufsize=1,
        )
        if "ready" not in self.run("echo ready"):
            raise SystemExit("the session did not start")

    def run(self, words):
        self.shell.stdin.write(f"cd ~/mnt/bench 2>/dev/null || cd mnt/bench; {words} 2>&1; echo; echo =end=\n")
        lines = []
        for line in self.shell.stdout:
            if line == "=end=\n":
                return "".join(lines)
            lines.append(line)
        raise SystemExit("the session ended:\n" + "".join(lines))

    def end(self):
        self.shell.stdin.close()
        self.shell.wait(60)


class Running:
    """A process whose CPU time is asked for, with its children's."""

    def __init__(self, pid):
        self.pid = pid

    def cpu(self):
        return sum(ticks(pid) for pid in family(self.pid)) / HERTZ


def fields(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        text = file.read()
    return text[text.rindex(")") + 2:].split()


def ticks(pid):
    try:
        return sum(int(field) for field in fields(pid)[11:15])
    except OSError:
        return 0


def family(pid):
    found = [pid]
    for other in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(fields(other)[1]) in found:
                found.append(int(other))
        except OSError:
            pass
    return found
