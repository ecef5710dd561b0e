"""B1: changes delivered to many watchers, beside etcd and beside a bare grpc.aio server."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

import plots
from cells import Cell
from changes import change, message
from report import Missing, Part, Row, at_least, at_most, figure, unless_missing
from rig import etcd_program, medians, paired, spread, used

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from children import Child, Result
    from rig import Rig

ASSETS = 1000
FILTERS = 4
ADMITTED_S = 3
TIMES = {"warm_up": f"{ADMITTED_S}s", "span": "3s"}
PATIENCE = "6s"
"""Streams not in sync by then, beyond the warm-up, are not waited for."""
FULL_CORE = 0.95
CHANGES_A_MESSAGE = 100
HELD = 0.98
"""A rate counts as held when this share of the changes due arrives, and of those that the server commits meanwhile; a
range may pass over a state already replaced."""


QUIET, BUSY, MANY = Cell(1000, 100, 3), Cell(1000, 2000, 3), Cell(3000, 500, 3)
OURS, PUTS, TRANSACTIONS, BARE = "assetwatch", "etcd, puts", "etcd, transactions", "bare grpc.aio"
CELLS = (
    Cell(10, 100),
    Cell(100, 100),
    Cell(100, 500),
    Cell(100, 2000),
    QUIET,
    Cell(1000, 500),
    BUSY,
    MANY,
    Cell(3000, 2000),
)
PEERS_IN = {
    PUTS: {Cell(10, 100), Cell(100, 500), QUIET, Cell(1000, 500), BUSY, MANY},
    TRANSACTIONS: {BUSY},
    BARE: {BUSY},
}
"""In which cells the others are measured, each in turns with ours."""
LATECOMERS = 200
"""Streams that come while those of BUSY go on."""

Found = dict[str, dict[Cell, list["Result"]]]
"""The runs of each system in each cell."""


def run(rig: Rig) -> Part:
    """Measure every cell, the peers in turns with ours."""
    systems: dict[str, Callable[[Rig, Cell], Result]] = {OURS: assetwatch, BARE: bare}
    absent = [*unless_missing("etcd", partial(_etcd_starts, rig))]
    if not absent:
        systems |= {PUTS: partial(etcd, together=False), TRANSACTIONS: partial(etcd, together=True)}
    found: Found = {name: {} for name in systems}
    for cell in CELLS:
        here = {name: partial(run, rig, cell) for name, run in systems.items() if cell in PEERS_IN.get(name, CELLS)}
        for name, runs in rig.turns(cell.times, here).items():
            found[name][cell] = runs
    single = rig.repeated(1, partial(bare, rig, BUSY, changes=1))
    shown = {name: {cell: medians(runs) for cell, runs in cells.items()} for name, cells in found.items()}
    rows = [
        _row(name, cell, figures)
        for name in (OURS, PUTS, TRANSACTIONS)
        for cell, figures in shown.get(name, {}).items()
    ]
    rows += [_ceiling_row(CHANGES_A_MESSAGE, shown[BARE][BUSY]), _ceiling_row(1, single)]
    rows += [*absent, *_targets(found, shown[OURS]), *([] if absent else _against(found))]
    return _part(rows, shown)


def assetwatch(rig: Rig, cell: Cell, *, assets: int = ASSETS, **load: object) -> Result:
    """Watch the product: SQLite, filters, tokens, metrics and one trace in a hundred on."""
    options = ("--rate", cell.rate, "--assets", assets, "--sqlite", rig.filled(assets), "--otlp", rig.otlp())
    late = LATECOMERS if cell == BUSY else 0
    told = {"streams": cell.watchers, "filters": FILTERS, "patience": PATIENCE, "late": late, **TIMES, **load}
    return rig.fanout(*options, **told)


def bare(rig: Rig, cell: Cell, *, changes: int = CHANGES_A_MESSAGE) -> Result:
    """Watch a server that only writes, messages of so many changes."""
    with rig.python("ceiling_server.py", "--changes", changes) as server:
        return rig.load(server.said()["address"], streams=cell.watchers, pid=server.pid, each=changes, **TIMES)


def _etcd_starts(rig: Rig) -> list[Row]:
    with etcd_server(rig):
        return []


def etcd(rig: Rig, cell: Cell, *, together: bool) -> Result:
    """Watch etcd, written to from the load's core; together: what is due at one moment as one transaction."""
    value = rig.fresh("change")
    value.write_bytes(change(0))
    with etcd_server(rig) as (server, address):
        return rig.load(
            address,
            mode="etcd",
            streams=cell.watchers,
            rate=cell.rate,
            keys=ASSETS,
            value=value,
            pid=server.pid,
            patience=PATIENCE,
            together=str(together).lower(),
            **TIMES,
        )


@contextlib.contextmanager
def etcd_server(rig: Rig) -> Iterator[tuple[Child, str]]:
    """Run etcd on the server's core. Raises: Missing."""
    client, peer = _free_port(), _free_port()
    urls = {
        "listen-client-urls": f"http://127.0.0.1:{client}",
        "advertise-client-urls": f"http://127.0.0.1:{client}",
        "listen-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-cluster": f"default=http://127.0.0.1:{peer}",
        "data-dir": rig.fresh("etcd"),
        "log-level": "error",
    }
    flags = [f"--{name}={value}" for name, value in urls.items()]
    with rig.child(etcd_program(), *flags, env={"GOMAXPROCS": "1"}) as server:
        _listening(client, server)
        yield server, f"127.0.0.1:{client}"
        server.process.send_signal(signal.SIGKILL)  # its data is thrown away


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _listening(port: int, server: Child, within_s: float = 20) -> None:
    until = time.monotonic() + within_s
    while time.monotonic() < until and server.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise Missing("etcd did not start")


# Rows ----------------------------------------------------------------------------------------------------------------


def _row(name: str, cell: Cell, found: Result) -> Row:
    lag = f"p50 {figure(found['age_p50_ms'])} ms, p99 {figure(found['age_p99_ms'])} ms"
    share = f"{100 * found['changes_per_s'] / cell.due:.0f} % of those due"
    admitted = f"{found['open_at_warm_up']:,.0f} streams in {ADMITTED_S} s"
    note = f"{share}; {lag}; {admitted}; {_used(found)}, written {figure(found['written_per_s'])}/s"
    return Row(f"{name} {cell}", f"{found['changes_per_s']:,.0f}/s", note=note, n=found["n"])


def _ceiling_row(count: int, found: Result) -> Row:
    name = f"bare grpc.aio, {BUSY.watchers:,} streams, {count} a message"
    note = f"{found['messages_per_s']:,.0f} messages/s of {len(message(count)):,} bytes; {_used(found)}"
    return Row(name, f"{found['changes_per_s']:,.0f}/s", note=note, n=found["n"])


def _used(found: Result) -> str:
    limit = " (the load is the limit)" if found["load_share"] > FULL_CORE else ""
    return f"{used(found)}{limit}, RSS {found['server_rss_mb']:.0f} MB"


def _targets(found: Found, ours: dict[Cell, Result]) -> list[Row]:
    busy, n = ours[BUSY], ours[BUSY]["n"]
    ceiling = paired(found[OURS][BUSY], found[BARE][BUSY], "changes_per_s")
    late = f"late streams open {ADMITTED_S} s after they come to {BUSY}"
    return [
        at_most(f"p99 at {BUSY}", busy["age_p99_ms"], 250, "ms", n=n),
        _held(ours[MANY]),
        at_least(f"of the write ceiling at {BUSY}", 100 * ceiling.ratio, 80, "%", spread(ceiling), n=ceiling.n),
        at_most(f"load generator at {BUSY}, of its core", 100 * busy["load_share"], 100 * FULL_CORE, "%", n=n),
        *[
            at_least(f"streams admitted in {ADMITTED_S} s at {cell}", got["open_at_warm_up"], cell.watchers, n=got["n"])
            for cell, got in ours.items()
            if cell in {BUSY, MANY}
        ],
        at_least(late, busy["late_open"], LATECOMERS, "", f"{busy['late_synced']:.0f} in sync", n=n),
    ]


def _held(found: Result) -> Row:
    """Judge MANY: what arrives may not fall behind what is due, nor behind what the server commits meanwhile."""
    arrived, written = found["changes_per_s"], found["written_per_s"]
    lag = f"p99 {figure(found['age_p99_early_ms'])} ms, then {figure(found['age_p99_late_ms'])} ms"
    due, kept = arrived / MANY.due, arrived / (MANY.watchers * written) if written else 0
    note = f"{100 * due:.0f} % of those due, {100 * kept:.0f} % of those committed meanwhile; {lag}"
    return at_least(f"changes that arrive at {MANY}", 100 * min(due, kept), 100 * HELD, "%", note, n=found["n"])


def _against(found: Found) -> list[Row]:
    puts, transactions = (
        paired(found[OURS][BUSY], found[name][BUSY], "changes_per_s") for name in (PUTS, TRANSACTIONS)
    )
    lag = paired(found[OURS][QUIET], found[PUTS][QUIET], "age_p99_ms")
    both = f"{figure(lag.one)} ms to {figure(lag.other)} ms; {spread(lag)}"
    name = f"times etcd's changes/s at {BUSY}, in transactions"
    return [
        at_least(f"times etcd's changes/s at {BUSY}, one put a change", puts.ratio, 10, "x", spread(puts), n=puts.n),
        Row(name, f"{figure(transactions.ratio)} x", note=spread(transactions), n=transactions.n),
        at_most(f"p99 at {QUIET}, to etcd's (puts)", lag.ratio, 1, "x", both, n=lag.n),
    ]


def _part(rows: list[Row], shown: dict[str, dict[Cell, Result]]) -> Part:
    how = (
        f"Changes delivered a second, watchers x changes/s over {ASSETS:,} assets, each change {len(change(0))} bytes"
        f" as sent; ours with SQLite, {FILTERS} filters, tokens, metrics and 1 % of traces; ages from when the change"
        " was made, before the commit or the put, to the receipt. The writer of etcd runs on the load's core, ours in"
        " the server. etcd: a stream a watcher, on the same disk; it is written to by one put a change (an event and a"
        " message each), and by transactions of what is due every 5 ms (their events share messages, as ours do). In a"
        " cell, all are measured in turns, and a ratio is the median of those of its turns."
    )
    return Part("B1 fan-out", how, rows, plots.fanout(shown, shown[BARE][BUSY]["changes_per_s"], BUSY.watchers))
