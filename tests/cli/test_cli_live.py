from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from assetwatch.v1.asset_status_service_pb2 import SourceConditionChange
from assetwatch.v1.source_pb2 import SourceCondition, SourceConditionState
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from assetwatch_client import View
from assetwatchd.cli.failures import explain
from assetwatchd.cli.live import Breaks
from assetwatchd.cli.output import STATUS_HEADER
from assetwatchd.cli.screen import Board, page
from support.fake_service import Refusal, changes, started, status, synced

if TYPE_CHECKING:
    from assetwatchd.cli.screen import Hints


def drawn(board: Board, width: int, height: int, hints: Hints | None = None) -> list[str]:
    """Return the lines of a screen."""
    console = Console(width=width, height=height, force_terminal=False)
    with console.capture() as capture:
        console.print(page(board, console, hints))
    return capture.get().splitlines()


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
    lines = drawn(board, 160, 20)
    assert len(lines) == 20
    assert sum(" tid:" in line for line in lines) == 20 - 4
    assert "50 assets, 1 change;" in lines[0]
    assert "tid:7 " in lines[2]
    assert "[bold]x" in lines[2]
    assert "dam HEALTHY" in lines[-1]


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
    _, names, row, *_ = drawn(board, width, 24)
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

    def title() -> str:
        return drawn(board, 160, 24)[0].rstrip()

    assert title() == "reading the snapshot; the last to change first. Ctrl-C stops."
    board.note = "the stream broke"
    assert title().endswith("Ctrl-C stops. the stream broke")
    for event in view.take(synced()):
        board.take(event)
    assert title() == "0 assets, 0 changes; the last to change first. Ctrl-C stops."


def test_the_screen_says_what_is_wrong() -> None:
    """Why a source is in trouble, what is not complete, what is wrong with assets, also where no column has room."""
    view = View()
    board = Board(view)
    broken = started()
    broken.source_conditions[0].condition.message = "cannot be listed: HTTP 500"
    many = [status("dam", f"tid:{n}") for n in range(50)]
    failed = [status("dam", f"tid:{n}", "FAILED", message="of no use") for n in (51, 52)]
    stale = [status("dam", "tid:53", unread="not XML"), status("dam", "tid:54", unread="cannot be listed: HTTP 500")]
    for message in (broken, changes(*many, *failed, *stale), synced(incomplete=["dam"])):
        for event in view.take(message):
            board.take(event)
    lines = drawn(board, 80, 24)
    assert len(lines) == 24
    assert [line.rstrip() for line in lines[-5:]] == [
        "not complete: there may be more in dam",
        "dam: cannot be listed: HTTP 500",
        "dam tid:53: not confirmed: not XML",
        "dam tid:52 and 1 more: permanent BROKEN of no use",
        "dam HEALTHY",
    ]
    assert sum(" tid:" in line for line in lines) == 24 - 2 - 1 - 5 + 2


def test_many_troubles_have_their_part_of_the_screen() -> None:
    """More than there is room for are counted, and so are more sources than can be named."""
    view = View()
    board = Board(view)
    for number in range(60):
        told = started()
        told.source_conditions[0].source = f"source-{number:02}"
        told.source_conditions[0].condition.message = "x" * 200
        for event in (*view.take(told), *view.take(changes(status("dam", f"tid:{number}")))):
            board.take(event)
    lines = [line.rstrip() for line in drawn(board, 80, 24, lambda _, room: ["hint"] * room)]
    assert len(lines) == 24
    assert lines[-1] == "sources: 60 HEALTHY"
    assert lines[-2].startswith("and 58 more: see")
    assert lines[-3].endswith("xx…")
    assert "source-01" in lines[-4]
    assert sum(" tid:" in line for line in lines) >= 3
    assert lines.count("hint") == 12


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(
    conditions=st.lists(st.tuples(st.text(min_size=1, max_size=60), TEXTS), max_size=12),
    assets=st.lists(st.tuples(st.text(min_size=1, max_size=60), TEXTS), max_size=40),
    incomplete=st.booleans(),
    note=TEXTS,
    size=st.tuples(st.integers(80, 250), st.integers(24, 70)),
    hints=st.none() | st.integers(0, 40),
)
def test_no_line_falls_off_the_screen(
    *,
    conditions: list[tuple[str, str]],
    assets: list[tuple[str, str]],
    incomplete: bool,
    note: str,
    size: tuple[int, int],
    hints: int | None,
) -> None:
    """Whatever is wrong, and however it is called: what is drawn has no more lines than the screen, none is wider."""
    view = View()
    board = Board(view)
    told = started()
    del told.source_conditions[:]
    for name, message in conditions:
        condition = SourceCondition(state=SourceConditionState.SOURCE_CONDITION_STATE_DEGRADED, message=message)
        told.source_conditions.append(SourceConditionChange(source=name, condition=condition))
    failed = [status("dam", name, "FAILED", message=message) for name, message in assets]
    names = [name for name, _ in conditions] if incomplete else []
    for update in (told, changes(*failed), synced(incomplete=names)):
        for event in view.take(update):
            board.take(event)
    board.note = note
    width, height = size
    lines = drawn(board, width, height, None if hints is None else lambda _, _room: ["hint"] * hints)
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
