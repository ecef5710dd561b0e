"""B1: changes delivered to many watchers, beside etcd and beside a bare grpc.aio server."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import plots
from changes import change, message
from report import Part, Row, at_least, at_most, figure
from rig import Missing, go_program

if TYPE_CHECKING:
    from collections.abc import Iterator

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
CEILINGS = ((CHANGES_A_MESSAGE, 3), (1, 1))
"""Changes a message of the bare server, and how often each is measured."""
HELD = 0.98
"""A rate counts as held when this share of the changes due arrives; a drain may pass over a state already replaced."""


class Cell(NamedTuple):
    """So many watchers, so many changes a second, measured so many times."""

    watchers: int
    rate: int
    times: int = 1

    @property
    def due(self) -> int:
        """Changes to be delivered a second."""
        return self.watchers * self.rate

    def __str__(self) -> str:
        return f"{self.watchers:,} x {self.rate:,}/s"


QUIET, BUSY, MANY = Cell(1000, 100, 3), Cell(1000, 2000, 3), Cell(3000, 500, 3)
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
PUTS, TRANSACTIONS = "etcd, puts", "etcd, transactions"
ETCD_CELLS = {
    PUTS: (Cell(10, 100), Cell(100, 500), QUIET, Cell(1000, 500), BUSY, Cell(3000, 500)),
    TRANSACTIONS: (QUIET, BUSY, Cell(3000, 500)),
}


def run(rig: Rig) -> Part:
    """Measure every cell, the peers after it."""
    ours = {cell: rig.repeated(cell.times, partial(assetwatch, rig, cell)) for cell in CELLS}
    rows = [_row(f"assetwatch {cell}", cell, found) for cell, found in ours.items()]
    ceiling = {count: rig.repeated(times, partial(bare, rig, count)) for count, times in CEILINGS}
    rows += [_ceiling_row(count, found) for count, found in ceiling.items()]
    try:
        peers = {name: _etcd_cells(rig, name) for name in ETCD_CELLS}
    except Missing as missing:
        return _part([*rows, Row("etcd", "not measured", note=str(missing)), *_targets(ours, ceiling)], ours, {})
    rows += [_row(f"{name} {cell}", cell, found) for name, cells in peers.items() for cell, found in cells.items()]
    return _part([*rows, *_targets(ours, ceiling), *_against(ours, peers)], ours, peers)


def assetwatch(rig: Rig, cell: Cell, *, assets: int = ASSETS, **load: object) -> Result:
    """Watch the product: SQLite, filters, tokens, metrics and one trace in a hundred on."""
    options = ("--rate", cell.rate, "--assets", assets, "--sqlite", rig.filled(assets), "--otlp", rig.otlp())
    return rig.fanout(*options, **{"streams": cell.watchers, "filters": FILTERS, "patience": PATIENCE, **TIMES, **load})


def bare(rig: Rig, count: int) -> Result:
    """Watch a server that only writes."""
    with rig.python("ceiling_server.py", "--changes", count) as server:
        return rig.load(server.said()["address"], streams=BUSY.watchers, pid=server.pid, stamp=0, **TIMES)


def _etcd_cells(rig: Rig, name: str) -> dict[Cell, Result]:
    measure = partial(etcd, rig, together=name == TRANSACTIONS)
    return {cell: rig.repeated(cell.times, partial(measure, cell)) for cell in ETCD_CELLS[name]}


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
    with rig.child(go_program("etcd"), *flags, env={"GOMAXPROCS": "1"}) as server:
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
    written = f", written {figure(found['written_per_s'])}/s" if found["written_per_s"] else ""
    admitted = f"{found['open_at_warm_up']:,.0f} streams in {ADMITTED_S} s"
    return Row(name, f"{found['changes_per_s']:,.0f}/s", note=f"{share}; {lag}; {admitted}; {_used(found)}{written}")


def _ceiling_row(count: int, found: Result) -> Row:
    name = f"bare grpc.aio, {BUSY.watchers:,} streams, {count} a message"
    note = f"{found['messages_per_s']:,.0f} messages/s of {len(message(count)):,} bytes; {_used(found)}"
    return Row(name, f"{found['changes_per_s']:,.0f}/s", note=note)


def _used(found: Result) -> str:
    load = f"load {100 * found['load_share']:.0f} %" + (" (its limit)" if _full(found) else "")
    return f"server {100 * found['server_share']:.0f} %, {load}, RSS {found['server_rss_kib'] / 1024:.0f} MiB"


def _full(found: Result) -> bool:
    return bool(found["load_share"] > FULL_CORE)


def _targets(ours: dict[Cell, Result], ceiling: dict[int, Result]) -> list[Row]:
    cell, busiest = max(ours.items(), key=lambda measured: measured[1]["changes_per_s"])
    most = ceiling[CHANGES_A_MESSAGE]
    ratio = busiest["changes_per_s"] / most["changes_per_s"]
    bound = [who for who, found in (("ours", busiest), ("the bare server", most)) if _full(found)]
    held_back = f"; held back by a load whose core is full: {', '.join(bound)}" if bound else ""
    held = ours[MANY]["changes_per_s"] / MANY.due
    return [
        at_most(f"p99 at {BUSY}", ours[BUSY]["age_p99_ms"], 250, "ms"),
        at_least(f"changes due that arrive at {MANY}", 100 * held, 100 * HELD, "%"),
        at_least("of the write ceiling at saturation", 100 * ratio, 80, "%", f"the busiest cell, {cell}{held_back}"),
        at_most("load generator in the busiest cell, of its core", 100 * busiest["load_share"], 100 * FULL_CORE, "%"),
        *[
            at_least(f"streams admitted in {ADMITTED_S} s at {cell}", ours[cell]["open_at_warm_up"], cell.watchers)
            for cell in (BUSY, MANY)
        ],
    ]


def _against(ours: dict[Cell, Result], peers: dict[str, dict[Cell, Result]]) -> list[Row]:
    puts, transactions = (ours[BUSY]["changes_per_s"] / peers[name][BUSY]["changes_per_s"] for name in ETCD_CELLS)
    least = min(peers[name][QUIET]["age_p99_ms"] for name in ETCD_CELLS)
    return [
        at_least(f"times etcd's changes/s at {BUSY}, one put a change", puts, 10, "x"),
        Row(f"times etcd's changes/s at {BUSY}, in transactions", f"{figure(transactions)} x"),
        at_most(f"p99 at {QUIET}, the better of etcd's beside it", ours[QUIET]["age_p99_ms"], least, "ms"),
    ]


def _part(rows: list[Row], ours: dict[Cell, Result], peers: dict[str, dict[Cell, Result]]) -> Part:
    how = (
        f"Changes delivered a second, watchers x changes/s over {ASSETS:,} assets, each change {len(change(0))} bytes"
        f" as sent; ours with SQLite, {FILTERS} filters, tokens, metrics and 1 % of traces; ages from the moment before"
        " the commit to the receipt. The writer of etcd runs on the load's core, ours in the server. etcd: a stream a"
        " watcher, on the same disk; it is written to by one put a change (an event and a message each), and by"
        " transactions of what is due every 5 ms (their events share messages, as ours do)."
    )
    return Part("B1 fan-out", how, rows, plots.fanout(ours, peers))
