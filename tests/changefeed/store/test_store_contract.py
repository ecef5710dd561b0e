"""The one contract of every store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed.store.ledger_store import DROPPED_TOGETHER
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.changefeed.store.sqlite import SqliteStore
from assetwatchd.model.values import AssetKey, Freshness, State
from support.clock import Clock
from support.entries import draft

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from assetwatchd.changefeed.store.port import Store

pytestmark = pytest.mark.unit

KINDS = ("memory", "sqlite")


async def open_store(kind: str, folder: Path, clock: Clock) -> Store:
    return await SqliteStore.open(folder / "store.db", now=clock) if kind == "sqlite" else MemoryStore(now=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    store = await open_store(request.param, tmp_path, clock)
    yield store
    await store.close()


def never(_: AssetKey) -> bool:
    return False


async def test_starts_empty(store: Store) -> None:
    """A new store has counted nothing, forgotten nothing and holds nothing."""
    assert (store.head, store.floor) == (0, 0)
    assert list(store.after(0, 10)) == []
    assert store.get(AssetKey("dam", "a")) is None
    assert list(store.keys("dam")) == []
    assert store.count("dam") == 0


async def test_revisions_follow_the_order_of_drafts(store: Store) -> None:
    """Drafts are numbered from 1 in the order given, over all commits, without a gap; head is the last."""
    first = await store.commit([draft("dam/a"), draft("usd/b")])
    second = await store.commit([draft("dam/c")])
    assert [(entry.key.asset_id, entry.revision) for entry in [*first, *second]] == [("a", 1), ("b", 2), ("c", 3)]
    assert store.head == 3


async def test_an_empty_commit_counts_nothing(store: Store) -> None:
    """Committing no drafts gives no entries and moves nothing."""
    assert list(await store.commit([])) == []
    assert store.head == 0


async def test_an_entry_is_what_was_drafted(store: Store, clock: Clock) -> None:
    """Every field of the draft is in the entry that can be read, its bytes sealed with its own revision.

    It says when it was committed, however long before that it was found.
    """
    clock.now_s = 3600.0
    given = draft("dam/a", State.FAILED, at=12.25, freshness=Freshness.STALE, traceparent="00-ab-cd-01")
    [entry] = await store.commit([given])
    assert store.get(AssetKey("dam", "a")) == entry == given.entry(1, committed_at=3600.0)


@pytest.mark.parametrize("asset_id", ["ü+%#/?", "a\0b", "", "'; DROP TABLE entries; --", "\U0001f6d2" * 300, "A"])
async def test_any_text_is_an_asset_id(store: Store, asset_id: str) -> None:
    """Ids are opaque: whatever text they are, they are found again, and told from others."""
    await store.commit([draft(f"dam/{asset_id}", State.FAILED), draft("dam/a", State.PENDING)])
    entry = store.get(AssetKey("dam", asset_id))
    assert entry is not None
    assert (entry.key.asset_id, entry.state) == (asset_id, State.FAILED)


async def test_after_gives_the_latest_of_each_asset_in_order(store: Store) -> None:
    """An asset that changed again moves to the end: it is found once, at its newest revision."""
    await store.commit([draft("dam/a"), draft("dam/b"), draft("dam/c")])
    await store.commit([draft("dam/a", State.FAILED)])
    assert [(e.key.asset_id, e.revision, e.state) for e in store.after(0, store.head)] == [
        ("b", 2, State.AVAILABLE),
        ("c", 3, State.AVAILABLE),
        ("a", 4, State.FAILED),
    ]


async def test_after_excludes_its_cursor_and_includes_its_end(store: Store) -> None:
    """after(cursor, upto) is cursor < revision <= upto."""
    await store.commit([draft(f"dam/{n}") for n in range(1, 6)])
    found = {(c, u): [e.revision for e in store.after(c, u)] for c in range(6) for u in range(7)}
    assert found == {(c, u): [n for n in range(1, 6) if c < n <= u] for c in range(6) for u in range(7)}


async def test_a_slice_is_frozen(store: Store) -> None:
    """What after() returned does not change when assets change, come and go."""
    await store.commit([draft("dam/a"), draft("dam/b", State.DELETED)])
    taken = store.after(0, store.head)
    before = list(taken)
    await store.commit([draft("dam/a", State.FAILED), draft("dam/c")])
    await store.drop_gone(before=1.0, keep=never)
    assert list(taken) == before
    assert [entry.revision for entry in before] == [1, 2]


async def test_an_asset_twice_in_one_commit(store: Store) -> None:
    """Both drafts get a number; the later one is what remains."""
    entries = await store.commit([draft("dam/a", State.PENDING), draft("dam/a", State.FAILED)])
    assert [entry.revision for entry in entries] == [1, 2]
    assert [(e.revision, e.state) for e in store.after(0, 2)] == [(2, State.FAILED)]
    assert store.count("dam") == 1


async def test_gone_entries_remain_and_are_not_counted(store: Store) -> None:
    """A removal is an entry as any other, found by key and by revision; count leaves it out until the asset is back."""
    await store.commit([draft("dam/a"), draft("dam/b"), draft("usd/a")])
    await store.commit([draft("dam/a", State.DELETED)])
    gone = store.get(AssetKey("dam", "a"))
    assert gone is not None
    assert gone.gone
    assert store.after(3, 4) == [gone]
    assert set(store.keys("dam")) == {AssetKey("dam", "a"), AssetKey("dam", "b")}
    assert (store.count("dam"), store.count("usd"), store.count("other")) == (1, 1, 0)
    await store.commit([draft("dam/a")])
    assert store.count("dam") == 2


async def test_drop_gone_drops_old_removals_alone(store: Store, clock: Clock) -> None:
    """What is gone and older than asked is dropped; what is there, younger, or to be kept, stays."""
    clock.now_s = 1.0
    await store.commit([draft("dam/old", State.DELETED), draft("dam/kept", State.MISSING), draft("dam/there")])
    clock.now_s = 5.0
    await store.commit([draft("dam/young", State.DELETED)])
    assert await store.drop_gone(before=5.0, keep=lambda key: key.asset_id == "kept") == 1
    assert store.get(AssetKey("dam", "old")) is None
    assert [entry.key.asset_id for entry in store.after(0, store.head)] == ["kept", "there", "young"]
    assert store.count("dam") == 1


async def test_a_removal_ages_from_its_commit(store: Store, clock: Clock) -> None:
    """Not from when it was found: a store that could not keep it for an hour shortens nobody's time to hear of it."""
    clock.now_s = 3600.0
    await store.commit([draft("dam/a", State.DELETED, at=1.0)])
    assert await store.drop_gone(before=3600.0, keep=never) == 0
    assert await store.drop_gone(before=3601.0, keep=never) == 1


async def test_the_floor_is_the_newest_removal_dropped(store: Store, clock: Clock) -> None:
    """The floor is raised to the newest revision dropped, never lowered, and does not move when nothing is dropped."""
    for at, name, state in ((9.0, "a", State.DELETED), (9.0, "b", State.AVAILABLE), (2.0, "c", State.DELETED)):
        clock.now_s = at  # set back in between, as a wall clock may be
        await store.commit([draft(f"dam/{name}", state)])
    assert await store.drop_gone(before=1.0, keep=never) == 0
    assert store.floor == 0
    assert await store.drop_gone(before=3.0, keep=never) == 1
    assert store.floor == 3
    assert await store.drop_gone(before=10.0, keep=never) == 1
    assert store.floor == 3


async def test_the_floor_is_raised_before_anything_is_dropped(store: Store) -> None:
    """Whoever sees a removal missing sees the floor above it: looked at whenever the loop runs while it is dropped."""
    await store.commit([draft(f"dam/{n}", State.DELETED) for n in range(50)])
    dropping = asyncio.create_task(store.drop_gone(before=1.0, keep=never))
    while not dropping.done():
        await asyncio.sleep(0)
        missing = {*range(1, 51)} - {entry.revision for entry in store.after(0, store.head)}
        assert store.floor >= max(missing, default=0)
    assert await dropping == 50


async def test_the_floor_is_raised_in_the_moment_removals_are_chosen(store: Store) -> None:
    """From then on nobody may resume from below it, since nobody asks again whether what was chosen is wanted."""
    await store.commit([draft(f"dam/{n}", State.DELETED) for n in range(50)])
    chosen: list[AssetKey] = []

    def keep(key: AssetKey) -> bool:
        chosen.append(key)
        return False

    dropping = asyncio.create_task(store.drop_gone(before=1.0, keep=keep))
    while not dropping.done():
        assert store.floor == len(chosen)
        await asyncio.sleep(0)
    assert (await dropping, store.floor) == (50, 50)


async def test_removals_are_chosen_some_at_a_time(store: Store) -> None:
    """However many there are, others have a turn before many of them were looked at."""
    await store.commit([draft(f"dam/{n}", State.DELETED) for n in range(3 * DROPPED_TOGETHER)])
    looks = [0]

    def keep(_: AssetKey) -> bool:
        looks[-1] += 1
        return True

    dropping = asyncio.create_task(store.drop_gone(before=1.0, keep=keep))
    while not dropping.done():
        looks.append(0)
        await asyncio.sleep(0)
    assert (sum(looks), max(looks), store.floor) == (3 * DROPPED_TOGETHER, DROPPED_TOGETHER, 0)


async def test_the_head_stays_when_the_newest_is_dropped(store: Store) -> None:
    """A revision is never given twice, though its entry is dropped."""
    await store.commit([draft("dam/a", State.DELETED)])
    await store.drop_gone(before=1.0, keep=never)
    assert store.head == 1
    [entry] = await store.commit([draft("dam/a")])
    assert entry.revision == 2


async def test_an_asset_that_comes_back_while_removals_are_dropped(store: Store) -> None:
    """A commit during drop_gone is not lost by it."""
    await store.commit([draft("dam/a", State.DELETED)])
    await asyncio.gather(store.drop_gone(before=1.0, keep=never), store.commit([draft("dam/a")]))
    entry = store.get(AssetKey("dam", "a"))
    assert entry is not None
    assert (entry.revision, entry.gone, store.count("dam")) == (2, False, 1)


async def test_concurrent_commits_are_numbered_in_the_order_of_their_calls(store: Store) -> None:
    """Commits waiting together get numbers in the order they were asked for, each commit without a gap."""
    commits = await asyncio.gather(*[store.commit([draft(f"dam/{n}"), draft(f"usd/{n}")]) for n in range(50)])
    assert [entry.revision for entries in commits for entry in entries] == list(range(1, 101))
    assert [entry.key.asset_id for entry in store.after(0, 100)] == [str(n // 2) for n in range(100)]


async def test_nothing_is_seen_before_it_is_committed(store: Store) -> None:
    """head, after() and get() move together, and only when a whole commit is in."""
    committing = asyncio.create_task(store.commit([draft(f"dam/{n}") for n in range(100)]))
    while not committing.done():
        seen = len(store.after(0, 1000))
        assert (seen, store.count("dam")) == (store.head, store.head)
        assert seen in (0, 100)
        await asyncio.sleep(0)
    assert len(await committing) == store.head == 100


@pytest.mark.parametrize("kind", KINDS)
async def test_the_epoch_names_one_store(kind: str, tmp_path: Path, clock: Clock) -> None:
    """The epoch is 16 hexadecimal digits and another in every new store."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = [await open_store(kind, tmp_path / folder, clock) for folder in ("one", "two")]
    assert len(bytes.fromhex(one.epoch)) == 8
    assert one.epoch != two.epoch
    await one.close()
    await two.close()


async def test_it_continues_its_own_epoch_alone(store: Store) -> None:
    """What it counted itself it continues, also what it has not counted yet; nothing of another epoch."""
    await store.commit([draft("dam/a")])
    assert [store.continues(store.epoch, revision) for revision in (0, 1, 99)] == [True, True, True]
    assert not store.continues("0" * 16, 0)


async def test_what_never_was_is_forgotten_at_once(store: Store) -> None:
    """Nobody finds it any more, head and floor stay, and it can come back as any other; what is there stays."""
    await store.commit([draft("dam/never", State.MISSING), draft("dam/there"), draft("dam/never too", State.MISSING)])
    for asset_id in ("never", "there", "nowhere"):
        store.forget(AssetKey("dam", asset_id))
    assert store.get(AssetKey("dam", "never")) is None
    assert [entry.key.asset_id for entry in store.after(0, store.head)] == ["there", "never too"]
    assert (store.head, store.floor, store.count("dam")) == (3, 0, 1)
    await store.commit([draft("dam/never")])
    assert [(entry.key.asset_id, entry.revision) for entry in store.after(2, 4)] == [("never too", 3), ("never", 4)]
