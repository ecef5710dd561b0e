"""The store over a real etcd: what several replicas see of it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.store.etcd.keys import Keys
from assetwatchd.changefeed.store.etcd.store import EtcdStore
from assetwatchd.etcd.client import EtcdClient
from assetwatchd.etcd.connection import Access
from assetwatchd.etcd.errors import NoSpace
from assetwatchd.etcd.operations import delete, put
from assetwatchd.model.errors import HistoryBroken, NotOwner, ResumeEpochChanged
from assetwatchd.model.values import AssetKey, State
from assetwatchd.runtime import failpoints
from support.entries import draft, seal
from support.etcd import client_of, post, restore, running, save
from support.owning import Owning, owning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Entry

PATIENCE_S = 20.0
DIGEST = b"12345678"


@pytest.fixture
async def replicas(etcd: Cluster, etcd_prefix: str) -> AsyncIterator[list[EtcdStore]]:
    """Two, of which the first may write dam, and the second usd."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(owning(client(etcd), etcd_prefix, source)) for source in ("dam", "usd")]


def client(cluster: Cluster) -> EtcdClient:
    return EtcdClient(Access(cluster.endpoints))


async def alike(*stores: EtcdStore) -> None:
    """Wait until all have what any of them has, and compare all of it."""
    last = max(store.mirror.revision for store in stores)
    for store in stores:
        await asyncio.wait_for(store.mirror.reached(last), PATIENCE_S)
    first, *others = stores
    for other in others:
        assert other.after(0, other.head) == first.after(0, first.head)
        assert other.mirror.contents.others == first.mirror.contents.others
        assert (other.epoch, other.floor) == (first.epoch, first.floor)


def token(store: Store, revision: int | None = None) -> str:
    return resume_token.encode(epoch=store.epoch, revision=revision or store.head, digest=DIGEST)


def continues(store: Store, text: str) -> bool:
    try:
        resume_token.check(text, digest=DIGEST, store=store)
    except ResumeEpochChanged:
        return False
    return True


async def test_all_replicas_read_the_same(replicas: list[EtcdStore]) -> None:
    """Entries, byte by byte, floors, and everything else, whoever wrote it; also one that begins later."""
    one, other = replicas
    moved = asyncio.Event()
    one.mirror.moved = moved.set
    await one.commit([draft(f"dam/{n}", State.DELETED) for n in range(5)])
    moved.clear()
    await other.commit([draft("usd/a", traceparent="00-ab-cd-01"), draft("usd/b", State.DELETED)])
    await asyncio.wait_for(moved.wait(), PATIENCE_S)
    await alike(other, one)
    await one.drop_gone(before=1e12, keep=lambda key: key.asset_id == "4")
    await alike(one, other)
    assert [key.asset_id for key in other.keys("dam")] == ["4"]
    third = await EtcdStore.open(one._client, prefix=one._names.prefix.decode(), seal=seal)
    await alike(third, one, other)


async def test_a_source_is_written_by_its_owner_alone(replicas: list[EtcdStore]) -> None:
    """Who never was it is told so, and nothing happens; who was writes nothing, though he has not heard of it yet."""
    one, other = replicas
    with pytest.raises(NotOwner, match="source usd is not this process's to write"):
        await one.commit([draft("usd/a")])

    class Stale:
        def __init__(self, term: int) -> None:
            self._term = term

        def term(self, source: str) -> int | None:
            return self._term if source == "dam" else None

    terms = Owning(other, other._client, other._names.prefix.decode())
    one.terms = Stale(one.terms.term("dam") or 0)
    await terms.snatch("dam")
    with pytest.raises(NotOwner):
        await one.commit([draft("dam/a")])
    [entry] = await other.commit([draft("dam/b")])
    await alike(other, one)
    assert one.after(0, one.head) == [entry]


async def test_the_highest_floor_stays(replicas: list[EtcdStore], etcd: Cluster, etcd_prefix: str) -> None:
    """Whoever drops last: a replica that starts then knows the highest."""
    one, other = replicas
    await one.commit([draft("dam/a", State.DELETED)])
    [high] = await other.commit([draft("usd/a", State.DELETED)])
    for store in (other, one):
        assert await store.drop_gone(before=1e12, keep=lambda _: False) == 1
    async with owning(client(etcd), etcd_prefix) as third:
        assert third.floor == high.revision


async def test_what_is_forgotten_goes_everywhere(replicas: list[EtcdStore]) -> None:
    """Here at once, and soon elsewhere; what has come back meanwhile stays."""
    one, other = replicas
    await one.commit([draft(f"dam/{name}", State.MISSING) for name in ("never", "back")])
    for name in ("never", "back"):
        one.forget(AssetKey("dam", name))
    await one.commit([draft("dam/back")])
    await asyncio.wait_for(other.mirror.reached(one.mirror.revision), PATIENCE_S)
    moved = asyncio.Event()
    other.mirror.moved = moved.set
    await asyncio.wait_for(other.mirror.reached(one.mirror.revision), PATIENCE_S)  # it has heard of both by then
    async with asyncio.timeout(PATIENCE_S):
        while other.get(AssetKey("dam", "never")) is not None:
            await moved.wait()
            moved.clear()
    assert [entry.key.asset_id for entry in one.after(0, one.head)] == ["back"]
    await alike(one, other)
    assert one.floor == 0


async def test_a_commit_of_any_size(replicas: list[EtcdStore]) -> None:
    """More drafts, or bytes, than a transaction takes are several of them, in order."""
    one, other = replicas
    drafts = [draft(f"dam/{n}", pad_bytes=30_000 if n < 60 else 0) for n in range(500)]
    entries = await one.commit(drafts)
    assert [entry.key for entry in entries] == [each.key for each in drafts]
    assert list(one.after(0, one.head)) == list(entries)
    await alike(one, other)


async def test_what_is_too_large_is_left_out(etcd: Cluster, etcd_prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    """All else is kept, and of it is said once what to do."""
    async with owning(client(etcd), etcd_prefix, "dam") as store:
        await store.commit([draft("dam/large"), draft("dam/a")])
        drafts = [draft("dam/large", State.FAILED, pad_bytes=3_000_000), draft("dam/b")]
        for _ in range(2):
            entries = await store.commit(drafts)
            assert [entry.key.asset_id for entry in entries] == ["b"]
    large = store.get(AssetKey("dam", "large"))
    assert large is not None
    assert large.state is State.AVAILABLE
    [said] = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert "asset large, 3000" in said
    assert "--max-request-bytes" in said


async def test_less_than_usual_is_more_transactions(tmp_path: Path) -> None:
    """Where etcd takes less than it does by default, no status is left out for those beside it."""
    with running(tmp_path, 1, "--max-txn-ops=20", "--max-request-bytes=100000") as cluster:
        async with owning(client(cluster), "/aw/", "dam") as store:
            entries = await store.commit([draft(f"dam/{n}", pad_bytes=4000) for n in range(110)])
            assert [entry.key.asset_id for entry in entries] == [str(n) for n in range(110)]
            assert list(store.after(0, store.head)) == list(entries)


async def test_a_full_etcd_keeps_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    """A StoreError, as of a full disk: nothing is half kept; once there is room it goes on, and reads never stopped."""
    with running(tmp_path, 1, "--quota-backend-bytes=4000000") as cluster:
        async with owning(client(cluster), "/aw/", "dam") as store:
            kept: list[Entry] = []

            async def fill() -> None:
                while True:
                    kept[:] = await store.commit([draft("dam/a", pad_bytes=100_000)])

            with pytest.raises(NoSpace, match="etcdctl alarm disarm") as refused:
                await asyncio.wait_for(fill(), PATIENCE_S)
            assert "127.0.0.1" not in refused.value.told
            assert list(store.after(0, store.head)) == kept
            await make_room(cluster, upto=store.mirror.revision)
            [entry] = await store.commit([draft("dam/b")])
            assert list(store.after(0, store.head)) == [*kept, entry]


async def make_room(cluster: Cluster, *, upto: int) -> None:
    """Do as the error says."""
    [member] = cluster.members
    async with client_of(member.endpoint) as operator:
        await operator.compact(upto, physical=True)
        post(member, "/v3/maintenance/defragment", {})
        for alarm in await operator.alarms():
            said = {"action": "DEACTIVATE", "memberID": str(alarm.member), "alarm": alarm.kind}
            post(member, "/v3/maintenance/alarm", said)


# Epochs and tokens ---------------------------------------------------------------------------------------------------


async def test_starts_at_the_same_time_each_begin_an_epoch(etcd: Cluster, etcd_prefix: str) -> None:
    """One after the other, none lost, and all replicas count in the last one in the end."""
    async with AsyncExitStack() as stack:
        starting = [owning(client(etcd), etcd_prefix) for _ in range(8)]
        stores = await asyncio.gather(*[stack.enter_async_context(each) for each in starting])
        await alike(*stores)
        known = stores[0].mirror.contents.epochs
        ends = list(known.ended.values())
        assert len({known.current, *known.ended}) == 8
        assert ends == sorted(set(ends))


async def test_tokens_go_on_anywhere(etcd: Cluster, etcd_prefix: str) -> None:
    """A token of one replica is good at every other, then and after all of them were started anew.

    One that says more than its epoch counted is not: nobody was given it here.
    """
    given, beyond = list[str](), list[str]()
    for _ in range(3):
        async with owning(client(etcd), etcd_prefix) as other, owning(client(etcd), etcd_prefix) as store:
            terms = Owning(store, store._client, etcd_prefix)
            await terms.snatch("dam")
            await store.commit([draft("dam/a")])
            await alike(store, other)
            given.append(token(store))
            for each in (store, other):
                assert all(continues(each, text) for text in given)
                assert not any(continues(each, text) for text in beyond)
            beyond.append(token(store, store.head + (1 << 20)))


async def test_a_running_replica_counts_in_the_epoch_of_a_newer_one(etcd: Cluster, etcd_prefix: str) -> None:
    """So a token that it gives is good when the newer one has gone."""
    async with owning(client(etcd), etcd_prefix, "dam") as store:
        before = store.epoch
        async with owning(client(etcd), etcd_prefix) as newer:
            await alike(newer, store)
            assert store.epoch == newer.epoch != before
            assert store.continues(before, 0)


# Away, and back ----------------------------------------------------------------------------------------------------


async def test_all_is_read_anew_after_a_compaction(etcd: Cluster, etcd_prefix: str) -> None:
    """What went meanwhile is gone, with the floor above it; of other keys it is told how they differ."""
    async with owning(client(etcd), etcd_prefix, "dam") as store:
        await store.commit([draft(f"dam/{n}", State.DELETED) for n in range(3)])
        prefix = Keys(etcd_prefix)
        for name in (b"c/1", b"c/2"):
            await store._client.txn((), (put(prefix.named(name), b"1"),))
        other = await EtcdStore.open(client(etcd), prefix=etcd_prefix, seal=seal)
        told: list[tuple[bytes, bytes | None]] = []
        other.mirror.subscribe(b"c/", lambda name, key: told.append((name, key and key.value)))
        assert await store.drop_gone(before=1e12, keep=lambda key: key.asset_id == "0") == 2
        await store.commit([draft("dam/new")])
        last = await store._client.txn(
            (), (delete(prefix.named(b"c/1")), put(prefix.named(b"c/2"), b"2"), put(prefix.named(b"c/3"), b"3"))
        )
        await store._client.compact(last.revision)
        following = asyncio.create_task(other.run(lambda: None))
        await alike(store, other)
        assert other.rereads == 1
        assert told[:2] == [(b"c/1", b"1"), (b"c/2", b"1")]
        assert sorted(told[2:]) == [(b"c/1", None), (b"c/2", b"2"), (b"c/3", b"3")]
        await store.commit([draft("dam/newer")])
        await alike(store, other)
        following.cancel()
        await asyncio.wait([following])
        await other.close()


async def test_older_files_put_back_end_whoever_read_more(tmp_path: Path) -> None:
    """At once when they are looked at; a new replica goes on from them, and refuses tokens of what was lost."""
    with running(tmp_path) as cluster:
        async with owning(client(cluster), "/aw/", "dam") as store:
            await store.commit([draft("dam/a")])
            good = token(store)
            saved = copied(cluster)
            await store.commit([draft("dam/b")])
            lost = token(store)
            put_back(cluster, saved)
            with pytest.raises(HistoryBroken, match="start the service again"):
                await asyncio.wait_for(store.run(lambda: None), PATIENCE_S)
        async with owning(client(cluster), "/aw/") as again:
            assert [entry.key.asset_id for entry in again.after(0, again.head)] == ["a"]
            assert continues(again, good)
            assert not continues(again, lost)


async def test_older_files_that_were_gone_on_with_end_whoever_read_others(tmp_path: Path) -> None:
    """Its revisions are beyond those that were read, and that they count something else is seen before any is taken."""
    with running(tmp_path) as cluster:
        store = await EtcdStore.open(client(cluster), prefix="/aw/", seal=seal)
        terms = Owning(store, client(cluster), "/aw/")
        following = asyncio.create_task(store.run(lambda: None))
        assert await terms.take("dam")
        saved = copied(cluster)
        await store.commit([draft("dam/lost")])
        following.cancel()
        await asyncio.wait([following])
        put_back(cluster, saved)
        async with owning(client(cluster), "/aw/") as other:
            assert await Owning(other, client(cluster), "/aw/").snatch("dam")
            for number in range(9):
                await other.commit([draft(f"dam/{number}")])
            assert other.head > store.head
        with pytest.raises(HistoryBroken):
            await asyncio.wait_for(store.run(lambda: None), PATIENCE_S)
        assert [entry.key.asset_id for entry in store.after(0, store.head)] == ["lost"]
        await store.close()


@pytest.mark.parametrize("flags", [(), ("--bump-revision", "1000000000", "--mark-compacted")])
async def test_tokens_after_a_backup_was_put_back(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """While nobody served, with revisions counted again or moved on: those up to the backup go on, and no later one."""
    with running(tmp_path) as cluster:
        async with owning(client(cluster), "/aw/", "dam") as store:
            await store.commit([draft("dam/kept")])
            kept = token(store)
            backup = save(cluster.members[0], tmp_path / "backup")
            await store.commit([draft("dam/lost")])
            lost = token(store)
        restore(cluster, backup, *flags)
        async with owning(client(cluster), "/aw/") as other:
            assert [entry.key.asset_id for entry in other.after(0, other.head)] == ["kept"]
            assert continues(other, kept)
            assert not continues(other, lost)
            now = token(other)
        async with owning(client(cluster), "/aw/") as again:
            assert continues(again, now)
            assert not continues(again, lost)


def copied(cluster: Cluster) -> Path:
    """Copy a member's files as they are."""
    [member] = cluster.members
    member.kill()
    copy = member.folder / "copy"
    shutil.copytree(member.data, copy)
    member.start()
    member.wait()
    return copy


def put_back(cluster: Cluster, copy: Path) -> None:
    """Have a member begin from files again."""
    [member] = cluster.members
    member.kill()
    shutil.rmtree(member.data)
    shutil.copytree(copy, member.data)
    member.start()
    member.wait()


async def test_a_replica_that_hears_nothing_says_so(tmp_path: Path) -> None:
    """Its member has lost the others: it is cut off until they are back, and goes on from where it was."""
    with running(tmp_path, 3) as cluster:
        near, *others = cluster.members
        async with owning(EtcdClient(Access((near.endpoint,))), "/aw/", "dam") as store:
            said: asyncio.Queue[bool] = asyncio.Queue()
            store.currency.subscribe(said.put_nowait)
            await store.commit([draft("dam/a")])
            for member in others:
                member.pause()
            async with asyncio.timeout(PATIENCE_S):
                assert await said.get()
            assert store.currency.cut_off
            assert store.currency.lag_s >= 3
            committing = asyncio.create_task(store.commit([draft("dam/b")]))
            for member in others:
                member.go_on()
            async with asyncio.timeout(PATIENCE_S):
                assert not await said.get()
            [entry] = await asyncio.wait_for(committing, PATIENCE_S)
            assert [each.revision for each in store.after(0, store.head)][-1] == entry.revision
            assert store.count("dam") == 2


async def test_a_commit_that_is_cut_short_is_kept_once(etcd: Cluster, etcd_prefix: str) -> None:
    """Its caller is cancelled between etcd's answer and ours; the next one finds out, and goes on."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def stand() -> None:
        reached.set()
        await go_on.wait()

    async with owning(client(etcd), etcd_prefix, "dam") as store:
        failpoints.arm("after_txn_before_ack", stand)
        try:
            first = asyncio.create_task(store.commit([draft("dam/a")]))
            await asyncio.wait_for(reached.wait(), PATIENCE_S)
            first.cancel()
            failpoints.disarm()
            second = asyncio.create_task(store.commit([draft("dam/b")]))
            await asyncio.sleep(0)
            go_on.set()
            [entry] = await asyncio.wait_for(second, PATIENCE_S)
        finally:
            failpoints.disarm()
        assert [each.key.asset_id for each in store.after(0, store.head)] == ["a", "b"]
        assert entry.key.asset_id == "b"
