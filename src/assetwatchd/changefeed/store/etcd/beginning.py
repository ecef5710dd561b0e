"""How a process begins with the store: it begins an epoch, then reads all that there is, that epoch too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd import epochs, keys
from assetwatchd.changefeed.store.etcd.reading import read_all
from assetwatchd.changefeed.store.ledger import Ledger
from assetwatchd.etcd.errors import Compacted, OutcomeUnknown
from assetwatchd.etcd.operations import get, get_prefix, modified, put
from assetwatchd.model.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.reading import Reading
    from assetwatchd.changefeed.store.etcd.records import Seal
    from assetwatchd.etcd.client import EtcdClient
    from assetwatchd.etcd.operations import Operation
    from assetwatchd.etcd.values import Outcome

TRIES = 10
AGAIN_S = 0.5
"""Between two tries: an election takes a second or two, and whatever starts the process starts it again later."""


async def begin(client: EtcdClient, names: Keys, seal: Seal) -> Reading:
    """Begin an epoch, and read. Raises: StoreError when etcd does not answer TRIES times, or refuses."""
    for tried in range(1, TRIES + 1):
        try:
            await begin_epoch(client, names)
            return await read_all(client, names, seal, Ledger())
        except ValueError as error:
            raise StoreError(
                f"what is in etcd below {names.prefix.decode()} was not written by assetwatch: give another"
                f" store.prefix, or restore a backup ({error})"
            ) from None
        except (OutcomeUnknown, Compacted):  # an epoch that was begun for nothing is as good as any
            if tried == TRIES:
                raise
            await asyncio.sleep(AGAIN_S)
    raise AssertionError


async def begin_epoch(client: EtcdClient, names: Keys) -> None:
    """Begin an epoch; of several processes that do at the same time, one after the other. Raises: StoreError."""
    key = names.named(keys.EPOCHS)
    while True:
        found = await client.txn(
            success=[get(key), *map(get, map(names.named, (keys.BASE, keys.COPYING))), *_ours(names)]
        )
        if found.one(2) is not None:
            raise StoreError(
                f"a copy into etcd, below {names.prefix.decode()}, goes on or was broken off: wait for its end, or"
                " delete what is there and copy again"
            )
        written = found.one(0)
        since = 0 if written is None else written.modified
        if (await client.txn((modified(key, since),), (put(key, _next(found)),))).succeeded:
            return


def _ours(names: Keys) -> Iterator[Operation]:
    """Yield the reads of all keys of which one is written whenever an entry is, or whenever a process begins."""
    return (get_prefix(names.named(kind)) for kind in (b"w/", b"f/", b"m/", b"o/"))


def _next(found: Outcome) -> bytes:
    written, copied = found.one(0), found.one(1)
    if written is None:
        return epochs.begun(epochs.NONE)
    base = 0 if copied is None else int(copied.value)
    newest = max(key.modified for keys_found in found.found for key in keys_found)
    leapt = found.revision - newest > epochs.LEAP
    last = keys.number(base, newest, keys.PLACES - 1) if leapt else None
    return epochs.begun(epochs.read(written.value, written.modified, base), leapt_from=last)
