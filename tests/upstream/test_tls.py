"""Files of certificates and keys are checked before a start, in words; less than TLS promises is warned of."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from assetwatchd import app
from assetwatchd.cli import app as command_line
from assetwatchd.model.errors import ConfigError
from assetwatchd.runtime import pem
from assetwatchd.settings.schema import Settings, UsdSearchSource
from assetwatchd.upstream.http import tls
from assetwatchd.upstream.http.tls import Tls
from support.secure import HOST, Authority, serving

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"
BEGIN = b"-----BEGIN %s-----\n"
KEY, LOCKED_KEY = b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def source(**told: Any) -> dict[str, Any]:
    return {"kind": "usd_search", "base_url": "https://usd.example", **{name: str(path) for name, path in told.items()}}


def problems(authority: Authority, **told: Any) -> dict[str, str]:
    """Return what `config check` says of a source's files, by setting; `serve` must say the same."""
    written = {"sources": {"usd": source(**told)}}
    path = authority.write("assetwatch.yaml", yaml.safe_dump(written).encode())
    result = CliRunner().invoke(command_line, ["config", "check", "--config", str(path)])
    lines = [line for line in result.output.splitlines() if "sources.usd." in line]
    assert bool(lines) == (result.exit_code != 0), result.output
    assert SECRET not in result.output
    if lines:
        with pytest.raises(ConfigError) as caught:
            app.App(Settings.model_validate(written))
        assert [line.strip() for line in lines] == str(caught.value).splitlines()
    return dict(line.strip().removeprefix("sources.usd.").split(": ", 1) for line in lines)


def test_files_that_are_as_they_should_be(authority: Authority) -> None:
    """Trust, certificate and key of a source: nothing is said."""
    assert problems(authority, ca_file=authority.file, **authority.pair("client")) == {}


@pytest.mark.parametrize("content", [b"", b"hunter2", b"\x00\xff", b"-----BEGIN CERTIFICATE-----\nhunter2\n"])
def test_an_authority_that_is_garbage(authority: Authority, content: bytes) -> None:
    """Also one that begins as a certificate does."""
    assert "PEM" in problems(authority, ca_file=authority.write("bad.pem", content))["ca_file"]


def test_a_file_of_another_kind(authority: Authority) -> None:
    """A key where certificates belong, and the other way round."""
    pair = authority.pair("client")
    assert "no certificates" in problems(authority, ca_file=pair["tls_key_file"])["ca_file"]
    swapped = {"tls_cert_file": pair["tls_key_file"], "tls_key_file": pair["tls_cert_file"]}
    assert "no certificates" in problems(authority, **swapped)["tls_cert_file"]
    same = {**pair, "tls_key_file": pair["tls_cert_file"]}
    assert "holds no private key" in problems(authority, **same)["tls_key_file"]


def test_a_key_of_another_certificate(authority: Authority) -> None:
    """Both are fine by themselves."""
    pair = {**authority.pair("client"), "tls_key_file": authority.pair("other")["tls_key_file"]}
    assert "is not the key of the certificate" in problems(authority, **pair)["tls_key_file"]


def test_a_key_of_another_sort(authority: Authority) -> None:
    """One for RSA beside a certificate for elliptic curves is a key too, and not the certificate's."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pair = {**authority.pair("client"), "tls_key_file": authority.write("rsa.key", key)}
    assert "is not the key of the certificate" in problems(authority, **pair)["tls_key_file"]


@pytest.mark.parametrize("content", [b"", b"hunter2", BEGIN % KEY + b"hunter2\n"])
def test_a_key_that_is_garbage(authority: Authority, content: bytes) -> None:
    """Nothing of it is shown."""
    pair = {**authority.pair("client"), "tls_key_file": authority.write("bad.key", content)}
    assert "holds no private key" in problems(authority, **pair)["tls_key_file"]


def test_a_key_with_a_passphrase(authority: Authority) -> None:
    """Nobody is asked for it on a terminal, and the text says what to do."""
    locked = BEGIN % LOCKED_KEY + b"MIIFDjBABgkq\n" * 9 + BEGIN.replace(b"BEGIN", b"END") % LOCKED_KEY
    pair = {**authority.pair("client"), "tls_key_file": authority.write("locked.key", locked)}
    assert "passphrase" in problems(authority, **pair)["tls_key_file"]


def test_files_that_are_not_there(authority: Authority, tmp_path: Path) -> None:
    """Each is named, also when two are wrong at a time."""
    gone = tmp_path / "gone.pem"
    told = {"ca_file": gone, "tls_cert_file": gone, "tls_key_file": gone}
    assert [problem.split(": ", 1)[0] for problem in tls.problems(model(**told))] == list(told)


def test_a_file_that_may_not_be_read(authority: Authority, tmp_path: Path) -> None:
    """A directory in place of a file is read by nobody, whatever the rights: the system's words are kept."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (problem,) = tls.problems(model(ca_file=folder))
    assert problem == f"ca_file: {folder} cannot be read: Is a directory"


@given(st.binary(max_size=200))
def test_no_file_is_beyond_checking(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever is in it, there is a text and no exception; what is said of it holds no word of it."""
    path = tmp_path_factory.getbasetemp() / "any.pem"
    path.write_bytes(content)
    assert [problem.split(": ")[0] for problem in tls.problems(model(ca_file=path))] == ["ca_file"]
    assert list(tls.problems(model(tls_cert_file=path, tls_key_file=path)))


def model(**told: Any) -> UsdSearchSource:
    return UsdSearchSource.model_validate({"kind": "usd_search", "base_url": "https://usd.example", **told})


@pytest.mark.parametrize("one", ["tls_cert_file", "tls_key_file"])
def test_one_of_two_files_is_not_enough(authority: Authority, one: str) -> None:
    """A certificate without its key, or the other way round."""
    given: dict[str, Any] = {**authority.pair("client")}
    with pytest.raises(ValueError, match="give both tls_cert_file and tls_key_file"):
        model(**{one: given[one]})


def test_less_than_tls_promises_is_warned_of() -> None:
    """By the name of the source; not otherwise."""
    sources = {"old": model(tls_legacy=True), "any": model(tls_verify=False), "good": model()}
    told = list(tls.warnings(sources))
    assert [text.split(":")[0] for text in told] == ["source old", "source any"]
    assert "tls_legacy is on" in told[0]


def test_a_certificate_of_ours_out_of_date_is_warned_of(authority: Authority) -> None:
    """By its file, whether it is its own that has expired, or that of an authority between."""
    past = datetime.now(UTC) - timedelta(1)
    good, old = authority.pair("good"), authority.ca.issue_cert("client@example.org", not_after=past)
    assert list(tls.warnings({"good": model(**good)})) == []
    key = authority.write("old.key", old.private_key_pem.bytes())
    pair = {"tls_cert_file": authority.write("old.pem", old.cert_chain_pems[0].bytes()), "tls_key_file": key}
    [told] = tls.warnings({"old": model(**pair)})
    assert told.startswith(f"source old: tls_cert_file: the certificate expired on {past:%Y-%m-%d}")
    chain = good["tls_cert_file"].read_bytes() + expired_authority(past)
    assert f"expired on {past:%Y-%m-%d}" in (pem.out_of_date(authority.write("chain.pem", chain)) or "")
    assert pem.out_of_date(authority.write("none.pem", b"hunter2")) is None


def expired_authority(past: datetime) -> bytes:
    """Return the certificate of an authority that was valid until then."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(past - timedelta(9)).not_valid_after(past)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


async def test_the_start_says_so(authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    """In the log, before anything is served."""
    sources = {"old": source(tls_legacy=True), "bad": source(ca_file=authority.write("bad.pem", b"hunter2"))}
    settings = Settings.model_validate({"store": {"kind": "memory"}, "sources": sources})
    with pytest.raises(ConfigError):
        await app.serve(settings)
    assert "WARNING assetwatchd.app: source old: tls_legacy is on" in capsys.readouterr().err


def test_a_context_is_as_strict_as_pythons_own() -> None:
    """With nothing set, versions, ciphers and checks are those of ssl.create_default_context."""
    ours, default = Tls(model()).context, ssl.create_default_context()
    for name in ("minimum_version", "verify_mode", "check_hostname", "options", "verify_flags"):
        assert getattr(ours, name) == getattr(default, name), name
    assert ours.get_ciphers() == default.get_ciphers()


def test_old_tls_is_checked_too() -> None:
    """tls_legacy is not tls_verify: who the server is must still be shown."""
    context = Tls(model(tls_legacy=True)).context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.options & tls.LEGACY_SERVER_CONNECT
    assert not any("NULL" in cipher["name"] or cipher["auth"] == "auth-null" for cipher in context.get_ciphers())


async def test_python_has_what_is_used_of_its_inside() -> None:
    """What a server showed and asked for in a handshake: without these, errors say less."""
    assert hasattr(ssl._ssl._SSLContext, "_msg_callback")  # type: ignore[attr-defined]  # of Python's inside
    context = ssl.create_default_context()
    context.sslobject_class = tls._Handshake
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shake_hands(context, serving(trustme.CA().issue_cert(HOST)))
    assert tls.shown(caught.value)[0]["subjectAltName"] == (("IP Address", HOST),)


def shake_hands(of_client: ssl.SSLContext, of_server: ssl.SSLContext) -> None:
    """Do so without a network."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = of_client.wrap_bio(to_client, to_server, server_hostname=HOST)
    server = of_server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
