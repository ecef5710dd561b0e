"""OMN's bearer tokens: from a file, signed by ourselves, or traded for an offline token; over real sockets."""

from __future__ import annotations

import asyncio
import json
import traceback
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from pydantic import TypeAdapter
from yarl import URL

from assetwatch_sandbox.omn import Omn as Standin
from assetwatchd.adapters.omn import Omn
from assetwatchd.adapters.omn.tokens import LIFE_S_UNSAID, endpoint_of, grant_of, sign
from assetwatchd.model.errors import BadAnswer, ConfigError, Refused, Throttled, Unreachable, UpstreamError
from assetwatchd.model.values import State
from assetwatchd.settings.schema import OmnSource, SignedJwtAuth
from assetwatchd.upstream.http.transport import Reply
from support.clock import Clock
from support.observed import observed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TID = "tid:0D2F9E1B-3A77-4E21-A5C0-91B4C6D8E70"
TOKEN_CALL, DISCOVERY_CALL, STATUS_CALL = "openid-connect/token", "openid-configuration", "/dam/assets/status"
START = 1_772_615_647.0


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
async def standin(clock: Clock) -> AsyncIterator[Standin]:
    standin = Standin(clock=clock, switches={"static_token": False})
    await standin.start()
    standin.put(TID, {})
    yield standin
    await standin.stop()


@pytest.fixture
async def opened() -> AsyncIterator[list[Omn]]:
    opened: list[Omn] = []
    yield opened
    for upstream in opened:
        await upstream.close()


def settings(standin: Standin, auth: dict[str, Any]) -> OmnSource:
    return TypeAdapter(OmnSource).validate_python({"kind": "omn", "base_url": standin.url, "auth": auth})


def signing(standin: Standin, **more: Any) -> dict[str, Any]:
    known = standin.credentials
    own = {"kind": "signed_jwt", "secret": known["jwt_secret"], "key_id": known["jwt_kid"]}
    return {**own, "mandator": "studio", "subject": "watch", **more}


def trading(standin: Standin, **more: Any) -> dict[str, Any]:
    discovery = f"{standin.url}/auth/realms/OMN/.well-known/openid-configuration"
    own = {"kind": "refresh_token", "refresh_token": standin.credentials["offline_token"], "discovery_url": discovery}
    return {**own, **more}


@pytest.fixture
def signed(standin: Standin, clock: Clock, opened: list[Omn]) -> Omn:
    opened.append(Omn("dam", settings(standin, signing(standin)), clock=clock))
    return opened[-1]


@pytest.fixture
def traded(standin: Standin, clock: Clock, opened: list[Omn]) -> Omn:
    standin.switch({"release": "6.0"})
    opened.append(Omn("dam", settings(standin, trading(standin)), clock=clock))
    return opened[-1]


async def state(upstream: Omn) -> State:
    [observation] = await upstream.observe([TID])
    return observed(observation).state


async def raised(upstream: Omn, standin: Standin) -> UpstreamError:
    """Return what a read ends with, after looking for secrets in all that it shows."""
    with pytest.raises(UpstreamError) as caught:
        await upstream.observe([TID])
    shown = "".join(traceback.format_exception(caught.value)) + repr(upstream)
    assert [secret for name, secret in standin.credentials.items() if "token" in name and secret in shown] == []
    assert standin.credentials["jwt_secret"] not in shown
    return caught.value


def test_signed_claims() -> None:
    """The token is HS512, its kid names the server's key, and its claims are those that release 5.12 reads."""
    auth = SignedJwtAuth.model_validate(
        {"kind": "signed_jwt", "secret": "s" * 64, "key_id": "k1", "mandator": "m", "subject": "s", "username": "u"}
    )
    token = sign(auth, at=START)
    assert jwt.get_unverified_header(token) == {"alg": "HS512", "kid": "k1", "typ": "JWT"}
    claims = jwt.decode(token, "s" * 64, algorithms=["HS512"], options={"verify_exp": False})
    assert claims == {"mandator": "m", "sub": "s", "iss": "assetwatch", "exp": START + 300, "username": "u"}


def test_short_signing_key_is_the_servers_choice() -> None:
    """A key shorter than is wise is used without a warning; one that is no shared secret is told at the start."""
    auth = {"kind": "signed_jwt", "secret": "short", "key_id": "k", "mandator": "m", "subject": "s"}
    assert sign(SignedJwtAuth.model_validate(auth), at=START)
    public_key = "-----BEGIN PUBLIC KEY-----\nMADE\n-----END PUBLIC KEY-----"
    with pytest.raises(ConfigError, match=r"auth\.secret"):
        sign(SignedJwtAuth.model_validate({**auth, "secret": public_key}), at=START)


async def test_signed_token_is_let_in(signed: Omn) -> None:
    """The server takes a token that we signed."""
    assert await state(signed) is State.AVAILABLE


async def test_signed_token_is_renewed_before_its_end(signed: Omn, clock: Clock, standin: Standin) -> None:
    """However much time passes, no call is made with a token past its life."""
    for _ in range(10):
        assert await state(signed) is State.AVAILABLE
        clock.now_s += 119
    assert [each.status for each in standin.requests.all()] == [200] * 10


@pytest.mark.parametrize("wrong", [{"secret": "x" * 64}, {"key_id": "other"}, {"lifetime_s": 90_000}])
async def test_signed_token_is_refused_once(
    standin: Standin, clock: Clock, opened: list[Omn], wrong: dict[str, Any]
) -> None:
    """A wrong key, an unknown kid or too long a life is Refused, and not tried twice: it would be refused again."""
    opened.append(Omn("dam", settings(standin, signing(standin, **wrong)), clock=clock))
    assert type(await raised(opened[-1], standin)) is Refused
    assert standin.requests.count(STATUS_CALL) == 1


async def test_token_file_renewed_under_us(standin: Standin, clock: Clock, opened: list[Omn], tmp_path: Path) -> None:
    """A token that somebody renews in its file is sent from the next call on."""
    path = tmp_path / "token"
    opened.append(Omn("dam", settings(standin, {"kind": "bearer", "token_file": str(path)}), clock=clock))
    path.write_text("dead")
    assert type(await raised(opened[-1], standin)) is Refused
    assert standin.requests.count(STATUS_CALL) == 1
    path.write_text(sign(SignedJwtAuth.model_validate(signing(standin)), at=START))
    assert await state(opened[-1]) is State.AVAILABLE


async def test_trade_is_shared(traded: Omn, standin: Standin) -> None:
    """Many calls at once make one trade, and its token serves until near its end."""
    assert set(await asyncio.gather(*(state(traded) for _ in range(20)))) == {State.AVAILABLE}
    assert (standin.requests.count(TOKEN_CALL), standin.requests.count(DISCOVERY_CALL)) == (1, 1)


async def test_traded_token_is_renewed_before_its_end(traded: Omn, clock: Clock, standin: Standin) -> None:
    """At four fifths of its hour a token is renewed, so no call is ever refused for its age."""
    await state(traded)
    clock.now_s += 2_879
    await state(traded)
    assert standin.requests.count(TOKEN_CALL) == 1
    clock.now_s += 2
    await state(traded)
    assert standin.requests.count(TOKEN_CALL) == 2
    assert {each.status for each in standin.requests.all()} == {200}


async def test_refused_token_is_renewed_once(traded: Omn, standin: Standin) -> None:
    """After a 401 the token is traded once for all calls under way, and they succeed."""
    await state(traded)
    standin.faults.add(path=STATUS_CALL, times=5, status=401, body="")
    assert set(await asyncio.gather(*(state(traded) for _ in range(5)))) == {State.AVAILABLE}
    assert standin.requests.count(TOKEN_CALL) == 2


async def test_late_refusal_of_an_old_token(traded: Omn, standin: Standin, clock: Clock) -> None:
    """A 401 for a token that somebody has renewed meanwhile does not cost the new one."""
    old = await traded._tokens.current()
    clock.now_s += 3_600
    new = await traded._tokens.current()
    assert traded._tokens.forget(old)
    assert await traded._tokens.current() == new != old
    assert standin.requests.count(TOKEN_CALL) == 2


async def test_second_refusal_is_final(traded: Omn, standin: Standin) -> None:
    """A token refused right after its renewal is Refused: no loop of trades."""
    standin.faults.add(path=STATUS_CALL, status=401, body="<html/>", content_type="text/html")
    assert type(await raised(traded, standin)) is Refused
    assert (standin.requests.count(TOKEN_CALL), standin.requests.count(STATUS_CALL)) == (2, 2)


async def test_rotated_offline_token_is_used(traded: Omn, standin: Standin, clock: Clock) -> None:
    """Where each trade brings a new offline token, the next trade uses that."""
    standin.switch({"rotate_offline_token": True})
    for _ in range(3):
        assert await state(traded) is State.AVAILABLE
        clock.now_s += 3_600
    assert standin.requests.count(TOKEN_CALL) == 3


async def test_refused_offline_token(standin: Standin, clock: Clock, opened: list[Omn]) -> None:
    """A revoked offline token or a wrong client is Refused, with the realm's word for it."""
    standin.switch({"release": "6.0"})
    opened.append(Omn("dam", settings(standin, trading(standin, refresh_token="revoked")), clock=clock))
    assert "invalid_grant" in str(await raised(opened[-1], standin))
    opened.append(Omn("dam", settings(standin, trading(standin, client_id="nobody")), clock=clock))
    assert type(await raised(opened[-1], standin)) is Refused
    assert standin.requests.count(STATUS_CALL) == 0


@pytest.mark.parametrize("call", [TOKEN_CALL, DISCOVERY_CALL])
async def test_broken_realm(traded: Omn, standin: Standin, call: str) -> None:
    """A realm that is down, busy, odd or redirecting ends the read accordingly; then it recovers."""
    faults: list[tuple[dict[str, Any], type[UpstreamError]]] = [
        ({"status": 503, "body": "down"}, Unreachable),
        ({"disconnect": True}, Unreachable),
        ({"status": 429, "body": "", "headers": {"Retry-After": "4"}}, Throttled),
        ({"redirect_to": "http://127.0.0.1:9/"}, BadAnswer),
        ({"body": "<html/>", "content_type": "text/html"}, BadAnswer),
        ({"body": "[]", "content_type": "application/json"}, BadAnswer),
        ({"body": "{}", "content_type": "application/json"}, BadAnswer),
    ]
    for fault, error in faults:
        standin.faults.add(path=call, **fault)
        assert type(await raised(traded, standin)) is error
        standin.faults.clear()
    assert await state(traded) is State.AVAILABLE


async def test_offline_token_stays_on_the_discovery_host(traded: Omn, standin: Standin) -> None:
    """A discovery document that names a token endpoint elsewhere does not get the offline token there."""
    visitors: list[object] = []

    async def visited(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visitors.append(writer.get_extra_info("peername"))
        writer.close()
        await writer.wait_closed()

    target = await asyncio.start_server(visited, "127.0.0.1", 0)
    async with target:
        document = {"token_endpoint": f"http://127.0.0.1:{target.sockets[0].getsockname()[1]}/token"}
        standin.faults.add(path=DISCOVERY_CALL, body=json.dumps(document), content_type="application/json")
        error = await raised(traded, standin)
    assert (type(error), visitors) == (BadAnswer, [])
    assert "token endpoint is not on the host" in str(error)


@pytest.mark.parametrize(
    ("endpoint", "taken"),
    [
        ("https://omn.example/auth/token", True),
        ("https://omn.example:443/auth/token?x=1", True),
        ("http://omn.example/auth/token", False),
        ("https://omn.example:8443/auth/token", False),
        ("https://omn.example.evil/auth/token", False),
        ("https://omn.example@evil/auth/token", False),
        ("//omn.example/auth/token", False),
        ("/auth/token", False),
        ("", False),
        (None, False),
        (["https://omn.example/auth/token"], False),
        ("https://omn.example:99999/", False),
        ("https://[", False),
    ],
)
def test_endpoint_must_share_the_origin(endpoint: object, *, taken: bool) -> None:
    """Scheme, host and port of the token endpoint are those of the discovery document."""
    reply = Reply(200, {}, json.dumps({"token_endpoint": endpoint}).encode())
    discovery = URL("https://omn.example/auth/realms/OMN/.well-known/openid-configuration")
    if taken:
        assert endpoint_of(reply, discovery=discovery).path == "/auth/token"
    else:
        with pytest.raises(BadAnswer):
            endpoint_of(reply, discovery=discovery)


@pytest.mark.parametrize(
    ("said", "life_s"),
    [(60, 60.0), (0, 0.0), (-5, 0.0), (10**30, 3600.0), (1.5, 1.5), (None, LIFE_S_UNSAID), ("60", LIFE_S_UNSAID)],
)
def test_life_of_a_grant(said: object, life_s: float) -> None:
    """A life that is absurd or unsaid is replaced by one that is safe."""
    body = json.dumps({"access_token": "abc", "expires_in": said}).encode()
    assert grant_of(Reply(200, {}, body)) == ("abc", life_s, "")


@pytest.mark.parametrize("token", [None, "", " ", "a b", "a\n", "a\r\nX-Evil: 1", "é", 7])
def test_token_that_cannot_be_sent(token: object) -> None:
    """An access token that is no token never reaches a header."""
    with pytest.raises(BadAnswer, match="no usable access_token"):
        grant_of(Reply(200, {}, json.dumps({"access_token": token, "expires_in": 60}).encode()))


async def test_a_status_call_whose_connection_is_gone_is_made_once_more(traded: Omn, standin: Standin) -> None:
    """It changes nothing, so it is sent again, as a GET is; the trade, which may change the offline token, is not."""
    assert await state(traded) is State.AVAILABLE
    standin.faults.add(path=STATUS_CALL, times=1, disconnect=True)
    assert await state(traded) is State.AVAILABLE
    assert standin.requests.count(STATUS_CALL) == 3
    standin.faults.add(path=STATUS_CALL, times=1, status=401)
    standin.faults.add(path=TOKEN_CALL, times=1, disconnect=True)
    assert type(await raised(traded, standin)) is Unreachable
    assert standin.requests.count(TOKEN_CALL) == 2
