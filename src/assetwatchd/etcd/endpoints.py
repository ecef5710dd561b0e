"""Which member is asked: one at a time, and the next one after calls that it did not answer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from assetwatchd.etcd.connection import Connection
from assetwatchd.etcd.errors import EtcdRefused, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatchd.etcd.connection import Access

FAILURES_MAX = 2
"""Calls in a row without an answer, before the next endpoint is tried: one is lost at every election."""


class Endpoints:
    """The connection in use: made for its first call, and anew once that failed, also where there is one endpoint."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._place = 0
        self._failures = 0
        self._connection: Connection | None = None
        self._left: list[Connection] = []

    @property
    def current(self) -> str:
        """The endpoint that is asked next."""
        return self._access.endpoints[self._place]

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """Give the connection for one call, and count how it ends. Raises: EtcdRefused when a file cannot be read."""
        connection = self._connection = self._connection or Connection(self.current, self._access)
        try:
            yield connection
        except OutcomeUnknown:
            self._failed(connection)
            raise
        except EtcdRefused:
            self._answered(connection)
            raise
        self._answered(connection)

    async def settle(self) -> None:
        """End what still goes on on connections that were given up."""
        while self._left:
            await self._left.pop().close()

    async def close(self) -> None:
        """Give everything back."""
        self._leave()
        await self.settle()

    def _answered(self, connection: Connection) -> None:
        if connection is self._connection:
            self._failures = 0

    def _failed(self, connection: Connection) -> None:
        if connection is not self._connection:
            return  # it was given up meanwhile, and the next one has done nothing wrong
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self._place = (self._place + 1) % len(self._access.endpoints)
            self._leave()

    def _leave(self) -> None:
        if self._connection:
            self._left.append(self._connection)
        self._connection, self._failures = None, 0
