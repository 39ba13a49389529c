#!/usr/bin/python3
"""A scripted model endpoint on loopback: both APIs, over HTTPS and HTTP, with a log of what it saw.

    model.py --script steps.json --log seen.jsonl
             [--https ADDRESS:PORT --certificate leaf.pem --key leaf.key] [--http ADDRESS:PORT]
             [--origin NAME=ADDRESS:PORT]...

Port 0 picks a free one. Once every listener is open it prints one JSON line that names their
ports, and then serves until its standard input closes or it is ended by a signal.

`--origin` adds a plain HTTP server that answers every request with `origin NAME`; together with the
log's `accept` lines it proves which destination was reached, and which was not.
"""

import argparse
import http.server
import json
import ssl
import sys
import threading
import time

import anthropic_messages
import openai_responses
import script
import tokens


class Log:
    """One JSON object per line, in the order things happened."""

    def __init__(self, path):
        self._file = open(path, "a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()

    def write(self, **entry):
        with self._lock:
            self._file.write(json.dumps({"at": round(time.time(), 3), **entry}) + "\n")


class Listener(http.server.ThreadingHTTPServer):
    """A listener that logs each accepted connection before a byte of it is read."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, name, address, handler, log, tls=None):
        self.name, self.log, self.tls = name, log, tls
        super().__init__(address, handler)

    def get_request(self):
        connection, peer = super().get_request()
        self.log.write(kind="accept", listener=self.name, peer=f"{peer[0]}:{peer[1]}")
        return connection, peer

    def finish_request(self, request, client_address):
        # The handshake runs in the connection's own thread, so a silent client blocks nobody.
        if self.tls:
            request.settimeout(20)
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError as error:
                self.log.write(kind="tls-failed", listener=self.name, error=str(error))
                return
            request.settimeout(None)
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        self.log.write(kind="error", listener=self.name, error=repr(sys.exc_info()[1]))


class Handler(http.server.BaseHTTPRequestHandler):
    """What the endpoint and the origins share: logging, bodies, answers."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments):
        """The log file is the only log."""

    def note(self, **entry):
        kept = {
            "kind": "request",
            "listener": self.server.name,
            "method": self.command,
            "path": self.path,
            "host": self.headers.get("Host"),
            "agent": self.headers.get("User-Agent"),
            "credential": self._credential(),
        }
        self.server.log.write(**{**kept, **entry})

    def _credential(self):
        """Which kind of credential came, never its value."""
        if self.headers.get("x-api-key"):
            return "x-api-key"
        scheme = (self.headers.get("Authorization") or "").split(" ")[0]
        return scheme or None

    def body(self):
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            whole = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status, data, kind="application/json"):
        payload = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    def reply_events(self, events):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


class Origin(Handler):
    """A web server that says its own name."""

    def do_GET(self):
        self.note()
        self.reply(200, f"origin {self.server.name}\n".encode(), "text/plain")

    do_HEAD = do_GET

    def do_POST(self):
        self.body()
        self.do_GET()


class Model(Handler):
    """Both APIs by path; anything else is logged and answered with 404."""

    steps = []

    def do_GET(self):
        if upgrade := self.headers.get("Upgrade"):
            # Codex tries a WebSocket first; 426 sends it to plain requests without retries.
            self.note(upgrade=upgrade)
            self.reply(426, {"error": {"message": "send plain requests"}})
            return
        self.note()
        if self.path.endswith("/accounts/check"):
            self.reply(200, tokens.accounts())
            return
        self.reply(404, {"type": "error", "error": {"type": "not_found_error", "message": "not scripted"}})

    do_HEAD = do_GET

    def do_POST(self):
        raw = self.body()
        path = self.path.split("?")[0]
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            self.note(bytes=len(raw))
            self.reply(404, {"error": {"message": "not scripted"}})
        elif path.endswith("/oauth/token"):
            self.note(refresh=True)
            self.reply(200, tokens.refreshed(path))
        elif path.endswith("/messages/count_tokens"):
            self.note()
            self.reply(200, {"input_tokens": 10})
        elif path.endswith("/messages"):
            self._messages(body)
        elif path.endswith("/responses"):
            self._responses(body)
        else:
            self.note(bytes=len(raw))
            self.reply(404, {"error": {"message": "not scripted"}})

    def _messages(self, body):
        block, stop = anthropic_messages.answer(body, self.steps)
        self._note_turn(anthropic_messages, body, block)
        if body.get("stream"):
            self.reply_events(anthropic_messages.stream(body, block, stop))
        else:
            self.reply(200, anthropic_messages.message(body, block, stop))

    def _responses(self, body):
        item = openai_responses.answer(body, self.steps)
        self._note_turn(openai_responses, body, item)
        if body.get("stream"):
            self.reply_events(openai_responses.stream(item))
        else:
            self.reply(200, openai_responses.response(item))

    def _note_turn(self, api, body, answered):
        self.note(
            main=api.is_main(body),
            model=body.get("model"),
            stream=bool(body.get("stream")),
            tools=len(body.get("tools", [])),
            results=api.results(body),
            answered=answered["type"],
        )


def address(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def listeners(options, log):
    """Opens every listener that was asked for."""
    opened = []
    if options.http:
        opened.append(Listener("http", options.http, Model, log))
    if options.https:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
        context.set_alpn_protocols(["http/1.1"])
        opened.append(Listener("https", options.https, Model, log, context))
    for origin in options.origin:
        name, _, where = origin.partition("=")
        opened.append(Listener(name, address(where), Origin, log))
    return opened


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--script", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--https", type=address)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--http", type=address)
    parser.add_argument("--origin", action="append", default=[], metavar="NAME=ADDRESS:PORT")
    options = parser.parse_args()

    Model.steps = script.load(options.script)
    log = Log(options.log)
    opened = listeners(options, log)
    for listener in opened:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
    print(json.dumps({l.name: l.server_address[1] for l in opened}), flush=True)
    # Ends with whoever started it, however that ended.
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
