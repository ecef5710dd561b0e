"""Many watchers cost an upstream as much as one."""

from __future__ import annotations

import asyncio

from support.rig import SOURCES, Rig, Stream, ref, running, sample

WINDOW_S = 2.0
SOME, MANY = 10, 500
STEADY = {"busy_interval_s": 0.2, "settled_interval_s": 0.2, "enumerate_interval_s": 0.4, "probe_interval_s": 60}
"""Every asset is read five times a second, whatever it does."""


async def requests_in_window(rig: Rig) -> dict[str, int]:
    """Count what each upstream is asked in a while."""
    for source in SOURCES:
        rig[source].requests.clear()
    await asyncio.sleep(WINDOW_S)
    return {source: rig[source].requests.count() for source in SOURCES}


async def watchers(rig: Rig, count: int) -> list[Stream]:
    """Open streams over whole sources and named assets."""
    request = {"sources": SOURCES[:-1], "assets": [ref(sample(SOURCES[-1]))]}
    streams: list[Stream] = []
    while len(streams) < count:
        some = [rig.watch(**request) for _ in range(min(50, count - len(streams)))]
        streams += await asyncio.gather(*[stream.synced() for stream in some])
    return streams


async def test_500_watchers_make_as_many_upstream_requests_as_one() -> None:
    """Over the same time each upstream counts the same for 10 and for 500 streams as for one, give or take a tenth."""
    asyncio.get_running_loop().set_debug(enabled=False)  # it would take most of the time
    async with running(count=3, every=STEADY, server={"heartbeat_s": 30}) as rig:
        one = await watchers(rig, 1)
        alone = await requests_in_window(rig)
        some = await watchers(rig, SOME - 1)
        beside_some = await requests_in_window(rig)
        many = await watchers(rig, MANY - SOME)
        assert (await rig.source("omn")).watcher_count == MANY
        beside_many = await requests_in_window(rig)
        assert all(alone[source] for source in SOURCES if source != "pieces"), alone
        for source in SOURCES:
            assert max(beside_some[source], beside_many[source]) <= alone[source] * 1.1 + 3, source
        key = rig.vary("omn")
        for stream in [*one, *some, *many]:
            await stream.holds(lambda held: held[key].state == 2)
