"""What is measured: an origin, other proxies, and a Cordon of its own, all in one folder.

Everything listens on loopback and ends with the benchmark. Other proxies run without access log,
cache or rules: the least they can do. Cordon runs as a user has it: each request decided and
recorded.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

ORIGIN = 28101
# The port that needs no naming: `hey` would put any other into its SNI. Root's.
TLS_ORIGIN = 443
NAME = "bench.test"
SECRET_NAME = "inspected.test"
HOSTS = 10_000
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
        # Folders outside the root that go with it.
        self.elsewhere = []
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
        for folder in (self.root, *self.elsewhere):
            shutil.rmtree(folder, ignore_errors=True)

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

    def spawn(self, port, *command, silent=False, environment=None):
        """Starts a program of ours and waits until it listens."""
        said = f"{self.root}/{os.path.basename(command[0])}.out"
        with open(os.devnull if silent else said, "ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.root,
                env=environment,
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
        self.make_certificate()
        conf = self.write("nginx.conf", f"""
daemon off; master_process off; worker_rlimit_nofile 65536;
pid {self.root}/nginx.pid; error_log {self.root}/nginx.err;
events {{ worker_connections 30000; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000; keepalive_timeout 600s;
  open_file_cache max=10; {bodies}
  server {{ listen 127.0.0.1:{ORIGIN} backlog=4096; root {self.root}/www; }}
  server {{
    listen 127.0.0.1:{TLS_ORIGIN} ssl backlog=4096; root {self.root}/www;
    ssl_certificate {self.root}/tls/origin.pem; ssl_certificate_key {self.root}/tls/origin.key;
  }}
}}
""")
        self.spawn(ORIGIN, "/usr/sbin/nginx", "-c", conf)

    def make_certificate(self):
        """An authority and a certificate of it for the inspected name."""
        folder = f"{self.root}/tls"
        os.makedirs(folder)
        def openssl(*words):
            subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
        openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj",
                "/CN=Benchmark", "-addext", "basicConstraints=critical,CA:TRUE")
        openssl("req", "-x509", *key, "-keyout", "origin.key", "-out", "origin.pem", "-subj",
                f"/CN={SECRET_NAME}", "-addext", f"subjectAltName=DNS:{SECRET_NAME}",
                "-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey",
                "ca.key")

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

    def start_bare(self, port):
        """What this `hyper` takes by itself: `service/examples/bare.rs`, built beside the binary."""
        beside = os.path.join(os.path.dirname(self.binary), "examples", "bare")
        return self.spawn(port, os.environ.get("CORDON_BARE", beside), f"127.0.0.1:{port}")

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

    def start_haproxy_tcp(self, port):
        """Leads every connection to the origin: the least that a proxy of tunnels can do."""
        conf = self.write("haproxy-tcp.cfg", f"""
global
  maxconn 9000
defaults
  mode tcp
  timeout connect 5s
  timeout client 600s
  timeout server 600s
listen relay
  bind 127.0.0.1:{port}
  server origin 127.0.0.1:{ORIGIN}
""")
        return self.spawn(port, "/usr/sbin/haproxy", "-db", "-f", conf)

    def start_danted(self, port):
        conf = self.write("danted.conf", f"""
internal: 127.0.0.1 port = {port}
external: lo
socksmethod: none
clientmethod: none
user.privileged: root
user.unprivileged: root
client pass {{ from: 0/0 to: 0/0 }}
socks pass {{ from: 0/0 to: 0/0 }}
""")
        return self.spawn(port, "/usr/sbin/danted", "-f", conf, silent=True)

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

    def start_mitmproxy(self, port):
        return self.spawn(
            port, "mitmdump", "-q", "--listen-host", "127.0.0.1", "-p", str(port), "--set",
            "ssl_insecure=true", "--set", f"confdir={self.root}/mitmproxy", silent=True,
        )

    # ---------------------------------------------------------------- Cordon

    def start_gateway(self, name, port, rules=HOSTS, each=False, state=None):
        """A gateway of its own: HTTP on `port`, SOCKS5 on the next; a log on disk unless `state`
        says otherwise; policy with `rules` hosts beside the origin."""
        folder = f"{self.root}/{name}"
        places = {place: f"{folder}/{place}" for place in ("policy", "home", "config/cordon", "run")}
        places["state"] = state or f"{folder}/state"
        for place in places.values():
            os.makedirs(place, mode=0o700, exist_ok=True)
        hosts = ", ".join(f'"h{n}.example.com"' for n in range(rules))
        with open(f"{places['policy']}/hosts.toml", "w", encoding="utf-8") as file:
            file.write(f'[host_groups]\nallowed = ["{NAME}", {hosts}]\n')
        with open(f"{places['policy']}/bench.cedar", "w", encoding="utf-8") as file:
            file.write(self.rules(each))
        with open(f"{folder}/config/cordon/cordon.toml", "w", encoding="utf-8") as file:
            file.write(self.network())
        environment = self.environment() | {
            "HOME": places["home"],
            "XDG_STATE_HOME": places["state"],
            "XDG_CONFIG_HOME": f"{folder}/config",
            "XDG_RUNTIME_DIR": places["run"],
        }
        return self.spawn(
            port, self.binary, "gateway", "--http", f"127.0.0.1:{port}", "--socks",
            f"127.0.0.1:{port + 1}", "--policy", places["policy"], environment=environment,
        )

    @staticmethod
    def rules(each=False):
        """What the origin is allowed by."""
        durability = '@durability("each") ' if each else ""
        return f"""
@id("start") permit (principal, action == Action::"start_session", resource);
@id("grants") permit (principal, action in Action::"grant", resource);
@id("origin") {durability}permit (principal, action in Action::"network", resource in HostGroup::"allowed");
@id("inside") @inspect("tls") permit (principal, action in Action::"network", resource == Host::"{SECRET_NAME}");
"""

    def network(self):
        """Configuration: where the origin is, and limits that the load stays under."""
        return f"""
[resolve.overrides]
"{NAME}" = ["127.0.0.1"]
"{SECRET_NAME}" = ["127.0.0.1"]
[[network.permit_addresses]]
host = "{NAME}"
addresses = ["127.0.0.1/32"]
[[network.permit_addresses]]
host = "{SECRET_NAME}"
addresses = ["127.0.0.1/32"]
[network]
extra_roots = ["{self.root}/tls/ca.pem"]
[limits]
connections = 30000
connections_per_node = 30000
connections_per_destination = 30000
new_connections_per_second = 1000000
"""

    def start_cordon(self):
        """A daemon with a log on disk, and one session in which commands run."""
        self.write("policy/bench.cedar", """
@id("start") permit (principal, action == Action::"start_session", resource);
@id("grants") permit (principal, action in Action::"grant", resource);
""")
        self.session = Session(self)
        found = json.loads(self.cordon("status", "--format", "json").stdout)
        self.daemon = found["pid"]
        return Running(self.daemon)

    def sync_latency(self):
        """Median seconds of one append of 4 KiB and its fdatasync, on the disk of the logs."""
        took = []
        with open(f"{self.root}/sync", "ab", buffering=0) as file:
            for _round in range(200):
                begun = time.perf_counter()
                file.write(b"x" * 4096)
                os.fdatasync(file.fileno())
                took.append(time.perf_counter() - begun)
        return statistics.median(took)

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

    def resident(self):
        """Resident memory in bytes, with its children's."""
        pages = 0
        for pid in family(self.pid):
            with open(f"/proc/{pid}/statm", encoding="utf-8") as file:
                pages += int(file.read().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


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
