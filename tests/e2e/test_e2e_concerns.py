"""What an upstream cannot do while it does the rest: a person with `watch` and `sources` open learns what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from assetwatchd.cli.output import source_table
from assetwatchd.model.values import ConditionState
from support.rig import SAMPLES, running, sample

if TYPE_CHECKING:
    from support.rig import Rig

LISTS = {
    "omn": "/dam/assets/query",
    "media-intelligence": r"/projects/[^/]+/assets\?",
}
"""The calls that list, and in Media Intelligence are the sign of life too."""
FAULTS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "403": {"status": 403},
    "html": {"body": "<html>sign in</html>", "content_type": "text/html"},
    "not JSON": {"body": "tids"},
    "cut": {"truncate_bytes": 10},
}


async def screen(rig: Rig) -> str:
    """What `assetwatch sources` prints."""
    return str(source_table(await rig.all_sources(), datetime.now(UTC)))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("source", LISTS)
async def test_a_list_that_always_fails(source: str, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """Both screens say that it cannot be listed and why, the log in one line, and the asset that is pinned is read."""
    pins: dict[str, Any] = {source.replace("-", "_"): {"pins": [SAMPLES[source].asset_id]}}
    async with running((source,), server={"first_read_wait_s": 0.2}, **pins) as rig:
        rig[source].faults.add(path=LISTS[source], **FAULTS[fault])
        stream = await rig.watch(sources=[source]).synced()
        await stream.turns(source, ConditionState.DEGRADED)
        rig.vary(source)
        await stream.holds(lambda now: sample(source) in now and now[sample(source)].state == SAMPLES[source].state)
        for _ in range(5):
            await stream.until(lambda message: message.HasField("bookmark"))
        [told] = [change for message in stream.messages for change in message.source_conditions][-1:]
        assert told.condition.message.startswith("cannot be listed: ")
        assert "cannot be listed: " in await screen(rig)
        assert set(stream.conditions(source)) <= {
            ConditionState.UNKNOWN,
            ConditionState.HEALTHY,
            ConditionState.DEGRADED,
        }
        assert len(stream.conditions(source)) <= 3
    assert sum("cannot be listed" in line for line in caplog.messages) == 1
