"""A wait over breaks: asked again for what is left, as the table says, and never for longer than it may take."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import TYPE_CHECKING

import grpc
import pytest
from assetwatch.v1.asset_status_pb2 import ASSET_STATE_AVAILABLE

from assetwatch_client import Backoff, connect, wait
from assetwatch_client.wait import GRACE_S
from support.fake_service import FakeService, Refusal, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Pass = Callable[[float], None]

DRAINING = Refusal(grpc.StatusCode.UNAVAILABLE, "stopping", "SERVER_DRAINING")
UNKNOWN = Refusal(grpc.StatusCode.NOT_FOUND, "no such source", "SOURCE_NOT_FOUND")


def quick() -> Backoff:
    """Make short pauses."""
    return Backoff(first_s=0.02, max_s=0.02, rng=random.Random(1))  # noqa: S311 - pauses, not secrets


@pytest.fixture
async def passes(monkeypatch: pytest.MonkeyPatch) -> Pass:
    """Stop the time of the loop, by which a wait ends and pauses; return what lets so many seconds pass."""
    loop = asyncio.get_running_loop()
    now_s = [loop.time()]
    monkeypatch.setattr(loop, "time", lambda: now_s[0])

    def let_pass(for_s: float) -> None:
        now_s[0] += for_s

    return let_pass


async def turns() -> None:
    """Let everybody do what is due by now."""
    for _ in range(20):
        await asyncio.sleep(0)


def asked_ms(fake: FakeService) -> list[int]:
    """Return how long each call was to wait."""
    return [request.timeout.ToMilliseconds() for request in fake.requests]


async def test_asks_for_a_state_or_until_settled() -> None:
    """Without states it waits until the asset is settled; the answer is the server's, met or not."""
    async with serving() as fake, connect(fake.address) as channel:
        fake.condition_met = False
        assert not (await wait(channel, "dam", "tid:1", timeout_s=5)).condition_met
        fake.condition_met = True
        assert (await wait(channel, "dam", "tid:1", timeout_s=5, states=[ASSET_STATE_AVAILABLE])).condition_met
    settled, state = fake.requests
    assert (settled.asset.source, settled.asset.asset_id) == ("dam", "tid:1")
    assert (settled.until_settled, list(settled.states)) == (True, [])
    assert (state.until_settled, list(state.states)) == (False, [ASSET_STATE_AVAILABLE])


async def test_can_stop_when_the_asset_is_settled_otherwise() -> None:
    """stop_when_settled goes with states; so does a view."""
    async with serving() as fake, connect(fake.address) as channel:
        await wait(channel, "dam", "tid:1", timeout_s=5, states=[ASSET_STATE_AVAILABLE], stop_when_settled=True, view=1)
        await wait(channel, "dam", "tid:1", timeout_s=5, states=[ASSET_STATE_AVAILABLE])
    assert [request.stop_when_settled for request in fake.requests] == [True, False]
    assert [request.view for request in fake.requests] == [1, 0]


async def test_goes_on_after_a_break_for_what_is_left() -> None:
    """Each break is told; each next call waits for less; the deadline is beyond the wait."""
    async with serving() as fake, connect(fake.address) as channel:
        fake.refusal = DRAINING
        broke: list[grpc.aio.AioRpcError] = []

        def told(error: grpc.aio.AioRpcError) -> None:
            broke.append(error)
            if len(broke) == 3:
                fake.refusal = None

        answer = await wait(channel, "dam", "tid:1", timeout_s=20, backoff=quick(), on_break=told)
    assert answer.condition_met
    assert [error.code() for error in broke] == [grpc.StatusCode.UNAVAILABLE] * 3
    first, *others = asked_ms(fake)
    assert 19_000 < first <= 20_000
    assert others == sorted(others, reverse=True)
    assert len(others) == 3
    assert all(0 < length_ms < first for length_ms in others)
    assert all(
        deadline_s > length_ms / 1000 for deadline_s, length_ms in zip(fake.deadlines_s, asked_ms(fake), strict=True)
    )


async def test_pauses_as_long_as_it_is_asked_to(passes: Pass) -> None:
    """RetryInfo is waited out before the next call; where it is longer than what is left, the break is raised."""
    async with serving() as fake, connect(fake.address) as channel:
        fake.refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "stopping", "SERVER_DRAINING", retry_s=3600)
        broke = asyncio.Event()
        waiting = asyncio.create_task(
            wait(channel, "dam", "tid:1", timeout_s=7200, backoff=quick(), on_break=lambda _: broke.set())
        )
        await broke.wait()
        fake.refusal = None
        passes(3500)
        await turns()
        assert (len(fake.requests), waiting.done()) == (1, False)
        passes(101)
        assert (await waiting).condition_met
        assert len(fake.requests) == 2
        fake.refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "stopping", "SERVER_DRAINING", retry_s=9)
        with pytest.raises(grpc.aio.AioRpcError, match="stopping"):
            await wait(channel, "dam", "tid:1", timeout_s=5)


@pytest.mark.parametrize(("refusal", "patient"), [(UNKNOWN, True), (DRAINING, False)])
async def test_raises_what_does_not_pass(refusal: Refusal, patient: bool) -> None:  # noqa: FBT001 - a row of the table
    """A call that is wrong is made once, and so is one that may not be patient."""
    async with serving() as fake, connect(fake.address) as channel:
        fake.refusal = refusal
        with pytest.raises(grpc.aio.AioRpcError):
            await wait(channel, "dam", "tid:1", timeout_s=20, patient=patient)
    assert len(fake.requests) == 1


async def test_the_time_until_the_server_is_there_counts(tmp_path: Path, passes: Pass) -> None:
    """It is told to wait for what is left by then, also after a break."""
    address = f"unix:{tmp_path / 'socket'}"  # a port that is free for seconds may be taken by others meanwhile
    async with connect(address) as channel:
        broke = asyncio.Event()
        waiting = asyncio.create_task(
            wait(channel, "dam", "tid:1", timeout_s=3600, backoff=quick(), on_break=lambda _: broke.set())
        )
        await turns()
        passes(1000)
        async with serving(address) as first:
            # it is gone by the time of the next call, so that none waits in the channel for the second
            first.refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "stopping", "SERVER_DRAINING", retry_s=500)
            await broke.wait()
        passes(1000)
        async with serving(address) as second:
            await waiting
    assert 2_500_000 < asked_ms(first)[0] <= 2_600_000
    assert 1_500_000 < asked_ms(second)[0] <= 1_600_000


async def test_no_time_looks_once() -> None:
    """timeout_s 0 connects all the same, and answers what is."""
    async with serving() as fake, connect(fake.address) as channel:
        assert (await wait(channel, "dam", "tid:1", timeout_s=0)).condition_met
    assert asked_ms(fake) == [0]


@pytest.mark.parametrize(("timeout_s", "longest_s"), [(0.5, GRACE_S), (3600, 3600)])
async def test_a_server_that_never_is_there_costs_no_more_than_the_time(
    timeout_s: float, longest_s: float, passes: Pass
) -> None:
    """Patient, without a server that answers, the wait ends when its time does, or connecting has had its chance."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)  # connections begin, and nothing is ever said on them
        async with connect(f"127.0.0.1:{deaf.getsockname()[1]}") as channel:
            waiting = asyncio.create_task(wait(channel, "dam", "tid:1", timeout_s=timeout_s))
            await turns()
            passes(longest_s - 1)
            await turns()
            assert not waiting.done()
            passes(1)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await waiting
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_waits_for_a_server_that_is_not_there_yet() -> None:
    """Patient, it begins when the server does; else it fails at once."""
    async with serving() as fake:
        address = fake.address
    async with connect(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await wait(channel, "dam", "tid:1", timeout_s=20, patient=False)
        waiting = asyncio.create_task(wait(channel, "dam", "tid:1", timeout_s=20))
        async with serving(address) as fake:
            assert (await waiting).condition_met
