"""Verifies C2SP tlog-proof files with sigstore's Merkle verifier, which knows nothing of Cordon.

    proof.py FILE...

Each file carries its record (line `extra`). Prints `accepted` or `refused: why` for each; exit 0
when all were accepted.
"""

import base64
import sys
from types import SimpleNamespace

from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import SignedCheckpoint


def check(path):
    with open(path, encoding="utf-8") as file:
        head, _, note = file.read().partition("\n\n")
    lines = head.split("\n")
    if lines[0] != "c2sp.org/tlog-proof@v1":
        raise ValueError("not a tlog-proof")
    checkpoint = SignedCheckpoint.from_text(note).checkpoint
    proof = SimpleNamespace(
        log_index=int(lines[2].removeprefix("index ")),
        tree_size=checkpoint.log_size,
        hashes=[base64.b64decode(line, validate=True) for line in lines[3:]],
        root_hash=bytes.fromhex(checkpoint.log_hash),
    )
    body = base64.b64decode(lines[1].removeprefix("extra "), validate=True)
    inner = SimpleNamespace(inclusion_proof=proof, canonicalized_body=body)
    verify_merkle_inclusion(SimpleNamespace(_inner=inner))


def main(paths):
    refused = 0
    for path in paths:
        try:
            check(path)
            print("accepted")
        except Exception as error:
            refused += 1
            print(f"refused: {error!s:.200}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
