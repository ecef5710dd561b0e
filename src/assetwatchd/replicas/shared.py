"""A source as every process has it: asked here while this one is its owner, and elsewhere while another is.

Implements Source: passes everything on to the scheduler that there is here for as long as a term lasts, or to what is
known, and can be asked for, elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatch.internal.v1 import peer_pb2 as pb

from assetwatchd.model.errors import SourceUnreachable
from assetwatchd.polling.scheduler import Found, Scheduler
from assetwatchd.replicas.elsewhere import Elsewhere
from assetwatchd.replicas.in_term import InTerm
from assetwatchd.replicas.named import Named
from assetwatchd.replicas.terms import Terms
from assetwatchd.replicas.watched import Watch, Watched
from assetwatchd.runtime.fairness import NOBODY
from assetwatchd.runtime.slices import slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from assetwatchd.model.values import AssetKey, Condition, Entry, Freshness, Observation, SourceKind
    from assetwatchd.polling.interest import Interest
    from assetwatchd.polling.stats import Figures
    from assetwatchd.replicas.interests import Bucket
    from assetwatchd.replicas.owned import Owned
    from assetwatchd.replicas.terms import Parts
    from assetwatchd.runtime.fairness import Caller
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.port import Capabilities, Upstream


class SharedSource:
    """One source. make: makes its adapter, anew for each term in which it is asked here."""

    def __init__(
        self, name: str, kind: SourceKind, settings: SourceSettings, make: Callable[[], Upstream], parts: Parts
    ) -> None:
        self.name = name
        self.kind = kind
        self.settings = settings
        self._make = make
        self._rules = make()  # never called: it tells what ids look like, and opens nothing
        self._parts = parts
        self._elsewhere = Elsewhere(
            name, settings, parts.store, parts.conditions, parts.forwarding, mine=lambda: self.owned is not None
        )
        self._watched = Watched(
            Named(name, assets_max=settings.assets_max),
            parts.interests.changed,
            lambda asset_id: self._elsewhere.entry(asset_id) is None,
            int(settings.assets_max * settings.unknown_share_per_peer),
        )
        self._terms = Terms(name, self._scheduler, parts, self._watched, self._elsewhere.heard)
        parts.interests.add(name, self._watched.named, self._told_interest)

    @property
    def capabilities(self) -> Capabilities:
        """What its kind of upstream can be asked."""
        return self._rules.capabilities

    def check(self, asset_id: str) -> str | None:
        """Say why asset_id cannot be an id of this source; None when it can be one."""
        return self._rules.check(asset_id)

    # Whose it is -----------------------------------------------------------------------------------------------------

    @property
    def owned(self) -> Owned | None:
        """What there is of it while it is asked here; None while it is not."""
        return self._terms.owned

    @property
    def _at(self) -> Elsewhere | Scheduler:
        """What knows the most of it in this process."""
        return self._elsewhere if self.owned is None else self.owned.scheduler

    @property
    def owner(self) -> str | None:
        """The name of the replica that asks it; empty when none does at the moment."""
        owner = self._parts.ownership.owner(self.name)
        return "" if owner is None else owner.name

    async def run(self) -> None:
        """Ask it whenever it is this process's to ask; until cancelled."""
        await self._terms.run()

    async def close(self) -> None:
        """Nothing is open while it is not asked here."""

    def _scheduler(self, term: int) -> Scheduler:
        upstream = InTerm(self._make(), lambda: self._parts.ownership.term(self.name) == term)
        found = Found(self._parts.conditions.found(self.name), self._elsewhere.heard.observed, in_turns=True)
        return Scheduler(
            self.name,
            self.kind,
            upstream,
            self.settings,
            store=self._parts.store,
            pipeline=self._parts.pipeline,
            tell=self._terms.turn,
            found=found,
        )

    # How it is doing -------------------------------------------------------------------------------------------------

    @property
    def condition(self) -> Condition:
        """How the source is doing; its owner knows what nobody was told, as when it is tried next."""
        return self._at.condition

    @property
    def complete(self) -> bool:
        """Whether what is known of it is all there is."""
        return self._at.complete

    @property
    def figures(self) -> Figures:
        """What asking it has cost its owner, since that began."""
        return self._at.figures

    @property
    def watchers_elsewhere(self) -> int:
        """How many streams of other processes concern it."""
        return self._parts.present.watchers_elsewhere(self.name)

    async def polled_assets(self) -> int:
        """How many assets somebody is interested in, whichever process serves them."""
        return await self._at.polled_assets()

    async def retry(self) -> None:
        """Have all that fails of it tried at once. Raises: RetryTooSoon; SourceUnreachable when no owner answers."""
        if (owned := self.owned) is not None:
            await owned.scheduler.retry()
        elif not await self._elsewhere.retry():
            await self.retry()

    def store_failing(self, why: str) -> None:
        """Our store cannot keep what the source says; empty: it can again."""
        if self.owned is not None:
            self.owned.scheduler.store_failing(why)

    # What is known of an asset ---------------------------------------------------------------------------------------

    def wanted(self, asset_id: str) -> bool:
        """Whether anybody is interested in an asset now; what another owns is not to be dropped here."""
        return self.owned is None or self.owned.scheduler.wanted(asset_id)

    def names(self, asset_ids: Iterable[str]) -> list[AssetKey]:
        """Return the keys of those assets that are of interest, for each the one object that all share."""
        keys = map(self._watched.named.key, asset_ids)
        return [key for key in keys if key is not None]

    def observed_at(self, asset_id: str) -> float | None:
        """When the read began that found what is known of the asset; None if that is not known."""
        return self._at.observed_at(asset_id)

    def unseen(self, asset_id: str) -> Observation | None:
        """What the last read said of an asset that is not there and never was."""
        return self._at.unseen(asset_id)

    def trouble(self, asset_id: str) -> str:
        """Why what the source says now of an asset cannot be had; empty when nothing is known to be in the way."""
        return self._at.trouble(asset_id)

    def freshness(self, entry: Entry) -> Freshness:
        """How far an entry of this source can be trusted now."""
        return self._at.freshness(entry)

    def freshness_unseen(self, asset_id: str) -> Freshness:
        """How far it can be trusted now that an asset never was."""
        return self._at.freshness_unseen(asset_id)

    # Interest and reads ----------------------------------------------------------------------------------------------

    def interest(self, asset_ids: Iterable[str], *, whole: bool = False, caller: Caller = NOBODY) -> Interest:
        """Keep assets by name, or the whole source, up to date from now on. Raises: TooManyAssets."""
        watch = Watch(list(dict.fromkeys(asset_ids)), whole, caller)
        return self._watched.begin(watch, None if self.owned is None else self.owned.scheduler)

    def _told_interest(self, bucket: Bucket, body: bytes) -> None:
        if self.owned is not None:
            self.owned.hold(bucket, body)

    def join(self, asset_ids: Iterable[str], caller: Caller) -> None:
        """Have assets read in the turns of this caller too, if it is asked here; elsewhere all are one caller."""
        if self.owned is not None:
            self.owned.scheduler.join(asset_ids, caller)

    def leave(self, caller: Caller) -> Iterator[None]:
        """Withdraw a caller's requests for assets that were never read; in steps."""
        return iter(()) if self.owned is None else self.owned.scheduler.leave(caller)

    async def read(self, asset_ids: Iterable[str], *, max_age_s: float | None, caller: Caller = NOBODY) -> None:
        """Return once each asset was read at most max_age_s ago (None: ever), by whoever asks the source by then.

        Raises: TooManyAssets, TooManyReads; SourceUnreachable when a read was needed and failed.
        """
        ids = list(dict.fromkeys(asset_ids))
        while not await self._read_here(ids, max_age_s, caller):
            if not ids or (max_age_s is None and self._elsewhere.current(ids)):
                return
            if await self._elsewhere.read(ids, max_age_s, caller):
                return

    async def _read_here(self, ids: Sequence[str], max_age_s: float | None, caller: Caller) -> bool:
        """Have it read here; return whether that is what was done, as the source is asked here."""
        if (owned := self.owned) is None:
            return False
        try:
            await owned.scheduler.read(ids, max_age_s=max_age_s, caller=caller)
        except SourceUnreachable:
            if owned is self.owned:
                raise
            return False
        return True

    async def first_reads(self, asset_ids: Iterable[str]) -> None:
        """Wait until each of many assets, all of interest already, was read once, as far as that can be had."""
        if self.owned is not None:
            await self.owned.scheduler.first_reads(asset_ids)
            return
        for part in slices(each for each in asset_ids if not self._elsewhere.has(each)):
            if not await self._elsewhere.first_reads(part):
                await self.first_reads(part)

    async def listed(self, timeout_s: float) -> None:
        """Have the whole source in view for a while; return once it was listed and read, or after timeout_s."""
        if self.owned is not None:
            await self.owned.scheduler.listed(timeout_s)
        elif not await self._elsewhere.listed(timeout_s):
            await self.listed(timeout_s)

    async def tidy(self, *, forget_after_s: float) -> None:
        """Forget assets nobody has wanted for that long, if it is asked here."""
        if self.owned is not None:
            await self.owned.scheduler.tidy(forget_after_s=forget_after_s)

    # What is known of a change before it is pushed -------------------------------------------------------------------

    async def push_touched(self, asset_ids: Iterable[str]) -> None:
        """Have assets that changed upstream read at once."""
        ids = list(asset_ids)
        if self.owned is not None:
            await self.owned.scheduler.push_touched(ids)
        elif not await self._elsewhere.push_touched(ids):
            await self.push_touched(ids)

    async def push_removed(self, observation: Observation, traceparent: str) -> None:
        """Take in that an asset was deleted."""
        if self.owned is not None:
            await self.owned.scheduler.push_removed(observation, traceparent)
        elif not await self._elsewhere.push_removed(observation, traceparent):
            await self.push_removed(observation, traceparent)

    # Between processes -----------------------------------------------------------------------------------------------

    async def answer(self, request: pb.AskRequest) -> pb.AskResponse:
        """Do what another process asks of the owner, if that is this one."""
        if (owned := self.owned) is None:
            return pb.AskResponse(not_owner=True)
        answer = await owned.answer(request)
        if owned is not self.owned and answer.HasField("refusal"):
            return pb.AskResponse(not_owner=True)
        return answer

    def hear(self, news: pb.SourceNews) -> bool:
        """Take in what its owner tells; return whether it is the one that is known here."""
        owner = self._parts.ownership.owner(self.name)
        if owner is None or owner.term != news.term or self.owned is not None:
            return False
        self._elsewhere.heard.take(news)
        return True
