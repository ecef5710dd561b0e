"""B8: how long the others wait while one upstream is hostile, and what that takes in memory."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from children import pid_peak_mb
from report import Part, Row, at_most
from rig import BENCH, LOAD_CORE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from children import Child, Result
    from rig import Rig

KINDS = ("usd_search", "omn", "pieces", "media_intelligence", "oracle_sbc")
BODY_BYTES = 8 * 1000 * 1000
"""Just within body_bytes_max as it is for all but Pieces."""
SPAN_S, QUICK_S = 1.5, 0.5
P99_MS, MAX_MS = 50, 250
BODIES, PROCESS_MB = 26, 175
"""What an upstream may take, in bodies of body_bytes_max: eight calls, two under way, 16 where one is read; and what
the process that reads has in any case."""
BODY_BYTES_MAX = 8 * 1024 * 1024
HOSTILE: dict[str, dict[str, Any]] = {
    "usd_search": {"pins": ["s3://a/b"]},
    "omn": {"auth": {"kind": "bearer", "token": "x"}, "pins": ["tid:a"]},
    "pieces": {"pins": ["6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"], "body_bytes_max": BODY_BYTES_MAX},
    "media_intelligence": {
        "access_key": "x",
        "secret_key": "x",
        "projects": ["workspace/1"],
        "pins": ["workspace/1/2"],
    },
    "oracle_sbc": {"username": "x", "password": "x", "pins": ["last-operation"]},
}
EAGER = {
    "busy_interval_s": 0.01,
    "settled_interval_s": 0.01,
    "enumerate_interval_s": 0.1,
    "probe_interval_s": 0.1,
    "backoff_first_s": 0.01,
    "backoff_max_s": 0.02,
    "rate_per_s": 200,
}


def run(rig: Rig) -> Part:
    """Let each kind answer with each of its shapes in turn."""
    how = (
        f"One source answers whatever it is asked with a body of {BODY_BYTES / 1e6:g} MB made to cost as much as such a"
        " body can (tests/support/hostile.py has the shapes), asked again at once; another source is well, and an asset"
        " of it that is known is read every 5 ms. The processes that read large answers share the server's core."
        " Memory: the most that the server and they had at any time, less what the server had before."
    )
    found = {kind: dict(_kind(rig, kind)) for kind in KINDS}
    return Part("B8 one hostile", how, [*_summary(found), *_rows(found)])


def _summary(found: dict[str, dict[str, Result]]) -> list[Row]:
    every = [(f"{kind}: {shape}", result) for kind, shapes in found.items() for shape, result in shapes.items()]
    rows = []
    for what, figure, limit, unit in (
        ("worst p99 of another source while one is hostile", "p99_ms", P99_MS, "ms"),
        ("worst latency of another source while one is hostile", "max_ms", MAX_MS, "ms"),
        ("most memory", "grown_mb", BODIES * BODY_BYTES_MAX / 1e6 + PROCESS_MB, "MB"),
    ):
        name, worst = max(every, key=lambda each: each[1][figure])
        rows.append(at_most(what, worst[figure], limit, unit, name, n=len(every)))
    return rows


def _rows(found: dict[str, dict[str, Result]]) -> list[Row]:
    return [
        Row(f"{kind}: {shape}", f"p99 {result['p99_ms']:.1f} ms, max {result['max_ms']:.1f} ms", note=_beside(result))
        for kind, shapes in found.items()
        for shape, result in shapes.items()
    ]


def _beside(result: Result) -> str:
    return f"p50 {result['p50_ms']:.1f} ms, {result['reads']:.0f} reads, {result['grown_mb']:+.0f} MB"


def _kind(rig: Rig, kind: str) -> Iterator[tuple[str, Result]]:
    with (
        rig.python("upstreams.py", "omn", "--assets", 1, core=LOAD_CORE) as upstreams,
        _hostile(rig, kind) as hostile,
        rig.python("cached_reads.py", core=LOAD_CORE) as reads,
    ):
        said, told = upstreams.said(), hostile.said()
        [asset_id] = said["assets"]["omn"]
        well = {**said["sources"]["omn"], "pins": [asset_id]}
        bad = {"kind": kind, "base_url": told["url"], **HOSTILE[kind], **EAGER}
        with rig.product({"well": well, "hostile": bad}) as (server, address):
            reads.tell(address=address, source="well", asset_id=asset_id, span_s=QUICK_S)
            yield "nothing", {**reads.said(), "grown_mb": 0.0}
            before = pid_peak_mb(server.pid)
            for shape in told["shapes"]:
                hostile.tell(shape=shape, size=BODY_BYTES)
                hostile.said()
                _forget_peaks(server)
                time.sleep(QUICK_S)
                span_s = QUICK_S if rig.quick else SPAN_S
                reads.tell(address=address, source="well", asset_id=asset_id, span_s=span_s)
                result = reads.said()
                yield shape, {**result, "grown_mb": _all_mb(server) - before}


def _hostile(rig: Rig, kind: str) -> AbstractContextManager[Child]:
    program = BENCH / "hostile_upstream.py"
    return rig.child(sys.executable, program, kind, core=LOAD_CORE, env={"PYTHONPATH": str(BENCH.parent / "tests")})


def _all_mb(server: Child) -> float:
    """Return the most that a process and its children, those that live, had since _forget_peaks."""
    return sum(map(pid_peak_mb, _processes(server)))


def _forget_peaks(server: Child) -> None:
    for pid in _processes(server):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _processes(server: Child) -> list[int]:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [server.pid, *map(int, children)]
