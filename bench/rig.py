"""What every measurement stands on: pinned child processes, the compiled programs, and medians of repeated runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent import futures
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import grpc
from children import Child, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

BENCH = Path(__file__).resolve().parent
ASSETWATCH = Path(sys.executable).with_name("assetwatch")
BUILD = BENCH.parent / "build" / "bench"
SERVER_CORE, LOAD_CORE = 0, 1
BUILD_S = 600.0

LATE_S = 600.0
"""After this long each figure is measured once, so that a slow machine comes to an end too."""


class Missing(Exception):
    """A program that a measurement needs is not here; the text says which."""


class Pairs(NamedTuple):
    """Medians of what was run in pairs: of each, and of the ratio one to other; and how many pairs there were."""

    one: float
    other: float
    ratio: float
    pairs: int

    @property
    def note(self) -> str:
        """How many there were, as a table says it."""
        return "1 pair" if self.pairs == 1 else f"{self.pairs} pairs"


@dataclass
class Rig:
    """Runs children, which end with it, and gives them a folder and an OTLP sink. quick: each figure once, shortly.

    late: figures are measured once by now. others_share: the most that other programs and the host had of the
    server's core.
    """

    quick: bool = False
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="assetwatch-bench-")))
    late: bool = False
    others_share: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _children: list[Child] = field(default_factory=list)
    _filled: dict[int, Path] = field(default_factory=dict)
    _sink: grpc.Server | None = None

    def __enter__(self) -> Self:
        if (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(0, {LOAD_CORE})
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            child.end(how=signal.SIGKILL)
        if self._sink is not None:
            self._sink.stop(None)
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def child(self, *command: object, core: int = SERVER_CORE, env: dict[str, str] | None = None) -> Iterator[Child]:
        """Run a program until the block ends."""
        child = Child(command, core, env=env)
        self._children.append(child)
        try:
            yield child
        finally:
            child.end()
            self._children.remove(child)

    def python(self, program: str, *arguments: object, core: int = SERVER_CORE) -> AbstractContextManager[Child]:
        """Run a program of this folder."""
        return self.child(sys.executable, BENCH / program, *arguments, core=core)

    @contextlib.contextmanager
    def product(
        self, sources: Mapping[str, object], *, store: Path | None = None, **telemetry: object
    ) -> Iterator[tuple[Child, str]]:
        """Run `assetwatch serve` over sources, with SQLite, until the block ends; yield it and its address."""
        told = {
            "server": {"listen": "127.0.0.1:0", "streams_per_peer_max": 5000},
            "store": {"kind": "sqlite", "path": str(store or self.fresh("store.sqlite"))},
            "telemetry": {"log_level": "error", **telemetry},
            "sources": sources,
        }
        config = self.fresh("assetwatch.yaml")
        config.write_text(json.dumps(told))  # JSON is YAML
        with self.child(ASSETWATCH, "serve", "--config", config) as server:
            yield server, server.line().rpartition(" ")[2].strip()

    def load(self, address: str, **options: object) -> Result:
        """Run the compiled client to its end, and return what it says."""
        with self.loading(address, **options) as client:
            said = client.said()
        self.others_share = max(self.others_share, said["others_share"])
        return said

    def fanout(self, *options: object, **load: object) -> Result:
        """Run the product over its made-up source, and the client against it to its end; return what that says."""
        with self.python("fanout_server.py", *options) as server:
            return self.load(server.said()["address"], pid=server.pid, **load)

    def loading(self, address: str, **options: object) -> AbstractContextManager[Child]:
        """Run the compiled client; its line comes at its end."""
        flags = [f"-{name.replace('_', '-')}={value}" for name, value in options.items()]
        return self.child(go_program("load"), f"-address={address}", *flags, core=LOAD_CORE)

    def fresh(self, name: str) -> Path:
        """Return a path in the rig's folder where nothing is yet."""
        return Path(tempfile.mkdtemp(dir=self.folder)) / name

    def filled(self, assets: int) -> Path:
        """Return a copy of a store file with so many assets, which is made once."""
        if assets not in self._filled:
            made = self._filled[assets] = self.fresh("store.sqlite")
            with self.python("fanout_server.py", "--assets", assets, "--rate", 0, "--sqlite", made) as server:
                server.said()
        return Path(shutil.copy(self._filled[assets], self.fresh("store.sqlite")))

    def otlp(self) -> str:
        """Return the endpoint of a collector that keeps nothing of what it gets; it runs here, on the load's core."""
        if self._sink is None:
            self._sink = grpc.server(futures.ThreadPoolExecutor(1))
            self._sink.add_generic_rpc_handlers((_Sink(),))
            self._sink_port = self._sink.add_insecure_port("127.0.0.1:0")
            self._sink.start()
        return f"http://127.0.0.1:{self._sink_port}"

    def repeated(self, times: int, run: Callable[[], Result]) -> Result:
        """Run several times and return the median of each figure."""
        return medians([run() for _ in range(self._times(times))])

    def pairs(self, times: int, one: Callable[[], float], other: Callable[[], float]) -> Pairs:
        """Run both in turns, the order changing, so many times, or once."""
        found: list[tuple[float, float]] = []
        for number in range(self._times(times)):
            if number % 2:
                second = other()
                found.append((one(), second))
            else:
                found.append((one(), other()))
        ones, others = zip(*found, strict=True)
        ratio = statistics.median(a / b for a, b in found)
        return Pairs(statistics.median(ones), statistics.median(others), ratio, len(found))

    def _times(self, wanted: int) -> int:
        self.late = self.late or time.monotonic() - self._began > LATE_S
        return 1 if self.quick or self.late else wanted


class _Sink(grpc.GenericRpcHandler):
    """Answers every unary call with an empty message."""

    def service(self, _details: object) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")


def medians(results: Sequence[Result]) -> Result:
    """Return the median of each figure of several runs."""
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def server_us(found: Result) -> float:
    """Return what processor time a change cost the server, in µs."""
    return float(1e6 * found["server_share"] / found["changes_per_s"])


def go_program(name: str) -> Path:
    """Build a program of this folder once its sources are newer, with the Go tool chain. Raises: Missing."""
    built, source = BUILD / name, BENCH / name
    newest = max(path.stat().st_mtime for path in source.iterdir())
    if built.exists() and built.stat().st_mtime >= newest:
        return built
    go = shutil.which("go")
    if go is None:
        raise Missing("Go is not installed")
    BUILD.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(  # noqa: S603 - a tool by its path
        [go, "build", "-o", str(built), "."], cwd=source, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    if done.returncode:
        raise Missing(f"{name} cannot be built: {done.stderr.strip().splitlines()[-1]}")
    return built
