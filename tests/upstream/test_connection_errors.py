"""Why a call came to no answer is told in words, whichever server, port or certificate is at fault."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.model.errors import BadAnswer, Unreachable, UpstreamError
from assetwatchd.settings.schema import UsdSearchSource
from assetwatchd.upstream.http import tls_errors
from assetwatchd.upstream.http.connection_errors import CODINGS, PHRASES, _words
from assetwatchd.upstream.http.transport import Transport
from support.secure import HOST, OK, Authority, asynchronous, blocking, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SERVERS = [blocking, asynchronous]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def calling(port: int, scheme: str = "https", host: str = HOST, **settings: Any) -> AsyncIterator[Transport]:
    told = {"kind": "usd_search", "base_url": f"{scheme}://{host}:{port}", "rate_per_s": 1000, **settings}
    transport = Transport("usd", UsdSearchSource.model_validate(told))
    try:
        yield transport
    finally:
        await transport.close()


async def why(port: int, scheme: str = "https", host: str = HOST, **settings: Any) -> str:
    """Call once; return why there was no answer, which is never a name of a class, None or code."""
    async with calling(port, scheme, host, **settings) as transport:
        with pytest.raises(UpstreamError) as caught:
            await transport.request("GET", "/")
    return readable(str(caught.value))


def readable(text: str) -> str:
    assert not any(word in text for word in ("None", "Error", "Client", "Traceback", "_ssl", "0x")), text
    return text


async def test_a_certificate_that_expired(authority: Authority) -> None:
    """When it did is told, which the operator of that server can act on."""
    gone = authority.ca.issue_cert(HOST, not_before=NOW - 9 * DAY, not_after=NOW - 2 * DAY)
    async with blocking(serving(gone)) as port:
        text = await why(port, ca_file=authority.file)
    assert f"certificate expired on {NOW - 2 * DAY:%Y-%m-%d %H:%M} UTC" in text
    assert f"{HOST}:{port}" in text


async def test_a_certificate_of_a_time_to_come(authority: Authority) -> None:
    """Mostly it is one of the clocks."""
    coming = authority.ca.issue_cert(HOST, not_before=NOW + 2 * DAY, not_after=NOW + 9 * DAY)
    async with blocking(serving(coming)) as port:
        assert f"not valid before {NOW + 2 * DAY:%Y-%m-%d}" in await why(port, ca_file=authority.file)


@pytest.mark.parametrize(("host", "names"), [(HOST, ["a.example", "b.example"]), ("localhost", ["10.0.0.1", "c.org"])])
async def test_a_certificate_for_another_host(authority: Authority, host: str, names: list[str]) -> None:
    """Which hosts it is for is told, as a name that is wrong by a letter is to be found."""
    async with blocking(serving(authority.ca.issue_cert(*names))) as port:
        text = await why(port, host=host, ca_file=authority.file)
    assert f"host name does not match: the certificate is not for {host}, but for {', '.join(names)}" in text


async def test_a_certificate_of_nobody_we_trust(authority: Authority) -> None:
    """Whether there is a ca_file or not: the text says where the authority's certificate belongs."""
    async with blocking(serving(trustme.CA().issue_cert(HOST))) as port:
        trusts: list[dict[str, Any]] = [{}, {"ca_file": authority.file}]
        for settings in trusts:
            text = await why(port, **settings)
            assert "unknown authority" in text
            assert "ca_file" in text


async def test_a_certificate_that_is_signed_by_itself(authority: Authority) -> None:
    """That is another thing to do something about than an authority that is not known."""
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with authority.ca.private_key_pem.tempfile() as key:
        own.load_cert_chain(authority.file, key)
    async with blocking(own) as port:
        assert "self-signed" in await why(port)


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
@pytest.mark.parametrize("server", SERVERS)
async def test_a_server_that_wants_a_client_certificate(
    authority: Authority, version: ssl.TLSVersion, server: Callable[..., Any]
) -> None:
    """It may say so, or only end the connection: in the handshake (1.2) or when it was asked (1.3)."""
    context = serving(authority.ca.issue_cert(HOST), client_ca=authority.ca, maximum_version=version)
    async with server(context) as port:
        text = await why(port, ca_file=authority.file)
        assert "the server wants a client certificate" in text
        assert "tls_cert_file" in text
        async with calling(port, ca_file=authority.file, **authority.pair("client")) as transport:
            assert (await transport.request("GET", "/")).body == b"{}"


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
@pytest.mark.parametrize("server", SERVERS)
async def test_a_server_that_does_not_take_our_certificate(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion, server: Callable[..., Any]
) -> None:
    """It asked, and was shown one of an authority that it does not know."""
    context = serving(authority.ca.issue_cert(HOST), client_ca=authority.ca, maximum_version=version)
    stranger = Authority(tmp_path, "stranger").pair("of-a-stranger")
    async with server(context) as port:
        assert "does not take our certificate" in await why(port, ca_file=authority.file, **stranger)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.parametrize("server", SERVERS)
async def test_a_server_of_old_tls(authority: Authority, version: ssl.TLSVersion, server: Callable[..., Any]) -> None:
    """It is not spoken to, and the text says by which setting it would be, whether it tells why it hangs up or not."""
    old = serving(authority.ca.issue_cert(HOST))
    old.minimum_version = old.maximum_version = version
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with server(old) as port:
        assert "tls_legacy: true" in await why(port, ca_file=authority.file)
        async with calling(port, ca_file=authority.file, tls_legacy=True) as transport:
            assert (await transport.request("GET", "/")).body == b"{}"


async def test_a_server_of_todays_tls_is_not_called_old(authority: Authority) -> None:
    """Once it has greeted us, or old versions are offered, nothing is said of them."""
    offered = await why_closed(tls_legacy=True)
    assert "closed the connection during the TLS handshake" in offered
    assert "tls_legacy" not in offered
    assert "tls_legacy" in await why_closed()
    async with (
        asynchronous(serving(authority.ca.issue_cert(HOST))) as port,
        calling(port, ca_file=authority.file) as transport,
    ):
        assert "tls_legacy" in tls_errors.broken_off(transport._tls)
        await transport.request("GET", "/")
        assert "tls_legacy" not in tls_errors.broken_off(transport._tls)


async def why_closed(**told: Any) -> str:
    async with closing_at_once() as port:
        return await why(port, **told)


async def test_a_server_of_an_old_cipher(authority: Authority) -> None:
    """The same of ciphers: one that is not offered ends the handshake, with no word of a client certificate."""
    old = serving(authority.ca.issue_cert(HOST), maximum_version=TLS_1_2)
    old.set_ciphers("ALL:@SECLEVEL=0")
    offered = {cipher["name"] for cipher in ssl.create_default_context().get_ciphers()}
    known = {name for cipher in old.get_ciphers() if (name := cipher["name"]).startswith("ECDHE-ECDSA")}
    old.set_ciphers(f"{min(known - offered)}:@SECLEVEL=0")
    async with blocking(old) as port:
        text = await why(port, ca_file=authority.file)
    assert "tls_legacy" in text
    assert "client certificate" not in text


@pytest.mark.parametrize("server", SERVERS)
async def test_plain_http_to_a_port_with_tls(authority: Authority, server: Callable[..., Any]) -> None:
    """The server closes the connection; the text names what it may be, and what to change."""
    async with server(serving(authority.ca.issue_cert(HOST))) as port:
        text = await why(port, "http")
    assert "plain HTTP was spoken to a TLS port" in text
    assert "https://" in text


@pytest.mark.parametrize("phrase", PHRASES, ids=range(len(PHRASES)))
async def test_a_server_that_says_how_it_was_spoken_to(phrase: bytes) -> None:
    """What nginx, Go, Apache and Tomcat say in a 400 is no fault of the request."""
    body = b"<html><h1>400 Bad Request</h1>" + phrase + b"</html>"
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with blocking(None, answer) as port:
        assert PHRASES[phrase] in await why(port, "http")


async def test_a_server_that_answers_http_with_an_alert_of_tls() -> None:
    """Some do, in bytes."""
    async with blocking(None, b"\x15\x03\x01\x00\x02\x02\x46") as port:
        assert "plain HTTP was spoken to a TLS port" in await why(port, "http")


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.0 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00" * 9])
async def test_tls_to_a_port_without(answer: bytes) -> None:
    """Whatever it answers, it is no TLS."""
    async with blocking(None, answer) as port:
        assert "TLS was spoken to a port that answers without TLS" in await why(port)


async def test_a_port_that_ends_each_connection() -> None:
    """With TLS and without."""
    async with closing_at_once() as port:
        assert "closed the connection during the TLS handshake" in await why(port)
        assert "plain HTTP was spoken to a TLS port" in await why(port, "http")


@asynccontextmanager
async def closing_at_once() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.transport.abort(), HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def in_parts(transport: Transport) -> None:
    async with transport.parts("GET", "/"):
        pass


async def over_websocket(transport: Transport) -> None:
    async with transport.websocket("/", heartbeat_s=20):
        pass


@pytest.mark.parametrize("call", [lambda transport: transport.raw("GET", "/"), in_parts, over_websocket])
async def test_every_kind_of_call_says_the_same(authority: Authority, call: Callable[[Transport], Any]) -> None:
    """Whole, in parts, and as a WebSocket."""
    gone = authority.ca.issue_cert(HOST, not_before=NOW - 9 * DAY, not_after=NOW - 2 * DAY)
    for server, scheme, words in (
        (blocking(serving(gone)), "https", "certificate expired on"),
        (blocking(serving(authority.ca.issue_cert("a.example"))), "https", "host name does not match"),
        (asynchronous(serving(gone, client_ca=authority.ca)), "http", "plain HTTP was spoken to a TLS port"),
        (blocking(None), "https", "TLS was spoken to a port that answers without TLS"),
    ):
        async with server as port, calling(port, scheme, ca_file=authority.file) as transport:
            with pytest.raises(UpstreamError, match=words) as caught:
                await call(transport)
        readable(str(caught.value))


async def test_nobody_listens() -> None:
    """One address or, by a name, several."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    for host in (HOST, "localhost", "[::1]"):
        text = await why(port, "http", host)
        assert f"cannot connect to {host.strip('[]')}:{port}: " in text
    assert "Connection refused" in await why(port, "http")


async def test_a_name_that_is_not_found() -> None:
    """The name is told, and that it is the name."""
    text = await why(80, "http", "no-such-host.invalid")
    assert text.startswith("the name no-such-host.invalid ")


async def test_a_server_that_had_answered_is_not_taken_for_another() -> None:
    """One that was fine, and ends a connection, does not speak TLS all at once."""
    answers = iter([OK])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer := next(answers, b""):
            writer.write(answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server, calling(server.sockets[0].getsockname()[1], "http") as transport:
        await transport.request("GET", "/")
        with pytest.raises(Unreachable) as caught:
            await transport.request("GET", "/")
    assert str(caught.value) == "the server closed the connection without an answer"


async def test_a_certificate_cannot_speak_in_an_error(authority: Authority) -> None:
    """Of its names those are told that are names, and few of them."""
    names = [f"host-{number}.example" for number in range(50)]
    async with blocking(serving(authority.ca.issue_cert(*names))) as port:
        text = await why(port, ca_file=authority.file)
    assert "host-4.example, 45 more" in text
    assert len(text) < 300


# What is wrong with the answer itself ---------------------------------------------------


def headed(*lines: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Security-Policy: " + b"x" * 9_000],
        [b"Content-Security-Policy: " + b"x" * 32_000],
        [b"X-%d: y" % number for number in range(150)],
        [b"X-%d: y" % number for number in range(250)],
        [b"Content-Encoding: utf-8"],
        [b"Content-Encoding: identity"],
        [b"Content-Encoding:"],
    ],
)
async def test_answers_that_are_odd_and_can_be_read(lines: list[bytes]) -> None:
    """Long policies, many headers, and an encoding that is none."""
    async with asynchronous(None, headed(*lines)) as port, calling(port, "http") as transport:
        assert (await transport.request("GET", "/")).body == b"{}"


@pytest.mark.parametrize(
    ("lines", "settings", "words"),
    [
        ([b"X: " + b"y" * 3000], {"header_bytes_max": 2000}, "Got more than 2000 bytes.*raise header_bytes_max"),
        ([b"X" * 3000 + b": y"], {"header_bytes_max": 2000}, "Got more than 2000 bytes.*raise header_bytes_max"),
        ([b"X-%d: y" % n for n in range(40)], {"headers_max": 30}, "Too many headers.*raise headers_max"),
        ([b"X: " + b"y" * 33_000], {}, "header_bytes_max"),
        ([b"X-%d: y" % n for n in range(300)], {}, "headers_max"),
    ],
)
async def test_headers_beyond_a_limit(lines: list[bytes], settings: dict[str, Any], words: str) -> None:
    """Words of aiohttp are kept, and the setting is named; nothing of the headers is in the text."""
    async with asynchronous(None, headed(*lines)) as port, calling(port, "http", **settings) as transport:
        with pytest.raises(BadAnswer, match=words) as caught:
            await transport.request("GET", "/")
    assert "yy" not in readable(str(caught.value))


@pytest.mark.parametrize("encoding", [*sorted(CODINGS - {"gzip", "deflate"}), "gzip, br", "BR", " zstd ", "gzip, gzip"])
async def test_an_encoding_that_was_not_asked_for(encoding: str) -> None:
    """Its name is told; to install something is no advice for who runs this."""
    answer = headed(f"Content-Encoding: {encoding}".encode())
    async with asynchronous(None, answer) as port, calling(port, "http") as transport:
        with pytest.raises(BadAnswer) as caught:
            await transport.request("GET", "/")
    text = readable(str(caught.value))
    assert encoding.strip().lower().split(", ")[-1] in text
    assert "install" not in text


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_an_encoding_that_is_not_what_it_says(encoding: str) -> None:
    """Garbage under the name of one that is read."""
    async with asynchronous(None, headed(f"Content-Encoding: {encoding}".encode())) as port:
        assert "Can not decode content-encoding" in await why(port, "http")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc hunter2\r\n\r\n",
        headed(b"no header hunter2"),
        headed(b"a\x00b: hunter2"),
        headed(b"Content-Length: hunter2"),
        headed(b"Transfer-Encoding: hunter2"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhunter2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhunter2",
    ],
)
async def test_what_is_no_http(answer: bytes) -> None:
    """In aiohttp's words, without a word of the answer: it may be a secret that was sent."""
    async with blocking(None, answer) as port:
        assert "hunter2" not in await why(port, "http")


@given(st.binary(max_size=60))
async def test_no_answer_is_beyond_words(answer: bytes) -> None:
    """Whatever comes back is an answer or an error in words."""
    async with blocking(None, answer) as port, calling(port, "http") as transport:
        try:
            await transport.raw("GET", "/")
        except UpstreamError as error:
            readable(str(error))


@given(st.text())
def test_nothing_that_is_quoted_is_told(quoted: str) -> None:
    """Of aiohttp's words the quotes of an answer are left out, whatever is in them."""
    marked = f"hunter2{quoted}"
    assert "hunter2" not in _words(f"Got more than 9 bytes when reading: {marked.encode('utf-8', 'replace')!r}.")
    assert "hunter2" not in _words(f"Bad status line:\n  Expected HTTP/:\n\n  {marked!r}\n    ^")


async def test_nothing_is_logged_of_a_handshake_that_failed(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """The condition of the source says it once; a trace at each call would bury everything else."""
    async with blocking(serving(trustme.CA().issue_cert(HOST))) as port, calling(port, ca_file=authority.file) as call:
        for _ in range(3):
            with pytest.raises(Unreachable):
                await call.request("GET", "/")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
