"""Plants each defect in turn, runs the tests that should see it, and reports killed/planted.

PYTHONPATH=tests python -m faults.killing [--tier P|G] [M1 M6 ...]. Tier P: the tests of every commit. Tier G: runs with
faults too, for those that P let live. Ends 1 when fewer were killed than the tier must kill.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from faults.mutants import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
P_MUST_KILL = 12
TESTS_S = 900
FIRST: Mapping[str, Sequence[str]] = {
    "M4": ("tests/store/test_ledger.py",),
    "M7": ("tests/test_resume.py",),
    "M8": ("tests/store",),
    "M9": ("tests/test_resume.py",),
    "M10": ("tests/rpc",),
    "M13": ("tests/core",),
    "M14": ("tests/core",),
    "M18": ("tests/rpc",),
    "M19": ("tests/core",),
    "M20": ("tests/core",),
}
"""Where a defect shows soonest; the others follow."""
TIER_P = (
    "tests/test_hub.py",
    "tests/test_hub_endings.py",
    "tests/test_hub_fanout.py",
    "tests/test_resume.py",
    "tests/store",
    "tests/rpc",
    "tests/core",
    "tests/client",
    "tests/test_core_machine.py",
)
TIER_G: Mapping[str, Sequence[str]] = {
    "M8": ("--pytest", "tests/faults/test_gate_restart.py", "-k", "floor"),
    "M3": ("--faults", "F6-cut", "--runs", "5"),
    "M17": ("--pytest", "tests/faults/test_gate_slow.py"),
    "M18": ("--pytest", "tests/faults/test_gate_churn.py"),
    "M19": ("--pytest", "tests/faults/test_gate_sources.py", "-k", "retry_after"),
}
"""What sees a defect in tier G; any other by runs with faults chosen by the seed."""


class Death(NamedTuple):
    """Who killed a mutant; nobody: empty."""

    by: str
    took_s: float


def killed_by_tests(name: str, paths: Sequence[str], *more: str) -> Death:
    """Run tests with a defect planted, up to the first that fails."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "faults.planted", "-p", "no:cacheprovider"]
    env = {**os.environ, "ASSETWATCH_MUTANT": name, "PYTHONPATH": str(ROOT / "tests")}
    try:
        done = subprocess.run(
            [*command, *more, *paths], cwd=ROOT, env=env, capture_output=True, text=True, timeout=TESTS_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Death("time", time.monotonic() - began)
    if "PlantingError" in done.stdout + done.stderr or done.returncode not in {0, 1}:
        raise RuntimeError(f"{name} could not be planted or tested: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return Death(failed[0] if failed else "", time.monotonic() - began)


def killed_by_runs(name: str, arguments: Sequence[str]) -> Death:
    """Do exploratory runs with a defect planted, up to the first violation."""
    began = time.monotonic()
    command = [sys.executable, "-m", "faults.runs", "--mutant", name, "--fail-fast", "--seed", "1", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    seen = sorted({line.split(":")[0].strip() for line in done.stdout.splitlines() if line.startswith("    I")})
    return Death(f"a run: {', '.join(seen)}" if seen else "", time.monotonic() - began)


def death(name: str, tier: str) -> Death:
    """Try tier P, then, if that is asked for, tier G."""
    first = FIRST.get(name, ())
    order = [*first, *(path for path in TIER_P if path not in first)]
    found = killed_by_tests(name, order)
    if found.by or tier == "P":
        return found
    arguments = TIER_G.get(name, ("--runs", "10"))
    if arguments[0] == "--pytest":
        return killed_by_tests(name, arguments[1:], "-m", "faults")
    return killed_by_runs(name, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Report."""
    parser = argparse.ArgumentParser(prog="python -m faults.killing", description=__doc__)
    parser.add_argument("--tier", choices=("P", "G"), default="P")
    parser.add_argument("names", nargs="*", default=[], help=f"only these; there are {', '.join(MUTANTS)}")
    options = parser.parse_args(arguments)
    names = options.names or list(MUTANTS)
    killed = 0
    for name in names:
        found = death(name, options.tier)
        killed += bool(found.by)
        verdict = f"killed by {found.by}" if found.by else "LIVES"
        print(f"{name:4} {MUTANTS[name].text:86} {verdict}  {found.took_s:.0f} s", flush=True)  # noqa: T201
    print(f"tier {options.tier}: {killed} killed of {len(names)} planted")  # noqa: T201 - what the command is for
    must = min(P_MUST_KILL, len(names)) if options.tier == "P" else len(names)
    return int(killed < must)


if __name__ == "__main__":
    sys.exit(main())
