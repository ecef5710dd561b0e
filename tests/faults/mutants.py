"""Defects to plant: a few lines of the source changed as a module is imported, so that tests can be seen to fail.

A place that the source no longer has makes the planting fail, never pass in silence.
"""

from __future__ import annotations

import importlib.machinery
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType


class Change(NamedTuple):
    """One place in one module, once and exactly so in its source, and what stands there instead."""

    module: str
    before: str
    after: str


class Mutant(NamedTuple):
    """One defect. text: what it does wrong."""

    text: str
    changes: Sequence[Change]


HUB, WATCHER, ROUNDS, GROUPS = (f"assetwatchd.changefeed.{name}" for name in ("hub", "watcher", "rounds", "groups"))
WATCH, LEDGER = "assetwatchd.rpc.watch", "assetwatchd.changefeed.store.ledger"
BATCHES = "assetwatchd.changefeed.batches"
ENDINGS, PAUSES = "assetwatchd.polling.endings", "assetwatchd.polling.pauses"
PIPELINE, RESUME = "assetwatchd.changefeed.pipeline", "assetwatchd.changefeed.resume_token"
SQLITE = "assetwatchd.changefeed.store.sqlite"
FENCE, LANE, FOLLOWING = (f"assetwatchd.changefeed.store.etcd.{name}" for name in ("fence", "lane", "following"))
LOGIN, SHARED, IN_TERM = "assetwatchd.etcd.login", "assetwatchd.replicas.shared", "assetwatchd.replicas.in_term"
CONDITIONS = "(created(owner, hold.term), modified(chain, hold.chain))"

MUTANTS: Mapping[str, Mutant] = {
    "M1": Mutant(
        "a bookmark is sent past what has not been sent yet",
        [
            Change(WATCHER, "hub.store.head if marking else hub.head", "hub.head"),
            Change(WATCHER, "self._bookmark = Bookmark(self._cursor, ", "self._bookmark = Bookmark(hub.store.head, "),
        ],
    ),
    "M2": Mutant(
        "no bookmark until a first change",
        [
            Change(
                WATCHER,
                "        self._note_handed_over(self.synced())\n",
                "        self._told_at = math.inf\n",
            )
        ],
    ),
    "M3": Mutant(
        "a token says the newest revision there is, not the last one sent",
        [Change(BATCHES, "        revision = part[-1].revision\n", "        revision = head\n")],
    ),
    "M4": Mutant(
        "an asset that changes keeps its first place in the line",
        [
            Change(
                LEDGER,
                "        self._take(entry.key)\n        self._latest[entry.key] = entry\n",
                "        if (old := self._latest.get(entry.key)) is not None and entry.gone == old.gone:\n"
                "            self._line[bisect_right(self._revisions, old.revision) - 1] = entry\n"
                "            self._latest[entry.key] = entry\n"
                "            return\n"
                "        self._latest[entry.key] = entry\n",
            )
        ],
    ),
    "M5": Mutant(
        "a range is not frozen: what changes meanwhile moves to its end, and is waited for",
        [
            Change(
                WATCHER,
                "            self._range, self._cursor = iter(batches), head\n",
                "            self._range = self._moving()\n",
            ),
            Change(
                WATCHER,
                "    def _caught_up(self)",
                "    def _moving(self) -> Iterator[Batch]:\n"
                "        while self._cursor < self._hub.store.head:\n"
                "            for batch in self.changes.changes_between(self._cursor, self._hub.store.head):\n"
                "                yield batch\n"
                "                self._cursor = batch.revision\n"
                "                break\n"
                "            else:\n"
                "                self._cursor = self._hub.store.head\n\n"
                "    def _caught_up(self)",
            ),
        ],
    ),
    "M6": Mutant(
        "resume delivers >= instead of >",
        [
            Change(
                WATCHER,
                "await self.changes.beginning(self._from)\n",
                "await self.changes.beginning(self._from if self._from is None else self._from - 1)\n",
            )
        ],
    ),
    "M7": Mutant(
        "the floor is not checked",
        [Change(BATCHES, "if cursor < store.floor:", "if False:")],
    ),
    "M8": Mutant(
        "removals are purged before the floor is written",
        [
            Change(
                SQLITE,
                "self._file.drop(revisions, floor=floor))",
                "self._file.drop(revisions, floor=0))",
            ),
            Change(
                SQLITE,
                '        await failpoints.hit("after_floor_before_purge")\n',
                '        await failpoints.hit("after_floor_before_purge")\n'
                "        await self._in_thread(lambda: self._file.drop([], floor=floor))\n",
            ),
        ],
    ),
    "M9": Mutant("the epoch is ignored", [Change(RESUME, "if not store.continues(epoch, revision):", "if False:")]),
    "M10": Mutant(
        "a token of the future waits for ever",
        [
            Change(
                WATCH,
                "asyncio.timeout(BEHIND_WAIT_S):\n            await hub",
                "asyncio.timeout(None):\n            await hub",
            )
        ],
    ),
    "M11": Mutant(
        "no synced for an empty set",
        [
            Change(
                HUB,
                "            yield signal\n            async for",
                "            if self._state.store.after(0, watcher.synced().revision):\n"
                "                yield signal\n            async for",
            ),
            Change(
                WATCH,
                "        await client.write(self._synced(",
                "        if self.store.after(0, watcher.synced().revision):\n"
                "            await client.write(self._synced(",
            ),
        ],
    ),
    "M12": Mutant(
        "a gap between snapshot and joining: what changes while the snapshot is sent is taken as sent",
        [
            Change(
                WATCHER,
                "        return Synced(self._cursor, self._incomplete)\n",
                "        self._cursor = self._hub.store.head\n        return Synced(self._cursor, self._incomplete)\n",
            )
        ],
    ),
    "M13": Mutant(
        "absence after a failed poll is a removal",
        [
            Change(
                ENDINGS,
                "            self._asset_failed(target, error, charged=verdict.charged)\n        if verdict.failing:",
                "            self._asset_failed(target, error, charged=verdict.charged)\n"
                "            gone = Sighting(Observation(target.asset_id, State.MISSING), self._report.now())\n"
                "            self._outcomes.told(target, gone)\n"
                "        if verdict.failing:",
            )
        ],
    ),
    "M14": Mutant(
        "an unchanged poll is a change",
        [Change(PIPELINE, "return None if same else draft", "return draft if same else draft")],
    ),
    "M15": Mutant(
        "the chain is not compared: a transaction that comes late lands behind what was written after it",
        [Change(FENCE, CONDITIONS, "(created(owner, hold.term),)")],
    ),
    "M16": Mutant(
        "the term is not compared: whoever was owner still writes",
        [Change(FENCE, CONDITIONS, "(modified(chain, hold.chain),)")],
    ),
    "M17": Mutant(
        "a round waits for the watchers it woke",
        [
            Change(
                ROUNDS,
                "            await self._wake(self._advance())\n",
                "            await self._wake(self._advance())\n"
                "            while any(watcher.wakeup is None for watcher in self._groups.watchers()):\n"
                "                await asyncio.sleep(0.001)\n",
            )
        ],
    ),
    "M18": Mutant(
        "a watcher stays behind when its stream is cancelled",
        [Change(GROUPS, "        group.watchers.discard(watcher)\n", "")],
    ),
    "M19": Mutant(
        "Retry-After is ignored",
        [
            Change(PAUSES, "if error.retry_after_s is None:", "if True:"),
            Change(ENDINGS, "error.retry_after_s or 0.0)", "0.0)"),
        ],
    ),
    "M20": Mutant(
        "STALE is never cleared",
        [
            Change(
                PIPELINE,
                "        return None if same else draft",
                "        stale = known is not None and known.freshness is Freshness.STALE\n"
                "        return None if same or stale else draft",
            )
        ],
    ),
    "M21": Mutant(
        "a commit returns before the mirror has it",
        [
            Change(
                FENCE,
                "                await self._mirror.reached(revision)\n                return revision\n",
                "                return revision\n",
            )
        ],
    ),
    "M22": Mutant(
        "a mirror goes on without a look whether what it read is still the past of what there is",
        [
            Change(FOLLOWING, f"        await past.{check}\n", "")
            for check in (
                "check_now(self._client, self._names, self._mirror, self._cluster)",
                "check_then(self._client, self._names, self._mirror)",
            )
        ],
    ),
    "M23": Mutant(
        "the floor is written after the deletions that it is of",
        [
            Change(
                LANE,
                "(floor, *self._deletions(entry.key for entry in still)))\n",
                "tuple(self._deletions(entry.key for entry in still)))\n"
                "                    await self._fence.write(self._source, (floor,))\n",
            )
        ],
    ),
    "M24": Mutant(
        "a watch stays at a member that has lost the others",
        [Change(LOGIN, 'LEADER: Metadata = (("hasleader", "true"),)', "LEADER: Metadata = ()")],
    ),
    "M25": Mutant(
        "interest of other replicas is lost with the owner that held it",
        [
            Change(
                SHARED,
                "owned.hold_all(self._parts.interests.elsewhere(self.name))",
                "owned.hold_all({})",
            )
        ],
    ),
    "M26": Mutant(
        "a call is made whether the term lasts or not",
        [Change(IN_TERM, "        if not self._lasts():\n", "        if False:\n")],
    ),
    "M27": Mutant(
        "a snapshot is of what a replica knows, however old that is",
        [
            Change(
                WATCH,
                "        if not token:\n            await caught_up(self.store)",
                "        if not token:\n            await asyncio.sleep(0)",
            )
        ],
    ),
}


class PlantingError(Exception):
    """The source has no such place, or the module was imported before."""


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with changes, past every cache."""

    def __init__(self, name: str, path: str, changes: Sequence[Change]) -> None:
        super().__init__(name, path)
        self._changes = changes

    def get_code(self, fullname: str) -> CodeType:
        """Compile the changed source."""
        source = self.get_data(self.path).decode()
        for change in self._changes:
            if source.count(change.before) != 1:
                raise PlantingError(f"{fullname} has {source.count(change.before)} times:\n{change.before}")
            source = source.replace(change.before, change.after)
        return self.source_to_code(source.encode(), self.path)


class _Finder:
    """Finds the modules that are changed."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self._changes = changes

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec with the changing loader, or leave it to others."""
        mine = [change for change in self._changes if change.module == name]
        spec = importlib.machinery.PathFinder.find_spec(name, path, target) if mine else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin, mine)
        return spec


def plant(name: str) -> None:
    """Plant a mutant in this process; an empty name plants none. Raises: PlantingError, KeyError."""
    if not name:
        return
    changes = MUTANTS[name].changes
    early = [change.module for change in changes if change.module in sys.modules]
    if early:
        raise PlantingError(f"imported before: {', '.join(early)}")
    sys.meta_path.insert(0, _Finder(changes))
