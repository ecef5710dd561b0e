"""What befalls the members of a cluster while others work with it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from support.etcd import client_of

if TYPE_CHECKING:
    import random

    from assetwatch_sandbox.etcd import Cluster, Member


async def kill_and_pause(cluster: Cluster, rng: random.Random, *, for_s: float) -> Counter[str]:
    """Kill and pause members for so long, the leader as often as not, one at a time; return what was done."""
    done: Counter[str] = Counter()
    until = asyncio.get_running_loop().time() + for_s
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(rng.uniform(1.5, 3.0))
        member = await leader(cluster) if rng.random() < 0.5 else rng.choice(cluster.members)
        if rng.random() < 0.5:
            done["killed"] += 1
            member.kill()
            await asyncio.sleep(rng.choice((0.0, 0.5, 2.0)))
            member.start()
        else:
            done["paused"] += 1
            member.pause()
            await asyncio.sleep(rng.choice((0.5, 2.0, 5.0)))
            member.go_on()
    await asyncio.gather(*(asyncio.to_thread(member.wait) for member in cluster.members))
    return done


async def leader(cluster: Cluster) -> Member:
    """Return who leads; somebody, when nobody knows."""
    async with client_of(*cluster.endpoints) as client:
        for endpoint, status in (await client.statuses()).items():
            if getattr(status, "leader", None) == getattr(status, "member", 0):
                return next(member for member in cluster.members if member.endpoint == endpoint)
    return cluster.members[0]
