"""Suggests commands while the demo runs: lines that can be pasted as they are printed, however wide the screen is."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from assetwatchd.cli.target import DEFAULT_SERVER
from assetwatchd.rpc.names import ASSET_STATUS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from assetwatch_sandbox.standin import AnyStandin

Command: TypeAlias = tuple[str, ...]
"""Its words, as a shell reads them. None is a comment: zsh takes those for words."""
INDENT, DEEPER = "  ", "    "
ON = "\\"
"""Ends a line that goes on in the next, between words and in the middle of one alike."""


def to_prepare(listening: str) -> list[Command]:
    """Return what another terminal needs first: the programs of this environment on its PATH, the server, and grpcurl.

    What is on PATH here need not be there: make and an environment that is in use put it on that of one terminal alone.
    """
    commands: list[Command] = [(f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",)]
    if listening != DEFAULT_SERVER:
        commands.append(("export", f"ASSETWATCH_SERVER={shlex.quote(listening)}"))
    if os.environ.get("MAKELEVEL") and not has_grpcurl():
        commands.append(("make", "-C", shlex.quote(str(Path.cwd())), "grpcurl"))
    return commands


def has_grpcurl() -> bool:
    """Return whether grpcurl is on PATH, or in this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
    return shutil.which("grpcurl", path=path) is not None


def to_try(standins: Mapping[str, AnyStandin], listening: str, control_url: str) -> list[Command]:
    """Return commands that work while the demo runs, the most telling first."""
    first = {name: next(iter(standin.asset_ids()), "") for name, standin in standins.items()}
    some = {name: asset_id for name, asset_id in reversed(first.items()) if asset_id}
    gets: list[Command] = [("assetwatch", "get", name, shlex.quote(asset_id)) for name, asset_id in some.items()]
    calls = _of_grpcurl(some, listening) if has_grpcurl() or os.environ.get("MAKELEVEL") else []
    omn = f"{control_url}/sources/omn"
    return [
        ("assetwatch", "sources"),
        ("assetwatch", "watch", *list(some)[:2]),
        *gets[:1],
        ("curl", "-X", "POST", f"{omn}/down"),
        ("curl", "-X", "POST", f"{omn}/up"),
        *calls[:2],
        *gets[1:],
        *calls[2:],
    ]


def _of_grpcurl(some: Mapping[str, str], listening: str) -> list[Command]:
    def call(method: str, request: object) -> Command:
        told = shlex.quote(json.dumps(request, separators=(",", ":")))
        return ("grpcurl", "-plaintext", "-d", told, listening, f"{ASSET_STATUS.full_name}/{method}")

    gets = [
        call("GetAssetStatus", {"asset": {"source": name, "asset_id": asset_id}}) for name, asset_id in some.items()
    ]
    return [
        ("grpcurl", "-plaintext", listening, "list"),
        call("WatchStatus", {"sources": list(some)[:1]}),
        call("ListAssetStatuses", {"page_size": 5}),
        *gets,
    ]


def fitting(commands: Iterable[Command], width: int, room: int) -> list[str]:
    """Return as many of the commands, in order, as have room in so many lines of that width; none in part."""
    lines: list[str] = []
    for command in commands:
        more = folded(command, width)
        if len(lines) + len(more) > room:
            break
        lines += more
    return lines


def folded(command: Sequence[str], width: int) -> list[str]:
    """Write a command in lines of that width at most, which a shell reads as one.

    Between words a line goes on deeper; in a word that no line has room for at the margin, since a space would end it.
    What is quoted stays whole.
    """
    # Folded here and not by the terminal, so that what is copied off the screen is still one command to a shell.
    lines = [INDENT]
    for word in command:
        begun = lines[-1].strip() != ""
        if begun and len(lines[-1]) + len(f" {word} {ON}") > width:
            lines[-1] += f" {ON}"
            lines.append(DEEPER)
        elif begun:
            lines[-1] += " "
        *parts, last = _parts(word, width - len(lines[-1]) - len(ON), width - len(ON))
        for part in parts:
            lines[-1] += part + ON
            lines.append("")
        lines[-1] += last
    return lines


def _parts(word: str, first: int, others: int) -> list[str]:
    if len(word) <= first or min(first, others) < 1 or "'" in word:
        return [word]
    return [word[:first], *(word[begin : begin + others] for begin in range(first, len(word), others))]
