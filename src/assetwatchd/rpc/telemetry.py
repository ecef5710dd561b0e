"""Spans and durations of the calls to this server, as the RPC semantic conventions (release candidate) name them."""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from assetwatchd.rpc.status import PLANNED, told
from assetwatchd.runtime import telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from assetwatchd.rpc.signatures import Behaviour, Context, Handler

UNTRACED = ("/grpc.health.", "/grpc.reflection.")
"""Probes and tools: passed on as they are."""

SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""The codes that make a server's span an error; the others say what the client did. CANCELLED ends any watch."""

DEADLINE_SLACK_S = 0.02
DEADLINE_SLACK_RATIO = 0.01
"""A client's own deadline fires before ours: its timeout takes a moment to get here, and is rounded up by up to 1 %."""

CODES = {code.value[0]: code for code in grpc.StatusCode}
CONTEXT_KEYS = ("traceparent", "tracestate")


class Tracing(grpc.aio.ServerInterceptor):
    """A server span and a duration for each call of an asynchronous handler; the first interceptor of the server.

    Handlers keep their serializers. One that is an async generator is run by our own loop of context.write, which takes
    the place of grpc's, so that a message costs the same with and without tracing. Synchronous handlers pass untraced.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap what serves the call, unless nothing does."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(UNTRACED):
            return handler
        return _traced(handler, handler_call_details.method.lstrip("/"))


def _traced(handler: Handler, method: str) -> Handler:
    kind = kind_of(handler)
    run = as_coroutine(getattr(handler, kind))
    if run is None:
        return handler

    async def traced(request: object, context: Context) -> object:
        call = _begin(method, context)
        failure: BaseException | None = None
        # BaseException, so CancelledError too: that is how most watches end, and they must be measured.
        with _current(call.span):
            try:
                served = run(request, context)
                del request  # as below
                return await served
            except BaseException as exc:
                failure = exc
                raise
            finally:
                call.end(context, failure)
                failure = None  # which would hold this frame, as this frame it, and with it all that the call was about

    make = getattr(grpc, f"{kind}_rpc_method_handler")
    wrapped: Handler = make(traced, handler.request_deserializer, handler.response_serializer)
    return wrapped


def _current(span: trace.Span) -> AbstractContextManager[object]:
    """Make a span the current one, unless it is of no trace: that would cost each stream a kilobyte for nothing."""
    if not span.get_span_context().is_valid:
        return nullcontext()
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


def kind_of(handler: Handler) -> str:
    """Return what grpc calls this kind of handler, e.g. unary_stream."""
    return f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"


def as_coroutine(served: Callable[..., object]) -> Behaviour | None:
    """Return what a handler does as one coroutine function; None when it is synchronous."""
    if inspect.iscoroutinefunction(served):
        run: Behaviour = served
        return run
    if not inspect.isasyncgenfunction(served):
        return None

    async def drive(request: object, context: Context) -> None:
        async with aclosing(served(request, context)) as messages:
            async for message in messages:
                await context.write(message)

    return drive


def _begin(method: str, context: Context) -> _Call:
    metadata = {key: value for key, value in context.invocation_metadata() or () if key in CONTEXT_KEYS}
    attributes = {telemetry.RPC_SYSTEM: "grpc", telemetry.RPC_METHOD: method}
    span = telemetry.start_span(method, SpanKind.SERVER, telemetry.W3C.extract(metadata), attributes)
    return _Call(method, span, time.perf_counter(), context.time_remaining())


@dataclass(frozen=True, slots=True)
class _Call:
    """One call under way. allowed_s: until its deadline when it began, None without one."""

    method: str
    span: trace.Span
    started: float
    allowed_s: float | None

    def end(self, context: Context, failure: BaseException | None) -> None:
        code = self._code(context, failure).name
        measured = {telemetry.RPC_SYSTEM: "grpc", telemetry.RPC_METHOD: self.method, telemetry.RPC_STATUS: code}
        self.span.set_attribute(telemetry.RPC_STATUS, code)
        if reason := told(failure):
            self.span.set_attribute(telemetry.REASON, reason)
        # A planned drain ends every watch with UNAVAILABLE: as errors these made each deployment look like an outage.
        if code in SERVER_ERRORS and reason not in PLANNED:
            measured[telemetry.ERROR_TYPE] = code
            self.span.set_attribute(telemetry.ERROR_TYPE, code)
            self.span.set_status(Status(StatusCode.ERROR, context.details() or None))
        if code == "UNKNOWN" and failure is not None and not isinstance(failure, grpc.aio.AbortError):
            self.span.add_event("exception", {"exception.type": type(failure).__name__})
        self.span.end()
        telemetry.record_rpc(time.perf_counter() - self.started, measured)

    def _code(self, context: Context, failure: BaseException | None) -> grpc.StatusCode:
        """Return what the client is told, or what it did when nothing can be told to it any more."""
        given = _given(context)
        if failure is None:
            return given
        if isinstance(failure, (asyncio.CancelledError, GeneratorExit)):
            return grpc.StatusCode.DEADLINE_EXCEEDED if self._overdue(context) else grpc.StatusCode.CANCELLED
        if isinstance(failure, grpc.aio.InternalError):  # a write to a client that has gone
            return grpc.StatusCode.CANCELLED
        return grpc.StatusCode.UNKNOWN if given is grpc.StatusCode.OK else given

    def _overdue(self, context: Context) -> bool:
        if self.allowed_s is None:
            return False
        return context.time_remaining() <= DEADLINE_SLACK_S + DEADLINE_SLACK_RATIO * self.allowed_s


def _given(context: Context) -> grpc.StatusCode:
    """Return the code set by the handler; grpc gives back whatever was set, an integer too, and None before that."""
    code: grpc.StatusCode | int | None = context.code()
    return CODES[code] if isinstance(code, int) else code or grpc.StatusCode.OK
