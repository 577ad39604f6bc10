"""Traces for OpenTelemetry: none by default, one span a request where a collector is named."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from samples import encode, seven

from app import create_app


def test_an_address_that_is_none_is_refused(store):
    with pytest.raises(ValueError, match="GLIMPSE_TRACES is 'collector'"):
        create_app({"MODEL_STORE": str(store), "TRACES": "collector"})


def test_the_package_that_is_missing_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.flask", None)
    with pytest.raises(ValueError, match=r"pip install 'glimpse\[otel\]'"):
        create_app({"MODEL_STORE": str(store), "TRACES": "http://127.0.0.1:1"})


@pytest.mark.filterwarnings("ignore")  # of packages that are not in the project's lists
def test_a_collector_gets_a_span_for_each_prediction_and_none_for_probes(store):
    pytest.importorskip("opentelemetry.instrumentation.flask")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bodies, came = [], threading.Event()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            came.set()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        client = create_app({"MODEL_STORE": str(store), "TRACES": address}).test_client()
        parent = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        client.get("/healthz", headers=parent)
        picture = encode(seven())
        client.post("/api/predict", data=picture, content_type="image/png", headers=parent)
        assert came.wait(30)
        server.shutdown()
    ((path, body),) = bodies
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "glimpse"
    (span,) = resource.scope_spans[0].spans
    assert span.trace_id.hex() == "ab" * 16
    assert span.name == "POST /api/predict"
