"""The one contract of every adapter, each against its stand-in over real sockets."""

from __future__ import annotations

import asyncio
import re
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from assetwatchd.model.errors import AnswerTooLarge, BadAnswer, Refused, Throttled, Unreachable, UpstreamError
from assetwatchd.model.values import Observation, State
from assetwatchd.upstream.answers import ANSWER_BYTES, Unchanged
from assetwatchd.upstream.port import Listed
from support.harness import KINDS, Harness, harness_of
from support.observed import observed as seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from assetwatchd.upstream.port import Upstream

HARNESSES = {kind: harness_of(kind) for kind in KINDS}
ENTITY_BOMB = (
    '<!DOCTYPE a [<!ENTITY a0 "boom">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    + "]><a>&a9;</a>"
)
EXTERNAL_ENTITY = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>'
UNREADABLE = {
    "empty": {"body": ""},
    "garbage": {"body": "\x00\x01\x02garbage"},
    "html": {"body": "<html><body>It works</body></html>", "content_type": "text/html"},
    "number": {"body": "7", "content_type": "application/json"},
    "list": {"body": "[[]]", "content_type": "application/json"},
    "other_xml": {"body": "<other/>", "content_type": "application/xml"},
    "not_utf8": {"charset_garbage": True},
}
UNREADABLE_AS = {
    "json": {
        "deep": {"body": '{"a":' * 100_000, "content_type": "application/json"},
        "nan": {"body": "NaN", "content_type": "application/json"},
        "html_as_json": {"body": "<html>It works</html>", "content_type": "application/json"},
        "empty_object": {"body": "{}", "content_type": "application/json"},
    },
    "xml": {
        "deep": {"body": "<a>" * 100_000, "content_type": "application/xml"},
        "entity_bomb": {"body": ENTITY_BOMB, "content_type": "application/xml"},
        "external_entity": {"body": EXTERNAL_ENTITY, "content_type": "application/xml"},
        "doctype": {"body": "<!DOCTYPE a><a/>", "content_type": "application/xml"},
    },
}


def kinds(condition: Callable[[type[Harness]], bool]) -> list[str]:
    """Name the kinds to which a clause of the contract applies."""
    return [kind for kind, harness in HARNESSES.items() if condition(harness)]


@asynccontextmanager
async def started(kind: str) -> AsyncIterator[Harness]:
    harness = HARNESSES[kind]()
    await harness.start()
    try:
        yield harness
    finally:
        await harness.stop()


@pytest.fixture(params=KINDS)
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    async with started(request.param) as harness:
        yield harness


async def raised(call: Awaitable[object], harness: Harness) -> UpstreamError:
    """Return the UpstreamError that a call ends with, after looking for secrets in all that it shows."""
    with pytest.raises(UpstreamError) as caught:
        await call
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert [secret for secret in harness.secrets() if secret in shown] == []
    return caught.value


async def observed(upstream: Upstream, asset_id: str) -> Observation:
    [observation] = await upstream.observe([asset_id])
    return seen(observation)


async def test_known_asset_is_read(harness: Harness) -> None:
    """A known asset is read under the very id it was asked by, with facets and what the upstream said."""
    observation = await observed(harness.upstream(), harness.known)
    assert observation.asset_id == harness.known
    assert observation.state is State.AVAILABLE
    assert observation.detail is not None
    assert all(facet.native for facet in observation.facets)


async def test_equal_answers_make_equal_observations(harness: Harness) -> None:
    """Two reads of an asset that did not change are equal, so that nobody is told of a change."""
    upstream = harness.upstream()
    assert await observed(upstream, harness.known) == await observed(upstream, harness.known)


async def test_the_answer_that_is_known_is_not_read_again(harness: Harness) -> None:
    """An observation carries the digest of its answer; given it, the adapter tells the same answer, and no other."""
    upstream = harness.upstream()
    first = await observed(upstream, harness.known)
    assert await upstream.observe([harness.known], {harness.known: first.answer}) == [Unchanged(harness.known)]
    assert await upstream.observe([harness.known], {harness.known: bytes(16)}) == [first]
    assert len(first.answer) == ANSWER_BYTES


async def test_known_id_passes_the_check(harness: Harness) -> None:
    """The check takes a proper id and tells what is wrong with an empty one."""
    upstream = harness.upstream()
    assert upstream.check(harness.known) is None
    assert upstream.check("")


@pytest.mark.parametrize("kind", kinds(lambda harness: harness.unknown is not None))
async def test_unknown_asset_is_missing(kind: str) -> None:
    """An asset the upstream does not have is an answer: MISSING, under its own id."""
    async with started(kind) as harness:
        assert harness.unknown is not None
        observation = await observed(harness.upstream(), harness.unknown)
        assert (observation.asset_id, observation.state) == (harness.unknown, State.MISSING)


async def test_batch_answers_each_asset(harness: Harness) -> None:
    """A call never asks for more than batch_max assets, and each asset asked for is answered once."""
    upstream = harness.upstream()
    wanted = [harness.known, *([harness.unknown] if harness.unknown else [])][: upstream.capabilities.batch_max]
    assert [observation.asset_id for observation in await upstream.observe(wanted)] == wanted


@pytest.mark.parametrize("kind", kinds(lambda harness: harness.authenticates))
async def test_refused_credentials(kind: str) -> None:
    """Credentials that the upstream does not take end observe and probe with Refused."""
    async with started(kind) as harness:
        stranger = harness.stranger()
        assert type(await raised(stranger.observe([harness.known]), harness)) is Refused
        assert type(await raised(stranger.probe(), harness)) is Refused


@pytest.mark.parametrize("status", [401, 403])
async def test_refusals_of_a_proxy(harness: Harness, status: int) -> None:
    """A 401 or 403 with an HTML page of something in between is Refused, whatever the kind's own form."""
    harness.fail(status=status, body="<html>Forbidden</html>", content_type="text/html")
    assert type(await raised(harness.upstream().observe([harness.known]), harness)) is Refused


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_server_error_is_unreachable(harness: Harness, status: int) -> None:
    """A server error says nothing of the asset: Unreachable."""
    harness.fail(status=status, body="<html>broken</html>", content_type="text/html")
    assert type(await raised(harness.upstream().observe([harness.known]), harness)) is Unreachable


async def test_throttled_with_seconds(harness: Harness) -> None:
    """429 is Throttled, with the seconds of Retry-After."""
    harness.fail(status=429, body="slow down", headers={"Retry-After": "7"})
    error = await raised(harness.upstream().observe([harness.known]), harness)
    assert (type(error), error.retry_after_s) == (Throttled, 7.0)


async def test_no_answer_in_time(harness: Harness) -> None:
    """An upstream that accepts and never answers is Unreachable after timeout_s."""
    harness.fail(hang=True)
    error = await raised(harness.upstream(timeout_s=0.3).observe([harness.known]), harness)
    assert (type(error), str(error)) == (Unreachable, "no answer within 0.3 s")


async def test_slow_body_in_time(harness: Harness) -> None:
    """A body that trickles is held to the same timeout_s."""
    harness.fail(drip_bytes_per_s=10)
    assert type(await raised(harness.upstream(timeout_s=0.3).observe([harness.known]), harness)) is Unreachable


async def test_oversized_body(harness: Harness) -> None:
    """A body beyond body_bytes_max is not read to its end."""
    harness.fail(huge_bytes=64 * 1024 * 1024)
    error = await raised(harness.upstream(body_bytes_max=4096).observe([harness.known]), harness)
    assert type(error) is AnswerTooLarge
    assert "4096" in str(error)


async def test_cut_body(harness: Harness) -> None:
    """A body that breaks off is Unreachable, never read as if it were whole."""
    harness.fail(truncate_bytes=10)
    assert type(await raised(harness.upstream().observe([harness.known]), harness)) is Unreachable


async def test_aborted_connection(harness: Harness) -> None:
    """A connection that is cut before any answer is Unreachable."""
    harness.fail(disconnect=True)
    assert type(await raised(harness.upstream().observe([harness.known]), harness)) is Unreachable


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        pytest.param(kind, fault, id=f"{kind}-{name}")
        for kind, harness in HARNESSES.items()
        for name, fault in {**UNREADABLE, **UNREADABLE_AS[harness.body]}.items()
    ],
)
async def test_unreadable_body(kind: str, fault: dict[str, object]) -> None:
    """A 200 whose body is not in the published form is a BadAnswer, and the next good answer is read again."""
    async with started(kind) as harness:
        upstream = harness.upstream()
        harness.fail(**fault)
        assert type(await raised(upstream.observe([harness.known]), harness)) is BadAnswer
        harness.standin.faults.clear()
        assert (await observed(upstream, harness.known)).state is State.AVAILABLE


@pytest.mark.parametrize(
    "fault",
    [
        {"body": "<html><body>Sign in</body></html>", "content_type": "text/html"},
        {"body": "<!-- sso --><div class='box'><p>Please log in</p></div>", "content_type": "text/html"},
        {"body": "<p>Session expired", "content_type": "text/html; charset=utf-8"},
        {"body": '<!DOCTYPE html><form><input type="password"></form>', "content_type": "application/json"},
        {
            "body": '<?xml version="1.0"?>\n<html xmlns="x"><title>Log on</title></html>',
            "content_type": "application/xml",
        },
        {"status": 302, "headers": {"Location": "/login?next=%2Fstatus"}},
        {"status": 307, "headers": {"Location": "https://sso.example.com/start"}},
        {"status": 303, "headers": {"Location": "/auth/realms/x/protocol/openid-connect/auth"}},
    ],
)
async def test_a_login_page_is_refused_as_such(harness: Harness, fault: dict[str, object]) -> None:
    """A login page, or a redirect to one, is Refused, with or without tokens; the text says so, and blames nothing."""
    harness.fail(**fault)
    error = await raised(harness.upstream().observe([harness.known]), harness)
    assert type(error) is Refused
    assert "login page" in str(error)
    assert "base_url" not in str(error)
    harness.standin.faults.clear()
    assert (await observed(harness.upstream(), harness.known)).state is State.AVAILABLE


@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
@pytest.mark.parametrize("form", ['{"code":"9","x":"%s"}', '["%s"]', ' \n{"result":{"x":["%s"]}}', '"%s"'])
async def test_a_document_that_quotes_a_page_is_none(harness: Harness, form: str, content_type: str) -> None:
    """JSON that cannot be read is told as such, however it is labelled: a page in a text of it is not the answer."""
    harness.fail(body=form % "<!doctype html><html>Sign in</html>", content_type=content_type)
    error = await raised(harness.upstream().observe([harness.known]), harness)
    assert type(error) is not Refused
    assert "page" not in str(error).removesuffix(error.said)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_to_the_same_path_is_a_wrong_address(harness: Harness, status: int) -> None:
    """A server that only moved, to https or to another host, is no login page: base_url is to be corrected."""
    requests = harness.standin.requests
    await observed(harness.upstream(), harness.known)
    path = next(each.path_qs for each in requests.all() if re.search(harness.observe_path, each.path_qs))
    harness.fail(status=status, headers={"Location": f"https://login.example.com{path}"})
    error = await raised(harness.upstream().observe([harness.known]), harness)
    assert (type(error), "correct base_url" in str(error)) == (BadAnswer, True)


async def test_redirect_is_not_followed(harness: Harness) -> None:
    """A redirect is a BadAnswer, and its target is never called: no credential can get there."""
    visitors: list[object] = []

    async def visited(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visitors.append(writer.get_extra_info("peername"))
        writer.close()
        await writer.wait_closed()

    target = await asyncio.start_server(visited, "127.0.0.1", 0)
    async with target:
        port = target.sockets[0].getsockname()[1]
        harness.fail(redirect_to=f"http://127.0.0.1:{port}/elsewhere")
        assert type(await raised(harness.upstream().observe([harness.known]), harness)) is BadAnswer
    assert visitors == []


async def test_connection_refused(harness: Harness) -> None:
    """Nobody listening is Unreachable for observe and probe; the same adapter reads again when somebody does."""
    upstream = harness.upstream()
    await harness.standin.stop()
    assert type(await raised(upstream.observe([harness.known]), harness)) is Unreachable
    assert type(await raised(upstream.probe(), harness)) is Unreachable
    await harness.standin.start()
    assert (await observed(upstream, harness.known)).state is State.AVAILABLE


async def test_probe_shows_life(harness: Harness) -> None:
    """The probe passes while the upstream answers, and costs it few calls."""
    await harness.upstream().probe()
    assert harness.standin.requests.count(harness.probe_path) == 1


async def test_probe_fails_with_the_upstream(harness: Harness) -> None:
    """The probe ends as a read would when the upstream is broken or asks us to slow down."""
    upstream = harness.upstream()
    harness.fail(path=harness.probe_path, times=1, status=500, body="broken")
    assert type(await raised(upstream.probe(), harness)) is Unreachable
    harness.fail(path=harness.probe_path, times=1, status=429, headers={"Retry-After": "3"})
    assert type(await raised(upstream.probe(), harness)) is Throttled


@pytest.mark.parametrize("kind", kinds(lambda harness: harness.enumerates))
async def test_enumerate_lists_all(kind: str) -> None:
    """A list is exactly what the upstream has, in ids that can be observed."""
    async with started(kind) as harness:
        upstream = harness.upstream()
        assert upstream.capabilities.enumerates
        listed = await upstream.enumerate()
        assert listed == Listed(frozenset(harness.standin.asset_ids()))
        assert harness.known in listed.asset_ids


@pytest.mark.parametrize("kind", kinds(lambda harness: not harness.enumerates))
async def test_capabilities_own_up(kind: str) -> None:
    """A kind that cannot list says so."""
    async with started(kind) as harness:
        assert not harness.upstream().capabilities.enumerates


async def test_repr_shows_no_secret(harness: Harness) -> None:
    """Neither the adapter nor what it holds shows a credential when printed."""
    upstream = harness.upstream()
    await observed(upstream, harness.known)
    shown = repr(upstream) + repr(vars(upstream))
    assert [secret for secret in harness.secrets() if secret in shown] == []


async def test_quoted_error_shows_no_secret(harness: Harness) -> None:
    """An upstream that echoes our credentials in its error does not get them into our texts."""
    for secret in sorted(secret for secret in harness.secrets() if secret in str(harness.settings())):
        for body in (
            f'{{"error":"{secret}","details":"{secret}","code":"{secret}","message":"{secret}"}}',
            f"<response><issues><itm key='description'>{secret}</itm></issues></response>",
        ):
            harness.fail(times=1, status=400, body=body, content_type=f"application/{harness.body}")
            await raised(harness.upstream().observe([harness.known]), harness)
            harness.standin.faults.clear()


async def test_close_twice(harness: Harness) -> None:
    """Closing gives back connections and may be done twice."""
    upstream = harness.upstream()
    await upstream.probe()
    await upstream.close()
    await upstream.close()
