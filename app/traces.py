"""OpenTelemetry traces, if GLIMPSE_TRACES names a collector: a span for each request."""

from __future__ import annotations

import os

from flask import Flask

NOT_TRACED = "healthz,readyz,metrics"


def register(app: Flask) -> None:
    """Makes `app` send its spans to the collector, as OTLP over HTTP.

    Raises `ValueError` if the address is none, or the packages for it are missing.
    """
    collector = app.config["TRACES"]
    if not collector:
        return
    if not collector.startswith(("http://", "https://")):
        raise ValueError(
            f"GLIMPSE_TRACES is {collector!r}; it must be a collector's address, such as "
            "http://127.0.0.1:4318"
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.instrumentation.flask import FlaskInstrumentor  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(
            f"GLIMPSE_TRACES needs a package that is missing ({error}): pip install 'glimpse[otel]'"
        ) from error
    name = os.environ.get("OTEL_SERVICE_NAME", "glimpse")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    exporter = OTLPSpanExporter(f"{collector.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    FlaskInstrumentor().instrument_app(app, tracer_provider=provider, excluded_urls=NOT_TRACED)
