"""A list with one item that nobody can read, under a watch of the whole source."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assetwatchd.model.values import ConditionState, State
from support.rig import SAMPLES, running, sample

NUMBER = int(SAMPLES["media-intelligence"].asset_id.rpartition("/")[2])
TID = SAMPLES["omn"].asset_id.removeprefix("tid:")
UUID = SAMPLES["pieces"].asset_id
LISTS: dict[str, dict[str, Any]] = {
    "media-intelligence": {
        "path": r"/assets\?",
        "body": {"code": "0", "result": {"content": [{"assetName": "x"}, {"assetId": NUMBER}], "totalCount": 2}},
    },
    "omn": {"path": "/dam/assets/query", "body": {"tids": [None, TID]}},
    "pieces": {
        "path": "/assets/stream/identifiers",
        "on": "frame",
        "body": {"iterable": [{"asset": {}}, {"asset": {"id": UUID}}]},
    },
}


@pytest.mark.parametrize("source", LISTS)
async def test_one_bad_item_of_a_list_costs_one_item(source: str, caplog: pytest.LogCaptureFixture) -> None:
    """The others are watched; the source says that its list is not complete, and why, and the log says it once."""
    fault = {**LISTS[source], "body": json.dumps(LISTS[source]["body"]), "content_type": "application/json"}
    async with running((source,), count=0) as rig:
        rig[source].faults.add(**fault)
        stream = rig.watch(sources=[source])
        await stream.holds(lambda held: sample(source) in held)
        assert State(stream.map[sample(source)].state) is State.AVAILABLE
        await stream.turns(source, ConditionState.DEGRADED)
        for _ in range(3):
            await stream.until(lambda message: message.HasField("bookmark"))
        assert stream.conditions(source)[-1] == ConditionState.DEGRADED
        assert stream.map.keys() == {sample(source)}
        condition = rig.app.sources.get(source).condition
        assert condition.message.startswith("cannot be listed completely: 1 of its items cannot be read: ")
    assert caplog.text.count("of its items cannot be read") == 1
