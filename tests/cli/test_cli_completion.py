"""What a shell is offered when it completes a line."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from assetwatch.v1.source_pb2 import Source, SourceKind

from assetwatchd.cli.client import CALL_TIMEOUT_S
from assetwatchd.cli.completion import ASKING_S
from assetwatchd.cli.options import StateName
from support.command_line import environment

if TYPE_CHECKING:
    from support.fake_service import FakeService

PROGRAM = Path(sys.executable).with_name("assetwatch")
DEADLINE_S = 30


async def offered(*words: str, **extra: str) -> list[str]:
    """Complete the last word, as bash has it done."""
    line = {"_ASSETWATCH_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(["assetwatch", *words])}
    running = await asyncio.create_subprocess_exec(
        PROGRAM,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**line, COMP_CWORD=str(len(words)), **extra),
    )
    out, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    assert err == b""
    return out.decode().split()


@pytest.mark.parametrize(
    "words",
    [
        ("get",),
        ("list",),
        ("list", "sbc"),
        ("list", "--source"),
        ("wait",),
        ("watch",),
        ("watch", "--source"),
        ("sources",),
        ("retry",),
        ("health",),
    ],
    ids=" ".join,
)
async def test_sources_are_known(fake: FakeService, words: tuple[str, ...]) -> None:
    """Wherever one is wanted, those of the server that the line would call, by what is typed so far."""
    assert await offered(*words, "", ASSETWATCH_SERVER=fake.address) == ["dam", "sbc"]
    assert await offered(*words, "s", ASSETWATCH_SERVER=fake.address) == ["sbc"]


async def test_a_pieces_os_is_known(fake: FakeService) -> None:
    """Where only a source of kind pieces will do, no other is offered."""
    fake.sources = [Source(name="desk", kind=SourceKind.SOURCE_KIND_PIECES), *fake.sources]
    assert await offered("pieces", "ls", "--source", "", ASSETWATCH_SERVER=fake.address) == ["desk"]


async def test_the_server_of_the_line_is_asked(fake: FakeService) -> None:
    """--server counts here as in the call, and over TLS where the call would be."""
    assert await offered("get", "--server", fake.address, "") == ["dam", "sbc"]
    assert await offered("get", "--tls", "--server", fake.address, "") == []


@pytest.mark.parametrize(
    ("word", "states"),
    [
        ("", [str(state) for state in StateName]),
        ("FA", ["FAILED"]),
        ("out_o", ["out_of_sync"]),
    ],
)
@pytest.mark.parametrize("words", [("list", "--state"), ("watch", "dam", "--state"), ("wait", "dam", "x", "--state")])
async def test_states_are_known(words: tuple[str, ...], word: str, states: list[str]) -> None:
    """As they are printed, or in small letters for whoever begins so."""
    assert await offered(*words, word) == states


async def test_a_server_that_says_nothing_costs_a_second() -> None:
    """Without an answer nothing is offered, and nothing is said."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        async with asyncio.timeout(CALL_TIMEOUT_S - ASKING_S):
            assert await offered("get", "", ASSETWATCH_SERVER=f"127.0.0.1:{deaf.getsockname()[1]}") == []
    assert await offered("get", "", ASSETWATCH_SERVER="127.0.0.1:1") == []
