"""What a watcher asked for: which assets, in which states, and what an entry is to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from assetwatchd.model import GONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from assetwatchd.model import AssetKey, Entry, State
    from assetwatchd.store import Store

DIGEST_BYTES = 8
BY_REVISION = attrgetter("revision")


@dataclass(frozen=True)
class Filter:
    """Assets by name, whole sources, and only these states, if any are given. digest does not depend on their order.

    watched_sources: every source it concerns, whole or in part.
    """

    keys: frozenset[AssetKey]
    sources: frozenset[str]
    states: frozenset[State]
    digest: bytes = field(init=False, compare=False)
    watched_sources: frozenset[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", _digest(self))
        in_part = {key.source for key in self.keys} - self.sources
        object.__setattr__(self, "watched_sources", self.sources | in_part if in_part else self.sources)

    def share(self, keys: frozenset[AssetKey]) -> None:
        """Have these keys in place of its own, which they are equal to: they are in memory already, for others."""
        object.__setattr__(self, "keys", keys)

    def concerns(self, key: AssetKey) -> bool:
        """Whether the asset was asked for, by name or with its source."""
        return key.source in self.sources or key in self.keys

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
            sources, keys = self.sources, self.keys
            return [entry for entry in store.after(cursor, upto) if entry.key.source in sources or entry.key in keys]
        named = map(store.get, self.keys)
        found = [entry for entry in named if entry is not None and cursor < entry.revision <= upto]
        return sorted(found, key=BY_REVISION)


def _digest(what: Filter) -> bytes:
    """Every text and every list goes in with its length, so no two filters are written alike.

    Of ten thousand names it takes some milliseconds; they are sorted source by source, as texts are quicker than pairs.
    """
    ids: dict[str, list[str]] = {}
    for source, asset_id in what.keys:
        ids.setdefault(source, []).append(asset_id)
    sources = [_written(source) for source in sorted(what.sources)]
    names = [part for source in sorted(ids) for part in _paired(_written(source), sorted(ids[source]))]
    states = [_written(name) for name in sorted(state.name for state in what.states)]
    parts = (sources, names, states)
    return hashlib.blake2b(b"".join([_listed(part) for part in parts]), digest_size=DIGEST_BYTES).digest()


def _listed(part: Sequence[bytes]) -> bytes:
    return len(part).to_bytes(4) + b"".join(part)


def _paired(source: bytes, asset_ids: Iterable[str]) -> Iterator[bytes]:
    for asset_id in asset_ids:
        yield source
        yield _written(asset_id)


def _written(text: str) -> bytes:
    encoded = text.encode(errors="surrogatepass")
    return len(encoded).to_bytes(4) + encoded
