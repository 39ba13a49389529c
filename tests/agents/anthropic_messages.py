"""The Anthropic Messages API as Claude Code uses it: streamed answers and token counts.

Request body and script in, status and answer out. Opens nothing.
"""

import json

import script

# Offered by Claude Code under these names; a request without them is one of its side requests
# (a title, a summary, a quota check).
WRITE_TOOL = "Write"
SHELL_TOOL = "Bash"
FETCH_TOOL = "WebFetch"


def results(body):
    """The tool results in the conversation, oldest first."""
    found = []
    for message in body.get("messages", []):
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for block in content:
            if block.get("type") == "tool_result":
                found.append(
                    {
                        "id": block.get("tool_use_id"),
                        "error": bool(block.get("is_error")),
                        "text": _text(block.get("content")),
                    }
                )
    return found


def is_main(body):
    """Whether this is the conversation itself and not a side request."""
    names = {tool.get("name") for tool in body.get("tools", [])}
    return SHELL_TOOL in names


def answer(body, steps):
    """The content block for this request and why the message stops there."""
    if not is_main(body):
        return {"type": "text", "text": '{"title": "scripted"}'}, "end_turn"
    number = script.next_step([r["id"] for r in results(body)])
    step = steps[number] if number < len(steps) else {"say": "nothing left to do"}
    if "say" in step:
        return {"type": "text", "text": step["say"]}, "end_turn"
    if "write" in step:
        name = WRITE_TOOL
        given = {"file_path": step["write"], "content": step["content"]}
    elif "fetch" in step:
        name = FETCH_TOOL
        given = {"url": step["fetch"], "prompt": "what it says"}
    else:
        name = SHELL_TOOL
        given = {"command": step["run"], "description": f"step {number}"}
    use = {"type": "tool_use", "id": script.call_id(number, "toolu_"), "name": name, "input": given}
    return use, "tool_use"


def message(body, block, stop):
    """The whole answer at once, for requests that do not stream."""
    return {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "scripted"),
        "content": [block],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 10},
    }


def stream(body, block, stop):
    """The answer as server-sent events, in the order the API sends them."""
    start = dict(message(body, block, stop), content=[], stop_reason=None)
    yield _event("message_start", {"message": start})
    if block["type"] == "text":
        yield _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        delta = {"type": "text_delta", "text": block["text"]}
    else:
        yield _event("content_block_start", {"index": 0, "content_block": dict(block, input={})})
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    yield _event("content_block_delta", {"index": 0, "delta": delta})
    yield _event("content_block_stop", {"index": 0})
    yield _event(
        "message_delta",
        {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 10}},
    )
    yield _event("message_stop", {})


def _event(kind, data):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def _text(content):
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or [] if isinstance(part, dict))
