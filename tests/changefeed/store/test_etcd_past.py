"""Whether a mirror notices that etcd's data are not those that it read: over a model of etcd, in virtual time."""

from __future__ import annotations

import asyncio
import copy
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.changefeed.store.etcd.store import EtcdStore
from assetwatchd.etcd.operations import delete, put
from assetwatchd.model.errors import HistoryBroken
from support.entries import draft, seal
from support.model_etcd import ModelClient, ModelEtcd
from support.owning import Owning, owning
from support.virtual_time import run

if TYPE_CHECKING:
    from assetwatchd.etcd.values import KeyValue

pytestmark = pytest.mark.unit

PREFIX = "/aw/"
SOURCES = st.lists(st.sampled_from(["dam", "usd"]), min_size=1, max_size=4)
LATER = st.lists(st.sampled_from(["dam", "usd"]), max_size=8)
BY = st.sampled_from(["unaware", "one", "several"])


def put_back(etcd: ModelEtcd, keys: dict[bytes, KeyValue], revision: int) -> None:
    """Have etcd be what it was."""
    etcd.keys, etcd.revision = dict(keys), revision
    etcd.history = [news for news in etcd.history if news.revision <= revision]


async def outlived(kept: list[str], lost: list[str], later: list[str], *, by: str) -> str:
    """Commit; take a copy; commit what will be lost, and put the copy back behind a replica's back.

    Then others commit again: by one that has not noticed either, by one that was started anew, or by one after another.
    Return what the replica ended with.
    """
    etcd = ModelEtcd()
    client = ModelClient(etcd)
    store = await EtcdStore.open(client, prefix=PREFIX, seal=seal)
    running = asyncio.create_task(store.run(lambda: None))
    async with owning(ModelClient(etcd), PREFIX, "dam", "usd") as other:
        for source in kept:
            await other.commit([draft(f"{source}/a")])
        copied = copy.copy(etcd.keys), etcd.revision
        for source in lost:
            await other.commit([draft(f"{source}/b")])
        await store.mirror.reached(etcd.revision)
    client.cut()
    put_back(etcd, *copied)
    if by == "several":
        await (await EtcdStore.open(ModelClient(etcd), prefix=PREFIX, seal=seal)).close()
    if by == "unaware":
        for source in later:
            etcd.txn((), (put(b"/aw/w/" + source.encode(), os.urandom(8)),), ())
    elif later:
        again = await EtcdStore.open(ModelClient(etcd), prefix=PREFIX, seal=seal)
        following = asyncio.create_task(again.run(lambda: None))
        terms = Owning(again, again._client, PREFIX)
        for source in later:
            assert terms.term(source) or await terms.snatch(source)
            await again.commit([draft(f"{source}/c")])
        following.cancel()
    client.heal()
    done, _ = await asyncio.wait([running], timeout=5)
    running.cancel()
    return str(running.exception()) if done else ""


@given(SOURCES, SOURCES, LATER, BY)
@settings(derandomize=True, max_examples=100)
def test_whoever_read_what_was_lost_ends(kept: list[str], lost: list[str], later: list[str], by: str) -> None:
    """However much others wrote meanwhile, and whether they started anew."""
    assert "start the service again" in run(outlived(kept, lost, later, by=by))


@given(SOURCES, LATER, BY)
@settings(derandomize=True, max_examples=40)
def test_whoever_read_nothing_that_was_lost_goes_on(kept: list[str], later: list[str], by: str) -> None:
    """What others did meanwhile is news, and no break."""
    assert run(outlived(kept, [], later, by=by)) == ""


async def ended_by(change: str) -> str:
    etcd = ModelEtcd()
    store = await EtcdStore.open(ModelClient(etcd), prefix=PREFIX, seal=seal)
    match change:
        case "epochs":
            del etcd.keys[b"/aw/m/epochs"]
        case "cluster":
            etcd.cluster += 1
        case "revision":
            etcd.revision -= 1
        case "deleted":
            asyncio.get_running_loop().call_later(1, etcd.txn, (), (delete(b"/aw/m/epochs"),), ())
    with pytest.raises(HistoryBroken) as broken:
        await asyncio.wait_for(store.run(lambda: None), 5)
    return str(broken.value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("epochs", "it knows no epochs any more"),
        ("cluster", "it is another cluster, 8 and not 7"),
        ("revision", "its revision is 1, and 2 was read"),
        ("deleted", "its keys were deleted"),
    ],
)
def test_what_else_shows_it(change: str, why: str) -> None:
    """Each in words."""
    assert why in run(ended_by(change))
