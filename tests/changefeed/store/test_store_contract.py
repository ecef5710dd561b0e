"""The one contract of every store.

Revisions rise, and need not be contiguous; a commit is of one source.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed.store.ledger_store import DROPPED_TOGETHER
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.changefeed.store.sqlite import SqliteStore
from assetwatchd.etcd.client import EtcdClient
from assetwatchd.etcd.connection import Access
from assetwatchd.model.values import AssetKey, Entry, Freshness, State
from support.clock import Clock
from support.entries import draft
from support.model_etcd import ModelClient, ModelEtcd
from support.owning import owning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.changefeed.store.port import Store

KINDS = (
    pytest.param("memory", marks=pytest.mark.unit),
    pytest.param("sqlite", marks=pytest.mark.unit),
    pytest.param("model of etcd", marks=pytest.mark.unit),
    "etcd",
)


@asynccontextmanager
async def opened(request: pytest.FixtureRequest, folder: Path, clock: Clock) -> AsyncIterator[Store]:
    """Open an empty store of the kind that is asked for; in etcd it may write the sources dam and usd."""
    if request.param == "memory":
        yield MemoryStore(now=clock)
    elif request.param == "sqlite":
        file = await SqliteStore.open(folder / "db", now=clock)
        yield file
        await file.close()
    else:
        async with owning(client_of(request), f"/{uuid.uuid4().hex}/", "dam", "usd", now=clock) as shared:
            yield shared


def client_of(request: pytest.FixtureRequest) -> EtcdClient:
    if request.param == "etcd":
        cluster: Cluster = request.getfixturevalue("etcd")
        return EtcdClient(Access(cluster.endpoints))
    return ModelClient(ModelEtcd())


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with opened(request, tmp_path, clock) as store:
        yield store


@pytest.fixture(params=KINDS)
async def stores(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[list[Store]]:
    """Two of a kind, that have nothing to do with each other."""
    async with AsyncExitStack() as stack:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        yield [await stack.enter_async_context(opened(request, tmp_path / name, clock)) for name in ("one", "two")]


def never(_: AssetKey) -> bool:
    return False


async def test_starts_empty(store: Store) -> None:
    """A new store has forgotten nothing and holds nothing."""
    assert store.floor == 0
    assert list(store.after(0, store.head)) == []
    assert store.get(AssetKey("dam", "a")) is None
    assert list(store.keys("dam")) == []
    assert store.count("dam") == 0


async def test_revisions_follow_the_order_of_drafts(store: Store) -> None:
    """Revisions rise in the order given, over all commits of all sources; none is above the head, each new one is."""
    entries, heads = list[Entry](), [store.head]
    for names in (["dam/a", "dam/b"], ["usd/b"], ["dam/c"]):
        entries += await store.commit([draft(name) for name in names])
        heads.append(store.head)
    assert [entry.key.asset_id for entry in entries] == ["a", "b", "b", "c"]
    a, b, other_b, c = (entry.revision for entry in entries)
    assert heads[0] < a < b <= heads[1] < other_b <= heads[2] < c <= heads[3]


async def test_an_empty_commit_counts_nothing(store: Store) -> None:
    """Committing no drafts gives no entries and moves nothing."""
    head = store.head
    assert list(await store.commit([])) == []
    assert store.head == head


async def test_an_entry_is_what_was_drafted(store: Store, clock: Clock) -> None:
    """Every field of the draft is in the entry that can be read, its bytes sealed with its own revision.

    It says when it was committed, however long before that it was found.
    """
    clock.now_s = 3600.0
    given = draft("dam/a", State.FAILED, at=12.25, freshness=Freshness.STALE, traceparent="00-ab-cd-01")
    [entry] = await store.commit([given])
    assert store.get(AssetKey("dam", "a")) == entry == given.entry(entry.revision, committed_at=3600.0)


@pytest.mark.parametrize("asset_id", ["ü+%#/?", "a\0b", "", "'; DROP TABLE entries; --", "\U0001f6d2" * 300, "A"])
async def test_any_text_is_an_asset_id(store: Store, asset_id: str) -> None:
    """Ids are opaque: whatever text they are, they are found again, and told from others."""
    await store.commit([draft(f"dam/{asset_id}", State.FAILED), draft("dam/a", State.PENDING)])
    entry = store.get(AssetKey("dam", asset_id))
    assert entry is not None
    assert (entry.key.asset_id, entry.state) == (asset_id, State.FAILED)


async def test_after_gives_the_latest_of_each_asset_in_order(store: Store) -> None:
    """An asset that changed again moves to the end: it is found once, at its newest revision."""
    _, b, c = await store.commit([draft("dam/a"), draft("dam/b"), draft("dam/c")])
    [a] = await store.commit([draft("dam/a", State.FAILED)])
    assert list(store.after(0, store.head)) == [b, c, a]


async def test_after_excludes_its_cursor_and_includes_its_end(store: Store) -> None:
    """after(cursor, upto) is cursor < revision <= upto."""
    revisions = [entry.revision for entry in await store.commit([draft(f"dam/{n}") for n in range(1, 6)])]
    ends = [0, *revisions, revisions[-1] + 1]
    found = {(c, u): [e.revision for e in store.after(c, u)] for c in ends for u in ends}
    assert found == {(c, u): [n for n in revisions if c < n <= u] for c in ends for u in ends}


async def test_a_slice_is_frozen(store: Store) -> None:
    """What after() returned does not change when assets change, come and go."""
    await store.commit([draft("dam/a"), draft("dam/b", State.DELETED)])
    taken = store.after(0, store.head)
    before = list(taken)
    await store.commit([draft("dam/a", State.FAILED), draft("dam/c")])
    await store.drop_gone(before=1.0, keep=never)
    assert list(taken) == before
    assert [entry.key.asset_id for entry in before] == ["a", "b"]


async def test_an_asset_twice_in_one_commit(store: Store) -> None:
    """Both drafts get a number; the later one is what remains."""
    entries = await store.commit([draft("dam/a", State.PENDING), draft("dam/a", State.FAILED)])
    assert entries[0].revision < entries[1].revision
    assert list(store.after(0, store.head)) == [entries[1]]
    assert entries[1].state is State.FAILED
    assert store.count("dam") == 1


async def test_gone_entries_remain_and_are_not_counted(store: Store) -> None:
    """A removal is an entry as any other, found by key and by revision; count leaves it out until the asset is back."""
    await store.commit([draft("dam/a"), draft("dam/b")])
    await store.commit([draft("usd/a")])
    cursor = store.head
    [gone] = await store.commit([draft("dam/a", State.DELETED)])
    assert store.get(AssetKey("dam", "a")) == gone
    assert gone.gone
    assert store.after(cursor, store.head) == [gone]
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
        [last] = await store.commit([draft(f"dam/{name}", state)])
    assert await store.drop_gone(before=1.0, keep=never) == 0
    assert store.floor == 0
    assert await store.drop_gone(before=3.0, keep=never) == 1
    assert store.floor == last.revision
    assert await store.drop_gone(before=10.0, keep=never) == 1
    assert store.floor == last.revision


async def test_the_floor_is_raised_before_anything_is_dropped(store: Store) -> None:
    """Whoever sees a removal missing sees the floor above it: looked at whenever the loop runs while it is dropped."""
    entries = await store.commit([draft(f"dam/{n}", State.DELETED) for n in range(50)])
    dropping = asyncio.create_task(store.drop_gone(before=1.0, keep=never))
    while not dropping.done():
        await asyncio.sleep(0)
        missing = {entry.revision for entry in entries} - {entry.revision for entry in store.after(0, store.head)}
        assert store.floor >= max(missing, default=0)
    assert await dropping == 50


async def test_the_floor_is_raised_in_the_moment_removals_are_chosen(store: Store) -> None:
    """From then on nobody may resume from below it, since nobody asks again whether what was chosen is wanted."""
    revisions = [entry.revision for entry in await store.commit([draft(f"dam/{n}", State.DELETED) for n in range(50)])]
    chosen = [0]

    def keep(key: AssetKey) -> bool:
        chosen.append(revisions[int(key.asset_id)])
        return False

    dropping = asyncio.create_task(store.drop_gone(before=1.0, keep=keep))
    while not dropping.done():
        assert store.floor == chosen[-1]
        await asyncio.sleep(0)
    assert (await dropping, store.floor, chosen) == (50, revisions[-1], [0, *revisions])


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
    [gone] = await store.commit([draft("dam/a", State.DELETED)])
    await store.drop_gone(before=1.0, keep=never)
    assert store.head >= gone.revision
    [entry] = await store.commit([draft("dam/a")])
    assert entry.revision > gone.revision


async def test_an_asset_that_comes_back_while_removals_are_dropped(store: Store) -> None:
    """A commit during drop_gone is not lost by it."""
    await store.commit([draft("dam/a", State.DELETED)])
    _, [entry] = await asyncio.gather(store.drop_gone(before=1.0, keep=never), store.commit([draft("dam/a")]))
    assert store.get(AssetKey("dam", "a")) == entry
    assert (entry.gone, store.count("dam")) == (False, 1)


async def test_concurrent_commits_are_numbered_in_the_order_of_their_calls(store: Store) -> None:
    """Commits of a source that wait together get revisions in the order they were asked for."""
    commits = await asyncio.gather(*[store.commit([draft(f"dam/{n}"), draft(f"dam/{n}+")]) for n in range(150)])
    entries = [entry for commit in commits for entry in commit]
    assert [entry.key.asset_id for entry in entries] == [text for n in range(150) for text in (f"{n}", f"{n}+")]
    assert all(one.revision < other.revision for one, other in pairwise(entries))
    assert list(store.after(0, store.head)) == entries


async def test_nothing_is_seen_before_it_is_committed(store: Store) -> None:
    """head, after() and get() move together, and only when a whole commit is in."""
    committing = asyncio.create_task(store.commit([draft(f"dam/{n}") for n in range(100)]))
    while not committing.done():
        assert (len(store.after(0, store.head)), store.count("dam")) in ((0, 0), (100, 100))
        await asyncio.sleep(0)
    assert list(await committing) == list(store.after(0, store.head))


async def test_the_epoch_names_one_store(stores: list[Store]) -> None:
    """The epoch is 16 hexadecimal digits and another in every new store."""
    one, two = stores
    assert len(bytes.fromhex(one.epoch)) == 8
    assert one.epoch != two.epoch


async def test_it_continues_its_own_epoch_alone(store: Store) -> None:
    """What it counted itself it continues, also what it has not counted yet; nothing of another epoch."""
    await store.commit([draft("dam/a")])
    assert [store.continues(store.epoch, revision) for revision in (0, 1, 99)] == [True, True, True]
    assert not store.continues("0" * 16, 0)


async def test_what_never_was_is_forgotten_at_once(store: Store) -> None:
    """Nobody finds it any more, head and floor stay, and it can come back as any other; what is there stays."""
    await store.commit([draft("dam/never", State.MISSING), draft("dam/there"), draft("dam/never too", State.MISSING)])
    head = store.head
    for asset_id in ("never", "there", "nowhere"):
        store.forget(AssetKey("dam", asset_id))
    assert store.get(AssetKey("dam", "never")) is None
    assert [entry.key.asset_id for entry in store.after(0, store.head)] == ["there", "never too"]
    assert (store.head, store.floor, store.count("dam")) == (head, 0, 1)
    await store.commit([draft("dam/never")])
    assert [entry.key.asset_id for entry in store.after(0, store.head)] == ["there", "never too", "never"]
