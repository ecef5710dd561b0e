"""B5: a snapshot of many assets, and how soon a process serves, starts again, and prints its help."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

from changes import NOWHERE, SOURCE
from children import pinned
from report import Part, Row, at_least, at_most, figure, unless_missing
from rig import ASSETWATCH, LOAD_CORE, SERVER_CORE

if TYPE_CHECKING:
    from collections.abc import Callable

    from children import Result
    from rig import Rig

ASSETS = 100_000
CROWD = 50


def run(rig: Rig) -> Part:
    """Measure from the clients' side."""
    how = (
        "Snapshot: from the request until the last client has everything, the server on the other core. Start: from the"
        " start of `assetwatch serve` to its line that says it is ready, over five sources and an empty file; again:"
        f" over a SQLite file with {ASSETS:,} assets. Help: the whole process."
    )
    return Part("B5 snapshot and start", how, [*unless_missing("snapshot", partial(_snapshots, rig)), *_starts(rig)])


def _snapshots(rig: Rig) -> list[Row]:
    one, crowd = (rig.repeated(3, partial(snapshot, rig, ASSETS, clients)) for clients in (1, CROWD))
    n, took_s = crowd["n"], f"{figure(crowd['synced_after_s'])} s"
    return [
        at_most(f"snapshot of {ASSETS:,} assets to 1 client", one["synced_after_s"], 2, "s", n=one["n"]),
        Row(f"snapshot of {ASSETS:,} assets to {CROWD} clients", took_s, n=n),
        at_least("clients served of those", crowd["synced"], CROWD, n=n),
    ]


def _starts(rig: Rig) -> list[Row]:
    again = partial(restart, rig, ASSETS)
    return [
        _took(rig, "start to SERVING", 5, partial(_cold, rig), 1),
        _took(rig, f"start to SERVING with {ASSETS:,} assets", 3, again, 3),
        *[
            _took(rig, f"assetwatch {' '.join(words)}", 7, partial(_command, words), 0.25)
            for words in (["--help"], ["watch", "--help"])
        ],
    ]


def _took(rig: Rig, what: str, times: int, run: Callable[[], Result], limit_s: float) -> Row:
    found = rig.repeated(times, run)
    return at_most(what, found["s"], limit_s, "s", n=found["n"])


def snapshot(rig: Rig, assets: int, clients: int) -> Result:
    """Give clients the snapshot at once."""
    options = ("--assets", assets, "--rate", 0, "--sqlite", rig.filled(assets))
    return rig.fanout(*options, streams=clients, warm_up="0s", patience="60s", span="1ms")


def restart(rig: Rig, assets: int) -> Result:
    """Start on a file with so many assets; return the seconds until it serves."""
    store = rig.filled(assets)
    began = time.perf_counter()
    with rig.product({SOURCE: NOWHERE}, store=store):
        return {"s": time.perf_counter() - began}


def _cold(rig: Rig) -> Result:
    with rig.python("upstreams.py", core=LOAD_CORE) as upstreams:
        sources = upstreams.said()["sources"]
        began = time.perf_counter()
        with rig.product(sources):
            return {"s": time.perf_counter() - began}


def _command(words: list[str]) -> Result:
    began = time.perf_counter()
    command = pinned(SERVER_CORE, [ASSETWATCH, *words])
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)  # noqa: S603 - ours
    return {"s": time.perf_counter() - began}
