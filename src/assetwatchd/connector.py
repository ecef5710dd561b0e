"""aiohttp's connections, held to limits that it lacks: how much is read in a turn, and how many answers to one call."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from aiohttp.http_parser import RawResponseMessage

RECEIVE_BYTES = 64 * 1024
"""What the kernel may hold of a connection, twice over for its own needs, and so what is taken in a turn. Chunks of a
byte and heads of answers cost the event loop 100 to 200 ns a byte. A server 50 ms away can still send a MB a second."""
INTERIM_MAX = 16
"""Informational answers (1xx) to one request. They cost nothing to make, and without end they would never let go of
the event loop, so that no time limit could end them."""
SWITCHING_PROTOCOLS = 101


class Connector(aiohttp.TCPConnector):
    """TCPConnector whose connections take RECEIVE_BYTES at a time, about, and end themselves beyond INTERIM_MAX."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(socket_factory=_socket, **settings)
        self._factory = self._connection  # type: ignore[assignment]  # what makes a connection's protocol

    def _connection(self) -> ResponseHandler:
        return _Connection(self._loop)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    return made


class _Connection(ResponseHandler):
    """The protocol of one connection; feed_data is given each head of an answer."""

    _interim = 0

    def feed_data(self, data: tuple[RawResponseMessage, Any], size: int = 0) -> None:
        if not 100 <= data[0].code < 200 or data[0].code == SWITCHING_PROTOCOLS:  # noqa: PLR2004 - RFC 9110, 15.2
            self._interim = 0
            super().feed_data(data, size)
            return
        self._interim += 1
        if self._interim == INTERIM_MAX + 1 and self.transport is not None:
            self.transport.abort()
            self.set_exception(HttpProcessingError(message="too many informational answers"))
