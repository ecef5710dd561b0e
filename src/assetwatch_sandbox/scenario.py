"""A seeded scenario: changes the assets of stand-ins one by one, the same way for the same seed."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from assetwatch_sandbox.standin import AnyStandin

STEPS_PER_S = 1.0


async def run(
    standins: Collection[AnyStandin],
    *,
    seed: int,
    speed: float = 1.0,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Advance one asset after another, for ever: on average STEPS_PER_S times speed steps a second and stand-in.

    The pauses are exponential, so steps bunch as in life. The same seed over the same assets takes the same steps.
    Raises: ValueError for a speed that is not positive, or no stand-ins.
    """
    if speed <= 0 or not standins:
        raise ValueError("a scenario needs a positive speed and at least one stand-in")
    rng = random.Random(seed)  # noqa: S311 - a scenario must be repeatable
    order = sorted(standins, key=lambda standin: standin.kind)
    while True:
        await sleep(rng.expovariate(STEPS_PER_S * speed * len(order)))
        rng.choice(order).advance(rng)
