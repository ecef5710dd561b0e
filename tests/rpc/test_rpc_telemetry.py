"""Tracing of calls: every kind of end of every kind of handler has the span that the conventions ask for."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import code_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_status import rpc_status
from opentelemetry.trace import SpanKind, StatusCode

from assetwatchd.model.errors import ServerDraining, SourceUnreachable
from assetwatchd.rpc.status import ErrorsAsStatus
from assetwatchd.rpc.telemetry import Tracing
from assetwatchd.runtime import telemetry
from support.raw_calls import answer_of, health_of, one_to_one
from support.tracing import Recorded, recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SECRET = b"hunter2"
ENDS = {
    "drain": ServerDraining(retry_after_s=1),
    "unreachable": SourceUnreachable("omn", "no answer", retry_after_s=1),
}
FORMS = ["unary", "writer", "generator", "chat", "collect"]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Context = Any


@pytest.fixture
def record() -> Iterator[Recorded]:
    with recorded() as record:
        yield record


async def end_by_error(request: bytes, context: Context) -> None:
    """End by an error of ours."""
    async with ErrorsAsStatus(context):
        raise ENDS[request.decode()]


async def end_as_told(request: bytes, context: Context, service: Service) -> None:
    """End in the way that the request names."""
    match request.decode():
        case "abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such source")
        case "abort-internal":
            await context.abort_with_status(
                rpc_status.to_status(status_pb2.Status(code=code_pb2.INTERNAL, message="internal error"))
            )
        case "abort-unknown":
            await context.abort(grpc.StatusCode.UNKNOWN, "who knows")
        case "set-number" | "set-code" as wanted:
            code = grpc.StatusCode.OUT_OF_RANGE
            context.set_code(code if wanted == "set-code" else code.value[0])
        case "drain" | "unreachable":
            await end_by_error(request, context)
        case "raise":
            raise ValueError(SECRET)
        case "raise-with-code":
            context.set_code(grpc.StatusCode.DATA_LOSS)
            raise ValueError(SECRET)
        case "child":
            with telemetry.poll("omn", 1):
                pass
        case "hang" | "write-on":
            await hang(request, context, service)


async def hang(request: bytes, context: Context, service: Service) -> None:
    """Wait to be cancelled; write all the same when the request says so."""
    service.hangs.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if request != b"write-on":
            raise
        await context.write(b"too late")
    finally:
        service.closed.append("closed")


class Service:
    """One method of each form, and ends as the request says; each sends a message first where it can."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.hangs = asyncio.Event()
        self.contexts: list[Context] = []

    async def unary(self, request: bytes, context: Context) -> bytes:
        """Answer one message."""
        self.contexts.append(context)
        await end_as_told(request, context, self)
        return b"done"

    async def writer(self, request: bytes, context: Context) -> None:
        """Write to the context."""
        self.contexts.append(context)
        await context.write(b"first")
        await end_as_told(request, context, self)

    async def generator(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Yield."""
        self.contexts.append(context)
        yield b"first"
        await end_as_told(request, context, self)
        if request == b"flood":
            try:
                while True:
                    yield b"x" * 100_000
            finally:
                self.closed.append("closed")

    async def chat(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Send back what comes."""
        async for request in requests:
            yield request
            await end_as_told(request, context, self)

    async def collect(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """Answer when all has come."""
        async for request in requests:
            await end_as_told(request, context, self)
        return b"done"

    def threaded(self, request: bytes, context: Context) -> bytes:
        """Run in a thread."""
        del context
        return request

    def handler(self) -> grpc.GenericRpcHandler:
        """Say which method is what."""
        methods = {
            "unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "writer": grpc.unary_stream_rpc_method_handler(self.writer),
            "generator": grpc.unary_stream_rpc_method_handler(self.generator),
            "chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "threaded": grpc.unary_unary_rpc_method_handler(self.threaded),
            "typed": grpc.unary_unary_rpc_method_handler(
                self.unary, request_deserializer=bytes.lower, response_serializer=bytes.upper
            ),
        }
        return grpc.method_handlers_generic_handler("test.Svc", methods)


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[grpc.aio.Channel]:
    """Serve it with health and reflection behind Tracing on a free port."""
    server = grpc.aio.server(interceptors=[Tracing()])
    server.add_generic_rpc_handlers((service.handler(),))
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    reflection.enable_server_reflection(["test.Svc"], server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield channel
        finally:
            await server.stop(0)


def begin(channel: grpc.aio.Channel, form: str, request: bytes, **options: Any) -> Any:
    """Begin a call of that form."""
    kind = {"unary": "unary_unary", "writer": "unary_stream", "generator": "unary_stream"}.get(form)
    kind = kind or {"chat": "stream_stream", "collect": "stream_unary"}[form]
    argument: Any = request if kind.startswith("unary") else iter([request])
    return getattr(channel, kind)(f"/test.Svc/{form}")(argument, **options)


async def finish(call: Any) -> list[bytes]:
    """Return all that the call answers."""
    return [message async for message in call] if hasattr(call, "__aiter__") else [await call]


async def hanging(channel: grpc.aio.Channel, form: str, service: Service, **options: Any) -> Any:
    """Begin a call and return when its handler hangs."""
    call = begin(channel, form, b"hang", **options)
    async with asyncio.timeout(10):
        await service.hangs.wait()
    return call


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("request_", "code", "description"),
    [
        (b"", "OK", None),
        (b"abort", "NOT_FOUND", None),
        (b"abort-internal", "INTERNAL", "internal error"),
        (b"abort-unknown", "UNKNOWN", "who knows"),
        (b"set-code", "OUT_OF_RANGE", None),
        (b"set-number", "OUT_OF_RANGE", None),
        (b"raise", "UNKNOWN", None),
        (b"raise-with-code", "DATA_LOSS", None),
    ],
)
async def test_end_told_by_the_server(
    record: Recorded, form: str, request_: bytes, code: str, description: str | None
) -> None:
    """The span has the code that the client gets, and is an error where the fault is the server's."""
    async with serving(Service()) as channel:
        call = begin(channel, form, request_)
        await asyncio.gather(finish(call), return_exceptions=True)
        assert (await call.code()).name == code
        span = await record.ended(f"test.Svc/{form}")
    expected = {"rpc.system.name": "grpc", "rpc.method": f"test.Svc/{form}", "rpc.response.status_code": code}
    failed = code in {"INTERNAL", "UNKNOWN", "DATA_LOSS"}
    assert span.attributes == expected | ({"error.type": code} if failed else {})
    assert span.kind is SpanKind.SERVER
    assert span.status.status_code is (StatusCode.ERROR if failed else StatusCode.UNSET)
    assert span.status.description == description
    assert SECRET.decode() not in span.to_json()
    assert len(record.spans) == 1


@pytest.mark.parametrize("form", FORMS)
async def test_a_planned_drain_is_no_error(record: Recorded, form: str) -> None:
    """The client is told UNAVAILABLE all the same, and the reason is on the span; the same of a source is an error."""
    async with serving(Service()) as channel:
        for request in (b"drain", b"unreachable"):
            call = begin(channel, form, request)
            await asyncio.gather(finish(call), return_exceptions=True)
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            span = await record.ended(f"test.Svc/{form}")
            failed = request == b"unreachable"
            assert span.attributes is not None
            assert span.attributes["rpc.response.status_code"] == "UNAVAILABLE"
            assert span.attributes["assetwatch.reason"] == ("SOURCE_UNREACHABLE" if failed else "SERVER_DRAINING")
            assert ("error.type" in span.attributes) is failed
            assert span.status.status_code is (StatusCode.ERROR if failed else StatusCode.UNSET)
            record.spans.clear()
    durations = record.points("rpc.server.call.duration")
    assert ["error.type" in point.attributes for point in durations] == [False, True]


async def test_uncaught_exception_is_named_once(record: Recorded) -> None:
    """The class of an exception that nobody caught is an event of the span; its text is not there."""
    async with serving(Service()) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await finish(begin(channel, "generator", b"raise"))
        with pytest.raises(grpc.aio.AioRpcError):
            await finish(begin(channel, "generator", b"abort-unknown"))
    uncaught, aborted = record.spans
    (event,) = uncaught.events
    assert (event.name, event.attributes) == ("exception", {"exception.type": "ValueError"})
    assert not aborted.events


@pytest.mark.parametrize("form", FORMS)
async def test_client_that_cancels(record: Recorded, form: str) -> None:
    """A call that the client ends is CANCELLED and no error; the handler is cleaned up before its span ends."""
    service = Service()
    async with serving(service) as channel:
        call = await hanging(channel, form, service)
        call.cancel()
        span = await record.ended(f"test.Svc/{form}")
    assert service.closed == ["closed"]
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "CANCELLED"
    assert "error.type" not in span.attributes
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("form", FORMS)
async def test_deadline(record: Recorded, form: str) -> None:
    """A call whose time is over is DEADLINE_EXCEEDED, which is an error."""
    service = Service()
    async with serving(service) as channel:
        await channel.channel_ready()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await finish(begin(channel, form, b"hang", timeout=0.3))
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        span = await record.ended(f"test.Svc/{form}")
    assert service.closed == ["closed"]
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    assert span.status.status_code is StatusCode.ERROR


async def test_cancel_long_before_the_deadline_is_a_cancel(record: Recorded) -> None:
    """A deadline that is far away does not make a cancelled call an overdue one."""
    service = Service()
    async with serving(service) as channel:
        (await hanging(channel, "writer", service, timeout=60)).cancel()
        span = await record.ended("test.Svc/writer")
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "CANCELLED"


async def test_client_that_leaves_during_a_write(record: Recorded) -> None:
    """A stream cut while it writes is CANCELLED, and its generator is closed."""
    service = Service()
    async with serving(service) as channel:
        call = begin(channel, "generator", b"flood")
        assert await call.read() == b"first"
        assert await call.read()
        call.cancel()
        span = await record.ended("test.Svc/generator")
    assert service.closed == ["closed"]
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "CANCELLED"


async def test_write_to_a_client_that_left(record: Recorded) -> None:
    """A handler that writes on after the cancel fails at that, which is still the client's doing."""
    service = Service()
    async with serving(service) as channel:
        call = begin(channel, "writer", b"write-on")
        await asyncio.wait_for(service.hangs.wait(), 10)
        call.cancel()
        span = await record.ended("test.Svc/writer")
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "CANCELLED"


async def test_span_continues_the_callers_trace(record: Recorded) -> None:
    """The span is a child of the caller's, and what the handler does is a child of the span."""
    async with serving(Service()) as channel:
        await finish(begin(channel, "unary", b"child", metadata=(("traceparent", PARENT),)))
    poll, call = record.spans
    assert call.parent is not None
    assert poll.parent is not None
    assert call.context is not None
    assert (call.parent.span_id, call.context.trace_id) == (0xB7AD6B7169203331, 0x0AF7651916CD43DD8448EB211C80319C)
    assert poll.parent.span_id == call.context.span_id


@pytest.mark.parametrize("form", FORMS)
async def test_inside_of_every_form_is_under_the_span(record: Recorded, form: str) -> None:
    """In a generator too, the call's span is the current one."""
    async with serving(Service()) as channel:
        await finish(begin(channel, form, b"child"))
        call = await record.ended(f"test.Svc/{form}")
    (poll,) = record.named("assetwatch.poll")
    assert poll.parent is not None
    assert call.context is not None
    assert poll.parent.span_id == call.context.span_id


async def test_malformed_context_begins_a_trace(record: Recorded) -> None:
    """A traceparent that cannot be read is ignored, and binary metadata does no harm."""
    metadata = (("traceparent", "nonsense"), ("x-bin", b"\xff"))
    async with serving(Service()) as channel:
        assert await finish(begin(channel, "unary", b"", metadata=metadata)) == [b"done"]
    assert record.spans[0].parent is None


async def test_handler_gets_the_context_of_grpc_itself(record: Recorded) -> None:
    """No message goes through a wrapper: the handler writes to grpc's own context."""
    service = Service()
    async with serving(service) as channel:
        assert await finish(begin(channel, "writer", b"")) == [b"first"]
    assert record.spans
    assert type(service.contexts[0]).__module__.startswith("grpc._cython")


async def test_serializers_are_kept(record: Recorded) -> None:
    """A handler's own serializers stay in use; one without any gets and gives bytes."""
    service = Service()
    async with serving(service) as channel:
        assert await one_to_one(channel, "/test.Svc/typed")(b"ABORTED") == b"DONE"
        assert await finish(begin(channel, "generator", b"")) == [b"first"]
    assert len(record.spans) == 2


async def test_durations_are_measured(record: Recorded) -> None:
    """Each call is measured in seconds by method and code, with buckets that suit seconds."""
    async with serving(Service()) as channel:
        await finish(begin(channel, "unary", b""))
        await finish(begin(channel, "unary", b""))
        with pytest.raises(grpc.aio.AioRpcError):
            await finish(begin(channel, "unary", b"abort-internal"))
    fine, failed = sorted(record.points("rpc.server.call.duration"), key=lambda point: -point.count)
    method = {"rpc.system.name": "grpc", "rpc.method": "test.Svc/unary"}
    assert (fine.count, fine.attributes) == (2, method | {"rpc.response.status_code": "OK"})
    assert failed.attributes == method | {"rpc.response.status_code": "INTERNAL", "error.type": "INTERNAL"}
    assert fine.explicit_bounds == telemetry.DURATION_BUCKETS_S
    assert 0 < fine.sum < 10


async def test_health_passes_untraced(record: Recorded) -> None:
    """Check and Watch of the health service work, and leave no span."""
    async with serving(Service()) as channel:
        stub = health_of(channel)
        serving_ = health_pb2.HealthCheckResponse.SERVING
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == serving_
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await answer_of(watch)).status == serving_
        watch.cancel()
    assert record.spans == []


async def test_reflection_passes_untraced(record: Recorded) -> None:
    """The reflection stream works, and leaves no span."""
    async with serving(Service()) as channel:
        call = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        (answer,) = [a async for a in call(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))]
    assert [service.name for service in answer.list_services_response.service] == ["test.Svc"]
    assert record.spans == []


async def test_synchronous_handler_passes_untraced(record: Recorded) -> None:
    """A handler that runs in a thread works as without tracing."""
    async with serving(Service()) as channel:
        assert await one_to_one(channel, "/test.Svc/threaded")(b"hello") == b"hello"
    assert record.spans == []


async def test_unknown_method_is_unimplemented(record: Recorded) -> None:
    """A method that nobody serves stays UNIMPLEMENTED."""
    async with serving(Service()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await one_to_one(channel, "/test.Svc/nonsense")(b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert record.spans == []


async def test_works_without_telemetry() -> None:
    """Where nothing is configured calls are served as ever, and a caller's context still reaches the handler."""
    seen: list[str] = []

    class Asking(Service):
        async def unary(self, request: bytes, context: Context) -> bytes:
            """Look at what upstreams would be sent."""
            del request, context
            seen.append(telemetry.outgoing_context()["traceparent"])
            return b"done"

    with telemetry.use():
        async with serving(Asking()) as channel:
            await finish(begin(channel, "unary", b"", metadata=(("traceparent", PARENT),)))
    assert seen == [PARENT]
