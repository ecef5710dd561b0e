"""A token that grpcurl printed, given back by grpcurl: it resumes, over kill -9 too, or is refused for its reason."""

from __future__ import annotations

import asyncio
import base64
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from assetwatch.v1 import asset_status_pb2 as status_pb
from assetwatch.v1 import asset_status_service_pb2 as pb

from assetwatch_sandbox import Sandbox
from assetwatchd.changefeed import resume_token
from faults.rig.process import Server
from support import grpcurl
from support.grpcurl import STATUS_SERVICE, Ran
from support.problems import problem_of
from support.rig import QUICK, SAMPLES, SERVER, Rig, of_standin, running, sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from assetwatch_sandbox.standin import Standin

WATCH = f"{STATUS_SERVICE}/WatchStatus"
WHOLE = {"sources": ["omn"]}
INVALID_ARGUMENT, OUT_OF_RANGE, UNAVAILABLE = 3, 11, 14
RETENTION_S = 0.5


async def printed(address: str, request: dict[str, Any] = WHOLE) -> list[Any]:
    """Watch up to synced; return what was printed, the last of it with a token."""
    async with grpcurl.following(address, WATCH, request) as watch:
        return await watch.until(lambda documents: any("synced" in document for document in documents))


async def refused(address: str, token: str, **request: object) -> Ran:
    """Resume, which must be refused before anything is printed."""
    ran = await grpcurl.call(address, WATCH, {**WHOLE, **request, "resume_token": token})
    assert ran.documents == []
    return ran


def altered(token: str, rig: Rig) -> str:
    """Write one character otherwise."""
    return token[:20] + ("A" if token[20] != "A" else "B") + token[21:]


def of_the_future(token: str, rig: Rig) -> str:
    """Make the token that this very store would give a thousand changes later."""
    epoch, _, digest = resume_token._decode(token)
    return resume_token.encode(epoch=epoch, revision=rig.app.store.head + 1000, digest=digest)


def unaltered(token: str, rig: Rig) -> str:
    """Leave it."""
    return token


@pytest.mark.parametrize(
    ("spoil", "request_", "code", "reason"),
    [
        (altered, {}, INVALID_ARGUMENT, "RESUME_TOKEN_INVALID"),
        (of_the_future, {}, UNAVAILABLE, "REPLICA_BEHIND"),
        (unaltered, {"states": ["ASSET_STATE_FAILED"]}, INVALID_ARGUMENT, "RESUME_FILTER_MISMATCH"),
        (unaltered, {"sources": ["omn", "pieces"]}, INVALID_ARGUMENT, "RESUME_FILTER_MISMATCH"),
        (unaltered, {"sources": [], "assets": [sample("omn")._asdict()]}, INVALID_ARGUMENT, "RESUME_FILTER_MISMATCH"),
    ],
    ids=["altered", "future", "other states", "other sources", "by name"],
)
async def test_a_printed_token_misused(
    spoil: Callable[[str, Rig], str], request_: dict[str, Any], code: int, reason: str
) -> None:
    """T13, T21, T23: refused before the first message, with code, reason, domain; RetryInfo if trying again helps."""
    async with running(("omn", "pieces")) as rig:
        token = (await printed(rig.address))[-1]["resume_token"]
        ran = await refused(rig.address, spoil(token, rig), **request_)
        info = ran.detail("ErrorInfo")
        assert (ran.error["code"], info["reason"], info["domain"]) == (code, reason, "assetwatch")
        retried = [each for each in ran.error["details"] if each["@type"].endswith("RetryInfo")]
        assert len(retried) == (reason == "REPLICA_BEHIND")


async def test_no_text_is_taken_for_a_token() -> None:
    """T13: 200 texts, any and almost tokens: each is RESUME_TOKEN_INVALID, at once; the stream beside them goes on."""
    rng = random.Random(13)  # noqa: S311 - a test must be repeatable
    async with running(("omn",)) as rig:
        stream = await rig.watch(**WHOLE).synced()
        raw = base64.urlsafe_b64decode(stream.token + "=" * (-len(stream.token) % 4))
        for number in range(200):
            spoilt = bytearray(raw)
            spoilt[number % len(raw)] ^= 1 << rng.randrange(8)
            texts = (base64.urlsafe_b64encode(spoilt).rstrip(b"=").decode(), rng.randbytes(rng.randrange(1, 120)).hex())
            told = await problem_of(rig.watch(**WHOLE, resume_token=texts[number % 2]).next())
            assert (told.code.name, told.reason) == ("INVALID_ARGUMENT", "RESUME_TOKEN_INVALID")
        assert (await rig.source("omn")).watcher_count == 1
        rig.vary("omn")
        await stream.holds(lambda held: held[sample("omn")].state == status_pb.ASSET_STATE_PROCESSING)


async def test_a_token_of_a_moment_ahead_is_waited_for() -> None:
    """T21: a revision that is known here a moment later is waited for, and the stream goes on from it."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(**WHOLE).synced()
        epoch, revision, digest = resume_token._decode(stream.token)
        assert revision == rig.app.store.head
        ahead = resume_token.encode(epoch=epoch, revision=revision + 1, digest=digest)
        early = asyncio.create_task(rig.watch(**WHOLE, resume_token=ahead).synced())
        await rig.shows("omn", lambda source: source.watcher_count == 1)
        rig.vary("omn")
        resumed = await early
        assert resumed.messages[0].started.mode == pb.WatchStarted.MODE_RESUMED
        assert resumed.map == {}  # the change that it waited for is what its token says it knows


async def test_a_foreign_token() -> None:
    """T22: a token printed by another service, of the same sources, is of another epoch; the answer names this one."""
    async with running(("omn",)) as one, running(("omn",)) as other:
        token = (await printed(one.address))[-1]["resume_token"]
        documents = await printed(other.address)
        ran = await refused(other.address, token)
        info = ran.detail("ErrorInfo")
        assert (ran.error["code"], info["reason"]) == (OUT_OF_RANGE, "RESUME_EPOCH_CHANGED")
        assert info["metadata"] == {"epoch": documents[0]["started"]["epoch"]}


async def test_a_printed_token_outlives_kill_9(tmp_path: Path) -> None:
    """T81: killed and started again, a service prints what changed while it was down, and nothing else."""
    async with served(tmp_path, retention_s=60) as (server, omn):
        token = (await printed(address_of(server)))[-1]["resume_token"]
        await server.kill()
        omn.put(SAMPLES["omn"].asset_id, SAMPLES["omn"].another)
        await server.start()
        async with grpcurl.following(address_of(server), WATCH, {**WHOLE, "resume_token": token}) as watch:
            documents = await watch.until(lambda documents: any("changes" in document for document in documents))
        assert documents[0]["started"]["mode"] == "MODE_RESUMED"
        changes = [change for document in documents for change in document.get("changes", [])]
        assert [change["status"]["asset"]["asset_id"] for change in changes] == [SAMPLES["omn"].asset_id]
        assert changes[0]["status"]["state"] == "ASSET_STATE_PROCESSING"


async def test_an_old_token(tmp_path: Path) -> None:
    """T20: a token from before a removal forgotten since: told its revision, the oldest, the newest."""
    async with served(tmp_path, retention_s=RETENTION_S) as (server, omn):
        address = address_of(server)
        async with grpcurl.following(address, WATCH, WHOLE) as watch:
            documents = await watch.until(lambda documents: any("synced" in document for document in documents))
            token = documents[-1]["resume_token"]
            omn.remove(SAMPLES["omn"].asset_id)
            await watch.until(lambda documents: "CHANGE_KIND_REMOVED" in str(documents))
        ran = await expired(address, token)
        info = ran.detail("ErrorInfo")
        assert (ran.error["code"], info["reason"]) == (OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")
        told = {name: int(value) for name, value in info["metadata"].items()}
        assert told["requested"] == resume_token._decode(token)[1] < told["oldest"] <= told["current"]
        fresh = (await printed(address))[-1]["resume_token"]
        assert (await printed(address, {**WHOLE, "resume_token": fresh}))[0]["started"]["mode"] == "MODE_RESUMED"


async def expired(address: str, token: str) -> Ran:
    """Resume again and again until it is refused."""
    request = {**WHOLE, "resume_token": token}
    async with asyncio.timeout(20):
        while (ran := await grpcurl.call(address, WATCH, request, "-max-time", "0.3")).error["code"] != OUT_OF_RANGE:
            pass
    return ran


@asynccontextmanager
async def served(directory: Path, *, retention_s: float) -> AsyncIterator[tuple[Server, Standin[Any]]]:
    """Serve OMN's stand-in in a process of its own, over a file."""
    sandbox = Sandbox(("omn",))
    sandbox.seed(1, 6)
    omn = sandbox.standins["omn"]
    omn.put(SAMPLES["omn"].asset_id, SAMPLES["omn"].native)
    await sandbox.start()
    settings = {
        "server": SERVER,
        "store": {"kind": "sqlite", "path": str(directory / "store.db"), "tombstone_retention_s": retention_s},
        "sources": {"omn": {**of_standin(omn), **QUICK, "linger_s": 0.2}},
    }
    server = Server(settings, directory, spans={"tidy_interval_s": 0.2, "doubt_s": 0.05})
    try:
        await server.start()
        yield server, omn
    finally:
        await server.stop()
        await sandbox.stop()


def address_of(server: Server) -> str:
    """HOST:PORT of a server."""
    return f"127.0.0.1:{server.port}"
