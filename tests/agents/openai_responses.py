"""The OpenAI Responses API as Codex uses it: streamed answers, function and shell calls.

Request body and script in, status and answer out. Opens nothing.
"""

import json
import shlex

import script

# What Codex has called its shell, newest first. `exec` runs JavaScript that calls the shell.
SHELL_TOOLS = ("exec", "exec_command", "shell_command", "shell", "local_shell")


def results(body):
    """The tool results in the conversation, oldest first."""
    found = []
    for item in body.get("input", []):
        if isinstance(item, dict) and item.get("type", "").endswith("_call_output"):
            found.append({"id": item.get("call_id"), "error": False, "text": _text(item.get("output"))})
    return found


def tools(body):
    """Names of the tools offered; those without a name go by their type.

    Newer models get theirs as an item of the conversation, in namespaces.
    """
    offered = list(body.get("tools", []))
    for item in body.get("input", []):
        if isinstance(item, dict) and item.get("type") == "additional_tools":
            offered += item.get("tools", [])
    names = []
    for tool in offered:
        names.append(tool.get("name") or tool.get("type"))
        names += [inner.get("name") for inner in tool.get("tools", [])]
    return names


def is_main(body):
    """Whether this is the conversation itself and not a side request."""
    return _shell_tool(body) is not None


def answer(body, steps):
    """The output item for this request."""
    number = script.next_step([r["id"] for r in results(body)])
    step = steps[number] if number < len(steps) else {"say": "nothing left to do"}
    if not is_main(body):
        return _say("scripted")
    if "say" in step:
        return _say(step["say"])
    if "write" in step:
        # Codex has no tool of its own that writes a whole file; a shell does it in every version.
        target = shlex.quote(step["write"])
        return _shell(body, number, f"printf %s {shlex.quote(step['content'])} > {target}")
    return _shell(body, number, step["run"])


def response(item):
    """The whole answer at once, for requests that do not stream."""
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 20,
    }
    return {"id": "resp_scripted", "object": "response", "status": "completed", "output": [item], "usage": usage}


def stream(item):
    """The answer as server-sent events."""
    yield _event("response.created", {"response": {"id": "resp_scripted", "status": "in_progress"}})
    yield _event("response.output_item.added", {"output_index": 0, "item": dict(item, status="in_progress")})
    yield _event("response.output_item.done", {"output_index": 0, "item": item})
    yield _event("response.completed", {"response": response(item)})


def _shell_tool(body):
    offered = tools(body)
    for name in SHELL_TOOLS:
        if name in offered:
            return name
    return None


def _shell(body, number, command):
    name = _shell_tool(body)
    call = script.call_id(number, "call_")
    if name == "exec":
        run = json.dumps({"cmd": command, "yield_time_ms": 30000})
        code = f"const done = await tools.exec_command({run});\ntext(done.output);\n"
        return {"type": "custom_tool_call", "id": f"ctc_{number}", "call_id": call, "name": name, "input": code, "status": "completed"}
    if name == "local_shell":
        action = {"type": "exec", "command": ["bash", "-c", command], "env": {}}
        return {"type": "local_shell_call", "id": f"lsh_{number}", "call_id": call, "status": "completed", "action": action}
    given = {
        "exec_command": {"cmd": command, "yield_time_ms": 30000},
        "shell_command": {"command": command},
        "shell": {"command": ["bash", "-c", command]},
    }[name]
    return {"type": "function_call", "id": f"fc_{number}", "call_id": call, "name": name, "arguments": json.dumps(given), "status": "completed"}


def _say(text):
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_scripted", "role": "assistant", "status": "completed", "content": [part]}


def _event(kind, data):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def _text(output):
    if isinstance(output, str):
        return output
    if isinstance(output, list):
        return "".join(part.get("text", "") for part in output if isinstance(part, dict))
    return json.dumps(output)
