"""docs/clients.md says what assetwatch_client does."""

from __future__ import annotations

import re
from pathlib import Path

import grpc

from assetwatch_client import UNEXPLAINED_MAX, Action, Backoff
from assetwatch_client.actions import BY_CODE
from assetwatch_client.watch import DEAD_AFTER_HEARTBEATS, SYNC_SILENCE_S

PAGE = (Path(__file__).parents[2] / "docs/clients.md").read_text()


def codes(what: str) -> set[str]:
    """Return the codes in the rows of the table of statuses that say so."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    known = {code.name for code in grpc.StatusCode}
    return {code for row in rows if what in row[1] for code in re.findall(r"[A-Z_]+", row[0])} & known


def test_what_is_done_about_a_status_without_a_reason() -> None:
    """Each code that is retried is in the table, with its token kept or not; those named as hopeless are."""
    acting = {action: {code.name for code, does in BY_CODE.items() if does is action} for action in Action}
    assert codes("the same token") | codes("the same;") == acting[Action.RESUME]
    assert codes("drop the token") == acting[Action.SNAPSHOT]
    hopeless = codes("the same call will fail again")
    assert hopeless
    assert not hopeless & set().union(*acting.values())


def test_the_numbers() -> None:
    """Pauses, patience, and how often a refusal without a reason is believed to pass."""
    backoff = Backoff()
    assert f"a random time up to {backoff.first_s:g} s" in PAGE
    assert f"in a row up to {backoff.max_s:g} s" in PAGE
    assert f"in sync for {backoff.settled_s:g} s" in PAGE
    assert re.findall(r"^\| `(?:started|synced)` \| (\d+) s", PAGE, flags=re.MULTILINE) == [f"{SYNC_SILENCE_S:g}"] * 2
    assert f"{['no', 'one', 'two', 'three'][DEAD_AFTER_HEARTBEATS]} `heartbeat_interval`s" in PAGE
    assert PAGE.count(f"{['four', 'five', 'six'][UNEXPLAINED_MAX - 3]} times in a row") == 2
