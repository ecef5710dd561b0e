"""The command line as people run it: a process of its own, against real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.command_line import Done, process, run
from support.fake_service import FakeService, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.command_line import Run, Spawn


@pytest.fixture
async def fake() -> AsyncIterator[FakeService]:
    async with serving() as service:
        yield service


@pytest.fixture
def ask(fake: FakeService) -> Run:
    """Run a command against the fake server."""

    async def asked(*arguments: str) -> Done:
        return await run(*arguments, ASSETWATCH_SERVER=fake.address)

    return asked


@pytest.fixture
def command() -> Run:
    return run


@pytest.fixture
def spawn() -> Spawn:
    return process
