"""A process of its own that uses a SQLite store as told: COMMAND PATH. Prints one JSON value a line."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from assetwatchd.changefeed.store.sqlite import SqliteStore
from assetwatchd.model.errors import StoreError
from support.entries import draft

NOBODY = 65534


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201 - it is read from the pipe


async def open_it(path: Path) -> None:
    """Open, say so, hold it until the pipe is closed."""
    try:
        store = await SqliteStore.open(path)
    except StoreError as error:
        say(str(error))
        return
    say(store.head)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await store.close()


async def open_unprivileged(path: Path) -> None:
    """Open as somebody who may only read."""
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    await open_it(path)


async def commit_for_ever(path: Path) -> None:
    """Commit from several tasks at once, saying each revision with its asset once it is told to be durable."""
    store = await SqliteStore.open(path)
    say(store.head)

    async def one(name: str) -> None:
        while True:
            for entry in await store.commit([draft(f"dam/{name}-{n}") for n in range(3)]):
                say([entry.revision, entry.key.asset_id])

    async with asyncio.TaskGroup() as tasks:
        for name in "abcd":
            tasks.create_task(one(name))


async def fill_the_disk(path: Path) -> None:
    """Commit until a file may not grow any more, then make room, and commit again."""
    store = await SqliteStore.open(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    failed: list[str] = []
    while not failed:
        before = (store.head, len(store.after(0, 10**9)), store.count("dam"))
        try:
            await store.commit([draft(f"dam/{store.head + n}", pad_bytes=5000) for n in range(3)])
        except StoreError as error:
            failed.append(str(error))
            assert before == (store.head, len(store.after(0, 10**9)), store.count("dam"))
    say(failed[0])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    entries = await store.commit([draft("dam/after", pad_bytes=5000)])
    assert entries[0].revision == store.head == before[0] + 1
    say(store.head)
    os.kill(os.getpid(), 9)


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]](Path(sys.argv[2])))
