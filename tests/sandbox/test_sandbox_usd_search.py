"""USD Search's stand-in, over raw HTTP and with the vendor's own client, unmodified."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import usd_search_client
from usd_search_client.exceptions import ApiException, BadRequestException

from assetwatch_sandbox.usd_search import UsdSearch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


CRATE = "s3://studio-assets/props/crate.usd"
STATUS = "/info/indexing/asset/status"
NOW = 1_772_615_647.512


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - must be repeatable


@pytest.fixture
async def usd() -> AsyncIterator[UsdSearch]:
    standin = UsdSearch(clock=lambda: NOW)
    await standin.start()
    yield standin
    await standin.stop()


@pytest.fixture
async def http(usd: UsdSearch) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(usd.url) as session:
        yield session


@pytest.fixture
async def vendor(usd: UsdSearch) -> AsyncIterator[usd_search_client.ApiClient]:
    async with usd_search_client.ApiClient(usd_search_client.Configuration(host=usd.url)) as client:
        yield client


async def ask(http: aiohttp.ClientSession, url: str, **query: str) -> Any:
    async with http.get(STATUS, params={"url": url, **query}) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        return await answer.json()


async def test_an_indexed_asset_has_the_published_form(usd: UsdSearch, http: aiohttp.ClientSession) -> None:
    """Field for field: newest history first, server-local text time, absent optionals as nulls."""
    usd.put(CRATE, {"plugins": {"thumbnail_generation": {"history": ["ok", "processing", "queued"]}}})
    body = await ask(http, CRATE)
    file_hash = body["storage_backend_info"]["storage_asset_hash"]
    assert len(file_hash) == 24
    entries = body["plugins_statuses"]["thumbnail_generation"]["plugin_status_history"]
    assert [entry["status"] for entry in entries] == ["ok", "processing", "queued"]
    assert entries[0] == {
        "status": "ok",
        "hash_value": file_hash,
        "processing_timestamp": "2026-03-04 09:14:07.512",
        "exception": None,
    }
    assert body == {
        "url": CRATE,
        "plugins_statuses": {
            "thumbnail_generation": {
                "indexing_status": "in_sync",
                "indexed_asset_hash": file_hash,
                "plugin_status_history": entries,
            }
        },
        "storage_backend_info": {"asset_status": "ok", "storage_asset_hash": file_hash, "metadata": None},
    }


async def test_unknown_file_is_not_an_error(http: aiohttp.ClientSession) -> None:
    """An unknown URL in the bucket is 200, file_not_found and not_found for each plugin that takes its extension."""
    body = await ask(http, "s3://studio-assets/props/nope.png")
    assert body["storage_backend_info"]["asset_status"] == "file_not_found"
    assert body["plugins_statuses"] == {
        "image_to_embedding": {
            "indexing_status": "not_found",
            "indexed_asset_hash": None,
            "plugin_status_history": None,
        }
    }
    assert (await ask(http, "s3://studio-assets/readme.txt"))["plugins_statuses"] == {}


async def test_life_of_an_asset(usd: UsdSearch, http: aiohttp.ClientSession) -> None:
    """not_found, queued, processing, a result in the history, and only then the hash: in_sync."""
    usd.put(CRATE, {"plugins": {"thumbnail_generation": {"indexing_status": "not_found"}}})
    seen = []
    for _ in range(12):
        plugin = (await ask(http, CRATE))["plugins_statuses"]["thumbnail_generation"]
        newest = (plugin["plugin_status_history"] or [{"status": None}])[0]["status"]
        seen.append((plugin["indexing_status"], newest))
        if seen[-1][0] == "in_sync":
            break
        usd.advance(seeded(1))
    assert seen[:3] == [("not_found", None), ("out_of_sync", "queued"), ("out_of_sync", "processing")]
    assert seen[-2][0] == "out_of_sync"
    assert seen[-2][1] == seen[-1][1]
    assert seen[-1][0] == "in_sync"


async def test_in_sync_after_a_failed_attempt(usd: UsdSearch, http: aiohttp.ClientSession) -> None:
    """A plugin that gave up is in_sync with the failure on top of its history."""
    failed = {"status": "failed_retries_exhausted", "exception": "maximum number of attempts reached [5]"}
    usd.put(CRATE, {"plugins": {"rendering_to_embedding": {"history": [failed, "processing"]}}})
    plugin = (await ask(http, CRATE))["plugins_statuses"]["rendering_to_embedding"]
    assert plugin["indexing_status"] == "in_sync"
    assert plugin["plugin_status_history"][0]["exception"] == failed["exception"]


async def test_history_keeps_the_newest_five(usd: UsdSearch, http: aiohttp.ClientSession) -> None:
    """A flapping asset loses its first failure."""
    usd.put(CRATE, {"plugins": {"thumbnail_generation": {"history": ["ok", "processing", "queued"]}}})
    words = ["ok", "processing", "failed", "processing", "failed", "processing", "queued"]
    held: Any = usd.put(CRATE, {"plugins": {"thumbnail_generation": {"history": words}}})
    assert [entry["status"] for entry in held["plugins"]["thumbnail_generation"]["history"]] == words[:5]
    for _ in range(40):
        usd.advance(seeded(3))
    plugin = (await ask(http, CRATE))["plugins_statuses"]["thumbnail_generation"]
    assert len(plugin["plugin_status_history"]) == 5


@pytest.mark.parametrize(
    "status", ["in_sync", "out_of_sync", "not_found", "failed_indexing", "out_of_sync_and_failed_indexing", "newer"]
)
async def test_any_indexing_status_can_be_scripted(usd: UsdSearch, http: aiohttp.ClientSession, status: str) -> None:
    """What a script says is what the status call answers, values the server never emits included."""
    usd.put(CRATE, {"plugins": {"thumbnail_generation": {"indexing_status": status}}})
    assert (await ask(http, CRATE))["plugins_statuses"]["thumbnail_generation"]["indexing_status"] == status


async def test_put_keeps_what_it_does_not_name(usd: UsdSearch) -> None:
    """A later script changes the plugins it names, and null takes one off."""
    usd.put(CRATE, {"plugins": {"thumbnail_generation": {}, "asset_graph_generation": {}}})
    held: Any = usd.put(CRATE, {"plugins": {"thumbnail_generation": {"history": ["load_error"]}}})
    assert held["plugins"]["asset_graph_generation"]["indexing_status"] == "in_sync"
    assert held["plugins"]["thumbnail_generation"]["history"][0]["status"] == "load_error"
    without: Any = usd.put(CRATE, {"plugins": {"thumbnail_generation": None}})
    assert set(without["plugins"]) == {"asset_graph_generation"}
    assert usd.put(CRATE, held)["plugins"] == held["plugins"]


async def test_a_deleted_file_is_remembered_by_the_plugins(usd: UsdSearch, http: aiohttp.ClientSession) -> None:
    """A file that was indexed and has vanished is file_not_found and out_of_sync."""
    usd.put(CRATE, {"plugins": {"thumbnail_generation": {}}})
    usd.remove(CRATE)
    body = await ask(http, CRATE)
    assert body["storage_backend_info"]["asset_status"] == "file_not_found"
    assert body["plugins_statuses"]["thumbnail_generation"]["indexing_status"] == "out_of_sync"
    assert usd.get(CRATE) is None
    assert usd.asset_ids() == []
    assert [change.state is None for change in usd.truth] == [False, True]


async def test_metadata_only_when_asked(usd: UsdSearch, http: aiohttp.ClientSession) -> None:
    """return_asset_metadata adds the storage's record; several spellings of true do."""
    usd.put(CRATE, {"metadata": {"size": 7, "modified_by": "kim"}})
    for word in ("true", "True", "1"):
        metadata = (await ask(http, CRATE, return_asset_metadata=word))["storage_backend_info"]["metadata"]
        assert (metadata["uri"], metadata["size"], metadata["modified_by"]) == (CRATE, 7, "kim")
    assert (await ask(http, CRATE, return_asset_metadata="false"))["storage_backend_info"]["metadata"] is None


async def test_refusals_have_the_published_bodies(http: aiohttp.ClientSession) -> None:
    """422 for parameters, 400 for a foreign URL, 404 for a trailing slash, 405 for another method."""
    async with http.get(STATUS) as answer:
        assert answer.status == 422
        assert await answer.json() == {
            "detail": [{"type": "missing", "loc": ["query", "url"], "msg": "Field required", "input": None}]
        }
    async with http.get(STATUS, params={"url": CRATE, "return_asset_metadata": "perhaps"}) as answer:
        assert answer.status == 422
        assert (await answer.json())["detail"][0]["type"] == "bool_parsing"
    async with http.get(STATUS, params={"url": "s3://other-bucket/a.usd"}) as answer:
        assert answer.status == 400
        assert await answer.json() == {"error": "Invalid URL", "details": "Invalid URL: 's3://other-bucket/a.usd'"}
    async with http.get(STATUS + "/", params={"url": CRATE}) as answer:
        assert (answer.status, await answer.json()) == (404, {"detail": "Not Found"})
    async with http.post(STATUS) as answer:
        assert (answer.status, await answer.json()) == (405, {"detail": "Method Not Allowed"})


async def test_switches_change_what_is_assumed(usd: UsdSearch, http: aiohttp.ClientSession) -> None:
    """Redirecting slash, strict booleans, epoch and zone of time, a backend that is down."""
    usd.put(CRATE, {"plugins": {"thumbnail_generation": {}}})
    usd.switch({"trailing_slash": "redirect", "lenient_booleans": False, "server_utc_offset_minutes": 60})
    async with http.get(STATUS + "/", params={"url": CRATE}, allow_redirects=False) as answer:
        assert answer.status == 307
        assert answer.headers["Location"].startswith(f"{usd.url}{STATUS}?url=")
    async with http.get(STATUS, params={"url": CRATE, "return_asset_metadata": "True"}) as answer:
        assert answer.status == 422
    newest = (await ask(http, CRATE))["plugins_statuses"]["thumbnail_generation"]["plugin_status_history"][0]
    assert newest["processing_timestamp"] == "2026-03-04 10:14:07.512"
    usd.switch({"timestamps": "epoch"})
    newest = (await ask(http, CRATE))["plugins_statuses"]["thumbnail_generation"]["plugin_status_history"][0]
    assert newest["processing_timestamp"] == NOW
    usd.switch({"outage": "cache"})
    async with http.get(STATUS, params={"url": CRATE}) as answer:
        assert (answer.status, (await answer.json())["error"]) == (501, "Redis Cache unavailable")
    usd.switch({"outage": "unhandled"})
    async with http.get(STATUS, params={"url": CRATE}) as answer:
        assert (answer.status, answer.content_type) == (500, "text/plain")
        assert await answer.text() == "Internal Server Error"
    usd.switch({"unhandled_body": "json"})
    async with http.get(STATUS, params={"url": CRATE}) as answer:
        assert (answer.status, await answer.json()) == (500, {"detail": "Internal Server Error"})


async def test_an_ingress_asks_for_the_credential_its_switch_names(usd: UsdSearch, http: aiohttp.ClientSession) -> None:
    """Each scheme admits its own credential, refuses none and a wrong one, and answers in HTML."""
    known = usd.credentials
    right: dict[str, dict[str, str]] = {
        "basic": {"Authorization": aiohttp.encode_basic_auth(known["username"], known["password"])},
        "bearer": {"Authorization": f"Bearer {known['token']}"},
        "api_key": {"x-api-key": known["api_key"]},
    }
    for scheme, headers in right.items():
        usd.switch({"auth": scheme})
        wrong = {name: value[:-1] + "!" for name, value in headers.items()}
        for sent, status in ((headers, 200), (wrong, 401), ({}, 401)):
            async with http.get(STATUS, params={"url": CRATE}, headers=sent) as answer:
                assert answer.status == status, scheme
                assert answer.content_type == ("application/json" if status == 200 else "text/html")
    usd.switch({"refusal_status": 403})
    async with http.get(STATUS, params={"url": CRATE}) as answer:
        assert answer.status == 403


async def test_process_clears_the_hash_and_adds_no_history(usd: UsdSearch, http: aiohttp.ClientSession) -> None:
    """Re-queueing shows out_of_sync beside the old newest entry, until a worker starts."""
    usd.put(CRATE, {"plugins": {"thumbnail_generation": {}}})
    params = [("url", CRATE), ("plugins", "thumbnail_generation")]
    async with http.get("/process/asset", params=params) as answer:
        assert (answer.status, (await answer.json())["plugins"]) == (200, ["thumbnail_generation"])
    plugin = (await ask(http, CRATE))["plugins_statuses"]["thumbnail_generation"]
    assert (plugin["indexing_status"], plugin["indexed_asset_hash"]) == ("out_of_sync", None)
    assert plugin["plugin_status_history"][0]["status"] == "ok"
    usd.advance(seeded(0))
    plugin = (await ask(http, CRATE))["plugins_statuses"]["thumbnail_generation"]
    assert plugin["plugin_status_history"][0]["status"] == "processing"


async def test_process_refuses_what_it_cannot_queue(usd: UsdSearch, http: aiohttp.ClientSession) -> None:
    """A missing asset, a type no plugin takes, a foreign URL are 400; an unknown plugin or priority is 422."""
    usd.put("s3://studio-assets/notes.txt", {})
    cases = [
        ({"url": CRATE}, 400, "Asset missing"),
        ({"url": "s3://studio-assets/notes.txt"}, 400, "Empty plugin list."),
        ({"url": "s3://other-bucket/a.usd"}, 400, "Invalid URL"),
        ({"url": CRATE, "plugins": "novel"}, 422, None),
        ({"url": CRATE, "priority": "urgent"}, 422, None),
        ({}, 422, None),
    ]
    for query, status, error in cases:
        async with http.get("/process/asset", params=query) as answer:
            assert (answer.status, (await answer.json()).get("error")) == (status, error)


async def test_vendor_client_submits_for_processing(usd: UsdSearch, vendor: usd_search_client.ApiClient) -> None:
    """The vendor's client can re-queue an asset, plugins by its own enumeration."""
    usd.put(CRATE, {})
    await usd_search_client.AssetApi(vendor).submit_for_processing_process_asset_get(
        url=CRATE, plugins=[usd_search_client.Plugins.THUMBNAIL_GENERATION]
    )
    held: Any = usd.get(CRATE)
    states = {name: p["indexing_status"] for name, p in held["plugins"].items()}
    assert states == {
        "thumbnail_generation": "out_of_sync",
        "rendering_to_embedding": "in_sync",
        "asset_graph_generation": "in_sync",
    }


async def test_seed_is_repeatable_and_mixed(usd: UsdSearch) -> None:
    """The same seed puts the same assets, in more than one state."""
    usd.seed(seeded(5), 60)
    other = UsdSearch(clock=lambda: NOW)
    other.seed(seeded(5), 60)
    assert [usd.get(each) for each in usd.asset_ids()] == [other.get(each) for each in other.asset_ids()]
    held: list[Any] = [usd.get(each) for each in usd.asset_ids()]
    states = {p["indexing_status"] for each in held for p in each["plugins"].values()}
    assert states >= {"in_sync", "out_of_sync", "not_found"}


async def test_vendor_client_reads_the_status(usd: UsdSearch, vendor: usd_search_client.ApiClient) -> None:
    """The vendor's generated client accepts a whole answer, metadata and failure history included."""
    usd.put(CRATE, {"plugins": {"thumbnail_generation": {}, "rendering_to_embedding": {"history": ["load_error"]}}})
    api = usd_search_client.IndexingStatusApi(vendor)
    status = await api.get_asset_status_info_indexing_asset_status_get(url=CRATE, return_asset_metadata=True)
    assert status.url == CRATE
    assert status.plugins_statuses["thumbnail_generation"].indexing_status == "in_sync"
    history = status.plugins_statuses["rendering_to_embedding"].plugin_status_history
    assert history is not None
    assert history[0].status == "load_error"
    assert status.storage_backend_info.metadata is not None
    assert status.storage_backend_info.metadata.uri == CRATE


async def test_vendor_client_reads_a_missing_asset(vendor: usd_search_client.ApiClient) -> None:
    """Nulls where there is nothing are what the vendor's client expects."""
    api = usd_search_client.AssetApi(vendor)
    status = await api.get_asset_status_info_indexing_asset_status_get(url="s3://studio-assets/nope.usd")
    assert status.storage_backend_info.asset_status == "file_not_found"
    assert {info.indexing_status for info in status.plugins_statuses.values()} == {"not_found"}


async def test_vendor_client_understands_refusals(vendor: usd_search_client.ApiClient) -> None:
    """422 and 400 become the exceptions the vendor's client has for them, 422 with its typed body."""
    method, url, headers, body, form = usd_search_client.IndexingStatusApi(
        vendor
    )._get_asset_status_info_indexing_asset_status_get_serialize(CRATE, None, None, None, None, 0)
    response = await vendor.call_api(method, url.partition("?")[0], headers, body, form)
    await response.read()  # type: ignore[no-untyped-call]  # the vendor's client is partly untyped
    with pytest.raises(ApiException) as refused:
        vendor.response_deserialize(response, {"200": "StatusResult", "422": "HTTPValidationError"})
    assert refused.value.status == 422
    assert refused.value.data is not None
    assert refused.value.data.detail[0].msg == "Field required"
    with pytest.raises(BadRequestException):
        await usd_search_client.IndexingStatusApi(vendor).get_asset_status_info_indexing_asset_status_get(
            url="s3://other-bucket/a.usd"
        )


async def test_vendor_client_lists_plugins_and_storage(usd: UsdSearch, vendor: usd_search_client.ApiClient) -> None:
    """The deployment-wide calls answer in the vendor's forms."""
    plugins = await usd_search_client.PluginsApi(vendor).list_plugins_info_plugins_get(only_active=False)
    assert {plugin.name for plugin in plugins if plugin.active} == set(usd.switches.active_plugins)
    assert len(plugins) == 8
    storage = await usd_search_client.StorageBackendApi(vendor).get_storage_backend_info_info_backend_storage_get(
        check_availability=True
    )
    assert storage.backends[usd.credentials["base_uri"]].available is True


async def test_vendor_client_sends_no_credential_on_the_status_call(usd: UsdSearch) -> None:
    """Even configured with a token: a protected deployment refuses the stock client."""
    usd.switch({"auth": "bearer"})
    configuration = usd_search_client.Configuration(host=usd.url, access_token=usd.credentials["token"])
    async with usd_search_client.ApiClient(configuration) as client:
        with pytest.raises(ApiException) as refused:
            await usd_search_client.IndexingStatusApi(client).get_asset_status_info_indexing_asset_status_get(url=CRATE)
    assert refused.value.status == 401
