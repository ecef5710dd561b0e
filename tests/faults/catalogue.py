"""The faults of one process: each does its harm to a running world, heals it, and tells whether it struck."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import TYPE_CHECKING, Any

from assetwatch_sandbox.media_intelligence.answers import success
from assetwatch_sandbox.media_intelligence.results import page
from faults.rig.evidence import Window, read_journal
from faults.rig.recorder import Recorder, cancel_at_random
from faults.rig.upstreams import MEDIA, OMN, PIECES, SOURCES

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from faults.rig.world import World

POINTS = (
    "before_send",
    "before_bookmark",
    "before_subscribe_register",
    "after_log_read",
    "before_floor_write",
    "after_floor_before_purge",
)


async def f1_kill(world: World, rng: random.Random) -> Window:
    """F1: kill -9, back after 0, 1 or 3 s."""
    began = time.monotonic()
    code = await world.server.kill()
    await asyncio.sleep(rng.choice((0, 0, 1, 3)))
    await world.server.start()
    return Window("F1 kill -9", began, time.monotonic(), fired=code == -signal.SIGKILL, restarts=True)


async def f1_term(world: World, rng: random.Random) -> Window:
    """F1, gently: SIGTERM, drained, started again."""
    began = time.monotonic()
    code = await world.server.stop()
    await asyncio.sleep(rng.choice((0, 1)))
    await world.server.start()
    return Window("F1 SIGTERM", began, time.monotonic(), fired=code == 0, restarts=True)


async def f3_stop(world: World, rng: random.Random) -> Window:
    """F3: SIGSTOP the server for a while."""
    began = time.monotonic()
    world.server.signal(signal.SIGSTOP)
    await asyncio.sleep(rng.choice((1, 1, 5)))
    fired = world.server.stopped()
    world.server.signal(signal.SIGCONT)
    return Window("F3 SIGSTOP", began, time.monotonic(), fired)


async def f4_front(world: World, rng: random.Random) -> Window:
    """F4: between clients and server everything is held."""
    began = time.monotonic()
    before = world.front.counts.held_chunks
    world.front.blackhole()
    await asyncio.sleep(rng.choice((1, 1, 5)))
    world.front.heal()
    return Window("F4 blackhole before the server", began, time.monotonic(), world.front.counts.held_chunks > before)


async def f4_back(world: World, rng: random.Random) -> Window:
    """F4: between server and an upstream everything is held."""
    source = rng.choice(SOURCES)
    proxy = world.upstreams.proxies[source]
    began, before = time.monotonic(), proxy.counts.held_chunks
    proxy.blackhole()
    await asyncio.sleep(rng.choice((1, 1, 5)))
    proxy.heal()
    fired = proxy.counts.held_chunks > before
    return Window(f"F4 blackhole before {source}", began, time.monotonic(), fired, source)


async def f5_delay(world: World, rng: random.Random) -> Window:
    """F5: 75 ± 50 ms on each link."""
    began = time.monotonic()
    proxies = [world.front, *world.upstreams.proxies.values()]
    before = sum(proxy.counts.delayed_chunks for proxy in proxies)
    for proxy in proxies:
        proxy.delay(0.075, 0.05)
    await asyncio.sleep(rng.uniform(1, 3))
    for proxy in proxies:
        proxy.heal()
    fired = sum(proxy.counts.delayed_chunks for proxy in proxies) > before
    return Window("F5 delay", began, time.monotonic(), fired)


async def f5_throttle(world: World, rng: random.Random) -> Window:
    """F5: 10 KiB/s on each connection of clients."""
    began, before = time.monotonic(), world.front.counts.delayed_chunks
    world.front.throttle(10 * 1024)
    await asyncio.sleep(rng.uniform(1, 3))
    world.front.heal()
    return Window("F5 throttle", began, time.monotonic(), world.front.counts.delayed_chunks > before)


async def f6_reset(world: World, rng: random.Random) -> Window:
    """F6: RST every 200 ms for 2 s on one link, in the middle of whatever is sent."""
    proxy = rng.choice([world.front, *world.upstreams.proxies.values()])
    began, before = time.monotonic(), proxy.counts.resets
    await proxy.reset_repeatedly(every_s=0.2, for_s=2)
    return Window("F6 RST", began, time.monotonic(), proxy.counts.resets > before)


async def f6_cut(world: World, rng: random.Random) -> Window:
    """F6: each connection of clients is cut after some thousand bytes."""
    began, before = time.monotonic(), world.front.counts.resets
    world.front.cut_after(rng.randrange(200, 20_000))
    await asyncio.sleep(2)
    world.front.heal()
    return Window("F6 cut", began, time.monotonic(), world.front.counts.resets > before)


async def f7_sleep(world: World, rng: random.Random) -> Window:
    """F7: 1 s at one delay point, for some of those who pass it."""
    name = _point(world, rng)
    began = time.monotonic()
    world.server.tell(arm=name, sleep_s=1.0, times=rng.choice((1, 3, 10)))
    await asyncio.sleep(2)
    world.server.tell(disarm=True)
    await asyncio.sleep(1)
    return Window(f"F7 sleep at {name}", began, time.monotonic(), _passed(world, name, began))


async def f7_exit(world: World, rng: random.Random) -> Window:
    """F7: the process ends at one delay point; started again."""
    name = _point(world, rng)
    began = time.monotonic()
    world.server.tell(arm=name, exit=True, times=1)
    try:
        await asyncio.wait_for(world.server.exited(), 3)
    except TimeoutError:
        world.server.tell(disarm=True)
        return Window(f"F7 exit at {name}", began, time.monotonic(), fired=False)
    await world.server.start()
    return Window(f"F7 exit at {name}", began, time.monotonic(), _passed(world, name, began), restarts=True)


def _point(world: World, rng: random.Random) -> str:
    """Choose one that is passed: those of the sweep are, where removals are kept shortly."""
    swept = world.plan.retention_s <= 1
    return rng.choice(POINTS if swept else [name for name in POINTS if "floor" not in name])


async def f8_wiped(world: World, rng: random.Random) -> Window:
    """F8: the file of the store is gone when the server starts again."""
    began = time.monotonic()
    code = await world.server.kill()
    files = _store_files(world)
    for file in files:
        file.unlink()
    await asyncio.sleep(rng.choice((0, 1)))
    await world.server.start()
    return Window("F8 store wiped", began, time.monotonic(), code == -signal.SIGKILL and bool(files), restarts=True)


async def f8_older(world: World, rng: random.Random) -> Window:
    """F8: a backup of the store is put back, from a second or so before."""
    began = time.monotonic()
    await world.server.kill()
    backup = {file: file.read_bytes() for file in _store_files(world)}
    await world.server.start()
    await asyncio.sleep(rng.uniform(1, 2))
    before = read_journal(world.server.journal).last.revisions[-1]
    await world.server.kill()
    for file in _store_files(world):
        file.unlink()
    for file, content in backup.items():
        file.write_bytes(content)
    await world.server.start()
    went_back = read_journal(world.server.journal).heads[-1] < before
    return Window("F8 older store", began, time.monotonic(), fired=went_back, restarts=True)


def _store_files(world: World) -> list[Path]:
    return list(world.directory.glob("store.db*"))


async def f9_sweep(world: World, rng: random.Random) -> Window:
    """F9: tombstones go every 200 ms while clients are cut and resume."""
    began = time.monotonic()
    for _ in range(rng.randrange(5, 15)):
        world.front.reset()
        await asyncio.sleep(rng.uniform(0.1, 0.3))
    drops = [t for line in world.journal().lines for t, dropped in line.drops if any(dropped)]
    return Window("F9 sweep and resume", began, time.monotonic(), any(t > began for t in drops))


ANSWERS: Mapping[str, Mapping[str, object]] = {
    "500": {"status": 500, "body": "no"},
    "429": {"status": 429, "body": "later", "headers": {"Retry-After": "2"}},
    "hang": {"hang": True},
    "slow body": {"drip_bytes_per_s": 50},
    "truncated": {"truncate_bytes": 40},
    "empty": {"status": 200, "body": ""},
    "not UTF-8": {"charset_garbage": True},
    "no connection": {"disconnect": True},
}
ONCE: Mapping[str, object] = {"status": 200, "content_type": "application/json", "times": 1}
LISTS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    OMN: {
        "empty list": {**ONCE, "path": "/query", "body": '{"tids": []}'},
        "list with doubles": {**ONCE, "path": "/query", "body": '{"tids": ["LOAD-00000000", "LOAD-00000000"]}'},
    },
    MEDIA: {
        "empty list": {**ONCE, "path": "/assets[?]", "body": json.dumps(success(page([], total=0, number=1, size=100)))}
    },
    PIECES: {"empty first frame": {"on": "frame", "path": "/assets/stream", "body": '{"iterable": []}', "times": 1}},
}
"""What is false of a whole source, once: a second one alike would be believed."""


def answers_of(source: str) -> Mapping[str, Mapping[str, object]]:
    """Return every bad answer that a source can give."""
    return {**ANSWERS, **LISTS.get(source, {})}


async def f10_answers(world: World, rng: random.Random) -> Window:
    """F10: an upstream answers badly, or not at all."""
    source = rng.choice(SOURCES)
    what = rng.choice(list(answers_of(source)))
    return await answering(world, source, what, rng.choice((1, 2, 4)))


async def answering(world: World, source: str, what: str, for_s: float) -> Window:
    """Let an upstream answer so for a while."""
    standin = world.upstreams[source]
    began, before = time.monotonic(), standin.faults.struck
    standin.faults.add(**answers_of(source)[what])
    if what == "empty first frame":
        await standin.commands["drop_streams"]({})
    await asyncio.sleep(for_s)
    standin.faults.clear()
    fired = standin.faults.struck > before
    silent = what in {"500", "hang", "no connection"} and source != PIECES
    return Window(f"F10 {what} of {source}", began, time.monotonic(), fired, source, silent=silent)


async def f10_down(world: World, rng: random.Random) -> Window:
    """F10: an upstream does not listen at all."""
    source = rng.choice(SOURCES)
    counts = world.upstreams.proxies[source].counts
    began, before = time.monotonic(), counts.refused
    await world.upstreams[source].stop()
    await asyncio.sleep(rng.choice((1, 2, 4)))
    await world.upstreams[source].start()
    fired = counts.refused > before
    return Window(f"F10 {source} is down", began, time.monotonic(), fired, source, silent=True)


async def f10_clock(world: World, rng: random.Random) -> Window:
    """F10: the clocks of all upstreams are an hour off: what they stamp is of the future, or older than before."""
    began, before = time.monotonic(), world.upstreams.misdated
    world.upstreams.ahead_s = rng.choice((-3600.0, 3600.0))
    await asyncio.sleep(rng.choice((1, 2, 4)))
    world.upstreams.ahead_s = 0.0
    return Window("F10 clocks off", began, time.monotonic(), world.upstreams.misdated > before)


async def f11_push(world: World, rng: random.Random) -> Window:
    """F11: the push connection is dropped, half open, or its frames are lost while the first one is sent."""
    return await rng.choice((_dropped, _half_open, _pushed_meanwhile))(world, rng)


async def _dropped(world: World, rng: random.Random) -> Window:
    began, dropped = time.monotonic(), 0
    for _ in range(rng.randrange(1, 5)):
        told: Any = await world.upstreams[PIECES].commands["drop_streams"]({})
        dropped += told["connections"]
        await asyncio.sleep(0.2)
    return Window("F11 drop", began, time.monotonic(), dropped > 0, PIECES)


async def _half_open(world: World, _: random.Random) -> Window:
    proxy = world.upstreams.proxies[PIECES]
    began, before = time.monotonic(), proxy.counts.held_chunks
    proxy.blackhole()
    await asyncio.sleep(1.5)
    proxy.reset()
    proxy.heal()
    return Window("F11 half open", began, time.monotonic(), proxy.counts.held_chunks > before, PIECES)


async def _pushed_meanwhile(world: World, _: random.Random) -> Window:
    """Every connection begins anew, slowly, so that assets change while the first frame is under way."""
    proxy, requests = world.upstreams.proxies[PIECES], world.upstreams[PIECES].requests
    began, before = time.monotonic(), requests.count("/stream")
    proxy.delay(0.2, 0.1)
    fired = proxy.reset() > 0
    await asyncio.sleep(2)
    proxy.heal()
    fired = fired and requests.count("/stream") > before
    return Window("F11 push during the first frame", began, time.monotonic(), fired, PIECES)


async def f12_clients(world: World, rng: random.Random) -> Window:
    """F12: clients that cancel at any moment, and 200 that connect at once."""
    began = time.monotonic()
    wanted = world.recorders[0].wanted
    begun = await cancel_at_random(world.address(), wanted, count=200, rng=rng, together=200)
    return Window("F12 200 at once, cancelled", began, time.monotonic(), fired=begun > 0)


async def f12_slow(world: World, rng: random.Random) -> Window:
    """F12: clients that read ten messages a second."""
    began = time.monotonic()
    slow = [_Slow(f"slow-{number}", world.address, world.recorders[number].wanted) for number in range(4)]
    tasks = [asyncio.create_task(each.run()) for each in slow]
    await asyncio.sleep(rng.uniform(1, 2))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    fired = any(stream.messages for each in slow for stream in each.streams)
    return Window("F12 slow readers", began, time.monotonic(), fired)


class _Slow(Recorder):
    """Reads ten messages a second."""

    def take(self, message: object) -> None:
        """Count it as taken."""

    async def _read(self, call: object) -> object:
        await asyncio.sleep(0.1)
        return await super()._read(call)


def _passed(world: World, name: str, since: float) -> bool:
    return any(t >= since and point == name for t, point in world.journal().points)


FAULTS: Mapping[str, Callable[[World, random.Random], Awaitable[Window]]] = {
    "F1": f1_kill,
    "F1-term": f1_term,
    "F3": f3_stop,
    "F4-front": f4_front,
    "F4-back": f4_back,
    "F5-delay": f5_delay,
    "F5-throttle": f5_throttle,
    "F6-reset": f6_reset,
    "F6-cut": f6_cut,
    "F7-sleep": f7_sleep,
    "F7-exit": f7_exit,
    "F8-wiped": f8_wiped,
    "F8-older": f8_older,
    "F9": f9_sweep,
    "F10": f10_answers,
    "F10-clock": f10_clock,
    "F10-down": f10_down,
    "F11": f11_push,
    "F12": f12_clients,
    "F12-slow": f12_slow,
}
