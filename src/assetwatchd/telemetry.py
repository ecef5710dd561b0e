"""OpenTelemetry: set-up, and every span, metric and attribute name as a constant."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yarl import URL

SOURCE = "assetwatch.source"
tracer = trace.get_tracer("assetwatch")


@contextmanager
def upstream_call(source: str, method: str, url: URL) -> Iterator[trace.Span]:
    """Span of one HTTP call, named by the semantic conventions; the query, which may hold a secret, is left out."""
    attributes: dict[str, str | int] = {
        SOURCE: source,
        "http.request.method": method,
        "server.address": url.host or "",
        "server.port": url.port or 0,
        "url.full": str(url.with_query(None).with_user(None)),
    }
    with tracer.start_as_current_span(method, kind=SpanKind.CLIENT, attributes=attributes) as span:
        yield span


def upstream_answered(span: trace.Span, status: int) -> None:
    """Note the answer's status on its span."""
    span.set_attribute("http.response.status_code", status)
    if status >= 400:  # noqa: PLR2004 - the convention: 4xx is an error of the client's span
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))


def outgoing_context() -> dict[str, str]:
    """Headers that carry the current W3C trace context; empty outside a trace."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers
