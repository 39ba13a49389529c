"""A tool server (MCP, standard input and output): has the tools it is given, and notes each call."""

import json
import sys

notes, tools = sys.argv[1], sys.argv[2:]
for line in sys.stdin:
    message = json.loads(line)
    method = message.get("method")
    if "id" not in message or method is None:
        continue
    if method == "initialize":
        result = {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "notes", "version": "1"},
        }
    elif method == "tools/list":
        schema = {"type": "object"}
        result = {"tools": [{"name": name, "inputSchema": schema} for name in tools]}
    else:
        name = message["params"]["name"]
        with open(notes, "a") as file:
            file.write(name + "\n")
        result = {"content": [{"type": "text", "text": "did " + name}]}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
