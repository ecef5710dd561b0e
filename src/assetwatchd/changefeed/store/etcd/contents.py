"""All that is below the prefix as of one revision of etcd: entries in a ledger, and every other key by its name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd import epochs, keys
from assetwatchd.changefeed.store.etcd.records import entry_of
from assetwatchd.changefeed.store.ledger import Ledger
from assetwatchd.model.texts import cut
from assetwatchd.runtime.logs import Seldom

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.records import Seal
    from assetwatchd.etcd.values import Event, KeyValue
    from assetwatchd.model.values import Entry

NAME_SHOWN = 100
LEFT_OUT_EVERY_S = 60.0
LEFT_OUT_MAX = 100
"""Of so many keys it is said that they are left out, and of others now and then."""

log = logging.getLogger(__name__)


class Contents:
    """Entries are put in the order of their revisions, as the watch tells them, or `reading` has sorted them.

    What no process can have written is left out, as if it were not there: anybody who can write to etcd may have.
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
        self._last = 0
        self._seldom = Seldom(LEFT_OUT_EVERY_S, LEFT_OUT_MAX)

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
        try:
            if event.deleted:
                self.ledger.drop([keys.asset(name)])
            else:
                self.put(entry_of(name, key, self.base, self._seal))
        except ValueError as error:
            self._leave_out(name, error)
        return None

    def put(self, entry: Entry) -> None:
        """Put an entry. Raises: ValueError when its revision is not above all others."""
        if entry.revision <= self._last:
            raise ValueError("its revision is another's already")
        self._last = entry.revision
        self.ledger.put(entry)

    def entry(self, name: bytes, key: KeyValue, known: Ledger) -> Entry | None:
        """Read an entry, which is not put; one that is known as it is is not sealed again. None: it is left out."""
        try:
            entry = known.get(keys.asset(name))
            revision = self.number(key.modified)
            if entry is not None and revision <= entry.revision < revision + keys.PLACES:
                return entry
            return entry_of(name, key, self.base, self._seal)
        except ValueError as error:
            self._leave_out(name, error)
            return None

    def put_all(self, entries: Iterable[Entry]) -> None:
        """Put entries, in the order of their revisions."""
        for entry in entries:
            try:
                self.put(entry)
            except ValueError as error:
                self._leave_out(self._names.name(self._names.entry(entry.key)), error)

    def _leave_out(self, name: bytes, why: ValueError) -> None:
        if self._seldom.more(name) is not None:
            log.error("what etcd has as %s is left out: %s", cut(ascii(name), NAME_SHOWN), why)

    def put_others(self, others: Iterable[KeyValue]) -> None:
        """Put keys that are no entries."""
        for key in others:
            self._take_other(self._names.name(key.key), key)

    def _take_other(self, name: bytes, key: KeyValue | None) -> None:
        if key is None:
            self.others.pop(name, None)
            return
        self.others[name] = key
        try:
            self._count(name, key)
        except ValueError as error:
            self._leave_out(name, error)

    def _count(self, name: bytes, key: KeyValue) -> None:
        if name == keys.EPOCHS:
            self.epochs = epochs.read(key.value, key.modified, self.base)
        elif name == keys.FLOOR or name.startswith(b"f/"):
            floor = int(key.value)
            if floor > self.number(key.modified):
                raise ValueError("it is beyond all revisions")
            self.floor = max(self.floor, floor)
