"""The Media Intelligence stand-in, asked by a bare HTTP client over real sockets."""

import asyncio
import base64
import hashlib
import hmac
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
from yarl import URL

from assetwatch_sandbox.media_intelligence import MediaIntelligenceStandin, sign
from assetwatch_sandbox.standin import SwitchValueError, UnknownSwitchError
from support.clock import Clock

NOW_S = 1_700_000_000.0
STATUS = "/api/v1/workspaces/my-workspace/projects/1234/assets/5678/import-status"
LIST = "/api/v1/workspaces/my-workspace/projects/1234/assets"
ASSET = "my-workspace/1234/5678"
VECTORS = [
    ("POST", "/vserver/v2/createServerInstances?regionCode=KR", "xBcE26XFU55BMjppdPT7ZY3oDrqoOedfPyAn3Cq4lUw="),
    ("GET", STATUS, "0uM5v000kABXThp1YhM8EU6yX/PR5TTgQrLLhc11p2Y="),
    ("GET", f"{LIST}?pageNum=1&pageSize=100", "BfPlgAgqlCQevP6lGKiONTSPmB3bUcfysa8+Lor9V5Q="),
]


class Caller:
    """A signing client written from the published rule, apart from the stand-in's own code."""

    def __init__(self, session: aiohttp.ClientSession, standin: MediaIntelligenceStandin) -> None:
        self.session = session
        self.standin = standin

    def headers(self, method: str, path: str, *, secret: str = "SK_TEST", at_s: float = NOW_S) -> dict[str, str]:
        """Return the four headers every call carries."""
        stamp = str(int(at_s * 1000))
        digest = hmac.digest(secret.encode(), f"{method} {path}\n{stamp}\nAK_TEST".encode(), hashlib.sha256)
        return {
            "x-ncp-apigw-timestamp": stamp,
            "x-ncp-iam-access-key": "AK_TEST",
            "x-ncp-apigw-signature-v2": base64.b64encode(digest).decode(),
            "Content-Type": "application/json",
            "Accept": "application/json",
        }

    async def call(
        self, path: str, method: str = "GET", *, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Send one request, path and query untouched; return status, body and headers."""
        headers = self.headers(method, path) if headers is None else headers
        url = URL(self.standin.url + path, encoded=True)
        skip = [] if "Content-Type" in headers else ["Content-Type"]
        async with self.session.request(
            method, url, headers=headers, json=body, skip_auto_headers=skip, allow_redirects=False
        ) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else await answer.text(), answer.headers


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW_S)


@pytest.fixture
async def caller(clock: Clock) -> AsyncIterator[Caller]:
    standin = MediaIntelligenceStandin(clock=clock)
    await standin.start()
    async with aiohttp.ClientSession() as session:
        yield Caller(session, standin)
    await standin.stop()


REFUSED = {"error": {"errorCode": "200", "message": "Authentication Failed"}}


@pytest.mark.parametrize(("method", "path", "signature"), VECTORS)
def test_published_vectors(method: str, path: str, signature: str) -> None:
    """The stand-in's signature and one computed here from the rule alone both equal the published one."""
    digest = hmac.digest(b"SK_TEST", f"{method} {path}\n1700000000000\nAK_TEST".encode(), hashlib.sha256)
    assert base64.b64encode(digest).decode() == signature
    assert sign(method, path, timestamp="1700000000000", access_key="AK_TEST", secret_key="SK_TEST") == signature


async def test_published_vector_is_let_in(caller: Caller) -> None:
    """A request that carries the published signature is answered with the envelope and an integer id."""
    caller.standin.put(ASSET, {"uploadStatus": "COMPLETED", "metaData": {"resolution": "1920x1080", "size": 7}})
    headers = caller.headers("GET", STATUS) | {"x-ncp-apigw-signature-v2": VECTORS[1][2]}
    status, body, answered = await caller.call(STATUS, headers=headers)
    assert status == 200
    assert body == {
        "code": "0",
        "message": "success",
        "result": {
            "assetId": 5678,
            "uploadStatus": "COMPLETED",
            "uploadResult": "Video copy completed",
            "metaData": {"resolution": "1920x1080", "size": 7},
        },
    }
    assert answered["x-ncp-request-id"]


@pytest.mark.parametrize("header", ["x-ncp-apigw-timestamp", "x-ncp-iam-access-key", "x-ncp-apigw-signature-v2"])
@pytest.mark.parametrize("value", [None, "", "other", "1700000000001"])
async def test_each_signed_header_counts(caller: Caller, header: str, value: str | None) -> None:
    """A header that is missing or altered is refused in the gateway's form."""
    headers = caller.headers("GET", STATUS)
    headers.pop(header) if value is None else headers.update({header: value})
    assert (await caller.call(STATUS, headers=headers))[:2] == (401, REFUSED)


async def test_wrong_secret_path_or_method(caller: Caller) -> None:
    """The signature covers the secret, the path with its query in the order sent, and the method."""
    caller.standin.put(ASSET, {})
    page = f"{LIST}?pageNum=1&pageSize=100"
    for headers in (
        caller.headers("GET", page, secret="SK_OTHER"),
        caller.headers("GET", f"{LIST}?pageSize=100&pageNum=1"),
        caller.headers("GET", LIST),
        caller.headers("POST", page),
    ):
        assert (await caller.call(page, headers=headers))[:2] == (401, REFUSED)


async def test_signature_covers_the_escaped_path(caller: Caller) -> None:
    """A path is signed as sent: the decoded form of the same path does not fit, the escaped one does."""
    escaped = "/api/v1/workspaces/my-workspace/projects/12%334/assets?pageNum=%31"
    decoded = f"{LIST}?pageNum=1"
    assert (await caller.call(escaped))[0] == 200
    assert (await caller.call(escaped, headers=caller.headers("GET", decoded)))[0] == 401


async def test_signature_covers_an_empty_query(caller: Caller) -> None:
    """Even a bare question mark is part of the path as received."""
    caller.standin.put(ASSET, {})
    request = b"GET %b HTTP/1.1\r\nHost: mi\r\nConnection: close\r\n%b\r\n"
    for signed, status in ((f"{STATUS}?", b"200"), (STATUS, b"401")):
        headers = "".join(f"{name}: {value}\r\n" for name, value in caller.headers("GET", signed).items())
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(caller.standin.url).port)
        writer.write(request % (f"{STATUS}?".encode(), headers.encode()))
        assert (await reader.read()).split()[1] == status
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(("skew_s", "status"), [(300, 200), (-300, 200), (300.001, 401), (-300.001, 401)])
async def test_clock_skew(caller: Caller, clock: Clock, skew_s: float, status: int) -> None:
    """A timestamp up to five minutes off by the stand-in's own clock is let in, one further is refused."""
    caller.standin.put(ASSET, {})
    headers = caller.headers("GET", STATUS)
    clock.now_s += skew_s
    assert (await caller.call(STATUS, headers=headers))[0] == status


async def test_content_type_is_required(caller: Caller) -> None:
    """A GET without Content-Type is refused, unless the switch lets it pass."""
    caller.standin.put(ASSET, {})
    headers = caller.headers("GET", STATUS)
    del headers["Content-Type"]
    assert (await caller.call(STATUS, headers=headers))[1]["error"]["errorCode"] == "100"
    caller.standin.switch({"missing_content_type_is_400": False})
    assert (await caller.call(STATUS, headers=headers))[0] == 200


@pytest.mark.parametrize("state", ["IN_PROGRESS", "COMPLETED", "FAILED", "FILE_NOT_EXIST", "INVALID_METADATA", "NEW"])
async def test_every_upload_state(caller: Caller, state: str) -> None:
    """Each of the five states, and one nobody listed, is told as it is, with HTTP 200 and code "0"."""
    caller.standin.put(ASSET, {"uploadStatus": "FAILED" if state != "FAILED" else "COMPLETED"})
    caller.standin.put(ASSET, {"uploadStatus": state})
    status, body, _ = await caller.call(STATUS)
    assert (status, body["code"], body["result"]["uploadStatus"]) == (200, "0", state)
    assert ("uploadResult" in body["result"]) == (state != "NEW")


async def test_optional_members_can_be_left_out(caller: Caller) -> None:
    """Members set to null are absent, and one switch leaves only the status."""
    caller.standin.put(ASSET, {"uploadResult": None, "metaData": None})
    assert (await caller.call(STATUS))[1]["result"] == {"assetId": 5678, "uploadStatus": "IN_PROGRESS"}
    caller.standin.switch({"only_upload_status": True})
    assert (await caller.call(STATUS))[1]["result"] == {"uploadStatus": "IN_PROGRESS"}


@pytest.mark.parametrize(("form", "told"), [("png", {"durationMs": 0}), ("mp4", {})])
async def test_duration_of_an_image(caller: Caller, form: str, told: dict[str, int]) -> None:
    """Without a duration of its own an image has none, or 0 by switch, in its status and in lists; a video has none."""
    caller.standin.put(ASSET, {"metaData": {"format": form, "size": 1}})
    assert (await caller.call(STATUS))[1]["result"]["metaData"] == {"format": form, "size": 1}
    caller.standin.switch({"image_duration": "zero"})
    assert (await caller.call(STATUS))[1]["result"]["metaData"] == {"format": form, "size": 1, **told}
    (item,) = (await caller.call(LIST + "?pageNum=1"))[1]["result"]["content"]
    assert item["metaData"] == {"format": form, "size": 1, **told}


async def test_deprecated_twin(caller: Caller) -> None:
    """The video-assets paths say videoId and videoName where the current ones say assetId and assetName."""
    caller.standin.put(ASSET, {"uploadStatus": "COMPLETED", "name": "intro.mp4"})
    twin = STATUS.replace("/assets/", "/video-assets/")
    result = (await caller.call(twin))[1]["result"]
    assert (result["videoId"], "assetId" in result) == (5678, False)
    listed = (await caller.call(LIST.replace("/assets", "/video-assets") + "?pageNum=1"))[1]["result"]["content"][0]
    assert (listed["videoId"], listed["videoName"], listed["projectId"]) == (5678, "intro.mp4", 1234)


async def test_unknown_asset(caller: Caller) -> None:
    """An asset nobody registered is 404 with the invented code, or 400 by switch; an id that is no number is 10001."""
    unknown = {"code": "10404", "message": "Asset not found."}
    assert (await caller.call(STATUS))[:2] == (404, unknown)
    caller.standin.switch({"unknown_asset_status": 400})
    assert (await caller.call(STATUS))[:2] == (400, unknown)
    caller.standin.switch({"product_error_form": "wrapped"})
    assert (await caller.call(STATUS))[:2] == (400, {"responseError": unknown})
    no_number = STATUS.replace("5678", "abc")
    assert (await caller.call(no_number))[1]["responseError"] == {"code": "10001", "message": "Invalid Request."}


async def test_list_pages(caller: Caller) -> None:
    """Pages are asked for as pageNum and answered as pageNo; the last is short, one past it is empty."""
    for number in range(1, 6):
        caller.standin.put(f"my-workspace/1234/{number}", {"name": f"{number}.png", "metaData": {"format": "png"}})
    pages = [(await caller.call(f"{LIST}?pageNum={number}&pageSize=2"))[1]["result"] for number in (1, 2, 3, 4)]
    assert [[item["assetId"] for item in page["content"]] for page in pages] == [[1, 2], [3, 4], [5], []]
    assert {key: pages[1][key] for key in ("totalCount", "totalPage", "pageNo", "pageSize")} == {
        "totalCount": 5,
        "totalPage": 3,
        "pageNo": 2,
        "pageSize": 2,
    }
    assert "pageNum" not in pages[0]
    assert pages[0]["content"][0] == {
        "assetId": 1,
        "assetName": "1.png",
        "projectId": 1234,
        "type": "IMAGE",
        "metaData": {"format": "png"},
    }


@pytest.mark.parametrize("query", ["", "?pageNum=0", "?pageNum=x", "?pageNum=1&pageSize=0", "?pageNum=1&pageSize=1001"])
async def test_list_refuses_bad_pages(caller: Caller, query: str) -> None:
    """A pageNum is required and counts from 1; pageSize is 1 to 1000."""
    assert (await caller.call(LIST + query))[:2] == (400, {"code": "10001", "message": "Invalid Request."})


async def test_list_defaults_and_empty_project(caller: Caller) -> None:
    """The default page holds 1000; a project nobody knows is an empty page."""
    for number in range(1001):
        caller.standin.put(f"my-workspace/1234/{number}", {})
    result = (await caller.call(f"{LIST}?pageNum=1"))[1]["result"]
    assert (len(result["content"]), result["pageSize"], result["totalPage"]) == (1000, 1000, 2)
    empty = (await caller.call(f"{LIST.replace('1234', '9')}?pageNum=1"))[1]["result"]
    assert (empty["content"], empty["totalCount"], empty["totalPage"]) == ([], 0, 0)


async def test_list_switches(caller: Caller) -> None:
    """Items carry uploadStatus and another name member only when switched so."""
    caller.standin.put(ASSET, {"name": "a.mp4", "uploadStatus": "FAILED"})
    caller.standin.switch({"list_upload_status": True, "list_name_field": "name"})
    item = (await caller.call(f"{LIST}?pageNum=1"))[1]["result"]["content"][0]
    assert (item["uploadStatus"], item["name"], "assetName" in item) == ("FAILED", "a.mp4", False)


async def test_workspaces_and_projects_are_listed(caller: Caller) -> None:
    """Workspaces and the projects of one come in pages too."""
    caller.standin.put(ASSET, {})
    caller.standin.put("my-workspace/77/1", {})
    caller.standin.put("other/5/2", {})
    workspaces = (await caller.call("/api/v1/workspaces?pageNum=1&pageSize=10"))[1]["result"]
    assert [item["workspaceName"] for item in workspaces["content"]] == ["my-workspace", "other"]
    projects = (await caller.call("/api/v1/workspaces/my-workspace/projects"))[1]["result"]
    assert [item["projectId"] for item in projects["content"]] == ["1234", "77"]


async def test_register_then_ask(caller: Caller) -> None:
    """A file registered from object storage gets a number, and is in progress from then on."""
    path = f"{LIST}/import/object-storage"
    status, body, _ = await caller.call(path, "POST", body={"key": "in/intro.mp4", "bucketName": "b"})
    number = body["result"]["assetId"]
    assert (status, body["result"]["createUserName"]) == (200, "sandbox-user")
    result = (await caller.call(STATUS.replace("5678", str(number))))[1]["result"]
    assert (result["assetId"], result["uploadStatus"]) == (number, "IN_PROGRESS")
    assert caller.standin.asset_ids() == [f"my-workspace/1234/{number}"]
    assert caller.standin.truth[-1].state == caller.standin.get(f"my-workspace/1234/{number}")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"key": "a"}, "10001"),
        ({"bucketName": "b"}, "10001"),
        ({"key": 3, "bucketName": "b"}, "10001"),
        ([], "10001"),
        (None, "10001"),
        ({"key": "folder/", "bucketName": "b"}, "10016"),
    ],
)
async def test_register_refuses(caller: Caller, body: Any, code: str) -> None:
    """Key and bucket are both required, and a folder is refused."""
    status, answer, _ = await caller.call(f"{LIST}/import/object-storage", "POST", body=body)
    assert (status, answer["code"], caller.standin.asset_ids()) == (400, code, [])


async def test_analysis_is_a_machine_of_its_own(caller: Caller) -> None:
    """Analysis starts on a registered asset only, and its states say nothing about registration."""
    analyze, status_path = STATUS.replace("import-status", "analyze"), STATUS.replace("import-status", "analyze-status")
    caller.standin.put(ASSET, {})
    assert (await caller.call(analyze, "POST"))[1]["code"] == "10014"
    caller.standin.put(ASSET, {"uploadStatus": "COMPLETED"})
    assert (await caller.call(status_path))[1]["result"] == {"assetId": 5678, "status": "BEFORE_ANALYZE"}
    assert (await caller.call(analyze, "POST"))[0] == 200
    assert (await caller.call(status_path))[1]["result"]["status"] == "WAIT_ANALYZE"
    caller.standin.put(ASSET, {"analyzeStatus": "ANALYZE_COMPLETED"})
    assert "indexId" in (await caller.call(status_path))[1]["result"]
    assert (await caller.call(STATUS))[1]["result"]["uploadStatus"] == "COMPLETED"


@pytest.mark.parametrize("field", ["analyzeStatusMessage", "analysisStatusMessage"])
async def test_analysis_message_has_two_names(caller: Caller, field: str) -> None:
    """The reason text is told under either published name."""
    caller.standin.switch({"analyze_message_field": field})
    caller.standin.put(ASSET, {"analyzeStatus": "ANALYZE_FAIL", "analyzeMessage": "no audio"})
    result = (await caller.call(STATUS.replace("import-status", "analyze-status")))[1]["result"]
    assert result == {"assetId": 5678, "status": "ANALYZE_FAIL", field: "no audio"}


GATEWAY_TABLE = [
    ("bad_request", 400, "100", "Bad Request Exception"),
    ("authentication_failed", 401, "200", "Authentication Failed"),
    ("permission_denied", 401, "210", "Permission Denied"),
    ("not_found", 404, "300", "Not Found Exception"),
    ("request_entity_too_large", 413, "430", "Request Entity Too Large"),
    ("quota_exceeded", 429, "400", "Quota Exceeded"),
    ("throttle_limited", 429, "410", "Throttle Limited"),
    ("rate_limited", 429, "420", "Rate Limited"),
    ("endpoint_error", 503, "500", "Endpoint Error"),
    ("endpoint_timeout", 504, "510", "Endpoint Timeout"),
    ("unexpected_error", 500, "900", "Unexpected Error"),
]


@pytest.mark.parametrize(("refusal", "status", "code", "message"), GATEWAY_TABLE)
async def test_gateway_table(caller: Caller, refusal: str, status: int, code: str, message: str) -> None:
    """Every published refusal can be asked for, with its own pair of HTTP status and code."""
    caller.standin.switch({"refuse_with": refusal})
    body = {"error": {"errorCode": code, "message": message}}
    assert (await caller.call(STATUS))[:2] == (status, body)


@pytest.mark.parametrize(
    ("error", "code"), [("too_many_assets", "10023"), ("base_project", "10027"), ("select_bucket", "10016")]
)
async def test_product_table(caller: Caller, error: str, code: str) -> None:
    """Product errors can be asked for too, in the product's own form."""
    caller.standin.switch({"refuse_with": error})
    status, body, _ = await caller.call(STATUS)
    assert (status, body["code"], sorted(body)) == (400, code, ["code", "message"])


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("nested_details", {"error": {"errorCode": "200", "message": "Authentication Failed", "details": None}}),
        ("response_error", {"responseError": {"returnCode": "200", "returnMessage": "Authentication Failed"}}),
        ("flat", {"errorCode": "200", "message": "Authentication Failed"}),
        (
            "timestamped",
            {
                "timestamp": "2023-11-14T22:13:20.000+00:00",
                "status": 401,
                "error": "Unauthorized",
                "message": "Authentication Failed",
            },
        ),
    ],
)
async def test_gateway_envelopes(caller: Caller, form: str, body: dict[str, Any]) -> None:
    """A refusal can take every envelope seen on the platform."""
    caller.standin.switch({"gateway_error_form": form, "refuse_with": "authentication_failed"})
    status, answered, _ = await caller.call(STATUS)
    if form == "nested_details":
        answered["error"]["details"] = None
    assert (status, answered) == (401, body)


async def test_error_code_as_integer(caller: Caller) -> None:
    """The code is a quoted string, or the integer its table lists."""
    caller.standin.switch({"error_code_as_integer": True, "refuse_with": "rate_limited"})
    assert (await caller.call(STATUS))[1]["error"]["errorCode"] == 420


@pytest.mark.parametrize(
    ("body_switch", "accept", "content_type", "start"),
    [
        ("by_accept", "application/json", "application/json", "{"),
        ("by_accept", "*/*", "application/xml", '<?xml version="1.0" encoding="UTF-8"?><error><errorCode>200<'),
        ("text", "application/json", "text/plain", "Authentication Failed"),
        ("html", "application/json", "text/html", "<html>"),
        ("json", "*/*", "application/json", "{"),
    ],
)
async def test_refusal_formats(caller: Caller, body_switch: str, accept: str, content_type: str, start: str) -> None:
    """A refusal is JSON for a caller that asks for it, XML for one that does not, text or HTML by switch."""
    caller.standin.switch({"gateway_body": body_switch})
    async with caller.session.get(caller.standin.url + STATUS, headers={"Accept": accept}) as answer:
        assert (answer.status, answer.content_type) == (401, content_type)
        assert (await answer.text()).startswith(start)


async def test_rate_limit(caller: Caller, clock: Clock) -> None:
    """Calls over the limit of a second are 429 with the code and Retry-After switched on; the next second is free."""
    caller.standin.put(ASSET, {})
    caller.standin.switch({"rate_limit_per_s": 2, "rate_limit_refusal": "throttle_limited", "retry_after_s": 3})
    answers = [await caller.call(STATUS) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert answers[2][1]["error"]["errorCode"] == "410"
    assert (answers[2][2]["Retry-After"], "Retry-After" in answers[0][2]) == ("3", False)
    clock.now_s += 1
    assert (await caller.call(STATUS))[0] == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/v2/workspaces"), ("DELETE", STATUS), ("HEAD", STATUS)])
async def test_no_such_call(caller: Caller, method: str, path: str) -> None:
    """A path or method nobody published is the gateway's 404."""
    status, body, _ = await caller.call(path, method)
    assert status == 404
    assert method == "HEAD" or body == {"error": {"errorCode": "300", "message": "Not Found Exception"}}


async def test_put_get_remove(caller: Caller) -> None:
    """A put keeps what it does not name; truth gains a line a change and none for a put that changes nothing."""
    standin = caller.standin
    held = standin.put(ASSET, {"uploadStatus": "FAILED", "uploadResult": "disk full", "name": "x.mov"})
    assert standin.put(ASSET, {"name": "y.mov"}) == held | {"name": "y.mov"} == standin.get(ASSET)
    standin.put(ASSET, {"name": "y.mov"})
    standin.remove(ASSET)
    assert [line.asset_id for line in standin.truth] == [ASSET] * 3
    assert standin.truth[-1].state is None
    assert (standin.get(ASSET), standin.asset_ids()) == (None, [])
    assert (await caller.call(STATUS))[0] == 404
    with pytest.raises(KeyError):
        standin.remove(ASSET)


@pytest.mark.parametrize(
    ("asset_id", "native"),
    [
        ("my-workspace/1234/abc", {}),
        ("my-workspace/1234", {}),
        ("My_Workspace/1234/1", {}),
        (ASSET, {"status": "COMPLETED"}),
        (ASSET, {"uploadStatus": 3}),
        (ASSET, {"metaData": "1920x1080"}),
    ],
)
def test_put_refuses(asset_id: str, native: dict[str, Any]) -> None:
    """An id of another form, an unknown field and a field of the wrong type are refused, and nothing is held."""
    standin = MediaIntelligenceStandin()
    with pytest.raises(ValueError, match="asset"):
        standin.put(asset_id, native)
    assert standin.asset_ids() == []


def test_switches_are_checked() -> None:
    """An unknown switch and an unknown value are refused."""
    with pytest.raises(UnknownSwitchError, match="retry_after_s"):
        MediaIntelligenceStandin(switches={"no_such": 1})
    with pytest.raises(SwitchValueError, match="unknown_asset_status"):
        MediaIntelligenceStandin(switches={"unknown_asset_status": 410})


def test_seed_and_advance() -> None:
    """Seeding is repeatable, and advancing goes through all five states and on to analysis."""
    standins = [MediaIntelligenceStandin() for _ in range(2)]
    for standin in standins:
        rng = random.Random(7)  # noqa: S311 - a scenario, not a secret
        standin.seed(rng, 40)
        for _ in range(2000):
            standin.advance(rng)
    assert [(line.asset_id, line.state) for line in standins[0].truth] == [
        (line.asset_id, line.state) for line in standins[1].truth
    ]
    assert len(standins[0].asset_ids()) == 40
    upload = {line.state["uploadStatus"] for line in standins[0].truth if line.state}
    assert upload == {"IN_PROGRESS", "COMPLETED", "FAILED", "FILE_NOT_EXIST", "INVALID_METADATA"}
    assert {"ANALYZE_COMPLETED", "ANALYZE_FAIL"} <= {
        line.state["analyzeStatus"] for line in standins[0].truth if line.state
    }
