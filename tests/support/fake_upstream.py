"""An upstream in this process: it has the states it is told, counts what it is asked, and breaks as it is told."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING

from assetwatchd.model.errors import Unreachable
from assetwatchd.model.values import Observation, State
from assetwatchd.upstream.answers import NOTHING_KNOWN, Unreadable, digest, unless_known
from assetwatchd.upstream.port import Capabilities, Listed, Removed, Touched

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from assetwatchd.upstream.answers import Answer, Known
    from assetwatchd.upstream.port import Notice


class FakeUpstream:
    """Implements Upstream.

    states: the assets there are. extra: observations told instead of a plain state.
    fault: raised by every call but the push connection; poison: raised when an asset is read; left_out: not answered.
    unreadable: not readable in an answer that is.
    latency_s: how long every call takes. open: while it is not set, calls hang (counted, not answered).
    push_fault: raised by a connection at once. first_frame: what a connection begins with, if not all assets.
    listed: what a list has, if not all assets. unlisted: how many of its items cannot be read.
    known: of which assets the last read was given the answer that is known.
    """

    def __init__(self, *asset_ids: str, batch_max: int = 1, enumerates: bool = False, pushes: bool = False) -> None:
        self.capabilities = Capabilities(batch_max, enumerates, pushes)
        self.states = dict.fromkeys(asset_ids, State.AVAILABLE)
        self.extra: dict[str, Observation] = {}
        self.fault: Exception | None = None
        self.probe_fault: Exception | None = None
        self.list_fault: Exception | None = None
        self.poison: dict[str, Exception] = {}
        self.left_out: set[str] = set()
        self.unreadable: set[str] = set()
        self.listed: frozenset[str] | None = None
        self.unlisted = 0
        self.known: frozenset[str] = frozenset()
        self.latency_s = 0.0
        self.open = asyncio.Event()
        self.open.set()
        self.running = 0
        self.list_open = asyncio.Event()
        self.list_open.set()
        self.listing = self.most_lists = 0
        self.most_running = 0
        self.reads: list[tuple[float, tuple[str, ...]]] = []
        self.probes: list[float] = []
        self.lists: list[float] = []
        self.connects: list[float] = []
        self.connected = False
        self.closed = False
        self.push_fault: Exception | None = None
        self._notices: asyncio.Queue[Notice | Exception | None] = asyncio.Queue()

    def check(self, asset_id: str) -> str | None:
        """Refuse the one id that no test wants to be taken."""
        return "is not an id; give another" if asset_id == "not-an-id" else None

    async def probe(self) -> None:
        """Count, then answer or fail."""
        self.probes.append(_time())
        await self._answer(self.probe_fault)

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> Sequence[Answer]:
        """Tell the states, as they are when the answer goes out."""
        self.reads.append((_time(), tuple(asset_ids)))
        self.known = frozenset(known)
        states = dict(self.states)
        await self._answer(next((self.poison[a] for a in asset_ids if a in self.poison), None))
        found = [
            self.extra.get(asset_id) or Observation(asset_id, states.get(asset_id, State.MISSING))
            for asset_id in asset_ids
            if asset_id not in self.left_out
        ]
        return [self._answered(observation, known) for observation in found]

    def _answered(self, observation: Observation, known: Known) -> Answer:
        """Know an answer again, as adapters do: all that makes one here is what it says."""
        if observation.asset_id in self.unreadable:
            return Unreadable(observation.asset_id, "it is no text")
        answer = digest(repr(observation).encode())
        return unless_known(observation.asset_id, answer, known, lambda: observation)

    async def enumerate(self) -> Listed:
        """List what there is."""
        self.lists.append(_time())
        self.listing += 1
        self.most_lists = max(self.most_lists, self.listing)
        try:
            await self.list_open.wait()
        finally:
            self.listing -= 1
        await self._answer(self.list_fault)
        return Listed(frozenset(self.states) if self.listed is None else self.listed, self.unlisted, "for a test")

    async def notices(self) -> AsyncGenerator[Notice, None]:
        """Connect; the first notice lists what there is."""
        self.connects.append(_time())
        if self.push_fault is not None:
            raise self.push_fault
        self._notices = asyncio.Queue()
        self.connected = True
        try:
            yield Listed(frozenset(self.states))
            while (notice := await self._notices.get()) is not None:
                if isinstance(notice, Exception):
                    raise notice
                yield notice
        finally:
            self.connected = False

    async def close(self) -> None:
        """Note it."""
        self.closed = True

    def push_touched(self, *asset_ids: str) -> None:
        """Tell of changes."""
        self._notices.put_nowait(Touched(asset_ids))

    def push_removed(self, asset_id: str) -> None:
        """Tell of a deletion; it is so from now on."""
        self.states.pop(asset_id, None)
        self._notices.put_nowait(Removed(Observation(asset_id, State.DELETED)))

    def drop_push(self, error: Exception | None = None) -> None:
        """Break the connection with an error; without one it just ends."""
        self._notices.put_nowait(error)

    def reads_of(self, asset_id: str, *, since: float = 0.0) -> list[float]:
        """When an asset was read."""
        return [at for at, asset_ids in self.reads if asset_id in asset_ids and at >= since]

    @property
    def calls(self) -> list[float]:
        """When calls came, connections apart."""
        return sorted([*[at for at, _ in self.reads], *self.probes, *self.lists])

    async def _answer(self, fault: Exception | None) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.latency_s)
            await self.open.wait()
        finally:
            self.running -= 1
        if self.fault is not None or fault is not None:
            raise self.fault or fault or Unreachable("never")


def most_in_a_second(times: Iterable[float]) -> int:
    """Return how many of them fell into the fullest half-open second."""
    ordered = sorted(times)
    return max((bisect_left(ordered, at + 1 - 1e-9) - n for n, at in enumerate(ordered)), default=0)


def _time() -> float:
    return asyncio.get_running_loop().time()
