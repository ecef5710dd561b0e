from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatch.v1.asset_status_pb2 import State
from rich.console import Console

from assetwatchd.cli.live import picture
from assetwatchd.cli.watching import AssetMap
from support.fake_service import changes, started, status, synced

if TYPE_CHECKING:
    from assetwatch.v1.asset_status_service_pb2 import WatchStatusResponse


def held(*messages: WatchStatusResponse) -> AssetMap:
    found = AssetMap()
    for message in messages:
        found.apply(message)
    return found


def test_a_snapshot_replaces_the_map_only_when_it_is_complete() -> None:
    """Until synced the old map is shown; then what was not sent is gone."""
    found = held(started(), changes(status("dam", "tid:1"), status("dam", "tid:2")), synced())
    for message in (started(), changes(status("dam", "tid:2"))):
        found.apply(message)
        assert set(found.statuses) == {("dam", "tid:1"), ("dam", "tid:2")}
    found.apply(synced())
    assert set(found.statuses) == {("dam", "tid:2")}


def test_a_resumed_stream_keeps_the_map() -> None:
    """After RESUMED the map is brought up to date, removals included; one not held is ignored."""
    found = held(started(), changes(status("dam", "tid:1"), status("dam", "tid:2")), synced(), started(resumed=True))
    gone = changes(status("dam", "tid:1"), status("dam", "tid:9"), removed=True)
    for message in (changes(status("dam", "tid:2", "FAILED")), gone, synced()):
        found.apply(message)
    assert {key[1]: told.state for key, told in found.statuses.items()} == {"tid:2": State.STATE_FAILED}


def test_the_picture_shows_the_last_to_change_first_and_fits() -> None:
    """The live table shows the newest changes that fit the screen, and every source's condition."""
    many = [status("dam", f"tid:{number}") for number in range(50)]
    found = held(started(), changes(*many), synced(), changes(status("dam", "tid:7", "FAILED", message="[bold]x")))
    console = Console(width=160, height=20, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(picture(found, 14, "note"))
    drawn = capture.get().splitlines()
    assert len(drawn) == 1 + 1 + 14 + 2
    assert "50 assets, 1 changes" in drawn[0]
    assert "tid:7 " in drawn[2]
    assert "[bold]x" in drawn[2]
    assert "dam HEALTHY" in drawn[-1]
