"""Replicas that take one source from each other, while etcd loses their calls and answers: over a model, many times."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed.store.etcd.store import EtcdStore
from support.contending import Writer, judged
from support.entries import seal
from support.model_etcd import ModelClient, ModelEtcd
from support.virtual_time import run

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit

PREFIX = "/aw/"
WRITERS = 3
FATES = ("done",) * 12 + ("lost", "unanswered", "unanswered", "late", "full", "filling")
RUN_S = 30.0


def fates(rng: random.Random) -> Callable[[], str]:
    return lambda: rng.choice(FATES)


async def contend(seed: int) -> tuple[list[str], Counter[str]]:
    """Let them contend for RUN_S; return what was wrong, and what happened."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    etcd, writers, running = ModelEtcd(), list[Writer](), list[asyncio.Task[None]]()
    clients = []
    for number in range(WRITERS):
        client = ModelClient(etcd, delay_s=lambda: rng.choice((0.001, 0.005, 0.2)))
        clients.append(client)
        store = await EtcdStore.open(client, prefix=PREFIX, seal=seal)
        client.fate = fates(rng)
        writer = Writer(f"w{number}", store, client, PREFIX, rng)
        writers.append(writer)
        running.append(asyncio.create_task(store.run(writer.watched.moved)))
        running.append(asyncio.create_task(writer.run(pause_s=0.2, thinks_s=5.0)))
    loop = asyncio.get_running_loop()
    until = loop.time() + RUN_S
    while loop.time() < until:
        await asyncio.sleep(rng.uniform(0, 1))
        match rng.choice(("watches", "compact", "cut", "nothing")):
            case "watches":
                rng.choice(clients).break_watches()
            case "compact":
                etcd.compact()
            case "cut":
                client = rng.choice(clients)
                client.cut()
                loop.call_later(rng.uniform(0, 4), client.heal)
    for task in running[1::2]:
        task.cancel()
    await asyncio.sleep(15)
    wrong = judged(etcd.history, writers, PREFIX)
    for task in running:
        task.cancel()
    ended = await asyncio.gather(*running, return_exceptions=True)
    wrong += [repr(end) for end in ended if not isinstance(end, asyncio.CancelledError)]
    for writer in writers:
        await writer.store.close()
    return wrong, sum((writer.counts for writer in writers), Counter())


@pytest.mark.parametrize("seed", range(8))
def test_every_commit_is_kept_once_or_not_at_all(seed: int) -> None:
    """Whoever writes, and whatever becomes of calls and watches."""
    wrong, counts = run(contend(seed))
    assert not wrong
    assert counts["kept"] >= 5
    assert counts["terms"] > 1
