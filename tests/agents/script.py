"""What the scripted model wants its agent to do, independent of any wire format.

A script is a JSON list of steps; each is one of

    {"write": PATH, "content": TEXT}    write a file (relative to the agent's working directory)
    {"run": COMMAND}                    run a shell command
    {"fetch": URL}                      fetch a page by Claude Code's own tool
    {"say": TEXT}                       answer in text; ends the turn

The model keeps no state. Every tool call carries its step's number in its id (`step_3`), so the
conversation that the agent sends back says which step comes next. A retried or repeated request
gets the same answer again.
"""

import json
import re

PREFIX = "step_"
_ID = re.compile(r"step_(\d+)")


def load(path):
    """Reads and checks a script; raises ValueError that names the bad step."""
    with open(path, encoding="utf-8") as file:
        steps = json.load(file)
    for number, step in enumerate(steps):
        kinds = {"write", "run", "fetch", "say"} & set(step)
        if len(kinds) != 1:
            raise ValueError(f"script not accepted: step {number} must have one of write, run, fetch, say")
        if "write" in step and "content" not in step:
            raise ValueError(f"script not accepted: step {number} writes without `content`")
    return steps


def number_of(call_id):
    """The step a tool call id belongs to, or None for ids that are not the script's."""
    match = _ID.search(call_id or "")
    return int(match.group(1)) if match else None


def next_step(call_ids):
    """The step after the last one whose result has come back."""
    seen = [n for n in map(number_of, call_ids) if n is not None]
    return max(seen) + 1 if seen else 0


def call_id(number, marker):
    """Ids must look like the API's own: `toolu_step_0`, `call_step_0`."""
    return f"{marker}{PREFIX}{number}"
