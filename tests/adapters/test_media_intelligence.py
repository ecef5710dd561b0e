"""The Media Intelligence adapter: published signatures, golden replies, and its stand-in over real sockets."""

from __future__ import annotations

import contextlib
import json
import re
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from assetwatch_sandbox.media_intelligence import MediaIntelligenceStandin
from assetwatchd.adapters import media_intelligence
from assetwatchd.adapters.media_intelligence import AssetPath, MediaIntelligence
from assetwatchd.model.errors import AssetRejected, BadAnswer, Refused, Throttled, Unreachable, UpstreamError
from assetwatchd.model.values import Observation, State
from assetwatchd.settings.schema import MediaIntelligenceSource
from assetwatchd.upstream.http.transport import Reply
from assetwatchd.upstream.paging import AGAIN_MAX
from assetwatchd.upstream.port import Listed
from assetwatchd.upstream.redaction import MASK
from support import golden
from support.observed import observed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PROJECT = "my-workspace/1234"
ASSET = f"{PROJECT}/5678"
NOW_S = 1_772_617_500.0
VECTORS = json.loads((golden.ROOT / "media_intelligence" / "sign.json").read_text())
STATUS_CALL, LIST_CALL = "/import-status$", r"/assets\?"


@pytest.fixture
async def standin() -> AsyncIterator[MediaIntelligenceStandin]:
    standin = MediaIntelligenceStandin(clock=lambda: NOW_S)
    standin.put(ASSET, {"uploadStatus": "COMPLETED"})
    await standin.start()
    yield standin
    standin.faults.clear()
    await standin.stop()


def configured(standin: MediaIntelligenceStandin, **settings: Any) -> MediaIntelligenceSource:
    own = {"kind": "media_intelligence", "base_url": standin.url, "projects": (PROJECT,), "rate_per_s": 10_000}
    return MediaIntelligenceSource.model_validate({**own, **standin.credentials, **settings})


@asynccontextmanager
async def adapter(
    standin: MediaIntelligenceStandin, *, clock: Callable[[], float] = lambda: NOW_S, **settings: Any
) -> AsyncIterator[MediaIntelligence]:
    upstream = MediaIntelligence("mi", configured(standin, **settings), clock=clock)
    try:
        yield upstream
    finally:
        await upstream.close()


def answer(standin: MediaIntelligenceStandin, path: str, body: Any, *, status: int = 200) -> None:
    """Let the next call of this path be answered so."""
    standin.faults.add(path=path, times=1, status=status, body=json.dumps(body), content_type="application/json")


def page(*numbers: Any, **totals: int) -> dict[str, Any]:
    """Make a page of a list."""
    content = [{"assetId": number, "assetName": f"clip-{number}.mp4"} for number in numbers]
    return {"code": "0", "message": "success", "result": {"content": content, **totals}}


def listed(*numbers: int) -> Listed:
    """Make the complete list of the project that has these."""
    return Listed(frozenset(f"{PROJECT}/{number}" for number in numbers))


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["path"])
def test_published_signatures(vector: dict[str, str]) -> None:
    """A request is signed as the published vectors say."""
    headers = media_intelligence.sign(
        vector["method"],
        vector["path"],
        access_key=VECTORS["access_key"],
        secret=VECTORS["secret"],
        at=VECTORS["timestamp_ms"] / 1000,
    )
    assert headers == {
        "x-ncp-apigw-timestamp": str(VECTORS["timestamp_ms"]),
        "x-ncp-iam-access-key": VECTORS["access_key"],
        "x-ncp-apigw-signature-v2": vector["signature"],
    }


@pytest.mark.parametrize("name", golden.names("media_intelligence"))
def test_golden(name: str) -> None:
    """A recorded reply is read as the observation or error on file; no observation: the list decides."""
    recorded = golden.load("media_intelligence", name)
    path = AssetPath.parse(recorded.asked[0])
    assert path is not None

    def read() -> list[Observation]:
        observation = media_intelligence.read(recorded.reply, path)
        return [] if observation is None else [observation]

    assert golden.outcome(read) == golden.expectation(recorded)


@pytest.mark.parametrize(
    "asset_id",
    [
        "my-workspace/1234",
        "ws/1234/5678",
        f"{'w' * 64}/1234/5678",
        "my-workspace//5678",
        f"{PROJECT}/",
        f"{PROJECT}/5/6",
        "my-workspace/../5678",
        f"{PROJECT}/.",
    ],
)
async def test_check_wants_three_parts(standin: MediaIntelligenceStandin, asset_id: str) -> None:
    """What is not WORKSPACE/PROJECT/ASSET is told so, and never sent."""
    async with adapter(standin) as upstream:
        assert "WORKSPACE/PROJECT/ASSET" in (upstream.check(asset_id) or "")
        with pytest.raises(AssetRejected):
            await upstream.observe([asset_id])
    assert standin.requests.count() == 0


@pytest.mark.parametrize("workspace", ["abc", "w" * 63])
async def test_check_takes_any_proper_id(standin: MediaIntelligenceStandin, workspace: str) -> None:
    """Workspaces of 3 to 63 characters, and projects and assets of any, can be ids."""
    async with adapter(standin) as upstream:
        assert upstream.check(f"{workspace}/my project/5678") is None


async def test_names_are_signed_as_sent(standin: MediaIntelligenceStandin) -> None:
    """Names are percent-encoded, and it is the encoded path that is signed."""
    asset_id = "my-workspace/spring +ü%2F?#/77"
    standin.put(asset_id, {"uploadStatus": "IN_PROGRESS"})
    async with adapter(standin, projects=("my-workspace/spring +ü%2F?#",)) as upstream:
        [observation] = await upstream.observe([asset_id])
        assert await upstream.enumerate() == Listed(frozenset({asset_id}))
    assert (observation.asset_id, observed(observation).state) == (asset_id, State.PROCESSING)


async def test_late_signature_is_renewed(standin: MediaIntelligenceStandin) -> None:
    """A signature that was too old when it arrived is made anew once, with the time then."""
    times = iter([NOW_S - 301, NOW_S])
    async with adapter(standin, clock=lambda: next(times)) as upstream:
        [observation] = await upstream.observe([ASSET])
    assert observed(observation).state is State.AVAILABLE
    assert [logged.status for logged in standin.requests.all()] == [401, 200]


@pytest.mark.parametrize(("off_s", "secret"), [(-301.0, "SK_TEST"), (301.0, "SK_TEST"), (0.0, "SK_OTHER")])
async def test_signed_again_only_once(standin: MediaIntelligenceStandin, off_s: float, secret: str) -> None:
    """A wrong clock or key is Refused after the second signature."""
    async with adapter(standin, clock=lambda: NOW_S + off_s, secret_key=secret) as upstream:
        with pytest.raises(Refused, match="five minutes"):
            await upstream.observe([ASSET])
    assert standin.requests.count() == 2


async def test_denied_permission_is_not_signed_again(standin: MediaIntelligenceStandin) -> None:
    """A denied permission shares HTTP 401 with a bad signature, yet no signature helps: one call."""
    standin.switch({"refuse_with": "permission_denied"})
    async with adapter(standin) as upstream:
        with pytest.raises(Refused, match="Permission Denied"):
            await upstream.observe([ASSET])
    assert standin.requests.count() == 1


@pytest.mark.parametrize("form", ["nested", "nested_details", "response_error", "flat", "timestamped"])
@pytest.mark.parametrize("body", ["json", "xml", "text", "html"])
@pytest.mark.parametrize(
    ("refusal", "error"), [("rate_limited", Throttled), ("endpoint_timeout", Unreachable), ("not_found", BadAnswer)]
)
async def test_refusals_in_every_form(
    standin: MediaIntelligenceStandin, form: str, body: str, refusal: str, error: type[UpstreamError]
) -> None:
    """The gateway's refusals mean the same in every envelope and format they were seen in."""
    standin.switch({"refuse_with": refusal, "gateway_error_form": form, "gateway_body": body, "retry_after_s": 7})
    async with adapter(standin) as upstream:
        for call in (upstream.observe([ASSET]), upstream.probe()):
            with pytest.raises(error) as caught:
                await call
            assert caught.value.retry_after_s == (7 if error is Throttled else None)


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("form", ["top_level", "wrapped"])
async def test_missing_after_a_look_at_the_list(standin: MediaIntelligenceStandin, status: int, form: str) -> None:
    """An asset whose status cannot be had is MISSING once its project's whole list does not hold it."""
    standin.switch({"unknown_asset_status": status, "product_error_form": form})
    for number in range(1, 6):
        standin.put(f"{PROJECT}/{number}", {})
    async with adapter(standin, page_size=2) as upstream:
        [observation] = await upstream.observe([f"{PROJECT}/9999"])
    assert observation == Observation(f"{PROJECT}/9999", State.MISSING)
    assert standin.requests.count(LIST_CALL) == 3


async def test_listed_asset_is_never_missing(standin: MediaIntelligenceStandin) -> None:
    """An asset that its project's list holds is rejected, not MISSING, whatever its status call says."""
    answer(standin, STATUS_CALL, {"code": "10404", "message": "Asset not found."}, status=404)
    async with adapter(standin) as upstream:
        with pytest.raises(AssetRejected):
            await upstream.observe([ASSET])


async def test_unreadable_list_is_no_evidence(standin: MediaIntelligenceStandin) -> None:
    """An asset is not MISSING while the list that would tell cannot be read whole."""
    standin.faults.add(path=LIST_CALL, times=1, status=503, body="broken")
    async with adapter(standin) as upstream:
        with pytest.raises(Unreachable):
            await upstream.observe([f"{PROJECT}/9999"])
        answer(standin, LIST_CALL, page(5678, totalCount=2, totalPage=1))
        with pytest.raises(BadAnswer):
            await upstream.observe([f"{PROJECT}/9999"])


@pytest.mark.parametrize("content", [{}, {"content": None}])
async def test_nothing_is_an_empty_list(standin: MediaIntelligenceStandin, content: dict[str, None]) -> None:
    """A list without content that says that it has no assets is an empty one."""
    answer(standin, LIST_CALL, {"code": "0", "result": {**content, "totalCount": 0, "totalPage": 0}})
    async with adapter(standin) as upstream:
        assert await upstream.enumerate() == listed()


async def test_invalid_request_is_rejected(standin: MediaIntelligenceStandin) -> None:
    """A status call that the product calls invalid says nothing of the asset, and no list is asked."""
    async with adapter(standin) as upstream:
        with pytest.raises(AssetRejected, match="10001"):
            await upstream.observe([f"{PROJECT}/not-a-number"])
    assert standin.requests.count(LIST_CALL) == 0


@pytest.mark.parametrize(
    "asset", ["not-a-number", "007", "-1", "1.5", "1e3", " 7", "7 ", "\u0667", str(2**63), "9" * 40]
)
async def test_check_wants_a_number(standin: MediaIntelligenceStandin, asset: str) -> None:
    """An asset is named by its number, in one way: anything else no server knows, and is told so before it is asked."""
    async with adapter(standin) as upstream:
        assert "number of an asset" in (upstream.check(f"{PROJECT}/{asset}") or "")
        assert upstream.check(f"{PROJECT}/0") is None
        assert upstream.check(f"{PROJECT}/{2**63 - 1}") is None


async def test_throttled_by_the_gateway(standin: MediaIntelligenceStandin) -> None:
    """A rate limit is Throttled, without a time when the gateway gives none."""
    standin.switch({"rate_limit_per_s": 1})
    async with adapter(standin) as upstream:
        await upstream.observe([ASSET])
        with pytest.raises(Throttled, match="Rate Limited") as caught:
            await upstream.observe([ASSET])
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize(("status", "code"), media_intelligence.REFUSALS)
async def test_a_refusal_of_the_gateway_in_a_success(standin: MediaIntelligenceStandin, status: int, code: str) -> None:
    """A refusal that comes with HTTP 200 means what its code means, and is told with both."""
    error, text = media_intelligence.REFUSALS[status, code]
    body = f'{{"error": {{"errorCode": "{code}", "message": "{text}"}}}}'
    standin.faults.add(path="import-status", body=body, content_type="application/json", headers={"Retry-After": "7"})
    async with adapter(standin) as upstream:
        with pytest.raises(UpstreamError) as caught:
            await upstream.observe([ASSET])
    assert type(caught.value) is error
    assert (str(caught.value), caught.value.retry_after_s) == (f"HTTP 200, code {code}: {text}", 7.0)


async def test_enumerate_all_projects(standin: MediaIntelligenceStandin) -> None:
    """Every configured project is listed, page by page, and no other; an empty one adds nothing."""
    wanted = {ASSET, *(f"{PROJECT}/{number}" for number in range(1, 7)), "archive/77/1"}
    for asset_id in wanted:
        standin.put(asset_id, {})
    standin.put("archive/78/1", {})
    async with adapter(standin, page_size=3, projects=(PROJECT, "archive/77", "archive/79")) as upstream:
        assert await upstream.enumerate() == Listed(frozenset(wanted))
    assert standin.requests.count(LIST_CALL) == 5


@pytest.mark.parametrize(
    ("first", "then", "wanted", "calls"),
    [
        pytest.param(page(1, 2, totalCount=4), page(4, totalCount=3), [page(2, 3, totalCount=3)], 4, id="one fewer"),
        pytest.param(page(1, 2, totalPage=3), page(5, totalPage=2), [page(3, 4, totalPage=2)], 4, id="a page fewer"),
    ],
)
async def test_a_page_that_shifted_is_read_again(
    standin: MediaIntelligenceStandin, first: Any, then: Any, wanted: list[Any], calls: int
) -> None:
    """What was removed while the pages were read pulled others onto a page that was read before: it is read again."""
    for number, body in ((1, first), (2, then), *((1, again) for again in wanted), (2, then)):
        answer(standin, f"pageNum={number}&", body)
    async with adapter(standin, page_size=2) as upstream:
        found = await upstream.enumerate()
    numbers = [item["assetId"] for body in (first, then, *wanted) for item in body["result"]["content"]]
    assert found == listed(*numbers)
    assert standin.requests.count(LIST_CALL) == calls


@pytest.mark.parametrize(
    ("pages", "numbers"),
    [
        pytest.param([page(1, 2, totalCount=3, totalPage=2), page(3, 4, totalCount=4, totalPage=2)], 4, id="one more"),
        pytest.param([page(1, 2), page(2)], 2, id="shifted without totals"),
        pytest.param([page(1, 1, totalPage=1)], 1, id="twice on a page"),
        pytest.param([page(1, 2, totalCount=1, totalPage=1)], 2, id="more than it says"),
        pytest.param([page(1, 2, totalCount=3, totalPage=2), page(2, 3, totalCount=3, totalPage=2)], 3, id="shifted"),
    ],
)
async def test_what_was_added_meanwhile_costs_nothing(
    standin: MediaIntelligenceStandin, pages: list[Any], numbers: int
) -> None:
    """An asset that appears twice, or beyond what the list said at first, is one that is there."""
    for number, body in enumerate(pages, 1):
        answer(standin, f"pageNum={number}&", body)
    async with adapter(standin, page_size=2) as upstream:
        assert await upstream.enumerate() == listed(*range(1, numbers + 1))
    assert standin.requests.count(LIST_CALL) == len(pages)


@pytest.mark.parametrize(
    ("pages", "numbers", "lack"),
    [
        pytest.param([page(1, 2, totalCount=3), page(totalCount=3)], [1, 2], "1 of .*it has 3 assets, and holds 2"),
        pytest.param([page(1, totalCount=2), page(totalCount=2)], [1], "1 of its items"),
        pytest.param([page(1, None, totalCount=2)], [1], "1 of its items .*page 1 has an item without an id"),
        pytest.param([page("7", 2.0, "x", {}, -1, 1.5, []), page()], [7, 2], "5 of its items"),
    ],
)
async def test_one_bad_item_costs_one_item(
    standin: MediaIntelligenceStandin, pages: list[Any], numbers: list[int], lack: str
) -> None:
    """Of a list the assets are taken whose id can be read, and it says what it lacks."""
    for number, body in enumerate(pages, 1):
        answer(standin, f"pageNum={number}&", body)
    async with adapter(standin, page_size=9) as upstream:
        found = await upstream.enumerate()
    assert found.asset_ids == listed(*numbers).asset_ids
    assert re.match(lack, found.lack)


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param([page(1, 2), page(3, 4), page(5), page()], id="without totals"),
        pytest.param([page(1, 2), page(3, 4), page(5), page(5)], id="the last for those beyond"),
        pytest.param([page(1, 2, totalCount=5), page(3, 4, totalCount=5), page(5, totalCount=5)], id="a total"),
        pytest.param([page(1, 2, totalPage=3), page(3, 4, totalPage=3), page(5, totalPage=3)], id="so many pages"),
    ],
)
async def test_pages_smaller_than_asked_for_are_no_end(standin: MediaIntelligenceStandin, pages: list[Any]) -> None:
    """A server may send fewer assets a page than it is asked for: those on later pages are there all the same."""
    for number, body in enumerate(pages, 1):
        answer(standin, f"pageNum={number}&", body)
    async with adapter(standin, page_size=100) as upstream:
        assert await upstream.enumerate() == listed(1, 2, 3, 4, 5)
    assert standin.requests.count(LIST_CALL) == len(pages)


async def test_a_list_that_repeats_itself_is_left(standin: MediaIntelligenceStandin) -> None:
    """A server that answers every page with the first is not asked for ever, and the list is not taken as complete."""
    standin.faults.add(path=LIST_CALL, body=json.dumps(page(1, 2)), content_type="application/json")
    async with adapter(standin, page_size=2) as upstream:
        found = await upstream.enumerate()
    assert (found.asset_ids, "repeat" in found.lack) == (listed(1, 2).asset_ids, True)
    assert standin.requests.count(LIST_CALL) == AGAIN_MAX + 2


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"code": "0", "result": {"content": [{"assetName": "x"}]}}, id="not one id"),
        pytest.param({"code": "0", "result": {"content": None, "totalCount": 2}}, id="no content of two"),
        pytest.param({"code": "0", "result": {"content": None}}, id="no content and no total"),
        pytest.param({"code": "0", "result": {"content": {}, "totalCount": 0}}, id="an object"),
        pytest.param({"code": "0", "result": None}, id="no result"),
        pytest.param({"code": "10001", "message": "Invalid Request."}, id="error with 200"),
    ],
)
async def test_another_document_is_no_list(standin: MediaIntelligenceStandin, body: Any) -> None:
    """What is no list, or has items and not one id, is a BadAnswer, never an empty list."""
    answer(standin, "pageNum=1&", body)
    async with adapter(standin, page_size=2) as upstream:
        with pytest.raises(BadAnswer):
            await upstream.enumerate()
    assert standin.requests.count(LIST_CALL) == 1


@pytest.mark.parametrize("totals", [{}, {"totalPage": 10**9}, {"totalCount": 10**9, "totalPage": 10**9}])
async def test_a_list_without_an_end_is_left(standin: MediaIntelligenceStandin, totals: dict[str, int]) -> None:
    """Beyond twice assets_max no further page is asked for, whatever the list says of its end, and whoever wants it."""

    def without_end() -> None:
        for number in range(1, 9):
            answer(standin, f"pageNum={number}&", page(*range(10 * number, 10 * number + 10), **totals))

    async with adapter(standin, page_size=10, assets_max=20) as upstream:
        without_end()
        with pytest.raises(BadAnswer, match="more than 2 x assets_max = 40"):
            await upstream.enumerate()
        assert standin.requests.count(LIST_CALL) == 5
        standin.faults.clear()
        standin.faults.add(path="import-status", status=404, body="")
        without_end()
        with pytest.raises(BadAnswer, match="more than 2 x assets_max"):
            await upstream.observe([ASSET])
    assert standin.requests.count(LIST_CALL) == 10


async def test_enumerate_without_totals(standin: MediaIntelligenceStandin) -> None:
    """Where a list tells no totals, the first page that is not full is the last."""
    answer(standin, "pageNum=1&", page(1, 2))
    answer(standin, "pageNum=2&", page(3))
    async with adapter(standin, page_size=2) as upstream:
        assert await upstream.enumerate() == listed(1, 2, 3)


async def test_enumerate_fails_whole(standin: MediaIntelligenceStandin) -> None:
    """One project that cannot be listed fails the whole enumeration."""
    standin.faults.add(path="/projects/1235/", status=500, body="broken")
    async with adapter(standin, projects=(PROJECT, "my-workspace/1235")) as upstream:
        with pytest.raises(Unreachable):
            await upstream.enumerate()


async def test_enumerate_nothing(standin: MediaIntelligenceStandin) -> None:
    """Without projects there is nothing to list, and nobody is asked."""
    async with adapter(standin, projects=()) as upstream:
        assert await upstream.enumerate() == listed()
    assert standin.requests.count() == 0


@pytest.mark.parametrize("unknown", [400, 404])
async def test_probe_without_projects(standin: MediaIntelligenceStandin, unknown: int) -> None:
    """Without a project the probe asks for an asset that cannot be: that it is unknown is a signed, readable answer."""
    standin.switch({"unknown_asset_status": unknown})
    async with adapter(standin, projects=()) as upstream:
        await upstream.probe()
    assert [logged.status for logged in standin.requests.all()] == [unknown]


async def test_probe_without_projects_fails(standin: MediaIntelligenceStandin) -> None:
    """It fails on what is not Media Intelligence, and on refused keys."""
    async with adapter(standin, projects=()) as upstream:
        standin.faults.add(path=STATUS_CALL, times=1, body="<html>hello</html>", content_type="text/html")
        with pytest.raises(BadAnswer):
            await upstream.probe()
        answer(standin, STATUS_CALL, {"hello": "world"}, status=404)
        with pytest.raises(BadAnswer):
            await upstream.probe()
        standin.switch({"refuse_with": "not_found"})
        with pytest.raises(BadAnswer, match="base_url"):
            await upstream.probe()
    async with adapter(standin, projects=(), secret_key="SK_OTHER") as upstream:
        with pytest.raises(Refused):
            await upstream.probe()


async def test_the_clock_is_the_machines() -> None:
    """Without a clock of the caller's, signatures carry the machine's time."""
    standin = MediaIntelligenceStandin(clock=time.time)
    standin.put(ASSET, {"uploadStatus": "COMPLETED"})
    await standin.start()
    upstream = MediaIntelligence("mi", configured(standin))
    try:
        [observation] = await upstream.observe([ASSET])
        assert observed(observation).state is State.AVAILABLE
    finally:
        await upstream.close()
        await standin.stop()


@pytest.mark.parametrize("status", [202, 204, 206, 402, 404, 409, 410, 423, 451])
@pytest.mark.parametrize("body", [b"", b"nothing here", b"<html>x</html>", b"[]"])
def test_what_is_no_answer_of_it_is_told_by_its_status(status: int, body: bytes) -> None:
    """That it is no JSON says nothing of what it is."""
    with pytest.raises(BadAnswer, match=f"^HTTP {status}: not an answer of Media Intelligence; check base_url$"):
        media_intelligence.page_of(Reply(status, {}, body), 1, 10)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, {"code": "10001", "message": "Invalid Request."}, "HTTP 400 with code 10001: Invalid Request."),
        (400, {"code": "LOCKED", "message": "being moved"}, "HTTP 400 with code unknown: LOCKED: being moved"),
        (200, {"code": "20001", "message": "Try later"}, "HTTP 200 with code 20001: Try later"),
        (200, {"error": {"errorCode": "400", "message": "of May"}}, "HTTP 200, code 400: Quota Exceeded: of May"),
        (429, {"error": {"errorCode": "400", "message": "Quota Exceeded"}}, "HTTP 429, code 400: Quota Exceeded"),
        (
            429,
            {"error": {"errorCode": "400", "message": "Quota Exceeded", "details": "1000 a day"}},
            "HTTP 429, code 400: Quota Exceeded: 1000 a day",
        ),
        (500, {"status": 500, "error": "Internal", "message": "disk full"}, "HTTP 500: disk full: Internal"),
        (403, {"responseError": {"returnCode": "77", "returnMessage": "not subscribed"}}, "a right: not subscribed"),
    ],
)
async def test_its_own_words_are_told(
    standin: MediaIntelligenceStandin, status: int, body: dict[str, Any], told: str
) -> None:
    """What the gateway or the product says of what went wrong is in the failure, of reads and of lists."""
    async with adapter(standin) as upstream:
        for call in (lambda: upstream.observe([ASSET]), upstream.enumerate):
            standin.faults.clear()
            for path in ("import-status", LIST_CALL):
                answer(standin, path, body, status=status)
            with pytest.raises(UpstreamError) as caught:
                await call()
            if status == 400 and call is not upstream.enumerate and body["code"] == "LOCKED":
                continue  # such a one may be of no asset: the list is asked, and tells
            assert str(caught.value).endswith(told)
            assert told.endswith(caught.value.said)


async def test_signatures_of_slow_calls_are_no_words(standin: MediaIntelligenceStandin) -> None:
    """Also where many calls were signed before the answer came, an echo of its signature is blotted out."""
    async with adapter(standin) as upstream:
        signatures: list[str] = []

        async def raw(_: str, path: str, *, headers: dict[str, str]) -> Reply:
            signatures.append(headers[media_intelligence.SIGNATURE_HEADER])
            if len(signatures) < 40:
                with contextlib.suppress(UpstreamError):
                    await upstream.observe([f"{PROJECT}/{len(signatures)}"])
            said = f"you sent {headers[media_intelligence.SIGNATURE_HEADER]}"
            return Reply(400, {}, json.dumps({"code": "10001", "message": said}).encode())

        upstream._transport.raw = raw  # type: ignore[method-assign,assignment]  # the order of calls is the test's
        with pytest.raises(AssetRejected) as caught:
            await upstream.observe([ASSET])
    assert len(signatures) == 40
    assert str(caught.value) == f"HTTP 400 with code 10001: you sent {MASK}"
