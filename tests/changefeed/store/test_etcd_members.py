"""Replicas that contend for one source while members of a real cluster are killed and paused: a short run."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from support.contending import contend
from support.etcd import running
from support.unruly import kill_and_pause

if TYPE_CHECKING:
    from pathlib import Path


async def test_every_commit_is_kept_once_or_not_at_all(tmp_path: Path) -> None:
    """And all members and mirrors have the same in the end."""
    rng = random.Random(1)  # noqa: S311 - repeatable
    with running(tmp_path, 3) as cluster:
        wrong, counts = await contend(cluster, "/aw/", rng, trouble=kill_and_pause(cluster, rng, for_s=8))
    assert not wrong
    assert counts["kept"] >= 5
    assert counts["killed"] + counts["paused"] >= 2
