"""The planted defects: each has its place in the source as it is now, and is code."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from faults.mutants import MUTANTS

NOT_OF_ONE_PROCESS = {15, 16}
"""M15 and M16 are of leases between replicas."""


def test_all_are_there() -> None:
    """M1 to M20, but for those that need replicas."""
    assert {int(name.removeprefix("M")) for name in MUTANTS} == set(range(1, 21)) - NOT_OF_ONE_PROCESS


@pytest.mark.parametrize("name", MUTANTS)
def test_each_can_be_planted(name: str) -> None:
    """What a mutant changes stands in its module once and exactly so; changed, the module still compiles."""
    for module in {change.module for change in MUTANTS[name].changes}:
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text()
        for change in MUTANTS[name].changes:
            if change.module == module:
                assert source.count(change.before) == 1, change.before
                source = source.replace(change.before, change.after)
        compile(source, spec.origin, "exec")
