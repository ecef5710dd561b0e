"""All output of the command line: text from outside never gets to a terminal with characters that act on it.

A Safe text was made here, and whoever prints must have one, so that the type checker finds what goes around it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import stat
import sys
import termios
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, NewType

import typer

from assetwatchd.model.texts import acts, harmless

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from typing import TextIO

CANNOT_WRITE = 1
READER_GONE = 141
"""128 and SIGPIPE, as a shell has it of programs that the signal ends."""
Safe = NewType("Safe", str)
"""Text in lines that a terminal only shows; the colours in it are ours."""
RESTORED = b"\x1b[?1049l\x1b[?25h"
"""The first screen, and the cursor."""
DUMB = frozenset({"dumb", "unknown"})
"""Terminals that print and no more, as rich knows them too: those get lines."""
ASTRAL = 0x10000
PERHAPS_ACTING = re.compile(r"[^\n\x20-\x7e]")
"""What JSON and YAML may have to escape: the ends of lines are theirs, those in a text are escaped already."""


def safe(text: str) -> Safe:
    """Write on one line, whatever would act on a terminal escaped."""
    return Safe(harmless(text))


def cells(*texts: str) -> tuple[Safe, ...]:
    """Make the cells of a row."""
    return tuple(safe(text) for text in texts)


def lines(texts: Iterable[Safe]) -> Safe:
    """Put texts under each other."""
    return Safe("\n".join(texts))


def coloured(text: Safe, colour: str) -> Safe:
    """Give a text a colour of ours."""
    return Safe(typer.style(text, fg=colour))


def as_json(data: object, *, indent: int | None = None) -> Safe:
    r"""Write JSON, the same value on a terminal as in a pipe: what acts is escaped as JSON has it, \u202e."""
    return Safe(PERHAPS_ACTING.sub(_json_escape, json.dumps(data, ensure_ascii=False, indent=indent)))


def as_yaml(data: object) -> Safe:
    r"""Write YAML; a text that holds what acts is quoted, so that it can be escaped as YAML has it, \u202e."""
    import yaml  # noqa: PLC0415 - only this format pays for it

    class Dumper(yaml.SafeDumper):
        """Quotes such texts."""

    def represent(dumper: Dumper, text: str) -> yaml.ScalarNode:
        quoted = any(acts(char) for char in text)
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)

    Dumper.add_representer(str, represent)
    written = yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True).rstrip("\n")
    return Safe(PERHAPS_ACTING.sub(_yaml_escape, written))


class ReaderGone(typer.Exit):
    """The reader of standard output has gone, as head does when it has enough: there is nobody left to print for."""

    def __init__(self, code: int = READER_GONE) -> None:
        super().__init__(code)


def tell(text: Safe) -> None:
    """Print what was asked for. Raises: ReaderGone."""
    with _to_the_reader():
        typer.echo(text)


@contextmanager
def _to_the_reader() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Python flushes standard output once more as it ends, and would print an error of its own: to nowhere instead.
        sys.stdout = _nowhere()
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from None
        complain(f"standard output cannot be written: {error.strerror}")
        raise ReaderGone(CANNOT_WRITE) from None


def can_be_drawn_on() -> bool:
    """Return whether standard output is a terminal on which a place can be written to again."""
    return sys.stdout.isatty() and os.environ.get("TERM", "").lower() not in DUMB


def open_what_is_closed() -> None:
    """Have output go nowhere that the shell gave no place to (`>&-`); Python leaves None for it."""
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()


def _nowhere() -> TextIO:
    return open(os.devnull, "w")  # noqa: PTH123 - as long as the process


def _is_piped() -> bool:
    """Return whether standard output is a pipe open for writing alone: else our own output could be read here."""
    try:
        number = sys.stdout.fileno()
        only_written = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        return only_written and stat.S_ISFIFO(os.fstat(number).st_mode)
    except (OSError, ValueError):  # closed, or no file at all
        return False


@asynccontextmanager
async def while_read() -> AsyncIterator[None]:
    """Cancel what is under way once whoever reads standard output has gone, however long nothing is printed.

    Raises: ReaderGone.
    """
    import asyncio  # noqa: PLC0415 - help does not pay for it

    loop, task, gone = asyncio.get_running_loop(), asyncio.current_task(), False
    piped = _is_piped()

    def leave() -> None:
        nonlocal gone
        loop.remove_reader(sys.stdout)
        gone = task is not None and task.cancel()

    if piped:
        # The writing end of a pipe never has anything to read, so it becomes readable only when its reader has gone.
        loop.add_reader(sys.stdout, leave)
    try:
        yield
    except asyncio.CancelledError:
        if gone:
            raise ReaderGone from None
        raise
    finally:
        if piped:
            loop.remove_reader(sys.stdout)


def complain(text: str, *more: str) -> None:
    """Print, in the name of the command, what is not an answer; more: a line each."""
    typer.echo(lines(cells(f"assetwatch: {text}", *more)), err=True)


def write_raw(content: bytes) -> None:
    """Write content byte for byte, as it was asked for; a terminal gets it with what acts on it escaped.

    Raises: ReaderGone.
    """
    with _to_the_reader():
        if sys.stdout.isatty():
            shown = content.decode("utf-8", "backslashreplace").expandtabs().replace("\r\n", "\n").split("\n")
            typer.echo(lines(cells(*shown)), nl=False)
        else:
            sys.stdout.buffer.write(content)
        sys.stdout.flush()


def let_flow() -> None:
    """Have the terminal take what it is sent, also if Ctrl-S has stopped it: who waits for it can give nothing back.

    Stopped once more in the program's own way, it can be started in that. A process in the background may do it, too.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    with suppress(OSError, termios.error):
        termios.tcflow(sys.stdout.fileno(), termios.TCOOFF)
        termios.tcflow(sys.stdout.fileno(), termios.TCOON)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def leave_screen() -> None:
    """Give the terminal back past all that may be waited for in this process."""
    let_flow()
    with suppress(OSError):
        os.write(sys.stdout.fileno(), RESTORED)


def _json_escape(found: re.Match[str]) -> str:
    char = found[0]
    return json.dumps(char)[1:-1] if acts(char) else char


def _yaml_escape(found: re.Match[str]) -> str:
    char = found[0]
    if not acts(char):
        return char
    return f"\\U{ord(char):08X}" if ord(char) >= ASTRAL else f"\\u{ord(char):04X}"
