"""The targets of one source: which there are, for how many more there is room, and what is so of each in the store.

Owns `Target.presence`: whoever learns from a list or a push that an asset is there, or not, says it here, since that
decides whether its target may give way to others. Must not know when a target is read, nor who wants the whole source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.model.errors import TooManyAssets
from assetwatchd.model.values import SETTLED, AssetKey, Freshness, State, forgotten
from assetwatchd.polling import presence
from assetwatchd.polling.strangers import Strangers, weight
from assetwatchd.polling.target import Phase, Target
from assetwatchd.runtime.fairness import NOBODY
from assetwatchd.runtime.slices import slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Entry, Observation
    from assetwatchd.polling.agenda import Agenda
    from assetwatchd.runtime.fairness import Caller
    from assetwatchd.settings.schema import SourceSettings

UNPROVEN = frozenset({State.MISSING, State.UNKNOWN})
"""States of an entry that is gone and of an asset nobody ever saw: it is not there, or nothing was said about it."""


class Registry:
    """The targets of one source by asset id; first of all those of the store, and the pins."""

    def __init__(self, name: str, settings: SourceSettings, store: Store, agenda: Agenda) -> None:
        self._name = name
        self._settings = settings
        self._store = store
        self._agenda = agenda
        self._targets: dict[str, Target] = {}
        self._untold: set[Target] = set()
        self._strangers = Strangers(int(settings.assets_max * settings.unknown_share_per_peer))

    def restore(self, observed: Mapping[str, float]) -> Iterator[None]:
        """Know again what the store knows, and the pins; in steps, before anything else is asked of this.

        observed: when assets were read last by somebody else, found as the store has them.
        """
        for keys in slices(self._store.keys(self._name)):
            for key in keys:
                self._restore(key, observed.get(key.asset_id, 0.0))
            yield
        for asset_id in self._settings.pins:
            target = self._targets.get(asset_id) or self.add(asset_id)
            if target.knowledge.state is None:
                self._untold.add(target)

    def _restore(self, key: AssetKey, observed_at: float) -> None:
        target = self._targets[key.asset_id] = Target(key.asset_id, key)
        entry = self._look_up(target)
        if entry is None:
            self._strangers.add(target, NOBODY)
        elif entry.freshness is Freshness.FRESH and not forgotten(entry):
            target.knowledge.restore(max(entry.found_at, observed_at), int(entry.state in SETTLED))

    # Which there are -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many targets there are."""
        return len(self._targets)

    def __iter__(self) -> Iterator[Target]:
        return iter(list(self._targets.values()))

    def slices(self) -> Iterator[list[Target]]:
        """Every target there is now, SLICE at a time, for walks that await in between; not those dropped meanwhile."""
        for targets in slices(self):
            yield [target for target in targets if target.phase is not Phase.DROPPED]

    def get(self, asset_id: str) -> Target | None:
        """Return the target of an asset, if it has one."""
        return self._targets.get(asset_id)

    def claim(self, asset_ids: Iterable[str], caller: Caller = NOBODY) -> list[Target]:
        """Return the targets, new ones made if there is room for all of them. Raises: TooManyAssets."""
        names = list(dict.fromkeys(asset_ids))
        unknown = [name for name in names if name not in self._targets]
        idle = self._strangers.claimed((self._targets[name] for name in names if name in self._targets), caller)
        brought = sum(map(weight, unknown)) + sum(weight(target.asset_id) for target in idle)
        if not self._strangers.quota.has_room(caller, brought):
            raise TooManyAssets(self._name, self._strangers.quota.limit, caller=caller[0])
        if self.make_room(len(unknown), keep=len(idle)) < len(unknown):
            raise TooManyAssets(self._name, self._settings.assets_max)
        return [self._targets.get(name) or self.add(name, caller) for name in names]

    def admit(self, asset_id: str) -> Target | None:
        """Return the target of an asset that the upstream told of; None when there is no room."""
        return self._targets.get(asset_id) or (self.add(asset_id) if self.make_room(1) else None)

    def add(self, asset_id: str, caller: Caller = NOBODY) -> Target:
        """Make the target of an asset that has none; there must be room."""
        return self._add(AssetKey(self._name, asset_id), caller)

    def _add(self, key: AssetKey, caller: Caller = NOBODY) -> Target:
        target = self._targets[key.asset_id] = Target(key.asset_id, key)
        if self._look_up(target) is None:
            self._strangers.add(target, caller)
        return target

    def drop(self, target: Target) -> None:
        """Forget a target; if its asset was never seen, its entry too: only those who named it were told of that.

        It gives up its place first, as the agenda counts those. While it is being read it is not dropped: see TABLE.
        """
        self._agenda.remove(target)
        target.drop()
        self._untold.discard(target)
        del self._targets[target.asset_id]
        if target in self._strangers:
            self._strangers.remove(target)
            self._store.forget(target.key)

    def make_room(self, count: int, *, keep: int = 0, some: bool = False) -> int:
        """Make room for count more targets by dropping idle strangers, the longest idle first; return for how many.

        keep: so many of them, the latest, stay. some: room for fewer than count will do; without, where there is not
        enough for all, nothing is dropped and 0 returned.
        """
        lacking = len(self._targets) + count - self._settings.assets_max
        if lacking <= 0:
            return count
        going = min(lacking, self._strangers.idle_count() - keep)
        if going < lacking and not some:
            return 0
        for _ in range(going):
            self.drop(self._strangers.longest_idle())
        return max(0, count - lacking + going)

    # What is known of them -------------------------------------------------------------------------------------------

    def entry(self, target: Target) -> Entry | None:
        """Return what the store has of a target."""
        return self._store.get(target.key)

    def known(self, target: Target) -> bool:
        """Whether anything can be told of a target without a read, however old, or why it cannot be read."""
        entry = self.entry(target)
        if entry is None:
            return target.knowledge.negative_result is not None
        return not forgotten(entry) or entry.state is State.UNKNOWN

    @property
    def untold(self) -> int:
        """How many assets were listed, or are pinned, of which neither a state is known nor why they cannot be read."""
        return len(self._untold)

    def is_stranger(self, target: Target) -> bool:
        """Whether nobody has ever seen its asset, as far as is known."""
        return target in self._strangers

    def remember(self, target: Target, *, negative_result: Observation | None) -> None:
        """Record that a target was read: the store has what was found; negative_result: its asset never was there."""
        if target.presence.back:
            target.presence = presence.told(target.presence)
        self._untold.discard(target)
        entry = self._look_up(target, negative_result)
        if entry is not None and not (entry.gone and entry.state in UNPROVEN):
            self._strangers.remove(target)

    def note(self, target: Target) -> None:
        """Look again whether a target can be dropped: somebody began or ceased to want it, or its read is over."""
        if not (target.presence.listed or target.demand.pinned):
            self._untold.discard(target)
        self._strangers.note(target)

    def _look_up(self, target: Target, negative_result: Observation | None = None) -> Entry | None:
        entry = self._store.get(target.key)
        target.knowledge.mirror(entry, negative_result)
        return entry

    # Whether they are there ------------------------------------------------------------------------------------------

    def listed(self, target: Target) -> None:
        """A list has it."""
        change = presence.back_in_list if target.knowledge.gone else presence.in_list
        target.presence = change(target.presence)
        if target.knowledge.state is None:
            self._untold.add(target)
        self.note(target)

    def lacked(self, target: Target) -> bool:
        """A complete list lacks it; return whether that is to be believed by now."""
        target.presence = presence.lacked(target.presence)
        return target.presence.absences >= presence.ABSENCES_TO_BELIEVE

    def pushed(self, target: Target) -> None:
        """A push tells of it."""
        target.presence = presence.pushed(target.presence)
        self.note(target)

    def unlist(self, target: Target) -> None:
        """It is gone by a list or a push, or none has spoken of it for long."""
        target.presence = presence.unlisted(target.presence)
        self.note(target)

    def doubt(self, target: Target) -> None:
        """A read misses it though it was there: that is believed when the next one does."""
        target.presence = presence.doubted(target.presence)

    def settle(self, target: Target) -> None:
        """A read or a notice said what it is: another one that misses it is the first of two again."""
        target.presence = presence.confirmed(target.presence)
