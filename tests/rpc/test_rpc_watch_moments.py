"""WatchStatus when something happens beside it at the worst moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from assetwatchd import points
from assetwatchd.model import AssetKey, Condition, ConditionState, Freshness, Observation, State
from assetwatchd.rpc import convert
from assetwatchd.store import Draft
from support.rig import running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    points.disarm()


def drafted(key: AssetKey) -> Draft:
    """Draft a status that no upstream told."""
    encoder = convert.ProtobufEncoder()
    content = encoder.content(key.source, Observation(key.asset_id, State.PENDING))
    return Draft(
        key=key,
        state=State.PENDING,
        gone=False,
        freshness=Freshness.FRESH,
        digest=b"",
        committed_at=1.0,
        traceparent="",
        seal=encoder.seal(content, observed_at=1.0, traceparent=""),
    )


def trouble(text: str) -> Condition:
    """Make up a condition."""
    return Condition(ConditionState.DEGRADED, text, since=1.0)


async def test_the_head_never_falls() -> None:
    """Though before each message one change is published, one more is not yet, and the source's condition changes."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        hub, store, numbers = rig.app.hub, rig.app.store, iter(range(20))

        async def meddle() -> None:
            if (number := next(numbers, None)) is not None:
                await store.commit([drafted(AssetKey("omn", f"id:{number}"))])
                hub.publish()
                await hub.reached(store.head)
                await store.commit([drafted(AssetKey("omn", "id:unpublished"))])
                hub.tell("omn", trouble(f"{number}"))

        points.arm("before_send", meddle)
        points.arm("before_bookmark", meddle)
        hub.tell("omn", trouble("again"))
        await stream.holds(lambda held: AssetKey("omn", "id:19") in held)
        await stream.until(lambda message: message.HasField("bookmark"))
        heads = [message.head_revision for message in stream.messages]
        assert heads == sorted(heads)
        assert heads[-1] == store.head
        told = [change.condition.message for each in stream.messages for change in each.source_conditions]
        assert {"again", "19"} <= set(told)
