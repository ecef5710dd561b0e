from __future__ import annotations

import grpc
import pytest
from rich.console import Console

from assetwatch_client import View
from assetwatchd.cli.failures import explain
from assetwatchd.cli.live import Board, Breaks, picture
from assetwatchd.cli.output import STATUS_HEADER
from support.fake_service import Refusal, changes, started, status, synced


def test_silence_is_told_and_waited_out_once_a_watch_has_begun() -> None:
    """A stream that falls silent is a break like others; before the first message it ends the command with 3."""
    told: list[str] = []
    Breaks(told.append, token_given=True)(TimeoutError())
    assert told == ["the stream fell silent; watching again"]
    assert explain(TimeoutError(), "host:1") == (3, ["host:1 did not answer in time; try again"])


def test_the_picture_shows_the_last_to_change_first_and_fits() -> None:
    """The live table shows the newest changes that fit the screen, and every source's condition."""
    many = [status("dam", f"tid:{number}") for number in range(50)]
    broken = status("dam", "tid:7", "FAILED", revision=2, message="[bold]x")
    view = View()
    board = Board(view)
    for message in (started(), changes(*many), synced(), changes(broken)):
        for event in view.take(message):
            board.take(event)
    console = Console(width=160, height=20, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(picture(board, 14, 160))
    drawn = capture.get().splitlines()
    assert len(drawn) == 1 + 1 + 14 + 2
    assert "50 assets, 1 change;" in drawn[0]
    assert "tid:7 " in drawn[2]
    assert "[bold]x" in drawn[2]
    assert "dam HEALTHY" in drawn[-1]


@pytest.mark.parametrize(
    ("width", "header"),
    [
        (200, list(STATUS_HEADER)),
        (104, list(STATUS_HEADER)),
        (103, ["SOURCE", "ASSET", "STATE", "FRESHNESS", "OBSERVED", "REVISION"]),
        (80, ["SOURCE", "ASSET", "STATE", "FRESHNESS", "OBSERVED"]),
        (77, ["SOURCE", "ASSET", "STATE", "FRESHNESS"]),
    ],
)
def test_a_narrow_screen_keeps_what_asset_it_is_and_its_state(width: int, header: list[str]) -> None:
    """ASSET has 24 columns at least and STATE is whole, at 80 columns too: FAILURE, REVISION, OBSERVED give way."""
    view = View()
    board = Board(view)
    asset_id = f"s3://studio-assets/props/{'chair' * 40}.usd"
    failed = status("media-intelligence-of-the-studio", asset_id, "OUT_OF_SYNC", message="broken" * 40)
    for event in view.take(changes(failed)):
        board.take(event)
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(picture(board, 14, width))
    _, names, row, *_ = capture.get().splitlines()
    assert names.split() == header
    assert len(row) <= width
    assert asset_id[:23] in row
    assert " OUT_OF_SYNC " in row
    assert row.startswith("media-intelligence-")


def test_a_watch_that_ends_with_its_server_tells_nothing_of_it() -> None:
    """A planned stop ends such a watch untold; any other break is told and waited out as ever."""
    told: list[str] = []
    breaks = Breaks(told.append, token_given=False, with_server=True)
    with pytest.raises(grpc.aio.AioRpcError):
        breaks(broken("SERVER_DRAINING"))
    assert told == []
    breaks(broken("SLOW_CONSUMER"))
    assert told == ["the stream broke (SLOW_CONSUMER); watching again"]


def broken(reason: str) -> grpc.aio.AioRpcError:
    """Return the end of a stream for that reason."""
    packed = Refusal(grpc.StatusCode.UNAVAILABLE, "ended", reason).status
    trailing = grpc.aio.Metadata(*packed.trailing_metadata)
    return grpc.aio.AioRpcError(packed.code, grpc.aio.Metadata(), trailing, packed.details)


def test_the_title_says_what_is_going_on() -> None:
    """Until the list is complete the title says so, and after a break it says that until something comes."""
    view = View()
    board = Board(view)
    console = Console(width=160, record=True, file=None, force_terminal=False)

    def title() -> str:
        with console.capture() as capture:
            console.print(picture(board, 3, 160))
        return capture.get().splitlines()[0].rstrip()

    assert title() == "reading the snapshot; the last to change first. Ctrl-C stops."
    board.note = "the stream broke"
    assert title().endswith("Ctrl-C stops. the stream broke")
    for event in view.take(synced()):
        board.take(event)
    assert title() == "0 assets, 0 changes; the last to change first. Ctrl-C stops."


def test_the_picture_says_what_is_wrong() -> None:
    """A line a source in trouble, with why, and one about what is not complete; they take the place of assets."""
    view = View()
    board = Board(view)
    broken = started()
    broken.source_conditions[0].condition.message = "cannot be listed: HTTP 500"
    for message in (broken, changes(*[status("dam", f"tid:{n}") for n in range(50)]), synced(incomplete=["dam"])):
        for event in view.take(message):
            board.take(event)
    console = Console(width=160, force_terminal=False)
    with console.capture() as capture:
        console.print(picture(board, 14, 160))
    drawn = capture.get().splitlines()
    assert len(drawn) == 1 + 1 + 14 + 2
    assert drawn[-2].startswith("dam: cannot be listed: HTTP 500")
    assert drawn[-1].startswith("not complete; cannot be read now: dam")
