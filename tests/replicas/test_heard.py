"""What is known here of a source that another replica asks."""

from __future__ import annotations

import pytest
from assetwatch.internal.v1 import peer_pb2 as pb

from assetwatchd.replicas.heard import Heard
from assetwatchd.settings.schema import SourceSettings
from support import virtual_time

pytestmark = pytest.mark.unit


def test_assets_come_and_go_for_ever() -> None:
    """Of those that are read it is known when, whatever was read before and is no more; and no more is remembered."""

    async def lives() -> None:
        settings = SourceSettings.model_validate({"base_url": "http://127.0.0.1:1", "assets_max": 10})
        heard = Heard(settings, now=lambda: 100.0)
        for number in range(100):
            read = [pb.Observed(asset_id="always", at=number), pb.Observed(asset_id=str(number), at=number)]
            heard.take(pb.SourceNews(observed=read))
            assert heard.observed[str(number)] == number
        assert heard.observed["always"] == 99
        assert len(heard.observed) == 2 * settings.assets_max

    virtual_time.run(lives())
