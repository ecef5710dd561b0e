"""How a process begins with the store: it begins an epoch, then reads all that there is, that epoch too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd import epochs, keys
from assetwatchd.changefeed.store.etcd.reading import read_all
from assetwatchd.changefeed.store.ledger import Ledger
from assetwatchd.etcd.errors import Compacted, OutcomeUnknown
from assetwatchd.etcd.operations import get, modified, put
from assetwatchd.model.errors import StoreError

if TYPE_CHECKING:
    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.reading import Reading
    from assetwatchd.changefeed.store.etcd.records import Seal
    from assetwatchd.etcd.client import EtcdClient

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
    key, base, copying = map(names.named, (keys.EPOCHS, keys.BASE, keys.COPYING))
    found = await client.txn(success=(get(key), get(base), get(copying)))
    if found.one(2) is not None:
        raise StoreError(
            f"a copy into etcd, below {names.prefix.decode()}, goes on or was broken off: wait for its end, or"
            " delete what is there and copy again"
        )
    while True:
        written, copied = found.one(0), found.one(1)
        before = epochs.NONE
        if written is not None:
            before = epochs.read(written.value, written.modified, 0 if copied is None else int(copied.value))
        since = 0 if written is None else written.modified
        found = await client.txn((modified(key, since),), (put(key, epochs.begun(before)),), (get(key), get(base)))
        if found.succeeded:
            return
