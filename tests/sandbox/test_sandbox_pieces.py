"""The Pieces OS stand-in over raw HTTP: codes, bodies and search."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from assetwatch_sandbox.pieces import PiecesStandin
from support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FIRST = "6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"
SECOND = "f2a9d7b4-77c2-4f0e-8b61-0d9e4c5ab002"
UNSAVED = "0c5d9a10-52d3-4f7b-8f8e-aa00bb11cc03"
NOBODY = "00000000-0000-4000-8000-000000000000"
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


@pytest.fixture
def clock() -> Clock:
    return Clock(BORN)


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
    clock.now_s += 10
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
