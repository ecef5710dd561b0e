"""Reads all that is below the prefix, as of one revision, and holds up nobody meanwhile."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.changefeed.store.etcd import keys
from assetwatchd.changefeed.store.etcd.contents import Contents
from assetwatchd.runtime.slices import in_turns, parts_of

if TYPE_CHECKING:
    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.records import Seal
    from assetwatchd.changefeed.store.ledger import Ledger
    from assetwatchd.etcd.client import EtcdClient
    from assetwatchd.model.values import Entry

READ_TOGETHER = 500
"""So many entries are read, at 20 us each, before others have a turn: a process whose loop stands still for longer than
its lease lasts loses all that it owns.
"""


class Reading(NamedTuple):
    """What was read, as of which revision of which cluster."""

    contents: Contents
    revision: int
    cluster: int


async def read_all(client: EtcdClient, names: Keys, seal: Seal, known: Ledger) -> Reading:
    """Read; entries that are known as they are, are taken from there. Raises: EtcdError."""
    base = (await client.get(names.named(keys.BASE))).first  # it never changes: a store is copied into an empty place
    contents = Contents(names, seal, 0 if base is None else int(base.value))
    entries: list[Entry] = []
    async for page in client.pages(names.prefix):
        async for some in in_turns(parts_of(page.keys, READ_TOGETHER)):
            named = [(names.name(key.key), key) for key in some]
            contents.put_others(key for name, key in named if not keys.is_entry(name))
            read = (contents.entry(name, key, known) for name, key in named if keys.is_entry(name))
            entries += [entry for entry in read if entry is not None]
    entries.sort(key=attrgetter("revision"))
    async for part in in_turns(parts_of(entries, READ_TOGETHER)):
        contents.put_all(part)
    return Reading(contents, page.revision, page.cluster)
