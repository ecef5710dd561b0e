"""A source as every process has it: asked here while this one is its owner, and elsewhere while another is.

Implements Source. What can be known from the mirror, and from what its owner tells, is answered at once; the rest is
for the owner, whoever that is by then.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from assetwatch.internal.v1 import peer_pb2 as pb

from assetwatchd.model.errors import NotOwner, SourceUnreachable
from assetwatchd.model.values import AssetKey, Freshness
from assetwatchd.polling.registry import forgotten
from assetwatchd.polling.scheduler import Found, Scheduler
from assetwatchd.replicas import messages
from assetwatchd.replicas.heard import Heard
from assetwatchd.replicas.in_term import InTerm
from assetwatchd.replicas.named import Named
from assetwatchd.replicas.owned import Owned
from assetwatchd.replicas.watched import Watch, Watched
from assetwatchd.runtime.fairness import NOBODY
from assetwatchd.runtime.slices import slices

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from assetwatchd.changefeed.hub import Hub
    from assetwatchd.changefeed.pipeline import Pipeline
    from assetwatchd.changefeed.store.etcd.mirror import Mirror
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Condition, Entry, Observation, SourceKind
    from assetwatchd.polling.interest import Interest
    from assetwatchd.polling.stats import Figures
    from assetwatchd.replicas.conditions import Conditions
    from assetwatchd.replicas.forwarding import Forwarding
    from assetwatchd.replicas.interests import Bucket, Interests
    from assetwatchd.replicas.ownership import Ownership
    from assetwatchd.replicas.presence import Present
    from assetwatchd.runtime.fairness import Caller
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.port import Capabilities, Upstream

LIST_BESIDE_S = 1.0
"""What the owner may take to answer beside the list that is waited for."""
HELD_AGAIN_S = 5.0
"""What found no room at the scheduler, as too many assets were of interest there, is tried again so often."""
RETRY_WITHIN_S = 15.0
"""A try by hand may take this long: longer than its owner waits for it."""

log = logging.getLogger(__name__)


class Parts(NamedTuple):
    """What all sources of one process share."""

    store: Store
    mirror: Mirror
    hub: Hub
    pipeline: Pipeline
    ownership: Ownership
    interests: Interests
    conditions: Conditions
    forwarding: Forwarding
    present: Present


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
        self._owned: Owned | None = None
        self._heard = Heard(settings)
        self._watched = Watched(
            Named(name, assets_max=settings.assets_max),
            parts.interests.changed,
            lambda asset_id: self._entry(asset_id) is None,
            int(settings.assets_max * settings.unknown_share_per_peer),
        )
        self._turned: Condition | None = None
        self._turns = asyncio.Event()
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
        return self._owned

    @property
    def owner(self) -> str | None:
        """The name of the replica that asks it; empty when none does at the moment."""
        owner = self._parts.ownership.owner(self.name)
        return "" if owner is None else owner.name

    async def run(self) -> None:
        """Ask it whenever it is this process's to ask; until cancelled."""
        ownership = self._parts.ownership
        while True:
            term = await ownership.won(self.name)
            log.info("source %s is asked by this replica from now on", self.name)
            await self._own(term)

    async def close(self) -> None:
        """Nothing is open while it is not asked here."""

    async def _own(self, term: int) -> None:
        """Ask it until the term is over, then let others have it."""
        scheduler = self._scheduler(term)
        try:
            await scheduler.restore()
            await self._ask_until_lost(Owned(scheduler, term, self._parts.store, self._parts.mirror, self._parts.hub))
            log.info("source %s is not asked by this replica any more", self.name)
            await self._parts.ownership.release(self.name, term)
            self._heard.observed.update(await scheduler.all_observed())
        finally:
            await scheduler.close()

    async def _ask_until_lost(self, owned: Owned) -> None:
        term = owned.term
        running = asyncio.create_task(self._run_term(owned), name=f"{self.name}.term")
        running.add_done_callback(_looked_at)
        lost = asyncio.create_task(self._parts.ownership.lost(self.name, term), name=f"{self.name}.lost")
        try:
            await asyncio.wait([running, lost], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end_term(owned, running, lost)
        if not running.cancelled():
            self._judge(term, running.exception())

    def _scheduler(self, term: int) -> Scheduler:
        self._turned = None
        upstream = InTerm(self._make(), lambda: self._parts.ownership.term(self.name) == term)
        found = Found(self._parts.conditions.found(self.name), self._heard.observed, in_turns=True)
        return Scheduler(
            self.name,
            self.kind,
            upstream,
            self.settings,
            store=self._parts.store,
            pipeline=self._parts.pipeline,
            tell=self._turn,
            found=found,
        )

    async def _run_term(self, owned: Owned) -> None:
        self._owned = owned
        self._parts.ownership.changed()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_turns(owned.term), name=f"{self.name}.conditions")
            watched = _again_and_again(lambda: self._watched.adopt(owned.scheduler))
            held = _again_and_again(lambda: owned.hold_all(self._parts.interests.elsewhere(self.name)))
            tasks.create_task(watched, name=f"{self.name}.watched")
            tasks.create_task(held, name=f"{self.name}.held")
            await owned.scheduler.run()

    async def _end_term(self, owned: Owned, *tasks: asyncio.Task[None]) -> None:
        """Stop asking, before anything else; who waits for a read has it from the next owner."""
        self._owned = None
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        owned.scheduler.end()
        self._watched.abandon()
        self._parts.conditions.tell(self.name)

    def _judge(self, term: int, failure: BaseException | None) -> None:
        """Raise what ended a term, unless it is that the store knows of another owner."""
        if failure is None:
            return
        try:
            raise failure
        except* NotOwner:
            self._parts.ownership.refuse(self.name, term)

    # How it is doing -------------------------------------------------------------------------------------------------

    @property
    def condition(self) -> Condition:
        """How the source is doing; its owner knows what nobody was told, as when it is tried next."""
        return self._parts.conditions.of(self.name) if self._owned is None else self._owned.scheduler.condition

    @property
    def complete(self) -> bool:
        """Whether what is known of it is all there is."""
        if self._owned is not None:
            return self._owned.scheduler.complete
        return self.condition.readable and self._heard.complete

    @property
    def figures(self) -> Figures:
        """What asking it has cost its owner, since that began."""
        return self._heard.figures if self._owned is None else self._owned.scheduler.figures

    @property
    def watchers_elsewhere(self) -> int:
        """How many streams of other processes concern it."""
        return self._parts.present.watchers_elsewhere(self.name)

    async def polled_assets(self) -> int:
        """How many assets somebody is interested in, whichever process serves them."""
        return self._heard.polled_assets if self._owned is None else await self._owned.scheduler.polled_assets()

    async def retry(self) -> None:
        """Have all that fails of it tried at once. Raises: RetryTooSoon; SourceUnreachable when no owner answers."""
        if (owned := self._owned) is not None:
            await owned.scheduler.retry()
        elif await self._ask(pb.AskRequest(retry=pb.AskRequest.Retry()), within_s=RETRY_WITHIN_S) is None:
            await self.retry()

    def store_failing(self, why: str) -> None:
        """Our store cannot keep what the source says; empty: it can again."""
        if self._owned is not None:
            self._owned.scheduler.store_failing(why)

    def _turn(self, _: str, condition: Condition) -> None:
        """Have everybody told, this process too, through the store."""
        self._turned = condition
        self._turns.set()

    async def _tell_turns(self, term: int) -> None:
        while True:
            await self._turns.wait()
            self._turns.clear()
            if self._turned is not None:
                await self._parts.conditions.write(self.name, term, self._turned)

    # What is known of an asset ---------------------------------------------------------------------------------------

    def wanted(self, asset_id: str) -> bool:
        """Whether anybody is interested in an asset now; what another owns is not to be dropped here."""
        return self._owned is None or self._owned.scheduler.wanted(asset_id)

    def names(self, asset_ids: Iterable[str]) -> list[AssetKey]:
        """Return the keys of those assets that are of interest, for each the one object that all share."""
        keys = map(self._watched.named.key, asset_ids)
        return [key for key in keys if key is not None]

    def observed_at(self, asset_id: str) -> float | None:
        """When the read began that found what is known of the asset; None if that is not known."""
        if self._owned is not None:
            return self._owned.scheduler.observed_at(asset_id)
        return self._heard.observed.get(asset_id)

    def unseen(self, asset_id: str) -> Observation | None:
        """What the last read said of an asset that is not there and never was."""
        return self._heard.unseen(asset_id) if self._owned is None else self._owned.scheduler.unseen(asset_id)

    def trouble(self, asset_id: str) -> str:
        """Why what the source says now of an asset cannot be had; empty when nothing is known to be in the way."""
        if self._owned is not None:
            return self._owned.scheduler.trouble(asset_id)
        return "" if self.condition.readable else self.condition.message

    def freshness(self, entry: Entry) -> Freshness:
        """How far an entry of this source can be trusted now."""
        if self._owned is not None:
            return self._owned.scheduler.freshness(entry)
        return self._heard.freshness(entry) if self.condition.readable else Freshness.UNREACHABLE

    def freshness_unseen(self, asset_id: str) -> Freshness:
        """How far it can be trusted now that an asset never was."""
        if self._owned is not None:
            return self._owned.scheduler.freshness_unseen(asset_id)
        return self._heard.freshness_unseen(asset_id) if self.condition.readable else Freshness.UNREACHABLE

    # Interest and reads ----------------------------------------------------------------------------------------------

    def interest(self, asset_ids: Iterable[str], *, whole: bool = False, caller: Caller = NOBODY) -> Interest:
        """Keep assets by name, or the whole source, up to date from now on. Raises: TooManyAssets."""
        watch = Watch(list(dict.fromkeys(asset_ids)), whole, caller)
        return self._watched.begin(watch, None if self._owned is None else self._owned.scheduler)

    def _told_interest(self, bucket: Bucket, body: bytes) -> None:
        if self._owned is not None:
            self._owned.hold(bucket, body)

    def join(self, asset_ids: Iterable[str], caller: Caller) -> None:
        """Have assets read in the turns of this caller too, if it is asked here; elsewhere all are one caller."""
        if self._owned is not None:
            self._owned.scheduler.join(asset_ids, caller)

    def leave(self, caller: Caller) -> Iterator[None]:
        """Withdraw a caller's requests for assets that were never read; in steps."""
        return iter(()) if self._owned is None else self._owned.scheduler.leave(caller)

    async def read(self, asset_ids: Iterable[str], *, max_age_s: float | None, caller: Caller = NOBODY) -> None:
        """Return once each asset was read at most max_age_s ago (None: ever), by whoever asks the source by then.

        Raises: TooManyAssets, TooManyReads; SourceUnreachable when a read was needed and failed.
        """
        ids = list(dict.fromkeys(asset_ids))
        while not await self._read_here(ids, max_age_s, caller):
            if not ids or (max_age_s is None and self._current(ids)):
                return
            if await self._read_elsewhere(ids, max_age_s, caller):
                return

    async def _read_here(self, ids: Sequence[str], max_age_s: float | None, caller: Caller) -> bool:
        """Have it read here; return whether that is what was done, as the source is asked here."""
        if (owned := self._owned) is None:
            return False
        try:
            await owned.scheduler.read(ids, max_age_s=max_age_s, caller=caller)
        except SourceUnreachable:
            if owned is self._owned:
                raise
            return False
        return True

    async def _read_elsewhere(self, ids: Sequence[str], max_age_s: float | None, caller: Caller) -> bool:
        """Have the owner read; return whether there was one, other than this process."""
        read = pb.AskRequest.Read(asset_ids=ids, max_age_s=max_age_s)
        try:
            answer = await self._ask(pb.AskRequest(caller=caller, read=read))
        except SourceUnreachable:
            if max_age_s is None and all(self._has(each) for each in ids):
                return True  # any age will do
            raise
        if answer is None:
            return False
        observed = {each.asset_id: each.at for each in answer.observed}
        unseen = {each.asset_id: messages.read_observation(each) for each in answer.unseen}
        self._heard.answered(observed, unseen)
        return True

    def _current(self, ids: Iterable[str]) -> bool:
        """Whether all is known here that a read of any age would find: fresh, or there is no way to have it fresher.

        What is not fresh here is asked for, so that its owner knows that somebody is interested.
        """
        if not self.condition.readable:
            return all(self._has(each) for each in ids)
        return all(self._has(each) and self._is_fresh(each) for each in ids)

    def _entry(self, asset_id: str) -> Entry | None:
        return self._parts.store.get(AssetKey(self.name, asset_id))

    def _has(self, asset_id: str) -> bool:
        entry = self._entry(asset_id)
        return entry is not None and not forgotten(entry)

    def _is_fresh(self, asset_id: str) -> bool:
        entry = self._entry(asset_id)
        return entry is not None and self._heard.freshness(entry) is Freshness.FRESH

    async def first_reads(self, asset_ids: Iterable[str]) -> None:
        """Wait until each of many assets, all of interest already, was read once, as far as that can be had."""
        if self._owned is not None:
            await self._owned.scheduler.first_reads(asset_ids)
            return
        for part in slices(each for each in asset_ids if not self._has(each)):
            first_reads = pb.AskRequest.FirstReads(asset_ids=part)
            with suppress(*messages.REFUSED):
                if await self._ask(pb.AskRequest(first_reads=first_reads)) is None:
                    await self.first_reads(part)

    async def listed(self, timeout_s: float) -> None:
        """Have the whole source in view for a while; return once it was listed and read, or after timeout_s."""
        if self._owned is not None:
            await self._owned.scheduler.listed(timeout_s)
            return
        request = pb.AskRequest(list=pb.AskRequest.List(within_s=timeout_s))
        with suppress(*messages.REFUSED):
            if await self._ask(request, within_s=timeout_s + LIST_BESIDE_S) is None:
                await self.listed(timeout_s)

    async def tidy(self, *, forget_after_s: float) -> None:
        """Forget assets nobody has wanted for that long, if it is asked here."""
        if self._owned is not None:
            await self._owned.scheduler.tidy(forget_after_s=forget_after_s)

    # What is known of a change before it is pushed -------------------------------------------------------------------

    async def push_touched(self, asset_ids: Iterable[str]) -> None:
        """Have assets that changed upstream read at once; when no owner answers they are read in their turn."""
        if self._owned is not None:
            await self._owned.scheduler.push_touched(asset_ids)
            return
        with suppress(SourceUnreachable):
            if await self._ask(pb.AskRequest(touch=pb.AskRequest.Touch(asset_ids=asset_ids))) is None:
                await self.push_touched(asset_ids)

    async def push_removed(self, observation: Observation, traceparent: str) -> None:
        """Take in that an asset was deleted; when no owner answers it is found out in its turn."""
        if self._owned is not None:
            await self._owned.scheduler.push_removed(observation, traceparent)
            return
        remove = pb.AskRequest.Remove(observation=messages.write_observation(observation), traceparent=traceparent)
        with suppress(*messages.REFUSED):
            if await self._ask(pb.AskRequest(remove=remove)) is None:
                await self.push_removed(observation, traceparent)

    # Between processes -----------------------------------------------------------------------------------------------

    async def _ask(self, request: pb.AskRequest, *, within_s: float | None = None) -> pb.AskResponse | None:
        return await self._parts.forwarding.ask(
            self.name, request, within_s=within_s, mine=lambda: self._owned is not None
        )

    async def answer(self, request: pb.AskRequest) -> pb.AskResponse:
        """Do what another process asks of the owner, if that is this one."""
        if (owned := self._owned) is None:
            return pb.AskResponse(not_owner=True)
        answer = await owned.answer(request)
        if owned is not self._owned and answer.HasField("refusal"):
            return pb.AskResponse(not_owner=True)
        return answer

    def hear(self, news: pb.SourceNews) -> bool:
        """Take in what its owner tells; return whether it is the one that is known here."""
        owner = self._parts.ownership.owner(self.name)
        if owner is None or owner.term != news.term or self._owned is not None:
            return False
        self._heard.take(news)
        return True


def _looked_at(term: asyncio.Task[None]) -> None:
    """Have what a term failed with be looked at, also where whoever waits for it is cancelled, perhaps twice."""
    if not term.cancelled():
        term.exception()


async def _again_and_again(doing: Callable[[], Awaitable[None]]) -> None:
    while True:
        await doing()
        await asyncio.sleep(HELD_AGAIN_S)
