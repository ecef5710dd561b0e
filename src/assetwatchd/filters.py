"""What a watcher asked for: which assets, in which states, and what an entry is to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assetwatchd.model import GONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from assetwatchd.model import AssetKey, Entry, State
    from assetwatchd.store import Store

DIGEST_BYTES = 8


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
        named = (store.get(key) for key in self.keys)
        found = [entry for entry in named if entry is not None and cursor < entry.revision <= upto]
        return sorted(found, key=lambda entry: entry.revision)


def _digest(what: Filter) -> bytes:
    """Every text and every list goes in with its length, so no two filters are written alike."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    parts: Iterable[Sequence[str]] = (
        sorted(what.sources),
        [text for key in sorted(what.keys) for text in key],
        sorted(state.name for state in what.states),
    )
    for part in parts:
        hasher.update(len(part).to_bytes(4))
        for text in part:
            encoded = text.encode(errors="surrogatepass")
            hasher.update(len(encoded).to_bytes(4) + encoded)
    return hasher.digest()
