"""What every measurement stands on: pinned child processes, the compiled programs, and medians of repeated runs."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent import futures
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import grpc
from children import Child, Result
from report import Missing

from assetwatch_sandbox import etcd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BENCH = Path(__file__).resolve().parent
ASSETWATCH = Path(sys.executable).with_name("assetwatch")
BUILD = BENCH.parent / "build" / "bench"
SERVER_CORE, LOAD_CORE = 0, 1
BUILD_S = 600.0

LATE_S = 720.0
"""After this long each figure is measured once, so that a slow machine comes to an end too."""


DISTURBED = 0.2
"""A run in which others had more of the server's core is made once more, and the quieter of the two counts."""
AGAIN_MAX = 6
"""So many runs at most are made once more, so that it does not take much longer."""
NAMED = 0.05
"""A row says what others had of the server's core when it is more."""


class Pairs(NamedTuple):
    """What was run in pairs: the median of each, and the ratios one to other."""

    one: float
    other: float
    ratios: list[float]

    @property
    def ratio(self) -> float:
        """The median."""
        return statistics.median(self.ratios)

    @property
    def n(self) -> int:
        """How many pairs there were."""
        return len(self.ratios)


@dataclass
class Rig:
    """Runs children, which end with it, and gives them a folder and an OTLP sink. quick: each figure once, shortly.

    late: figures are measured once by now. others_share: the most that other programs and the host had of the
    server's core; None where it was not measured.
    """

    quick: bool = False
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="assetwatch-bench-")))
    late: bool = False
    others_share: float | None = None
    _began: float = field(default_factory=time.monotonic)
    _children: list[Child] = field(default_factory=list)
    _filled: dict[int, Path] = field(default_factory=dict)
    _again: int = 0
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
    def child(
        self, *command: object, core: int | None = SERVER_CORE, env: dict[str, str] | None = None
    ) -> Iterator[Child]:
        """Run a program until the block ends; core: None, on all."""
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
        self, sources: Mapping[str, object], *, store: Mapping[str, object] | Path | None = None, **telemetry: object
    ) -> Iterator[tuple[Child, str]]:
        """Run `assetwatch serve` over sources until the block ends; yield it and its address.

        store: its settings, or a file of SQLite; without it, a new one.
        """
        if not isinstance(store, Mapping):
            store = {"kind": "sqlite", "path": str(store or self.fresh("store.sqlite"))}
        told = {
            "server": {"listen": "127.0.0.1:0", "streams_per_peer_max": 5000},
            "store": dict(store),
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
            return client.said()

    def fanout(self, *options: object, **load: object) -> Result:
        """Run the product over its made-up source, and the client against it to its end; return what that says."""
        with self.python("fanout_server.py", *options) as server:
            return self.load(server.said()["address"], pid=server.pid, **load)

    def loading(self, address: str, core: int = LOAD_CORE, /, **options: object) -> AbstractContextManager[Child]:
        """Run the compiled client; its line comes at its end."""
        flags = [f"-{name.replace('_', '-')}={value}" for name, value in options.items()]
        return self.child(go_program("load"), f"-address={address}", *flags, core=core)

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
        return medians(self.turns(times, {"it": run})["it"])

    def turns(self, times: int, runs: Mapping[str, Callable[[], Result]]) -> dict[str, list[Result]]:
        """Run each in turns, the order changing, so many times, or once."""
        found: dict[str, list[Result]] = {name: [] for name in runs}
        for number in range(self._times(times)):
            for name in reversed(list(runs)) if number % 2 else runs:
                found[name].append(self._once(runs[name]))
        return found

    def pairs(self, times: int, one: Callable[[], Result], other: Callable[[], Result], figure: str) -> Pairs:
        """Run both in turns, and compare one figure."""
        found = self.turns(times, {"one": one, "other": other})
        return paired(found["one"], found["other"], figure)

    def _once(self, run: Callable[[], Result]) -> Result:
        found = run()
        if found.get("others_share", 0) > DISTURBED and self._again < AGAIN_MAX and not (self.quick or self.late):
            self._again += 1
            found = min(found, run(), key=lambda each: float(each["others_share"]))
        if "others_share" in found:
            self.others_share = max(self.others_share or 0, found["others_share"])
        return found

    def _times(self, wanted: int) -> int:
        self.late = self.late or time.monotonic() - self._began > LATE_S
        return 1 if self.quick or self.late else wanted


class _Sink(grpc.GenericRpcHandler):
    """Answers every unary call with an empty message."""

    def service(self, _details: object) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")


def medians(results: Sequence[Result]) -> Result:
    """Return the median of each figure of several runs, and as n how many they are."""
    return {name: statistics.median(result[name] for result in results) for name in results[0]} | {"n": len(results)}


def paired(ones: Sequence[Result], others: Sequence[Result], figure: str) -> Pairs:
    """Compare one figure of runs that were made in turns."""
    both = [(one[figure], other[figure]) for one, other in zip(ones, others, strict=True)]
    one, other = (statistics.median(values) for values in zip(*both, strict=True))
    return Pairs(one, other, [a / b for a, b in both])


def spread(found: Pairs) -> str:
    """Say how far the ratios of the pairs lie apart."""
    return f"{min(found.ratios):.2f}..{max(found.ratios):.2f}"


def used(found: Result) -> str:
    """Say how busy both sides were, and what was not as it should be."""
    return f"server {100 * found['server_share']:.0f} %, load {100 * found['load_share']:.0f} %{troubles(found)}"


def troubles(found: Result) -> str:
    """Say what casts doubt on figures; empty if nothing does."""
    apart, failed = found.get("streams", 0) - found.get("synced", 0), found.get("failed", 0)
    share = found.get("others_share", 0)
    said = [f", {apart:,.0f} streams not in sync"] if apart else []
    said += [f", {failed:,.0f} streams failed"] if failed else []
    said += [f", others {100 * share:.0f} %"] if share > NAMED else []
    return "".join(said)


def go_program(name: str) -> Path:
    """Build a program of this folder once its sources are newer, with the Go tool chain. Raises: Missing."""
    built = _built(name)
    if isinstance(built, str):
        raise Missing(built)
    return built


def etcd_program() -> Path:
    """Build etcd at the version that the demo and the tests have. Raises: Missing."""
    try:
        return etcd.built()
    except etcd.NoEtcd as error:
        raise Missing(f"etcd: {error}") from None


@functools.cache
def _built(name: str) -> Path | str:
    """Return the program, or why there is none; it is tried once."""
    built, source = BUILD / name, BENCH / name
    newest = max(path.stat().st_mtime for path in source.iterdir())
    if built.exists() and built.stat().st_mtime >= newest:
        return built
    go = shutil.which("go")
    if go is None:
        return f"{name}: Go is not installed"
    BUILD.mkdir(parents=True, exist_ok=True)
    command = [go, "build", "-o", str(built), "."]
    try:
        subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=BUILD_S, check=True)  # noqa: S603 - a tool by its path
    except subprocess.TimeoutExpired:
        return f"{name} was not built within {BUILD_S:.0f} s"
    except subprocess.CalledProcessError as failed:
        return f"{name} cannot be built: {failed.stderr.strip().rpartition(chr(10))[2]}"
    return built
