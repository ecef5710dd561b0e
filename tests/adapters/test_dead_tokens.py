"""A token that is dead, in every guise that this has: it is dropped, and one new one is had, for all who need it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from assetwatchd.model.errors import AssetRejected, BadAnswer, Refused, UpstreamError
from assetwatchd.model.values import State
from support.harness import Harness, harness_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from assetwatchd.upstream.port import Upstream

HTML, XML, JSON = "text/html", "application/xml", "application/json"
OF_ANY: dict[str, dict[str, Any]] = {
    "401": {"status": 401},
    "403": {"status": 403, "body": "Forbidden"},
    "419": {"status": 419, "body": "Page Expired"},
    "440": {"status": 440},
    "498": {"status": 498, "body": "<html>Invalid Token</html>", "content_type": HTML},
    "302": {"status": 302, "headers": {"Location": "/login"}},
    "303": {"status": 303, "headers": {"Location": "https://sso.example.com/"}},
    "307": {"status": 307, "headers": {"Location": "/auth/realms/OMN/protocol/openid-connect/auth?client_id=x"}},
    "302 to a page of no telling name": {"status": 302, "headers": {"Location": "/start"}},
    "200 with a login page": {"body": "<html><body><form>Log in</form></body></html>", "content_type": HTML},
    "200 with another page": {"body": "<!doctype html><html><div id=root></div></html>", "content_type": HTML},
    "200 with a page that is said to be JSON": {"body": "<html><body>Sign in</body></html>", "content_type": JSON},
    "200 with a page without its first tags": {"body": "<head><title>Login</title></head>", "content_type": HTML},
    "200 with a page that is said to be text": {
        "body": "<!-- portal -->\n<body>Log in</body>",
        "content_type": "text/plain",
    },
    "200 with a script": {"body": "<script>location='/login'</script>", "content_type": HTML},
    "200 with a page that leads on": {
        "body": '<meta http-equiv="refresh" content="0;url=/start">',
        "content_type": HTML,
    },
    "200 with a page in UTF-16": {"body": "\ufeff<\0h\0t\0m\0l\0>\0L\0o\0g\0i\0n\0", "content_type": HTML},
}
OF_OMN: dict[str, dict[str, Any]] = {
    "an error document": {
        "body": '<response><itm key="errorMessage">Token expired</itm></response>',
        "content_type": XML,
    },
    "an error document of unknown words": {
        "body": '<response><itm key="errorMessage">E1234</itm></response>',
        "content_type": XML,
    },
    "an error document in a 400": {
        "status": 400,
        "body": '<response><itm key="errorMessage">JWT is expired</itm></response>',
        "content_type": XML,
    },
    "an error document of unknown words, said to be HTML": {
        "body": '<response><itm key="errorMessage">E1234</itm></response>',
        "content_type": HTML,
    },
    "an error document in JSON of unknown words, said to be HTML": {
        "body": '{"error":"E1234"}',
        "content_type": HTML,
    },
    "a part of a page": {"body": "<div>Please wait", "content_type": HTML},
    "an error document in JSON": {"body": '{"error":"invalid_token"}', "content_type": JSON},
    "a text in JSON": {"body": '"Token expired"', "content_type": JSON},
    "a list in JSON": {"body": '[{"code":"AUTH_401","text":"Token expired"}]', "content_type": JSON},
    "errors in JSON": {"body": '{"errors":[{"error":{"msg":"invalid token"}}]}', "content_type": JSON},
    "no success in JSON": {"body": '{"success":false,"msg":"Your session has ended"}', "content_type": JSON},
    "a problem in JSON": {"body": '{"type":"about:blank","status":401}', "content_type": JSON},
    "an answer with an error and no assets": {
        "body": '<pim><meta><itm key="errorMessage">Please log in again</itm></meta><assets/></pim>',
        "content_type": XML,
    },
    "an error document in OMN's JSON": {"body": '{"response":{"message":"no session"}}', "content_type": JSON},
}
OF_SBC: dict[str, dict[str, Any]] = {
    "messages without data": {
        "body": "<response><messages><message>Client not authorized.</message></messages></response>",
        "content_type": XML,
    },
    "messages beside no data": {
        "body": "<response><data/><messages><message>The session has expired</message></messages></response>",
        "content_type": XML,
    },
    "an error document": {"body": "<error>Unauthorized</error>", "content_type": XML},
}
OF_USD: dict[str, dict[str, Any]] = {
    "an error document": {"body": '{"error":"invalid_token"}', "content_type": JSON},
    "a text": {"body": '"Token expired"', "content_type": JSON},
    "a status": {"body": '{"statusCode":"403"}', "content_type": JSON},
    "a detail": {"body": '{"detail":"Not authenticated"}', "content_type": JSON},
}


class Kind:
    """A kind of upstream whose tokens can be renewed: how it is read, and which of its calls bring a new one."""

    def __init__(self, harness: Harness, token_path: str, **settings: Any) -> None:
        self.harness = harness
        self.token_path = token_path
        self._settings = settings

    def upstream(self) -> Upstream:
        """Build an adapter."""
        return self.harness.upstream(**self._settings)

    @property
    def tokens(self) -> int:
        """How many times a token was asked for."""
        return self.harness.standin.requests.count(self.token_path)


@asynccontextmanager
async def started(kind: str) -> AsyncIterator[Kind]:
    harness = harness_of(kind)()
    await harness.start()
    try:
        yield traded(harness) if kind == "omn" else Kind(harness, "/auth/token")
    finally:
        await harness.stop()


def traded(harness: Harness) -> Kind:
    harness.standin.switch({"release": "6.0", "static_token": False})
    discovery = f"{harness.standin.url}/auth/realms/OMN/.well-known/openid-configuration"
    token = harness.standin.credentials["offline_token"]
    auth = {"kind": "refresh_token", "refresh_token": token, "discovery_url": discovery}
    return Kind(harness, "openid-connect/token", auth=auth, concurrency=16)


CASES = [
    pytest.param(kind, fault, id=f"{kind}: {name}")
    for kind, faults in (("omn", OF_ANY | OF_OMN), ("oracle_sbc", OF_ANY | OF_SBC))
    for name, fault in faults.items()
]


async def state(upstream: Upstream, harness: Harness) -> State:
    [answer] = await upstream.observe([harness.known])
    return getattr(answer, "state", State.UNKNOWN)


@pytest.mark.parametrize(("kind", "fault"), CASES)
async def test_a_dead_token_is_renewed_once_for_all(kind: str, fault: dict[str, Any]) -> None:
    """Five calls that are all answered so share one new token, and whoever asked sees nothing of it."""
    async with started(kind) as it:
        upstream = it.upstream()
        assert await state(upstream, it.harness) is State.AVAILABLE
        it.harness.fail(times=5, **fault)
        assert await asyncio.gather(*(state(upstream, it.harness) for _ in range(5))) == [State.AVAILABLE] * 5
        assert it.tokens == 2


@pytest.mark.parametrize(("kind", "fault"), CASES)
async def test_a_new_token_that_is_no_better_is_the_last(kind: str, fault: dict[str, Any]) -> None:
    """One new token, then the source is told for what it is; and the next read begins with no more than one more."""
    async with started(kind) as it:
        upstream = it.upstream()
        await state(upstream, it.harness)
        it.harness.fail(**fault)
        error = await raised(upstream, it.harness)
        assert type(error) in (Refused, BadAnswer)
        assert "correct base_url" not in str(error)
        assert it.tokens == 2
        await raised(upstream, it.harness)
        assert it.tokens == 3
        it.harness.standin.faults.clear()
        assert await state(upstream, it.harness) is State.AVAILABLE


async def raised(upstream: Upstream, harness: Harness) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await upstream.observe([harness.known])
    return caught.value


@pytest.mark.parametrize("fault", OF_USD.values(), ids=OF_USD)
@pytest.mark.parametrize("kind", ["usd_search"])
async def test_a_token_file_renewed_under_us(kind: str, fault: dict[str, Any], tmp_path: Path) -> None:
    """A token whose file holds another one by now is tried again with that; one that is the same is not."""
    harness = harness_of(kind)()
    await harness.start()
    path = tmp_path / "token"
    path.write_text("old")
    try:
        harness.standin.switch({"auth": "none"})
        upstream = harness.upstream(auth={"kind": "bearer", "token_file": str(path)})
        harness.fail(times=1, **fault)
        assert type(await raised(upstream, harness)) is Refused
        before = harness.standin.requests.count(harness.observe_path)
        harness.fail(times=1, delay_s=0.05, **fault)
        reading = asyncio.create_task(state(upstream, harness))
        await asyncio.sleep(0.02)
        path.write_text("new")
        assert await reading is State.AVAILABLE
        assert harness.standin.requests.count(harness.observe_path) - before == 2
    finally:
        await harness.stop()


async def test_a_refusal_of_one_asset_may_be_one_of_the_token(tmp_path: Path) -> None:
    """A 400 that speaks of the token is read once more with another, and is the asset's when there is none."""
    harness = harness_of("usd_search")()
    await harness.start()
    path = tmp_path / "token"
    path.write_text("old")
    try:
        harness.standin.switch({"auth": "none"})
        upstream = harness.upstream(auth={"kind": "bearer", "token_file": str(path)})
        fault: dict[str, Any] = {"status": 400, "body": '{"detail":"Invalid token"}', "content_type": JSON, "times": 1}
        harness.fail(**fault)
        assert type(await raised(upstream, harness)) is AssetRejected
        harness.fail(delay_s=0.05, **fault)
        reading = asyncio.create_task(state(upstream, harness))
        await asyncio.sleep(0.02)
        path.write_text("new")
        assert await reading is State.AVAILABLE
    finally:
        await harness.stop()


async def test_a_realm_that_answers_with_a_login_page() -> None:
    """The call that brings a token is read as honestly, and is made once."""
    async with started("omn") as it:
        it.harness.standin.faults.add(path=it.token_path, body="<html>Sign in</html>", content_type=HTML)
        error = await raised(it.upstream(), it.harness)
        assert (type(error), "login page" in str(error), it.tokens) == (Refused, True, 1)


@pytest.mark.parametrize("body", ["{}", '{"assets":"Token expired"}', '{"tids":[]}'])
async def test_what_is_no_error_document_costs_no_token(body: str) -> None:
    """An answer that is only in an unknown form does not make us log in again and again."""
    async with started("omn") as it:
        upstream = it.upstream()
        await state(upstream, it.harness)
        it.harness.fail(body=body, content_type=JSON)
        for _ in range(3):
            await asyncio.gather(upstream.observe([it.harness.known]), return_exceptions=True)
        assert it.tokens == 1


async def test_an_operation_that_failed_at_its_login_is_an_operation() -> None:
    """Words about credentials beside an operation are its own, not the device's about us."""
    async with started("oracle_sbc") as it:
        operation = "<operationState><operation>save</operation><status>failed</status></operationState>"
        body = f"<response><data>{operation}<errorText>Login to the server denied</errorText></data></response>"
        it.harness.fail(body=body, content_type=XML)
        assert await state(it.upstream(), it.harness) is State.FAILED
        assert it.tokens == 1
