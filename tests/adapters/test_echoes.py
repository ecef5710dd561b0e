"""An upstream that echoes what it was sent: none of our secrets gets into a status, a list or an error of any kind."""

from __future__ import annotations

import base64
import json
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote
from xml.sax.saxutils import escape

import pytest
from aiohttp import web
from pydantic import TypeAdapter

from assetwatchd.app import ADAPTERS
from assetwatchd.model.errors import UpstreamError
from assetwatchd.model.values import Observation, State
from assetwatchd.settings.schema import AnySource
from assetwatchd.upstream.answers import Unreadable
from assetwatchd.upstream.redaction import MASK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from assetwatchd.upstream.port import Upstream

PASSWORD = "p&ss <w>/rd\"'1"
KEY = "EXAMPLE/KEY+of=forty-characters-or-so-0123"
TOKEN = "eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiJ3YXRjaCJ9.c2lnbmF0dXJlL3dpdGgrbWFya3M"
BASIC = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
CODES = (200, 201, 204, 400, 401, 403, 404, 409, 410, 418, 422, 429, 500, 501, 503)
PADDING = 20_000
"""So many spaces make an answer long enough to be read in a process beside."""

OMN_XML = """<pim><assets><asset tid="1" id="1">
  <itm key="ImportState">ECHO</itm><itm key="ObjectState">available</itm><itm key="x">ECHO</itm>
</asset></assets></pim>"""
OMN_JSON = """{"assets": [
  {"tid": "1", "id": "1", "meta": {"ImportState": ECHO, "ObjectState": "available", "y": ECHO, ECHO: "z"}}
]}"""
SBC_XML = """<response><data>
  <operationState><operation>ECHO</operation><status>ECHO</status></operationState>
  <additionalInfo><a b="ECHO">ECHO</a></additionalInfo><errorText>ECHO</errorText>
</data></response>"""
USD_JSON = """{
  "plugins_statuses": {ECHO: {
    "indexing_status": ECHO, "plugin_status_history": [{"status": ECHO, "exception": ECHO, "hash_value": ECHO}]
  }},
  "storage_backend_info": {"asset_status": "ok", "storage_asset_hash": ECHO, "metadata": {"a": [ECHO], ECHO: 1}}
}"""
MI_JSON = """{"code": "0", "result": {
  "uploadStatus": ECHO, "uploadResult": ECHO, "metaData": {"format": ECHO, "resolution": ECHO}
}}"""
JSON_ERROR = """{
  "error": ECHO, "error_description": ECHO, "detail": [{"loc": [ECHO], "msg": ECHO}], "errorCode": ECHO, "code": ECHO,
  "message": ECHO, "details": ECHO
}"""
XML_ERROR = "<response><messages><message>ECHO</message></messages><itm key='errorMessage'>ECHO</itm></response>"
SBC_SUCCESS = """<response><data>
  <operationState><operation>activate</operation><status>success</status></operationState>
</data></response>"""

AS: dict[str, tuple[str, Callable[[str], str]]] = {
    "json": ("application/json", json.dumps),
    "json_of_php": ("application/json", lambda text: json.dumps(text).replace("/", "\\/")),
    "xml": ("application/xml", lambda text: escape(text, {'"': "&quot;", "'": "&apos;"})),
    "xml_in_numbers": ("application/xml", lambda text: "".join(f"&#{ord(char)};" for char in text)),
}


class Kind:
    """A kind of upstream: its settings, the asset that is read, the form of an answer, and where tokens come from."""

    def __init__(self, kind: str, asset_id: str, forms: tuple[str, ...], body: str, **settings: Any) -> None:
        self.kind = kind
        self.asset_id = asset_id
        self.forms = forms
        self.body = body
        self.settings = settings

    def secrets(self) -> set[str]:
        """Return those of its settings, and what is made of them."""
        told = json.dumps(self.settings)
        given = {secret for secret in (PASSWORD, KEY, TOKEN) if json.dumps(secret) in told}
        return given | ({BASIC, BASIC.rstrip("=")} if PASSWORD in given else set())

    def upstream(self, base_url: str) -> Upstream:
        """Build the adapter."""
        values = {"kind": self.kind, "base_url": base_url, "rate_per_s": 10_000, **self.settings}
        if "refresh_token" in self.settings.get("auth", {}):
            values["auth"] = {**self.settings["auth"], "discovery_url": f"{base_url}/discovery"}
        settings = TypeAdapter[Any](AnySource).validate_python(values)
        return ADAPTERS[self.kind]("echo", settings)


JSONS, XMLS = ("json", "json_of_php"), ("xml", "xml_in_numbers")
SIGNED = {"kind": "signed_jwt", "secret": KEY, "key_id": "k", "mandator": "m", "subject": "s"}
KINDS = {
    "usd_search basic": Kind(
        "usd_search", "s3://b/f", JSONS, USD_JSON, auth={"kind": "basic", "username": "admin", "password": PASSWORD}
    ),
    "usd_search bearer": Kind("usd_search", "s3://b/f", JSONS, USD_JSON, auth={"kind": "bearer", "token": TOKEN}),
    "usd_search key": Kind("usd_search", "s3://b/f", JSONS, USD_JSON, auth={"kind": "api_key", "key": KEY}),
    "omn bearer": Kind("omn", "tid:1", XMLS, OMN_XML, auth={"kind": "bearer", "token": TOKEN}),
    "omn bearer in JSON": Kind("omn", "tid:1", JSONS, OMN_JSON, auth={"kind": "bearer", "token": TOKEN}, answer="json"),
    "omn signed": Kind("omn", "tid:1", XMLS, OMN_XML, auth=SIGNED),
    "omn traded": Kind("omn", "tid:1", XMLS, OMN_XML, auth={"kind": "refresh_token", "refresh_token": KEY}),
    "media_intelligence": Kind("media_intelligence", "abc/1/2", JSONS, MI_JSON, access_key="public", secret_key=KEY),
    "oracle_sbc": Kind("oracle_sbc", "last-operation", XMLS, SBC_XML, username="admin", password=PASSWORD),
}


class Echo:
    """Answers every request with what it was sent, and whatever else is secret; but for the calls that bring a token.

    seen: what it was sent that nobody else may know. status: of its answers.
    """

    def __init__(self, kind: Kind, form: str, status: int, *, padding: int) -> None:
        self.seen = kind.secrets()
        self._kind = kind
        self._content_type, self._write = AS[form]
        self.status = status
        self._padding = padding

    async def answer(self, request: web.Request) -> web.Response:
        """Answer."""
        body = await request.text()
        self.seen.update(self._secrets_of(request, body))
        if request.path == "/discovery":
            return web.json_response({"token_endpoint": f"{request.url.origin()}/token"})
        if request.path == "/token":
            return web.json_response(
                {"access_token": "at-" + TOKEN[::-1], "refresh_token": "rt-" + KEY, "expires_in": 60}
            )
        if request.path.endswith("/auth/token"):
            token = "session-token-0123456789"
            return web.Response(
                text=f"<response><data><accessToken>{token}</accessToken></data></response>",
                content_type="application/xml",
            )
        return web.Response(body=self._echo().encode(), status=self.status, content_type=self._content_type)

    def _echo(self) -> str:
        said = f"you sent {' and '.join(sorted(self.seen))} {quote(' '.join(sorted(self.seen)))}"
        is_json = "json" in self._content_type
        body = self._kind.body if self.status == 200 else (JSON_ERROR if is_json else XML_ERROR)
        return body.replace("ECHO", self._write(said)) + " " * self._padding

    @staticmethod
    def _secrets_of(request: web.Request, body: str) -> set[str]:
        names = ("x-api-key", "x-ncp-apigw-signature-v2")
        headers = {request.headers[name] for name in names if name in request.headers}
        bearer = request.headers.get("Authorization", "").partition(" ")[2]
        form = dict(parse_qsl(body)) if "form" in request.content_type else {}
        return {*headers, bearer, form.get("refresh_token", "")} - {""}


@asynccontextmanager
async def echoing(kind: Kind, form: str, status: int, padding: int = 0) -> AsyncIterator[tuple[Echo, Upstream]]:
    echo = Echo(kind, form, status, padding=padding)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    upstream = kind.upstream(f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield echo, upstream
    finally:
        await upstream.close()
        await runner.cleanup()


def shown(echo: Echo, told: str) -> list[str]:
    """Return the secrets that are in a text, as they are or written as in Python, JSON, XML or a URL."""
    forms = {
        form
        for secret in echo.seen
        for form in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], escape(secret), quote(secret, safe=""))
    }
    return [form for form in forms if form in told]


CASES = [pytest.param(name, form, id=f"{name}: {form}") for name, kind in KINDS.items() for form in kind.forms]


PLACES = pytest.mark.parametrize("padding", [0, PADDING], ids=["at once", "beside"])
OMN = pytest.mark.parametrize("name", ["omn bearer", "omn signed", "omn traded"])


@PLACES
@pytest.mark.parametrize(("name", "form"), CASES)
async def test_values(name: str, form: str, padding: int) -> None:
    """A 200 that holds every secret wherever a text may be is read, and shows none of them."""
    kind = KINDS[name]
    async with echoing(kind, form, 200, padding) as (echo, upstream):
        for _ in range(2):
            [observation] = await upstream.observe([kind.asset_id])
            assert isinstance(observation, Observation)
            assert observation.asset_id == kind.asset_id
            assert observation.detail is not None
            assert shown(echo, repr(observation)) == []
            assert MASK in repr(observation)


@pytest.mark.parametrize(("name", "form"), CASES)
async def test_errors(name: str, form: str) -> None:
    """Nor does an answer of any other code, in what it ends with, or in a trace of that."""
    kind = KINDS[name]
    async with echoing(kind, form, CODES[0]) as (echo, upstream):
        for status in CODES:
            echo.status = status
            assert [secret for told in await outcomes(upstream, kind.asset_id) for secret in shown(echo, told)] == []


async def outcomes(upstream: Upstream, asset_id: str) -> list[str]:
    """Return all that a read and a probe show, answers and errors with their traces."""
    told = []
    for call in (upstream.observe([asset_id]), upstream.probe()):
        try:
            told.append(repr(await call))
        except UpstreamError as error:
            told.append("".join(traceback.format_exception(error)) + repr(error))
    return told


@PLACES
@OMN
async def test_unreadable_assets(name: str, padding: int) -> None:
    """What is said of an asset whose state cannot be read shows none either."""
    body = OMN_XML.replace('<itm key="ObjectState">available</itm>', "")
    kind = Kind("omn", "tid:1", XMLS, body, **KINDS[name].settings)
    async with echoing(kind, "xml", 200, padding) as (echo, upstream):
        [answer] = await upstream.observe([kind.asset_id])
        assert isinstance(answer, Unreadable)
        assert answer.asset_id == kind.asset_id
        assert shown(echo, repr(answer)) == []


@PLACES
@OMN
async def test_lists(name: str, padding: int) -> None:
    """A token in place of an id is no id; the list has what is left of it, and says what of it cannot be read."""
    kind = Kind("omn", "tid:1", JSONS, '{"tids": ["1", ECHO, {"tid": ECHO}]}', **KINDS[name].settings)
    async with echoing(kind, "json", 200, padding) as (echo, upstream):
        listed = await upstream.enumerate()
        assert len(listed.asset_ids) == 2
        assert "tid:1" in listed.asset_ids
        assert listed.unreadable == 1
        assert shown(echo, repr(listed)) == []
        assert MASK in repr(listed)


WORDS = ("a", "HTTP", "status", "success", "available", "answer", "data", "our credentials", "operation", "0")


@pytest.mark.parametrize("word", WORDS)
async def test_a_password_that_is_a_word_of_theirs_or_ours(word: str) -> None:
    """An operation is read as ever, and errors begin as they would with any other password."""
    kind = Kind("oracle_sbc", "last-operation", XMLS, SBC_SUCCESS, username="admin", password=word)
    async with echoing(kind, "xml", 200) as (echo, upstream):
        [observation] = await upstream.observe([kind.asset_id])
        assert isinstance(observation, Observation)
        assert (observation.state, observation.facets[0].native) == (State.AVAILABLE, "success")
        assert observation.facets[0].name == "operation"
        for status in CODES[1:]:
            echo.status = status
            with pytest.raises(UpstreamError, match=rf"HTTP {status}"):
                await upstream.observe([kind.asset_id])
