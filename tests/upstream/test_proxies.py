"""A source is called by the proxy that its settings name, and by none otherwise; what a proxy does wrong is told."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from yarl import URL

from assetwatchd.model.errors import ConfigError, Refused, Unreachable, UpstreamError
from assetwatchd.settings.load import load, plain
from assetwatchd.settings.schema import HttpProxy, PiecesSource, Settings, UsdSearchSource
from assetwatchd.upstream.http.proxies import Proxies
from assetwatchd.upstream.http.transport import Transport
from support.proxy import proxy
from support.redirects import trap
from support.secure import Authority, serving

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.proxy import Proxy

NAME = "upstream.test"
"""A host that only the proxy knows."""
SECRET = "hunter2"
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
SCHEMES = ["http", "https"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Upstream:
    """Answers GET, and echoes over a WebSocket; heads: what came with each call."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.status = 200
        self.heads: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        self.heads.append({"path": request.raw_path, **request.headers})
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.json_response({}, status=self.status)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket


@asynccontextmanager
async def upstream(context: ssl.SSLContext | None) -> AsyncIterator[Upstream]:
    made = Upstream(0)
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def behind(
    scheme: str, authority: Authority, **does: Any
) -> AsyncIterator[tuple[Upstream, Proxy, dict[str, Any]]]:
    """Run an upstream that only a proxy can reach; yield both, and what a source is told of them."""
    context = serving(authority.ca.issue_cert(NAME)) if scheme == "https" else None
    async with upstream(context) as server, proxy(hosts={NAME: server.port}, **does) as between:
        trust = {"ca_file": authority.file}
        yield server, between, {"base_url": f"{scheme}://{NAME}:{server.port}", **trust, "proxy": to(between)}


def to(between: Proxy, **more: object) -> dict[str, object]:
    return {"kind": "http", "url": between.url, **more}


@asynccontextmanager
async def calling(told: dict[str, Any], **more: Any) -> AsyncIterator[Transport]:
    transport = Transport(
        "usd", UsdSearchSource.model_validate({"kind": "usd_search", "rate_per_s": 1000, **told, **more})
    )
    try:
        yield transport
    finally:
        await transport.close()


async def echo(transport: Transport) -> None:
    async with transport.websocket("/stream", heartbeat_s=20) as socket:
        await socket.send_str("hello")
        assert (await socket.receive()).data == b"hello"


async def why(told: dict[str, Any], **more: Any) -> UpstreamError:
    async with calling(told, **more) as transport:
        with pytest.raises(UpstreamError) as caught:
            await transport.request("GET", "/")
    text = str(caught.value)
    assert not any(word in text for word in ("None", "ClientError", "ProxyError", SECRET, BASIC)), text
    return caught.value


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_request_goes_by_the_proxy(authority: Authority, scheme: str) -> None:
    """By CONNECT where there is TLS, else in absolute form, its path as it was given; the proxy finds the host."""
    async with behind(scheme, authority) as (server, between, told), calling(told) as transport:
        assert (await transport.request("GET", "/a%2Fb/%C3%A9?c=d%20e")).body == b"{}"
    where = f"{NAME}:{server.port}"
    assert between.lines == [f"CONNECT {where}" if scheme == "https" else f"GET http://{where}/a%2Fb/%C3%A9?c=d%20e"]
    assert [head["path"] for head in server.heads] == ["/a%2Fb/%C3%A9?c=d%20e"]


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_websocket_goes_by_the_proxy(authority: Authority, scheme: str) -> None:
    """By CONNECT in both cases: a proxy need not know what an upgrade is."""
    async with behind(scheme, authority) as (server, between, told), calling(told) as transport:
        await echo(transport)
    assert between.lines == [f"CONNECT {NAME}:{server.port}"]


async def test_a_tunnel_is_used_again(authority: Authority) -> None:
    """As any connection is."""
    async with behind("https", authority) as (server, between, told), calling(told) as transport:
        for _ in range(3):
            await transport.request("GET", "/")
    assert (between.opened, len(server.heads)) == (1, 3)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_proxy_over_tls(authority: Authority, scheme: str) -> None:
    """It is trusted as the upstream is, and TLS with the upstream is inside."""
    secure = serving(authority.ca.issue_cert("127.0.0.1"))
    async with behind(scheme, authority, context=secure) as (server, between, told), calling(told) as transport:
        await transport.request("GET", "/")
        await echo(transport)
    assert between.lines
    assert len(server.heads) == 2


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_credentials_are_for_the_proxy_alone(authority: Authority, scheme: str) -> None:
    """It gets them at every connection, the upstream never; ours for the upstream stay inside a tunnel."""
    async with behind(scheme, authority, wants=BASIC) as (server, between, told):
        told["proxy"] = to(between, username="me", password=SECRET)
        async with calling(told) as transport:
            for path in ("/1", "/2"):
                await transport.request("GET", path, headers={"Authorization": "Bearer ours"})
            async with transport.websocket("/stream", headers={"Authorization": "Bearer ours"}, heartbeat_s=20):
                pass
            shown = repr(transport._settings) + repr(transport._proxies.of(URL(told["base_url"])))
        assert (SECRET in shown, BASIC in shown) == (False, False)
    assert all(BASIC in head for head in between.heads)
    assert not any("Proxy-Authorization" in head for head in server.heads)
    tunnels = [head for head in between.heads if head.startswith("CONNECT")]
    assert tunnels
    assert not any("Bearer ours" in head for head in tunnels)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_proxy_that_wants_credentials(authority: Authority, scheme: str) -> None:
    """407 is the proxy's, not the upstream's: with none given, and with others."""
    async with behind(scheme, authority, wants=BASIC) as (server, between, told):
        error = await why(told)
        assert isinstance(error, Refused)
        assert f"the proxy 127.0.0.1:{URL(between.url).port} wants credentials (HTTP 407)" in str(error)
        wrong = await why(told, proxy=to(between, username="me", password="x"))
        assert "does not take our credentials (HTTP 407)" in str(wrong)
        assert server.heads == []


@pytest.mark.parametrize("status", [301, 302, 307, 400, 403, 404, 405, 500, 502, 503, 504, 204, 299, 599])
async def test_a_proxy_that_refuses_a_tunnel(authority: Authority, status: int) -> None:
    """Whatever it answers, it is told as the proxy's; no redirect of a proxy is followed."""
    async with trap() as elsewhere, behind("https", authority) as (server, between, told):
        location = elsewhere.locations[0]
        between.answer = f"HTTP/1.1 {status} {SECRET}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        text = str(await why(told))
        assert f"does not connect to {NAME}:{server.port}: HTTP {status}" in text
        assert ("redirect" in text) == (300 <= status < 400)
        assert between.lines == [f"CONNECT {NAME}:{server.port}"]
        assert (elsewhere.visitors, server.heads) == ([], [])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("status", [302, 407, 403, 502])
async def test_a_proxy_that_refuses_a_websocket(authority: Authority, scheme: str, status: int) -> None:
    """The same of what is pushed."""
    async with trap() as elsewhere, behind(scheme, authority) as (server, between, told):
        location = elsewhere.locations[0]
        between.answer = f"HTTP/1.1 {status} No\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        async with calling(told) as transport:
            with pytest.raises(UpstreamError, match=f"the proxy .*HTTP {status}"):
                async with transport.websocket("/stream", heartbeat_s=20):
                    pass
        assert (elsewhere.visitors, server.heads) == ([], [])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("answer", [b"", b"\r\n\r\n", b"SSH-2.0\r\n", b"HTTP/1.1 200\r\n", b"HTTP/1.1 20"])
async def test_a_proxy_that_dies(authority: Authority, scheme: str, answer: bytes) -> None:
    """Before an answer, in it, or with what is none."""
    async with behind(scheme, authority, answer=answer) as (_, between, told):
        error = await why(told)
        assert isinstance(error, Unreachable)
        assert f"127.0.0.1:{URL(between.url).port}" in str(error)


async def test_a_proxy_that_answers_a_plain_request_by_itself(authority: Authority) -> None:
    """Nothing tells its 403 from the upstream's, so the text says who else may have said it; not so inside a tunnel."""
    async with behind("http", authority, answer=b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n") as (_, between, told):
        port = URL(between.url).port
        for status in (403, 429, 502, 302):
            between.answer = f"HTTP/1.1 {status} No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".encode()
            error = await why(told)
            assert str(error).startswith(f"HTTP {status}")
            assert str(error).endswith(f"(through the proxy 127.0.0.1:{port}, which may have answered by itself)")
            assert error.retry_after_s == 7 or status not in (429, 502)
    async with behind("https", authority) as (_, _, told), calling(told) as transport:
        assert (await transport.raw("GET", "/")).way == ""


async def test_a_407_of_the_upstream_is_not_the_proxys(authority: Authority) -> None:
    """Through a tunnel no proxy answers; what the status means there belongs to the kind."""
    async with behind("https", authority) as (server, _, told), calling(told) as transport:
        server.status = 407
        assert (await transport.raw("GET", "/")).status == 407


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_proxy_that_is_not_there(authority: Authority, scheme: str) -> None:
    """The text says that it is the proxy, and where it was looked for."""
    async with behind(scheme, authority) as (_, between, told):
        pass
    port = URL(between.url).port
    assert f"cannot connect to the proxy 127.0.0.1:{port}: Connection refused" in str(await why(told))
    nowhere = {"kind": "http", "url": "http://proxy.invalid:3128"}
    assert "the name of the proxy proxy.invalid" in str(await why(told, proxy=nowhere))


async def test_a_proxy_that_says_nothing(authority: Authority) -> None:
    """The limit of time of a request is that of its tunnel too."""
    async with behind("https", authority, silent=True) as (_, between, told):
        text = str(await why(told, timeout_s=0.2))
    assert text == f"no answer within 0.2 s (through the proxy 127.0.0.1:{URL(between.url).port})"


@pytest.mark.parametrize(
    "connected",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\n",
    ],
)
@pytest.mark.parametrize("websocket", [True, False])
async def test_odd_ways_to_say_yes(authority: Authority, connected: bytes, websocket: bool) -> None:  # noqa: FBT001 - a column
    """A 200 to a CONNECT has no body, whatever it says (RFC 9110, 9.3.6)."""
    scheme = "http" if websocket else "https"
    async with behind(scheme, authority, connected=connected) as (server, _, told), calling(told) as transport:
        if websocket:
            await echo(transport)
        else:
            assert (await transport.request("GET", "/")).body == b"{}"
    assert len(server.heads) == 1


async def test_a_proxy_that_answers_by_itself(authority: Authority) -> None:
    """A page in place of a tunnel is no TLS, and it is told that a proxy stands there."""
    page = b"HTTP/1.1 200 OK\r\n\r\n<html>Log in to the network</html>"
    async with behind("https", authority, answer=page) as (server, _, told):
        assert "through the proxy" in str(await why(told))
        assert server.heads == []


async def test_what_is_wrong_behind_a_proxy_says_so(authority: Authority) -> None:
    """A certificate that is not trusted, and a host that the proxy does not know."""
    async with behind("https", authority) as (server, between, told):
        text = str(await why(told, ca_file=None))
        assert f"TLS with {NAME}:{server.port}: certificate is of an unknown authority" in text
        assert f"(through the proxy 127.0.0.1:{URL(between.url).port})" in text
        assert "HTTP 502" in str(await why(told, base_url="https://other.test"))


# Which proxy ----------------------------------------------------------------------------


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


async def test_the_environment_is_not_asked_unless_told_to(
    authority: Authority, no_environment: pytest.MonkeyPatch
) -> None:
    """http_proxy, https_proxy and no_proxy count with kind: environment alone."""
    async with behind("http", authority) as (server, between, told):
        for name in ("http_proxy", "https_proxy"):
            no_environment.setenv(name, between.url.replace("//", f"//me:{SECRET}@"))
        direct = {"base_url": f"http://127.0.0.1:{server.port}"}
        async with calling(direct) as transport:
            await transport.request("GET", "/")
        assert between.heads == []
        async with calling(told, proxy={"kind": "environment"}) as transport:
            await transport.request("GET", "/")
        assert BASIC in between.heads[0]
        no_environment.setenv("no_proxy", f"other.test,127.0.0.1:{server.port}")
        async with calling(direct, proxy={"kind": "environment"}) as transport:
            await transport.request("GET", "/")
        assert len(between.heads) == 1


@pytest.mark.parametrize(
    ("url", "variable"), [("http://a", "http"), ("ws://a", "http"), ("https://a", "https"), ("wss://a", "https")]
)
def test_each_scheme_has_its_variable(no_environment: pytest.MonkeyPatch, url: str, variable: str) -> None:
    """A WebSocket goes by the proxy of the HTTP that it begins as; upper case counts, lower case more."""
    assert Proxies(_environment()).of(URL(url)) is None
    no_environment.setenv(f"{variable.upper()}_PROXY", "upper:1")
    assert str(Proxies(_environment()).of(URL(url))) == "upper:1"
    no_environment.setenv(f"{variable}_proxy", "http://lower:2/")
    assert str(Proxies(_environment()).of(URL(url))) == "lower:2"


def _environment() -> Any:
    return UsdSearchSource.model_validate(
        {"kind": "usd_search", "base_url": "http://a", "proxy": {"kind": "environment"}}
    ).proxy


@pytest.mark.parametrize("text", ["socks5://p:1080", "http://", "http://p:99999", f"http://me:{SECRET}@p:x", "ftp://p"])
def test_a_variable_that_names_no_http_proxy(no_environment: pytest.MonkeyPatch, text: str) -> None:
    """It stops the start, and is named; what it holds is not shown."""
    no_environment.setenv("https_proxy", text)
    with pytest.raises(ConfigError, match="https_proxy") as caught:
        Proxies(_environment())
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "names", "direct"),
    [
        ("http://a.test", ["a.test"], True),
        ("http://A.test.", ["a.TEST"], True),
        ("http://x.a.test", ["a.test"], True),
        ("http://x.a.test", [".a.test"], True),
        ("http://x.a.test", ["*.a.test"], True),
        ("http://xa.test", ["a.test"], False),
        ("http://a.test", ["b.test"], False),
        ("http://a.test:81", ["a.test:81"], True),
        ("http://a.test:82", ["a.test:81"], False),
        ("http://10.1.2.3", ["10.0.0.0/8"], True),
        ("http://11.1.2.3", ["10.0.0.0/8"], False),
        ("http://[fd00::1]", ["fd00::/8"], True),
        ("http://[fd00::1]:8", ["fd00::1"], True),
        ("http://a.test", ["10.0.0.0/8", "*"], True),
        ("http://a.test", ["", " "], False),
        ("http://127.0.0.1", [], False),
    ],
)
def test_hosts_that_are_called_directly(url: str, names: list[str], direct: bool) -> None:  # noqa: FBT001 - a column
    """By name with all below it, by port, address or network."""
    proxies = Proxies(HttpProxy(kind="http", url="http://p:1", no_proxy=tuple(names)))  # type: ignore[arg-type]  # read as in a file
    assert (proxies.of(URL(url)) is None) == direct


@given(st.lists(st.text(max_size=20), max_size=5))
def test_no_list_of_hosts_is_beyond_reading(names: list[str]) -> None:
    """Whatever a user writes, some proxy is asked or none."""
    Proxies(HttpProxy(kind="http", url="http://p:1", no_proxy=tuple(names))).of(URL("http://a.test"))  # type: ignore[arg-type]  # as above


def test_the_proxy_of_all_is_for_sources_elsewhere() -> None:
    """One's own wins, `direct` among them; this machine is called directly unless the source itself says otherwise."""
    everybody = {"kind": "http", "url": "http://p:1"}
    elsewhere = {"kind": "usd_search", "base_url": "http://usd.example"}
    sources = {
        "plain": elsewhere,
        "direct": {**elsewhere, "proxy": {"kind": "direct"}},
        "own": {**elsewhere, "proxy": {"kind": "http", "url": "http://q:2"}},
        "here": {**elsewhere, "base_url": "http://127.0.0.1:8"},
        "here-too": {**elsewhere, "base_url": "http://localhost"},
        "here-six": {**elsewhere, "base_url": "http://[::1]"},
        "here-by-it": {**elsewhere, "base_url": "http://localhost", "proxy": {"kind": "http", "url": "http://q:2"}},
    }
    settings = Settings.model_validate({"proxy": everybody, "sources": sources})
    asked = {
        name: str(Proxies(source.proxy).of(URL(str(source.base_url)))) for name, source in settings.sources.items()
    }
    none = dict.fromkeys(("direct", "here", "here-too", "here-six"), "None")
    assert asked == {"plain": "p:1", "own": "q:2", "here-by-it": "q:2", **none}
    without = Settings.model_validate({"sources": sources})
    assert without.sources["plain"].proxy is None


@pytest.mark.parametrize(
    "told",
    [
        {"kind": "http", "url": f"http://me:{SECRET}@p:1"},
        {"kind": "http", "url": "socks5://p:1"},
        {"kind": "http", "url": "http://p:1/path"},
        {"kind": "http", "url": "http://p:1", "password": SECRET},
        {"kind": "http", "url": "http://p:1", "username": "a:b"},
        {"kind": "http"},
        {"kind": "off"},
        "http://p:1",
    ],
)
def test_a_proxy_that_cannot_be(told: object) -> None:
    """It is refused, and its credentials are not shown."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"proxy": told})
    assert SECRET not in str(caught.value)


async def test_pieces_os_by_a_proxy(authority: Authority) -> None:
    """Its own transport asks the same: the settings of a source are all that its calls see."""
    source = PiecesSource.model_validate(
        {"kind": "pieces", "proxy": {"kind": "http", "url": "http://p:1"}, "base_url": "http://a"}
    )
    assert str(Transport("pieces", source)._attempt(URL("ws://a")).proxy) == "p:1"


def test_a_proxys_password_comes_as_all_secrets_do(tmp_path: Path) -> None:
    """From a secret file or a variable, for all and for one source; nothing that is printed shows it."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "sources__dam__proxy__password").write_text(f"{SECRET}-of-one\n")
    path = tmp_path / "assetwatch.yaml"
    one = {"kind": "http", "url": "http://q:2", "username": "us"}
    sources: dict[str, dict[str, Any]]
    sources = {name: {"kind": "usd_search", "base_url": "http://a"} for name in ("dam", "other")}
    sources["dam"]["proxy"] = one
    path.write_text(yaml.safe_dump({"proxy": {**one, "url": "http://p:1"}, "sources": sources}))
    settings = load(path, env={"ASSETWATCH__PROXY__PASSWORD": f"{SECRET}-of-all"}, secrets_dir=secrets)
    passwords = {name: source.proxy.password.get_secret_value() for name, source in settings.sources.items()}  # type: ignore[union-attr]  # all have one
    assert passwords == {"dam": f"{SECRET}-of-one", "other": f"{SECRET}-of-all"}
    assert SECRET not in yaml.safe_dump(plain(settings)) + repr(settings)
