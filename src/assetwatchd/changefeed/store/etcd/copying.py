"""Copies a whole store out of etcd, or into a place in etcd where nothing is; no process uses it meanwhile.

Copied entries keep their revisions, and each process counts on from the head that the old store had, m/base.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.copying import Content
from assetwatchd.changefeed.store.etcd import epochs, keys
from assetwatchd.changefeed.store.etcd.keys import PLACES, Keys
from assetwatchd.changefeed.store.etcd.parts import BYTES_MAX, DRAFTS_MAX
from assetwatchd.changefeed.store.etcd.reading import read_all
from assetwatchd.changefeed.store.etcd.records import copied
from assetwatchd.changefeed.store.ledger import Ledger
from assetwatchd.etcd.client import EtcdClient
from assetwatchd.etcd.connection import access_of
from assetwatchd.etcd.operations import created, delete, get_prefix, put, size
from assetwatchd.model.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from assetwatchd.changefeed.store.etcd.records import Seal
    from assetwatchd.etcd.operations import Operation
    from assetwatchd.settings.schema import EtcdStoreSettings

WITHIN_S = 10.0
"""A transaction of a copy may take this long: nobody waits for it but who copies."""


@asynccontextmanager
async def opened(settings: EtcdStoreSettings) -> AsyncIterator[tuple[EtcdClient, Keys]]:
    """Open a client for the place that settings name."""
    client = EtcdClient(access_of(settings))
    try:
        yield client, Keys(settings.prefix)
    finally:
        await client.close()


async def read(client: EtcdClient, names: Keys, seal: Seal) -> Content:
    """Read all. Raises: StoreError, also when a replica runs."""
    contents, revision, _ = await read_all(client, names, seal, Ledger())
    if any(name.startswith((b"o/", b"r/")) for name in contents.others):
        raise StoreError(
            f"replicas use what is below {_prefix(names)}: stop them, and wait until their leases are over"
        )
    if keys.EPOCHS not in contents.others:
        raise StoreError(f"no whole store is below {_prefix(names)}: nothing to copy")
    head = contents.number(revision, PLACES - 1)
    known = contents.epochs
    all_epochs = {**known.ended, known.current: head} if known.current else known.ended
    return Content(contents.ledger.after(0, head), head, contents.floor, all_epochs)


async def write(client: EtcdClient, names: Keys, content: Content) -> None:
    """Write all, where nothing is; until it is whole, no process begins with it. Raises: StoreError."""
    copying = names.named(keys.COPYING)
    begun = await client.txn((), (get_prefix(names.prefix, limit=1),))
    if begun.found[0] or not (await client.txn((created(copying, 0),), (put(copying, b""),))).succeeded:
        raise StoreError(f"something is below {_prefix(names)} already: give another store.prefix, or delete it")
    records = (put(names.entry(entry.key), copied(entry)) for entry in content.entries)
    for part in _parts(records):
        await client.txn((), part, within_s=WITHIN_S)
    facts = {
        keys.BASE: b"%d" % content.head,
        keys.FLOOR: b"%d" % content.floor,
        keys.EPOCHS: epochs.copied(content.epochs),
    }
    whole = [put(names.named(name), value) for name, value in facts.items()]
    await client.txn((), (*whole, delete(copying)), within_s=WITHIN_S)


def _parts(operations: Iterable[Operation]) -> Iterator[list[Operation]]:
    """Yield what goes into a transaction each."""
    part: list[Operation] = []
    taken = 0
    for operation in operations:
        taken += size(operation)
        if part and (len(part) >= DRAFTS_MAX or taken > BYTES_MAX):
            yield part
            part, taken = [], size(operation)
        part.append(operation)
    if part:
        yield part


def _prefix(names: Keys) -> str:
    return names.prefix.decode()
