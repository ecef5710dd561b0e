"""USD Search: every documented state and error, and what is its own beside the contract."""

from __future__ import annotations

import base64
import itertools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from assetwatch_sandbox.usd_search import UsdSearch as Standin
from assetwatchd.adapters.usd_search import (
    ROLL_UP,
    Attempt,
    Plugin,
    Storage,
    UsdSearch,
    answer_of,
    backends,
    is_about,
    moment,
    normalise,
    plugin_state,
    roll_up,
    status_path,
)
from assetwatchd.model.details import UsdSearchDetail
from assetwatchd.model.errors import AssetRejected, BadAnswer, Refused, Unreachable
from assetwatchd.model.values import Facet, FailureKind, State
from assetwatchd.settings.schema import UsdSearchSource
from assetwatchd.upstream.http.transport import Reply
from support import golden
from support.observed import observed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from assetwatchd.model.values import Observation

URL = "s3://studio-assets/props/crate.usd"
CURRENT, OLD = "DMF1ucDxtqgxw5niaXcmYQ==", "kutf/uauL+w61xx3dTFXjw=="
AT = datetime(2026, 3, 4, 9, 14, 7, 512_000, UTC)


def read(recorded: golden.Golden) -> list[Observation]:
    [asset_id] = recorded.asked
    return [normalise(asset_id, answer_of(recorded.reply), zone=UTC)]


def observation(name: str) -> Observation:
    [one] = read(golden.load("usd_search", name))
    return one


def settings(base_url: str = "http://127.0.0.1:9", **more: Any) -> UsdSearchSource:
    return TypeAdapter(UsdSearchSource).validate_python({"kind": "usd_search", "base_url": base_url, **more})


@pytest.fixture
async def standin() -> AsyncIterator[Standin]:
    standin = Standin()
    await standin.start()
    standin.put(URL, {})
    yield standin
    await standin.stop()


async def observe(standin: Standin, asset_id: str = URL, **more: Any) -> Observation:
    upstream = UsdSearch("usd-prod", settings(standin.url, **more))
    try:
        [one] = await upstream.observe([asset_id])
    finally:
        await upstream.close()
    return observed(one)


@pytest.mark.parametrize("name", golden.names("usd_search"))
def test_golden(name: str) -> None:
    """A recorded reply is read as the expectation beside it says."""
    recorded = golden.load("usd_search", name)
    assert golden.outcome(lambda: read(recorded)) == golden.expectation(recorded)


def test_given_up_though_in_sync() -> None:
    """The headline in_sync does not mean success: a plugin that gave up fails the asset until the file changes."""
    one = observation("sample_gave_up")
    assert one.state is State.FAILED
    assert one.failure is not None
    assert (one.failure.kind, one.failure.code) == (FailureKind.PERMANENT, "failed_retries_exhausted")
    assert [(each.name, each.state, each.native) for each in one.facets] == [
        ("rendering_to_embedding", State.FAILED, "in_sync/failed_retries_exhausted"),
        ("asset_graph_generation", State.PENDING, "out_of_sync/queued"),
    ]
    assert one.facets[0].message == "Processing exception: maximum number of attempts reached [5]"


def test_failure_that_stands_goes_first() -> None:
    """Of two failed plugins the failure is that of the one which will not be tried again, wherever it is listed."""
    one = observation("two_failures")
    assert one.failure is not None
    assert (one.failure.kind, one.failure.code) == (FailureKind.PERMANENT, "load_error")


def test_missing_file_is_no_error() -> None:
    """200 with file_not_found is MISSING, without a failure and without a time of change."""
    one = observation("sample_file_not_found")
    assert (one.state, one.failure, one.change_time) == (State.MISSING, None, None)


def test_detail_loses_nothing() -> None:
    """Hashes, the whole history with times as they came, and the metadata's unknown keys are kept."""
    one = observation("epoch_times_and_metadata")
    assert isinstance(one.detail, UsdSearchDetail)
    [plugin] = one.detail.plugins
    assert (plugin.name, plugin.indexing_status, plugin.indexed_asset_hash) == (
        "thumbnail_generation",
        "in_sync",
        CURRENT,
    )
    assert [each.processing_timestamp for each in plugin.history] == ["1772615647.512", "1772615600"]
    assert one.detail.metadata is not None
    assert (one.detail.metadata["x_new_key"], one.detail.metadata["hash_bsize"]) == ("kept", "4096")
    assert one.change_time == AT


HASHES = {"current": CURRENT, "old": OLD, "unsaid": ""}


@pytest.mark.parametrize(
    ("indexing", "attempt", "version", "state"),
    [
        ("in_sync", None, "unsaid", State.AVAILABLE),
        ("in_sync", "ok", "current", State.AVAILABLE),
        ("in_sync", "ok", "unsaid", State.AVAILABLE),
        ("in_sync", "failed", "current", State.FAILED),
        ("in_sync", "some new reason", "current", State.FAILED),
        ("failed_indexing", None, "unsaid", State.FAILED),
        ("failed_indexing", "ok", "current", State.FAILED),
        ("out_of_sync_and_failed_indexing", "queued", "old", State.FAILED),
        ("out_of_sync", "queued", "current", State.PENDING),
        ("out_of_sync", "queued", "old", State.PENDING),
        ("out_of_sync", "processing", "unsaid", State.PROCESSING),
        ("out_of_sync", "ok", "current", State.PROCESSING),
        ("out_of_sync", "ok", "old", State.OUT_OF_SYNC),
        ("out_of_sync", "ok", "unsaid", State.OUT_OF_SYNC),
        ("out_of_sync", "file_too_large", "current", State.FAILED),
        ("out_of_sync", "file_too_large", "old", State.OUT_OF_SYNC),
        ("out_of_sync", None, "unsaid", State.OUT_OF_SYNC),
        ("not_found", None, "unsaid", State.PENDING),
        ("IN_SYNC", "ok", "current", State.UNKNOWN),
        ("", None, "unsaid", State.UNKNOWN),
    ],
)
def test_reading_rule(indexing: str, attempt: str | None, version: str, state: State) -> None:
    """Each row of the published reading, and what no row lists, for a file that is there."""
    history = () if attempt is None else (Attempt(status=attempt, hash_value=HASHES[version]),)
    plugin = Plugin(indexing_status=indexing, history=history)
    assert plugin_state(plugin, Storage(asset_status="ok", storage_asset_hash=CURRENT)) is state
    assert plugin_state(plugin, Storage(asset_status="file_not_found")) is State.MISSING
    assert plugin_state(plugin, Storage(asset_status="on fire")) is State.UNKNOWN


def test_hashes_that_are_both_absent_are_not_equal() -> None:
    """Two hashes that nobody knows prove nothing: stale, not finishing."""
    plugin = Plugin(indexing_status="out_of_sync", history=(Attempt(status="ok"),))
    assert plugin_state(plugin, Storage(asset_status="ok")) is State.OUT_OF_SYNC


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(ROLL_UP, 2)))
def test_roll_up_order(first: State, second: State) -> None:
    """Of two plugins the one earlier in the policy decides, whichever comes first in the answer."""
    facets = [Facet("a", first, "x"), Facet("b", second, "x")]
    assert roll_up(Storage(asset_status="ok"), facets) is first
    assert roll_up(Storage(asset_status="ok"), facets[::-1]) is first


def test_every_plugin_state_has_a_rank() -> None:
    """Whatever a plugin can be read as has its place in the policy."""
    assert set(ROLL_UP) >= set(State) - {State.MISSING, State.UNSUPPORTED, State.DELETING, State.DELETED}


@pytest.mark.parametrize(
    ("stamp", "at"),
    [
        ("2026-03-04 09:14:07.512", datetime(2026, 3, 4, 8, 14, 7, 512_000, UTC)),
        ("2026-07-04 09:14:07.512", datetime(2026, 7, 4, 7, 14, 7, 512_000, UTC)),
        ("2026-03-04T09:14:07.512+00:00", AT),
        ("2026-03-04T09:14:07.512Z", AT),
        (1772615647.512, AT),
        (1772615647, AT.replace(microsecond=0)),
        ("1772615647.512", AT),
        (None, None),
        ("", None),
        ("yesterday", None),
        (1e300, None),
        (-1e300, None),
        ("9" * 400, None),
        ("0001-01-01 00:00:00", None),
    ],
)
def test_moments(stamp: float | str | None, at: datetime | None) -> None:
    """Local text is read in the source's zone, a zone in the text wins, numbers are epoch seconds."""
    assert moment(stamp, zone=ZoneInfo("Europe/Berlin")) == at


def test_url_is_encoded_whole() -> None:
    """Nothing in a storage URL can end the parameter or add another."""
    path = status_path("s3://b/ü &url=x#y+z%41.usd", metadata=False)
    expected = "s3%3A%2F%2Fb%2F%C3%BC%20%26url%3Dx%23y%2Bz%2541.usd"
    assert path == f"/info/indexing/asset/status?url={expected}&return_asset_metadata=false"


@pytest.mark.parametrize("asset_id", [URL, "omniverse://host/a", "/data/assets/a.usd", "S3://b/" + "x" * 9000])
def test_ids_that_can_be(asset_id: str) -> None:
    """Storage URLs of any length and absolute paths can be ids."""
    assert UsdSearch("usd-prod", settings()).check(asset_id) is None


@pytest.mark.parametrize("asset_id", ["", "crate.usd", "s3:/b/a", "://b", "/", "s3://"])
def test_ids_that_cannot_be(asset_id: str) -> None:
    """What is neither is told the form it should have."""
    assert "s3://" in (UsdSearch("usd-prod", settings()).check(asset_id) or "")


def test_unknown_timezone() -> None:
    """A timezone that is not known is told at the start, not at the first time that is read."""
    for name in ("Mars/Olympus", "../../etc/passwd"):
        with pytest.raises(ValidationError, match="not a known time zone"):
            settings(timezone=name)


def test_metadata_too_deep_is_lost_alone() -> None:
    """Metadata that could not be sent on is left out and named; the state is read all the same."""
    deep = '{"a":' * 20 + "1" + "}" * 20
    body = f'{{"plugins_statuses":{{}},"storage_backend_info":{{"asset_status":"ok","metadata":{deep}}}}}'
    answer = answer_of(Reply(200, {"Content-Type": "application/json"}, body.encode()))
    assert answer.storage == Storage("ok")
    assert answer.unreadable == ("storage_backend_info.metadata",)


@pytest.mark.parametrize("kind", ["basic", "bearer", "api_key", "bearer_file"])
async def test_credentials_are_sent_on_the_status_call(standin: Standin, kind: str, tmp_path: Path) -> None:
    """Each kind of credential lets us in; the published client would send none on this call."""
    known = standin.credentials
    (tmp_path / "token").write_text(known["token"])
    auth = {
        "basic": {"kind": "basic", "username": known["username"], "password": known["password"]},
        "bearer": {"kind": "bearer", "token": known["token"]},
        "bearer_file": {"kind": "bearer", "token_file": str(tmp_path / "token")},
        "api_key": {"kind": "api_key", "key": known["api_key"]},
    }[kind]
    standin.switch({"auth": kind.removesuffix("_file")})
    assert (await observe(standin, auth=auth)).state is State.AVAILABLE
    with pytest.raises(Refused):
        await observe(standin)


async def test_basic_credentials_stay_out_of_errors(standin: Standin) -> None:
    """Neither the password nor its encoded form is quoted from an error that echoes them."""
    encoded = base64.b64encode(b"user:hunter2").decode()
    standin.faults.add(status=400, body=f'{{"error":"hunter2 {encoded}"}}', content_type="application/json")
    with pytest.raises(AssetRejected) as caught:
        await observe(standin, auth={"kind": "basic", "username": "user", "password": "hunter2"})
    assert str(caught.value) == "HTTP 400: *** ***"


async def test_metadata_only_when_asked_for(standin: Standin) -> None:
    """The setting decides whether storage metadata is asked for."""
    asked = (await observe(standin)).detail
    unasked = (await observe(standin, asset_metadata=False)).detail
    assert isinstance(asked, UsdSearchDetail)
    assert isinstance(unasked, UsdSearchDetail)
    assert asked.metadata
    assert unasked.metadata is None


async def test_url_outside_the_storage_is_the_assets_own_problem(standin: Standin) -> None:
    """400 Invalid URL rejects one asset and says why."""
    with pytest.raises(AssetRejected, match="HTTP 400: Invalid URL: Invalid URL: 's3://other/a") as caught:
        await observe(standin, "s3://other/a")
    assert type(caught.value) is AssetRejected


@pytest.mark.parametrize(("outage", "text"), [("cache", "Redis Cache"), ("storage", "NGSearch storage backend")])
async def test_backend_that_is_down(standin: Standin, outage: str, text: str) -> None:
    """501 is a backend that is down: Unreachable, with its name."""
    standin.switch({"outage": outage})
    with pytest.raises(Unreachable, match=f"HTTP 501: {text}"):
        await observe(standin)


async def test_extension_that_no_plugin_takes(standin: Standin) -> None:
    """An empty map is UNSUPPORTED."""
    url = "s3://studio-assets/readme.zzz"
    standin.put(url, {})
    assert (await observe(standin, url)).state is State.UNSUPPORTED


async def test_servers_local_time(standin: Standin) -> None:
    """Times of a server east of us are read in its zone."""
    standin.switch({"server_utc_offset_minutes": 540})
    standin.put(URL, {"plugins": {"thumbnail_generation": {"history": [{"status": "ok", "processing_timestamp": 0}]}}})
    one = await observe(standin, timezone="Asia/Tokyo")
    [at] = [facet.change_time for facet in one.facets if facet.name == "thumbnail_generation"]
    assert at == datetime(1970, 1, 1, tzinfo=UTC)


async def test_removed_file_is_missing(standin: Standin) -> None:
    """A file that has gone is MISSING though its plugins still remember it."""
    standin.remove(URL)
    assert (await observe(standin)).state is State.MISSING


def test_the_sign_of_life_says_why_it_failed() -> None:
    """An error document in place of the list of backends is quoted, as it is in place of a status."""
    with pytest.raises(BadAnswer, match="error document: licence expired"):
        backends(Reply(200, {}, b'{"success": false, "message": "licence expired"}'))
    with pytest.raises(Refused, match="Token expired"):
        backends(Reply(200, {}, b'{"error": "Token expired"}'))
    with pytest.raises(BadAnswer, match="backends should be an object and is null"):
        backends(Reply(200, {}, b"{}"))


async def test_an_answer_about_another_asset_is_unreadable(standin: Standin) -> None:
    """As a cache gives that looks at the path alone: neither that asset's state, nor MISSING, is taken for ours."""
    other = json.dumps(
        {
            "url": "s3://studio-assets/props/nope.png",
            "plugins_statuses": {},
            "storage_backend_info": {"asset_status": "file_not_found"},
        }
    )
    standin.faults.add(status=200, body=other, content_type="application/json")
    with pytest.raises(BadAnswer, match="the answer is about another asset"):
        await observe(standin)


@pytest.mark.parametrize(
    ("url", "asset_id"),
    [
        ("", URL),
        (f"{URL}/", URL),
        ("S3://Studio-Assets/props//crate.usd", URL),
        ("s3%3A%2F%2Fstudio-assets%2Fprops%2Fcrate.usd", URL),
        ("s3://b/a%20b.usd", "s3://b/a b.usd"),
        ("s3://b/a b.usd", "s3://b/a%20b.usd"),
        ("s3://b/a+b.usd", "s3://b/a b.usd"),
        ("s3://b/e\u0301.usd", "s3://b/\u00e9.usd"),
        ("s3://bucket/props/a.usd", "/data/assets/props/a.usd"),
        ("/data/assets/props/a.usd", "s3://bucket/props/a.usd"),
        (f"{URL}?versionId=null", URL),
        ("omniverse://host/a.usd", "omniverse://host/a.usd?&3"),
        ("/data/a.usd", "omniverse://host/a.usd?&3"),
        (f"{URL}#head", URL),
    ],
)
def test_an_echo_may_be_written_in_another_way(url: str, asset_id: str) -> None:
    """Escapes, slashes, the host's case and the server's own folders make no other asset of one."""
    assert is_about(url, asset_id)


@pytest.mark.parametrize(
    "url",
    [
        "s3://studio-assets/props/Crate.usd",
        "s3://studio-assets/props/crate.usda",
        "s3://studio-assets/props",
        "s3://other/props/crate.usd",
        "s3://studio-assets/crate.usd",
        "/b.usd",
    ],
)
def test_an_echo_of_another_asset(url: str) -> None:
    """Another folder, file or bucket is another asset."""
    assert not is_about(url, URL)


@given(st.text(min_size=1), st.integers(0, 2), st.sampled_from(["s3://b/", "omniverse://Host/", "/data/"]))
def test_any_id_is_known_by_its_echo(name: str, escapes: int, where: str) -> None:
    """Whatever an id is made of, as it is or percent-encoded again."""
    asset_id = url = f"{where}{name}"
    for _ in range(escapes):
        url = quote(url, safe="", errors="replace")
    assert is_about(url, asset_id)
