"""Fair queueing and quotas: who is served next, and how much each caller may hold. Pure: no clock, no I/O.

A caller is a path from the general to the particular: host, connection, call. Service is round-robin on each level:
over hosts, within a host over its connections, within a connection over its calls. So a host gains nothing by opening
more calls or connections, and two clients behind one address still share fairly. Knows nothing of what is queued.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

T = TypeVar("T", bound="Hashable")

Caller: TypeAlias = "tuple[str, ...]"
NOBODY: Caller = ("",)
"""What belongs to no caller: pins, lists, what was pushed. All of it together is served as one host is."""
CONNECTION_SHARE = 0.5
"""One connection may have this share of what its host may, so that others behind the same address have the rest."""
LEFT_TOGETHER = 200
"""Places that are given up at one go, at some microseconds each: a caller may have had thousands."""
QUOTA_MIN = 10
"""Anybody may have this: a share of a small limit would be next to nothing."""


class Lane(Generic[T]):
    """One level of a queue: lanes in the order in which they are served next, or (of a call) its items in line."""

    __slots__ = ("items", "lanes")

    def __init__(self) -> None:
        self.items: deque[T] = deque()
        self.lanes: OrderedDict[str, Lane[T]] = OrderedDict()


class FairQueue(Generic[T]):
    """A queue that serves its callers round-robin, each with a lane of its own.

    An item may have a place in several lanes, and is served from whichever is served first.
    waits: tells whether an item is still to be served. Places of items that are not are skipped when they are met,
    or removed together by `prune`. So each operation costs a constant, amortised; `leave` and `prune` one per place.
    """

    def __init__(self, waits: Callable[[T], bool]) -> None:
        self._waits = waits
        self._root: Lane[T] = Lane()
        self._places: Counter[T] = Counter()
        self._count = 0

    def __len__(self) -> int:
        """Return the number of places."""
        return self._count

    def __contains__(self, item: T) -> bool:
        """Return whether an item has a place."""
        return item in self._places

    def put(self, caller: Caller, item: T) -> None:
        """Give an item a place at the end of its caller's lane."""
        lane = self._root
        for name in caller:
            lane = lane.lanes.get(name) or lane.lanes.setdefault(name, Lane())
        lane.items.append(item)
        self._places[item] += 1
        self._count += 1

    def first(self) -> T | None:
        """Return the item to be served next, without removing it; None when nothing waits."""
        if self._count:
            return self._first(self._root)
        # Lanes that `take` has emptied stay until `_first` comes upon them; with nothing left, all can go at once.
        self._root.lanes.clear()
        return None

    def take(self) -> None:
        """Remove the item that `first` returns (there must be one); its lane goes behind the others on each level."""
        # Relies on `first` having been called just before: that has removed what no longer waits from the path taken
        # here, so the first lane of each level leads to that very item.
        lane = self._root
        while lane.lanes:
            name = next(iter(lane.lanes))
            lane.lanes.move_to_end(name)
            lane = lane.lanes[name]
        self._given_up(lane.items.popleft())

    def leave(self, caller: Caller) -> Iterator[list[T]]:
        """Remove a caller's lane; then give up its places, LEFT_TOGETHER a step of what is returned.

        Each step yields those of its items, in order, that still wait and have no place left.
        """
        return self._give_up(self._detached(caller))

    def _detached(self, caller: Caller) -> deque[T]:
        """Remove a caller's lane, and those around it that it leaves empty; return its items."""
        path = [self._root]
        for name in caller:
            if (inner := path[-1].lanes.get(name)) is None:
                return deque()
            path.append(inner)
        for name, outer, inner in zip(reversed(caller), path[-2::-1], path[:0:-1], strict=True):
            # From the inside out: an outer lane is empty only once the inner one is out of it.
            if inner is path[-1] or not inner.lanes:
                del outer.lanes[name]
        return path[-1].items

    def _give_up(self, left: deque[T]) -> Iterator[list[T]]:
        # In steps, since a caller that leaves may have had thousands of places, and all others wait meanwhile.
        while left:
            together = [left.popleft() for _ in range(min(LEFT_TOGETHER, len(left)))]
            for item in together:
                self._given_up(item)
            yield [item for item in together if self._waits(item) and item not in self._places]

    def prune(self) -> None:
        """Remove every place whose item no longer waits."""
        for lane in _leaves(self._root):
            waiting = [item for item in lane.items if self._waits(item)]
            for item in lane.items:
                if not self._waits(item):
                    self._given_up(item)
            lane.items = deque(waiting)

    def _first(self, lane: Lane[T]) -> T | None:
        while lane.items and not self._waits(lane.items[0]):
            self._given_up(lane.items.popleft())
        if lane.items:
            return lane.items[0]
        while lane.lanes:
            name, inner = next(iter(lane.lanes.items()))
            if (item := self._first(inner)) is not None:
                return item
            del lane.lanes[name]
        return None

    def _given_up(self, item: T) -> None:
        self._count -= 1
        if self._places[item] > 1:
            self._places[item] -= 1
        else:
            del self._places[item]


def _leaves(lane: Lane[T]) -> Iterator[Lane[T]]:
    if lane.items:
        yield lane
    for inner in lane.lanes.values():
        yield from _leaves(inner)


class Quota:
    """Counts what callers have of something: a host the limit at most, one of its connections CONNECTION_SHARE of it.

    Either limit is QUOTA_MIN at least.
    """

    def __init__(self, limit: int) -> None:
        self.limit = max(limit, QUOTA_MIN)
        self._of_connection = max(int(limit * CONNECTION_SHARE), QUOTA_MIN)
        self._taken: Counter[Caller] = Counter()

    def has_room(self, caller: Caller, count: int) -> bool:
        """Return whether a caller may have count more. What belongs to NOBODY is not bounded here."""
        return caller == NOBODY or (
            self._taken[caller[:1]] + count <= self.limit and self._taken[caller[:2]] + count <= self._of_connection
        )

    @contextmanager
    def held(self, caller: Caller, count: int, *, refusal: Exception) -> Iterator[None]:
        """Give a caller count more until the block ends. As much again must be free, so that no call takes all of it.

        Raises: refusal, when there is no room.
        """
        if not self.has_room(caller, 2 * count):
            raise refusal
        self.add(caller, count)
        try:
            yield
        finally:
            self.add(caller, -count)

    def add(self, caller: Caller, count: int) -> None:
        """Note that a caller has so many more, or (below 0) fewer."""
        for of in (caller[:1], caller[:2]) if caller != NOBODY else ():
            self._taken[of] += count
            if not self._taken[of]:
                del self._taken[of]
