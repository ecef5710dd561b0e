"""Turns of callers, and what each may have."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.runtime.fairness import CONNECTION_SHARE, LEFT_TOGETHER, NOBODY, QUOTA_MIN, FairQueue, Quota

if TYPE_CHECKING:
    from assetwatchd.runtime.fairness import Caller

pytestmark = pytest.mark.unit


def served(queue: FairQueue[str], count: int = 1000) -> list[str]:
    """Take so many, or all."""
    taken: list[str] = []
    while len(taken) < count and (item := queue.first()) is not None:
        queue.take()
        taken.append(item)
    return taken


def filled(**lanes: int) -> FairQueue[str]:
    """So many items of each host, of one call each."""
    queue: FairQueue[str] = FairQueue(bool)
    for host, count in lanes.items():
        for number in range(count):
            queue.put((host, host, "call"), f"{host}{number}")
    return queue


def left(queue: FairQueue[str], *caller: str) -> list[str]:
    """Have a caller leave; return what was his alone."""
    return list(chain.from_iterable(queue.leave(caller)))


def test_callers_take_turns() -> None:
    """However much one wants, another waits for one of his only; of one the first come is the first served."""
    queue = filled(a=5)
    assert served(queue, 2) == ["a0", "a1"]
    queue.put(("b", "b", "call"), "b0")
    queue.put(("c", "c", "call"), "c0")
    assert served(queue) == ["a2", "b0", "c0", "a3", "a4"]


def test_neither_connections_nor_calls_are_more_turns() -> None:
    """Hosts take turns, of each host its connections, of each connection its calls."""
    queue: FairQueue[str] = FairQueue(bool)
    for connection in "xyz":
        for call in "12":
            for number in "ab":
                queue.put(("many", connection, call), connection + call + number)
    for late in range(4):
        queue.put(("one", "c", "1"), str(late))
    assert " ".join(served(queue)) == "x1a 0 y1a 1 z1a 2 x2a 3 y2a z2a x1b y1b z1b x2b y2b z2b"


def test_what_nobody_asked_for_takes_one_turn() -> None:
    """Pins, lists and pushes together are as one host."""
    queue = filled(a=2)
    for number in range(3):
        queue.put(NOBODY, f"nobody's {number}")
    assert served(queue) == ["a0", "nobody's 0", "a1", "nobody's 1", "nobody's 2"]


def test_who_leaves_is_out_of_line_at_once() -> None:
    """Told is what was his alone; an empty queue keeps nothing of those who were in it."""
    queue = filled(a=3, b=1)
    queue.put(("a", "a", "other call"), "shared")
    queue.put(("b", "b", "call"), "shared")
    assert left(queue, "a", "a", "call") == ["a0", "a1", "a2"]
    assert left(queue, "a", "a", "other call") == []
    assert left(queue, "nobody", "of", "that name") == []
    assert served(queue) == ["b0", "shared"]
    assert len(queue) == 0
    assert not queue._root.lanes


def test_who_leaves_is_out_of_line_before_his_places_are_given_up() -> None:
    """Of many places some are at a time; what another asked for meanwhile is his."""
    queue = filled(a=2 * LEFT_TOGETHER + 1, b=1)
    steps = queue.leave(("a", "a", "call"))
    assert len(next(steps)) == LEFT_TOGETHER
    queue.put(("b", "b", "call"), f"a{2 * LEFT_TOGETHER}")
    assert served(queue, 1) == ["b0"]
    assert [len(step) for step in steps] == [LEFT_TOGETHER, 0]
    assert served(queue) == [f"a{2 * LEFT_TOGETHER}"]
    assert len(queue) == 0
    assert not queue._places


HOSTS, CONNECTIONS, CALLS = "ab", "xy", "12"
CALLERS = st.tuples(st.sampled_from(HOSTS), st.sampled_from(CONNECTIONS), st.sampled_from(CALLS))
ITEMS = st.integers(0, 9)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), CALLERS, ITEMS),
        st.tuples(st.just("take")),
        st.tuples(st.just("take")),
        st.tuples(st.just("leave"), CALLERS),
        st.tuples(st.just("done"), ITEMS),
        st.tuples(st.just("prune")),
    ),
    max_size=80,
)


class Judge:
    """Holds a queue against what is promised of it, by a model that is as simple as can be."""

    def __init__(self) -> None:
        self.lanes: dict[Caller, list[tuple[int, int]]] = defaultdict(list)
        self.waiting: set[tuple[int, int]] = set()
        self.times: Counter[int] = Counter()
        self.queue: FairQueue[tuple[int, int]] = FairQueue(self.waiting.__contains__)
        self.others: dict[Caller, Counter[Caller]] = defaultdict(Counter)
        """What waits: how often each of those beside it has been served since it last was, or came."""

    def put(self, caller: Caller, number: int) -> None:
        """It waits from now on, wherever it has been put; what is wanted again once it was had is another item."""
        self.waiting.add(item := (number, self.times[number]))
        self.queue.put(caller, item)
        self.lanes[caller].append(item)
        self.settle()

    def take(self) -> None:
        """Whose turn it is has the first of his items; nobody who waits sees another served twice meanwhile."""
        item = self.queue.first()
        if item is None:
            assert not self.waiting_callers()
            return
        before = self.queue._root
        path: list[str] = []
        while before.lanes:
            path.append(next(iter(before.lanes)))
            before = before.lanes[path[-1]]
        caller = tuple(path)
        assert item == self.first_of(caller)
        self.queue.take()
        self.lanes[caller].remove(item)
        self.had(item)
        for level in (1, 2, 3):
            mine, above = caller[:level], caller[: level - 1]
            for other in {other[:level] for other in self.waiting_callers()}:
                if other != mine and other[: level - 1] == above:
                    self.others[other][mine] += 1
                    assert self.others[other][mine] <= 1, f"{mine} was served twice while {other} waited"
            self.others[mine].clear()
        self.settle()

    def leave(self, caller: Caller) -> None:
        """Told are those of his items that wait and stand in no other lane."""
        left = self.lanes.pop(caller, [])
        elsewhere = {item for lane in self.lanes.values() for item in lane}
        alone = [item for item in left if item in self.waiting and item not in elsewhere]
        told = list(chain.from_iterable(self.queue.leave(caller)))
        assert set(told) <= set(left)
        assert set(told) == set(alone)
        for item in told:
            self.had(item)
        self.settle()

    def done(self, number: int) -> None:
        """Somebody else saw to it."""
        self.had((number, self.times[number]))
        self.settle()

    def had(self, item: tuple[int, int]) -> None:
        """It waits no more."""
        self.waiting.discard(item)
        self.times[item[0]] += 1

    def prune(self) -> None:
        """No place is left but of what waits."""
        self.queue.prune()
        assert len(self.queue) <= sum(item in self.waiting for lane in self.lanes.values() for item in lane)

    def first_of(self, caller: Caller) -> tuple[int, int] | None:
        """What a caller has next."""
        return next((item for item in self.lanes[caller] if item in self.waiting), None)

    def waiting_callers(self) -> set[Caller]:
        """Who waits for anything."""
        return {caller for caller, lane in self.lanes.items() if any(item in self.waiting for item in lane)}

    def settle(self) -> None:
        """Whoever does not wait any more begins anew one day."""
        waiting = {caller[:level] for caller in self.waiting_callers() for level in (1, 2, 3)}
        for gone in self.others.keys() - waiting:
            del self.others[gone]


@given(STEPS)
def test_between_two_turns_of_one_everybody_beside_it_has_one(steps: list[tuple[str, ...]]) -> None:
    """Whatever comes, goes, and is done meanwhile: on each level nobody is served twice while another waits."""
    judge = Judge()
    for name, *arguments in steps:
        getattr(judge, name)(*arguments)
    while judge.queue.first() is not None:
        judge.take()
    assert not judge.waiting_callers()


@pytest.mark.parametrize("callers", [100, 1000])
def test_turns_cost_the_same_however_many_wait(callers: int) -> None:
    """What is looked at for each item does not grow with callers nor items."""
    looks = 0

    def waits(_: str) -> bool:
        nonlocal looks
        looks += 1
        return True

    queue: FairQueue[str] = FairQueue(waits)
    for number in range(callers):
        for item in range(3):
            queue.put((str(number), "c", "1"), f"{number} {item}")
    served(queue, 3 * callers)
    assert len(queue) == 0
    assert looks <= 5 * 3 * callers


def test_a_quota_is_of_a_host_and_of_its_connections() -> None:
    """One connection has its share, all of a host the limit; other hosts, and what is nobody's, are not concerned."""
    quota = Quota(100)
    share = int(100 * CONNECTION_SHARE)
    quota.add(("a", "x", "1"), share)
    assert not quota.has_room(("a", "x", "2"), 1)
    assert quota.has_room(("a", "y", "3"), 100 - share)
    assert not quota.has_room(("a", "y", "3"), 101 - share)
    assert quota.has_room(("b", "x", "4"), share)
    assert quota.has_room(NOBODY, 1000)
    quota.add(("a", "x", "1"), -share)
    assert not quota._taken


def test_a_quota_is_never_next_to_nothing() -> None:
    """A share of a small limit is no less than a few."""
    quota = Quota(2)
    assert quota.has_room(("a", "x", "1"), QUOTA_MIN)
    assert not quota.has_room(("a", "x", "1"), QUOTA_MIN + 1)


def test_nobody_takes_the_last_of_a_quota_at_once() -> None:
    """A large request must leave as much again, so a small one that comes later finds room; held is given back."""
    quota, caller, refusal = Quota(200), ("a", "x", "1"), ValueError("no room")
    with quota.held(caller, 50, refusal=refusal):
        with pytest.raises(ValueError, match="no room"), quota.held(caller, 26, refusal=refusal):
            pass
        with quota.held(caller, 25, refusal=refusal), quota.held(caller, 12, refusal=refusal):
            pass
    with quota.held(caller, 50, refusal=refusal):
        pass
