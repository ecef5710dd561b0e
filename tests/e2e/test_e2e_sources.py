"""Each of the five sources through the whole service: names nobody knows yet, reads that find the same, one slot."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from assetwatch.v1 import asset_status_pb2 as status_pb

from assetwatchd.model.values import AssetKey
from support.rig import SAMPLES, SOURCES, ref, running, sample

if TYPE_CHECKING:
    from assetwatch.v1.asset_status_pb2 import AssetStatus

SLOT = "oracle-sbc"
NAMED = [source for source in SOURCES if SAMPLES[source].unknown]
POLLS = 5


@pytest.mark.parametrize("source", NAMED)
async def test_a_name_nobody_knows_then_it_is_there(source: str) -> None:
    """T04: MISSING by synced, no end; within 1 s of its appearance it is told."""
    key = AssetKey(source, SAMPLES[source].unknown)
    async with running((source,), count=2) as rig:
        stream = await rig.watch(assets=[ref(key)]).synced()
        assert stream.map[key].state == status_pb.ASSET_STATE_MISSING
        rig[source].put(key.asset_id, SAMPLES[source].native)
        async with asyncio.timeout(1):
            await stream.holds(lambda held: held[key].state == status_pb.ASSET_STATE_AVAILABLE)


@pytest.mark.parametrize("source", SOURCES)
async def test_reads_that_find_the_same_are_no_changes(source: str) -> None:
    """T61: over several polls nothing is told and no revision given, while the moment of the last read advances."""
    every = {"reconcile_interval_s": 0.1}
    async with running((source,), count=2, every=every) as rig:
        stream = await rig.watch(sources=[source]).synced()
        known = await rig.get(sample(source))
        head = rig.app.store.head
        rig[source].requests.clear()
        async with asyncio.timeout(20):
            while rig[source].requests.count(SAMPLES[source].observe) < POLLS:  # noqa: ASYNC110 - it is the server that asks
                await asyncio.sleep(0.01)
        again = await rig.get(sample(source))
        assert rig.app.store.head == head
        assert stream.messages[-1].HasField("synced")
        assert seen_at(known) < seen_at(again) <= time.time()
        assert without_moment(known) == without_moment(again)


async def test_one_slot_holds_one_operation_after_another() -> None:
    """T65: the same operation again is no change, another one is, and so is that there is none; revisions rise."""
    said = [
        ({"operation": "activate", "status": "success"}, False),
        ({"operation": "activate", "status": "inProgress"}, True),
        ({"operation": "activate", "status": "inProgress"}, False),
        ({"operation": "activate", "status": "success"}, True),
        ({"operation": "verify", "status": "success"}, True),
        (None, True),
        ({"operation": "verify", "status": "success"}, True),
    ]
    async with running((SLOT,), count=0) as rig:
        stream = await rig.watch(sources=[SLOT]).synced()
        revisions = [stream.map[sample(SLOT)].revision]
        for native, changes in said:
            if native is None:
                rig[SLOT].remove(SAMPLES[SLOT].asset_id)
            else:
                rig[SLOT].put(SAMPLES[SLOT].asset_id, native)
            told = (await rig.get(sample(SLOT), max_age={})).revision
            assert (told > revisions[-1]) == changes, native
            revisions.append(told)
        await stream.until(lambda message: any(c.status.revision == revisions[-1] for c in message.changes))
        of_stream = [change.status.revision for message in stream.messages for change in message.changes]
        assert of_stream == sorted(set(of_stream))


def seen_at(status: AssetStatus) -> float:
    """When it was last read, seconds since 1970."""
    return status.observe_time.ToNanoseconds() / 1e9


def without_moment(status: AssetStatus) -> AssetStatus:
    """Leave out when it was last read."""
    bare = type(status)()
    bare.CopyFrom(status)
    bare.ClearField("observe_time")
    return bare
