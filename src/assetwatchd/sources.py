"""All sources by name: one place that finds a scheduler, and spreads a filter's interest over them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assetwatchd.errors import CallError, InvalidRequest, SourceNotFound, SourceUnreachable
from assetwatchd.plan import Interest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from assetwatchd.filters import Filter
    from assetwatchd.model import AssetKey
    from assetwatchd.scheduler import Scheduler


class Sources:
    """The configured sources, in the order of their names."""

    def __init__(self, schedulers: Iterable[Scheduler]) -> None:
        self._by_name: Mapping[str, Scheduler] = {s.name: s for s in sorted(schedulers, key=lambda s: s.name)}

    def __iter__(self) -> Iterator[Scheduler]:
        return iter(self._by_name.values())

    def names(self) -> list[str]:
        """Every name, sorted."""
        return list(self._by_name)

    def get(self, name: str) -> Scheduler:
        """Return a source. Raises: SourceNotFound."""
        if name not in self._by_name:
            raise SourceNotFound(name, self.names())
        return self._by_name[name]

    def check(self, path: str, key: AssetKey) -> None:
        """Check an asset by its source's rules; path is that of its field. Raises: SourceNotFound, InvalidRequest."""
        if wrong := self.wrong([(path, key)]):
            raise InvalidRequest(*wrong)

    def wrong(self, keys: Iterable[tuple[str, AssetKey]]) -> list[tuple[str, str]]:
        """Return what is wrong with assets by the rules of their sources, under the paths of their ids.

        Raises: SourceNotFound.
        """
        return [
            (f"{path}.asset_id", why)
            for path, key in keys
            if (why := self.get(key.source).upstream.check(key.asset_id)) is not None
        ]

    def interest(self, what: Filter) -> Interest:
        """Keep everything a filter concerns up to date from now on.

        Raises: SourceNotFound, TooManyAssets, having taken nothing.
        """
        ends: list[Callable[[], None]] = []
        try:
            for name, asset_ids in _by_source(what.keys, also=what.sources).items():
                ends.append(self.get(name).interest(asset_ids, whole=name in what.sources).end)
        except CallError:
            Interest(*ends).end()
            raise
        return Interest(*ends)

    async def read(self, keys: Iterable[AssetKey], *, max_age_s: float | None, in_line: bool = False) -> None:
        """Have each asset read at most max_age_s ago (None: ever), all sources at once; in_line: see Scheduler.read.

        Raises: SourceUnreachable, TooManyAssets.
        """
        parts = _by_source(keys).items()
        await asyncio.gather(*[self.get(name).read(ids, max_age_s=max_age_s, in_line=in_line) for name, ids in parts])

    async def first_reads(self, what: Filter, *, timeout_s: float) -> None:
        """Give assets never read before a moment to be read, so that a snapshot does not begin empty."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(
                    self.read(what.keys, max_age_s=None, in_line=True),
                    *[self.get(name).listed(timeout_s) for name in what.sources],
                )
        except (TimeoutError, SourceUnreachable):
            return


def _by_source(keys: Iterable[AssetKey], *, also: Iterable[str] = ()) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {name: [] for name in also}
    for key in keys:
        parts.setdefault(key.source, []).append(key.asset_id)
    return parts
