"""OpenTelemetry: set-up, and every span, event, metric and attribute name as a constant.

Until configure is called all of this goes to the API's no-op parts and costs next to nothing. No exception text
reaches a span, except that of UpstreamError, which is safe by contract; no query and no user name of a URL does.
"""

# ruff: noqa: PLC0415 - the SDK takes 100 ms to import, which one-shot commands need not pay; the exporter is an extra

from __future__ import annotations

import logging
import threading
import time
import uuid
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from assetwatchd.model.errors import ConfigError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.util.types import AttributeValue
    from pydantic import AnyHttpUrl
    from yarl import URL

    from assetwatchd.settings.schema import TelemetrySettings

    Block = AbstractContextManager[trace.Span]

log = logging.getLogger(__name__)

SCOPE = "assetwatch"

SPAN_POLL = "assetwatch.poll"
SPAN_PUSH = "assetwatch.push"
SPAN_COMMIT = "assetwatch.commit"
EVENT_SYNCED = "assetwatch.synced"

SOURCE = "assetwatch.source"
OUTCOME = "assetwatch.outcome"
REASON = "assetwatch.reason"
ASSET_COUNT = "assetwatch.asset_count"
CHANGE_COUNT = "assetwatch.change_count"

# Semantic conventions: HTTP (stable) and RPC (release candidate).
ERROR_TYPE = "error.type"
HTTP_METHOD = "http.request.method"
HTTP_STATUS = "http.response.status_code"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
URL_FULL = "url.full"
RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.response.status_code"

CALLS = "assetwatch.upstream.calls"
WATCHERS = "assetwatch.watchers"
CHANGES = "assetwatch.changes"
CONDITION = "assetwatch.source.condition"
DELIVERY_LAG = "assetwatch.delivery.lag"
PASSED_OVER = "assetwatch.upstream.passed_over"
STANDSTILL = "assetwatch.loop.blocked"
REFUSED = "assetwatch.requests.refused"
REPLICA_LAG = "assetwatch.replica.lag"
REPLICA_OWNER = "assetwatch.replica.owner"
REPLICA_SESSION_LOST = "assetwatch.replica.session_lost"
REPLICA_FORWARDED = "assetwatch.replica.forwarded"
REPLICA_UNKNOWN = "assetwatch.replica.commit.unknown"
REPLICA_REREAD = "assetwatch.replica.mirror.reread"
RPC_DURATION = "rpc.server.call.duration"
HTTP_DURATION = "http.client.request.duration"

OK = "ok"
SPAN_LINKS_MAX = 128
"""Links kept on one span. A watch that goes on longer keeps the latest."""
DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
STANDSTILL_BUCKETS_S = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
EXPORT_TIMEOUT_S = 5.0
FLUSH_S = 1.5
"""A collector that does not answer delays the end of the process by no more than this."""

W3C = TraceContextTextMapPropagator()
"""Trace context alone: a caller's baggage is not ours to hand to upstreams."""


class _Probes:
    """The tracer and the instruments in use now; `use` and `configure` replace them while the process runs."""

    def __init__(self) -> None:
        self.aim(trace.get_tracer(SCOPE), metrics.get_meter(SCOPE))

    def aim(self, tracer: trace.Tracer, meter: metrics.Meter) -> None:
        self.tracer = tracer
        self.tracing = not isinstance(tracer, trace.NoOpTracer | trace.ProxyTracer)
        self.calls = meter.create_counter(CALLS, "{call}", "Upstream calls by source and outcome")
        self.watchers = meter.create_up_down_counter(WATCHERS, "{watcher}", "Watch streams open now")
        self.changes = meter.create_counter(CHANGES, "{change}", "Changes committed, by source")
        self.condition = meter.create_gauge(CONDITION, "1", "Condition of a source, numbered as ConditionState is")
        self.lag = _seconds(meter, DELIVERY_LAG, "From a commit to its hand-over to a stream", LAG_BUCKETS_S)
        self.refused = meter.create_counter(REFUSED, "{request}", "Requests not taken in, by reason")
        self.passed_over = meter.create_counter(PASSED_OVER, "{text}", "Texts of streams that are no frames, by source")
        self.standstill = _seconds(meter, STANDSTILL, "The event loop was blocked, by source", STANDSTILL_BUCKETS_S)
        self.replica_lag = meter.create_gauge(REPLICA_LAG, "s", "Since what is known here was all that there was")
        self.replica_owner = meter.create_gauge(REPLICA_OWNER, "1", "1 where this replica asks the source, else 0")
        self.session_lost = meter.create_counter(REPLICA_SESSION_LOST, "{session}", "Sessions with etcd that were lost")
        self.unknown = meter.create_counter(REPLICA_UNKNOWN, "{commit}", "Commits whose end was unclear, by source")
        self.reread = meter.create_counter(REPLICA_REREAD, "{reading}", "Times that all was read from etcd anew")
        self.forwarded = meter.create_counter(REPLICA_FORWARDED, "{call}", "Calls to a source's owner, by source")
        self.rpc = _seconds(meter, RPC_DURATION, "Duration of calls to this server", DURATION_BUCKETS_S)
        self.http = _seconds(meter, HTTP_DURATION, "Duration of HTTP calls to upstreams", DURATION_BUCKETS_S)


def _seconds(meter: metrics.Meter, name: str, description: str, buckets: tuple[float, ...]) -> metrics.Histogram:
    # OpenTelemetry's default buckets, 0 to 10,000, would put every duration in seconds into the first one or two.
    return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=buckets)


_probes = _Probes()


def configure(settings: TelemetrySettings, *, version: str) -> Callable[[], None]:
    """Send spans and metrics to settings.otlp_endpoint; return what flushes and stops that, within FLUSH_S, blocking.

    Without an endpoint nothing is set up, and nothing is sent but to global providers that are set up by now. OTEL_*
    variables of the SDK and its exporter (headers, certificates, service name, resource attributes) are honoured where
    settings say nothing.
    Raises: ConfigError when an endpoint is given and the exporter is not installed.
    """
    if settings.otlp_endpoint is None:
        if isinstance(_probes.tracer, trace.ProxyTracer):
            _probes.aim(trace.get_tracer(SCOPE), metrics.get_meter(SCOPE))
        return _nothing
    spans, measurements = _exporters(settings.otlp_endpoint)
    return _send(spans, measurements, settings.sample_ratio, version)


def problems(settings: TelemetrySettings) -> Iterator[str]:
    """Yield what keeps these settings from being configured."""
    if settings.otlp_endpoint is not None:
        try:
            _exporter_types()
        except ConfigError as error:
            yield str(error)


def _nothing() -> None:
    """Stop what was never started."""


def _exporters(endpoint: AnyHttpUrl) -> tuple[SpanExporter, MetricExporter]:
    spans, measurements = _exporter_types()
    target, insecure = str(endpoint), endpoint.scheme == "http"
    return (
        spans(endpoint=target, insecure=insecure, timeout=EXPORT_TIMEOUT_S),
        measurements(endpoint=target, insecure=insecure, timeout=EXPORT_TIMEOUT_S),
    )


def _exporter_types() -> tuple[type[OTLPSpanExporter], type[OTLPMetricExporter]]:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise ConfigError("telemetry.otlp_endpoint needs the OTLP exporter: install assetwatch[otlp]") from None
    return OTLPSpanExporter, OTLPMetricExporter


def _send(spans: SpanExporter, measurements: MetricExporter, ratio: float, version: str) -> Callable[[], None]:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    ours = {"service.name": SCOPE, "service.version": version, "service.instance.id": str(uuid.uuid4())}
    # Resource.create lets its argument win over OTEL_RESOURCE_ATTRIBUTES, so these are read here and put on top.
    resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
    # shutdown_on_exit=False: the SDK's own exit handlers wait for a silent collector for longer than FLUSH_S.
    tracers = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)),
        resource=resource,
        span_limits=SpanLimits(max_links=SPAN_LINKS_MAX),
        shutdown_on_exit=False,
    )
    tracers.add_span_processor(BatchSpanProcessor(spans))
    meters = MeterProvider([PeriodicExportingMetricReader(measurements)], resource, shutdown_on_exit=False)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    _probes.aim(tracers.get_tracer(SCOPE, version), meters.get_meter(SCOPE, version))
    return lambda: _stop_within(FLUSH_S, tracers.shutdown, meters.shutdown)


def _stop_within(seconds: float, *stops: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=stop, name="telemetry-flush", daemon=True) for stop in stops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        log.warning("telemetry was not flushed within %g s; the rest is lost", seconds)


@contextmanager
def use(tracers: trace.TracerProvider | None = None, meters: metrics.MeterProvider | None = None) -> Iterator[None]:
    """Send to these providers until the block ends, in all tasks; None: nowhere.

    For tests and for programs that embed the service: a global provider can be set only once in a process.
    """
    before = dict(vars(_probes))
    _probes.aim(
        (tracers or trace.NoOpTracerProvider()).get_tracer(SCOPE),
        (meters or metrics.NoOpMeterProvider()).get_meter(SCOPE),
    )
    try:
        yield
    finally:
        vars(_probes).update(before)


def start_span(name: str, kind: SpanKind, parent: Context, attributes: Mapping[str, AttributeValue]) -> trace.Span:
    """Begin a span under a parent from elsewhere; the caller makes it current and ends it."""
    return _probes.tracer.start_span(name, parent, kind, attributes)


_UNRECORDED = nullcontext(trace.INVALID_SPAN)


def _recordable() -> bool:
    """Return whether a span that begins here may be recorded: tracing is on, and the current trace is sampled."""
    if not _probes.tracing:
        return False
    context = trace.get_current_span().get_span_context()
    return context.trace_flags.sampled or not context.is_valid


def _span(name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue]) -> Block:
    return _recorded(name, kind, attributes) if _recordable() else _UNRECORDED


@contextmanager
def _recorded(name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue]) -> Iterator[trace.Span]:
    # The SDK would record the exception with its text, which may hold a credential or a body: so only its class here.
    with _probes.tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except Exception as exc:
            span.set_attribute(ERROR_TYPE, type(exc).__name__)
            span.set_status(Status(StatusCode.ERROR, str(exc) if isinstance(exc, UpstreamError) else None))
            raise


class UpstreamCall:
    """One HTTP call under way: its span, and the status of its answer, None before there is one."""

    __slots__ = ("span", "status")

    def __init__(self, span: trace.Span) -> None:
        self.span = span
        self.status: int | None = None


@contextmanager
def upstream_call(source: str, method: str, url: URL) -> Iterator[UpstreamCall]:
    """Trace and measure one HTTP call; the query and the user of url, which may hold secrets, are left out."""
    http: dict[str, AttributeValue] = {HTTP_METHOD: method, SERVER_ADDRESS: url.host or "", SERVER_PORT: url.port or 0}
    started, outcome = time.perf_counter(), "cancelled"
    with _call_span(source, method, url, http) as span:
        call = UpstreamCall(span)
        try:
            yield call
            outcome = OK if call.status is None or call.status < 400 else str(call.status)  # noqa: PLR2004 - as below
        except Exception as exc:
            outcome = type(exc).__name__
            raise
        finally:
            if call.status is not None:
                http[HTTP_STATUS] = call.status
            record_call(source, time.perf_counter() - started, outcome, http)


def _call_span(source: str, method: str, url: URL, http: Mapping[str, AttributeValue]) -> Block:
    if not _recordable():
        return _UNRECORDED
    bare = str(url.with_user(None).with_query(None).with_fragment(None))
    return _recorded(method, SpanKind.CLIENT, {SOURCE: source, URL_FULL: bare, **http})


def upstream_answered(call: UpstreamCall, status: int) -> None:
    """Note the answer's status."""
    call.status = status
    call.span.set_attribute(HTTP_STATUS, status)
    if status >= 400:  # noqa: PLR2004 - the convention: 4xx is an error of the client's span
        call.span.set_attribute(ERROR_TYPE, str(status))
        call.span.set_status(Status(StatusCode.ERROR))


def outgoing_context() -> dict[str, str]:
    """Return headers that carry the current W3C trace context; empty outside a trace."""
    headers: dict[str, str] = {}
    W3C.inject(headers)
    return headers


def poll(source: str, asset_count: int) -> Block:
    """Make the span of one read by the scheduler; the root of a trace, or a child of the RPC that asked for it."""
    return _span(SPAN_POLL, SpanKind.INTERNAL, {SOURCE: source, ASSET_COUNT: asset_count})


def push(source: str, asset_count: int) -> Block:
    """Make the span of one message that an upstream pushed."""
    return _span(SPAN_PUSH, SpanKind.CONSUMER, {SOURCE: source, ASSET_COUNT: asset_count})


def commit(source: str, count: int) -> Block:
    """Make the span of a commit of count changes."""
    return _span(SPAN_COMMIT, SpanKind.INTERNAL, {SOURCE: source, CHANGE_COUNT: count})


def traceparent() -> str:
    """Return the W3C traceparent of the current span; empty when there is none or its trace is not sampled."""
    context = trace.get_current_span().get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def recording() -> bool:
    """Return whether the current span is recorded, which does not change during a call."""
    return trace.get_current_span().is_recording()


def link_delivery(traceparents: Iterable[str]) -> None:
    """Link the current span to the spans that found what is delivered; each once, the last SPAN_LINKS_MAX of them.

    The empty and the malformed are left out. Does not touch its argument when the current span is not recorded.
    """
    span = trace.get_current_span()
    if not span.is_recording():
        return
    # Each once, the last ones: what one read found has one traceparent, and the SDK would drop the oldest links anyhow.
    for text in list(dict.fromkeys(traceparents))[-SPAN_LINKS_MAX:]:
        if (context := _parse(text)).is_valid:
            span.add_link(context)


@lru_cache(maxsize=1024)
def _parse(text: str) -> trace.SpanContext:
    """Read a traceparent; cached, since many watchers deliver the same change."""
    return trace.get_current_span(W3C.extract({"traceparent": text})).get_span_context()


def event(name: str, attributes: Mapping[str, AttributeValue] | None = None) -> None:
    """Add an event to the current span."""
    span = trace.get_current_span()
    if span.is_recording():
        span.add_event(name, attributes)


def record_call(source: str, seconds: float, outcome: str, http: Mapping[str, AttributeValue] | None = None) -> None:
    """Count one upstream call; outcome is OK or the kind of error. upstream_call does this for every HTTP call."""
    _probes.calls.add(1, {SOURCE: source, OUTCOME: outcome})
    error: dict[str, AttributeValue] = {} if outcome == OK else {ERROR_TYPE: outcome}
    _probes.http.record(seconds, {SOURCE: source, **(http or {}), **error})


def record_rpc(seconds: float, attributes: Mapping[str, AttributeValue]) -> None:
    """Measure one call to this server, from its handler's start to its end."""
    _probes.rpc.record(seconds, attributes)


def record_watchers(delta: int) -> None:
    """Count watch streams: 1 when one opens, -1 when it ends."""
    _probes.watchers.add(delta)


def record_changes(source: str, count: int) -> None:
    """Count committed changes."""
    _probes.changes.add(count, {SOURCE: source})


def record_condition(source: str, condition: int) -> None:
    """Tell the condition of a source, as the number of its ConditionState."""
    _probes.condition.set(int(condition), {SOURCE: source})


def record_replica_lag(seconds: float) -> None:
    """Tell how long ago this replica knew all that there was."""
    _probes.replica_lag.set(seconds)


def record_owner(source: str, *, owned: bool) -> None:
    """Tell whether this replica is the one that asks a source."""
    _probes.replica_owner.set(int(owned), {SOURCE: source})


def record_session_lost() -> None:
    """Count one more session with etcd that was lost."""
    _probes.session_lost.add(1)


def record_commit_unknown(source: str) -> None:
    """Count one more commit whose outcome had to be found out."""
    _probes.unknown.add(1, {SOURCE: source})


def record_reread() -> None:
    """Count one more time that all was read from etcd anew."""
    _probes.reread.add(1)


def record_forwarded(source: str) -> None:
    """Count one more call to the replica that asks a source."""
    _probes.forwarded.add(1, {SOURCE: source})


def record_lag(seconds: float) -> None:
    """Measure how long after its commit the oldest change of a batch was handed to a stream."""
    _probes.lag.record(seconds)


def record_standstill(seconds: float, source: str) -> None:
    """Measure for how long the event loop was blocked; source is empty when it is not known to be one's."""
    _probes.standstill.record(seconds, {SOURCE: source} if source else {})


def record_passed_over(source: str) -> None:
    """Count a text of a stream that was passed over."""
    _probes.passed_over.add(1, {SOURCE: source})


def record_refusal(reason: str) -> None:
    """Count a request that was not taken in; nothing else is measured of its call."""
    _probes.refused.add(1, {REASON: reason})
