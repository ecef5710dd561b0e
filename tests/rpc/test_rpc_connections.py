"""What a client can do below and beside its calls, and where that ends."""

from __future__ import annotations

import asyncio
import random
import string
from typing import TYPE_CHECKING

import grpc
import pytest

from assetwatchd.rpc import receiving, server
from assetwatchd.rpc.receiving import ENTRY_BYTES, GRACE_S, METADATA_BYTES_MAX, Unfinished
from assetwatchd.runtime import telemetry
from assetwatchd.settings.schema import ServerSettings
from support import grpcurl
from support.http2 import EMPTY, LIST_SOURCES, Client, connected
from support.hub_client import virtual
from support.raw_calls import one_to_one
from support.rig import serving
from support.tracing import recorded

if TYPE_CHECKING:
    from collections.abc import Iterable

OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 0, 3, 4, 8, 12
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
MIB = 1024 * 1024


def framed(size: int) -> bytes:
    """Return a message of that size, as gRPC frames it."""
    return b"\0" + size.to_bytes(4, "big") + b"\x0a" * size


# Metadata ------------------------------------------------------------------------------------------------------------


def metadata(size: int, entries: int) -> list[tuple[str, str]]:
    """Make metadata that with LIST_SOURCES count so many bytes."""
    names = [f"x-{number:04}" for number in range(entries)]
    left = size - len(LIST_SOURCES) - sum(len(name) + ENTRY_BYTES for name in names)
    letters = random.Random(size)  # noqa: S311 - text that does not shrink
    texts = ["".join(letters.choices(string.ascii_letters, k=left // entries)) for _ in names]
    texts[0] += "a" * (left - sum(map(len, texts)))
    return list(zip(names, texts, strict=True))


@pytest.mark.parametrize("acknowledges", [True, False])
async def test_metadata_up_to_the_limit_are_taken_and_beyond_it_refused(acknowledges: bool) -> None:  # noqa: FBT001
    """Every time, whether they are one value or many, and whether the client ever takes note of our settings."""
    taken = (1024, 8 * 1024, 12 * 1024, METADATA_BYTES_MAX - 1, METADATA_BYTES_MAX)
    refused = (METADATA_BYTES_MAX + 1, 17 * 1024, 64 * 1024)
    async with serving({}) as (_, address):
        for size in (*taken, *refused):
            async with connected(address, acknowledges=acknowledges) as client:
                for entries in (1, 1, 1, 20):
                    ended = await client.call(LIST_SOURCES, metadata=metadata(size, entries))
                    wanted = (OK, "") if size in taken else (RESOURCE_EXHAUSTED, "METADATA_TOO_LARGE")
                    assert (ended.status, ended.reason) == wanted, (size, entries)


async def test_a_client_that_never_acknowledges_settings_is_held_to_the_limit_of_metadata() -> None:
    """HTTP/2 holds it to nothing: half a megabyte is refused as seventeen kilobytes are."""
    async with serving({}) as (_, address), connected(address, acknowledges=False) as client:
        ended = await client.call(LIST_SOURCES, metadata=metadata(512 * 1024, 1))
        assert (ended.status, ended.reason) == (RESOURCE_EXHAUSTED, "METADATA_TOO_LARGE")
        assert (await client.call(LIST_SOURCES)).status == OK


async def test_a_method_of_any_length_counts_as_metadata() -> None:
    """Its name goes the same way."""
    async with serving({}) as (_, address), connected(address) as client:
        assert (await client.call("/" + "x" * METADATA_BYTES_MAX)).reason == "METADATA_TOO_LARGE"
        assert (await client.call("/" + "x" * 1000)).status == UNIMPLEMENTED


async def test_clients_of_grpc_are_told_so_too() -> None:
    """Python's and Go's get our error, where a limit of gRPC's would have Go's say INTERNAL by itself."""
    async with serving({}) as (_, address), grpc.aio.insecure_channel(address) as channel:
        for size in (17_000, 64_000):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await one_to_one(channel, LIST_SOURCES)(b"", metadata=[("x-a", "b" * size)])
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "16384" in str(caught.value.details())
            ran = await grpcurl.call(address, LIST_SOURCES[1:], None, "-rpc-header", f"x-a: {'b' * size}")
            assert ran.error["code"] == RESOURCE_EXHAUSTED
            assert ran.detail("ErrorInfo")["reason"] == "METADATA_TOO_LARGE"


async def test_who_takes_no_note_of_our_settings_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """And who does stays."""
    monkeypatch.setattr(server, "HANDSHAKE_S", 1)
    async with serving({}) as (_, address), connected(address) as well, connected(address, acknowledges=False) as deaf:
        await deaf.until_closed()
        assert deaf.closed
        assert (await well.call(LIST_SOURCES)).status == OK


async def test_who_connects_and_says_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one byte."""
    monkeypatch.setattr(server, "HANDSHAKE_S", 1)
    async with serving({}) as (_, address):
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(20):
            while await reader.read(1024):
                pass
        writer.close()


# Requests that do not come -------------------------------------------------------------------------------------------


async def a_byte_short(client: Client, paths: Iterable[str], message: bytes) -> dict[int, int]:
    """Begin calls and send all of their requests that the server has room for, but for a byte; return what is left."""
    left = {client.begin(path): len(message) - 1 for path in paths}
    idle = 0
    while idle < 20 and any(left.values()):
        went = 0
        for stream in [stream for stream in left if stream not in client.ended]:
            begin = len(message) - 1 - left[stream]
            went += (sent := client.send(stream, message[begin:-1]))
            left[stream] -= sent
        client.flush()
        idle = 0 if went else idle + 1
        await asyncio.sleep(0.01)
    return left


@pytest.mark.parametrize("path", [LIST_SOURCES, HEALTH_WATCH, REFLECTION])
async def test_unfinished_requests_hold_no_more_than_so_many_whole_ones(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty are begun and four may be on their way: the oldest of the others end, and whole ones are served."""
    monkeypatch.setattr(receiving, "UNFINISHED_MAX", 4)
    monkeypatch.setattr(receiving, "GRACE_S", 0.1)
    async with serving({}, {"message_bytes_max": MIB}) as (_, address), connected(address) as client:
        left = await a_byte_short(client, [path] * 50, framed(MIB - 5))
        await client.until(lambda: len(client.ended) >= 46)
        assert [left[stream] for stream in left if stream not in client.ended] == [0] * 4
        wanted = (OK, "") if path == REFLECTION else (DEADLINE_EXCEEDED, "REQUEST_TOO_SLOW")
        assert {(ended.status, ended.reason) for ended in client.ended.values()} == {wanted}
        assert (await client.call(LIST_SOURCES)).status == OK
        async with connected(address) as other:
            assert (await other.call(LIST_SOURCES, framed(0))).status == OK


@pytest.mark.parametrize("path", [LIST_SOURCES, HEALTH_WATCH, REFLECTION])
async def test_a_request_that_does_not_come_in_time_ends_its_call(path: str) -> None:
    """With all but a byte of it there, or nothing at all; a stream of requests just ends."""
    async with serving({}, {"request_s": 0.3}) as (_, address), connected(address) as client:
        nothing, (part, *_) = client.begin(path), await a_byte_short(client, [path], framed(1000))
        wanted = (OK, "") if path == REFLECTION else (DEADLINE_EXCEEDED, "REQUEST_TOO_SLOW")
        for stream in (nothing, part):
            ended = await client.end_of(stream)
            assert (ended.status, ended.reason) == wanted


async def test_what_is_not_taken_in_is_counted() -> None:
    """By reason: no span and no duration tells of it."""
    with recorded() as record:
        async with serving({}, {"request_s": 0.1}) as (_, address), connected(address) as client:
            await client.end_of(client.begin(LIST_SOURCES))
            await client.call(LIST_SOURCES, metadata=metadata(2 * METADATA_BYTES_MAX, 1))
        points = {point.attributes[telemetry.REASON]: point.value for point in record.points(telemetry.REFUSED)}
    assert points == {"REQUEST_TOO_SLOW": 1, "METADATA_TOO_LARGE": 1}


async def test_a_request_may_come_byte_by_byte() -> None:
    """As long as it is there in time."""
    async with serving({}) as (_, address), connected(address) as client:
        stream = client.begin(LIST_SOURCES)
        for sent, byte in enumerate(EMPTY, 1):
            client.send(stream, bytes([byte]), end=sent == len(EMPTY))
            client.flush()
            await asyncio.sleep(0.01)
        assert (await client.end_of(stream)).status == OK


@pytest.mark.parametrize("path", [LIST_SOURCES, HEALTH_WATCH])
async def test_a_call_without_a_request_is_told_so(path: str) -> None:
    """One that ends with its headers, which to gRPC is a call that goes on for ever."""
    async with serving({}) as (_, address), connected(address) as client:
        stream = client.begin(path, end=True)
        client.flush()
        ended = await client.end_of(stream)
        assert (ended.status, ended.reason) == (INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_what_is_sent_on_a_stream_after_its_request_finds_no_room() -> None:
    """It would lie about for as long as the stream is open."""
    async with serving({}) as (_, address), connected(address) as client:
        stream = client.begin(HEALTH_WATCH)
        client.send(stream, EMPTY)
        client.flush()
        before = client.sent_bytes
        for _ in range(50):
            client.send(stream, b"\0" * MIB)
            client.flush()
            await asyncio.sleep(0.01)
        assert 0 < client.sent_bytes - before <= server.UNREAD_BYTES_MAX
        assert (await client.call(LIST_SOURCES)).status == OK


class Waiting:
    """Calls that wait for a request that never comes, by name. told: whose time was up, in order; begun: who waits."""

    def __init__(self, calls_max: int) -> None:
        self.unfinished = Unfinished(calls_max)
        self.told: list[str] = []
        self.begun: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, host: str, *names: str) -> None:
        """Begin some, a little after one another."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._wait(host, name))
            await asyncio.sleep(0.01)

    async def _wait(self, host: str, name: str) -> None:
        try:
            async with asyncio.timeout(600) as limit, self.unfinished.one_of(host, limit):
                self.begun.append(name)
                await asyncio.Event().wait()
        except TimeoutError:
            self.told.append(name)

    async def end(self) -> None:
        """End all; none must be left."""
        for task in self.tasks.values():
            task.cancel()
        await asyncio.wait(self.tasks.values())
        assert self.unfinished._count == 0
        assert not self.unfinished._by_host
        assert len(self.unfinished._line) == 0


@virtual
async def test_time_is_up_for_the_oldest_of_the_address_that_has_most() -> None:
    """So nobody is shut out by one client; an address that waits for one request alone keeps it."""
    waiting = Waiting(3)
    await waiting.begin("one", "1")
    await waiting.begin("many", "2", "3", "4")
    await waiting.begin("other", "5")
    await waiting.begin("third", "6")
    await asyncio.sleep(GRACE_S + 0.1)
    assert waiting.told[:2] == ["2", "3"]
    assert len(waiting.told) == 3
    assert waiting.begun == ["1", "2", "3", "4", "5", "6"]
    await waiting.end()


@virtual
async def test_no_time_is_up_before_its_grace() -> None:
    """However many come at once: who has to wait does, and goes on as soon as another is read."""
    waiting = Waiting(2)
    await waiting.begin("one", *"123456")
    assert waiting.begun == ["1", "2"]
    for name in "1234":
        waiting.tasks[name].cancel()
        await asyncio.sleep(0.01)
    assert waiting.begun == list("123456")
    assert not waiting.told
    await waiting.end()


@virtual
async def test_addresses_that_wait_take_turns() -> None:
    """One that comes after a hundred calls of another waits for one of them, and one that gives up for nobody."""
    waiting = Waiting(1)
    await waiting.begin("many", *(f"many {number}" for number in range(100)))
    await waiting.begin("other", "gives up", "other")
    waiting.tasks["gives up"].cancel()
    for _ in range(3):
        await asyncio.sleep(GRACE_S + 0.05)
    assert waiting.begun.index("other") <= 3
    await waiting.end()


@virtual
async def test_one_whose_time_is_up_already_is_passed_over() -> None:
    """Between the moment in which its time is up and the one in which it is told, another call comes: none fails."""
    waiting = Waiting(1)
    told = []
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        try:
            async with asyncio.timeout(600) as limit, waiting.unfinished.one_of("one", limit):
                await asyncio.sleep(GRACE_S)
                limit.reschedule(loop.time())
                loop.call_soon(waiting.unfinished._end_overdue)
                await asyncio.Event().wait()
        except TimeoutError:
            told.append("up")

    first = asyncio.create_task(wait())
    await asyncio.sleep(0.1)
    await waiting.begin("other", "came")
    await first
    await asyncio.sleep(0.1)
    assert told == ["up"]
    assert waiting.begun == ["came"]
    await waiting.end()


async def test_many_calls_that_begin_at_once_are_all_served() -> None:
    """None is taken for one that does not send its request, however busy the server is with the others."""
    async with serving({}) as (_, address), connected(address) as client:
        streams = [client.begin(LIST_SOURCES) for _ in range(500)]
        for stream in streams:
            client.send(stream, EMPTY, end=True)
        client.flush()
        ended = [await client.end_of(stream) for stream in streams]
        assert {end.status for end in ended} == {OK}


# Resets, and how many -------------------------------------------------------------------------------------------------


async def test_calls_reset_at_once_count_until_they_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20,000, no more are served at a time than a connection may have calls; the rest are refused undone."""
    most = 0
    intercept = receiving.Receiving.intercept_service

    async def counted(self: receiving.Receiving, *args: object) -> object:
        nonlocal most
        most = max(most, sum(task.get_name().startswith("HandleExceptions") for task in asyncio.all_tasks()))
        return await intercept(self, *args)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(receiving.Receiving, "intercept_service", counted)
    async with serving({}, {"streams_per_peer_max": 1}) as (_, address), connected(address) as client:
        await client.call(LIST_SOURCES)
        for number in range(20_000):
            client.reset(client.begin(LIST_SOURCES))
            if number % 1000 == 0:
                client.flush()
                await asyncio.sleep(0)
        client.flush()
        async with connected(address) as other:
            assert (await other.call(LIST_SOURCES)).status == OK
        assert (await client.call(LIST_SOURCES)).status == OK
        assert 0 < most <= server.CALLS_BESIDE_STREAMS + 2


async def test_no_more_connections_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is closed at once; when one has gone there is room again."""
    monkeypatch.setattr(server, "CONNECTIONS_BESIDE_STREAMS", 1)
    async with serving({}, {"streams_max": 1}) as (_, address), connected(address) as first:
        async with connected(address) as second, connected(address) as third:
            await third.until_closed()
            for client in (first, second):
                assert (await client.call(LIST_SOURCES)).status == OK
        async with asyncio.timeout(20):
            while True:
                async with connected(address) as again:
                    if await again.answers(LIST_SOURCES):
                        break


@pytest.mark.parametrize(("fit", "taken"), [(None, 6000), (7, 7), (10**6, 6000)])
def test_connections_are_as_many_as_watches_and_some_and_as_fit(fit: int | None, taken: int) -> None:
    """What the process can have files for may be fewer."""
    assert dict(server.options(ServerSettings(), fit))["grpc.max_allowed_incoming_connections"] == taken


def test_a_connection_may_have_the_watches_of_its_address_and_some_calls() -> None:
    """A client is told of the sum, and waits in silence beyond it: a watch too many must be below it."""
    for allowed in (1, 2000):
        given = dict(server.options(ServerSettings(streams_per_peer_max=allowed)))
        assert given["grpc.max_concurrent_streams"] == allowed + server.CALLS_BESIDE_STREAMS
