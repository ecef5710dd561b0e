"""The scenario: assets live, repeatably, at the speed asked for."""

from __future__ import annotations

import asyncio

import pytest

from assetwatch_sandbox import Sandbox, scenario

STEPS = 600


class Enough(Exception):
    """The test has seen enough steps."""


async def lived(*, seed: int, speed: float = 1.0) -> tuple[Sandbox, list[float]]:
    """Run STEPS steps over ten assets a kind; return the sandbox and the pauses between them."""
    sandbox = Sandbox(clock=lambda: 1_772_615_647.0)
    sandbox.seed(3, 10)
    pauses: list[float] = []

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) > STEPS:
            raise Enough

    with pytest.raises(Enough):
        await scenario.run(list(sandbox.standins.values()), seed=seed, speed=speed, sleep=sleep)
    return sandbox, pauses[:STEPS]


def held(sandbox: Sandbox, name: str) -> list[object]:
    standin = sandbox.standins[name]
    return [standin.get(asset_id) for asset_id in standin.asset_ids()]


async def test_the_same_seed_lives_the_same_life() -> None:
    """Two runs of one seed end alike, another seed does not."""
    (first, pauses), (second, _), (other, _) = await lived(seed=7), await lived(seed=7), await lived(seed=8)
    assert len(pauses) == STEPS
    for name in ("usd-search", "omn"):
        assert held(first, name) == held(second, name)
    assert held(first, "omn") != held(other, "omn")


async def test_every_standin_lives() -> None:
    """No kind stands still: each gets its share of the steps and changes by them."""
    sandbox, _ = await lived(seed=7)
    for name, standin in sandbox.standins.items():
        stepped = Sandbox((name,))
        stepped.seed(3, 10)
        assert len(standin.truth) > len(stepped.standins[name].truth) + STEPS // 20, name


async def test_speed_is_steps_a_second_and_standin() -> None:
    """Speed 1 is one step a second and stand-in on average, speed 10 is ten."""
    _, pauses = await lived(seed=7)
    assert sum(pauses) / STEPS == pytest.approx(1 / 5, rel=0.15)
    _, pauses = await lived(seed=7, speed=10)
    assert sum(pauses) / STEPS == pytest.approx(1 / 50, rel=0.15)


async def test_nothing_to_do_is_refused() -> None:
    """A speed that is not positive or an empty cast would never step, and says so."""
    with pytest.raises(ValueError, match="positive speed"):
        await scenario.run([], seed=1)
    with pytest.raises(ValueError, match="positive speed"):
        await scenario.run(list(Sandbox(("omn",)).standins.values()), seed=1, speed=0)


async def test_live_runs_until_cancelled() -> None:
    """A sandbox's own scenario goes on by real time and ends by cancellation."""
    sandbox = Sandbox(("omn",))
    sandbox.seed(1, 5)
    before = len(sandbox.standins["omn"].truth)
    living = asyncio.create_task(sandbox.live(seed=1, speed=1e6))
    async with asyncio.timeout(5):
        while len(sandbox.standins["omn"].truth) == before:  # noqa: ASYNC110 - the truth has no event to wait for
            await asyncio.sleep(0)
    living.cancel()
    with pytest.raises(asyncio.CancelledError):
        await living
