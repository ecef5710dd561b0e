"""The Oracle SBC stand-in, asked by a bare HTTP client over real sockets."""

import base64
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import trustme
from lxml import etree

from assetwatch_sandbox.oracle_sbc import ASSET_ID, OracleSbcStandin
from support.clock import Clock

NOW_S = 1_700_000_000.0
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
STATUS = "/rest/v1.2/admin/asyncstatus"
TOKEN = "/rest/v1.2/auth/token"
LOCK = "/rest/v1.2/configuration/lock"
UNLOCK = "/rest/v1.2/configuration/unlock"
MANAGEMENT = "/rest/v1.2/configuration/management"


class Answer(NamedTuple):
    """One answer; text as it came."""

    status: int
    text: str
    headers: Mapping[str, str]

    def find(self, path: str) -> list[str | None]:
        """List the texts of the elements at a path below the root."""
        return [element.text for element in etree.fromstring(self.text.encode()).findall(path)]


class Caller:
    """A client that knows nothing but the published calls."""

    def __init__(self, session: aiohttp.ClientSession, standin: OracleSbcStandin) -> None:
        self.session = session
        self.standin = standin
        self.token = ""

    async def call(self, method: str, path: str, *, token: str | None = None, base: str = "", **options: Any) -> Answer:
        """Send one request as the bearer of token, or of the last one got."""
        headers = {"Authorization": f"Bearer {self.token if token is None else token}", "Accept": "application/xml"}
        headers |= options.pop("headers", {})
        url = (base or self.standin.url) + path
        async with self.session.request(method, url, headers=headers, **options) as answer:
            return Answer(answer.status, await answer.text(), answer.headers)

    async def login(self, user: str = "sandbox-admin", password: str = "not-a-secret-1", **options: Any) -> Answer:
        """Ask for a token, and use it from then on where one came."""
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}"} | options.pop("headers", {})
        answer = await self.call("POST", TOKEN, headers=headers, **options)
        if answer.status == 200:
            self.token = answer.find("data/accessToken")[0] or ""
        return answer

    async def status(self) -> str:
        """Return the body of the status call, which must be a 200."""
        answer = await self.call("GET", STATUS)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/xml")
        return answer.text.removeprefix(HEAD)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW_S)


@pytest.fixture
async def caller(clock: Clock) -> AsyncIterator[Caller]:
    standin = OracleSbcStandin(clock=clock)
    await standin.start()
    async with aiohttp.ClientSession() as session:
        caller = Caller(session, standin)
        await caller.login()
        yield caller
    await standin.stop()


async def test_token_answer(caller: Caller) -> None:
    """A token comes in the published triple, after a declaration."""
    answer = await caller.login()
    assert answer.status == 200
    expected = f"<response><data><accessToken>{caller.token}</accessToken></data><messages/><links/></response>"
    assert answer.text == HEAD + expected
    assert base64.b64decode(caller.token).startswith(b"sandbox-admin,admin,2023-11-14 22:13:20,")


@pytest.mark.parametrize(
    ("header", "status"),
    [("Basic c2FuZGJveC1hZG1pbjp3cm9uZw==", 401), ("Basic ///", 400), ("Bearer x", 400), ("", 400)],
)
async def test_bad_basic(caller: Caller, header: str, status: int) -> None:
    """A wrong password is 401, a header that is not Basic 400."""
    answer = await caller.call("POST", TOKEN, headers={"Authorization": header})
    assert answer.status == status


async def test_wrong_token(caller: Caller) -> None:
    """Without a token, or with another one, the answer is 401 in the triple."""
    for token in ("", "wrong"):
        answer = await caller.call("GET", STATUS, token=token)
        assert answer.status == 401
        assert answer.text == (
            f"{HEAD}<response><data/><messages><message>Client not authorized.</message></messages><links/></response>"
        )


async def test_token_lives_ten_minutes_from_issue(caller: Caller, clock: Clock) -> None:
    """A token is good for ten minutes from issue, however often it is used."""
    clock.now_s += 599.9
    assert (await caller.call("GET", STATUS)).status == 200
    clock.now_s += 0.1
    assert (await caller.call("GET", STATUS)).status == 401


async def test_token_life_from_last_use(caller: Caller, clock: Clock) -> None:
    """Switched so, each use prolongs the token."""
    caller.standin.switch({"token_life_from": "last_use"})
    for _ in range(3):
        clock.now_s += 599
        assert (await caller.call("GET", STATUS)).status == 200


async def test_user_is_not_administrator(caller: Caller) -> None:
    """A user who is no administrator gets a token and then 403."""
    assert (await caller.login("sandbox-user", "not-a-secret-2")).status == 200
    assert (await caller.call("GET", STATUS)).status == 403


@pytest.mark.parametrize("version", ["v1.0", "v1.1", "v1.2"])
async def test_known_versions(caller: Caller, version: str) -> None:
    """Every version the device lists works."""
    assert (await caller.call("GET", STATUS.replace("v1.2", version))).status == 200


async def test_wrong_version(caller: Caller) -> None:
    """Another version is 404 for every call, the token's too, and lists valid URLs unless switched off."""
    for method, path in (("GET", STATUS), ("POST", TOKEN)):
        answer = await caller.call(method, path.replace("v1.2", "v9.9"))
        assert answer.status == 404
        assert f"{caller.standin.url}/rest/v1.2" in answer.find("messages/link")
    caller.standin.switch({"error_links": False})
    assert (await caller.call("GET", STATUS.replace("v1.2", "v9.9"))).find("messages/link") == []


async def test_supported_versions(caller: Caller) -> None:
    """The list of versions wants no version in its path, and a token only by switch."""
    answer = await caller.call("GET", "/rest/api/supportedversions", token="")
    assert answer.text == HEAD + (
        "<response><data><supportedVersions><latestVersion>v1.2</latestVersion><otherVersions><version>v1.0</version>"
        "<version>v1.1</version></otherVersions></supportedVersions></data><messages/><links/></response>"
    )
    assert (await caller.call("GET", "/rest/v1.2/api/supportedversions")).status == 404
    caller.standin.switch({"versions_need_token": True})
    assert (await caller.call("GET", "/rest/api/supportedversions", token="")).status == 401
    assert (await caller.call("GET", "/rest/api/supportedversions")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", STATUS, {}, 405),
        ("HEAD", STATUS, {}, 405),
        ("GET", TOKEN, {}, 405),
        ("GET", STATUS, {"Accept": "application/json"}, 406),
        ("GET", STATUS, {"Accept": "text/html, application/xml;q=0.9"}, 200),
        ("GET", STATUS, {"Accept": "*/*"}, 200),
        ("GET", "/rest/v1.2/admin/lock", {}, 404),
        ("GET", "/", {}, 404),
    ],
)
async def test_misuse(caller: Caller, method: str, path: str, headers: dict[str, str], status: int) -> None:
    """A wrong verb is 405, an Accept without XML 406, a path the device does not have 404."""
    answer = await caller.call(method, path, headers=headers)
    assert answer.status == status
    assert ("Allow" in answer.headers) == (status == 405)


async def test_wrong_body_type(caller: Caller) -> None:
    """A body that is not XML is 415, or 400 by switch."""
    for status in (415, 400):
        caller.standin.switch({"wrong_type_status": status})
        answer = await caller.call("PUT", MANAGEMENT, params={"action": "verify"}, json={})
        assert answer.status == status
        assert answer.find("messages/message")


@pytest.mark.parametrize(
    ("native", "data"),
    [
        (
            {"operation": "activate", "status": "success"},
            "<operationState><operation>activate</operation><status>success</status></operationState>",
        ),
        (
            {"operation": "restore", "status": "failed", "message": "Backup file nightly.gz not found"},
            (
                "<operationState><operation>restore</operation><status>failed</status></operationState>"
                "<message>Backup file nightly.gz not found</message>"
            ),
        ),
        (
            {"status": "done", "additionalInfo": {"files": {"file": ["a&b", "c"]}, "size": 7, "whole": True}},
            (
                "<operationState><status>done</status></operationState><additionalInfo><files><file>a&amp;b</file>"
                "<file>c</file></files><size>7</size><whole>true</whole></additionalInfo>"
            ),
        ),
        ({"additionalInfo": "free text", "operation": None}, "<additionalInfo>free text</additionalInfo>"),
    ],
)
async def test_slot_is_told_as_put(caller: Caller, native: dict[str, Any], data: str) -> None:
    """What is put into the slot is told in the triple, the error text and additionalInfo inside data."""
    caller.standin.put(ASSET_ID, {"operation": "save", "status": "success", "message": "old"})
    caller.standin.put(ASSET_ID, native)
    assert await caller.status() == f"<response><data>{data}</data><messages/><links/></response>"


async def test_empty_slot(caller: Caller) -> None:
    """A slot in which nothing ran has empty data, or an empty operationState by switch."""
    assert await caller.status() == "<response><data/><messages/><links/></response>"
    caller.standin.switch({"empty_slot": "empty_operation_state"})
    assert await caller.status() == "<response><data><operationState/></data><messages/><links/></response>"


async def test_error_element_switch(caller: Caller) -> None:
    """The element of a failed operation's text has the name the switch gives it."""
    caller.standin.switch({"error_element": "errorText"})
    caller.standin.put(ASSET_ID, {"operation": "save", "status": "failed", "message": "disk full"})
    assert "<errorText>disk full</errorText>" in await caller.status()


@pytest.mark.parametrize(
    ("form", "messages"),
    [
        ("one", "<messages><message>Client not authorized.</message></messages>"),
        ("nested", "<messages><message><text>Client not authorized.</text></message></messages>"),
        ("bare", "<messages>Client not authorized.</messages>"),
        ("none", "<messages/>"),
        (
            "many",
            "<messages><message>Client not authorized.</message><message>See the REST API guide.</message></messages>",
        ),
    ],
)
async def test_messages_forms(caller: Caller, form: str, messages: str) -> None:
    """An error's text is nested as the switch says."""
    caller.standin.switch({"messages_form": form})
    assert messages in (await caller.call("GET", STATUS, token="")).text


async def test_lock_belongs_to_a_token(caller: Caller) -> None:
    """The lock is one token's: another is 423 for taking and for releasing it, until it is released."""
    mine = caller.token
    await caller.login()
    assert (await caller.call("POST", LOCK)).status == 204
    assert (await caller.call("POST", LOCK)).status == 204
    for path in (LOCK, UNLOCK):
        answer = await caller.call("POST", path, token=mine)
        assert (answer.status, answer.find("messages/message")) == (423, ["User does not have the lock."])
    assert (await caller.call("POST", UNLOCK)).status == 204
    assert (await caller.call("POST", UNLOCK)).status == 423
    assert (await caller.call("POST", LOCK, token=mine)).status == 204


async def test_lock_ends_with_its_token(caller: Caller, clock: Clock) -> None:
    """A lost token keeps the lock until it expires, and no longer."""
    assert (await caller.call("POST", LOCK)).status == 204
    clock.now_s += 599
    await caller.login()
    assert (await caller.call("POST", LOCK)).status == 423
    clock.now_s += 1
    assert (await caller.call("POST", LOCK)).status == 204


@pytest.mark.parametrize("form", ["field", "bare"])
@pytest.mark.parametrize("revokes", [True, False])
async def test_rerequest_keeps_the_lock(caller: Caller, clock: Clock, form: str, *, revokes: bool) -> None:
    """A token asked for with the current one in the body takes the lock over and lives ten minutes of its own."""
    caller.standin.switch({"reissue_revokes": revokes})
    assert (await caller.call("POST", LOCK)).status == 204
    clock.now_s += 500
    old = caller.token
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await caller.login(data={"any": old} if form == "field" else old, headers=headers)).status == 200
    assert caller.token != old
    assert (await caller.call("GET", STATUS, token=old)).status == (401 if revokes else 200)
    clock.now_s += 200
    assert (await caller.call("GET", STATUS, token=old)).status == 401
    assert (await caller.call("POST", UNLOCK)).status == 204


async def test_rerequest_with_an_unescaped_plus(caller: Caller) -> None:
    """A form field that holds the token as it is, plus signs and all, is understood too."""
    while "+" not in caller.token:
        await caller.login()
    assert (await caller.call("POST", LOCK)).status == 204
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    await caller.login(data=f"token={caller.token}", headers=headers)
    assert (await caller.call("POST", UNLOCK)).status == 204


async def test_rerequest_of_another_user_takes_nothing(caller: Caller) -> None:
    """A token of somebody else in the body does not hand the lock over."""
    assert (await caller.call("POST", LOCK)).status == 204
    admin = caller.token
    await caller.login("sandbox-user", "not-a-secret-2", data={"token": admin})
    assert (await caller.call("POST", UNLOCK, token=admin)).status == 204


@pytest.mark.parametrize(
    ("method", "action"),
    [("POST", "backup"), ("POST", "activate"), ("PUT", "save"), ("PUT", "verify"), ("PUT", "restore")],
)
async def test_operation_runs_and_succeeds(caller: Caller, clock: Clock, method: str, action: str) -> None:
    """A start is 202 with the status call's absolute URL; the slot shows it running, then done, by the clock."""
    assert (await caller.call("POST", LOCK)).status == 204
    answer = await caller.call(method, MANAGEMENT, params={"action": action})
    assert answer.status == 202
    assert answer.text == (
        f"{HEAD}<response><data/><messages/><links><link>{caller.standin.url}{STATUS}</link></links></response>"
    )
    clock.now_s += 4.9
    assert f"<operation>{action}</operation><status>inProgress</status>" in await caller.status()
    clock.now_s += 0.1
    assert f"<operation>{action}</operation><status>success</status>" in await caller.status()
    states = [line.state["status"] for line in caller.standin.truth if line.state]
    assert states == ["inProgress", "success"]


async def test_operation_fails_in_switched_words(caller: Caller, clock: Clock) -> None:
    """Running and failed are spelt as the switches say, and the text of a failure comes inside data with HTTP 200."""
    caller.standin.switch(
        {
            "running_status": "running",
            "failed_status": "error",
            "operation_outcome": "failed",
            "failure_text": "no such file",
            "operation_duration_s": 1,
            "absolute_link": False,
        }
    )
    answer = await caller.call("PUT", MANAGEMENT, params={"action": "verify"})
    assert answer.find("links/link") == [STATUS]
    assert "<status>running</status>" in await caller.status()
    clock.now_s += 1
    body = await caller.status()
    assert "<status>error</status></operationState><message>no such file</message></data>" in body


@pytest.mark.parametrize(
    ("method", "action", "status"),
    [
        ("POST", "activate", 423),
        ("PUT", "save", 423),
        ("PUT", "restore", 423),
        ("PUT", "verify", 202),
        ("POST", "backup", 202),
        ("PUT", "activate", 400),
        ("POST", "dance", 400),
        ("POST", "", 400),
    ],
)
async def test_lock_is_needed(caller: Caller, method: str, action: str, status: int) -> None:
    """What changes the configuration needs the lock; an action that is unknown, or of the other verb, is 400."""
    assert (await caller.call(method, MANAGEMENT, params={"action": action})).status == status
    assert (caller.standin.get(ASSET_ID) is None) == (status != 202)


async def test_anyone_overwrites_the_slot(caller: Caller, clock: Clock) -> None:
    """The last operation of anybody is all there is: the one it overwrote never comes back."""
    await caller.call("PUT", MANAGEMENT, params={"action": "verify"})
    await caller.standin.commands["start"]({"operation": "file-transfer", "duration_s": 60})
    clock.now_s += 30
    assert "<operation>file-transfer</operation><status>inProgress</status>" in await caller.status()
    caller.standin.put(ASSET_ID, {"operation": "save", "status": "success"})
    clock.now_s += 60
    assert "<operation>save</operation><status>success</status>" in await caller.status()


async def test_commands(caller: Caller) -> None:
    """Somebody at the console takes and releases the lock; the other node has its own slot; a reboot forgets all."""
    commands = caller.standin.commands
    await commands["lock"]({})
    assert (await caller.call("POST", LOCK)).status == 423
    await commands["unlock"](None)
    assert (await caller.call("POST", LOCK)).status == 204
    state = {"operation": "save", "status": "success"}
    caller.standin.put(ASSET_ID, state)
    assert await commands["switchover"](None) is None
    assert (await caller.call("POST", "/rest/v1.2/admin/switchover")).status == 204
    assert caller.standin.get(ASSET_ID) == state
    await commands["reboot"](None)
    assert (await caller.call("GET", STATUS)).status == 401
    assert caller.standin.get(ASSET_ID) is None
    assert [line.state for line in caller.standin.truth] == [state, None, state, None]


@pytest.mark.parametrize(
    ("asset_id", "native"),
    [
        ("other", {}),
        (ASSET_ID, {"state": "x"}),
        (ASSET_ID, {"status": 3}),
        (ASSET_ID, {"additionalInfo": {"not a name": "x"}}),
        (ASSET_ID, {"message": "\x00"}),
    ],
)
def test_put_refuses(asset_id: str, native: dict[str, Any]) -> None:
    """Another asset, an unknown field, a wrong type and what XML cannot hold are refused, and nothing is held."""
    standin = OracleSbcStandin()
    with pytest.raises(ValueError, match=r"asset|slot|tag name|XML compatible"):
        standin.put(asset_id, native)
    assert standin.get(ASSET_ID) is None


def test_remove() -> None:
    """Removing empties the slot; an empty one cannot be removed; the one asset is listed all the same."""
    standin = OracleSbcStandin()
    standin.put(ASSET_ID, {"operation": "save", "status": "success"})
    standin.remove(ASSET_ID)
    assert (standin.get(ASSET_ID), standin.asset_ids()) == (None, [ASSET_ID])
    with pytest.raises(KeyError):
        standin.remove(ASSET_ID)


def test_seed_and_advance() -> None:
    """Seeding is repeatable; advancing alternates between running and an end, sometimes a failed one."""
    standins = [OracleSbcStandin() for _ in range(2)]
    for standin in standins:
        rng = random.Random(3)  # noqa: S311 - a scenario, not a secret
        standin.seed(rng, 5)
        for _ in range(200):
            standin.advance(rng)
    states = [[line.state for line in standin.truth] for standin in standins]
    assert states[0] == states[1]
    assert len(states[0]) == 201
    assert {state["status"] for state in states[0] if state} == {"success", "failed", "inProgress"}
    assert all((state or {})["status"] == "inProgress" for state in states[0][1::2])


class Certificate(NamedTuple):
    """A certificate for 127.0.0.1, its key, and the authority to trust, all PEM files."""

    certificate: Path
    key: Path
    authority: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    made = Certificate(folder / "certificate.pem", folder / "key.pem", folder / "authority.pem")
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(made.certificate)
    leaf.private_key_pem.write_to_path(made.key)
    authority.cert_pem.write_to_path(made.authority)
    return made


@pytest.mark.parametrize("given", ["paths", "context"])
async def test_tls(certificate: Certificate, given: str) -> None:
    """With TLS the calls work over HTTPS, links are https, and the plain port answers nothing but 426."""
    context = None
    switches: dict[str, object] = {"tls": True}
    if given == "context":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.certificate, certificate.key)
    else:
        switches |= {"tls_certificate": str(certificate.certificate), "tls_key": str(certificate.key)}
    standin = OracleSbcStandin(switches=switches, ssl_context=context)
    trust = ssl.create_default_context(cafile=str(certificate.authority))
    await standin.start()
    first = (standin.url, standin.plain_url)
    await standin.stop()
    await standin.start()
    assert (standin.url, standin.plain_url) == first
    assert standin.url.startswith("https://")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        caller = Caller(session, standin)
        await caller.login()
        started = await caller.call("POST", MANAGEMENT, params={"action": "backup"})
        assert started.find("links/link") == [standin.url + STATUS]
        assert "<operation>backup</operation>" in await caller.status()
        for method, path in (("GET", STATUS), ("POST", TOKEN), ("GET", "/rest/api/supportedversions"), ("GET", "/")):
            plain = await caller.call(method, path, base=standin.plain_url)
            assert (plain.status, plain.find("messages/message")) == (426, ["Client must connect with HTTPS."])
    await standin.stop()


async def test_tls_needs_a_certificate() -> None:
    """TLS without a certificate does not start, rather than start plain."""
    standin = OracleSbcStandin(switches={"tls": True})
    with pytest.raises(ValueError, match="tls_certificate"):
        await standin.start()
    assert not standin.running


async def test_plain_http_426_switch(caller: Caller) -> None:
    """The plain listener answers by default, and 426 to everything by switch."""
    assert (await caller.call("GET", STATUS)).status == 200
    caller.standin.switch({"plain_http_426": True})
    for path in (STATUS, "/rest/api/supportedversions", "/"):
        assert (await caller.call("GET", path)).status == 426
