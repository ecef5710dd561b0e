"""ServerService: what a server tells about itself is so."""

from __future__ import annotations

import socket
import time
from importlib.metadata import version
from typing import Any

import grpc
import pytest

from assetwatchd.runtime.replica import NAME_CHARS_MAX, as_name, host_name
from support.problems import problem_of
from support.rig import running, sample

LIMITS = {
    "message_bytes_max": 128 * 1024,
    "streams_per_peer_max": 3,
    "names_per_peer_max": 7,
    "stream_age_s": 90.5,
}


async def test_the_facts_of_a_server() -> None:
    """Version, replica, epoch, start, and the limits that are set; the head is that of now."""
    began = time.time()
    async with running(("omn",), server=LIMITS) as rig:
        told = await rig.info()
        assert (told.version, told.replica) == (version("assetwatch"), host_name())
        assert (told.epoch, told.head_revision) == (rig.app.store.epoch, rig.app.store.head)
        assert began - 1e-3 <= told.start_time.ToMicroseconds() / 1e6 <= time.time()
        limits = told.limits
        assert (limits.message_bytes_max, limits.streams_per_caller_max) == (128 * 1024, 3)
        assert (limits.names_per_caller_max, limits.stream_age.ToMilliseconds()) == (7, 90_500)
        status = await rig.get(sample("omn"))
        assert (await rig.info()).head_revision >= status.revision > 0
        assert (await rig.info()).start_time == told.start_time


async def test_what_is_told_of_messages_and_metadata_is_what_is_taken() -> None:
    """Metadata up to the limit told are taken, and no more; a request beyond that of messages is refused by gRPC."""
    async with running((), server=LIMITS) as rig:
        limits = (await rig.info()).limits
        method = "/assetwatch.v1.ServerService/GetServerInfo"
        call: Any = rig.channel.unary_unary(method)
        own = len(method) + _entry("user-agent", "") + 200  # what gRPC adds is within that
        fits = "x" * (limits.metadata_bytes_max - own - _entry("x-fill", ""))
        await call(b"", metadata=(("x-fill", fits),))
        beyond = await problem_of(call(b"", metadata=(("x-fill", fits + "x" * 200),)))
        assert (beyond.reason, beyond.metadata["limit"]) == ("METADATA_TOO_LARGE", str(limits.metadata_bytes_max))
        with pytest.raises(grpc.aio.AioRpcError, match="larger than max") as caught:
            await call(b"x" * (limits.message_bytes_max + 1))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def _entry(name: str, value: str) -> int:
    return len(name) + len(value) + 32


@pytest.mark.unit
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("node-1.example.org", "node-1.example.org"),
        ("Kännchen 1\n", "K-nnchen-1-"),
        ("", "unnamed"),
        ("x" * 1000, "x" * NAME_CHARS_MAX),
    ],
)
def test_a_name_can_travel_as_metadata(given: str, name: str) -> None:
    """Whatever the host is called: no letter that HTTP, JSON or a terminal would take otherwise, and not too many."""
    assert as_name(given) == name


@pytest.mark.unit
def test_the_host_name_is_the_replicas() -> None:
    """As the machine has it, if it is one that can travel."""
    assert host_name() == as_name(socket.gethostname())
