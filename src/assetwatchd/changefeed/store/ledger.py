"""The readable side of every store: entries in memory, found by asset and by revision."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assetwatchd.model.values import AssetKey, Entry

SLACK = 1024
"""Superseded places are cleared away when they outnumber the live entries by this."""


class Ledger:
    """The latest entry of each asset. An asset that changes moves to the end of the line; its old place stays empty."""

    def __init__(self) -> None:
        self._latest: dict[AssetKey, Entry] = {}
        self._line: list[Entry | None] = []
        self._revisions: list[int] = []
        self._present: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._latest)

    def get(self, key: AssetKey) -> Entry | None:
        """Return the latest entry of an asset."""
        return self._latest.get(key)

    def after(self, cursor: int, upto: int, limit: int | None = None) -> list[Entry]:
        """Return the latest entries with cursor < revision <= upto, in order; a copy, so later changes do not show."""
        first, last = bisect_right(self._revisions, cursor), bisect_right(self._revisions, upto)
        if limit is None:
            return [entry for entry in self._line[first:last] if entry is not None]
        places = (self._line[place] for place in range(first, last))
        return list(islice((entry for entry in places if entry is not None), limit))

    def keys(self, source: str) -> list[AssetKey]:
        """Every asset of a source."""
        return [key for key in self._latest if key.source == source]

    def count(self, source: str) -> int:
        """How many assets of a source are not gone."""
        return self._present[source]

    def put(self, entry: Entry) -> None:
        """Make this the latest entry of its asset; its revision is above all others."""
        self._take(entry.key)
        self._latest[entry.key] = entry
        self._line.append(entry)
        self._revisions.append(entry.revision)
        self._present[entry.key.source] += not entry.gone
        if len(self._line) > 2 * len(self._latest) + SLACK:
            self._compact()

    def drop(self, keys: Iterable[AssetKey]) -> None:
        """Forget assets."""
        for key in keys:
            self._take(key)

    def _take(self, key: AssetKey) -> None:
        old = self._latest.pop(key, None)
        if old is not None:
            self._line[bisect_right(self._revisions, old.revision) - 1] = None
            self._present[key.source] -= not old.gone

    def _compact(self) -> None:
        self._line = [entry for entry in self._line if entry is not None]
        self._revisions = [entry.revision for entry in self._line if entry is not None]
