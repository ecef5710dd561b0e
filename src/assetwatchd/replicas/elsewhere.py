"""A source that another process asks: what is known of it here, and what its owner is asked for.

What can be known from the mirror, and from what its owner tells, is answered at once. The rest is for the owner,
whoever that is by then; it may be this process, and then whoever called asks here.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from assetwatch.internal.v1 import peer_pb2 as pb

from assetwatchd.model.errors import SourceUnreachable
from assetwatchd.model.values import AssetKey, Freshness, forgotten
from assetwatchd.replicas import messages
from assetwatchd.replicas.heard import Heard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Condition, Entry, Observation
    from assetwatchd.polling.stats import Figures
    from assetwatchd.replicas.conditions import Conditions
    from assetwatchd.replicas.forwarding import Forwarding
    from assetwatchd.runtime.fairness import Caller
    from assetwatchd.settings.schema import SourceSettings

LIST_BESIDE_S = 1.0
"""What the owner may take to answer beside the list that is waited for."""
RETRY_WITHIN_S = 15.0
"""A try by hand may take this long: longer than its owner waits for it."""


class Elsewhere:
    """One source. heard: what its owners told. Of what is asked of its owner, each returns whether there was one."""

    def __init__(
        self,
        name: str,
        settings: SourceSettings,
        store: Store,
        conditions: Conditions,
        forwarding: Forwarding,
        *,
        mine: Callable[[], bool],
    ) -> None:
        """mine: whether the source is asked here, so that nobody else is to be asked."""
        self.heard = Heard(settings)
        self._name = name
        self._store = store
        self._conditions = conditions
        self._forwarding = forwarding
        self._mine = mine

    # What is known ---------------------------------------------------------------------------------------------------

    @property
    def condition(self) -> Condition:
        """How the source is doing, as its owner told all."""
        return self._conditions.of(self._name)

    @property
    def complete(self) -> bool:
        """Whether what is known of it is all there is."""
        return self.condition.readable and self.heard.complete

    @property
    def figures(self) -> Figures:
        """What asking it has cost its owner."""
        return self.heard.figures

    async def polled_assets(self) -> int:
        """How many assets are of interest at its owner."""
        return self.heard.polled_assets

    def observed_at(self, asset_id: str) -> float | None:
        """When the read began that found what is known of the asset; None if that is not known."""
        return self.heard.observed.get(asset_id)

    def unseen(self, asset_id: str) -> Observation | None:
        """What the last read said of an asset that is not there and never was."""
        return self.heard.unseen(asset_id)

    def trouble(self, _: str) -> str:
        """Why what the source says now of an asset cannot be had; empty when nothing is known to be in the way."""
        return "" if self.condition.readable else self.condition.message

    def freshness(self, entry: Entry) -> Freshness:
        """How far an entry of this source can be trusted now."""
        return self.heard.freshness(entry) if self.condition.readable else Freshness.UNREACHABLE

    def freshness_unseen(self, asset_id: str) -> Freshness:
        """How far it can be trusted now that an asset never was."""
        return self.heard.freshness_unseen(asset_id) if self.condition.readable else Freshness.UNREACHABLE

    def entry(self, asset_id: str) -> Entry | None:
        """What is kept of an asset."""
        return self._store.get(AssetKey(self._name, asset_id))

    def has(self, asset_id: str) -> bool:
        """Whether an asset is known, as it was at any time."""
        entry = self.entry(asset_id)
        return entry is not None and not forgotten(entry)

    def current(self, ids: Iterable[str]) -> bool:
        """Whether all is known here that a read of any age would find: fresh, or there is no way to have it fresher.

        What is not fresh here is asked for, so that its owner knows that somebody is interested.
        """
        if not self.condition.readable:
            return all(self.has(each) for each in ids)
        return all(self.has(each) and self._is_fresh(each) for each in ids)

    def _is_fresh(self, asset_id: str) -> bool:
        entry = self.entry(asset_id)
        return entry is not None and self.heard.freshness(entry) is Freshness.FRESH

    # What its owner is asked for -------------------------------------------------------------------------------------

    async def retry(self) -> bool:
        """Have all that fails of it tried at once. Raises: RetryTooSoon; SourceUnreachable when no owner answers."""
        return await self._ask(pb.AskRequest(retry=pb.AskRequest.Retry()), within_s=RETRY_WITHIN_S) is not None

    async def read(self, ids: Sequence[str], max_age_s: float | None, caller: Caller) -> bool:
        """Have assets read. Raises: TooManyAssets, TooManyReads, SourceUnreachable."""
        read = pb.AskRequest.Read(asset_ids=ids, max_age_s=max_age_s)
        try:
            answer = await self._ask(pb.AskRequest(caller=caller, read=read))
        except SourceUnreachable:
            if max_age_s is None and all(self.has(each) for each in ids):
                return True  # any age will do
            raise
        if answer is None:
            return False
        observed = {each.asset_id: each.at for each in answer.observed}
        unseen = {each.asset_id: messages.read_observation(each) for each in answer.unseen}
        self.heard.answered(observed, unseen)
        return True

    async def first_reads(self, ids: Sequence[str]) -> bool:
        """Wait until each was read once, as far as that can be had."""
        return await self._tried(pb.AskRequest(first_reads=pb.AskRequest.FirstReads(asset_ids=ids)))

    async def listed(self, timeout_s: float) -> bool:
        """Have the whole source in view for a while; wait until it was listed and read, or for timeout_s."""
        listed = pb.AskRequest(list=pb.AskRequest.List(within_s=timeout_s))
        return await self._tried(listed, within_s=timeout_s + LIST_BESIDE_S)

    async def push_touched(self, ids: Iterable[str]) -> bool:
        """Have assets that changed upstream read at once; when no owner answers they are read in their turn."""
        return await self._tried(pb.AskRequest(touch=pb.AskRequest.Touch(asset_ids=ids)))

    async def push_removed(self, observation: Observation, traceparent: str) -> bool:
        """Have it known that an asset was deleted; when no owner answers it is found out in its turn."""
        told = messages.write_observation(observation)
        return await self._tried(pb.AskRequest(remove=pb.AskRequest.Remove(observation=told, traceparent=traceparent)))

    async def _tried(self, request: pb.AskRequest, *, within_s: float | None = None) -> bool:
        """Ask for what may as well be refused."""
        with suppress(*messages.REFUSED):
            return await self._ask(request, within_s=within_s) is not None
        return True

    async def _ask(self, request: pb.AskRequest, *, within_s: float | None = None) -> pb.AskResponse | None:
        return await self._forwarding.ask(self._name, request, within_s=within_s, mine=self._mine)
