"""Judges a run afterwards: asks every invariant, under its id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from faults.rig import limits, ownership, promises
from faults.rig.limits import STARVED_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from faults.rig.evidence import Evidence

CHANGES_PER_S_MIN = 100.0
TIMED = frozenset({"I16", "LATE"})
"""What must be so within seconds; that it is not says nothing on a machine that is busy with something else."""

# I13 and I14 compare two moments, and are asked by the runs that measure them.
FIRST = (promises.i1, promises.i2, promises.i3, promises.i4, promises.i5)
PROMISES = (*FIRST, promises.i6, promises.i7, promises.i8, promises.i9, promises.i10)
LIMITS = (limits.i11, ownership.i12, limits.i15, limits.i16, limits.i17, limits.late, limits.ended, limits.log)
INVARIANTS: dict[str, Callable[[Evidence], Iterator[str]]] = {
    asked.__name__.upper(): asked for asked in (*PROMISES, *LIMITS)
}


class Violation(NamedTuple):
    """A promise that was broken."""

    invariant: str
    text: str


@dataclass
class Verdict:
    """PASS, VIOLATION, or VOID when the run proves nothing: why says so."""

    violations: list[Violation] = field(default_factory=list)
    void: list[str] = field(default_factory=list)

    def said(self) -> str:
        """Write the violations down."""
        return "\n".join(f"{violation.invariant}: {violation.text}" for violation in self.violations[:40])

    @property
    def word(self) -> str:
        """The verdict. A violation counts also when the load was low or the fault struck nothing."""
        if self.violations:
            return "VIOLATION"
        return "VOID" if self.void else "PASS"


def judge(run: Evidence) -> Verdict:
    """Ask every invariant."""
    verdict = Verdict()
    for name, asked in INVARIANTS.items():
        broken = [Violation(name, text) for text in asked(run)]
        if broken and name in TIMED and run.starved > STARVED_MAX:
            verdict.void.append(f"{name} does not hold, with no processor for {run.starved:.0%} of the time")
        else:
            verdict.violations += broken
    if run.changes_per_s < CHANGES_PER_S_MIN:
        verdict.void.append(f"{run.changes_per_s:.0f} changes/s before the fault")
    verdict.void += [f"{window.fault} struck nothing" for window in run.windows if not window.fired]
    return verdict
