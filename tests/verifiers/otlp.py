"""An OTLP/HTTP receiver: parses each request with the OpenTelemetry project's own messages.

    otlp.py FILE

Prints its port, then answers. Appends to FILE, one a line: the sequence of every record it took
(logs, as JSON), the name and decision of every span and of its parent (traces, as protobuf).
"""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def records(body):
    request = json_format.Parse(body, ExportLogsServiceRequest())
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                values = {a.key: a.value for a in record.attributes}
                seq = values.get("cordon.record.seq")
                yield f"{seq.int_value if seq else record.event_name}"


def spans(body):
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        names = {a.key: a.value.string_value for a in resource.resource.attributes}
        if names["service.name"] != "cordon":
            raise ValueError(names)
        for scope in resource.scope_spans:
            for span in scope.spans:
                values = {a.key: a.value.string_value for a in span.attributes}
                parent = span.parent_span_id.hex() or "-"
                decision = values.get("cordon.decision", "-")
                yield f"{span.name} {span.span_id.hex()} {parent} {decision}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 200
        try:
            read = {"/v1/logs": records, "/v1/traces": spans}[self.path]
            lines = list(read(body))
            with open(sys.argv[1], "a", encoding="utf-8") as out:
                out.writelines(f"{line}\n" for line in lines)
        except Exception as error:
            print(error, file=sys.stderr)
            status = 400
        self.send_response(status)
        # An empty answer is a whole one in both forms.
        answer = b"{}" if self.path == "/v1/logs" else b""
        self.send_header("Content-Type", self.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
