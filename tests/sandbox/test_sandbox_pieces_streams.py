"""The streams of the Pieces OS stand-in over raw WebSocket: frames, switches, and streams that go bad."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from assetwatch_sandbox.pieces import PiecesStandin, streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FIRST = "6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"
SECOND = "f2a9d7b4-77c2-4f0e-8b61-0d9e4c5ab002"
UNSAVED = "0c5d9a10-52d3-4f7b-8f8e-aa00bb11cc03"
IDENTIFIERS = "/assets/stream/identifiers"
BORN = 1_772_366_400.0  # 2026-03-01T12:00:00Z
LARGE_BYTES = 5_000_000
SEED: dict[str, Any] = {
    "type": "SEEDED_ASSET",
    "asset": {
        "application": {
            "id": "aaaaaaaa-0000-4000-8000-000000000001",
            "name": "OPEN_SOURCE",
            "version": "1.0.0",
            "platform": "LINUX",
            "onboarded": False,
            "privacy": "OPEN",
        },
        "format": {"fragment": {"string": {"raw": "print('hi')"}, "metadata": {"ext": "py"}}},
        "metadata": {"name": "hello", "mechanism": "MANUAL", "tags": [{"text": "cli"}]},
    },
}


@pytest.fixture
async def standin() -> AsyncIterator[PiecesStandin]:
    """Two saved snippets and one the user did not save; its wall clock stands still."""
    standin = PiecesStandin(clock=lambda: BORN)
    standin.put(FIRST, {"name": "retry loop", "content": "for i in range(3): pass", "language": "python"})
    standin.put(SECOND, {"name": "Pager", "content": "next(page)", "ext": "ts"})
    standin.put(UNSAVED, {"content": "rotate the keys", "ext": "md", "pseudo": True})
    await standin.start()
    yield standin
    await standin.stop()


@pytest.fixture
async def http(standin: PiecesStandin) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(standin.url, timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


async def create(http: aiohttp.ClientSession, content: str) -> dict[str, Any]:
    seed = {"asset": {**SEED["asset"], "format": {"fragment": {"string": {"raw": content}}}}}
    body = io.BytesIO(json.dumps(seed).encode())
    async with http.post("/assets/create?transferables=false", data=body) as answer:
        assert answer.status == 200
        made: dict[str, Any] = await answer.json()
        return made


class Reader:
    """One client of a stream."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def frame(self) -> Any:
        """Read one frame as JSON."""
        return json.loads(await self.socket.receive_str(timeout=10))

    async def ids(self) -> list[str]:
        """Read one identifiers frame; a deleted id has a minus before it."""
        items = (await self.frame())["iterable"]
        return [("-" if item.get("deleted") else "") + item["asset"]["id"] for item in items]


@asynccontextmanager
async def stream(http: aiohttp.ClientSession, path: str = IDENTIFIERS) -> AsyncIterator[Reader]:
    async with http.ws_connect(path, max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=0.2)) as socket:
        yield Reader(socket)


async def test_identifiers_frames(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """First all ids, then one frame a change, with `updated`; a deletion is the published tombstone."""
    async with stream(http) as reader:
        assert await reader.frame() == {"iterable": [{"asset": {"id": FIRST}}, {"asset": {"id": SECOND}}]}
        async with http.post(f"/assets/{SECOND}/delete") as answer:
            assert await answer.text() == SECOND
        assert await reader.frame() == {"iterable": [{"asset": {"id": SECOND}, "deleted": True}]}
        updated = standin.put(FIRST, {"name": "x"})["updated"]
        assert await reader.frame() == {"iterable": [{"asset": {"id": FIRST}, "updated": {"value": updated}}]}
        made = await create(http, "print('hi')")
        assert await reader.ids() == [made["id"]]


async def test_an_empty_account_sends_an_empty_frame(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """The first frame comes even when there is nothing."""
    for asset_id in standin.asset_ids():
        standin.remove(asset_id)
    async with stream(http) as reader:
        assert await reader.frame() == {"iterable": []}


@pytest.mark.parametrize("name", ["identifiers", "assets", "transferables"])
async def test_an_empty_account_may_begin_with_silence(
    http: aiohttp.ClientSession, standin: PiecesStandin, name: str
) -> None:
    """By switch no frame comes before the first change; an account that has assets begins as ever."""
    standin.switch({"empty_first_frame": "none"})
    path = "/assets/stream" + ("" if name == "assets" else f"/{name}")
    async with stream(http, path) as reader:
        assert len((await reader.frame())["iterable"]) == 2
    for asset_id in standin.asset_ids():
        standin.remove(asset_id)
    async with stream(http, path) as reader:
        await until_connected(standin, name)
        standin.put(FIRST, {"name": "x"})
        assert len((await reader.frame())["iterable"]) == 1


@pytest.mark.parametrize(("path", "content"), [("/assets/stream", False), ("/assets/stream/transferables", True)])
async def test_assets_frames(http: aiohttp.ClientSession, standin: PiecesStandin, path: str, *, content: bool) -> None:
    """All assets, then one element a frame; the content in one stream only; deletion by timestamp or mechanism."""
    async with stream(http, path) as reader:
        first = await reader.frame()
        assert [asset["id"] for asset in first["iterable"]] == [FIRST, SECOND]
        assert ("for i in range" in json.dumps(first)) is content
        standin.remove(FIRST)
        (dead,) = (await reader.frame())["iterable"]
        assert (dead["id"], dead["deleted"], dead["mechanism"]) == (FIRST, dead["updated"], "MANUAL")
        standin.switch({"assets_tombstone": "mechanism"})
        standin.remove(SECOND)
        (dead,) = (await reader.frame())["iterable"]
        assert (dead["id"], dead["mechanism"], "deleted" in dead) == (SECOND, "DELETED", False)


async def test_assets_streams_may_begin_with_silence(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """Without their first frame the Assets streams begin with the first change."""
    standin.switch({"assets_first_frame": False})
    async with stream(http, "/assets/stream") as reader:
        await until_connected(standin, "assets")
        standin.put(FIRST, {"name": "x"})
        assert [asset["name"] for asset in (await reader.frame())["iterable"]] == ["x"]


async def test_updated_in_frames_is_a_switch(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """`updated` may be in every frame or, as with other clients' models, in none."""
    standin.switch({"frame_updated": "always"})
    async with stream(http) as reader:
        assert all("updated" in item for item in (await reader.frame())["iterable"])
        standin.switch({"frame_updated": "never"})
        standin.put(FIRST, {"name": "x"})
        assert await reader.frame() == {"iterable": [{"asset": {"id": FIRST}}]}


async def test_deleted_may_be_a_timestamp(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """A tombstone may carry the time in place of the flag."""
    standin.switch({"tombstone": "timestamp"})
    async with stream(http) as reader:
        await reader.frame()
        standin.remove(FIRST)
        (item,) = (await reader.frame())["iterable"]
        assert item["deleted"]["value"].startswith("2026-03-01T12:00:00.")


async def test_frames_may_be_repeated_joined_and_reordered(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """Changes that wait together can share a frame, come newest first, and come more than once."""
    async with stream(http) as reader:
        await reader.frame()
        standin.switch({"frame_copies": 2})
        standin.put(FIRST, {"name": "x"})
        assert [await reader.ids(), await reader.ids()] == [[FIRST], [FIRST]]
        standin.switch({"frame_copies": 1, "frames_newest_first": True})
        standin.put(FIRST, {"name": "y"})
        standin.remove(FIRST)
        assert [await reader.ids(), await reader.ids()] == [["-" + FIRST], [FIRST]]
        standin.switch({"frames_newest_first": False, "frame_ids_max": 2})
        standin.put(FIRST, {"name": "z"})
        standin.put(SECOND, {"name": "z"})
        standin.remove(FIRST)
        assert [await reader.ids(), await reader.ids()] == [[FIRST, SECOND], ["-" + FIRST]]


async def test_the_unsaved_in_streams(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """An unsaved asset is silent until the user saves it; with the switch it is there from the first frame."""
    async with stream(http) as reader:
        assert await reader.ids() == [FIRST, SECOND]
        standin.put(UNSAVED, {"name": "silent"})
        standin.put(UNSAVED, {"pseudo": False})
        standin.remove(SECOND)
        assert [await reader.ids(), await reader.ids()] == [[UNSAVED], ["-" + SECOND]]
        standin.put(UNSAVED, {"pseudo": True})
        assert await reader.ids() == [UNSAVED]
    standin.switch({"pseudo_in_streams": True})
    async with stream(http) as reader:
        assert await reader.ids() == [FIRST, UNSAVED]


async def test_health_stream(http: aiohttp.ClientSession) -> None:
    """The health stream begins with ok."""
    async with stream(http, "/.well-known/stream/health") as reader:
        assert (await reader.socket.receive_str()).startswith("ok:")


async def test_ten_thousand_assets_and_a_large_one(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """First frames of 10,000 assets and an asset of 5 MB come whole, over HTTP and over WebSocket."""
    for number in range(10_000):
        standin.put(f"00000000-0000-4000-9000-{number:012x}", {"name": f"asset {number}"})
    async with stream(http) as reader:
        assert len(await reader.ids()) == 10_002
    async with stream(http, "/assets/stream") as reader:
        assert len((await reader.frame())["iterable"]) == 10_002
    standin.put(FIRST, {"content": "x" * LARGE_BYTES})
    async with http.get(f"/assets/{FIRST}") as answer:
        (whole,) = (await answer.json())["formats"]["iterable"]
    assert whole["bytes"] == {"value": LARGE_BYTES, "readable": "5 MB"}
    assert len(whole["fragment"]["string"]["raw"]) == LARGE_BYTES
    assert (await create(http, "y" * LARGE_BYTES))["formats"]["iterable"][0]["bytes"]["value"] == LARGE_BYTES


# Streams that go bad


async def until_connected(standin: PiecesStandin, name: str) -> None:
    """Let the loop run until the stream has a client."""
    async with asyncio.timeout(10):
        while not standin.streams[name].connected:  # noqa: ASYNC110 - the stand-in has no event for it, by design
            await asyncio.sleep(0)


@pytest.mark.parametrize(("how", "ending"), [("abort", {None, 1006}), ("close", {1000})])
async def test_drop_streams(
    http: aiohttp.ClientSession, standin: PiecesStandin, how: str, ending: set[int | None]
) -> None:
    """Dropped connections end, cut or closed; the next one gets a full first frame again."""
    async with stream(http) as reader:
        await reader.frame()
        assert await standin.commands["drop_streams"]({"how": how}) == {"connections": 1}
        assert (await reader.socket.receive(timeout=10)).type in {WSMsgType.CLOSE, WSMsgType.CLOSED}
        assert reader.socket.close_code in ending
    async with stream(http) as reader:
        assert await reader.ids() == [FIRST, SECOND]


async def test_muted_streams_are_half_open(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """A muted connection stays open, sends nothing and answers no ping; a new one is well; the gap stays a gap."""
    async with http.ws_connect(IDENTIFIERS, autoping=False) as socket:
        await socket.receive_str()
        await socket.ping(b"one")
        assert (await socket.receive(timeout=10)).type is WSMsgType.PONG
        assert await standin.commands["mute_streams"]({"stream": "identifiers"}) == {"connections": 1}
        standin.put(FIRST, {"name": "lost"})
        await socket.ping(b"two")
        async with stream(http) as reader:
            assert await reader.ids() == [FIRST, SECOND]
        await standin.commands["unmute_streams"](None)
        standin.remove(SECOND)
        assert json.loads(await socket.receive_str(timeout=10))["iterable"][0]["asset"]["id"] == SECOND


async def test_muting_new_connections_too(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """With `also_new` an upgrade succeeds and no first frame follows, until unmuted."""
    await standin.commands["mute_streams"]({"also_new": True})
    async with stream(http) as reader:
        await until_connected(standin, "identifiers")
        await standin.commands["unmute_streams"]({"stream": "identifiers"})
        standin.put(FIRST, {"name": "x"})
        assert await reader.ids() == [FIRST]


async def test_send_frame(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """Any text goes out as one frame, in its place among the others, to the stream named."""
    async with stream(http) as reader, stream(http, "/assets/stream") as other:
        assert (await reader.ids(), len((await other.frame())["iterable"])) == ([FIRST, SECOND], 2)
        standin.switch({"frame_ids_max": 10})
        standin.put(FIRST, {"name": "before"})
        sent = await standin.commands["send_frame"]({"stream": "identifiers", "text": '{"iterable":['})
        standin.put(SECOND, {"name": "after"})
        assert sent == {"connections": 1}
        assert await reader.ids() == [FIRST]
        assert await reader.socket.receive_str() == '{"iterable":['
        assert await reader.ids() == [SECOND]
        assert len((await other.frame())["iterable"]) == 2


async def test_commands_refuse_what_they_do_not_know(standin: PiecesStandin) -> None:
    """Unknown fields, streams and a missing text are ValueErrors."""
    for verb, arguments in (("drop_streams", {"hard": 1}), ("mute_streams", {"stream": "x"}), ("send_frame", {})):
        with pytest.raises(ValueError, match="validation error"):
            await standin.commands[verb](arguments)


async def test_frame_faults_reach_the_streams(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """A scripted fault on frames spoils a frame and leaves the next alone."""
    standin.faults.add(path="stream/identifiers", on="frame", body="not json", times=1)
    async with stream(http) as reader:
        assert await reader.socket.receive_str() == "not json"
        standin.put(FIRST, {"name": "x"})
        assert await reader.ids() == [FIRST]


async def test_a_client_that_falls_too_far_behind_is_cut(
    http: aiohttp.ClientSession, standin: PiecesStandin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More frames than may wait for one client end its connection and no other's."""
    async with stream(http) as reader:
        await reader.frame()
        monkeypatch.setattr(streams, "WAITING_MAX", 3)
        for number in range(5):
            standin.put(FIRST, {"name": str(number)})
        while (message := await reader.socket.receive(timeout=10)).type is WSMsgType.TEXT:
            pass
        assert (message.type, reader.socket.close_code) == (WSMsgType.CLOSED, 1006)
    async with stream(http) as reader:
        assert await reader.ids() == [FIRST, SECOND]


async def test_stop_ends_streams_and_start_brings_them_back(
    http: aiohttp.ClientSession, standin: PiecesStandin
) -> None:
    """A server that goes away takes its streams along; on the same port it begins again with a first frame."""
    url = standin.url
    async with stream(http) as reader:
        await reader.frame()
        await standin.stop()
        assert (await reader.socket.receive(timeout=10)).type in {WSMsgType.CLOSE, WSMsgType.CLOSED}
    standin.remove(FIRST)
    await standin.start()
    assert standin.url == url
    async with stream(http) as reader:
        assert await reader.ids() == [SECOND]
