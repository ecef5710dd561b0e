"""Resume tokens through WatchStatus: what they go on with, and how each unusable one is refused."""

from __future__ import annotations

import math

import grpc
import pytest
from assetwatch.v1 import asset_status_pb2 as status_pb
from assetwatch.v1 import asset_status_service_pb2 as pb

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.filters import Filter
from assetwatchd.model.values import AssetKey
from support.problems import Problem, problem_of
from support.rig import SAMPLES, Rig, ref, running, sample

WHOLE = {"sources": ["omn"]}


async def refused(rig: Rig, **request: object) -> Problem:
    """Open a watch that must fail before its first message."""
    return await problem_of(rig.watch(**request).next())


def token_at(rig: Rig, revision: int) -> str:
    """Make a token of the whole of OMN as this server would."""
    digest = Filter(frozenset(), frozenset(["omn"]), frozenset()).digest
    return resume_token.encode(epoch=rig.app.store.epoch, revision=revision, digest=digest)


async def test_a_resumed_stream_brings_what_changed_since_and_nothing_else() -> None:
    """RESUMED, the changes missed with removals among them, then synced."""
    async with running(("omn",), count=5) as rig:
        stream = await rig.watch(**WHOLE).synced()
        stream.call.cancel()
        other = await rig.watch(**WHOLE).synced()
        gone = AssetKey("omn", next(a for a in rig["omn"].asset_ids() if AssetKey("omn", a) != sample("omn")))
        rig.vary("omn")
        rig["omn"].remove(gone.asset_id)
        await other.holds(lambda held: gone not in held and held[sample("omn")].state == SAMPLES["omn"].state)
        again = await rig.watch(**WHOLE, resume_token=stream.token).synced()
        assert again.messages[0].started.mode == pb.WatchStarted.MODE_RESUMED
        assert again.map.keys() == {sample("omn")}
        assert again.removed == [gone]


async def test_a_token_of_every_message_goes_on_without_loss() -> None:
    """From any token on, old map and resumed stream make the map of a stream that never broke."""
    async with running(("omn",), count=250) as rig:
        await rig.list(page_size=1)
        stream = await rig.watch(**WHOLE).synced()
        rig.vary("omn")
        await stream.holds(lambda held: held[sample("omn")].state == SAMPLES["omn"].state)
        held: dict[AssetKey, status_pb.AssetStatus] = {}
        for message in stream.messages:
            held |= {AssetKey(c.status.asset.source, c.status.asset.asset_id): c.status for c in message.changes}
            if message.resume_token:
                again = await rig.watch(**WHOLE, resume_token=message.resume_token).synced()
                again.call.cancel()
                assert held | again.map == stream.map


async def test_a_token_fits_the_same_filter_in_any_order() -> None:
    """Sources and states in another order are the same request."""
    async with running(("omn", "pieces")) as rig:
        states = [status_pb.ASSET_STATE_AVAILABLE, status_pb.ASSET_STATE_FAILED]
        stream = await rig.watch(sources=["omn", "pieces"], states=states).synced()
        again = rig.watch(sources=["pieces", "omn"], states=states[::-1], resume_token=stream.token)
        assert (await again.next()).started.mode == pb.WatchStarted.MODE_RESUMED


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: "nonsense" + token[:0],
        lambda token: token[:-2],
        lambda token: "B" + token[1:],
        lambda token: token + "=",
    ],
    ids=["nonsense", "cut", "altered", "padded"],
)
async def test_a_token_this_service_never_made_is_invalid(spoil: object) -> None:
    """INVALID_ARGUMENT / RESUME_TOKEN_INVALID before the first message, never a silent snapshot."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(**WHOLE).synced()
        told = await refused(rig, **WHOLE, resume_token=spoil(stream.token))  # type: ignore[operator]  # a lambda
        assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_TOKEN_INVALID")
        assert list(told.violations) == ["resume_token"]
        assert told.retry_after_s is None


@pytest.mark.parametrize(
    "other",
    [
        {"sources": ["omn", "pieces"]},
        {"sources": ["omn"], "states": [status_pb.ASSET_STATE_AVAILABLE]},
        {"assets": [ref(sample("omn"))]},
    ],
    ids=["sources", "states", "assets"],
)
async def test_a_token_of_another_filter_is_a_mismatch(other: dict[str, object]) -> None:
    """INVALID_ARGUMENT / RESUME_FILTER_MISMATCH, and which field it is."""
    async with running(("omn", "pieces")) as rig:
        stream = await rig.watch(**WHOLE).synced()
        told = await refused(rig, **other, resume_token=stream.token)
        assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_FILTER_MISMATCH")
        assert list(told.violations) == ["resume_token"]


async def test_a_token_of_another_store_is_of_another_epoch() -> None:
    """OUT_OF_RANGE / RESUME_EPOCH_CHANGED after a restart without a durable store."""
    async with running(("omn",)) as rig:
        token = (await rig.watch(**WHOLE).synced()).token
    async with running(("omn",)) as rig:
        told = await refused(rig, **WHOLE, resume_token=token)
        assert (told.code, told.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_EPOCH_CHANGED")
        assert told.metadata == {"epoch": rig.app.store.epoch}


async def test_a_token_from_before_the_floor_is_expired() -> None:
    """OUT_OF_RANGE / RESUME_TOKEN_EXPIRED with requested, oldest and current, once a removal was forgotten."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(**WHOLE).synced()
        requested = resume_token.check(stream.token, digest=Filter(frozenset(), frozenset(["omn"]), frozenset()).digest,
                                 store=rig.app.store)  # fmt: skip
        rig["omn"].remove(sample("omn").asset_id)
        await stream.holds(lambda held: sample("omn") not in held)
        fresh = stream.token
        await rig.app.store.drop_gone(before=math.inf, keep=lambda _: False)
        store = rig.app.store
        told = await refused(rig, **WHOLE, resume_token=token_at(rig, requested))
        assert (told.code, told.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")
        assert told.metadata == {"requested": str(requested), "oldest": str(store.floor), "current": str(store.head)}
        assert (await rig.watch(**WHOLE, resume_token=fresh).next()).started.mode == pb.WatchStarted.MODE_RESUMED


async def test_a_token_ahead_of_this_process_is_replica_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """UNAVAILABLE / REPLICA_BEHIND with RetryInfo after a bounded wait."""
    monkeypatch.setattr("assetwatchd.rpc.watch.BEHIND_WAIT_S", 0.05)
    async with running(("omn",)) as rig:
        await rig.watch(**WHOLE).synced()
        told = await refused(rig, **WHOLE, resume_token=token_at(rig, rig.app.store.head + 1000))
        assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "REPLICA_BEHIND")
        assert told.retry_after_s is not None


async def test_a_refused_token_leaves_nothing_behind() -> None:
    """No watcher and no stream is counted."""
    async with running(("omn",), server={"streams_max": 1}) as rig:
        for _ in range(3):
            await refused(rig, **WHOLE, resume_token="nonsense")
        assert (await rig.source("omn")).watcher_count == 0
        await rig.watch(**WHOLE).synced()
