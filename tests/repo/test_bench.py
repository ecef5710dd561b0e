"""The measurements judge growth by marginal costs, say what is missing, and are alone in their checkout."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assetwatch_sandbox.etcd import NoEtcd

if TYPE_CHECKING:
    from collections.abc import Callable

BENCH = Path(__file__).parents[2] / "bench"
BASE = 100


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a module of the measurements by its name."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (lambda _: 0, "independent"),
        (lambda n: n / 100, "linear"),
        (lambda n: (n / 100) ** 2, "more than linear"),
        (lambda n: (n / 10) ** 0.5, "less than linear"),
        (lambda n: -n / 1100, "falls"),
    ],
)
def test_growth(bench: Callable[[str], Any], cost: Callable[[int], float], said: str) -> None:
    """A constant base does not hide how a figure grows."""
    verdict = bench("b7_growth").verdict({n: BASE + cost(n) for n in (1_000, 10_000, 100_000)})
    assert verdict.partition(":")[0] == said


@pytest.mark.parametrize("tool", ["", "sleep 9", "exit 3"])
def test_missing(bench: Callable[[str], Any], tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Go, and when a program cannot be built or not in time, the table has a row that says so."""
    rig, report = bench("rig"), bench("report")
    if tool:
        (tmp_path / "go").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{tool}\n")
        (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(rig, "BUILD", tmp_path / "build")
    monkeypatch.setattr(rig, "BUILD_S", 0.2)
    rig._built.cache_clear()
    (row,) = report.unless_missing("streams", lambda: rig.go_program("load"))
    rig._built.cache_clear()
    assert (row.what, row.figure) == ("streams", "not measured")
    assert row.note.startswith("load")


def test_no_etcd(bench: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without etcd nothing of replicas is started, and the table is told why."""
    rig, report, b9 = bench("rig"), bench("report"), bench("b9_replicas")
    monkeypatch.setattr(rig.etcd, "built", _no_etcd)
    with pytest.raises(report.Missing, match="etcd: it is not here"):
        b9.run(rig.Rig())


def _no_etcd() -> Path:
    raise NoEtcd("it is not here")


def test_alone(bench: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run in the same checkout is refused, and says why."""
    run = bench("run")
    monkeypatch.setattr(run, "BUILD", tmp_path)
    with run.alone(), pytest.raises(SystemExit, match="another run measures"), run.alone():
        pass
    with run.alone():
        pass
