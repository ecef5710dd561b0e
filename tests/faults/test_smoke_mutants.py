"""The planted defects: each has its place in the source as it is now, and is code."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from faults.mutants import MUTANTS


def test_all_are_there() -> None:
    """M1 to M27; from M21 on, M15 and M16 too, of what replicas share."""
    assert {int(name.removeprefix("M")) for name in MUTANTS} == set(range(1, 28))


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
