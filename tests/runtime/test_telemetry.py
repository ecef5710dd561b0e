"""Telemetry: spans, links and measurements say what happened, and nothing that is secret."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from opentelemetry import baggage, context, metrics, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import AnyHttpUrl
from yarl import URL

from assetwatchd.model.errors import BadAnswer, ConfigError, Unreachable
from assetwatchd.model.values import ConditionState
from assetwatchd.runtime import telemetry
from assetwatchd.settings.schema import SourceSettings, TelemetrySettings
from assetwatchd.upstream.http.transport import Transport
from support.tracing import Recorded, recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

FOUND = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def record() -> Iterator[Recorded]:
    with recorded() as record:
        yield record


@asynccontextmanager
async def upstream(*, trace_context: bool = False) -> AsyncIterator[tuple[Transport, asyncio.Queue[web.Request]]]:
    """Serve /fine, /broken and /endless on a free port, and a transport to them."""
    seen: asyncio.Queue[web.Request] = asyncio.Queue()

    async def answer(request: web.Request) -> web.Response:
        seen.put_nowait(request)
        if request.path == "/endless":
            await asyncio.Event().wait()
        return web.Response(status=503 if request.path == "/broken" else 200, body=b"x" * 2000)

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    transport = Transport(
        "omn", SourceSettings(base_url=AnyHttpUrl(base), trace_context=trace_context, body_bytes_max=10_000)
    )
    try:
        yield transport, seen
    finally:
        await transport.close()
        await runner.cleanup()


async def test_call_span_follows_the_http_conventions(record: Recorded) -> None:
    """A call is a client span named by its method, with address, status and URL, but without the query."""
    async with upstream() as (transport, _):
        await transport.request("GET", "/fine?api_key=hunter2")
    (span,) = record.spans
    assert (span.name, span.kind, span.status.status_code) == ("GET", SpanKind.CLIENT, StatusCode.UNSET)
    assert span.attributes == {
        "assetwatch.source": "omn",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": transport.base.port,
        "url.full": str(transport.base / "fine"),
    }


async def test_error_status_marks_the_span(record: Recorded) -> None:
    """An answer of 503 makes the span an error of type 503."""
    async with upstream() as (transport, _):
        with pytest.raises(Unreachable):
            await transport.request("GET", "/broken")
    (span,) = record.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert (span.attributes["error.type"], span.attributes["http.response.status_code"]) == ("503", 503)


async def test_unreachable_upstream_is_named_with_our_own_text(record: Recorded) -> None:
    """A call without an answer is an error of the class UpstreamError it became, with its safe text."""
    transport = Transport("omn", SourceSettings(base_url=AnyHttpUrl("http://127.0.0.1:1")))
    with pytest.raises(Unreachable) as failure:
        await transport.request("GET", "/fine")
    await transport.close()
    (span,) = record.spans
    assert span.attributes is not None
    assert span.attributes["error.type"] == "Unreachable"
    assert span.status.description == str(failure.value)
    assert not span.events


async def test_text_of_a_foreign_exception_stays_out(record: Recorded) -> None:
    """Of an exception that is not ours the span says the class and nothing else."""
    with pytest.raises(ValueError, match="hunter2"), telemetry.poll("omn", 1):
        raise ValueError("password hunter2")
    assert "hunter2" not in record.spans[0].to_json()
    assert record.spans[0].attributes == {
        "assetwatch.source": "omn",
        "assetwatch.asset_count": 1,
        "error.type": "ValueError",
    }


def test_user_in_a_url_stays_out(record: Recorded) -> None:
    """Neither the user nor the password of a URL reaches the span."""
    with telemetry.upstream_call("omn", "GET", URL("http://root:hunter2@host:81/a?b=hunter2#hunter2")):
        pass
    assert record.spans[0].attributes is not None
    assert record.spans[0].attributes["url.full"] == "http://host:81/a"


async def test_cancelled_call_ends_its_span_without_an_error(record: Recorded) -> None:
    """A call that we give up is no failure of the upstream: its span ends, its outcome is "cancelled"."""
    async with upstream() as (transport, seen):
        call = asyncio.create_task(transport.request("GET", "/endless"))
        await asyncio.wait_for(seen.get(), 10)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    assert record.spans[0].status.status_code is StatusCode.UNSET
    (point,) = record.points("assetwatch.upstream.calls")
    assert point.attributes["assetwatch.outcome"] == "cancelled"


async def test_context_goes_to_upstreams_that_want_it(record: Recorded) -> None:
    """With trace_context the upstream gets the traceparent of the call's span, and no baggage of a caller."""
    token = context.attach(baggage.set_baggage("tenant", "secret"))
    async with upstream(trace_context=True) as (transport, seen):
        await transport.request("GET", "/fine")
    context.detach(token)
    span = record.spans[0].get_span_context()
    assert span is not None
    headers = seen.get_nowait().headers
    assert headers["traceparent"] == f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    assert "baggage" not in headers


async def test_context_goes_to_no_other_upstream(record: Recorded) -> None:
    """Without trace_context no trace header is sent."""
    async with upstream() as (transport, seen):
        await transport.request("GET", "/fine")
    assert record.spans
    assert "traceparent" not in seen.get_nowait().headers


async def test_calls_are_counted_by_outcome(record: Recorded) -> None:
    """Calls are counted by source and outcome, and their duration is measured in seconds."""
    async with upstream() as (transport, _):
        await transport.raw("GET", "/fine")
        await transport.raw("GET", "/fine")
        await transport.raw("GET", "/broken")
    counts = {p.attributes["assetwatch.outcome"]: p.value for p in record.points("assetwatch.upstream.calls")}
    assert counts == {"ok": 2, "503": 1}
    durations = record.points("http.client.request.duration")
    assert {p.attributes["http.response.status_code"]: p.count for p in durations} == {200: 2, 503: 1}
    assert all(0 < p.sum < 10 for p in durations)
    assert durations[0].explicit_bounds == telemetry.DURATION_BUCKETS_S


def test_call_under_a_poll_belongs_to_its_trace(record: Recorded) -> None:
    """A poll begins a trace; the calls and the commit inside it are its children."""
    with telemetry.poll("omn", 2):
        with telemetry.upstream_call("omn", "GET", URL("http://host/a")):
            pass
        with telemetry.commit("omn", 1):
            pass
    call, commit, poll = record.spans
    assert (poll.name, poll.kind, poll.parent) == ("assetwatch.poll", SpanKind.INTERNAL, None)
    assert poll.context is not None
    assert call.parent is not None
    assert commit.parent is not None
    assert {call.parent.span_id, commit.parent.span_id} == {poll.context.span_id}
    assert (commit.name, commit.attributes) == (
        "assetwatch.commit",
        {"assetwatch.source": "omn", "assetwatch.change_count": 1},
    )


def test_push_is_a_message_consumed(record: Recorded) -> None:
    """A message that came by itself is a consumer span, the root of its trace."""
    with telemetry.push("pieces", 3):
        pass
    (span,) = record.spans
    assert (span.name, span.kind, span.parent) == ("assetwatch.push", SpanKind.CONSUMER, None)


def test_traceparent_names_the_current_span(record: Recorded) -> None:
    """Inside a span traceparent is that span's; outside there is none."""
    with telemetry.poll("omn", 1) as span:
        inside = telemetry.traceparent()
    of = span.get_span_context()
    assert inside == f"00-{of.trace_id:032x}-{of.span_id:016x}-{of.trace_flags:02x}"
    assert of.trace_flags.sampled
    assert telemetry.traceparent() == ""
    assert len(record.spans) == 1


def test_traceparent_of_an_unsampled_trace_is_empty() -> None:
    """Nobody is sent to look for a trace that was not kept."""
    with recorded(ALWAYS_OFF), telemetry.poll("omn", 1):
        assert telemetry.traceparent() == ""


def test_traceparent_without_telemetry_is_empty() -> None:
    """Where nothing is configured there is nothing to refer to."""
    with telemetry.use(), telemetry.poll("omn", 1):
        assert telemetry.traceparent() == ""


def test_delivery_links_to_what_found_it(record: Recorded) -> None:
    """A delivery links to each span that found a change once; empty and malformed references are left out."""
    with telemetry.poll("omn", 1):
        found = telemetry.traceparent()
    with telemetry.push("pieces", 1):
        telemetry.link_delivery([found, "", "nonsense", found, FOUND])
    poll, delivery = record.spans
    assert poll.context is not None
    assert [link.context.span_id for link in delivery.links] == [poll.context.span_id, 0xB7AD6B7169203331]


def test_links_of_a_span_are_limited(record: Recorded) -> None:
    """A long stream keeps the latest SPAN_LINKS_MAX links."""
    texts = [f"00-{1:032x}-{n:016x}-01" for n in range(1, 301)]
    with telemetry.poll("omn", 1):
        telemetry.link_delivery(texts[:100])
        telemetry.link_delivery(iter(texts[100:]))
    linked = [link.context.span_id for link in record.spans[0].links]
    assert linked == list(range(301 - telemetry.SPAN_LINKS_MAX, 301))


def test_links_cost_nothing_when_nobody_records() -> None:
    """Without a recorded span the references are not even looked at."""

    def references() -> Iterator[str]:
        yield from unlooked()

    def unlooked() -> Iterable[str]:
        raise AssertionError

    telemetry.link_delivery(references())
    with recorded(ALWAYS_OFF), telemetry.poll("omn", 1):
        telemetry.link_delivery(references())


def test_event_goes_to_the_current_span(record: Recorded) -> None:
    """An event is kept with its attributes by the span it happened in, and dropped outside."""
    telemetry.event("lost")
    with telemetry.poll("omn", 1):
        telemetry.event("synced", {"revision": 7})
    (kept,) = record.spans[0].events
    assert (kept.name, kept.attributes) == ("synced", {"revision": 7})


def test_measurements_of_the_core(record: Recorded) -> None:
    """Watchers, changes, conditions and lag are measured under their names."""
    telemetry.record_watchers(1)
    telemetry.record_watchers(1)
    telemetry.record_watchers(-1)
    telemetry.record_changes("omn", 3)
    telemetry.record_condition("omn", ConditionState.UNREACHABLE)
    telemetry.record_lag(0.02)
    assert [p.value for p in record.points("assetwatch.watchers")] == [1]
    assert [(dict(p.attributes), p.value) for p in record.points("assetwatch.changes")] == [
        ({"assetwatch.source": "omn"}, 3)
    ]
    assert [p.value for p in record.points("assetwatch.source.condition")] == [4]
    (lag,) = record.points("assetwatch.delivery.lag")
    assert (lag.count, lag.sum, lag.explicit_bounds) == (1, 0.02, telemetry.LAG_BUCKETS_S)


def test_use_ends_with_its_block(record: Recorded) -> None:
    """Providers in use are in use inside the block, and those from before after it."""
    with recorded() as inner, telemetry.poll("omn", 1):
        pass
    with telemetry.push("omn", 1):
        pass
    assert [span.name for span in inner.spans] == ["assetwatch.poll"]
    assert [span.name for span in record.spans] == ["assetwatch.push"]


def test_without_an_endpoint_nothing_is_set_up() -> None:
    """Absent otlp_endpoint leaves the process's providers as they were."""
    before = trace.get_tracer_provider(), metrics.get_meter_provider()
    stop = telemetry.configure(TelemetrySettings(), version="1")
    stop()
    assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == before


def test_missing_exporter_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint without the exporter installed is a configuration error that says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.metric_exporter", None)
    settings = TelemetrySettings.model_validate({"otlp_endpoint": "http://127.0.0.1:4317"})
    with pytest.raises(ConfigError, match=r"assetwatch\[otlp\]"):
        telemetry.configure(settings, version="1")


async def test_too_large_an_answer_is_a_failed_call(record: Recorded) -> None:
    """A failure after the headers counts as one, by its class."""
    async with upstream() as (transport, _):
        small = Transport("omn", SourceSettings(base_url=AnyHttpUrl(str(transport.base)), body_bytes_max=1024))
        with pytest.raises(BadAnswer):
            await small.request("GET", "/fine")
        await small.close()
    outcomes = [p.attributes["assetwatch.outcome"] for p in record.points("assetwatch.upstream.calls")]
    assert outcomes == ["AnswerTooLarge"]


def test_what_is_in_an_unsampled_trace_costs_no_decision() -> None:
    """Whether to record is decided once, at the root: below it no span is made, and the upstream is told so."""

    class Never(Sampler):
        asked = 0

        def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
            self.asked += 1
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "never"

    sampler = Never()
    with telemetry.use(TracerProvider(sampler)), telemetry.poll("usd", 1):
        with telemetry.upstream_call("usd", "GET", URL("http://u/")), telemetry.commit("usd", 1):
            sent = telemetry.outgoing_context()
        assert sent == telemetry.outgoing_context()
    assert sampler.asked == 1
    assert not int(sent["traceparent"][-2:], 16) & 1  # the flag of what is sampled
