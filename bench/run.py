"""Measure: `python bench/run.py` everything, `python bench/run.py b1 b5` parts; prints a table.

Only a whole run writes RESULTS.md.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib
import os
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import plots
import report
from report import Missing
from rig import BENCH, BUILD, Rig, etcd_program, go_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PARTS = {
    "b3": "b3_push",
    "b5": "b5_start",
    "b4": "b4_memory",
    "b2": "b2_upstream",
    "b1": "b1_fanout",
    "b6": "b6_price",
    "b7": "b7_growth",
    "b8": "b8_hostile",
    "b9": "b9_replicas",
}
"""In the order of running: what is short and sensitive first, since a host may take from a machine that has long been
busy. RESULTS.md has them by their names."""
INTERRUPTED = 130
RESULTS = BENCH / "RESULTS.md"


def main() -> int:
    """Run the parts asked for; 0 also when a target is missed or a program is not here: the table says so."""
    args = _arguments()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # programs start as they do where they were installed
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stopped)
    with alone():
        measure(args)
    return 0


def measure(args: argparse.Namespace) -> None:
    """Build, measure, and write what is to be written."""
    whole = not args.parts and not args.quick
    if not whole:
        plots.folder = BUILD / "plots"
    began, machine = time.monotonic(), report.machine()
    for name, value in machine.items():
        announce(f"{name}: {value}")
    announce("building the Go programs, unless they are there")
    build()
    with Rig(quick=args.quick) as rig:
        parts = {name: measured(rig, name) for name in args.parts or PARTS}
    if rig.others_share is not None:
        others = f"other programs and the host had up to {100 * rig.others_share:.0f} % of the server's core"
        machine["others"] = f"{others} while it was measured"
        announce(f"\n{machine['others']}")
    if rig.late:
        machine["late"] = "the machine was slow: what came last was measured once, not several times"
    if whole:
        in_order = [parts[name] for name in sorted(parts)]
        RESULTS.write_text(report.markdown(in_order, machine, time.monotonic() - began, RESULTS))


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of this checkout; exit when another run has it, since both would be on the same cores."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another run measures in this checkout (it holds {lock.name}): wait for it, or end it")
        yield


def measured(rig: Rig, name: str) -> report.Part:
    """Run one part and print it."""
    began = time.monotonic()
    try:
        part: report.Part = importlib.import_module(PARTS[name]).run(rig)
    except Missing as missing:
        rows = [report.Row("all of it", "not measured", note=str(missing), n=0)]
        part = report.Part(f"{name.upper()} {PARTS[name].partition('_')[2]}", "", rows)
    report.show(part)
    announce(f"({name}: {time.monotonic() - began:.0f} s)")
    return part


def announce(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def build() -> None:
    """Build the peers and the client before the time counts."""
    for program in (partial(go_program, "load"), etcd_program):
        with contextlib.suppress(Missing):  # said where it is needed
            program()


def _stopped(_number: int, _frame: FrameType | None) -> None:
    """End as with Ctrl-C: the rig takes its children along."""
    raise KeyboardInterrupt


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    choices = [*sorted(PARTS), []]  # the last is what argparse has for none, and holds against the choices too
    parser.add_argument("parts", nargs="*", choices=choices, help="all, if none is named")
    parser.add_argument("--quick", action="store_true", help="each figure once: to try it out")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
