"""A watch of the assets of whole sources whose ids begin alike; lists have it in test_rpc_list.py."""

from __future__ import annotations

import grpc
import pytest
from assetwatch.v1.asset_status_service_pb2 import WatchStarted

from assetwatchd.changefeed.filters import Filter
from assetwatchd.model.values import AssetKey
from assetwatchd.rpc.stream_log import described
from support.problems import problem_of
from support.rig import SAMPLES, ref, running, sample

PREFIX = sample("omn").asset_id[:8]


async def test_a_watch_of_a_prefix_is_told_of_those_assets() -> None:
    """In the snapshot, when one changes, comes or goes; and of what it names, whatever its id. Of nothing else."""
    async with running(("omn",), count=8) as rig:
        whole = await rig.watch(sources=["omn"]).synced()
        other = next(key for key in whole.map if not key.asset_id.startswith(PREFIX))
        stream = await rig.watch(sources=["omn"], asset_id_prefix=PREFIX).synced()
        named = await rig.watch(sources=["omn"], assets=[ref(other)], asset_id_prefix=PREFIX).synced()
        assert stream.map.keys() == {key for key in whole.map if key.asset_id.startswith(PREFIX)}
        assert named.map.keys() == {*stream.map, other}
        new = AssetKey("omn", f"{PREFIX}-new")
        rig["omn"].put(other.asset_id, {"ImportState": "running", "meta": {"a": "b"}})
        rig["omn"].put(new.asset_id, SAMPLES["omn"].native)
        for each in (whole, stream, named):
            await each.holds(lambda held: new in held)
        rig["omn"].remove(new.asset_id)
        await stream.until(lambda _: new in stream.removed)
        assert other not in stream.map
        assert named.map[other].revision > 0
        assert {key.asset_id.startswith(PREFIX) for key in [*stream.map, *stream.removed]} == {True}


async def test_a_token_is_of_one_prefix() -> None:
    """With another one it is refused as that of another filter; without one it is what it was before there were any."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(sources=["omn"], asset_id_prefix=PREFIX).synced()
        again = rig.watch(sources=["omn"], asset_id_prefix=PREFIX, resume_token=stream.token)
        assert (await again.next()).started.mode == WatchStarted.MODE_RESUMED
        for prefix in ("", PREFIX[:-1], PREFIX + "x"):
            told = await problem_of(
                rig.watch(sources=["omn"], asset_id_prefix=prefix, resume_token=stream.token).next()
            )
            assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_FILTER_MISMATCH")


@pytest.mark.parametrize("length", [2048, 2049])
async def test_a_prefix_is_as_long_as_an_id_may_be(length: int) -> None:
    """In bytes, however many letters that are; one that is longer is refused, naming the field, in lists as well."""
    async with running(("omn",)) as rig:
        prefix = "ä" * (length // 2) + "x" * (length % 2)
        calls = [rig.watch(sources=["omn"], asset_id_prefix=prefix).next(), rig.list(asset_id_prefix=prefix)]
        for call in calls:
            if length > 2048:
                told = await problem_of(call)
                assert (told.code, list(told.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["asset_id_prefix"])
            else:
                await call


async def test_a_prefix_of_no_source_is_refused() -> None:
    """INVALID_ARGUMENT that says what to do: it would change nothing."""
    async with running(("omn",)) as rig:
        told = await problem_of(rig.watch(assets=[ref(sample("omn"))], asset_id_prefix="a").next())
        assert told.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "name at least one" in told.message


@pytest.mark.unit
def test_the_log_tells_of_a_prefix_in_one_safe_line() -> None:
    """However long it is, and whatever is in it."""
    of = Filter(frozenset(), frozenset(["dam"]), frozenset(), "a\n\x1b[2J" + "ü" * 2000)
    line = described(of)
    assert line.startswith(r"watch of the sources dam (ids that begin with 'a\n\x1b[2J")
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 1000
    assert described(Filter(frozenset(), frozenset(["dam"]), frozenset())) == "watch of the sources dam"
