"""The twelve calls: each over gRPC and by the vendor's own client against the same stand-in, field by field."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from assetwatch.pieces.v1 import asset_pb2, search_pb2, seed_pb2
from assetwatch.v1 import asset_status_pb2, asset_status_service_pb2
from pieces_os_client.api.assets_api import AssetsApi
from pieces_os_client.api_client import ApiClient
from pieces_os_client.configuration import Configuration
from pieces_os_client.models.asset import Asset
from pieces_os_client.models.assets import Assets
from pieces_os_client.models.assets_search_with_filters_input import AssetsSearchWithFiltersInput
from pieces_os_client.models.assets_search_with_filters_output import AssetsSearchWithFiltersOutput
from pieces_os_client.models.flattened_assets import FlattenedAssets
from pieces_os_client.models.formats import Formats
from pieces_os_client.models.pseudo_assets import PseudoAssets
from pieces_os_client.models.searched_assets import SearchedAssets
from pieces_os_client.models.seed import Seed

from assetwatchd.polling.scheduler import Scheduler
from assetwatchd.rpc.pieces import convert
from assetwatchd.upstream.port import Listed
from support.pieces_rig import (
    NOTE,
    ONE,
    OTHER_KIND,
    SOURCE,
    TWO,
    UNKNOWN,
    PiecesRig,
    pieces_rig,
    seed_document,
    shelve,
)
from support.problems import Problem, problem_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pydantic import JsonValue

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
INTERESTS: dict[str, JsonValue] = {"assets": {"iterable": []}, "interactions": {"iterable": [{"asset": ONE}]}}
FILTERED = {
    "query": "page",
    "casing": True,
    "space": {"identifers": {"iterable": [{"id": TWO}]}},
    "filters": {
        "iterable": [{"tags": ["http"]}, {"updated": {"from": {"value": "2020-01-01T00:00:00Z"}}}],
        "type": "AND",
    },
}


@pytest.fixture
async def rig() -> AsyncIterator[PiecesRig]:
    async with pieces_rig() as rig:
        shelve(rig.standin)
        yield rig


@pytest.fixture
async def vendor(rig: PiecesRig) -> AsyncIterator[AssetsApi]:
    client = ApiClient(Configuration(rig.standin.url))
    yield AssetsApi(client)
    client.rest_client.pool_manager.clear()


async def theirs(api: AssetsApi, operation: str, **arguments: Any) -> tuple[Any, Any]:
    """Make a call with the vendor's client; return the document that came and the model it was read as."""
    call = getattr(api, f"{operation}_with_http_info")
    answer = await asyncio.to_thread(call, **arguments)
    return json.loads(answer.raw_data), answer.data


def anonymous(document: Any) -> Any:
    """Name every id by the order in which it appears: two servers of ids give two sets of them."""
    names: dict[str, str] = {}
    text = json.dumps(document, sort_keys=True)
    return json.loads(UUID.sub(lambda found: names.setdefault(found[0], f"id {len(names)}"), text))


def combinations(*names: str) -> list[dict[str, bool]]:
    """Every combination of flags: true, false and absent."""
    products = itertools.product((None, True, False), repeat=len(names))
    return [{n: v for n, v in zip(names, values, strict=True) if v is not None} for values in products]


async def test_list_assets(rig: PiecesRig, vendor: AssetsApi) -> None:
    """Every combination of flags, absent ones too, answers as the vendor's client is answered."""
    for given in combinations("transferables", "suggested", "pseudo"):
        document, model = await theirs(vendor, "assets_snapshot", **given)
        ours = await rig.document("ListAssets", "assets", **given)
        assert ours == document
        assert Assets.from_dict(ours) == model


async def test_get_asset(rig: PiecesRig, vendor: AssetsApi) -> None:
    """One asset, with and without its content."""
    for given in combinations("transferables"):
        document, model = await theirs(vendor, "assets_specific_asset_snapshot", asset=ONE, **given)
        ours = await rig.document("GetAsset", "asset", asset_id=ONE, **given)
        assert ours == document
        assert Asset.from_dict(ours) == model


async def test_list_asset_formats(rig: PiecesRig, vendor: AssetsApi) -> None:
    """The formats of one asset."""
    for given in combinations("transferables"):
        document, model = await theirs(vendor, "assets_specific_asset_formats_snapshot", asset=ONE, **given)
        ours = await rig.document("ListAssetFormats", "formats", asset_id=ONE, **given)
        assert ours == document
        assert Formats.from_dict(ours) == model


@pytest.mark.parametrize("hydrated", [False, True])
async def test_list_asset_identifiers(rig: PiecesRig, vendor: AssetsApi, hydrated: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """The ids, with flattened assets beside them or without."""
    rig.standin.switch({"identifiers_with_reference": hydrated})
    for given in combinations("pseudo"):
        document, model = await theirs(vendor, "assets_identifiers_snapshot", **given)
        ours = await rig.document("ListAssetIdentifiers", "assets", **given)
        assert ours == document
        assert FlattenedAssets.from_dict(ours) == model


@pytest.mark.parametrize("notes", [1, 0])
async def test_list_pseudo_assets(rig: PiecesRig, vendor: AssetsApi, notes: int) -> None:
    """What the user did not save; also when there is nothing."""
    if not notes:
        rig.standin.remove(NOTE)
    document, model = await theirs(vendor, "assets_pseudo_snapshot")
    ours = await rig.document("ListPseudoAssets", "assets")
    assert ours == document
    assert len(ours["identifiers"]["iterable"]) == notes
    assert PseudoAssets.from_dict(ours) == model


@pytest.mark.parametrize(
    ("query", "tags"), [("RETRY", []), ("loop pager", []), (None, ["cli", "no"]), ("a b", ["http"])]
)
async def test_search_assets(rig: PiecesRig, vendor: AssetsApi, query: str | None, tags: list[str]) -> None:
    """The GET form, by text, by tags and by both."""
    text = {} if query is None else {"query": query}
    joined = {"searchable_tags": ",".join(tags)} if tags else {}
    for given in combinations("transferables", "pseudo"):
        document, model = await theirs(vendor, "search_assets", **text, **joined, **given)
        ours = await rig.document("SearchAssets", "results", searchable_tags=tags, **text, **given)
        assert ours == document
        assert SearchedAssets.from_dict(ours) == model


@pytest.mark.parametrize("wanted", [{}, FILTERED, {"query": "next"}])
async def test_search_assets_with_filters(rig: PiecesRig, vendor: AssetsApi, wanted: dict[str, Any]) -> None:
    """The POST form; every member of the body gets there, the misspelt one too."""
    body = AssetsSearchWithFiltersInput.from_dict(wanted)
    sent = convert.message(search_pb2.AssetsSearchWithFiltersInput, wanted)
    operation = partial(theirs, vendor, "assets_search_with_filters", assets_search_with_filters_input=body)
    for given in combinations("transferables", "pseudo"):
        document, model = await operation(**given)
        ours = await rig.document("SearchAssetsWithFilters", "output", input=sent, **given)
        assert ours == document
        assert AssetsSearchWithFiltersOutput.from_dict(ours) == model


@pytest.mark.parametrize("ext", ["py", "png"])
async def test_draft_asset(rig: PiecesRig, vendor: AssetsApi, ext: str) -> None:
    """A draft stores nothing, and fills in what could be made; an image comes back as it was."""
    wanted = seed_document()
    wanted["asset"]["format"]["fragment"]["metadata"]["ext"] = ext
    for given in combinations("transferables"):
        document, model = await theirs(vendor, "assets_draft", seed=Seed.from_dict(wanted), **given)
        ours = await rig.document("DraftAsset", "seed", seed=convert.message(seed_pb2.Seed, wanted), **given)
        assert ours == document
        assert ("available" in ours["asset"]) is (ext == "py")
        assert Seed.from_dict(ours) == model
    assert len(rig.standin.asset_ids()) == 3


@pytest.mark.parametrize("carrier", [{"string": {"raw": "x = 'é'"}}, {"bytes": {"raw": [0, 255, 10]}}])
@pytest.mark.parametrize("form", ["fragment", "file"])
async def test_create_asset(rig: PiecesRig, vendor: AssetsApi, carrier: dict[str, Any], form: str) -> None:
    """An asset is made alike, of text or bytes, of a fragment or a file; only the ids differ."""
    wanted = seed_document()
    wanted["asset"]["format"] = {form: carrier, "classification": {"specific": "py"}}
    for given in combinations("transferables"):
        document, _ = await theirs(vendor, "assets_create_new_asset", seed=Seed.from_dict(wanted), **given)
        ours = await rig.document("CreateAsset", "asset", seed=convert.message(seed_pb2.Seed, wanted), **given)
        assert anonymous(ours) == anonymous(document)
        assert rig.held(ours["id"])["content"] == rig.held(document["id"])["content"]


async def test_delete_asset(rig: PiecesRig, vendor: AssetsApi) -> None:
    """Delete answers with the id, as the vendor's client reads it from the text."""
    assert await asyncio.to_thread(vendor.assets_delete_asset, TWO) == TWO
    assert (await rig.call("DeleteAsset", asset_id=ONE)).asset_id == ONE
    assert rig.standin.asset_ids() == [NOTE]


@pytest.mark.parametrize(
    ("rpc", "path", "body", "request_"),
    [
        (
            "ListRelatedAssets",
            "/assets/related",
            {"iterable": [{"id": ONE}]},
            {"assets": asset_pb2.Assets(iterable=[asset_pb2.Asset(id=ONE)])},
        ),
        (
            "RecommendAssets",
            "/assets/recommended",
            INTERESTS,
            {"recommendation": convert.message(search_pb2.SeededAssetsRecommendation, INTERESTS)},
        ),
    ],
)
async def test_the_two_gets_with_a_body(
    rig: PiecesRig, rpc: str, path: str, body: Mapping[str, Any], request_: dict[str, Any]
) -> None:
    """The body gets there: the answer is that of a plain GET with it, and not the one that is given without.

    The vendor's own client drops the body of a GET, so its models read the plain answer instead.
    """
    rig.standin.switch({"missing_body": "refused"})
    wanted = urllib.request.Request(rig.standin.url + path, json.dumps(body).encode(), method="GET")  # noqa: S310 - http

    def plain() -> Any:
        with urllib.request.urlopen(wanted) as answer:  # noqa: S310 - same
            return json.loads(answer.read())

    ours = await rig.document(rpc, "assets", **request_)
    assert ours == await asyncio.to_thread(plain)
    assert [asset.id for asset in Assets.from_dict(ours).iterable] == [TWO]


@pytest.mark.parametrize(
    ("rpc", "request_", "path", "names"),
    [
        ("GetAsset", {"asset_id": ONE}, f"/assets/{ONE}", ["transferables"]),
        ("ListAssetFormats", {"asset_id": ONE}, f"/assets/{ONE}/formats", ["transferables"]),
        ("ListAssets", {}, "/assets", ["transferables", "suggested", "pseudo"]),
        ("ListAssetIdentifiers", {}, "/assets/identifiers", ["pseudo"]),
        ("ListPseudoAssets", {}, "/assets/pseudo", []),
        ("DraftAsset", {"seed": convert.message(seed_pb2.Seed, seed_document())}, "/assets/draft", ["transferables"]),
        (
            "SearchAssetsWithFilters",
            {"input": search_pb2.AssetsSearchWithFiltersInput(query="x")},
            "/assets/search",
            ["transferables", "pseudo"],
        ),
    ],
)
async def test_flags_one_to_one(
    rig: PiecesRig, rpc: str, request_: dict[str, Any], path: str, names: list[str]
) -> None:
    """Each flag is sent as given and under its own name; one that is absent is not sent."""
    for given in combinations(*names):
        query = "&".join(f"{name}={str(value).lower()}" for name, value in given.items())
        assert await rig.sent(rpc, **request_, **given) == path + (f"?{query}" if query else "")


async def test_search_parameters_are_quoted(rig: PiecesRig) -> None:
    """A query and tags get there whatever characters they hold; an empty query is sent if it was given."""
    path = await rig.sent("SearchAssets", query="a&b=c ü+%/#?", searchable_tags=["x y", "ü"], transferables=False)
    assert (
        path
        == "/assets/search?query=a%26b%3Dc%20%C3%BC%2B%25%2F%23%3F&transferables=false&searchable_tags=x%20y%2C%C3%BC"
    )
    assert await rig.sent("SearchAssets", query="", searchable_tags=["x"]) == (
        "/assets/search?query=&searchable_tags=x"
    )


# What goes wrong -----------------------------------------------------------------------------------------------------

EVERY_CALL: list[tuple[str, dict[str, Any]]] = [
    ("CreateAsset", {"seed": convert.message(seed_pb2.Seed, seed_document())}),
    ("DeleteAsset", {"asset_id": ONE}),
    ("DraftAsset", {"seed": convert.message(seed_pb2.Seed, seed_document())}),
    ("GetAsset", {"asset_id": ONE}),
    ("ListAssets", {}),
    ("ListAssetIdentifiers", {}),
    ("ListPseudoAssets", {}),
    ("ListAssetFormats", {"asset_id": ONE}),
    ("SearchAssets", {"query": "x"}),
    ("SearchAssetsWithFilters", {"input": search_pb2.AssetsSearchWithFiltersInput()}),
    ("ListRelatedAssets", {"assets": asset_pb2.Assets()}),
    (
        "RecommendAssets",
        {
            "recommendation": search_pb2.SeededAssetsRecommendation(
                assets=asset_pb2.Assets(), interactions=search_pb2.InteractedAssets()
            )
        },
    ),
]
ANY_CALL = pytest.mark.parametrize(("rpc", "request_"), EVERY_CALL, ids=[rpc for rpc, _ in EVERY_CALL])
STREAMS = ("StreamAssets", "StreamAssetIdentifiers", "StreamAssetTransferables")


async def refused(rig: PiecesRig, rpc: str, **request: Any) -> Problem:
    return await problem_of(rig.call(rpc, **request))


@ANY_CALL
async def test_a_refusal_keeps_its_text(rig: PiecesRig, rpc: str, request_: dict[str, Any]) -> None:
    """A 500 with text is a refusal: its words come along, on one line and bounded."""
    rig.standin.faults.add(path="/assets", status=500, body="not\nthis\x00time" + "x" * 1000, content_type="text/plain")
    problem = await refused(rig, rpc, **request_)
    assert (problem.code, problem.reason, problem.domain) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PIECES_REFUSED",
        "assetwatch",
    )
    assert problem.metadata["status"] == "500"
    assert problem.metadata["text"].startswith("not this time")
    assert len(problem.metadata["text"]) == 300
    assert "not this" not in problem.message


@ANY_CALL
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"status": 503, "body": "busy", "headers": {"Retry-After": "7"}}, "HTTP 503"),
        ({"status": 500, "body": "<html>", "content_type": "text/html"}, "HTTP 500"),
        ({"status": 401, "body": "no"}, "HTTP 401"),
        ({"status": 429, "body": "slow down"}, "HTTP 429"),
        ({"redirect_to": "http://127.0.0.1:1/"}, "redirect"),
        ({"disconnect": True}, "connection"),
    ],
)
async def test_an_upstream_in_trouble(
    rig: PiecesRig, rpc: str, request_: dict[str, Any], fault: dict[str, Any], text: str
) -> None:
    """What says nothing about the call is SOURCE_UNREACHABLE, with a pause before the next try."""
    rig.standin.faults.add(path="/assets", **fault)
    problem = await refused(rig, rpc, **request_)
    assert (problem.code, problem.reason) == (grpc.StatusCode.UNAVAILABLE, "SOURCE_UNREACHABLE")
    assert text in problem.message
    assert problem.retry_after_s == (7 if "headers" in fault else 1)


@ANY_CALL
async def test_an_upstream_that_is_not_there(rig: PiecesRig, rpc: str, request_: dict[str, Any]) -> None:
    """A server that is down is SOURCE_UNREACHABLE."""
    await rig.standin.stop()
    problem = await refused(rig, rpc, **request_)
    assert (problem.code, problem.reason) == (grpc.StatusCode.UNAVAILABLE, "SOURCE_UNREACHABLE")


@pytest.mark.parametrize(("rpc", "request_"), [one for one in EVERY_CALL if one[0] != "DeleteAsset"])
@pytest.mark.parametrize("body", ["[]", "null", "{", '"x"', "NaN", ""])
async def test_bodies_that_are_no_object(rig: PiecesRig, rpc: str, request_: dict[str, Any], body: str) -> None:
    """A 200 that is no JSON object cannot be read."""
    rig.standin.faults.add(path="/assets", status=200, body=body, content_type="application/json")
    problem = await refused(rig, rpc, **request_)
    assert (problem.code, problem.reason) == (grpc.StatusCode.UNAVAILABLE, "SOURCE_UNREACHABLE")


@pytest.mark.parametrize("rpc", ["GetAsset", "ListAssetFormats", "DeleteAsset"])
async def test_gone(rig: PiecesRig, rpc: str) -> None:
    """410 is NOT_FOUND, whether the asset was deleted or never was."""
    rig.standin.switch({"unknown_delete_status": 410, "unknown_formats_status": 410})
    rig.standin.remove(ONE)
    for asset_id in (ONE, UNKNOWN):
        problem = await refused(rig, rpc, asset_id=asset_id)
        assert (problem.code, problem.reason) == (grpc.StatusCode.NOT_FOUND, "ASSET_GONE")
        assert problem.metadata == {"source": SOURCE, "asset_id": asset_id}


@pytest.mark.parametrize("status", [400, 404, 422, 500])
@pytest.mark.parametrize("rpc", ["DeleteAsset", "ListAssetFormats"])
async def test_an_unknown_id_by_other_codes(rig: PiecesRig, rpc: str, status: int) -> None:
    """Whatever else the upstream says of an id it does not know is told with its status and text."""
    rig.standin.switch({"unknown_delete_status": status, "unknown_formats_status": status})
    problem = await refused(rig, rpc, asset_id=UNKNOWN)
    assert problem.reason == "PIECES_REFUSED"
    assert problem.metadata == {"source": SOURCE, "status": str(status), "text": f"Asset {UNKNOWN} was not found"}


async def test_a_draft_and_a_seed_that_are_refused(rig: PiecesRig) -> None:
    """The upstream's own reasons come along."""
    wanted = seed_document()
    wanted["asset"]["format"] = {}
    seed = convert.message(seed_pb2.Seed, wanted)
    for rpc in ("DraftAsset", "CreateAsset"):
        problem = await refused(rig, rpc, seed=seed)
        assert problem.reason == "PIECES_REFUSED"
        assert "exactly one of file and fragment" in problem.metadata["text"]


@pytest.mark.parametrize("given", [{}, {"query": ""}, {"transferables": True, "pseudo": True}])
async def test_an_empty_search_is_not_sent(rig: PiecesRig, given: dict[str, Any]) -> None:
    """A search with neither query nor tags, which the upstream answers with 500, does not get there."""
    rig.standin.requests.clear()
    problem = await refused(rig, "SearchAssets", **given)
    assert (problem.code, problem.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert "query or searchable_tags" in problem.message
    assert rig.standin.requests.count("/assets/search") == 0


@pytest.mark.parametrize(
    "given", [{"query": " \t\r\n"}, {"query": "\u00a0\u3000"}, {"query": " ", "searchable_tags": ["x"]}]
)
async def test_a_blank_search_is_not_sent(rig: PiecesRig, given: dict[str, Any]) -> None:
    """A text of nothing but blanks is refused by its field, with tags beside it too, and does not get there."""
    rig.standin.requests.clear()
    problem = await refused(rig, "SearchAssets", **given)
    assert (problem.code, problem.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert set(problem.violations) == {"query"}
    assert rig.standin.requests.count("/assets/search") == 0


@pytest.mark.parametrize("lacking", [{"assets", "interactions"}, {"assets"}, {"interactions"}])
async def test_a_recommendation_has_both_members(rig: PiecesRig, lacking: set[str]) -> None:
    """One that lacks a member, which the upstream answers with 500, is refused by its field and does not get there."""
    rig.standin.requests.clear()
    seen = search_pb2.SeededAssetsRecommendation(
        assets=None if "assets" in lacking else asset_pb2.Assets(),
        interactions=None if "interactions" in lacking else search_pb2.InteractedAssets(),
    )
    problem = await refused(rig, "RecommendAssets", recommendation=seen)
    assert (problem.code, problem.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert set(problem.violations) == {f"recommendation.{name}" for name in lacking}
    assert rig.standin.requests.count("/assets/recommended") == 0


@pytest.mark.parametrize(
    ("rpc", "request_", "field"),
    [
        ("CreateAsset", {}, "seed"),
        ("CreateAsset", {"seed": seed_pb2.Seed(type="SEEDED_ASSET")}, "seed"),
        ("DraftAsset", {}, "seed"),
        ("GetAsset", {"asset_id": "x"}, "asset_id"),
        ("DeleteAsset", {}, "asset_id"),
        ("ListAssetFormats", {"asset_id": "../../etc"}, "asset_id"),
        ("SearchAssets", {"searchable_tags": ["a,b"]}, "searchable_tags[0]"),
        ("SearchAssets", {"searchable_tags": ["a", "  "]}, "searchable_tags[1]"),
        ("SearchAssetsWithFilters", {}, "input"),
        ("ListRelatedAssets", {}, "assets"),
        ("RecommendAssets", {}, "recommendation"),
        ("ListAssets", {"source": ""}, "source"),
        ("DraftAsset", {"seed": seed_pb2.Seed(extra_json={"x": "nope"})}, "seed"),
        (
            "CreateAsset",
            {"seed": seed_pb2.Seed(asset=seed_pb2.SeededAsset(), extra=convert.struct({"x": float("inf")}))},
            "seed",
        ),
    ],
)
async def test_requests_that_break_a_rule(rig: PiecesRig, rpc: str, request_: dict[str, Any], field: str) -> None:
    """Every broken rule names its field, and the upstream is not asked."""
    rig.standin.requests.clear()
    problem = await refused(rig, rpc, **request_)
    assert (problem.code, problem.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert set(problem.violations) == {field}
    assert rig.standin.requests.count("/assets/") == 0


@pytest.mark.parametrize(("rpc", "request_"), [*EVERY_CALL, *((rpc, {}) for rpc in STREAMS)])
async def test_sources_that_cannot_be(rig: PiecesRig, rpc: str, request_: dict[str, Any]) -> None:
    """A name nobody has and a source of another kind are told apart, by calls and streams alike."""

    async def problem_with(source: str) -> Problem:
        call = rig.start(rpc, **{**request_, "source": source})
        return await problem_of(call.read() if rpc in STREAMS else call)

    nobody = await problem_with("nobody")
    assert (nobody.code, nobody.reason) == (grpc.StatusCode.NOT_FOUND, "SOURCE_NOT_FOUND")
    other = await problem_with(OTHER_KIND)
    assert (other.code, other.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SOURCE_KIND_MISMATCH")
    assert other.metadata == {"source": OTHER_KIND, "kind": "oracle_sbc", "wanted": "pieces"}


async def test_the_application_is_named() -> None:
    """A server that wants an application id gets the configured one with every call; without it is refused."""
    async with pieces_rig(source={"application_id": "aaaaaaaa-0000-4000-8000-000000000001"}) as rig:
        shelve(rig.standin)
        rig.standin.switch({"application_required": True})
        for rpc, request in sorted(EVERY_CALL, key=lambda one: one[0] == "DeleteAsset"):
            await rig.call(rpc, **request)
    async with pieces_rig() as rig:
        rig.standin.switch({"application_required": True})
        assert (await refused(rig, "ListAssets")).reason == "SOURCE_UNREACHABLE"


# Sizes ---------------------------------------------------------------------------------------------------------------

MIB = 1024 * 1024
CONTENT = "x" * (5 * MIB)


async def test_content_beyond_the_limit_of_a_message() -> None:
    """An answer larger than server.message_bytes_max is an error that names it; without content it fits."""
    async with pieces_rig(source={"body_bytes_max": 64 * MIB}) as rig:
        rig.standin.put(ONE, {"name": "large", "content": CONTENT})
        problem = await refused(rig, "GetAsset", asset_id=ONE)
        assert (problem.code, problem.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CONTENT_TOO_LARGE")
        assert problem.metadata == {"source": SOURCE, "setting": "server.message_bytes_max", "limit": str(4 * MIB)}
        assert (await rig.call("GetAsset", asset_id=ONE, transferables=False)).asset.name == "large"


async def test_content_beyond_the_limit_of_an_answer() -> None:
    """An answer of the upstream larger than body_bytes_max is an error that names that."""
    async with pieces_rig(source={"body_bytes_max": MIB}) as rig:
        rig.standin.put(ONE, {"name": "large", "content": CONTENT})
        problem = await refused(rig, "ListAssets")
        assert (problem.code, problem.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CONTENT_TOO_LARGE")
        assert problem.metadata == {"source": SOURCE, "setting": f"sources.{SOURCE}.body_bytes_max", "limit": str(MIB)}


async def test_five_megabytes_both_ways() -> None:
    """With the limits raised, 5 MB of text is created and read, and comes back unchanged."""
    async with pieces_rig(source={"body_bytes_max": 64 * MIB}, server={"message_bytes_max": 32 * MIB}) as rig:
        seed = convert.message(seed_pb2.Seed, seed_document(raw=CONTENT))
        made = (await rig.call("CreateAsset", seed=seed)).asset
        read = (await rig.call("GetAsset", asset_id=made.id)).asset
        assert read.formats.iterable[0].fragment.string.raw == CONTENT == rig.held(made.id)["content"]


# Bodies no one expected ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"id": ONE, "mechanism": "TELEPATHIC", "quantum": {"spin": 0.5}, "serial": 2**60 + 1},
        {"id": 7, "created": "yesterday", "formats": [], "preview": None, "pseudo": "yes"},
        {"id": ONE, "deleted": True, "updated": {}, "formats": {}},
        {"id": ONE, "deleted": {"value": "2026-03-04T10:15:00.000Z"}, "formats": {"iterable": [None, 3]}},
        {"id": ONE, "formats": {"iterable": [{"role": "NEW", "classification": {"generic": "SMELL"}, "asset": ONE}]}},
    ],
)
async def test_an_asset_no_one_expected(rig: PiecesRig, document: dict[str, Any]) -> None:
    """Unknown members and values, missing ones and wrong types pass through unharmed."""
    rig.standin.faults.add(path=ONE, body=json.dumps(document), content_type="application/json")
    assert await rig.document("GetAsset", "asset", asset_id=ONE) == document


async def test_lists_no_one_expected(rig: PiecesRig) -> None:
    """The same for what lists and searches answer."""
    for rpc, field, path, document in (
        ("ListAssets", "assets", "/assets$", {"indices": {"a": "b"}}),
        ("ListAssetIdentifiers", "assets", "identifiers", {"iterable": None, "score": {"manual": 1}}),
        ("ListPseudoAssets", "assets", "pseudo", {"identifiers": []}),
        ("ListAssetFormats", "formats", "formats", {"iterable": [{"bytes": {"value": 2**70}}]}),
        ("SearchAssets", "results", "search", {"iterable": [{"match": "SIXTH_SENSE", "score": 1}], "exact": 0.5}),
    ):
        rig.standin.faults.add(path=path, times=1, body=json.dumps(document), content_type="application/json")
        wanted = next(request for name, request in EVERY_CALL if name == rpc)
        assert await rig.document(rpc, field, **wanted) == document


@pytest.mark.parametrize("body", ["{}", '{"id":""}', '{"id":7}'])
async def test_a_created_asset_without_an_id(rig: PiecesRig, body: str) -> None:
    """A creation whose answer names no asset cannot be read."""
    rig.standin.faults.add(path="create", body=body, content_type="application/json")
    problem = await refused(rig, "CreateAsset", seed=convert.message(seed_pb2.Seed, seed_document()))
    assert problem.reason == "SOURCE_UNREACHABLE"


# Writes and the watch ------------------------------------------------------------------------------------------------


def watch(rig: PiecesRig) -> Any:
    return rig.statuses.WatchStatus(asset_status_service_pb2.WatchStatusRequest(sources=[SOURCE]))


async def change(call: Any, asset_id: str) -> Any:
    """Read on to the next change of an asset."""
    async with asyncio.timeout(15):
        while True:
            for one in (await call.read()).changes:
                if one.status.asset.asset_id == asset_id:
                    return one


async def status(rig: PiecesRig, asset_id: str, revision: int) -> Any:
    ref = asset_status_pb2.AssetRef(source=SOURCE, asset_id=asset_id)
    request = asset_status_service_pb2.GetAssetStatusRequest(asset=ref, min_revision=revision)
    return (await rig.statuses.GetAssetStatus(request, timeout=15)).status


@pytest.mark.parametrize("pushed", [True, False])
async def test_writes_are_seen_by_a_watch(pushed: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """A watcher of the source sees a creation and a deletion, and the revision told is the one it sees.

    Also when the upstream pushes nothing: what we wrote we know.
    """
    async with pieces_rig() as rig:
        shelve(rig.standin)
        if not pushed:
            rig.standin.faults.add(path="/assets/stream", status=503)
        call = watch(rig)
        await change(call, ONE)
        made = await rig.call("CreateAsset", seed=convert.message(seed_pb2.Seed, seed_document(name="new")))
        seen = await change(call, made.asset.id)
        assert (seen.kind, seen.status.state, seen.status.pieces.name) == (
            1,
            asset_status_pb2.ASSET_STATE_AVAILABLE,
            "new",
        )
        assert seen.status.revision == made.revision == (await status(rig, made.asset.id, made.revision)).revision
        deleted = await rig.call("DeleteAsset", asset_id=made.asset.id)
        seen = await change(call, made.asset.id)
        assert (seen.kind, seen.status.state) == (2, asset_status_pb2.ASSET_STATE_DELETED)
        assert seen.status.revision == deleted.revision > made.revision
        call.cancel()


async def test_a_deletion_that_comes_too_late_is_seen_by_a_watch() -> None:
    """An asset that is gone already, as DeleteAsset finds out by 410, is told as deleted; one never known is not."""
    async with pieces_rig(source={"reconcile_interval_s": 600}) as rig:
        shelve(rig.standin)
        rig.standin.switch({"unknown_delete_status": 410})
        call = watch(rig)
        await change(call, ONE)
        await rig.command("mute_streams")
        rig.standin.remove(ONE)
        for asset_id in (UNKNOWN, ONE):
            assert (await refused(rig, "DeleteAsset", asset_id=asset_id)).reason == "ASSET_GONE"
        seen = await change(call, ONE)
        assert (seen.kind, seen.status.state) == (2, asset_status_pb2.ASSET_STATE_DELETED)
        assert (await status(rig, UNKNOWN, 0)).state == asset_status_pb2.ASSET_STATE_MISSING
        call.cancel()


@pytest.mark.parametrize("body", [TWO, "", "ok", f"{ONE} {ONE}"])
async def test_a_deletion_confirmed_for_another_asset(rig: PiecesRig, body: str) -> None:
    """An answer that names another asset confirms nothing: the caller is told, and the asset is read, not given up."""
    known = await status(rig, ONE, 0)
    rig.standin.requests.clear()
    rig.standin.faults.add(path="delete", body=body, content_type="text/plain")
    problem = await refused(rig, "DeleteAsset", asset_id=ONE)
    assert (problem.code, problem.reason) == (grpc.StatusCode.UNAVAILABLE, "SOURCE_UNREACHABLE")
    assert f"it was to delete asset {ONE}, and confirms another: {body or 'none'}" in problem.message
    assert (await status(rig, ONE, 0)).revision == known.revision
    async with asyncio.timeout(15):
        while not rig.standin.requests.count(rf"/assets/{ONE}\?"):  # noqa: ASYNC110 - it is the stand-in that is asked
            await asyncio.sleep(0.005)


async def test_upper_case_names_the_same_asset(rig: PiecesRig) -> None:
    """The assets API takes a UUID in any case as one asset, told in lower case; where ids are opaque it is refused."""
    assert await rig.sent("GetAsset", asset_id=ONE.upper()) == f"/assets/{ONE}"
    assert await rig.sent("ListAssetFormats", asset_id=ONE.upper()) == f"/assets/{ONE}/formats"
    gone = await rig.call("DeleteAsset", asset_id=ONE.upper())
    assert gone.asset_id == ONE
    assert (await status(rig, ONE, gone.revision)).state == asset_status_pb2.ASSET_STATE_DELETED
    ref = asset_status_pb2.AssetRef(source=SOURCE, asset_id=TWO.upper())
    read = asset_status_service_pb2.GetAssetStatusRequest(asset=ref)
    followed = asset_status_service_pb2.WatchStatusRequest(assets=[ref])
    for call in (rig.statuses.GetAssetStatus(read), rig.statuses.WatchStatus(followed).read()):
        problem = await problem_of(call)
        assert (problem.code, problem.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert any(f"in lower case alone: {TWO}" in text for text in problem.violations.values())


async def test_a_server_that_writes_upper_case(rig: PiecesRig) -> None:
    """Ids that the upstream lists and pushes in upper case are those in lower case: one asset, under one id."""
    item = json.dumps({"iterable": [{"asset": {"id": ONE.upper()}}]})
    ids = json.dumps({"iterable": [{"id": ONE.upper()}]})
    rig.standin.faults.add(path="/assets/identifiers", body=ids, content_type="application/json")
    rig.standin.faults.add(path="/assets/stream/identifiers", on="frame", body=item)
    call = watch(rig)
    assert (await change(call, ONE)).status.pieces.name == "retry loop"
    listed = await rig.statuses.ListAssetStatuses(asset_status_service_pb2.ListAssetStatusesRequest(sources=[SOURCE]))
    assert [one.asset.asset_id for one in listed.statuses] == [ONE]
    call.cancel()
    source = rig.app.sources.get(SOURCE)
    assert isinstance(source, Scheduler)
    assert await source.upstream.enumerate() == Listed(frozenset({ONE}))


async def test_a_write_nobody_watches(rig: PiecesRig) -> None:
    """Without any watcher the returned revision can be read just the same, of assets never seen before too."""
    made = await rig.call("CreateAsset", seed=convert.message(seed_pb2.Seed, seed_document(name="new")))
    assert (await status(rig, made.asset.id, made.revision)).pieces.name == "new"
    for asset_id in (made.asset.id, ONE):
        gone = await rig.call("DeleteAsset", asset_id=asset_id)
        assert gone.revision > made.revision
        assert (await status(rig, asset_id, gone.revision)).state == asset_status_pb2.ASSET_STATE_DELETED


async def test_a_read_under_way_does_not_undo_a_deletion(rig: PiecesRig) -> None:
    """A read that began before the deletion and ends after it, saying the asset is there, changes nothing."""
    ref = asset_status_pb2.AssetRef(source=SOURCE, asset_id=ONE)
    await status(rig, ONE, 0)
    document = json.dumps({"id": ONE, "name": "late"})
    rig.standin.requests.clear()
    rig.standin.faults.add(path=f"{ONE}\\?", times=1, hang=True, body=document, content_type="application/json")
    request = asset_status_service_pb2.GetAssetStatusRequest(asset=ref)
    request.max_age.FromSeconds(0)
    late = asyncio.ensure_future(rig.statuses.GetAssetStatus(request, timeout=15))
    async with asyncio.timeout(15):
        while not rig.standin.requests.count(ONE):  # noqa: ASYNC110 - it is the stand-in that is asked
            await asyncio.sleep(0.005)
    gone = await rig.call("DeleteAsset", asset_id=ONE)
    rig.standin.faults.clear()
    await late
    assert (await status(rig, ONE, gone.revision)).state == asset_status_pb2.ASSET_STATE_DELETED


async def test_a_creation_whose_status_cannot_be_read(rig: PiecesRig) -> None:
    """The asset was made, so the call succeeds; only its revision is not known."""
    rig.standin.faults.add(path=r"/assets/[0-9a-f-]{36}\?", status=503)
    made = await rig.call("CreateAsset", seed=convert.message(seed_pb2.Seed, seed_document()))
    assert made.revision == 0
    assert made.asset.id in rig.standin.asset_ids()
