"""The scripted model without an agent: `python3 -m unittest discover -s tests/agents`."""

import json
import pathlib
import ssl
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request

import anthropic_messages
import certs
import openai_responses
import script

HERE = pathlib.Path(__file__).resolve().parent
STEPS = [{"write": "a.txt", "content": "it's"}, {"run": "true"}, {"say": "done"}]


class Endpoint:
    """A running model.py, and its log."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.ca, leaf, key = certs.make(self.directory / "tls", ["localhost", "127.0.0.1"])
        (self.directory / "script.json").write_text(json.dumps(STEPS))
        self.process = subprocess.Popen(
            ["/usr/bin/python3", HERE / "model.py"]
            + ["--script", self.directory / "script.json", "--log", self.directory / "log"]
            + ["--https", "127.0.0.1:0", "--certificate", leaf, "--key", key]
            + ["--http", "127.0.0.1:0", "--origin", "shop=127.0.0.1:0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ports = json.loads(self.process.stdout.readline())

    def close(self):
        self.process.communicate()

    def post(self, path, body):
        url = f"https://localhost:{self.ports['https']}{path}"
        trust = ssl.create_default_context(cafile=self.ca)
        request = urllib.request.Request(url, json.dumps(body).encode(), {"x-api-key": "secret-value"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
        with opener.open(request, timeout=20) as answer:
            return answer.read().decode()

    def log(self):
        return [json.loads(line) for line in (self.directory / "log").read_text().splitlines()]


def events(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


class Conversation(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.endpoint = Endpoint(directory.name)
        self.addCleanup(self.endpoint.close)

    def test_messages_go_through_the_script_and_repeat_on_retry(self):
        body = {"model": "m", "stream": True, "tools": [{"name": "Bash"}], "messages": []}
        said = []
        for _ in range(3):
            first = self.endpoint.post("/v1/messages?beta=true", body)
            self.assertEqual(first, self.endpoint.post("/v1/messages?beta=true", body))
            block = next(e for e in events(first) if e["type"] == "content_block_start")["content_block"]
            said.append(block.get("name", "text"))
            result = {"type": "tool_result", "tool_use_id": block.get("id"), "content": "ok"}
            body["messages"].append({"role": "user", "content": [result]})
        self.assertEqual(said, ["Write", "Bash", "text"])

    def test_responses_go_through_the_script_with_each_shell_codex_has_had(self):
        for name in openai_responses.SHELL_TOOLS:
            body = {"model": "m", "stream": True, "tools": [{"type": "function", "name": name}], "input": []}
            kinds = []
            for _ in range(3):
                answer = events(self.endpoint.post("/v1/responses", body))
                self.assertEqual(answer[-1]["type"], "response.completed")
                item = answer[-1]["response"]["output"][0]
                kinds.append(item["type"])
                output = {"type": "function_call_output", "call_id": item.get("call_id"), "output": "ok"}
                body["input"].append(output)
            self.assertTrue(all(kind.endswith("_call") for kind in kinds[:2]), (name, kinds))
            self.assertEqual(kinds[2], "message")

    def test_side_requests_do_not_move_the_script(self):
        body = {"model": "m", "messages": [{"role": "user", "content": "title?"}]}
        answer = json.loads(self.endpoint.post("/v1/messages", body))
        self.assertEqual(answer["content"][0]["type"], "text")

    def test_the_log_has_connections_and_kinds_of_credentials_but_no_secret(self):
        self.endpoint.post("/v1/messages/count_tokens", {"messages": []})
        kinds = [(e["kind"], e.get("credential")) for e in self.endpoint.log()]
        self.assertEqual(kinds, [("accept", None), ("request", "x-api-key")])
        self.assertNotIn("secret-value", json.dumps(self.endpoint.log()))

    def test_what_is_not_scripted_is_refused_and_logged(self):
        with self.assertRaises(urllib.error.HTTPError) as raised:
            self.endpoint.post("/v1/complete", {})
        raised.exception.close()
        self.assertEqual(raised.exception.code, 404)
        self.assertEqual(self.endpoint.log()[-1]["path"], "/v1/complete")

    def test_an_origin_says_its_name_and_each_connection_is_counted(self):
        url = f"http://127.0.0.1:{self.endpoint.ports['shop']}/"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=20) as answer:
            self.assertEqual(answer.read(), b"origin shop\n")
        self.assertEqual([e["listener"] for e in self.endpoint.log() if e["kind"] == "accept"], ["shop"])


class Script(unittest.TestCase):
    def test_the_next_step_follows_the_last_result(self):
        for ids, expected in [([], 0), (["toolu_step_0"], 1), (["call_step_1", "call_step_0"], 2), (["toolu_x"], 0)]:
            self.assertEqual(script.next_step(ids), expected, ids)

    def test_a_bad_step_is_named(self):
        for steps in ([{}], [{"run": "x", "say": "y"}], [{"write": "x"}]):
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(steps, file)
                file.flush()
                with self.assertRaisesRegex(ValueError, "step 0"):
                    script.load(file.name)

    def test_newer_codex_models_get_their_tools_in_the_conversation(self):
        inner = {"type": "custom", "name": "exec"}
        item = {"type": "additional_tools", "tools": [{"type": "namespace", "name": "functions", "tools": [inner]}]}
        self.assertTrue(openai_responses.is_main({"input": [item]}))
        self.assertFalse(openai_responses.is_main({"input": []}))

    def test_a_result_may_be_text_or_blocks(self):
        for content in ("ok", [{"type": "text", "text": "ok"}]):
            block = {"type": "tool_result", "tool_use_id": "t", "content": content}
            found = anthropic_messages.results({"messages": [{"content": [block]}]})
            self.assertEqual(found, [{"id": "t", "error": False, "text": "ok"}])


if __name__ == "__main__":
    unittest.main()
