"""All sources by name: one place that finds a source, and spreads a filter's interest over them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from assetwatchd.model.errors import InvalidRequest, SourceNotFound, SourceUnreachable
from assetwatchd.model.values import AssetKey
from assetwatchd.runtime.fairness import NOBODY
from assetwatchd.runtime.slices import SLICE, finish, slices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.polling.interest import Interest
    from assetwatchd.polling.port import Source
    from assetwatchd.runtime.fairness import Caller


@dataclass(eq=False, slots=True)
class Shared:
    """The interest of all streams with equal filters. caller: the first of them, whom unknown names count against."""

    filter: Filter
    caller: Caller
    interests: list[Interest] = field(default_factory=list)
    holders: int = 0


class Sources:
    """The configured sources, in the order of their names."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._by_name: Mapping[str, Source] = {s.name: s for s in sorted(sources, key=lambda s: s.name)}
        self._shared: dict[bytes, Shared] = {}
        self._turn = asyncio.Lock()

    def __iter__(self) -> Iterator[Source]:
        return iter(self._by_name.values())

    def names(self) -> list[str]:
        """Every name, sorted."""
        return list(self._by_name)

    def get(self, name: str) -> Source:
        """Return a source. Raises: SourceNotFound."""
        if name not in self._by_name:
            raise SourceNotFound(name, self.names())
        return self._by_name[name]

    def incomplete(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return, sorted, of which of these sources there may be more than is known here."""
        return tuple(sorted(name for name in names if not self.get(name).complete))

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
            if (why := self.get(key.source).check(key.asset_id)) is not None
        ]

    @asynccontextmanager
    async def interest(self, what: Filter, caller: Caller = NOBODY) -> AsyncIterator[None]:
        """Keep everything a filter concerns up to date while the context lasts; those with equal filters share that.

        From then on it shares its keys with equal filters, so that every name and set of names is in memory once.
        Raises: SourceNotFound, TooManyAssets, having taken nothing.
        """
        if what.digest not in self._shared:
            begun = await self._begin(what, caller)
            if what.digest in self._shared:  # somebody else was quicker
                await self._end(begun)
            else:
                self._shared[what.digest] = begun
        shared = self._shared[what.digest]
        what.share(shared.filter.keys)
        shared.holders += 1
        try:
            if caller != shared.caller:
                await self._join(what, caller)
            yield
        finally:
            left = self._leave(what, caller)
            shared.holders -= 1
            if shared.holders:
                await finish(left)
            else:
                del self._shared[what.digest]
                await self._end(shared, left)

    async def _begin(self, what: Filter, caller: Caller) -> Shared:
        """Begin the interest of a filter slice by slice, all of it or nothing; of large filters one at a time."""
        begun, names = Shared(what, caller), list[AssetKey]()
        try:
            async with self._turn if len(what.keys) > SLICE else nullcontext():
                for name, asset_ids in _by_source(what.keys, also=what.sources).items():
                    source = self.get(name)
                    if name in what.sources:
                        begun.interests.append(source.interest((), whole=True))
                    for part in slices(asset_ids):
                        begun.interests.append(source.interest(part, caller=caller))
                        names += source.names(part)
                        await asyncio.sleep(0)
        except BaseException:
            await self._end(begun)
            raise
        what.share(frozenset(names))
        return begun

    async def _end(self, shared: Shared, *left: Iterator[None]) -> None:
        """End the interest slice by slice, of large filters one at a time; all of it even if the call is cancelled.

        left: steps that remain of a caller's leaving.
        """
        steps = chain(_ended(shared.interests), *left, self._leave(shared.filter, shared.caller))
        try:
            async with self._turn if len(shared.filter.keys) > SLICE else nullcontext():
                await finish(steps)
        finally:
            for _ in steps:  # cancelled in line
                pass

    async def _join(self, what: Filter, caller: Caller) -> None:
        """Have first reads that others have asked for be made in this caller's turns too: theirs may take long."""
        for name, asset_ids in _by_source(what.keys).items():
            for part in slices(asset_ids):
                self.get(name).join(part, caller)
                if len(part) == SLICE:
                    await asyncio.sleep(0)

    def _leave(self, what: Filter, caller: Caller) -> Iterator[None]:
        """Take a caller out of line everywhere; what remains to be done of that is in the steps returned."""
        known = what.watched_sources & self._by_name.keys()
        return chain.from_iterable([self.get(name).leave(caller) for name in known])

    async def read(self, keys: Iterable[AssetKey], *, max_age_s: float | None, caller: Caller = NOBODY) -> None:
        """Have each asset read at most max_age_s ago (None: ever), all sources at once, when it is the caller's turn.

        Raises: SourceUnreachable, TooManyAssets, TooManyReads.
        """
        parts = [(self.get(name), asset_ids) for name, asset_ids in _by_source(keys).items()]
        reads = [source.read(asset_ids, max_age_s=max_age_s, caller=caller) for source, asset_ids in parts]
        if len(reads) == 1:  # as mostly: a task of its own would be a tenth of what a cached read costs
            await reads[0]
            return
        tasks = [asyncio.ensure_future(read) for read in reads]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def first_reads(self, what: Filter, *, timeout_s: float) -> None:
        """Give assets never read before a moment to be read, so that a snapshot does not begin empty."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(
                    *[self.get(name).first_reads(asset_ids) for name, asset_ids in _by_source(what.keys).items()],
                    *[self.get(name).listed(timeout_s) for name in what.sources],
                )
        except (TimeoutError, SourceUnreachable):
            return


def _ended(interests: Iterable[Interest]) -> Iterator[None]:
    for interest in interests:
        interest.end()
        yield


def _by_source(keys: Iterable[AssetKey], *, also: Iterable[str] = ()) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {name: [] for name in also}
    for key in keys:
        parts.setdefault(key.source, []).append(key.asset_id)
    return parts
