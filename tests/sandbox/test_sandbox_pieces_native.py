"""What the Pieces OS stand-in holds: native fields, switches, and lives that repeat."""

from __future__ import annotations

import random
from typing import Any

import pytest

from assetwatch_sandbox.pieces import PiecesStandin
from assetwatch_sandbox.standin import SwitchValueError, UnknownSwitchError

FIRST = "6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"
NOBODY = "00000000-0000-4000-8000-000000000000"
BORN = 1_772_366_400.0  # 2026-03-01T12:00:00Z


@pytest.fixture
def standin() -> PiecesStandin:
    """One snippet; the wall clock stands still; nothing listens."""
    standin = PiecesStandin(clock=lambda: BORN)
    standin.put(FIRST, {"name": "retry loop", "content": "for i in range(3): pass", "language": "python"})
    return standin


def test_switches_are_checked(standin: PiecesStandin) -> None:
    """An unknown switch, or a value that is none of its own, is refused and nothing changes."""
    with pytest.raises(UnknownSwitchError, match="frame_copies"):
        standin.switch({"frames": 1})
    with pytest.raises(SwitchValueError, match="tombstone"):
        standin.switch({"tombstone": "note", "frame_copies": 2})
    assert standin.switches.frame_copies == 1


def test_native_fields_are_checked(standin: PiecesStandin) -> None:
    """An id that is no UUID, an unknown field and a wrong value are ValueErrors; nothing is held of them."""
    for asset_id, native in (("short", {}), (NOBODY, {"colour": "red"}), (NOBODY, {"mechanism": "MAGIC"})):
        with pytest.raises(ValueError, match=r"UUID|colour|mechanism"):
            standin.put(asset_id, native)
    with pytest.raises(ValueError, match="latin-1"):
        standin.put(NOBODY, {"content": "\u20ac", "carrier": "bytes"})
    with pytest.raises(KeyError):
        standin.remove(NOBODY)
    assert standin.get(NOBODY) is None


def test_updated_always_moves_but_not_for_a_sync(standin: PiecesStandin) -> None:
    """Two changes in one millisecond have two times; a sync to the cloud is no change; what get gives, put takes."""
    first: Any = standin.put(FIRST, {"name": "a"})["updated"]
    second: Any = standin.put(FIRST, {"name": "b"})["updated"]
    assert first < second
    synced = standin.put(FIRST, {"synced": "2026-03-01T13:00:00+01:00"})
    assert (synced["updated"], synced["synced"]) == (second, "2026-03-01T12:00:00.000Z")
    held = standin.get(FIRST)
    assert held is not None
    assert standin.put(FIRST, held) == standin.get(FIRST)
    assert standin.put(FIRST, {"language": "go"})["ext"] == "go"


def test_a_life_cycle_repeats_from_its_seed() -> None:
    """The same seed leads through the same states, with every kind of step in them."""

    def live() -> list[tuple[str, Any]]:
        standin = PiecesStandin(clock=lambda: BORN)
        rng = random.Random(3)  # noqa: S311 - a scenario that repeats, not a secret
        standin.seed(rng, 20)
        for _ in range(300):
            standin.advance(rng)
        return [(truth.asset_id, truth.state) for truth in standin.truth]

    lives = live()
    assert lives == live()
    states = [state for _, state in lives if state]
    assert len(states) < len(lives)
    assert any(state["pseudo"] for state in states)
    assert any(state["synced"] and state["synced"] < state["updated"] for state in states)
    assert any(state["synced"] and state["synced"] >= state["updated"] for state in states)
