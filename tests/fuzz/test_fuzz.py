"""Made-up requests of every method, over a real server and the sandbox: documented ends, no traceback, flat memory.

FUZZ_S: for how long. FUZZ_SEED: that of a run that is to be made again; it says its own when it fails.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from fuzz.calls import fuzz, methods
from fuzz.served import serving

if TYPE_CHECKING:
    from pathlib import Path

FOR_S = float(os.environ.get("FUZZ_S", "60"))
SEED = int(os.environ.get("FUZZ_SEED", random.SystemRandom().randrange(2**31)))
CALLERS = 16
LOOK_EVERY_S = 0.5
SETTLED = 0.4
"""This share of the run fills what has a limit: caches, names, pools of memory."""
GROWTH_MIB_MAX = 48
"""From then on. What leaked a kilobyte a call would be beyond it in a minute, or in ten."""


@pytest.mark.timeout(FOR_S + 90)
async def test_no_request_ends_in_a_way_that_is_not_documented(tmp_path: Path) -> None:
    """Whatever is sent, to whatever method; and the server is as large and as well as before."""
    sizes: list[float] = []
    async with serving(tmp_path) as served:
        found = await fuzz(
            served,
            for_s=FOR_S,
            seed=SEED,
            callers=CALLERS,
            each_s=LOOK_EVERY_S,
            look=lambda: sizes.append(served.rss_mib()),
        )
    told = f"FUZZ_SEED={SEED}, {found.ends.total()} calls"
    log = served.log.read_text()
    assert not found.wrong, f"{told}: {found.wrong[0]}\n{log[-3000:]}"
    assert "Traceback" not in log, f"{told}\n{log[-3000:]}"
    assert {path for path, _ in found.ends} == {method.path for method in methods()}
    settled = sizes[int(len(sizes) * SETTLED) :]
    assert max(settled) - settled[0] < GROWTH_MIB_MAX, f"{told}: {sizes[:: max(1, len(sizes) // 40)]} MiB"
    print(told, dict(found.ends), sizes[:: max(1, len(sizes) // 40)])  # noqa: T201
