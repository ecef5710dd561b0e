"""OMN's stand-in over raw HTTP: documents as published, tokens of both releases, lists of ids, the query."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import aiohttp
import jwt
import pytest
from lxml import etree

from assetwatch_sandbox.omn import Omn
from support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assetwatch_sandbox.standin import JSON

STATUS = "/api/core/v1/dam/assets/status"
QUERY = "/api/core/v1/dam/assets/query"
NS = {"o": "http://www.apollon.de/omn"}
FIRST = "7C1E5A40-9B1D-4C55-8E0A-2F6B7D3A9C1"
SECOND = "0d2f9e1b-3a77-4e21-a5c0-91b4c6d8e70"
NOW = 1_772_613_012.417


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def omn(clock: Clock) -> AsyncIterator[Omn]:
    standin = Omn(clock=clock)
    standin.put(f"tid:{FIRST}", {"id": 70412, "ImportState": "running", "ObjectState": "import incomplete"})
    standin.put(f"tid:{SECOND}", {"id": 70413, "ImportState": "available", "ObjectState": "locked"})
    await standin.start()
    yield standin
    await standin.stop()


@pytest.fixture
async def http(omn: Omn) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {omn.credentials['token']}", "Accept": "application/xml"}
    async with aiohttp.ClientSession(omn.url, headers=headers) as session:
        yield session


async def ask(http: aiohttp.ClientSession, status: int = 200, **body: JSON) -> etree._Element:
    async with http.post(STATUS, json=body) as answer:
        assert answer.status == status
        assert answer.headers["Content-Type"] == "application/xml;charset=UTF-8;"
        return etree.fromstring(await answer.read())


def states(document: etree._Element) -> dict[str, tuple[str, ...]]:
    return {
        str(asset.get("tid")): tuple(str(itm.text) for itm in asset.iterfind("o:meta/o:itm", NS))
        for asset in document.iterfind("o:assets/o:asset", NS)
    }


def message(document: etree._Element) -> str:
    assert document.tag == f"{{{NS['o']}}}response"
    assert document.findtext("o:status", namespaces=NS) == "ERROR"
    assert len(document.findtext("o:details/o:itm[@key='supportId']", "", NS)) == 36
    assert document.findtext("o:issues/o:itm[@key='code']", namespaces=NS) == "1000"
    return document.findtext("o:issues/o:itms[@type='details']/o:itm[@key='errorMessage']", "", NS)


async def test_the_published_document(omn: Omn, http: aiohttp.ClientSession) -> None:
    """Byte for byte the published form, given the order asked for."""
    omn.switch({"reply_order": "asked"})
    async with http.post(STATUS, json={"tids": [FIRST, SECOND]}) as answer:
        text = await answer.text()
    assert text == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<pim xmlns="http://www.apollon.de/omn" schemaVersion="5.6.0">\n'
        "  <meta>\n"
        '    <itm key="messageType">request</itm>\n'
        '    <itm key="messageTime">2026-03-04T08:30:12.417Z</itm>\n'
        '    <itm key="itemInformationType">asset</itm>\n'
        "  </meta>\n"
        "  <assets>\n"
        f'    <asset tid="{FIRST}" id="70412">\n'
        '      <meta><itm key="ImportState">running</itm><itm key="ObjectState">import incomplete</itm></meta>\n'
        "    </asset>\n"
        f'    <asset tid="{SECOND}" id="70413">\n'
        '      <meta><itm key="ImportState">available</itm><itm key="ObjectState">locked</itm></meta>\n'
        "    </asset>\n"
        "  </assets>\n"
        "</pim>\n"
    )


async def test_ids_are_ignored_beside_tids(omn: Omn, http: aiohttp.ClientSession) -> None:
    """Either list will do, as strings or numbers; with both, only tids count."""
    assert list(states(await ask(http, ids=["70412", 70413]))) == [SECOND, FIRST]
    assert list(states(await ask(http, tids=[FIRST], ids=["70413"]))) == [FIRST]
    omn.switch({"numeric_ids": False})
    assert "ids" in message(await ask(http, 400, ids=[70413]))


async def test_unknown_ids_are_left_out(omn: Omn, http: aiohttp.ClientSession) -> None:
    """Known assets alone are answered; 404 when none is known; a switch refuses the whole batch."""
    assert list(states(await ask(http, tids=["nowhere", FIRST]))) == [FIRST]
    assert message(await ask(http, 404, tids=["nowhere", FIRST.lower()]))
    omn.switch({"none_known": "answer"})
    assert states(await ask(http, tids=["nowhere"])) == {}
    omn.switch({"unknown_ids": "refuse"})
    assert message(await ask(http, 404, tids=["nowhere", FIRST]))


async def test_bad_requests_have_the_response_root(omn: Omn, http: aiohttp.ClientSession) -> None:
    """400 with an error document: no ids, too many ids, not an object, not JSON."""
    assert message(await ask(http, 400)) == "Neither tids nor ids given"
    omn.switch({"batch_max": 1})
    assert "1" in message(await ask(http, 400, tids=[FIRST, SECOND]))
    for body, content_type in (("[]", "application/json"), ("{", "application/json"), ("{}", "text/plain")):
        async with http.post(STATUS, data=body, headers={"Content-Type": content_type}) as answer:
            assert answer.status == 400
            assert message(etree.fromstring(await answer.read()))
    async with http.get(STATUS) as answer:
        assert answer.status == 404


async def test_every_state_can_be_scripted(omn: Omn, http: aiohttp.ClientSession) -> None:
    """Text with spaces, text nobody published and text that XML must escape all arrive as they were put."""
    for import_state in ("pending", "running", "available", "incomplete", 'half <done> & "quoted"'):
        for object_state in ("import incomplete", "available", "locked", "marked for deletion", "novel"):
            omn.put("id:70412", {"ImportState": import_state, "ObjectState": object_state})
            assert states(await ask(http, tids=[FIRST])) == {FIRST: (import_state, object_state)}
    omn.put("tid:a&b", {"meta": {"Novel": "x"}})
    assert states(await ask(http, tids=["a&b"])) == {"a&b": ("available", "available", "x")}


async def test_no_token_no_answer(omn: Omn) -> None:
    """401 as an error document, or as something in front would say it."""
    async with aiohttp.ClientSession(omn.url) as session:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic c2FuZGJveA=="}):
            async with session.post(STATUS, json={"tids": [FIRST]}, headers=headers) as answer:
                assert answer.status == 401
                assert message(etree.fromstring(await answer.read())) == "Unauthorized"
        for form, expected in (("html", "<html>"), ("empty", "")):
            omn.switch({"unauthorised_answer": form})
            async with session.post(QUERY, json={}) as answer:
                assert (answer.status, (await answer.text())[:6]) == (401, expected)


async def test_self_signed_tokens(omn: Omn, clock: Clock) -> None:
    """HS512 by the named key, expiring ahead but not beyond what the server allows; anything else is 401."""
    secret, kid = omn.credentials["jwt_secret"], omn.credentials["jwt_kid"]
    claims = {"mandator": "sandbox", "sub": "assetwatch", "exp": NOW + 600}

    def signed(*, key: str = secret, named: str = kid, algorithm: str = "HS512", **changed: JSON) -> str:
        return jwt.encode({**claims, **changed}, key, algorithm, headers={"kid": named})

    async def answered(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(omn.url) as session,
            session.post(STATUS, json={"tids": [FIRST]}, headers=headers) as answer,
        ):
            return answer.status

    assert await answered(signed()) == 200
    refused = [
        signed(key="x" * 64),
        signed(named="other"),
        signed(algorithm="HS256"),
        signed(exp=NOW - 1),
        signed(exp=NOW + omn.switches.jwt_expire_max_s + 1),
        jwt.encode({"sub": "assetwatch"}, secret, "HS512", headers={"kid": kid}),
        "not.a.token",
    ]
    assert [await answered(token) for token in refused] == [401] * len(refused)
    clock.now_s += 601
    assert await answered(signed()) == 401
    clock.now_s = NOW
    omn.switch({"release": "6.0"})
    assert await answered(signed()) == 401


async def test_offline_token_is_traded_for_an_access_token(omn: Omn, clock: Clock) -> None:
    """6.0: discovery names the token endpoint, whose token is let in for an hour."""
    omn.switch({"release": "6.0", "static_token": False})
    known = omn.credentials
    form = {"grant_type": "refresh_token", "client_id": "omn-ui", "refresh_token": known["offline_token"]}
    async with aiohttp.ClientSession(omn.url) as session:
        async with session.get("/auth/realms/OMN/.well-known/openid-configuration") as answer:
            endpoint = (await answer.json())["token_endpoint"]
        for changed, status, error in (
            ({"client_id": "other"}, 401, "invalid_client"),
            ({"grant_type": "password"}, 400, "unsupported_grant_type"),
            ({"refresh_token": "old"}, 400, "invalid_grant"),
        ):
            async with session.post(endpoint, data={**form, **changed}) as answer:
                assert (answer.status, (await answer.json())["error"]) == (status, error)
        async with session.post(endpoint, data=form) as answer:
            grant = await answer.json()
        assert (grant["expires_in"], grant["refresh_token"]) == (3600, known["offline_token"])
        headers = {"Authorization": f"Bearer {grant['access_token']}"}
        for later_s, status in ((0, 200), (3590, 200), (3601, 401)):
            clock.now_s = NOW + later_s
            async with session.post(STATUS, json={"tids": [FIRST]}, headers=headers) as answer:
                assert answer.status == status
        omn.switch({"rotate_offline_token": True})
        async with session.post(endpoint, data=form) as answer:
            rotated = (await answer.json())["refresh_token"]
        async with session.post(endpoint, data=form) as answer:
            assert answer.status == 400
        async with session.post(endpoint, data={**form, "refresh_token": rotated}) as answer:
            assert answer.status == 200


async def test_release_5_has_no_realm(omn: Omn, http: aiohttp.ClientSession) -> None:
    """There is no login endpoint before 6.0."""
    async with http.get("/auth/realms/OMN/.well-known/openid-configuration") as answer:
        assert answer.status == 404
    omn.switch({"release": "6.0"})
    async with http.get("/auth/realms/OMN/.well-known/openid-configuration") as answer:
        assert answer.status == 200


async def test_json_forms_are_behind_a_switch(omn: Omn, http: aiohttp.ClientSession) -> None:
    """XML whatever is asked for; with the switch on, JSON and compact JSON by Accept."""
    for accept in ("application/json", "application/json+compact"):
        async with http.post(STATUS, json={"tids": [FIRST]}, headers={"Accept": accept}) as answer:
            assert answer.content_type == "application/xml"
    omn.switch({"json_forms": True, "default_form": "json"})
    expected = {"ImportState": "running", "ObjectState": "import incomplete"}
    async with http.post(STATUS, json={"tids": [FIRST]}, headers={"Accept": "*/*"}) as answer:
        asset = (await answer.json())["assets"]["asset"][0]
        assert {each["key"]: each["value"] for each in asset["meta"]["itms"]} == expected
    accept = "application/xml;q=0.5, application/json+compact"
    async with http.post(STATUS, json={"tids": [FIRST]}, headers={"Accept": accept}) as answer:
        assert answer.content_type == "application/json+compact"
        body = await answer.json(content_type=None)
        assert body["assets"] == [{"tid": FIRST, "id": "70412", "meta": expected}]
        assert body["meta"]["messageType"] == "request"
    async with http.post(STATUS, json={"tids": [FIRST]}, headers={"Accept": "application/xml"}) as answer:
        assert answer.content_type == "application/xml"


async def test_documents_may_differ_in_their_heads(omn: Omn, http: aiohttp.ClientSession) -> None:
    """A document may lack schemaVersion and have a sourceEnv, by switch."""
    omn.switch({"schema_version": None, "source_env": "test"})
    document = await ask(http, tids=[FIRST])
    assert document.get("schemaVersion") is None
    assert document.findtext("o:meta/o:itm[@key='sourceEnv']", namespaces=NS) == "test"


async def test_query_finds_by_all_its_criteria(omn: Omn, http: aiohttp.ClientSession) -> None:
    """Criteria are ANDed: time window, file types, directory by path; none at all is refused."""
    omn.put("tid:old", {"modified": "2025-01-01T00:00:00.000Z", "path": "/MAM/products/shoes", "fileType": "VIDEO"})

    async def found(**body: JSON) -> list[str]:
        async with http.post(QUERY, json=body) as answer:
            assert answer.status == 200
            return sorted((await answer.json())["tids"])

    assert await found(modifiedFrom="1970-01-01T00:00:00.000Z") == sorted([FIRST, SECOND, "old"])
    assert await found(modifiedFrom="2026-01-01T00:00:00.000Z") == sorted([FIRST, SECOND])
    assert await found(modifiedUntil="2026-01-01T00:00:00.000Z") == ["old"]
    assert await found(fileTypes=["VIDEO"]) == ["old"]
    assert await found(fileTypes=["VIDEO"], modifiedFrom="2026-01-01T00:00:00.000Z") == []
    assert await found(directory={"path": "/MAM/products"}) == ["old"]
    omn.switch({"directory_is_recursive": False})
    assert await found(directory={"path": "/MAM/products"}) == []
    refused: list[JSON] = [
        {},
        {"modifiedFrom": "yesterday"},
        {"modifiedFrom": 5},
        {"directory": {}},
        {"fileTypes": "IMG"},
    ]
    for body in refused:
        async with http.post(QUERY, json=body) as answer:
            assert answer.status == 400
            assert message(etree.fromstring(await answer.read()))
    omn.switch({"query_without_criteria": "all"})
    assert len(await found()) == 3


async def test_a_change_of_state_is_no_modification_unless_switched(omn: Omn, clock: Clock) -> None:
    """The query's change feed does not see a state alone, as long as nothing says it would."""
    clock.now_s += 60
    assert omn.put("id:70412", {"ImportState": "available"})["modified"] == "2026-03-04T08:30:12.417Z"
    omn.switch({"status_is_modification": True})
    assert omn.put("id:70412", {"ImportState": "incomplete"})["modified"] == "2026-03-04T08:31:12.417Z"


async def test_put_and_remove_by_either_id(omn: Omn) -> None:
    """Either id names the same asset; a tid or number of another asset is refused."""
    assert omn.get("id:70412") == omn.get(f"tid:{FIRST}")
    assert omn.put("id:99", {})["tid"] == omn.put("id:99", {"ImportState": "pending"})["tid"]
    for asset_id, native in (
        ("tid:new", {"id": 70412}),
        ("id:70412", {"tid": SECOND}),
        ("plain", {}),
        ("id:x", {}),
        ("tid:new", {"importState": "running"}),
    ):
        with pytest.raises(ValueError, match=r"another|already|neither|importState"):
            omn.put(asset_id, native)
    omn.remove("id:70412")
    assert omn.get(f"tid:{FIRST}") is None
    assert omn.truth[-1][1:] == (f"tid:{FIRST}", None)
    with pytest.raises(KeyError):
        omn.remove("id:70412")


async def test_assets_live_through_every_published_state() -> None:
    """A seeded population visits all import and object states and keeps its size; tids have 35 characters."""
    omn = Omn(clock=lambda: NOW)
    rng = random.Random(7)  # noqa: S311 - must be repeatable
    omn.seed(rng, 30)
    for _ in range(1500):
        omn.advance(rng)
    seen = [change.state for change in omn.truth if change.state is not None]
    assert {state["ImportState"] for state in seen} == {"pending", "running", "available", "incomplete"}
    assert {state["ObjectState"] for state in seen} == {
        "import incomplete",
        "available",
        "locked",
        "marked for deletion",
    }
    assert len(omn.asset_ids()) == 30
    assert {len(asset_id) for asset_id in omn.asset_ids()} == {len("tid:") + 35}
    assert any(change.state is None for change in omn.truth)


async def test_seeding_and_living_may_share_a_seed() -> None:
    """An upload never gets a tid that is in use, even from the same random numbers."""
    omn = Omn(clock=lambda: NOW)
    for _ in range(2):
        omn.seed(random.Random(1), 20)  # noqa: S311 - must be repeatable
    assert len(set(omn.asset_ids())) == 40
