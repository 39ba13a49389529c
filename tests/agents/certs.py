"""A certificate authority for one test, and a leaf for the names the model endpoint stands for.

Calls the `openssl` program. The authority's key is removed as soon as the leaf is signed.
"""

import ipaddress
import pathlib
import subprocess

DAYS = "2"


def make(directory, names):
    """Writes ca.pem, leaf.pem and leaf.key; returns their paths in that order."""
    base = pathlib.Path(directory)
    base.mkdir(parents=True, exist_ok=True)
    ca_key, ca, key, leaf = (base / n for n in ("ca.key", "ca.pem", "leaf.key", "leaf.pem"))
    request, extensions = base / "leaf.csr", base / "leaf.ext"
    extensions.write_text("subjectAltName=" + ",".join(map(_san, names)) + "\n")
    _openssl(
        *("req", "-x509", *NEW_KEY, "-keyout", ca_key, "-out", ca, "-days", DAYS),
        *("-subj", "/CN=Test authority", "-addext", "basicConstraints=critical,CA:TRUE"),
        *("-addext", "keyUsage=critical,keyCertSign"),
    )
    _openssl("req", *NEW_KEY, "-keyout", key, "-out", request, "-subj", "/CN=Test model")
    _openssl(
        *("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial"),
        *("-days", DAYS, "-extfile", extensions, "-out", leaf),
    )
    ca_key.unlink()
    return ca, leaf, key


def _san(name):
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def _openssl(*arguments):
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
