"""The client against a real etcd: transactions, pages, watches, leases, and what each is refused with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from assetwatchd.etcd.errors import Compacted, EtcdRefused, LeaseGone, OutcomeUnknown, TooLarge
from assetwatchd.etcd.operations import created, delete, delete_prefix, get, get_prefix, holds, modified, put
from support.etcd import client_of, ended_with

if TYPE_CHECKING:
    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.etcd.client import EtcdClient


@pytest.fixture
def prefix(etcd_prefix: str) -> bytes:
    return etcd_prefix.encode()


async def test_a_transaction_does_one_half(client: EtcdClient, prefix: bytes) -> None:
    """If all comparisons hold it does success, else failure; what its gets found comes in their places."""
    key = prefix + b"a"
    first = await client.txn([created(key, 0)], [put(key, b"1"), get(key), delete(prefix + b"b")], [get(key)])
    assert first.succeeded
    assert first.one(1) == (key, b"1", first.revision, first.revision, 0)
    assert (first.one(0), first.one(2)) == (None, None)
    second = await client.txn([created(key, 0)], [put(key, b"2")], [get(key), get(prefix + b"b")])
    assert not second.succeeded
    assert second.revision == first.revision
    assert ([found.value for found in second.found[0]], second.one(1)) == ([b"1"], None)
    third = await client.txn([modified(key, first.revision), holds(key, b"1")], [put(key, b"3")])
    assert third.succeeded
    assert not (await client.txn([modified(key, first.revision)])).succeeded
    assert not (await client.txn([holds(key, b"1")])).succeeded
    assert (await client.get(key)).first == (key, b"3", first.revision, third.revision, 0)
    assert first.cluster == third.cluster != 0


async def test_prefixes_in_a_transaction(client: EtcdClient, prefix: bytes) -> None:
    """All that begins so is read, or the first of it, and deleted, and nothing beside."""
    await client.txn((), [put(prefix + name, name) for name in (b"a/1", b"a/2", b"b")])
    found = await client.txn((), [get_prefix(prefix + b"a/"), get_prefix(prefix + b"a/", limit=1)])
    assert [[each.value for each in keys] for keys in found.found] == [[b"a/1", b"a/2"], [b"a/1"]]
    await client.txn((), [delete_prefix(prefix + b"a/")])
    assert [key.value async for page in client.pages(prefix) for key in page.keys] == [b"b"]


async def test_pages_are_of_one_revision(client: EtcdClient, prefix: bytes) -> None:
    """What is written while pages are read is in none of them; each says of which revision it is."""
    await client.txn((), [put(prefix + b"%02d" % n, b"old") for n in range(7)])
    pages = []
    async for page in client.pages(prefix, limit=3):
        pages.append(page)
        await client.txn((), [put(prefix + b"%02d" % n, b"new") for n in (*range(7), 9)])
    assert [len(page.keys) for page in pages] == [3, 3, 1]
    assert {key.value for page in pages for key in page.keys} == {b"old"}
    assert len({page.revision for page in pages}) == 1
    assert [page.more for page in pages] == [True, True, False]
    assert [page.keys async for page in client.pages(prefix + b"none")] == [[]]


async def test_keys_alone(client: EtcdClient, prefix: bytes) -> None:
    """Values can be left out."""
    await client.txn((), [put(prefix + b"a", b"1")])
    assert [key.value async for page in client.pages(prefix, keys_only=True) for key in page.keys] == [b""]


async def test_a_watch_tells_all_from_a_revision(client: EtcdClient, prefix: bytes) -> None:
    """In order, what one transaction changed together, deletions too, and what is elsewhere not."""
    begun = (await client.txn((), [put(prefix + b"a", b"1"), put(prefix + b"b", b"1")])).revision
    await client.txn((), [put(b"/elsewhere" + prefix, b"x")])
    async with client.watch(prefix, from_revision=begun) as watch:
        first = await watch.read()
        ended = (await client.txn((), [delete(prefix + b"a"), put(prefix + b"b", b"2")])).revision
        second = await watch.read()
    assert first.revision == begun
    assert [(event.deleted, event.key.value) for event in first.events] == [(False, b"1"), (False, b"1")]
    assert second.revision == ended
    assert [(event.deleted, event.key.key, event.key.modified) for event in second.events] == [
        (True, prefix + b"a", ended),
        (False, prefix + b"b", ended),
    ]


async def test_a_watch_says_how_far_it_is(client: EtcdClient, prefix: bytes) -> None:
    """When asked: what happened elsewhere counts, and nothing that is to be told comes later."""
    now = (await client.get(prefix)).revision
    async with client.watch(prefix, from_revision=now + 1) as watch:
        elsewhere = (await client.txn((), [put(b"/elsewhere" + prefix, b"x")])).revision
        await watch.ask_progress()
        news = await watch.read()
    assert (list(news.events), news.revision) == ([], elsewhere)


async def test_a_watch_of_what_was_compacted(client: EtcdClient, prefix: bytes) -> None:
    """It says from where on there is something; so does a compaction that was done, and a page of what went."""
    begun = (await client.txn((), [put(prefix + b"a", b"1")])).revision
    later = (await client.txn((), [put(prefix + b"a", b"2")])).revision
    await client.compact(later, physical=True)
    with pytest.raises(Compacted, match="compacted") as caught:
        async with client.watch(prefix, from_revision=begun) as watch:
            await watch.read()
    assert caught.value.revision == later
    assert isinstance(await ended_with(client.compact(later)), Compacted)


async def test_pages_that_are_compacted_meanwhile(client: EtcdClient, prefix: bytes) -> None:
    """Half of it is never taken for the whole."""
    await client.txn((), [put(prefix + b"%d" % n, b"") for n in range(4)])
    pages = client.pages(prefix, limit=2)
    assert (await anext(pages)).more
    await client.compact((await client.txn((), [put(prefix + b"x", b"")])).revision)
    with pytest.raises(Compacted):
        await anext(pages)


async def test_a_cancelled_read_ends_the_watch(client: EtcdClient, prefix: bytes) -> None:
    """Who stops waiting for news ends the watch, and is told so; the client goes on."""
    now = (await client.get(prefix)).revision
    async with client.watch(prefix, from_revision=now + 1) as watch:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.read(), 0.05)
        assert isinstance(await ended_with(watch.ask_progress()), OutcomeUnknown)
    await client.get(prefix)


async def test_a_lease_takes_its_keys_along(client: EtcdClient, prefix: bytes) -> None:
    """Kept alive it has its whole time; revoked, what hangs on it is deleted, and whoever asks for it is told."""
    lease = await client.grant(30)
    await client.txn((), [put(prefix + b"a", b"1", lease=lease.id)])
    assert (await client.keep_alive(lease.id), lease.ttl_s) == (30, 30)
    assert 28 <= await client.time_to_live(lease.id) <= 30
    found = (await client.get(prefix + b"a")).first
    assert found is not None
    assert found.lease == lease.id
    async with client.watch(prefix, from_revision=found.modified + 1) as watch:
        await client.revoke(lease.id)
        assert [event.deleted for event in (await watch.read()).events] == [True]
    for ask in (client.keep_alive, client.time_to_live, client.revoke):
        assert isinstance(await ended_with(ask(lease.id)), LeaseGone)
    assert isinstance(await ended_with(client.txn((), [put(prefix, b"", lease=lease.id)])), LeaseGone)


async def test_what_is_too_large(client: EtcdClient, prefix: bytes) -> None:
    """More operations or bytes than etcd takes; beyond what its gRPC looks at, too. Nothing of it was done."""
    many = [put(prefix + b"%d" % n, b"") for n in range(129)]
    for operations in (many, [put(prefix, bytes(1_600_000))], [put(prefix, bytes(3_600_000))]):
        assert isinstance(await ended_with(client.txn((), operations)), TooLarge)
    assert [page.keys async for page in client.pages(prefix)] == [[]]


async def test_what_etcd_refuses(client: EtcdClient, prefix: bytes) -> None:
    """A key twice, and a revision that is not there yet; the reason is told."""
    twice = await ended_with(client.txn((), [put(prefix, b"1"), put(prefix, b"2")]))
    assert type(twice) is EtcdRefused
    assert "duplicate key" in twice.told
    future = await ended_with(client.compact(10**12))
    assert type(future) is EtcdRefused
    assert "future revision" in future.told


async def test_an_answer_of_any_size(client: EtcdClient, prefix: bytes) -> None:
    """A page, and what a watch missed, may be larger than what gRPC takes by itself."""
    for n in range(6):
        await client.txn((), [put(prefix + b"%d" % n, bytes(1_000_000))])
    [page] = [page async for page in client.pages(prefix)]
    assert sum(len(key.value) for key in page.keys) == 6_000_000
    told = 0
    async with client.watch(prefix, from_revision=page.keys[0].modified) as watch:
        while told < 6:
            told += len((await watch.read()).events)


async def test_who_the_cluster_is(client: EtcdClient, etcd: Cluster) -> None:
    """Status, members and alarms; of an endpoint where nobody is, why that is not known."""
    status = await client.status()
    assert status.version >= (3, 6)
    assert status.member == status.leader
    assert status.quota_bytes == 2 << 30
    [member] = await client.members()
    assert (member.id, member.endpoints, member.learner) == (status.member, etcd.endpoints, False)
    assert await client.alarms() == []
    async with client_of(*etcd.endpoints, "http://127.0.0.1:1") as both:
        found = await both.statuses()
    assert list(found) == [*etcd.endpoints, "http://127.0.0.1:1"]
    well, ill = found.values()
    assert (getattr(well, "member", 0), type(ill)) == (status.member, OutcomeUnknown)
