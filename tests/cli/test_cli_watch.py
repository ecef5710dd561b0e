from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import grpc
import pytest
import yaml
from assetwatch.v1.asset_status_pb2 import AssetState, AssetStatusView

from assetwatch_sandbox import Sandbox
from support.fake_service import FakeService, Refusal, bookmark, changes, started, status, synced
from support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from support.command_line import Run, Spawn


DEADLINE_S = 30
ONE, TWO = (f"6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e00{n}" for n in (1, 2))


async def lines(running: asyncio.subprocess.Process, count: int) -> list[str]:
    """Read that many lines."""
    assert running.stdout is not None
    found = [await asyncio.wait_for(running.stdout.readline(), DEADLINE_S) for _ in range(count)]
    return [line.decode().rstrip("\n") for line in found]


async def test_piped_watch_prints_a_json_object_a_message(spawn: Spawn, fake: FakeService) -> None:
    """Piped, a watch prints each message as one line of JSON as soon as it comes; Ctrl-C ends it with 130, quietly."""
    fake.streams = [[started(), changes(status("dam", "tid:1")), synced("t1")]]
    async with spawn("watch", "dam", "--server", fake.address) as running:
        first, change, last = [json.loads(line) for line in await lines(running, 3)]
        running.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    assert first["started"] == {"mode": "MODE_SNAPSHOT", "epoch": "e1"}
    assert change["changes"][0]["status"]["asset"]["asset_id"] == "tid:1"
    assert last == {"synced": {}, "resume_token": "t1"}
    assert (running.returncode, err) == (130, b"")


async def test_text_lines_tell_the_state_before_and_now(spawn: Spawn, fake: FakeService) -> None:
    """-o table, piped, prints a line a change with the state before and now, a removal as such, and conditions."""
    fake.streams = [
        [
            started(),
            changes(status("dam", "tid:1", "PROCESSING")),
            synced(),
            changes(status("dam", "tid:1", "FAILED", revision=2, message="broken\nfile")),
            changes(status("dam", "tid:1", "DELETED", revision=3), removed=True),
        ]
    ]
    async with spawn("watch", "dam", "-o", "table", "--server", fake.address) as running:
        printed = [line.split(" ", 1)[1] for line in await lines(running, 5)]
    assert printed == [
        "dam is HEALTHY",
        "dam tid:1 PROCESSING",
        "synced: the list is complete, changes follow",
        "dam tid:1 PROCESSING -> FAILED permanent BROKEN broken\\nfile",
        "dam tid:1 FAILED -> REMOVED",
    ]


async def test_text_lines_tell_what_is_not_complete_and_why_it_is_stale(spawn: Spawn, fake: FakeService) -> None:
    """Synced names the sources of which there may be more, and comes again when they are others."""
    fake.streams = [
        [
            started(),
            synced(incomplete=["dam"]),
            changes(status("dam", "tid:1", unread="not XML")),
            bookmark(incomplete=["dam"]),
            bookmark(),
        ]
    ]
    async with spawn("watch", "dam", "-o", "table", "--server", fake.address) as running:
        printed = [line.split(" ", 1)[1] for line in await lines(running, 4)]
    assert printed == [
        "dam is HEALTHY",
        "synced: not complete: there may be more in dam",
        "dam tid:1 AVAILABLE not confirmed: not XML",
        "synced: the list is complete, changes follow",
    ]


async def test_what_is_asked_for(spawn: Spawn, fake: FakeService) -> None:
    """SOURCE, SOURCE/ASSET, --source, --asset, --state and --resume-token end up in the request, each once."""
    fake.streams = [[started()]]
    wanted = (
        "dam",
        "usd/s3://b/x.usd",
        "--source",
        "dam",
        "--source",
        "sbc",
        "--asset",
        "dam=id:1=2",
        "--state",
        "failed",
        "--prefix",
        "s3://b/",
        "--view",
        "basic",
    )
    async with spawn("watch", *wanted, "--resume-token", "t7", "--server", fake.address) as running:
        await lines(running, 1)
    request = fake.requests[0]
    assert list(request.sources) == ["dam", "sbc"]
    assert [(ref.source, ref.asset_id) for ref in request.assets] == [("usd", "s3://b/x.usd"), ("dam", "id:1=2")]
    assert list(request.states) == [AssetState.ASSET_STATE_FAILED]
    assert (request.asset_id_prefix, request.view) == ("s3://b/", AssetStatusView.ASSET_STATUS_VIEW_BASIC)
    assert request.resume_token == "t7"


async def test_nothing_asked_for_is_every_source(spawn: Spawn, fake: FakeService) -> None:
    """Without arguments all configured sources are watched."""
    fake.streams = [[started()]]
    async with spawn("watch", "--server", fake.address) as running:
        await lines(running, 1)
    assert list(fake.requests[-1].sources) == ["dam", "sbc"]


async def test_a_stream_that_ends_goes_on_with_the_last_token(spawn: Spawn, fake: FakeService) -> None:
    """After a planned end and after a break the watch resumes by the last token, and says so on standard error."""
    draining = Refusal(grpc.StatusCode.UNAVAILABLE, "stopping", "SERVER_DRAINING", retry_s=0)
    fake.streams = [
        [started(), synced("t1")],
        [started(resumed=True), changes(status("dam", "tid:2"), token="t2"), draining],
        [started(resumed=True), synced("t3")],
    ]
    async with spawn("watch", "dam", "--server", fake.address) as running:
        await lines(running, 6)
        running.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    assert [request.resume_token for request in fake.requests] == ["", "t1", "t2"]
    assert err.decode() == "assetwatch: the stream broke (SERVER_DRAINING); watching again\n"


async def test_text_lines_repeat_nothing_and_tell_what_a_new_snapshot_leaves_out(
    spawn: Spawn, fake: FakeService
) -> None:
    """After a break what is known is not printed again, and what a new snapshot does not hold is REMOVED."""
    expired = Refusal(grpc.StatusCode.OUT_OF_RANGE, "too old", "RESUME_TOKEN_EXPIRED")
    kept, gone = status("dam", "tid:1"), status("dam", "tid:2")
    fake.streams = [[started(), changes(kept, gone), synced("t1")], [expired], [started(), changes(kept), synced("t2")]]
    async with spawn("watch", "dam", "-o", "table", "--server", fake.address) as running:
        printed = [line.split(" ", 1)[1] for line in await lines(running, 6)]
        running.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    assert printed[1:3] == ["dam tid:1 AVAILABLE", "dam tid:2 AVAILABLE"]
    assert printed[4:] == ["dam tid:2 AVAILABLE -> REMOVED", "synced: the list is complete, changes follow"]
    said = "the stream broke (RESUME_TOKEN_EXPIRED); watching again from a snapshot"
    assert err.decode() == f"assetwatch: {said}\n"


async def test_a_refused_token_of_its_own_is_dropped(spawn: Spawn, fake: FakeService) -> None:
    """Where the server refuses the token a watch resumes by, the watch begins again with a snapshot."""
    expired = Refusal(grpc.StatusCode.OUT_OF_RANGE, "too old", "RESUME_TOKEN_EXPIRED")
    fake.streams = [[started(), synced("t1")], [expired], [started(), synced("t2")]]
    async with spawn("watch", "dam", "--server", fake.address) as running:
        await lines(running, 4)
    assert [request.resume_token for request in fake.requests] == ["", "t1", ""]


async def test_a_refused_token_of_the_users_ends_the_command(ask: Run, fake: FakeService) -> None:
    """A token the user gave is never dropped silently: the refusal is printed and the command ends with 4."""
    fake.streams = [[Refusal(grpc.StatusCode.OUT_OF_RANGE, "too old", "RESUME_TOKEN_EXPIRED")]]
    done = await ask("watch", "dam", "--resume-token", "t0")
    assert done.code == 4
    assert "[OUT_OF_RANGE RESUME_TOKEN_EXPIRED]: watch again without the token" in done.err


async def test_a_reader_that_goes_away_ends_the_watch_without_a_traceback(spawn: Spawn, fake: FakeService) -> None:
    """`assetwatch watch | head -1` ends when head does."""
    fake.streams = [[started(), synced("t1"), *(changes(status("dam", f"tid:{n}" * 400)) for n in range(200))]]
    async with spawn("watch", "dam", "--server", fake.address) as running:
        await lines(running, 1)
        stdout = running._transport.get_pipe_transport(1)  # type: ignore[attr-defined]  # no other way to it
        stdout.close()
        assert running.stderr is not None
        err = await asyncio.wait_for(running.stderr.read(), DEADLINE_S)
        await asyncio.wait_for(running.wait(), DEADLINE_S)
    assert err == b""
    assert running.returncode == 141


@pytest.mark.parametrize("output", ["ndjson", "table"])
async def test_a_server_that_is_killed_and_comes_back(spawn: Spawn, tmp_path: Path, output: str) -> None:
    """Killed and started again on its store, the server is watched on: RESUMED, and no second snapshot."""
    sandbox = Sandbox(("pieces",))
    await sandbox.start()
    standin = sandbox.standins["pieces"]
    try:
        standin.put(ONE, {"name": "retry loop", "content": "pass", "ext": "py"})
        config = tmp_path / "c.yaml"
        source = {"kind": "pieces", "base_url": standin.url, "backoff_first_s": 0.1}
        store = {"kind": "sqlite", "path": str(tmp_path / "statuses.sqlite")}
        config.write_text(yaml.safe_dump({"store": store, "sources": {"desk": source}}))
        address = f"127.0.0.1:{free_port()}"
        serve = ("serve", "-c", str(config), "--listen", address)
        async with spawn(*serve) as first:
            await lines(first, 1)
            async with spawn("watch", "desk", "-o", output, "--server", address) as watching:
                before = await until(watching, "synced")
                first.kill()
                await first.wait()
                standin.put(TWO, {"name": "pager", "content": "next", "ext": "py"})
                async with spawn(*serve) as second:
                    await lines(second, 1)
                    after = await until(watching, TWO)
                watching.send_signal(signal.SIGINT)
                _, err = await asyncio.wait_for(watching.communicate(), DEADLINE_S)
    finally:
        await sandbox.stop()
    assert ONE in before
    assert ONE not in after
    assert watching.returncode == 130
    said = err.decode().splitlines()
    assert said[0] == "assetwatch: the stream broke (UNAVAILABLE); watching again"
    assert "snapshot" not in err.decode()
    if output == "ndjson":
        assert "MODE_SNAPSHOT" in before
        assert "MODE_RESUMED" in after
        assert "MODE_SNAPSHOT" not in after


async def until(running: asyncio.subprocess.Process, text: str) -> str:
    """Read lines up to one with the text; return all of them."""
    read = ""
    while text not in read:
        [line] = await lines(running, 1)
        assert line, "the watch ended"
        read += f"{line}\n"
    return read
