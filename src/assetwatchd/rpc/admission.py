"""Limits of watch streams, in total and from one address."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from assetwatchd.errors import TooManyStreams

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRY_AFTER_S = 10.0


class Admission:
    """Counts open streams."""

    def __init__(self, *, streams_max: int, streams_per_peer_max: int) -> None:
        self._streams_max = streams_max
        self._streams_per_peer_max = streams_per_peer_max
        self._by_host: Counter[str] = Counter()

    @contextmanager
    def stream(self, peer: str) -> Iterator[None]:
        """Count one stream while open; peer is gRPC's, e.g. ipv4:127.0.0.1:41234. Raises: TooManyStreams."""
        host = _host(peer)
        if self._by_host.total() >= self._streams_max:
            raise _refusal("this server", "server", self._streams_max)
        if self._by_host[host] >= self._streams_per_peer_max:
            raise _refusal("one address", f"peer:{host}", self._streams_per_peer_max)
        self._by_host[host] += 1
        try:
            yield
        finally:
            self._by_host[host] -= 1
            if not self._by_host[host]:
                del self._by_host[host]


def _host(peer: str) -> str:
    """Drop the port: every connection has its own."""
    return peer.rpartition(":")[0] if peer.startswith("ipv") else peer


def _refusal(whose: str, subject: str, limit: int) -> TooManyStreams:
    text = f"{whose} has its limit of {limit} watch streams; close some, or watch more assets in one"
    return TooManyStreams(text, subject=subject, limit=limit, retry_after_s=RETRY_AFTER_S)
