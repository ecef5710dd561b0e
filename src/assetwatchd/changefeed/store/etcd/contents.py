"""All that is below the prefix as of one revision of etcd: entries in a ledger, and every other key by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd import epochs, keys
from assetwatchd.changefeed.store.etcd.records import entry_of
from assetwatchd.changefeed.store.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.records import Seal
    from assetwatchd.etcd.values import Event, KeyValue
    from assetwatchd.model.values import Entry


class Contents:
    """Entries are put in the order of their revisions, as the watch tells them, or `reading` has sorted them.

    others: every key that is no entry, by name.
    """

    def __init__(self, names: Keys, seal: Seal, base: int = 0) -> None:
        """base: the head of the store that this one is a copy of; every revision of ours is above it."""
        self.ledger = Ledger()
        self.others: dict[bytes, KeyValue] = {}
        self.epochs = epochs.NONE
        self.floor = 0
        self.base = base
        self._names = names
        self._seal = seal

    def number(self, revision: int, place: int = 0) -> int:
        """Return a revision of entries: see `keys.number`."""
        return keys.number(self.base, revision, place)

    def take(self, event: Event) -> bytes | None:
        """Put or drop what changed; return its name if it is no entry."""
        key = event.key
        name = self._names.name(key.key)
        if not keys.is_entry(name):
            self._take_other(name, None if event.deleted else key)
            return name
        if event.deleted:
            self.ledger.drop([keys.asset(name)])
        else:
            self.ledger.put(entry_of(name, key, self.base, self._seal))
        return None

    def entry(self, name: bytes, key: KeyValue, known: Ledger) -> Entry:
        """Read an entry, which is not put; one that is known as it is is not sealed again."""
        entry = known.get(keys.asset(name))
        revision = self.number(key.modified)
        if entry is not None and revision <= entry.revision < revision + keys.PLACES:
            return entry
        return entry_of(name, key, self.base, self._seal)

    def put_all(self, others: Iterable[KeyValue]) -> None:
        """Put keys that are no entries."""
        for key in others:
            self._take_other(self._names.name(key.key), key)

    def _take_other(self, name: bytes, key: KeyValue | None) -> None:
        if key is None:
            self.others.pop(name, None)
            return
        self.others[name] = key
        if name == keys.EPOCHS:
            self.epochs = epochs.read(key.value, key.modified, self.base)
        elif name == keys.FLOOR or name.startswith(b"f/"):
            self.floor = max(self.floor, int(key.value))
