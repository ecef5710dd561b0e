"""The port to one source, as everybody above sees it: what is known of it, interest in its assets, reads on demand.

`Scheduler` implements it by asking the upstream. Knows neither calls, nor plans, nor where the upstream is asked from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from assetwatchd.runtime.fairness import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from assetwatchd.model.values import AssetKey, Condition, Entry, Freshness, Observation, SourceKind
    from assetwatchd.polling.interest import Interest
    from assetwatchd.polling.stats import Figures
    from assetwatchd.runtime.fairness import Caller
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.port import Capabilities


class Source(Protocol):
    """One configured source."""

    name: str
    kind: SourceKind
    settings: SourceSettings

    @property
    def capabilities(self) -> Capabilities:
        """What its kind of upstream can be asked."""
        ...

    def check(self, asset_id: str) -> str | None:
        """Say why asset_id cannot be an id of this source and what form it should have; None when it can be one."""
        ...

    async def run(self) -> None:
        """Run the source's loops until cancelled."""
        ...

    async def close(self) -> None:
        """Give back connections, once it does not run any more."""
        ...

    # How it is doing -------------------------------------------------------------------------------------------------

    @property
    def condition(self) -> Condition:
        """How the source is doing."""
        ...

    @property
    def complete(self) -> bool:
        """Whether what is known of it is all there is."""
        ...

    @property
    def figures(self) -> Figures:
        """What asking it has cost."""
        ...

    @property
    def owner(self) -> str | None:
        """The name of the replica that asks it, empty when none does; None: this process does, as the only one."""
        ...

    @property
    def watchers_elsewhere(self) -> int:
        """How many streams concern it that other processes serve."""
        ...

    async def polled_assets(self) -> int:
        """How many assets somebody is interested in now, or (of many) was a moment ago."""
        ...

    async def retry(self) -> None:
        """Have all that fails of it tried at once, by hand; return once that is over. Raises: RetryTooSoon."""
        ...

    def store_failing(self, why: str) -> None:
        """Our store cannot keep what the source says; empty: it can again."""
        ...

    # What is known of an asset ---------------------------------------------------------------------------------------

    def wanted(self, asset_id: str) -> bool:
        """Whether anybody is interested in an asset now."""
        ...

    def names(self, asset_ids: Iterable[str]) -> list[AssetKey]:
        """Return the keys of those assets that are of interest, for each the one object that all share."""
        ...

    def observed_at(self, asset_id: str) -> float | None:
        """When the read began that found what is known of the asset (s since 1970); None if there was none."""
        ...

    def unseen(self, asset_id: str) -> Observation | None:
        """What the last read said of an asset that is not there and never was; the store has nothing of it."""
        ...

    def trouble(self, asset_id: str) -> str:
        """Why what the source says now of an asset cannot be had; empty when nothing is known to be in the way."""
        ...

    def freshness(self, entry: Entry) -> Freshness:
        """How far an entry of this source can be trusted now."""
        ...

    def freshness_unseen(self, asset_id: str) -> Freshness:
        """How far it can be trusted now that an asset never was."""
        ...

    # Interest and reads ----------------------------------------------------------------------------------------------

    def interest(self, asset_ids: Iterable[str], *, whole: bool = False, caller: Caller = NOBODY) -> Interest:
        """Keep assets by name, or the whole source, up to date from now on. Raises: TooManyAssets."""
        ...

    def join(self, asset_ids: Iterable[str], caller: Caller) -> None:
        """Have assets, all of interest already, read in the turns of this caller too if they were never read."""
        ...

    def leave(self, caller: Caller) -> Iterator[None]:
        """Withdraw a caller's requests for assets that were never read; in steps."""
        ...

    async def read(self, asset_ids: Iterable[str], *, max_age_s: float | None, caller: Caller = NOBODY) -> None:
        """Return once each asset was read at most max_age_s ago (None: ever).

        Raises: TooManyAssets, TooManyReads; SourceUnreachable when a read was needed and failed.
        """
        ...

    async def first_reads(self, asset_ids: Iterable[str]) -> None:
        """Wait until each of many assets, all of interest already, was read once, as far as that can be had."""
        ...

    async def listed(self, timeout_s: float) -> None:
        """Have the whole source in view for a while; return once it was listed and read, or after timeout_s."""
        ...

    async def tidy(self, *, forget_after_s: float) -> None:
        """Forget assets nobody has wanted for that long."""
        ...

    # What is known of a change before it is pushed -------------------------------------------------------------------

    async def push_touched(self, asset_ids: Iterable[str]) -> None:
        """Have assets that changed upstream read at once, and once more if they are being read."""
        ...

    async def push_removed(self, observation: Observation, traceparent: str) -> None:
        """Take in that an asset was deleted; reads under way are older and no longer count."""
        ...
