"""The command line over TLS: whom it trusts, what it shows, and what it says where that does not do."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import grpc
import pytest
import trustme

from support.command_line import run
from support.fake_service import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAME = "assetwatch.example"
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class Folder(NamedTuple):
    """Certificates on disk: ca, other (authorities), client and stranger (one of each), and what servers show."""

    path: Path
    ca: trustme.CA

    def __truediv__(self, name: str) -> str:
        return str(self.path / name)

    def server(self, *names: str, client_ca: bool = False, expired: bool = False) -> grpc.ServerCredentials:
        """Return the credentials of a server with such names."""
        issued = self.ca.issue_cert(*names, not_after=LONG_AGO if expired else None)
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        roots = self.ca.cert_pem.bytes() if client_ca else None
        return grpc.ssl_server_credentials(
            [(issued.private_key_pem.bytes(), chain)], root_certificates=roots, require_client_auth=client_ca
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    path = tmp_path_factory.mktemp("certificates")
    ca, other = trustme.CA(), trustme.CA()
    for name, authority, until in (("ca", ca, None), ("other", other, None), ("expired", ca, LONG_AGO)):
        authority.cert_pem.write_to_path(str(path / f"{name}.pem"))
        holder = authority.issue_cert("client", not_after=until)
        holder.private_key_pem.write_to_path(str(path / f"{name}-client.key"))
        holder.cert_chain_pems[0].write_to_path(str(path / f"{name}-client.pem"))
    (path / "garbage.pem").write_text("no certificate")
    return Folder(path, ca)


CALLS: list[tuple[list[str], tuple[str, ...], dict[str, bool], list[str]]] = [
    # names of the server's certificate, options, its settings, what is said; nothing: it is served
    (["127.0.0.1"], ("--tls-ca", "ca.pem"), {}, []),
    ([NAME], ("--tls-ca", "ca.pem", "--tls-server-name", NAME), {}, []),
    (
        ["127.0.0.1"],
        ("--tls-ca", "ca.pem", *("--tls-cert", "ca-client.pem", "--tls-key", "ca-client.key")),
        {"client_ca": True},
        [],
    ),
    (["127.0.0.1"], (), {}, ["speaks TLS, and was called in the clear", "--tls"]),
    (["127.0.0.1"], (), {"client_ca": True}, ["speaks TLS, and was called in the clear"]),
    (
        [NAME, "*.example.com"],
        ("--tls-ca", "ca.pem"),
        {},
        ["is not for 127.0.0.1, but for", NAME, "*.example.com", "--tls-server-name"],
    ),
    (["127.0.0.1"], ("--tls-ca", "ca.pem", "--tls-server-name", "x.y"), {}, ["is not for x.y, but for 127.0.0.1"]),
    (
        ["127.0.0.1"],
        ("--tls-ca", "other.pem"),
        {},
        ["is of no authority trusted here (those of", "other.pem", "give its own"],
    ),
    (["127.0.0.1"], ("--tls",), {}, ["is of no authority trusted here (those of this machine)", "--tls-ca"]),
    (["127.0.0.1"], ("--tls-ca", "ca.pem"), {"expired": True}, ["expired", "renewed"]),
    (["elsewhere.test"], ("--tls-ca", "ca.pem"), {"expired": True}, ["expired", "renewed"]),
    (
        ["127.0.0.1"],
        ("--tls-ca", "ca.pem"),
        {"client_ca": True},
        ["wants a client certificate: give --tls-cert and --tls-key"],
    ),
    (
        ["127.0.0.1"],
        ("--tls-ca", "ca.pem", *("--tls-cert", "other-client.pem", "--tls-key", "other-client.key")),
        {"client_ca": True},
        ["does not take the certificate of --tls-cert", "an authority it trusts"],
    ),
    (
        ["127.0.0.1"],
        ("--tls-ca", "ca.pem", *("--tls-cert", "expired-client.pem", "--tls-key", "expired-client.key")),
        {"client_ca": True},
        ["does not take the certificate of --tls-cert", "not expired"],
    ),
]


def placed(folder: Folder, *options: str) -> list[str]:
    """Return options whose files are in the folder."""
    return [folder / option if option.endswith((".pem", ".key")) else option for option in options]


@pytest.mark.parametrize(("names", "options", "settings", "said"), CALLS)
async def test_a_call(
    folder: Folder, names: list[str], options: tuple[str, ...], settings: dict[str, bool], said: list[str]
) -> None:
    """It is served, or ends with 3 and one line that says what stands between, and what to do."""
    async with serving(credentials=folder.server(*names, **settings)) as fake:
        done = await run("health", "--server", fake.address, *placed(folder, *options))
    if not said:
        assert (done.code, done.out) == (0, "SERVING\n"), done.err
        return
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("assetwatch: ")
    assert [part for part in said if part not in done.err] == []
    assert done.err.count("\n") == 1, done.err


@pytest.mark.parametrize("command", [("wait", "dam", "tid:1", "--timeout", "5"), ("watch", "dam"), ("pieces", "ls")])
async def test_every_command_says_so(folder: Folder, command: tuple[str, ...]) -> None:
    """Not one call alone: waits, watches and the assets of Pieces OS too."""
    async with serving(credentials=folder.server("127.0.0.1")) as fake:
        done = await run(*command, "--server", fake.address)
    assert (done.code, done.out) == (3, "")
    assert "speaks TLS, and was called in the clear" in done.err


async def test_tls_to_a_server_in_the_clear(folder: Folder) -> None:
    """It says that the server does not speak TLS, and what to leave out."""
    async with serving() as fake:
        done = await run("health", "--server", fake.address, *placed(folder, "--tls-ca", "ca.pem"))
    assert done.code == 3
    assert "does not speak TLS: leave out" in done.err


async def test_the_environment_does_as_well(folder: Folder) -> None:
    """ASSETWATCH_TLS_CA, _CERT, _KEY and _SERVER_NAME are what the options are."""
    said = {"CA": "ca.pem", "CERT": "ca-client.pem", "KEY": "ca-client.key"}
    variables = {f"ASSETWATCH_TLS_{name}": folder / file for name, file in said.items()}
    async with serving(credentials=folder.server(NAME, client_ca=True)) as fake:
        done = await run("health", ASSETWATCH_SERVER=fake.address, ASSETWATCH_TLS_SERVER_NAME=NAME, **variables)
    assert (done.code, done.out) == (0, "SERVING\n"), done.err


@pytest.mark.parametrize("options", [("--tls",), ("--tls-cert", "ca-client.pem", "--tls-key", "ca-client.key")])
async def test_without_an_authority_it_is_those_of_the_machine(folder: Folder, options: tuple[str, ...]) -> None:
    """Not those that came with gRPC: SSL_CERT_FILE puts others in the place of the machine's, as everywhere."""
    async with serving(credentials=folder.server("127.0.0.1")) as fake:
        done = await run("health", "--server", fake.address, *placed(folder, *options), SSL_CERT_FILE=folder / "ca.pem")
    assert (done.code, done.out) == (0, "SERVING\n"), done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tls-ca", "garbage.pem"), "holds no certificates, as PEM"),
        (("--tls-cert", "ca-client.pem"), "--tls-cert and --tls-key go together"),
        (("--tls-cert", "ca-client.pem", "--tls-key", "other-client.key"), "are no certificate and its key"),
        (("--tls-cert", "garbage.pem", "--tls-key", "garbage.pem"), "are no certificate and its key"),
    ],
)
async def test_files_that_cannot_be_used(folder: Folder, options: tuple[str, ...], said: str) -> None:
    """They are a wrong command line, told before anything is called."""
    done = await run("health", *placed(folder, *options))
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "Traceback" not in done.err


@asynccontextmanager
async def openssl_server(folder: Folder, version: ssl.TLSVersion) -> AsyncIterator[str]:
    """Serve TLS of that version to those with a certificate: OpenSSL says what it misses, as gRPC does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    folder.ca.issue_cert("127.0.0.1").configure_cert(context)
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_proxies_want_certificates_too(folder: Folder, version: ssl.TLSVersion) -> None:
    """One whose TLS is OpenSSL's is understood as well."""
    async with openssl_server(folder, version) as address:
        done = await run("health", "--server", address, *placed(folder, "--tls-ca", "ca.pem"))
    assert done.code == 3
    assert "wants a client certificate" in done.err
    assert "--tls-cert and --tls-key" in done.err


async def test_an_abstract_socket_that_is_not_there(tmp_path: Path) -> None:
    """It has no port to shake hands with; it is told as any other server that is not there."""
    gone = await run("health", "--server", f"unix-abstract:{tmp_path.name}-none")
    assert gone.code == 3
    assert "no server can be reached" in gone.err


async def test_a_socket_of_the_machine_can_be_called(tmp_path: Path) -> None:
    """--server unix:PATH calls what listens there; what does not is told as ever."""
    path = f"unix:{tmp_path / 'socket'}"
    async with serving(path):
        served = await run("health", "--server", path)
    gone = await run("health", "--server", path)
    assert (served.code, served.out) == (0, "SERVING\n"), served.err
    assert gone.code == 3
    assert "no server can be reached" in gone.err


async def test_a_socket_of_the_machine_over_tls(folder: Folder, tmp_path: Path) -> None:
    """A socket's path is no name of a certificate: --tls-server-name is; what stands between is told as of others."""
    path = f"unix:{tmp_path / 'socket'}"
    authority = ["--tls-ca", folder / "ca.pem"]
    async with serving(path, folder.server("assetwatch.example")):
        called = await run("sources", "--server", path, *authority, "--tls-server-name", "assetwatch.example")
        nameless = await run("sources", "--server", path, *authority)
        misnamed = await run("sources", "--server", path, *authority, "--tls-server-name", "dam.example")
        clear = await run("sources", "--server", path)
    assert (called.code, called.err) == (0, "")
    assert [done.code for done in (nameless, misnamed, clear)] == [3, 3, 3]
    assert "is for assetwatch.example, and a socket has no name: give --tls-server-name" in nameless.err
    assert "is not for dam.example, but for assetwatch.example" in misnamed.err
    assert "speaks TLS, and was called in the clear" in clear.err
