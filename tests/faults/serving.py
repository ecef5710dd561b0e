"""Serves a configuration in a process of its own, as `assetwatch serve` does, with what tests need around it.

Started by launcher.py with CONFIG_JSON JOURNAL. Each entry that becomes readable and each one dropped is a line of
JOURNAL, written before anybody else runs, so it outlives kill -9. Standard input takes one JSON object a line, see
`Console`; standard output has {"ready": ADDRESS} and answers.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from assetwatchd import app
from assetwatchd.changefeed import watcher
from assetwatchd.changefeed.pipeline import Pipeline, Sighting
from assetwatchd.changefeed.store.ledger import Ledger
from assetwatchd.changefeed.store.ledger_store import LedgerStore
from assetwatchd.model.errors import StoreError
from assetwatchd.model.values import Observation, State
from assetwatchd.polling import target, waiters
from assetwatchd.rpc import convert
from assetwatchd.runtime import failpoints
from assetwatchd.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assetwatchd.model.values import AssetKey, Entry

STATES = (State.AVAILABLE, State.PROCESSING)


class Journal:
    """Appends lines to a file, unbuffered."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, **line: object) -> None:
        """Write one line, stamped with the monotonic clock all processes share."""
        os.write(self._file, json.dumps({"t": time.monotonic(), **line}).encode() + b"\n")

    def record_entries(self) -> None:
        """Write a line at each change of any ledger."""
        put, drop = Ledger.put, Ledger.drop

        def put_and_write(ledger: Ledger, entry: Entry) -> None:
            put(ledger, entry)
            upsert = base64.b64encode(entry.upsert).decode()
            fields = {"source": entry.key.source, "id": entry.key.asset_id, "state": int(entry.state)}
            self.write(kind="entry", revision=entry.revision, gone=entry.gone, upsert=upsert, **fields)

        def drop_and_write(ledger: Ledger, keys: Iterable[AssetKey]) -> None:
            going = list(keys)
            found = [entry.revision for key in going if (entry := ledger.get(key)) is not None]
            self.write(kind="drop", revisions=found)
            drop(ledger, going)

        forget = LedgerStore.forget

        def write_and_forget(store: LedgerStore, key: AssetKey) -> None:
            if (entry := store.get(key)) is not None and entry.gone:
                self.write(kind="forget", revision=entry.revision)
            forget(store, key)

        LedgerStore.forget = write_and_forget  # type: ignore[method-assign,assignment]  # its self is the store
        Ledger.put, Ledger.drop = put_and_write, drop_and_write  # type: ignore[method-assign,assignment]  # their self is the ledger


class Console:
    """Takes commands from standard input.

    {"arm": NAME, "sleep_s": S | "raise": true | "exit": true, "times": N}, {"disarm": true}, {"census": true},
    {"ingest": {"source": NAME, "assets": N, "per_s": N}}: change made-up assets past the adapters; per_s 0 ends it.
    """

    def __init__(self, journal: Journal, pipeline: Pipeline) -> None:
        self._journal = journal
        self._pipeline = pipeline
        self._ingesting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Obey until standard input ends."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            command = json.loads(line)
            if "arm" in command:
                self._arm(command)
            elif "disarm" in command:
                failpoints.disarm()
            elif "census" in command:
                gc.collect()
                say(census=census())
            elif "ingest" in command:
                self._ingest(command["ingest"])

    def _ingest(self, wanted: dict[str, Any]) -> None:
        if self._ingesting is not None:
            self._ingesting.cancel()
        if wanted["per_s"]:
            self._ingesting = asyncio.create_task(self._changes(**wanted))

    async def _changes(self, source: str, assets: int, per_s: int) -> None:
        """Change one asset after the other, a hundredth of a second's worth at a time."""
        loop = asyncio.get_running_loop()
        began, done = loop.time(), 0
        while True:
            due = int((loop.time() - began) * per_s)
            numbers = range(done, min(due, done + assets))
            observed = [Observation(f"tid:made-up-{n % assets}", STATES[n // assets % 2]) for n in numbers]
            await self._pipeline.ingest(source, [Sighting(each, time.time()) for each in observed])
            done = max(done, due)
            await asyncio.sleep(0.01)

    def _arm(self, command: dict[str, Any]) -> None:
        name, left = command["arm"], command.get("times", 1_000_000)

        async def act() -> None:
            nonlocal left
            if left <= 0:
                return
            left -= 1
            self._journal.write(kind="point", name=name)
            if command.get("exit"):
                os._exit(70)
            if command.get("raise"):
                raise OSError(f"raised at {name}")
            await asyncio.sleep(command.get("sleep_s", 0.0))

        failpoints.arm(name, act)


def census() -> dict[str, int]:
    """Count what must not grow."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "tasks": len(asyncio.all_tasks()),
        "fds": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "rss_bytes": int(status["VmRSS"].split()[0]) * 1024,
        "watchers": sum(1 for each in gc.get_objects() if type(each) is watcher.Watcher),
    }


def say(**what: object) -> None:
    """Answer on standard output."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def shorten(spans: dict[str, float]) -> None:
    """Shorten what no setting shortens."""
    app.TIDY_INTERVAL_S = spans.get("tidy_interval_s", app.TIDY_INTERVAL_S)
    waiters.DOUBT_S = spans.get("doubt_s", waiters.DOUBT_S)


async def serve(config: dict[str, Any], journal: Journal) -> None:
    """Serve until SIGTERM."""

    def ready(address: str) -> None:
        store = serving.store
        journal.write(kind="ready", epoch=store.epoch, head=store.head, floor=store.floor)
        say(ready=address)

    settings = Settings.model_validate(config["settings"])
    serving = app.App(settings, await app.open_store(settings.store))
    pipeline = Pipeline(serving.store, serving.hub, convert.ProtobufEncoder())
    console = asyncio.create_task(Console(journal, pipeline).run())
    with app.stopped_by_signals(serving, lasting=True):
        await serving.serve(ready)
    console.cancel()


def main() -> None:
    """Run it; a refused event ends it, and so is a violation."""
    target.refusals.strict = True
    config = json.loads(Path(sys.argv[1]).read_text())
    journal = Journal(Path(sys.argv[2]))
    journal.write(kind="boot", pid=os.getpid())
    if config["settings"]["store"]["kind"] != "etcd":  # of what several processes share, none has all
        journal.record_entries()
    shorten(config.get("spans", {}))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(config, journal))
        except StoreError as error:  # as the command line does
            sys.exit(str(error))
