"""OTLP: what a configured process sends arrives at a real receiver.

Each sender is a process of its own, since a global provider can be set only once in one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import textwrap
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

import assetwatchd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PREAMBLE = """
    import sys, time
    from opentelemetry import trace
    from assetwatchd.runtime import telemetry
    from assetwatchd.settings.schema import TelemetrySettings
    from yarl import URL
    settings = TelemetrySettings(otlp_endpoint=sys.argv[1], sample_ratio=float(sys.argv[2]))
    stop = telemetry.configure(settings, version="1.2.3")
"""
POLL_AND_DELIVER = """
    with telemetry.poll("omn", 3):
        with telemetry.upstream_call("omn", "GET", URL("http://omn.example/status?key=hunter2")) as call:
            telemetry.upstream_answered(call, 200)
        found = telemetry.traceparent()
    with telemetry.commit("omn", 2):
        telemetry.link_delivery([found])
    telemetry.record_changes("omn", 2)
    stop()
"""


async def send(endpoint: str, script: str, ratio: float = 1.0, /, **variables: str) -> str:
    """Run script in a process configured to send to endpoint; return what it printed."""
    env = {**os.environ, "PYTHONPATH": str(Path(assetwatchd.__file__).parents[1]), **variables}
    code = textwrap.dedent(PREAMBLE) + textwrap.dedent(script)
    sender = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, endpoint, str(ratio), env=env, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        out, _ = await sender.communicate()
    assert sender.returncode == 0
    return out.decode()


class Receiver(trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer):
    """An OTLP receiver; both services name their method Export, so the request's type decides."""

    def __init__(self) -> None:
        self.resources: list[dict[str, str]] = []
        self.spans: list[Any] = []
        self.metrics: list[str] = []

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name is the protocol's
        """Keep what came."""
        del context
        if isinstance(request, metrics_service_pb2.ExportMetricsServiceRequest):
            self.metrics += [m.name for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics]
            return metrics_service_pb2.ExportMetricsServiceResponse()
        for part in request.resource_spans:
            self.resources.append({a.key: a.value.string_value for a in part.resource.attributes})
            self.spans += [span for scope in part.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Receiver, str]]:
    """Receive OTLP over gRPC on a free port."""
    server, receiver = grpc.aio.server(), Receiver()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield receiver, f"http://127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def test_delivery_leads_to_the_poll() -> None:
    """What arrives names the service and its version, links the delivery to the poll that found it, has no secret."""
    async with receiving() as (receiver, endpoint):
        await send(endpoint, POLL_AND_DELIVER)
    assert "hunter2" not in repr(receiver.spans)
    resource = receiver.resources[0]
    assert (resource["service.name"], resource["service.version"]) == ("assetwatch", "1.2.3")
    assert resource["service.instance.id"]
    spans = {span.name: span for span in receiver.spans}
    assert spans.keys() == {"assetwatch.poll", "GET", "assetwatch.commit"}
    poll, commit = spans["assetwatch.poll"], spans["assetwatch.commit"]
    assert spans["GET"].parent_span_id == poll.span_id
    assert [(link.trace_id, link.span_id) for link in commit.links] == [(poll.trace_id, poll.span_id)]
    assert {"assetwatch.changes", "assetwatch.upstream.calls", "http.client.request.duration"} <= set(receiver.metrics)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"OTEL_SERVICE_NAME": "studio-status"}, {"service.name": "studio-status", "service.version": "1.2.3"}),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=of-the-list,service.instance.id=pod-7,team=pipeline"},
            {"service.name": "of-the-list", "service.instance.id": "pod-7", "team": "pipeline"},
        ),
        ({"OTEL_SERVICE_NAME": ""}, {"service.name": "assetwatch"}),
    ],
)
async def test_the_operator_names_the_service(variables: dict[str, str], named: dict[str, str]) -> None:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES count before the names that we have for ourselves."""
    async with receiving() as (receiver, endpoint):
        await send(endpoint, POLL_AND_DELIVER, **variables)
    assert named.items() <= receiver.resources[0].items()


async def test_sampling_follows_the_ratio_and_the_parent() -> None:
    """At ratio 0 no trace begins here, and a caller's sampled trace is continued."""
    script = """
        with telemetry.poll("omn", 1):
            print(repr(telemetry.traceparent()))
        caller = telemetry.W3C.extract({"traceparent": f"00-{1:032x}-{2:016x}-01"})
        telemetry.start_span("continued", trace.SpanKind.SERVER, caller, {}).end()
        stop()
    """
    async with receiving() as (receiver, endpoint):
        printed = await send(endpoint, script, 0)
    assert printed == "''\n"
    assert [(span.name, int.from_bytes(span.trace_id)) for span in receiver.spans] == [("continued", 1)]


@pytest.mark.serial("its limit is 1.9 s of real time")
async def test_stop_does_not_wait_for_a_dead_collector() -> None:
    """Without a collector stopping takes no longer than the limit of the flush, and later spans go nowhere."""
    script = """
        with telemetry.poll("omn", 1):
            telemetry.record_changes("omn", 1)
        began = time.monotonic()
        stop()
        print(time.monotonic() - began)
        with telemetry.poll("omn", 1) as late:
            telemetry.record_changes("omn", 1)
        print(late.is_recording())
    """
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        began = time.monotonic()
        printed = await send(f"http://127.0.0.1:{nobody.getsockname()[1]}", script)
    took, late = printed.split()
    assert float(took) < 1.9
    assert late == "False"
    assert time.monotonic() - began < 20
