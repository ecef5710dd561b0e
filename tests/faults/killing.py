"""Plants each defect in turn, runs the tests that should see it, and reports killed/planted by tier.

PYTHONPATH=tests python -m faults.killing [--tier P|G] [M1 M6 ...]. Tier P: the tests of every commit. Tier G: directed
runs with faults too, for those that P let live. Only a test that fails again with the defect, and passes without it,
kills. Ends 1 when fewer were killed than must be: 12 by tier P, all by both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from faults.mutants import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
P_MUST_KILL = 12
TESTS_S = 3600
FAULTS = ("-m", "faults")
FIRST: Mapping[str, str] = {
    "M1": "tests/changefeed/test_hub_endings.py",
    "M2": "tests/changefeed/test_hub_endings.py",
    "M3": "tests/rpc/test_rpc_resume.py",
    "M4": "tests/changefeed/store/test_ledger.py",
    "M5": "tests/changefeed/test_hub.py",
    "M6": "tests/changefeed/test_hub.py",
    "M7": "tests/changefeed/test_resume_token.py",
    "M8": "tests/changefeed/store/test_sqlite.py",
    "M9": "tests/changefeed/test_resume_token.py",
    "M10": "tests/rpc/test_rpc_resume.py",
    "M11": "tests/changefeed/test_hub.py",
    "M12": "tests/changefeed/test_hub.py",
    "M13": "tests/polling/test_scheduler_failures.py",
    "M14": "tests/changefeed/test_pipeline.py",
    "M15": "tests/changefeed/store/test_etcd_contending.py",
    "M16": "tests/changefeed/store/test_etcd_contending.py",
    "M17": "tests/changefeed/test_hub_fanout.py",
    "M18": "tests/changefeed/test_hub_fanout.py",
    "M19": "tests/polling/test_scheduler_failures.py",
    "M20": "tests/changefeed/test_pipeline.py",
    "M21": "tests/changefeed/store/test_store_contract.py",
    "M22": "tests/changefeed/store/test_etcd_store.py",
    "M23": "tests/changefeed/store/test_etcd_floor.py",
    "M24": "tests/etcd/test_etcd_endpoints.py",
    "M25": "tests/replicas/test_replicas.py",
    "M26": "tests/replicas/test_in_term.py",
    "M27": "tests/rpc/test_rpc_behind.py",
}
"""Where a defect shows soonest; only if nothing there sees it are the others run."""
TIER_P = (
    "tests/changefeed/test_hub.py",
    "tests/changefeed/test_hub_endings.py",
    "tests/changefeed/test_hub_fanout.py",
    "tests/changefeed/test_resume_token.py",
    "tests/changefeed/store",
    "tests/rpc",
    "tests/polling",
    "tests/client",
    "tests/etcd",
    "tests/replicas",
    "tests/changefeed/test_core_machine.py",
    "tests/e2e/test_e2e_machine.py",
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
    """Who killed a mutant, of which tier; nobody: empty."""

    by: str
    took_s: float
    tier: str = ""


def killed_by_tests(name: str, paths: Sequence[str], *more: str) -> Death:
    """Run tests with a defect planted, up to the first that fails."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "faults.planted", "-p", "no:cacheprovider"]
    env = {**os.environ, "ASSETWATCH_MUTANT": name, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(
        [*command, *more, *paths], cwd=ROOT, env=env, capture_output=True, text=True, timeout=TESTS_S, check=False
    )
    if "PlantingError" in done.stdout + done.stderr or done.returncode not in {0, 1}:
        raise RuntimeError(f"{name} could not be planted or tested: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if any("::" not in test for test in failed):
        raise RuntimeError(f"{failed[0]} could not be collected: {done.stdout[-2000:]}")
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
    began = time.monotonic()
    found = _confirmed(name, killed_by_tests(name, [FIRST[name]]))
    if not found.by:
        found = _confirmed(name, killed_by_tests(name, TIER_P))
    if not found.by and tier == "G":
        arguments = TIER_G.get(name, ("--runs", "10"))
        if arguments[0] == "--pytest":
            found = _confirmed(name, killed_by_tests(name, arguments[1:], *FAULTS), *FAULTS)
        else:
            found = killed_by_runs(name, arguments)
        found = found._replace(tier="G" if found.by else "")
    return found._replace(took_s=time.monotonic() - began)


def _confirmed(name: str, found: Death, *more: str) -> Death:
    """Let a death count only if its test fails again with the defect, and passes without it."""
    if not found.by or not killed_by_tests(name, [found.by], *more).by or killed_by_tests("", [found.by], *more).by:
        return Death("", found.took_s)
    return found._replace(tier="P")


def main(arguments: Sequence[str] | None = None) -> int:
    """Report."""
    parser = argparse.ArgumentParser(prog="python -m faults.killing", description=__doc__)
    parser.add_argument("--tier", choices=("P", "G"), default="G")
    parser.add_argument("names", nargs="*", default=[], help=f"only these; there are {', '.join(MUTANTS)}")
    options = parser.parse_args(arguments)
    names = options.names or list(MUTANTS)
    killed = Counter[str]()
    for name in names:
        found = death(name, options.tier)
        killed[found.tier] += 1
        verdict = f"killed by {found.by}, tier {found.tier}" if found.by else "LIVES"
        print(f"{name:4} {MUTANTS[name].text:86} {verdict}  {found.took_s:.0f} s", flush=True)  # noqa: T201
    planted = len(names)
    by_both = killed["P"] + killed["G"]
    print(f"tier P: {killed['P']} killed of {planted} planted")  # noqa: T201 - what the command is for
    if options.tier == "G":
        print(f"tiers P and G: {by_both} killed of {planted} planted")  # noqa: T201 - what the command is for
    enough = killed["P"] >= min(P_MUST_KILL, planted) and (options.tier == "P" or by_both == planted)
    return int(not enough)


if __name__ == "__main__":
    sys.exit(main())
