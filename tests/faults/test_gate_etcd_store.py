"""The store over a cluster of three whose members are killed and paused: every commit once, or not at all."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from support.contending import contend
from support.etcd import running
from support.unruly import kill_and_pause

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SEEDS = int(os.environ.get("FAULTS_ETCD_SEEDS", "3"))
RUN_S = float(os.environ.get("FAULTS_ETCD_S", "40"))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_every_commit_is_kept_once_or_not_at_all(seed: int, tmp_path: Path) -> None:
    """Whoever owns the source, whichever member leads; all members and mirrors have the same in the end."""
    rng = random.Random(seed)  # noqa: S311 - repeatable
    with running(tmp_path, 3) as cluster:
        wrong, counts = await contend(cluster, "/aw/", rng, trouble=kill_and_pause(cluster, rng, for_s=RUN_S))
    print(f"seed {seed}: {dict(counts)}")  # noqa: T201 - figures for whoever asks with -s
    assert not wrong
    assert counts["kept"] > RUN_S
