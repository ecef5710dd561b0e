"""Spans and measurements kept in memory, for as long as a test lasts."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from assetwatchd.runtime import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace.sampling import Sampler


class Recorded(SpanExporter):
    """What telemetry was told inside `recorded()`."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.metrics = InMemoryMetricReader()
        self._more = asyncio.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep ended spans."""
        self.spans.extend(spans)
        self._more.set()
        return SpanExportResult.SUCCESS

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the ended spans of that name, in the order of their ends."""
        return [span for span in self.spans if span.name == name]

    async def ended(self, name: str) -> ReadableSpan:
        """Wait, at most 10 s, for the first span of that name to end."""
        async with asyncio.timeout(10):
            while not self.named(name):
                self._more.clear()
                await self._more.wait()
        return self.named(name)[0]

    def points(self, metric: str) -> list[Any]:
        """Return the data points of one metric as they are now."""
        data = self.metrics.get_metrics_data()
        if data is None:
            return []
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == metric]
        return [point for m in found for point in m.data.data_points]


@contextmanager
def recorded(sampler: Sampler | None = None) -> Iterator[Recorded]:
    """Record the spans and measurements of this process until the block ends."""
    record = Recorded()
    tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(record))
    meters = MeterProvider([record.metrics], shutdown_on_exit=False)
    with telemetry.use(tracers, meters):
        yield record
    tracers.shutdown()
    meters.shutdown()
