"""What is watched of each source and where: told by this process of its own clients, known of all the others.

Every process knows all of it, so whoever comes to own a source knows at once what is wanted of it. It hangs on the
session of who told it: a bucket that goes with one stays for a while, since its watchers come back elsewhere.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from assetwatchd.etcd.errors import EtcdError
from assetwatchd.etcd.operations import put, size
from assetwatchd.replicas.named import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.etcd.client import EtcdClient
    from assetwatchd.etcd.operations import Operation
    from assetwatchd.etcd.values import KeyValue
    from assetwatchd.replicas.named import Named
    from assetwatchd.replicas.session import Session

TOGETHER_S = 0.05
"""What changes within this time is told together: a watch that begins names up to 10,000 assets, many begin at once."""
GRACE_S = 30.0
"""Watchers of a process that is gone are back elsewhere within this, and what they watch was read all the while."""
OPERATIONS_MAX = 100
BYTES_MAX = 1024 * 1024
"""Of one transaction; etcd takes 128 operations and 1.5 MiB by default. A single bucket may be as large."""
AGAIN_S = 0.2

Bucket: TypeAlias = tuple[str, str]
"""A process by its id, and a bucket of what its clients watch."""


class Interests:
    """What is watched of all sources."""

    def __init__(self, keys: Keys, client: EtcdClient, session: Session, me: str) -> None:
        """Make one for a process, me."""
        self._keys = keys
        self._client = client
        self._session = session
        self._me = me
        self._named: dict[str, Named] = {}
        self._others: dict[str, dict[Bucket, bytes]] = {}
        self._listeners: dict[str, Callable[[Bucket, bytes], None]] = {}
        self._going: dict[tuple[str, Bucket], asyncio.TimerHandle] = {}
        self._told: dict[tuple[str, str], bytes] = {}
        self._wake = asyncio.Event()
        session.listen(self._session_changed)

    def add(self, source: str, named: Named, listener: Callable[[Bucket, bytes], None]) -> None:
        """Tell what is named of a source here, and tell a listener what is watched of it elsewhere, as that changes."""
        self._named[source] = named
        self._listeners[source] = listener

    # Elsewhere -------------------------------------------------------------------------------------------------------

    def elsewhere(self, source: str) -> Mapping[Bucket, bytes]:
        """Return what other processes told of a source, also those that are gone since a moment ago."""
        return self._others.get(source, {})

    def take(self, name: bytes, key: KeyValue | None) -> None:
        """Take in that i/SOURCE/REPLICA/BUCKET is so."""
        _, source, replica, bucket, *_ = (*name.decode(errors="replace").split("/"), "", "")
        if replica == self._me:
            self._take_own(source, bucket, NOTHING if key is None else key.value)
            return
        if (timer := self._going.pop((source, (replica, bucket)), None)) is not None:
            timer.cancel()
        if key is not None:
            self._set(source, (replica, bucket), key.value)
        elif (replica, bucket) in self.elsewhere(source):
            going = source, (replica, bucket)
            self._going[going] = asyncio.get_running_loop().call_later(GRACE_S, self._forget, *going)

    def _take_own(self, source: str, bucket: str, body: bytes) -> None:
        """Have a bucket told again that is not as it was told last: a try without an answer may be done after others.

        So one more time, at most, is told what changes while it is on its way.
        """
        if self._told.get((source, bucket), body) != body:
            self._named[source].dirty.add(bucket)
            self._wake.set()

    def _forget(self, source: str, bucket: Bucket) -> None:
        del self._going[source, bucket]
        self._set(source, bucket, NOTHING)

    def _set(self, source: str, bucket: Bucket, body: bytes) -> None:
        table = self._others.setdefault(source, {})
        if body == table.get(bucket, NOTHING):
            return
        if body:
            table[bucket] = body
        else:
            del table[bucket]
        if (listener := self._listeners.get(source)) is not None:
            listener(bucket, body)

    # Here ------------------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Have what is named here told, as far as it changed."""
        self._wake.set()

    def _session_changed(self) -> None:
        """Have all of it told anew, as it went with the old session."""
        for named in self._named.values():
            named.again()
        self._wake.set()

    async def run(self) -> None:
        """Tell what changes; until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(TOGETHER_S)
            if self._session.alive and not await self._tell(self._session.lease):
                await asyncio.sleep(AGAIN_S)
                self._wake.set()

    async def _tell(self, lease: int) -> bool:
        """Write what is not as it was told; return whether that is all written."""
        for part in self._parts(lease):
            try:
                await self._client.txn(success=[operation for *_, operation in part])
            except EtcdError:
                for source, bucket, _ in part:
                    self._named[source].dirty.add(bucket)
                return False
        return True

    def _parts(self, lease: int) -> Iterator[list[tuple[str, str, Operation]]]:
        """Yield what is to be written, a transaction each; what one has is not dirty any more."""
        part: list[tuple[str, str, Operation]] = []
        bytes_left = BYTES_MAX
        for source, named in self._named.items():
            while named.dirty:
                bucket = named.dirty.pop()
                operation = put(self._key(source, bucket), named.told(bucket), lease=lease)
                if part and (len(part) == OPERATIONS_MAX or size(operation) > bytes_left):
                    named.dirty.add(bucket)  # not in this part, after which perhaps nobody asks for another
                    yield part
                    part, bytes_left = [], BYTES_MAX
                    continue
                self._told[source, bucket] = operation.request_put.value
                part.append((source, bucket, operation))
                bytes_left -= size(operation)
        if part:
            yield part

    def _key(self, source: str, bucket: str) -> bytes:
        return self._keys.named(f"i/{source}/{self._me}/{bucket}".encode())

    async def settled(self, source: str, within_s: float) -> None:
        """Return once all that is named of a source here was told, or after so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._named[source].dirty:  # noqa: ASYNC110 - told within some milliseconds
                    await asyncio.sleep(TOGETHER_S)
