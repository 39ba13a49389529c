"""An OTLP/HTTP log receiver: parses each request with the OpenTelemetry project's own messages.

    otlp.py FILE

Prints its port, then answers. Appends the sequence of every record it took to FILE, one a line.
"""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 200
        try:
            request = json_format.Parse(body, ExportLogsServiceRequest())
            if self.path != "/v1/logs":
                raise ValueError("path")
            with open(sys.argv[1], "a", encoding="utf-8") as out:
                for resource in request.resource_logs:
                    for scope in resource.scope_logs:
                        for record in scope.log_records:
                            values = {a.key: a.value for a in record.attributes}
                            seq = values.get("cordon.record.seq")
                            out.write(f"{seq.int_value if seq else record.event_name}\n")
        except Exception as error:
            print(error, file=sys.stderr)
            status = 400
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
