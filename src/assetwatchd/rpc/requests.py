"""Makes requests of bytes: measures them, decodes them, checks the schema's rules. Every request comes this way.

In this order: each step bounds what the next one can cost.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from assetwatchd.model.errors import InvalidRequest
from assetwatchd.rpc import sizes, wire
from assetwatchd.rpc.fair_lock import FairLock
from assetwatchd.rpc.validate import prepare, validate

if TYPE_CHECKING:
    from collections.abc import Generator

    from google.protobuf.descriptor import Descriptor

M = TypeVar("M", bound=Message)

AT_ONCE_BYTES_MAX = 2048
"""A request up to this is read in one go: that takes a few milliseconds at the very most, and some 20 µs as a rule."""


class Requests:
    """Reads requests; of the larger ones one at a time, in slices between which the event loop serves others."""

    def __init__(self) -> None:
        self._large = FairLock()

    def prepare(self, request: type[Message]) -> None:
        """Learn a request's limits and rules, so that no first call has to wait for it."""
        sizes.request_bytes_max(_descriptor(request))
        prepare(request)

    async def read(self, given: bytes, request: type[M], caller: str = "") -> M:
        """Return the request that the bytes are. caller: whose it is, by address. Raises: InvalidRequest."""
        limit = sizes.request_bytes_max(_descriptor(request))
        if len(given) > limit:
            text = f"the request has {len(given)} bytes; this method takes no more than {limit}: send less"
            raise InvalidRequest(("", text))
        reading = _reading(given, request)
        if len(given) <= AT_ONCE_BYTES_MAX:
            return await _finish(reading, at_once=True)
        async with self._large.held(caller):
            return await _finish(reading, at_once=False)


def _descriptor(request: type[Message]) -> Descriptor:
    descriptor: Descriptor = request.DESCRIPTOR  # type: ignore[assignment]  # the published types know a second class
    return descriptor


def _reading(given: bytes, request: type[M]) -> Generator[None, None, M]:
    """Read a request, a slice each time it is asked on, and return it."""
    yield from wire.measure(given, sizes.sizes_of(_descriptor(request)))
    try:
        message = request.FromString(given)
    except DecodeError:
        text = "the request cannot be decoded; is the client made from the same schema as this server?"
        raise InvalidRequest(("", text)) from None
    yield
    yield from validate(message)
    return message


async def _finish(reading: Generator[None, None, M], *, at_once: bool) -> M:
    while True:
        try:
            next(reading)
        except StopIteration as ended:
            message: M = ended.value
            return message
        if not at_once:
            await asyncio.sleep(0)
