"""Shows a watch as it goes: a live table on a terminal, a line a change or a JSON object a message elsewhere."""

from __future__ import annotations

import signal
import sys
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import grpc
from assetwatch.v1.asset_status_pb2 import AssetState
from assetwatch.v1.source_pb2 import SourceConditionState
from rich.console import Console
from rich.live import Live

from assetwatch_client import (
    Action,
    ConditionChanged,
    Removed,
    Synced,
    Upsert,
    Watch,
    action_for,
    reason_of,
)
from assetwatchd.cli.options import Format
from assetwatchd.cli.output import document, incomplete_text, label, trouble_text
from assetwatchd.cli.screen import Board, page
from assetwatchd.cli.terminal import can_be_drawn_on, complain, leave_screen, let_flow, safe, tell
from assetwatchd.runtime import stopping

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from assetwatch_client import Event, Key, Servers
    from assetwatchd.cli.screen import Hints

T = TypeVar("T")
REFRESH_PER_S = 4
UNBOUNDED = 1_000_000
"""Where there is no screen: as wide, and as many lines, as it takes."""
DRAINING = "SERVER_DRAINING"
DEADLY = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Each ends a process that does not hear it, on the spot; Ctrl-\\ sends the last. SIGTSTP, of Ctrl-Z, stops it."""


class Interest(NamedTuple):
    """The assets to watch, and the token to go on from; empty: begin with a snapshot."""

    sources: Sequence[str]
    assets: Sequence[tuple[str, str]] = ()
    states: Sequence[int] = ()
    asset_id_prefix: str = ""
    view: int = 0
    resume_token: str = ""


class Breaks:
    """Tells of every break of a watch, and ends it where the server refuses the token that the user gave.

    with_server: ends it, untold, where the server stops as planned, too.
    """

    def __init__(self, note: Callable[[str], None], *, token_given: bool, with_server: bool = False) -> None:
        self._note = note
        self._token_given = token_given
        self._with_server = with_server

    def __call__(self, error: grpc.aio.AioRpcError | TimeoutError | None) -> None:
        """Take note of how a stream ended. Raises: AioRpcError."""
        if isinstance(error, grpc.aio.AioRpcError):
            anew = action_for(error) is Action.SNAPSHOT
            if (anew and self._token_given) or (self._with_server and reason_of(error) == DRAINING):
                raise error
            why = reason_of(error) or error.code().name
            self._note(f"the stream broke ({why}); watching again{' from a snapshot' if anew else ''}")
        elif error is not None:
            self._note("the stream fell silent; watching again")

    async def heeding(self, stream: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """Yield what comes; from then on the watch goes by tokens of its own."""
        async with aclosing(stream):
            async for item in stream:
                self._token_given = False
                yield item


async def show(servers: grpc.aio.Channel | Servers, interest: Interest, output: Format | None) -> None:
    """Show a watch until it is cancelled. output None: a live table on a terminal, else a JSON object a message.

    Raises: AioRpcError, TimeoutError: the first stream could not begin, or the call is wrong.
    """
    if output in {None, Format.TABLE} and can_be_drawn_on():
        await _table(servers, interest)
    elif output is Format.TABLE or (output is None and sys.stdout.isatty()):
        await _lines(servers, interest)
    else:
        await _messages(servers, interest, output or Format.NDJSON)


def _watch(
    servers: grpc.aio.Channel | Servers, interest: Interest, note: Callable[[str], None], *, with_server: bool = False
) -> tuple[Watch, Breaks]:
    breaks = Breaks(note, token_given=interest.resume_token != "", with_server=with_server)
    return Watch(servers, **interest._asdict(), patient=False, on_break=breaks), breaks


async def _messages(servers: grpc.aio.Channel | Servers, interest: Interest, output: Format) -> None:
    watch, breaks = _watch(servers, interest, complain)
    async with aclosing(breaks.heeding(watch.messages())) as messages:
        async for message in messages:
            tell(document(message, output))


async def _lines(servers: grpc.aio.Channel | Servers, interest: Interest, *, with_server: bool = False) -> None:
    watch, breaks = _watch(servers, interest, complain, with_server=with_server)
    told: dict[Key, str] = {}
    async with aclosing(breaks.heeding(watch.events())) as events:
        async for event in events:
            tell(safe(f"{datetime.now(UTC):%H:%M:%S} {text_line(event, told)}".rstrip()))


async def show_while_served(servers: grpc.aio.Channel | Servers, interest: Interest, hints: Hints) -> None:
    """Show a watch under hints until the server stops as planned, or it is cancelled. Raises: as show."""
    try:
        await show_under(hints, servers, interest, with_server=True)
    except grpc.aio.AioRpcError as error:
        if reason_of(error) != DRAINING:
            raise


async def show_under(
    hints: Hints, servers: grpc.aio.Channel | Servers, interest: Interest, *, with_server: bool = False
) -> None:
    """Show a watch under hints until it is cancelled. Raises: as show."""
    if can_be_drawn_on():
        await _table(servers, interest, hints, with_server=with_server)
    else:
        for line in hints(UNBOUNDED, UNBOUNDED):
            tell(safe(line))
        await _lines(servers, interest, with_server=with_server)


async def _table(
    servers: grpc.aio.Channel | Servers, interest: Interest, hints: Hints | None = None, *, with_server: bool = False
) -> None:
    """Draw the whole screen, again and again: a table in the midst of text would leave a trace when it is resized."""
    console = Console()

    def note(text: str) -> None:
        board.note = text

    watch, breaks = _watch(servers, interest, note, with_server=with_server)
    board = Board(watch)
    live = Live(
        get_renderable=lambda: page(board, console, hints),
        console=console,
        screen=True,
        refresh_per_second=REFRESH_PER_S,
    )
    try:
        with live, _given_back(live):
            async with aclosing(breaks.heeding(watch.events())) as events:
                async for event in events:
                    board.take(event)
    finally:
        if board.synced and hints is None:  # the screen is as it was before: what was seen last stays on it
            console.print(page(board, console))


@contextmanager
def _given_back(live: Live) -> Iterator[None]:
    """Give the terminal back before a signal ends or stops the process, as it does all the same.

    A signal that others hear is theirs; where they end the process by force, the terminal is given back there, too.
    Where the terminal takes nothing any more, the same signal once more ends the process at once.
    """

    def end(number: int, _frame: object) -> None:
        # The default first: where the terminal takes nothing any more and `stop` waits for it, the same signal once
        # more ends the process. Raised again at the end, so that the shell is told how the process ended.
        signal.signal(number, signal.SIG_DFL)
        let_flow()
        try:
            live.stop()
        finally:
            signal.raise_signal(number)

    def pause(number: int, frame: object) -> None:
        end(number, frame)
        signal.signal(number, pause)  # it goes on
        live.start(refresh=True)

    unheard = dict.fromkeys(DEADLY, end) | {signal.SIGTSTP: pause}
    unheard = {number: how for number, how in unheard.items() if signal.getsignal(number) is signal.SIG_DFL}
    for number, how in unheard.items():
        signal.signal(number, how)
    stopping.AT_FORCED_END.add(leave_screen)
    try:
        yield
    finally:
        stopping.AT_FORCED_END.discard(leave_screen)
        for number in unheard:
            signal.signal(number, signal.SIG_DFL)
        let_flow()


def text_line(event: Event, told: dict[Key, str]) -> str:
    """Return a line about an event: source, asset, the state before and now, the failure; keep the state in told."""
    match event:
        case ConditionChanged(source, condition):
            return f"{source} is {label(SourceConditionState, condition.state)} {condition.message}"
        case Synced(_, _, incomplete):
            return f"synced: {incomplete_text(incomplete) or 'the list is complete, changes follow'}"
        case _:
            return _change_line(event, told)


def _change_line(event: Upsert | Removed, told: dict[Key, str]) -> str:
    status, then = event.status, told.pop(event.key, None)
    now = "REMOVED"
    if isinstance(event, Upsert):
        now = told[event.key] = label(AssetState, status.state)
    states = f"{then} -> {now}" if then and then != now else now
    return f"{status.asset.source} {status.asset.asset_id} {states} {trouble_text(status)}"
