"""The faults of replicas and of their etcd: each does its harm to a running world, heals it, and tells if it struck."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

from faults import catalogue
from faults.rig.evidence import Window
from faults.rig.waiting import until

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from assetwatch_sandbox.etcd import Member
    from faults.rig.replica import Replica
    from faults.rig.replicas import Replicas

PAUSES_S = (1, 3, 5, 10)
POINTS = (
    "before_send",
    "before_bookmark",
    "before_subscribe_register",
    "after_log_read",
    "before_txn",
    "after_txn_before_ack",
)
REREAD = "all is read anew"
"""What a replica says for which etcd no longer kept what it had missed."""


# Replicas -------------------------------------------------------------------------------------------------------------


async def kill(world: Replicas, rng: random.Random) -> Window:
    """Kill -9 one of them, back after 0, 1 or 4 s."""
    return await killed(world, rng.choice(world.replicas), rng.choice((0, 1, 4)))


async def kill_owner(world: Replicas, rng: random.Random) -> Window:
    """Kill -9 one that owns something."""
    return await killed(world, world.owner(), rng.choice((0, 1, 4)))


async def killed(world: Replicas, replica: Replica, away_s: float) -> Window:
    """Kill -9 that one; back after so long."""
    began, owned = time.monotonic(), world.owned_by(replica)
    code = await replica.kill()
    await asyncio.sleep(away_s)
    await replica.start()
    words = f"R kill -9 of {'an owner' if owned else 'one that owns nothing'}"
    return Window(words, began, time.monotonic(), fired=code == -signal.SIGKILL)


async def term(world: Replicas, rng: random.Random) -> Window:
    """SIGTERM one of them, started again."""
    return await terminated(rng.choice([world.owner(), rng.choice(world.replicas)]), rng.choice((0, 1)))


async def terminated(replica: Replica, away_s: float) -> Window:
    """SIGTERM that one; back after so long."""
    began = time.monotonic()
    code = await replica.stop()
    await asyncio.sleep(away_s)
    await replica.start()
    return Window("R SIGTERM", began, time.monotonic(), fired=code == 0)


async def rolling(world: Replicas, _: random.Random) -> Window:
    """SIGTERM each in turn, one after the other, as a rolling update does (F14)."""
    began, fired = time.monotonic(), True
    for replica in world.replicas:
        fired = (await terminated(replica, 0)).fired and fired
    return Window("R rolling restart", began, time.monotonic(), fired)


async def pause(world: Replicas, rng: random.Random) -> Window:
    """SIGSTOP one of them for 1 to 10 s: less than a lease, or longer."""
    return await paused(rng.choice([world.owner(), rng.choice(world.replicas)]), rng.choice(PAUSES_S))


async def paused(replica: Replica, for_s: float) -> Window:
    """SIGSTOP that one for so long."""
    began = time.monotonic()
    replica.server.signal(signal.SIGSTOP)
    await asyncio.sleep(for_s)
    fired = replica.server.stopped()
    replica.server.signal(signal.SIGCONT)
    return Window(f"R SIGSTOP {for_s} s", began, time.monotonic(), fired)


async def cut(world: Replicas, rng: random.Random) -> Window:
    """Hold everything between one of them and etcd for 1 to 9 s."""
    return await cut_off(rng.choice([world.owner(), rng.choice(world.replicas)]), rng.choice((1, 3, 6, 9)))


async def cut_off(replica: Replica, for_s: float) -> Window:
    """Hold everything between that one and etcd for so long."""
    began, before = time.monotonic(), replica.held_chunks
    replica.cut()
    await asyncio.sleep(for_s)
    fired = replica.held_chunks > before
    replica.heal()
    return Window("R cut from etcd", began, time.monotonic(), fired)


async def links(world: Replicas, rng: random.Random) -> Window:
    """Reset all connections of one of them to etcd, again and again."""
    replica = rng.choice(world.replicas)
    began, before = time.monotonic(), sum(link.counts.resets for link in replica.links)
    await asyncio.gather(*(link.reset_repeatedly(every_s=0.2, for_s=2) for link in replica.links))
    return Window("R RST to etcd", began, time.monotonic(), sum(link.counts.resets for link in replica.links) > before)


async def point(world: Replicas, rng: random.Random) -> Window:
    """An owner sleeps at one delay point: a moment, or longer than its lease."""
    return await slept(world, world.owner(), rng.choice(POINTS), rng.choice((1.0, 5.0)), rng.choice((1, 3)))


async def slept(world: Replicas, replica: Replica, name: str, sleep_s: float, times: int) -> Window:
    """Let one sleep at a delay point, so often."""
    began = time.monotonic()
    replica.server.tell(arm=name, sleep_s=sleep_s, times=times)
    await asyncio.sleep(sleep_s + 1)
    replica.server.tell(disarm=True)
    await asyncio.sleep(sleep_s)
    return Window(f"R sleep at {name}", began, time.monotonic(), _passed(world, name, began))


async def point_exit(world: Replicas, rng: random.Random) -> Window:
    """An owner ends at one delay point; the supervisor starts it anew."""
    return await exited(world, world.owner(), rng.choice(POINTS))


async def exited(world: Replicas, replica: Replica, name: str) -> Window:
    """Let one end at a delay point."""
    began, before = time.monotonic(), len(replica.ended)
    replica.server.tell(arm=name, exit=True, times=1)
    if not await until(lambda: len(replica.ended) > before, 3):
        replica.server.tell(disarm=True)
        return Window(f"R exit at {name}", began, time.monotonic(), fired=False)
    await replica.up()
    fired = _passed(world, name, began)
    return Window(f"R exit at {name}", began, time.monotonic(), fired, ends=True)


def _passed(world: Replicas, name: str, since: float) -> bool:
    return any(t >= since and passed == name for each in world.replicas for t, passed in each.points())


# etcd -----------------------------------------------------------------------------------------------------------------


async def etcd_kill(world: Replicas, rng: random.Random) -> Window:
    """Kill -9 a member, back after 0, 1 or 3 s."""
    return await member_killed(rng.choice(world.etcd.members), rng.choice((0, 1, 3)), "E kill -9 of a member")


async def member_killed(member: Member, away_s: float, words: str) -> Window:
    """Kill -9 that member; back after so long."""
    began, fired = time.monotonic(), bool(member.pid)
    await asyncio.to_thread(member.kill)
    await asyncio.sleep(away_s)
    member.start()
    await asyncio.to_thread(member.wait)
    return Window(words, began, time.monotonic(), fired)


async def etcd_leader(world: Replicas, rng: random.Random) -> Window:
    """Kill -9 the member that leads, or let it stand still: where there are three, another one is elected."""
    leader = await world.etcd.leader()
    if leader is None:
        return Window("E leader lost", time.monotonic(), time.monotonic(), fired=False)
    if rng.random() < 0.5:
        return await member_killed(leader, rng.choice((1, 3)), "E leader killed")
    return await member_paused(leader, rng.choice((2, 5)), "E leader paused")


async def etcd_pause(world: Replicas, rng: random.Random) -> Window:
    """SIGSTOP a member for 1 to 10 s."""
    return await member_paused(rng.choice(world.etcd.members), rng.choice(PAUSES_S), "E SIGSTOP of a member")


async def member_paused(member: Member, for_s: float, words: str) -> Window:
    """SIGSTOP that member for so long."""
    began, fired = time.monotonic(), bool(member.pid)
    member.pause()
    await asyncio.sleep(for_s)
    member.go_on()
    return Window(words, began, time.monotonic(), fired)


async def etcd_older(world: Replicas, rng: random.Random) -> Window:
    """A backup of etcd is put back, from a second or so before: replicas end, and are started anew."""
    began = time.monotonic()
    await world.etcd.back_up()
    await asyncio.sleep(rng.uniform(1.5, 2.5))
    fired = await put_back(world, world.etcd.put_back)
    return Window("E older data", began, time.monotonic(), fired, ends=True)


async def etcd_wiped(world: Replicas, _: random.Random) -> Window:
    """Etcd begins with nothing: replicas end, and are started anew."""
    began = time.monotonic()
    fired = await put_back(world, world.etcd.wipe)
    return Window("E wiped", began, time.monotonic(), fired, ends=True)


async def put_back(world: Replicas, change: Callable[[], Awaitable[None]]) -> bool:
    """Change etcd's data under everybody, until all replicas have noticed; return whether its revision went back.

    Nobody hears anything meanwhile, so that nobody hears of what the rig has not.
    """
    for replica in world.replicas:
        replica.cut()
    before = await world.etcd.revision()
    await world.history.reached(before)
    await world.follow_no_more()
    ended = [len(replica.ended) for replica in world.replicas]
    await change()
    world.history.put_back()
    world.follow()
    went_back = await world.etcd.revision() < before
    for replica in world.replicas:
        replica.heal()
    await until(lambda: all(len(each.ended) > count for each, count in zip(world.replicas, ended, strict=True)), 10)
    await asyncio.gather(*(replica.up() for replica in world.replicas))
    return went_back


async def etcd_full(world: Replicas, rng: random.Random) -> Window:
    """Etcd's quota is used up; after a while somebody makes room, and ends the alarm."""
    began = time.monotonic()
    full = await world.etcd.fill_up()
    await asyncio.sleep(rng.choice((1, 3, 6)))
    await world.history.reached(await world.etcd.revision())
    await world.etcd.make_room()
    return Window("E quota full", began, time.monotonic(), fired=full)


async def etcd_compact(world: Replicas, rng: random.Random) -> Window:
    """Etcd is compacted while a replica is away: it has to read all anew."""
    return await compacted(world, rng.choice(world.replicas), rng.choice((1, 3)))


async def compacted(world: Replicas, replica: Replica, away_s: float) -> Window:
    """Compact while that one is away."""
    began, before = time.monotonic(), replica.said(REREAD)
    replica.cut()
    for link in replica.links:
        link.reset()
    await asyncio.sleep(away_s)
    revision = await world.etcd.revision()
    await world.history.reached(revision)
    await world.etcd.compact(revision)
    replica.heal()
    fired = await until(lambda: replica.said(REREAD) > before, 5)
    return Window("E compaction while a replica is away", began, time.monotonic(), fired)


OF_ONE = ("F4-front", "F4-back", "F5-delay", "F5-throttle", "F6-reset", "F6-cut", "F9", "F10", "F10-clock", "F10-down")
"""Faults of links, upstreams and clients, which are the same whoever serves."""
FAULTS: Mapping[str, Callable[[Replicas, random.Random], Awaitable[Window]]] = {
    "R-kill": kill,
    "R-kill-owner": kill_owner,
    "R-term": term,
    "R-rolling": rolling,
    "R-pause": pause,
    "R-cut": cut,
    "R-reset": links,
    "R-point": point,
    "R-point-exit": point_exit,
    "E-kill": etcd_kill,
    "E-pause": etcd_pause,
    "E-older": etcd_older,
    "E-wiped": etcd_wiped,
    "E-full": etcd_full,
    "E-compact": etcd_compact,
    "E-leader": etcd_leader,
    **{name: catalogue.FAULTS[name] for name in (*OF_ONE, "F11", "F12", "F12-slow")},
}
OF_SEVERAL_MEMBERS = frozenset({"E-leader"})
"""What one member of etcd alone cannot go through."""


def names(members: int) -> Sequence[str]:
    """Return the faults that there are, with so many members of etcd."""
    return [name for name in FAULTS if members > 1 or name not in OF_SEVERAL_MEMBERS]
