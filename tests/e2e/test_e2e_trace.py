"""From a delivered change back to the upstream call or message that showed it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace

from assetwatchd.runtime import telemetry
from support.reader import PATIENCE_S
from support.rig import SAMPLES, SOURCES, Stream, key_of, running, sample
from support.tracing import Recorded, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

WATCH = "assetwatch.v1.AssetStatusService/WatchStatus"


@pytest.fixture
def record() -> Iterator[Recorded]:
    with recorded() as record:
        yield record


async def delivered(stream: Stream, source: str) -> str:
    """Wait for a change of a source's sample; return its traceparent."""
    key = sample(source)
    message = await stream.until(lambda message: key in {key_of(c.status) for c in message.changes})
    return next(change.traceparent for change in message.changes if key_of(change.status) == key)


async def span_of(record: Recorded, traceparent: str) -> ReadableSpan:
    """Wait for the span that a traceparent names to end."""
    _, trace_id, span_id, _ = traceparent.split("-")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for span in record.spans:
                if trace.format_span_id(span.context.span_id) == span_id:
                    assert trace.format_trace_id(span.context.trace_id) == trace_id
                    return span
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("source", SOURCES)
async def test_a_delivered_change_leads_to_the_http_call_that_found_it(source: str, record: Recorded) -> None:
    """Its traceparent is a poll of the source, whose child is an HTTP call to that upstream."""
    async with running((source,)) as rig:
        stream = await rig.watch(sources=[source]).synced()
        rig.vary(source)
        poll = await span_of(record, await delivered(stream, source))
        assert poll.name == telemetry.SPAN_POLL
        assert poll.attributes is not None
        assert poll.attributes[telemetry.SOURCE] == source
        children = [s for s in record.spans if s.parent and s.parent.span_id == poll.context.span_id]
        urls = [str(child.attributes[telemetry.URL_FULL]) for child in children if child.attributes]
        assert any(url.startswith(rig[source].url) for url in urls)


async def test_the_watch_is_a_span_that_links_to_what_it_delivered(record: Recorded) -> None:
    """The span of the stream links to the poll; so does the span of the commit."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        rig.vary("omn")
        traceparent = await delivered(stream, "omn")
        stream.call.cancel()
        watch = await record.ended(WATCH)
        for span in (watch, record.named(telemetry.SPAN_COMMIT)[-1]):
            links = {trace.format_span_id(link.context.span_id) for link in span.links}
            assert traceparent.split("-")[2] in links


async def test_a_pushed_change_reaches_a_subscriber_without_a_poll(record: Recorded) -> None:
    """With polls an hour apart it comes in well under a second, by one read that the push asked for."""
    intervals = ("busy_interval_s", "settled_interval_s", "enumerate_interval_s", "probe_interval_s")
    async with running(("pieces",), every=dict.fromkeys(intervals, 3600)) as rig:
        stream = await rig.watch(sources=["pieces"]).synced()
        await rig.shows("pieces", lambda source: source.poll_stats.polled_assets > 0)
        await asyncio.sleep(0.3)
        rig["pieces"].requests.clear()
        rig.vary("pieces")
        async with asyncio.timeout(1):
            traceparent = await delivered(stream, "pieces")
        assert rig["pieces"].requests.count(SAMPLES["pieces"].observe) == 1
        assert rig["pieces"].requests.count() == 1
        assert (await span_of(record, traceparent)).name == telemetry.SPAN_POLL


async def test_a_pushed_removal_leads_to_the_message_that_said_so(record: Recorded) -> None:
    """No call at all: the traceparent is the span of the pushed message."""
    async with running(("pieces",)) as rig:
        stream = await rig.watch(sources=["pieces"]).synced()
        rig["pieces"].requests.clear()
        rig["pieces"].remove(sample("pieces").asset_id)
        push = await span_of(record, await delivered(stream, "pieces"))
        assert push.name == telemetry.SPAN_PUSH
        assert stream.removed == [sample("pieces")]
