"""--server with several addresses: the first that is there is called, and a watch goes on at the next."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from typing import TYPE_CHECKING

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.cli.options import addresses
from assetwatchd.cli.target import Target
from support.command_line import DEADLINE_S, process, run
from support.scripted_watch import HANG, ScriptedServer, batch, started, upsert
from support.watch_client import FIRST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.fake_service import FakeService


def nobody() -> str:
    """Return an address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


ADDRESSES = st.sampled_from(["127.0.0.1:50051", "assetwatch.example:1", "[::1]:50051", "unix:/run/a.sock"])


@given(st.lists(ADDRESSES, min_size=1, max_size=5))
def test_addresses_are_those_given(given_: Sequence[str]) -> None:
    """With commas, and spaces after them: each once, in their order."""
    target = Target(addresses(", ".join(given_)))
    assert [one.server for one in target.each] == list(dict.fromkeys(given_))


@pytest.mark.parametrize("text", ["", "a:1,", ",a:1", "a:1,,b:1", "a:1,b"])
def test_each_address_is_checked(text: str) -> None:
    """What is none is refused, wherever it stands."""
    with pytest.raises(typer.BadParameter, match="give HOST:PORT"):
        addresses(text)


async def test_a_watch_goes_on_at_the_next_server() -> None:
    """The first one goes; the second is given the token, and the break is said once on standard error."""
    then = (started(resumed=True), batch(upsert("b", 2), token="t2"), HANG)
    async with (
        ScriptedServer((*FIRST, HANG)) as first,
        ScriptedServer(then) as second,
        process("watch", "dam", "--server", f"{first.target},{second.target}") as running,
    ):
        told = await messages(running, 3)
        await first.kill()
        told += await messages(running, 2)
        running.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    assert [message.get("resume_token") for message in told] == [None, "t1", "t1", None, "t2"]
    assert (first.tokens, second.tokens) == ([""], ["t1"])
    assert err.decode().count("watching again") == 1


async def messages(running: asyncio.subprocess.Process, count: int) -> list[dict[str, object]]:
    """Read that many lines of JSON."""
    assert running.stdout is not None
    return [json.loads(await asyncio.wait_for(running.stdout.readline(), DEADLINE_S)) for _ in range(count)]


@pytest.mark.parametrize("command", [("sources",), ("get", "dam", "tid:1"), ("wait", "dam", "tid:1"), ("health",)])
async def test_a_call_goes_to_one_that_is_there(command: tuple[str, ...], fake: FakeService) -> None:
    """Whoever of them is there answers, also by the variable."""
    done = await run(*command, ASSETWATCH_SERVER=f"{nobody()},{fake.address}")
    assert (done.code, done.err) == (0, "")


async def test_nobody_is_there() -> None:
    """Exit code 3, and the line names each of them."""
    first, second = nobody(), nobody()
    done = await run("sources", "--server", f"{first},{second}")
    assert done.code == 3
    assert f"no server can be reached at {first} or {second}" in done.err
