"""What a watcher asked for: which assets, in which states, how much of each, and what an entry is to it."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from assetwatchd.model.values import GONE, View
from assetwatchd.runtime.slices import in_turns, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import AssetKey, Entry, State

DIGEST_BYTES = 8
AT_A_TIME = 1000
"""So many names, or entries, are gone through before everybody else has a turn: a millisecond or less."""
BY_REVISION = attrgetter("revision")


@dataclass(frozen=True)
class Filter:
    """Assets by name, whole sources, and only these states, if any are given; and how much of each status is told.

    prefix: of whole sources only the assets whose id begins with it.
    digest: of all of that; it does not depend on any order.
    watched_sources: every source it concerns, whole or in part.
    """

    keys: frozenset[AssetKey]
    sources: frozenset[str]
    states: frozenset[State]
    prefix: str = ""
    view: View = View.FULL
    digest: bytes = field(default=b"", compare=False)
    watched_sources: frozenset[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(
                self, "digest", _digest(_written(self.keys, self.sources, self.states, self.prefix, self.view))
            )
        in_part = {key.source for key in self.keys} - self.sources
        object.__setattr__(self, "watched_sources", self.sources | in_part if in_part else self.sources)

    @classmethod
    async def of(
        cls,
        keys: Iterable[AssetKey],
        sources: Iterable[str],
        states: Iterable[State],
        prefix: str = "",
        view: View = View.FULL,
    ) -> Filter:
        """Make one; of many names, AT_A_TIME a turn of the loop."""
        parts = frozenset(keys), frozenset(sources), frozenset(states), prefix, view
        if len(parts[0]) <= AT_A_TIME:
            return cls(*parts)
        return cls(*parts, digest=_digest([written async for written in in_turns(_written(*parts))]))

    def share(self, keys: frozenset[AssetKey]) -> None:
        """Have these keys in place of its own, which they are equal to: they are in memory already, for others."""
        object.__setattr__(self, "keys", keys)

    def concerns(self, key: AssetKey) -> bool:
        """Whether the asset was asked for, by name or with its source."""
        return (key.source in self.sources and key.asset_id.startswith(self.prefix)) or key in self.keys

    def holds(self, entry: Entry) -> bool:
        """Whether the entry belongs into the client's map; if not, the change is REMOVED.

        An asset that is gone is held only by those who named it or asked for its state; one that was merely forgotten
        here, whatever its last state, only by those who named it.
        """
        if self.states and entry.state not in self.states:
            return False
        return not entry.gone or entry.key in self.keys or bool(self.states and entry.state in GONE)

    def select(self, store: Store, cursor: int, upto: int) -> Sequence[Entry]:
        """Return the latest entries that concern it with cursor < revision <= upto, in order."""
        if self.sources or upto - cursor < len(self.keys):
            return self._among(store.after(cursor, upto))
        named = map(store.get, self.keys)
        found = [entry for entry in named if entry is not None and cursor < entry.revision <= upto]
        return sorted(found, key=BY_REVISION)

    def _among(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return those that it concerns."""
        sources, keys, prefix = self.sources, self.keys, self.prefix
        if not prefix:  # as most filters: it costs them nothing
            return [entry for entry in entries if entry.key.source in sources or entry.key in keys]
        return [
            entry
            for entry in entries
            if (entry.key.source in sources and entry.key.asset_id.startswith(prefix)) or entry.key in keys
        ]

    async def held_of(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return those that it holds; of many, AT_A_TIME a turn of the loop."""
        parts = in_turns(parts_of(entries, AT_A_TIME))
        return [entry async for part in parts for entry in part if self.holds(entry)]

    async def select_in_parts(self, store: Store, cursor: int, upto: int) -> list[Entry]:
        """Look for the same, AT_A_TIME a turn of the loop: what changes meanwhile is left out, or as it was."""
        if self.sources or upto - cursor < len(self.keys):
            windows = in_turns(_windows(store, cursor, upto))
            return [entry async for window in windows for entry in self._among(window)]
        found = [
            entry
            async for names in in_turns(parts_of(self.keys, AT_A_TIME))
            for entry in map(store.get, names)
            if entry is not None and cursor < entry.revision <= upto
        ]
        return sorted(found, key=BY_REVISION)


def _windows(store: Store, cursor: int, upto: int) -> Iterator[Sequence[Entry]]:
    while window := store.after(cursor, upto, AT_A_TIME):
        yield window
        cursor = window[-1].revision


def _digest(written: Iterable[bytes]) -> bytes:
    return hashlib.blake2b(b"".join(written), digest_size=DIGEST_BYTES).digest()


def _written(
    keys: frozenset[AssetKey], sources: frozenset[str], states: frozenset[State], prefix: str, view: View
) -> Iterator[bytes]:
    """Write what a filter is made of, the names AT_A_TIME.

    Every text and every list goes in with its length, so no two filters are written alike. Names are sorted source by
    source, as texts are quicker than pairs; of many, parts are, and then merged.
    """
    ids: dict[str, list[str]] = {}
    for names in parts_of(keys, AT_A_TIME):
        for source, asset_id in names:
            ids.setdefault(source, []).append(asset_id)
        yield b""
    yield _listed([_text(source) for source in sorted(sources)]) + _count(2 * len(keys))
    for source in sorted(ids):
        named = _text(source)
        runs = []
        for part in parts_of(ids[source], AT_A_TIME):
            runs.append(sorted(part))
            yield b""
        for part in parts_of(heapq.merge(*runs) if len(runs) > 1 else runs[0], AT_A_TIME):
            yield b"".join([named + _text(asset_id) for asset_id in part])
    yield _listed([_text(name) for name in sorted(state.name for state in states)])
    if (
        prefix or view is not View.FULL
    ):  # else written as ever: tokens are good for as long as a filter is written alike
        yield _text(prefix) + _text(view.name)


def _listed(part: Sequence[bytes]) -> bytes:
    return _count(len(part)) + b"".join(part)


def _text(text: str) -> bytes:
    encoded = text.encode(errors="surrogatepass")
    return _count(len(encoded)) + encoded


def _count(number: int) -> bytes:
    return number.to_bytes(4)
