"""The Oracle SBC adapter: golden replies, and its stand-in over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from assetwatch_sandbox.oracle_sbc import OracleSbcStandin
from assetwatchd.adapters import oracle_sbc
from assetwatchd.adapters.oracle_sbc import ASSET_ID, OracleSbc
from assetwatchd.model.details import OracleSbcDetail
from assetwatchd.model.errors import AssetRejected, BadAnswer, Refused, Unreachable
from assetwatchd.model.values import FailureKind, Observation, State
from assetwatchd.settings.schema import OracleSbcSource
from assetwatchd.upstream.http.transport import Reply, raise_for_status
from support import golden
from support.clock import Clock
from support.observed import observed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assetwatchd.upstream.answers import Answer

NOW_S = 1_772_617_500.0
CERTIFICATE = golden.ROOT / "oracle_sbc" / "tls_cert.pem"
PRIVATE_KEY = golden.ROOT / "oracle_sbc" / "tls_key.pem"
STATUS_CALL, TOKEN_CALL, VERSIONS_CALL = "/admin/asyncstatus$", "/auth/token$", "/supportedversions$"
SUCCESS = {"operation": "activate", "status": "success"}


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW_S)


@pytest.fixture
async def standin(clock: Clock) -> AsyncIterator[OracleSbcStandin]:
    standin = OracleSbcStandin(clock=clock)
    standin.put(ASSET_ID, SUCCESS)
    await standin.start()
    yield standin
    standin.faults.clear()
    await standin.stop()


@asynccontextmanager
async def adapter(standin: OracleSbcStandin, **settings: Any) -> AsyncIterator[OracleSbc]:
    account = {name: standin.credentials[name] for name in ("username", "password")}
    values = {"kind": "oracle_sbc", "base_url": standin.url, "rate_per_s": 10_000, **account, **settings}
    upstream = OracleSbc("sbc", OracleSbcSource.model_validate(values), clock=standin.clock)
    try:
        yield upstream
    finally:
        await upstream.close()


async def read(upstream: OracleSbc) -> Observation:
    [observation] = await upstream.observe([ASSET_ID])
    return observed(observation)


@pytest.mark.parametrize("name", golden.names("oracle_sbc"))
def test_golden(name: str) -> None:
    """A recorded reply is read as the observation, or the error, on file."""
    recorded = golden.load("oracle_sbc", name)

    def observations() -> list[Answer]:
        raise_for_status(recorded.reply)
        return [oracle_sbc.read(recorded.reply)]

    assert golden.outcome(observations) == golden.expectation(recorded)


@pytest.mark.parametrize("status", ["inProgress", "in progress", "In-Progress", "RUNNING", "processing (50%)"])
def test_running_words(status: str) -> None:
    """Words for progress are known in any spelling, and a text beside them is no failure."""
    assert oracle_sbc.state_of(oracle_sbc.Operation("save", status, "copying")) is State.PROCESSING


@pytest.mark.parametrize("status", ["failed", "FAILURE", "verifyFailed", "error", "Error 17"])
def test_failing_words(status: str) -> None:
    """Whatever holds fail or error is FAILED, with or without a text."""
    assert oracle_sbc.state_of(oracle_sbc.Operation("save", status)) is State.FAILED


async def test_only_one_asset(standin: OracleSbcStandin) -> None:
    """A device has one asset; any other id is told so, and never sent."""
    async with adapter(standin) as upstream:
        assert upstream.check(ASSET_ID) is None
        assert ASSET_ID in (upstream.check("Last-Operation") or "")
        with pytest.raises(AssetRejected):
            await upstream.observe(["activate"])
    assert standin.requests.count() == 0


@pytest.mark.parametrize("empty_slot", ["empty_data", "empty_operation_state"])
async def test_life_of_an_operation(standin: OracleSbcStandin, clock: Clock, empty_slot: str) -> None:
    """A device is idle, an operation runs, it fails with a text, another overwrites it."""
    standin.switch({"empty_slot": empty_slot, "error_element": "errorText"})
    standin.remove(ASSET_ID)
    async with adapter(standin) as upstream:
        idle = await read(upstream)
        await standin.commands["start"]({"operation": "restore", "outcome": "failed", "message": "Disk full"})
        running = await read(upstream)
        clock.now_s += 5
        failed = await read(upstream)
        standin.put(ASSET_ID, {**SUCCESS, "additionalInfo": {"warnings": 2}})
        done = await read(upstream)
    assert [each.state for each in (idle, running, failed, done)] == [
        State.UNKNOWN,
        State.PROCESSING,
        State.FAILED,
        State.AVAILABLE,
    ]
    assert [facet.native for facet in idle.facets] == ["idle"]
    assert failed.failure is not None
    assert (failed.failure.kind, failed.failure.message) == (FailureKind.RETRYABLE, "Disk full")
    assert done.detail is not None
    assert done.detail == OracleSbcDetail("activate", "success", "", "<warnings>2</warnings>")


async def test_one_token_for_many_reads(standin: OracleSbcStandin, clock: Clock) -> None:
    """A token is fetched once and renewed eight minutes after its issue, before it ends at ten."""
    async with adapter(standin) as upstream:
        for age_s in (0, 60, 479):
            clock.now_s = NOW_S + age_s
            await read(upstream)
        assert standin.requests.count(TOKEN_CALL) == 1
        clock.now_s = NOW_S + 480
        await read(upstream)
        assert standin.requests.count(TOKEN_CALL) == 2
        clock.now_s = NOW_S + 900
        await read(upstream)
    assert standin.requests.count(TOKEN_CALL) == 2
    assert {logged.status for logged in standin.requests.all()} == {200}


async def test_clock_set_back(standin: OracleSbcStandin, clock: Clock) -> None:
    """A token that seems to come from the future, since the clock was set back, is not trusted to be young."""
    async with adapter(standin) as upstream:
        await read(upstream)
        clock.now_s -= 3600
        await read(upstream)
    assert standin.requests.count(TOKEN_CALL) == 2


async def test_lost_token(standin: OracleSbcStandin) -> None:
    """A device that forgot the token, as after a reboot, is asked again with a new one."""
    async with adapter(standin) as upstream:
        await read(upstream)
        await standin.commands["reboot"]({})
        assert (await read(upstream)).state is State.UNKNOWN
    assert [logged.status for logged in standin.requests.all()] == [200, 200, 401, 200, 200]


async def test_new_token_is_refused_too(standin: OracleSbcStandin) -> None:
    """When the new token is refused as well, the source is Refused: no third attempt."""
    standin.faults.add(path=STATUS_CALL, status=401, body="")
    async with adapter(standin) as upstream:
        with pytest.raises(Refused):
            await read(upstream)
    assert (standin.requests.count(TOKEN_CALL), standin.requests.count(STATUS_CALL)) == (2, 2)


async def test_token_is_shared(standin: OracleSbcStandin) -> None:
    """Reads at the same time share one token call, at first and after the token was lost."""
    async with adapter(standin) as upstream:
        await asyncio.gather(*(read(upstream) for _ in range(5)))
        assert standin.requests.count(TOKEN_CALL) == 1
        standin.sessions.clear()
        await asyncio.gather(*(read(upstream) for _ in range(5)))
    assert standin.requests.count(TOKEN_CALL) == 2


async def test_token_call_that_fails(standin: OracleSbcStandin) -> None:
    """A token call that fails is no token: the next read asks anew."""
    async with adapter(standin) as upstream:
        standin.faults.add(path=TOKEN_CALL, times=1, status=503, body="")
        with pytest.raises(Unreachable):
            await read(upstream)
        assert (await read(upstream)).state is State.AVAILABLE


async def test_a_login_is_not_made_twice(standin: OracleSbcStandin) -> None:
    """A token call whose connection is gone may have been carried out: it is not sent again by itself."""
    standin.faults.add(path=TOKEN_CALL, times=1, disconnect=True)
    async with adapter(standin) as upstream:
        with pytest.raises(Unreachable):
            await read(upstream)
    assert standin.requests.count(TOKEN_CALL) == 1


@pytest.mark.parametrize("token", ["", "two words", "caf\u00e9", "line&#10;break"])
async def test_unusable_token(standin: OracleSbcStandin, token: str) -> None:
    """A token that no header can carry is a BadAnswer, and is not repeated in it."""
    body = f"<response><data><accessToken>{token}</accessToken></data><messages/><links/></response>"
    standin.faults.add(path=TOKEN_CALL, body=body, content_type="application/xml")
    async with adapter(standin) as upstream:
        with pytest.raises(BadAnswer, match="accessToken") as caught:
            await read(upstream)
    assert not token or token not in str(caught.value)


async def test_unsupported_version_is_replaced(standin: OracleSbcStandin) -> None:
    """A version the device lacks is replaced once by the latest it has, and that is remembered."""
    async with adapter(standin, version="v1.9") as upstream:
        await read(upstream)
        await read(upstream)
    paths = [(logged.path_qs, logged.status) for logged in standin.requests.all()]
    assert paths == [
        ("/rest/v1.9/auth/token", 404),
        ("/rest/api/supportedversions", 200),
        ("/rest/v1.2/auth/token", 200),
        ("/rest/v1.2/admin/asyncstatus", 200),
        ("/rest/v1.2/admin/asyncstatus", 200),
    ]


async def test_older_version_stays(standin: OracleSbcStandin) -> None:
    """A configured version that the device supports is used though there is a later one."""
    async with adapter(standin, version="v1.0") as upstream:
        await read(upstream)
    assert standin.requests.count(VERSIONS_CALL) == 0


async def test_version_lost_while_running(standin: OracleSbcStandin) -> None:
    """A version that the device no longer has, after an upgrade, is replaced in the midst of things."""
    async with adapter(standin, version="v1.0") as upstream:
        await read(upstream)
        standin.faults.add(path="/v1.0/", status=404, body="")
        assert (await read(upstream)).state is State.AVAILABLE
    assert standin.requests.count("/v1.2/admin/asyncstatus") == 1


async def test_404_of_a_supported_version(standin: OracleSbcStandin) -> None:
    """A 404 although the version is supported is a BadAnswer after one look at the list; it never means idle."""
    standin.faults.add(path=STATUS_CALL, status=404, body="")
    async with adapter(standin) as upstream:
        with pytest.raises(BadAnswer, match=r"supports v1\.2"):
            await read(upstream)
    assert standin.requests.count(VERSIONS_CALL) == 1


async def test_device_that_hides_its_versions(standin: OracleSbcStandin) -> None:
    """Where the list of versions needs the token that the wrong version cannot get, the setting must be corrected."""
    standin.switch({"versions_need_token": True})
    async with adapter(standin, version="v1.9") as upstream:
        with pytest.raises(BadAnswer, match="correct version"):
            await read(upstream)


@pytest.mark.parametrize("version", ["", "v2", "v1.2/../../admin", "latest"])
async def test_unusable_versions(standin: OracleSbcStandin, version: str) -> None:
    """Only text of the form v1.2 is taken as a version."""
    body = f"<response><data><latestVersion>{version}</latestVersion></data></response>"
    standin.faults.add(path=VERSIONS_CALL, body=body, content_type="application/xml")
    async with adapter(standin, version="v1.9") as upstream:
        with pytest.raises(BadAnswer, match="without any"):
            await read(upstream)


async def test_latest_of_many_versions(standin: OracleSbcStandin) -> None:
    """The latest version is the greatest number, wherever in the list it stands."""
    versions = "".join(f"<version>{version}</version>" for version in ("v1.9", "v1.10", "v1.2"))
    standin.faults.add(path=VERSIONS_CALL, body=f"<response><data><v>{versions}</v></data></response>")
    async with adapter(standin, version="v1.0") as upstream:
        standin.faults.add(path=r"/v1\.0/", status=404, body="")
        with pytest.raises(BadAnswer):
            await read(upstream)
    assert standin.requests.count("/v1.10/") == 1


async def test_not_an_administrator(standin: OracleSbcStandin) -> None:
    """An account without the right gets a token and is Refused at the status call."""
    credentials = standin.credentials
    account = {"username": credentials["user_username"], "password": credentials["user_password"]}
    async with adapter(standin, **account) as upstream:
        with pytest.raises(Refused, match="403"):
            await read(upstream)


async def test_plain_http(standin: OracleSbcStandin) -> None:
    """A device asked over plain HTTP says that it needs HTTPS, and so do we."""
    standin.switch({"plain_http_426": True})
    async with adapter(standin) as upstream:
        with pytest.raises(BadAnswer, match="needs https"):
            await read(upstream)


@pytest.fixture
async def tls_standin() -> AsyncIterator[OracleSbcStandin]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE, PRIVATE_KEY)
    standin = OracleSbcStandin(switches={"tls": True}, ssl_context=context)
    standin.put(ASSET_ID, SUCCESS)
    await standin.start()
    yield standin
    await standin.stop()


@pytest.mark.parametrize("trust", [{"ca_file": CERTIFICATE}, {"tls_verify": False}])
async def test_tls_of_a_self_signed_device(tls_standin: OracleSbcStandin, trust: dict[str, Any]) -> None:
    """A device with a certificate of its own is read when that is trusted by file, or when none is checked."""
    async with adapter(tls_standin, **trust) as upstream:
        assert (await read(upstream)).state is State.AVAILABLE


async def test_tls_of_a_stranger(tls_standin: OracleSbcStandin) -> None:
    """A certificate that nobody vouches for gets no password: Unreachable, and the text names the settings."""
    async with adapter(tls_standin) as upstream:
        with pytest.raises(Unreachable, match=r"self-signed.*ca_file"):
            await read(upstream)
    assert tls_standin.requests.count() == 0


@pytest.mark.parametrize("status", [400, 404, 406, 409, 423])
def test_a_refusal_says_what_the_device_says(status: int) -> None:
    """The device has words for it in /response/messages; links among them are none, and another document has none."""
    told = "<messages><message>User does not have the lock.</message><link>/rest/v1.2</link></messages>"
    with pytest.raises(BadAnswer, match=rf"^HTTP {status}: [a-z].*: User does not have the lock\.$"):
        oracle_sbc.read(Reply(status, {}, f"<response><data/>{told}<links/></response>".encode()))
    for body in (b"", b"no XML", b"<html>x</html>", b"<response><data/><messages/></response>"):
        with pytest.raises(BadAnswer, match=rf"^HTTP {status}: [^:]*$"):
            oracle_sbc.read(Reply(status, {}, body))
