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
GROWTH_MIB_MAX = 64
"""From the second third of the run to the last; the first fills what has a limit. Compared is the least of each: what
waits for the collector of garbage comes and goes by as much. A megabyte a second is beyond it in a minute.
"""


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
    third = len(sizes) // 3
    growth = min(sizes[2 * third :]) - min(sizes[third : 2 * third])
    assert growth < GROWTH_MIB_MAX, f"{told}: {[round(size) for size in sizes[:: max(1, third // 15)]]} MiB"
