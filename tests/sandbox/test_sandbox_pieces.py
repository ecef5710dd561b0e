"""The Pieces OS stand-in over raw HTTP and WebSocket: codes, frames, switches, and streams that go bad."""

from __future__ import annotations

import asyncio
import io
import json
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from assetwatchd.sandbox.pieces import PiecesStandin, streams
from assetwatchd.sandbox.standin import SwitchValueError, UnknownSwitchError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FIRST = "6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"
SECOND = "f2a9d7b4-77c2-4f0e-8b61-0d9e4c5ab002"
UNSAVED = "0c5d9a10-52d3-4f7b-8f8e-aa00bb11cc03"
NOBODY = "00000000-0000-4000-8000-000000000000"
IDENTIFIERS = "/assets/stream/identifiers"
BORN = 1_772_366_400.0  # 2026-03-01T12:00:00Z
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


class Clock:
    """Wall time that moves when told."""

    def __init__(self) -> None:
        self.now = BORN

    def __call__(self) -> float:
        """Tell the time in epoch seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def standin(clock: Clock) -> AsyncIterator[PiecesStandin]:
    """Two saved snippets and one the user did not save."""
    standin = PiecesStandin(clock=clock)
    standin.put(FIRST, {"name": "retry loop", "content": "for i in range(3): pass", "language": "python"})
    standin.put(SECOND, {"name": "Pager", "content": "next(page)", "ext": "ts", "tags": ["http", "cli"]})
    standin.put(UNSAVED, {"content": "rotate the keys", "ext": "md", "tags": ["http"], "pseudo": True})
    await standin.start()
    yield standin
    await standin.stop()


@pytest.fixture
async def http(standin: PiecesStandin) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(standin.url, timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


async def get(http: aiohttp.ClientSession, path: str, body: object = None) -> tuple[int, Any]:
    async with http.get(path, json=body) if body is not None else http.get(path) as answer:
        return answer.status, await answer.json() if "json" in answer.content_type else await answer.text()


async def post(http: aiohttp.ClientSession, path: str, body: object = None) -> tuple[int, Any]:
    data = io.BytesIO((body if isinstance(body, str) else json.dumps(body)).encode())
    async with http.post(path, data=data, headers={"Content-Type": "application/json"}) as answer:
        return answer.status, await answer.json() if "json" in answer.content_type else await answer.text()


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


# Assets over HTTP


async def test_an_asset_has_the_published_form(http: aiohttp.ClientSession) -> None:
    """A get shows required members, times to the millisecond, the format in formats and original, the content once."""
    status, asset = await get(http, f"/assets/{FIRST}")
    (whole,) = asset["formats"]["iterable"]
    assert status == 200
    assert asset["created"] == asset["updated"] == {"value": "2026-03-01T12:00:00.000Z"}
    assert asset["original"]["id"] == asset["preview"]["base"]["id"] == whole["id"]
    assert whole["bytes"] == {"value": 23, "readable": "23 B"}
    assert whole["classification"] == {"generic": "CODE", "specific": "py"}
    assert whole["fragment"]["string"] == {"raw": "for i in range(3): pass"}
    assert whole["asset"]["preview"] == {"base": whole["id"]}
    assert {"deleted", "synced", "pseudo"}.isdisjoint(asset)


async def test_transferables_false_leaves_the_content_out(http: aiohttp.ClientSession) -> None:
    """Without transferables the fragment stays and its raw content goes, in every operation that has the flag."""
    for path in (
        f"/assets/{FIRST}",
        f"/asset/{FIRST}",
        f"/assets/{FIRST}/formats",
        "/assets",
        "/assets/search?query=loop",
    ):
        sign = "&" if "?" in path else "?"
        _, lean = await get(http, f"{path}{sign}transferables=false")
        _, whole = await get(http, f"{path}{sign}transferables=true")
        assert "for i in range" not in json.dumps(lean)
        assert '"fragment": {"metadata": {"ext": "py"}}' in json.dumps(lean)
        assert "for i in range" in json.dumps(whole)


async def test_a_lean_answer_is_never_old(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """An answer without content shows the last change, a deletion that leaves the asset in place too."""
    assert (await get(http, f"/assets/{FIRST}?transferables=false"))[1]["name"] == "retry loop"
    standin.put(FIRST, {"name": "retry twice"})
    assert (await get(http, f"/assets/{FIRST}?transferables=false"))[1]["name"] == "retry twice"
    standin.put(FIRST, {"deleted": "2026-03-02T00:00:00Z", "mechanism": "DELETED"})
    status, asset = await get(http, f"/assets/{FIRST}?transferables=false")
    assert (status, asset["deleted"]["value"], asset["mechanism"]) == (200, "2026-03-02T00:00:00.000Z", "DELETED")


async def test_gone_is_410_text_and_not_there_is_500_text(http: aiohttp.ClientSession) -> None:
    """Get of an unknown id is 410, delete and formats are 500; all of them plain text, and 500 is a switch."""
    for path, status in ((f"/assets/{NOBODY}", 410), (f"/asset/{NOBODY}", 410), (f"/assets/{NOBODY}/formats", 500)):
        async with http.get(path) as answer:
            assert (answer.status, answer.content_type) == (status, "text/plain")
    assert (await post(http, f"/assets/{NOBODY}/delete"))[0] == 500


async def test_delete_answers_the_id(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """Delete is a POST without a body that answers the id as text; a second one finds nothing."""
    assert await post(http, f"/assets/{FIRST}/delete") == (200, FIRST)
    assert (await get(http, f"/assets/{FIRST}"))[0] == 410
    assert (await post(http, f"/assets/{FIRST}/delete"))[0] == 500
    assert standin.get(FIRST) is None
    assert standin.truth[-1][1:] == (FIRST, None)


async def test_deleted_get_switch(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """A server that keeps tombstones answers 200 with `deleted` set; an id that never was stays 410."""
    standin.switch({"deleted_get": "tombstone"})
    standin.remove(FIRST)
    status, asset = await get(http, f"/assets/{FIRST}?transferables=false")
    assert (status, asset["deleted"]) == (200, asset["updated"])
    assert (await get(http, f"/assets/{NOBODY}"))[0] == 410


async def test_create_from_a_seed(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """A seed becomes an asset with a new id, its name, tags and classification."""
    status, asset = await post(http, "/assets/create?transferables=false", SEED)
    assert status == 200
    assert (asset["name"], asset["tags"]["iterable"][0]["text"]) == ("hello", "cli")
    assert standin.get(asset["id"]) is not None
    assert standin.asset_ids()[-1] == asset["id"]


async def test_create_from_bytes_keeps_every_byte(http: aiohttp.ClientSession) -> None:
    """A file of bytes comes back as the same integers."""
    raw = [0, 255, 137, 80]
    whole = {"file": {"bytes": {"raw": raw}, "metadata": {"ext": "png"}}}
    _, asset = await post(http, "/assets/create", {"asset": {**SEED["asset"], "format": whole}})
    (made,) = asset["formats"]["iterable"]
    assert (made["file"]["bytes"]["raw"], made["classification"]["generic"]) == (raw, "IMAGE")


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"fragment": {}},
        {"fragment": {"string": {"base64": "aGk="}}},
        {"fragment": {"string": {"raw": "a"}, "bytes": {"raw": [97]}}},
        {"fragment": {"string": {"raw": "a"}}, "file": {"string": {"raw": "a"}}},
        {"file": {"bytes": {"raw": [256]}}},
    ],
)
async def test_a_bad_seed_is_refused(http: aiohttp.ClientSession, standin: PiecesStandin, form: dict[str, Any]) -> None:
    """Not exactly one of file and fragment, string and bytes, or no raw: 500 text from create and from draft."""
    seed = {"asset": {**SEED["asset"], "format": form}}
    for path in ("/assets/create", "/assets/draft"):
        status, text = await post(http, path, seed)
        assert (status, isinstance(text, str)) == (500, True)
    assert len(standin.asset_ids()) == 3


async def test_malformed_bodies_are_500_text(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """A body that is not JSON, or not of the expected shape, is 500 text, or what the switch says."""
    for path, body in (("/assets/create", "{"), ("/assets/create", "[]"), ("/assets/search", '{"filters": 1}')):
        assert (await post(http, path, body))[0] == 500
    standin.switch({"malformed_status": 400})
    assert (await post(http, "/assets/search", "{"))[0] == 400


async def test_draft_offers_formats_but_echoes_images(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """A draft adds what is available to a snippet and gives an image back as it came; nothing is stored."""
    _, drafted = await post(http, "/assets/draft?transferables=false", SEED)
    assert [offer["specific"] for offer in drafted["asset"]["available"]["iterable"]] == ["py", "txt"]
    assert drafted["asset"]["format"]["fragment"] == {"metadata": {"ext": "py"}}
    image = {"asset": {**SEED["asset"], "format": {"file": {"bytes": {"raw": [1]}, "metadata": {"ext": "png"}}}}}
    assert await post(http, "/assets/draft", image) == (200, image)
    assert len(standin.asset_ids()) == 3


async def test_identifiers_have_the_published_form(http: aiohttp.ClientSession) -> None:
    """Identifiers are ids with their indices; the unsaved only on demand, and by themselves under pseudo."""
    _, saved = await get(http, "/assets/identifiers")
    assert saved == {"indices": {FIRST: 0, SECOND: 1}, "iterable": [{"id": FIRST}, {"id": SECOND}]}
    assert len((await get(http, "/assets/identifiers?pseudo=true"))[1]["iterable"]) == 3
    assert (await get(http, "/assets/pseudo"))[1]["identifiers"]["iterable"] == [{"id": UNSAVED}]
    assert (await get(http, "/assets/identifiers?pseudo=perhaps"))[0] == 500


async def test_suggested_snapshot(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """`suggested` leaves only what was suggested to the user."""
    standin.put(SECOND, {"mechanism": "RECOMMENDED"})
    _, suggested = await get(http, "/assets?suggested=true")
    assert [asset["id"] for asset in suggested["iterable"]] == [SECOND]


# Search


async def test_search_ranks_exact_before_suggested(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """A whole match is exact; an asset with one word of the query is a suggestion behind it."""
    _, found = await get(http, "/assets/search?query=retry+loop&pseudo=true")
    assert (found["exact"], found["suggested"]) == (1, 0)
    _, found = await get(http, "/assets/search?query=next(page)+loop")
    assert (found["exact"], found["suggested"]) == (0, 2)
    standin.put(SECOND, {"description": "next(page) loop"})
    _, found = await get(http, "/assets/search?query=next(page)+loop")
    assert [(hit["identifier"], hit["match"]) for hit in found["iterable"]] == [
        (SECOND, "ANNOTATION"),
        (FIRST, "FUZZY"),
    ]
    _, found = await get(http, "/assets/search?query=pager+keys&pseudo=true")
    assert (found["exact"], found["suggested"]) == (0, 2)
    assert {hit["match"] for hit in found["iterable"]} == {"FUZZY"}
    assert (await get(http, "/assets/search?query=unheard"))[1] == {"iterable": [], "suggested": 0, "exact": 0}


@pytest.mark.parametrize("query", ["", "?query=", "?searchable_tags=", "?searchable_tags=,&query=&pseudo=true"])
async def test_search_for_nothing_is_500(http: aiohttp.ClientSession, query: str) -> None:
    """Neither query nor searchable_tags is 500, not 400."""
    async with http.get(f"/assets/search{query}") as answer:
        assert (answer.status, answer.content_type) == (500, "text/plain")


async def test_search_by_tags_leaves_the_unsaved_out(http: aiohttp.ClientSession) -> None:
    """Any of the tags is enough; pseudo adds the unsaved; a query beside the tags narrows."""

    async def found(query: str) -> list[str]:
        return [hit["identifier"] for hit in (await get(http, f"/assets/search?{query}"))[1]["iterable"]]

    assert await found("searchable_tags=HTTP,none") == [SECOND]
    assert await found("searchable_tags=http&pseudo=true") == [SECOND, UNSAVED]
    assert await found("searchable_tags=http&query=rotate&pseudo=true") == [UNSAVED]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, [FIRST, SECOND, UNSAVED]),
        ({"query": "pager"}, []),
        ({"query": "pager", "casing": False}, [SECOND]),
        ({"filters": {"iterable": [{"classification": "ts"}]}}, [SECOND]),
        ({"filters": {"iterable": [{"classification": "ts"}, {"tags": ["http"]}]}}, [SECOND]),
        ({"filters": {"iterable": [{"classification": "py"}, {"tags": ["cli"]}], "type": "OR"}}, [FIRST, SECOND]),
        ({"filters": {"iterable": [{"phrase": {"value": "loop", "title": True}}]}}, [FIRST]),
        ({"filters": {"iterable": [{"phrase": {"value": "loop", "content": True}}]}}, []),
        ({"filters": {"iterable": [{"updated": {"from": {"value": "2026-03-01T12:00:01Z"}}}]}}, [UNSAVED]),
        ({"filters": {"iterable": [{"created": {"to": {"value": "2026-03-01T12:00:00Z"}}}]}}, [FIRST, SECOND, UNSAVED]),
        ({"filters": {"iterable": [{"websites": ["https://a.invalid"]}]}}, []),
        ({"filters": {"iterable": []}}, [FIRST, SECOND, UNSAVED]),
        ({"space": {"identifers": {"iterable": [{"id": FIRST}, {"id": NOBODY}]}}}, [FIRST]),
        (
            {
                "filters": {
                    "iterable": [
                        {
                            "tags": ["http"],
                            "operations": {
                                "iterable": [{"classification": "py"}, {"classification": "md"}],
                                "type": "OR",
                            },
                        }
                    ]
                }
            },
            [UNSAVED],
        ),
    ],
)
async def test_filters(
    http: aiohttp.ClientSession, standin: PiecesStandin, clock: Clock, body: object, expected: list[str]
) -> None:
    """Each filter narrows as its name says; groups join by their type."""
    clock.now += 10
    standin.put(UNSAVED, {"name": "keys"})
    status, found = await post(http, "/assets/search?pseudo=true&transferables=false", body)
    assert (status, [hit["identifier"] for hit in found["results"]["iterable"]]) == (200, expected)


async def test_filters_join_switch(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """Filters without a type are joined as the switch says."""
    standin.switch({"filters_join": "OR"})
    body = {"filters": {"iterable": [{"classification": "py"}, {"classification": "ts"}], "type": "UNKNOWN"}}
    assert (await post(http, "/assets/search", body))[1]["results"]["exact"] == 2


async def test_related_and_recommended_read_their_body(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """A GET with a body finds neighbours by tag; what was touched is not recommended again."""
    standin.put(UNSAVED, {"pseudo": False})
    _, related = await get(http, "/assets/related", {"iterable": [{"id": SECOND}]})
    assert [asset["id"] for asset in related["iterable"]] == [UNSAVED]
    seen = {"assets": {"iterable": []}, "interactions": {"iterable": [{"asset": UNSAVED}]}}
    _, recommended = await get(http, "/assets/recommended", seen)
    assert [asset["id"] for asset in recommended["iterable"]] == [SECOND]
    standin.switch({"missing_body": "refused"})
    assert (await get(http, "/assets/related"))[0] == 500


# Server


async def test_well_known_user_and_connect(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """Health and version are text; HEAD is what a port probe sends; a refused connect is 400 text."""
    async with http.head("/.well-known/health") as probe:
        assert probe.status == 200
    assert (await get(http, "/.well-known/health"))[1].startswith("ok:")
    assert (await get(http, "/.well-known/version"))[1].count(".") == 2
    assert (await post(http, "/connect", {"application": {"name": "OPEN_SOURCE"}}))[0] == 400
    assert (await post(http, "/connect", "nonsense"))[0] == 400
    standin.switch({"signed_in": False, "health_with_id": False})
    assert await get(http, "/user") == (200, {})
    assert (await get(http, "/.well-known/health"))[1] == "ok"


async def test_application_id_switch(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """When it is required, the id of connect opens the operations under either header name."""
    standin.switch({"application_required": True})
    assert (await get(http, "/assets"))[0] == 401
    application = {"application": {"name": "OPEN_SOURCE", "platform": "LINUX", "version": "1.0.0"}}
    _, context = await post(http, "/connect", application)
    assert context["application"]["id"] == standin.credentials["application_id"]
    for header in ("X-Application-ID", "application"):
        async with http.get("/assets", headers={header: context["application"]["id"]}) as answer:
            assert answer.status == 200


async def test_switches_are_checked(standin: PiecesStandin) -> None:
    """An unknown switch, or a value that is none of its own, is refused and nothing changes."""
    with pytest.raises(UnknownSwitchError, match="frame_copies"):
        standin.switch({"frames": 1})
    with pytest.raises(SwitchValueError, match="tombstone"):
        standin.switch({"tombstone": "note", "frame_copies": 2})
    assert standin.switches.frame_copies == 1


# Native fields


async def test_native_fields_are_checked(standin: PiecesStandin) -> None:
    """An id that is no UUID, an unknown field and a wrong value are ValueErrors; nothing is held of them."""
    for asset_id, native in (("short", {}), (NOBODY, {"colour": "red"}), (NOBODY, {"mechanism": "MAGIC"})):
        with pytest.raises(ValueError, match=r"UUID|colour|mechanism"):
            standin.put(asset_id, native)
    with pytest.raises(ValueError, match="latin-1"):
        standin.put(NOBODY, {"content": "\u20ac", "carrier": "bytes"})
    with pytest.raises(KeyError):
        standin.remove(NOBODY)
    assert standin.get(NOBODY) is None


async def test_updated_always_moves_but_not_for_a_sync(standin: PiecesStandin, clock: Clock) -> None:
    """Two changes in one millisecond have two times; a sync to the cloud is no change; what get gives, put takes."""
    first = standin.put(FIRST, {"name": "a"})["updated"]
    second = standin.put(FIRST, {"name": "b"})["updated"]
    assert first < second
    clock.now += 5
    synced = standin.put(FIRST, {"synced": "2026-03-01T13:00:00+01:00"})
    assert (synced["updated"], synced["synced"]) == (second, "2026-03-01T12:00:00.000Z")
    assert standin.put(FIRST, standin.get(FIRST)) == standin.get(FIRST)
    assert standin.put(FIRST, {"language": "go"})["ext"] == "go"


async def test_a_life_cycle_repeats_from_its_seed() -> None:
    """The same seed leads through the same states, with every kind of step in them."""

    def live() -> list[tuple[str, Any]]:
        standin = PiecesStandin(clock=lambda: BORN)
        rng = random.Random(3)  # noqa: S311 - a scenario that repeats, not a secret
        standin.seed(rng, 20)
        for _ in range(300):
            standin.advance(rng)
        return [(truth.asset_id, truth.state) for truth in standin.truth]

    lives = live()
    assert lives == live()
    states = [state for _, state in lives if state]
    assert len(states) < len(lives)
    assert any(state["pseudo"] for state in states)
    assert any(state["synced"] and state["synced"] < state["updated"] for state in states)
    assert any(state["synced"] and state["synced"] >= state["updated"] for state in states)


# Streams


async def test_identifiers_frames(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """First all ids, then one frame a change, with `updated`; a deletion is the published tombstone."""
    async with stream(http) as reader:
        assert await reader.frame() == {"iterable": [{"asset": {"id": FIRST}}, {"asset": {"id": SECOND}}]}
        await post(http, f"/assets/{SECOND}/delete")
        assert await reader.frame() == {"iterable": [{"asset": {"id": SECOND}, "deleted": True}]}
        updated = standin.put(FIRST, {"name": "x"})["updated"]
        assert await reader.frame() == {"iterable": [{"asset": {"id": FIRST}, "updated": {"value": updated}}]}
        _, made = await post(http, "/assets/create", SEED)
        assert await reader.ids() == [made["id"]]


async def test_an_empty_account_sends_an_empty_frame(http: aiohttp.ClientSession, standin: PiecesStandin) -> None:
    """The first frame comes even when there is nothing."""
    for asset_id in standin.asset_ids():
        standin.remove(asset_id)
    async with stream(http) as reader:
        assert await reader.frame() == {"iterable": []}


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
    standin.put(FIRST, {"content": "x" * 5_000_000})
    _, asset = await get(http, f"/assets/{FIRST}")
    assert asset["formats"]["iterable"][0]["bytes"] == {"value": 5_000_000, "readable": "5 MB"}
    assert len(asset["formats"]["iterable"][0]["fragment"]["string"]["raw"]) == 5_000_000
    fragment = {"string": {"raw": "y" * 5_000_000}}
    large = {"asset": {**SEED["asset"], "format": {"fragment": fragment}}}
    assert (await post(http, "/assets/create?transferables=false", large))[0] == 200


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
