"""WatchStatus when something happens beside it at the worst moment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import grpc
import pytest

from assetwatchd.changefeed.store.port import Draft
from assetwatchd.model.values import GONE, AssetKey, Condition, ConditionState, Freshness, Observation, State
from assetwatchd.rpc import convert
from assetwatchd.runtime import failpoints
from support.problems import problem_of
from support.rig import ref, running, sample

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def drafted(key: AssetKey, state: State = State.PENDING) -> Draft:
    """Draft a status that no upstream told."""
    encoder = convert.ProtobufEncoder()
    content = encoder.content(key.source, Observation(key.asset_id, state))
    return Draft(
        key=key,
        state=state,
        gone=state in GONE,
        freshness=Freshness.FRESH,
        digest=b"",
        found_at=1.0,
        traceparent="",
        seal=encoder.seal(content, observed_at=1.0, traceparent=""),
        content=content,
        sealed_at=1.0,
    )


def trouble(text: str) -> Condition:
    """Make up a condition."""
    return Condition(ConditionState.DEGRADED, text, since=1.0)


@pytest.mark.parametrize("named", [True, False], ids=["named", "whole"])
@pytest.mark.parametrize("moment", ["before_subscribe_register", "before_send"])
async def test_a_removal_dropped_while_a_stream_resumes_is_never_missed(*, named: bool, moment: str) -> None:
    """RESUME_TOKEN_EXPIRED, also when a sweep that began before the stream comes to its end only after Started."""
    async with running(("omn",)) as rig:
        key, store = sample("omn"), rig.app.store
        what = {"assets": [ref(key)]} if named else {"sources": ["omn"]}
        before = await rig.watch(**what).synced()
        before.call.cancel()
        await store.commit([drafted(key, State.DELETED)])

        async def sweep() -> None:
            failpoints.disarm()
            await store.drop_gone(before=math.inf, keep=lambda _: False)

        failpoints.arm(moment, sweep)
        told = await problem_of(rig.watch(**what, resume_token=before.token).synced())
        assert (told.code, told.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")


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

        failpoints.arm("before_send", meddle)
        failpoints.arm("before_bookmark", meddle)
        hub.tell("omn", trouble("again"))
        await stream.holds(lambda held: AssetKey("omn", "id:19") in held)
        await stream.until(lambda message: message.HasField("bookmark"))
        heads = [message.head_revision for message in stream.messages]
        assert heads == sorted(heads)
        assert heads[-1] == store.head
        told = [change.condition.message for each in stream.messages for change in each.source_conditions]
        assert {"again", "19"} <= set(told)
