"""aiohttp connections with limits that it lacks: their share of the event loop, and the number of answers to a call.

Names that begin with _ are of aiohttp's inside, and may go with any version: pyproject.toml bounds it, and
tests/support/inside_aiohttp.py lists them.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from assetwatchd.upstream.http.rests import COSTLY_S, Rest

if TYPE_CHECKING:
    import asyncio

    from aiohttp.http_parser import RawResponseMessage

RECEIVE_BYTES = 64 * 1024
"""What the kernel may hold of a connection, twice over for its own needs, and so what is taken at once. Chunks of a
byte and heads of answers cost the event loop 100 to 200 ns a byte. A server 50 ms away can still send a MB a second."""
INTERIM_MAX = 16
"""Informational answers (1xx) to one request. They cost nothing to make, and without end they would never let go of
the event loop, so that no time limit could end them."""
SWITCHING_PROTOCOLS = 101


class Connector(aiohttp.TCPConnector):
    """TCPConnector whose connections take RECEIVE_BYTES at a time, about, and end themselves beyond INTERIM_MAX.

    When what they were sent was costly, all of them rest, so that others have REST_TIMES as much of the event loop.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(socket_factory=_socket, **settings)
        self._factory = self._connection  # type: ignore[assignment]  # what makes a connection's protocol
        self.rest = Rest()

    def _connection(self) -> ResponseHandler:
        return _Connection(self, self._loop)

    async def _start_tls_connection(
        self, underlying_transport: asyncio.Transport, req: aiohttp.ClientRequest, *args: Any, **options: Any
    ) -> tuple[asyncio.BaseTransport, ResponseHandler]:
        """Go on through a tunnel that a proxy has made: in the clear for ws://, for which aiohttp would make none."""
        if req.url.scheme != "ws":
            return await super()._start_tls_connection(underlying_transport, req, *args, **options)
        protocol = self._connection()
        underlying_transport.set_protocol(protocol)
        protocol.connection_made(underlying_transport)
        return underlying_transport, protocol


class Request(aiohttp.ClientRequest):
    """A request that asks a proxy by CONNECT for every WebSocket (RFC 6455, 4.1), not only for one over TLS."""

    def is_ssl(self) -> bool:
        """Return whether a proxy is to make a tunnel, and otherwise whether there is TLS."""
        return super().is_ssl() or (self.proxy is not None and self.url.scheme == "ws")


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    # Before it connects, since TCP settles the scale of its window with the first packet (tcp(7)).
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    return made


class _Connection(ResponseHandler):
    """The protocol of one connection; feed_data is given each head of an answer."""

    _interim = 0
    _resting = False

    def __init__(self, connector: Connector, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._connector = connector

    def data_received(self, data: bytes) -> None:
        """Take in what came, and rest when that was costly."""
        with self._connector.rest.counted():
            super().data_received(data)
        self._rest()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        """Go on, as soon as there is no rest."""
        super().resume_reading(resume_parser)
        self._rest()

    def feed_data(self, data: tuple[RawResponseMessage, Any], size: int = 0) -> None:
        """Pass an answer on, but none that is only informational."""
        if not 100 <= data[0].code < 200 or data[0].code == SWITCHING_PROTOCOLS:  # noqa: PLR2004 - RFC 9110, 15.2
            self._interim = 0
            super().feed_data(data, size)
            return
        self._interim += 1
        # The connection ends itself: answers that keep coming hold the event loop, and no time limit gets to run.
        if self._interim == INTERIM_MAX + 1 and self.transport is not None:
            self.transport.abort()
            self.set_exception(HttpProcessingError(message="too many informational answers"))

    def _rest(self) -> None:
        until = self._connector.rest.until
        if self.transport is None or until <= self._loop.time():
            return
        self._pause_transport_reading()
        if not self._resting:
            self._resting = True
            self._loop.call_at(until, self._go_on)

    def _go_on(self) -> None:
        # The rest may have become longer meanwhile, by another connection of the same upstream; then it goes on. And
        # reading resumes only if nothing else has paused it: aiohttp's own back-pressure must not be undone.
        self._resting = False
        self._rest()
        if not (self._resting or self._reading_paused or self._buffer_paused):
            self._connector.rest.until = self._loop.time() + COSTLY_S  # the others go on later than this one
            self._resume_transport_reading()
