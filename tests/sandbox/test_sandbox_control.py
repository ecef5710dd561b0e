"""The control endpoint: whatever a script wants of a stand-in, by HTTP."""

from __future__ import annotations

import io
import json
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from assetwatch_sandbox import KINDS, Sandbox, catalogue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


CRATE = "s3://studio-assets/props/a crate.usd"
CRATE_PATH = "s3:%2F%2Fstudio-assets%2Fprops%2Fa%20crate.usd"
STATUS = "/info/indexing/asset/status"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    started = Sandbox()
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def http(sandbox: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sandbox.control_url) as session:
        yield session


async def call(http: aiohttp.ClientSession, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
    async with http.request(method, path, json=body) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return await answer.json() if text else None


def test_the_catalogue_has_the_five_kinds() -> None:
    """Each default name leads to a class of its kind."""
    assert {name: kind.kind for name, kind in catalogue().items()} == {
        "usd-search": "usd_search",
        "omn": "omn",
        "pieces": "pieces",
        "media-intelligence": "media_intelligence",
        "oracle-sbc": "oracle_sbc",
    }
    with pytest.raises(KeyError):
        catalogue(["usd_search"])


async def test_overview_tells_where_everything_is(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    """Every stand-in with its address, what a client must know, and its counts."""
    sandbox.seed(1, 3)
    overview = await call(http, "GET", "/")
    assert set(overview) == set(KINDS)
    for name, standin in sandbox.standins.items():
        assert overview[name]["url"] == standin.url
        assert overview[name]["assets"] == len(standin.asset_ids()) > 0
    assert overview["omn"]["credentials"]["token"] == sandbox.standins["omn"].credentials["token"]
    assert await call(http, "GET", "/sources/omn") == overview["omn"]


async def test_an_asset_is_put_read_listed_and_deleted(http: aiohttp.ClientSession) -> None:
    """An id may hold slashes and spaces; what is put is what is held, until it is deleted."""
    path = f"/sources/usd-search/assets/{CRATE_PATH}"
    native = {"plugins": {"thumbnail_generation": {"history": ["load_error"]}}}
    await call(http, "GET", path, status=404)
    held = await call(http, "PUT", path, native)
    assert held["plugins"]["thumbnail_generation"]["history"][0]["status"] == "load_error"
    assert await call(http, "GET", path) == held
    assert await call(http, "GET", "/sources/usd-search/assets") == [CRATE]
    await call(http, "DELETE", path, status=204)
    await call(http, "DELETE", path, status=404)
    truth = (await call(http, "GET", "/sources/usd-search/truth"))["truth"]
    assert [(each["asset_id"], each["state"]) for each in truth] == [(CRATE, held), (CRATE, None)]
    assert truth[0]["time"] <= truth[1]["time"]


async def test_what_cannot_be_put_is_400(http: aiohttp.ClientSession) -> None:
    """A foreign id, an unknown field, a body that is no object or no JSON: refused with the reason."""
    refused = await call(http, "PUT", "/sources/usd-search/assets/s3:%2F%2Felsewhere%2Fa.usd", {}, status=400)
    assert "studio-assets" in refused["error"]
    path = f"/sources/usd-search/assets/{CRATE_PATH}"
    assert "plugin" in (await call(http, "PUT", path, {"plugin": {}}, status=400))["error"]
    assert "object" in (await call(http, "PUT", path, [], status=400))["error"]
    async with http.put(path, data="{") as answer:
        assert answer.status == 400


async def test_faults_are_added_listed_struck_and_cleared(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    """A fault posted strikes the stand-in's next request; a misspelt one is refused whole."""
    path = "/sources/usd-search/faults"
    await call(http, "POST", path, [{"status": 503, "times": 1}, {"delay_ms": 3}], status=400)
    assert await call(http, "GET", path) == []
    await call(http, "POST", path, [{"status": 503, "times": 2}, {"status": 500, "path": "plugins"}], status=201)
    async with http.get(sandbox.standins["usd-search"].url + STATUS) as answer:
        assert answer.status == 503
    assert await call(http, "GET", path) == [{"status": 503, "times": 1}, {"status": 500, "path": "plugins"}]
    await call(http, "DELETE", path, status=204)
    assert await call(http, "GET", path) == []


async def test_a_fault_may_be_large(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    """Megabytes of nested JSON can be scripted as an answer."""
    body = "[" * 2_000_000
    async with http.post("/sources/omn/faults", data=io.BytesIO(json.dumps({"body": body}).encode())) as answer:
        assert answer.status == 201
    async with http.get(sandbox.standins["omn"].url) as answer:
        assert await answer.text() == body


async def test_requests_are_counted_and_forgotten(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    """The log has each request with its status and can be asked by path."""
    url = sandbox.standins["usd-search"].url
    for path in (STATUS, "/info/plugins", "/info/plugins"):
        async with http.get(url + path):
            pass
    assert (await call(http, "GET", "/sources/usd-search"))["requests"] == 3
    logged = await call(http, "GET", "/sources/usd-search/requests?path=plugins$")
    assert logged["count"] == 2
    assert {(each["method"], each["path_qs"], each["status"]) for each in logged["requests"]} == {
        ("GET", "/info/plugins", 200)
    }
    await call(http, "GET", "/sources/usd-search/requests?path=(", status=400)
    await call(http, "DELETE", "/sources/usd-search/requests", status=204)
    assert (await call(http, "GET", "/sources/usd-search/requests"))["count"] == 0


async def test_switches_are_read_and_set(http: aiohttp.ClientSession) -> None:
    """A switch takes its new value; an unknown one is refused with the known names, and none is then set."""
    path = "/sources/omn/switches"
    assert (await call(http, "GET", path))["json_forms"] is False
    assert (await call(http, "PATCH", path, {"json_forms": True}))["json_forms"] is True
    refused = await call(http, "PATCH", path, {"json_forms": False, "jason_forms": True}, status=400)
    assert "json_forms" in refused["error"]
    assert "reply_order" in (await call(http, "PATCH", path, {"reply_order": "any"}, status=400))["error"]
    assert (await call(http, "GET", path))["json_forms"] is True


@pytest.mark.parametrize("name", KINDS)
async def test_down_and_up_keep_the_address(sandbox: Sandbox, http: aiohttp.ClientSession, name: str) -> None:
    """A stand-in that is down refuses connections; up, it listens where it did."""
    url = sandbox.standins[name].url
    assert (await call(http, "POST", f"/sources/{name}/down"))["running"] is False
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(url)
    assert (await call(http, "POST", f"/sources/{name}/up"))["url"] == url
    async with http.get(url) as answer:
        assert answer.status != 200


async def test_unknown_names_are_404_with_the_known_ones(http: aiohttp.ClientSession) -> None:
    """A source or a command that is not there is answered with those that are."""
    assert "usd-search" in (await call(http, "GET", "/sources/usd/assets", status=404))["error"]
    assert "none" in (await call(http, "POST", "/sources/omn/commands/dance", {}, status=404))["error"]
    known = (await call(http, "GET", "/sources/pieces"))["commands"]
    refused = await call(http, "POST", "/sources/pieces/commands/dance", {}, status=404)
    assert all(verb in refused["error"] for verb in known)


async def test_a_command_reaches_its_standin(http: aiohttp.ClientSession) -> None:
    """A verb of the kind is carried out with the body it was sent."""
    await call(http, "POST", "/sources/pieces/commands/drop_streams", {})


async def test_a_taken_port_stops_what_had_started() -> None:
    """When one of them cannot listen, none is left listening."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        sandbox = Sandbox(("usd-search", "omn"))
        with pytest.raises(OSError, match="address already in use"):
            await sandbox.start(ports={"omn": taken.getsockname()[1]})
    assert [standin.running for standin in sandbox.standins.values()] == [False, False]


async def test_switches_and_clock_are_handed_down() -> None:
    """A sandbox gives each stand-in its switches by name, and all of them its clock."""
    sandbox = Sandbox(("usd-search", "omn"), clock=lambda: 0.0, switches={"omn": {"json_forms": True}})
    assert sandbox.standins["omn"].switches.json_forms is True
    assert sandbox.standins["omn"].put("tid:x", {})["modified"] == "1970-01-01T00:00:00.000Z"
