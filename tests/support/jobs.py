"""What the tests have read beside: functions that a process of its own can import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from assetwatchd.model.errors import Throttled
from assetwatchd.upstream.bodies import xml
from assetwatchd.upstream.port import Listed

if TYPE_CHECKING:
    from assetwatchd.upstream.http.transport import Reply


class Given:
    """Something that is given beside the answer."""


def pid(_: Reply) -> int:
    """Tell who reads."""
    return os.getpid()


def length(reply: Reply) -> int:
    """Tell how much there is to read."""
    return len(reply.body)


def status(reply: Reply, *more: int) -> tuple[int, ...]:
    """Tell the status and what was given."""
    return (reply.status, *more)


def spin(_: Reply) -> None:
    """Compute for ever."""
    while True:
        pass


def hoard(reply: Reply) -> int:
    """Take memory without end."""
    return len([bytes(len(reply.body)) for _ in range(100_000)])


KEPT: list[bytes] = []
"""What `keep` keeps."""


def keep(_: Reply, size: int) -> None:
    """Hold memory for as long as the process lives."""
    KEPT.append(bytes(size))


def wait(_: Reply, path: str) -> None:
    """Tell that it has begun, and end when the file that tells it is gone."""
    Path(path).write_text(str(os.getpid()))
    while Path(path).exists():
        pass


def end(_: Reply, number: int) -> None:
    """Get a signal."""
    os.kill(os.getpid(), number)


def fail(_: Reply, *_given: object) -> float:
    """Have a defect."""
    return 1 / 0


def refuse(_: Reply, *_given: object) -> None:
    """Raise what an adapter raises."""
    raise Throttled("slower", retry_after_s=7.0)


def make(_: Reply, size: int) -> bytes:
    """Return that much."""
    return bytes(size)


def names(_: Reply, count: int) -> frozenset[str]:
    """Return a set of so many."""
    return frozenset(map(str, range(count)))


def listed(_: Reply, count: int) -> Listed:
    """Return a list of so many, of which something cannot be read."""
    return Listed(frozenset(map(str, range(count))), 2, "item 7 has no id")


def announce(_: Reply, path: str) -> None:
    """Tell that it has begun, and do not end."""
    Path(path).write_text(str(os.getpid()))
    while True:
        pass


def unload(reply: Reply) -> None:
    """Read XML."""
    xml.parse(reply.body)


def quote(reply: Reply) -> None:
    """Fail as code of ours may, with what came in the text."""
    raise KeyError(reply.body.decode())
