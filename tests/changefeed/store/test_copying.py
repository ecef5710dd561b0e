"""A whole store copied, from SQLite into etcd and back: every token goes on, or is refused as before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assetwatchd.app import copy_store
from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.batches import check_floor
from assetwatchd.changefeed.store.etcd.keys import COPYING, Keys
from assetwatchd.changefeed.store.sqlite import SqliteStore
from assetwatchd.etcd.client import EtcdClient
from assetwatchd.etcd.connection import Access
from assetwatchd.etcd.operations import delete, put
from assetwatchd.model.errors import CallError, StoreError
from assetwatchd.model.values import State
from assetwatchd.rpc.convert import ProtobufEncoder
from assetwatchd.settings.schema import EtcdStoreSettings, MemoryStoreSettings, SqliteStoreSettings
from support.clock import Clock
from support.entries import draft
from support.etcd import client_of
from support.owning import owning

if TYPE_CHECKING:
    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.changefeed.store.port import Store

DIGEST = b"12345678"


def in_sqlite(path: Path) -> SqliteStoreSettings:
    return SqliteStoreSettings(kind="sqlite", path=str(path))


def in_etcd(cluster: Cluster, prefix: str) -> EtcdStoreSettings:
    return EtcdStoreSettings(
        kind="etcd",
        endpoints=cluster.endpoints,
        prefix=prefix,
        peer_token_file=Path(__file__),
        peer_listen="127.0.0.1:1",
    )


async def change(store: Store, clock: Clock, *, last: str) -> None:
    """Let some assets come, change and go, and some removals be dropped."""
    clock.now_s += 10.0
    await store.commit([draft(f"dam/{n}", traceparent="00-ab-cd-01") for n in range(150)])
    await store.commit([draft(f"dam/{n}", State.DELETED) for n in range(20)])
    clock.now_s += 10.0
    await store.commit([draft(f"dam/{n}", State.DELETED) for n in range(20, 40)])
    assert await store.drop_gone(before=clock.now_s, keep=lambda _: False) == 20
    await store.commit([draft(f"usd/{last}", State.FAILED)])


def tokens_of(store: Store) -> list[str]:
    """Every token that a client may have of this run, and two that nobody has: from beyond it, and of another store."""
    revisions = [0, *(entry.revision for entry in store.after(0, store.head)), store.head, store.head + (1 << 20)]
    tokens = [resume_token.encode(epoch=store.epoch, revision=revision, digest=DIGEST) for revision in revisions]
    return [*tokens, resume_token.encode(epoch="0" * 16, revision=5, digest=DIGEST)]


def answers(store: Store, tokens: list[str]) -> list[object]:
    """What each is answered with: entries, or the kind of a refusal."""
    return [_answer(store, token) for token in tokens]


def _answer(store: Store, token: str) -> object:
    try:
        revision = resume_token.check(token, digest=DIGEST, store=store)
        check_floor(store, revision)
    except CallError as refused:
        return type(refused)
    return list(store.after(revision, store.head))


async def test_from_sqlite_into_etcd_and_back(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """Every token of both is answered as it was where it came from, and with what came since; revisions go on."""
    clock, old, new = Clock(1e9), in_sqlite(tmp_path / "old.db"), in_sqlite(tmp_path / "new.db")
    tokens = list[str]()
    for last in ("one", "two"):
        store = await SqliteStore.open(tmp_path / "old.db", now=clock)
        await change(store, clock, last=last)
        tokens += tokens_of(store)
        await store.close()
    store = await SqliteStore.open(tmp_path / "old.db", now=clock)
    before, head, floor = answers(store, tokens), store.head, store.floor
    await store.close()

    shared = in_etcd(etcd, etcd_prefix)
    seal = ProtobufEncoder().seal  # as copy_store has it
    copied = await copy_store(old, shared)
    assert (copied.head, copied.floor) == (head, floor)
    async with owning(EtcdClient(Access(etcd.endpoints)), etcd_prefix, "dam", "usd", now=clock, seal=seal) as replica:
        assert answers(replica, tokens) == before
        assert replica.floor == floor
        await change(replica, clock, last="three")
        assert min(entry.revision for entry in replica.after(head, replica.head)) > head
        tokens += tokens_of(replica)
    async with owning(EtcdClient(Access(etcd.endpoints)), etcd_prefix, seal=seal) as replica:
        before, epoch = answers(replica, tokens), replica.epoch
        last = resume_token.encode(epoch=epoch, revision=replica.head, digest=DIGEST)

    with pytest.raises(StoreError, match="replicas use what is below"):
        await copy_store(shared, new)
    async with client_of(*etcd.endpoints) as client:
        await client.txn((), [delete(Keys(etcd_prefix).owner(source)) for source in ("dam", "usd")])
    await copy_store(shared, new)
    store = await SqliteStore.open(tmp_path / "new.db", now=clock)
    assert answers(store, tokens) == before
    assert answers(store, [last]) == [[]]
    [entry] = await store.commit([draft("dam/new")])
    assert answers(store, [last]) == [[entry]]
    await change(store, clock, last="four")
    await store.close()


async def test_what_cannot_be_copied_is_said(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """And nothing is changed: neither where something is, nor where nothing is."""
    full, shared = in_sqlite(tmp_path / "full.db"), in_etcd(etcd, etcd_prefix)
    store = await SqliteStore.open(tmp_path / "full.db")
    await store.commit([draft("dam/a")])
    with pytest.raises(StoreError, match="is in use by another process"):
        await copy_store(full, shared)
    await store.close()
    for old, new, why in (
        (in_sqlite(tmp_path / "none.db"), shared, "is not there: nothing to copy"),
        (MemoryStoreSettings(kind="memory"), shared, "nothing to copy"),
        (full, MemoryStoreSettings(kind="memory"), "nowhere to copy to"),
        (shared, in_sqlite(tmp_path / "new.db"), "no whole store is below"),
    ):
        with pytest.raises(StoreError, match=why):
            await copy_store(old, new)
    await copy_store(full, shared)
    for old, new, why in (
        (full, shared, "something is below .* already"),
        (shared, full, "has something in it already"),
    ):
        with pytest.raises(StoreError, match=why):
            await copy_store(old, new)


async def test_a_copy_that_was_broken_off_is_no_store(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """No replica begins with it, and it is not copied on."""
    async with client_of(*etcd.endpoints) as client:
        await client.txn((), (put(Keys(etcd_prefix).named(COPYING), b""),))
    with pytest.raises(StoreError, match="goes on or was broken off"):
        async with owning(EtcdClient(Access(etcd.endpoints)), etcd_prefix):
            pass
    with pytest.raises(StoreError, match="no whole store"):
        await copy_store(in_etcd(etcd, etcd_prefix), in_sqlite(tmp_path / "new.db"))
