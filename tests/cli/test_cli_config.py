from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from assetwatchd.cli import app
from assetwatchd.settings.load import schema
from support import json_schema
from support.command_line import modules_in

if TYPE_CHECKING:
    from support.command_line import Run, Spawn

EXAMPLE = Path(__file__).parents[2] / "examples" / "assetwatch.yaml"
SECRET = "hunter2-must-not-be-seen"
HEAVY = {"grpc", "aiohttp", "asyncio", "pydantic", "yaml", "google.protobuf", "rich.console", "assetwatchd.app"}
SECRETS = {
    "ASSETWATCH__SOURCES__USD_PROD__AUTH__TOKEN": SECRET,
    "ASSETWATCH__SOURCES__DAM__AUTH__TOKEN": SECRET,
    "ASSETWATCH__SOURCES__MEDIA__SECRET_KEY": SECRET,
    "ASSETWATCH__SOURCES__SBC_EAST__PASSWORD": SECRET,
}


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner(env=SECRETS)


def test_check_accepts_the_example(runner: CliRunner) -> None:
    """`config check` takes the example and its secrets, and names the sources."""
    done = runner.invoke(app, ["config", "check", "--config", str(EXAMPLE)])
    assert done.exit_code == 0
    assert done.stdout.startswith("ok: 5 sources: dam (omn), desk (pieces), media (media_intelligence)")
    assert SECRET not in done.output


def test_show_has_no_secret(runner: CliRunner) -> None:
    """`config show` prints what is in effect, as YAML or JSON, with every secret masked."""
    as_yaml = runner.invoke(app, ["config", "show", "-c", str(EXAMPLE)])
    as_json = runner.invoke(app, ["config", "show", "-c", str(EXAMPLE), "-o", "json"])
    shown = yaml.safe_load(as_yaml.stdout)
    assert shown == json.loads(as_json.stdout)
    assert shown["sources"]["sbc-east"]["password"] == "**********"
    assert shown["sources"]["sbc-east"]["username"] == "assetwatch"
    assert SECRET not in as_yaml.output + as_json.output


def test_schema_is_the_schema_and_takes_the_example(runner: CliRunner) -> None:
    """`config schema` prints the JSON schema, and the example is valid by it."""
    described = json.loads(runner.invoke(app, ["config", "schema"]).stdout)
    assert described == schema()
    assert described == yaml.safe_load(runner.invoke(app, ["config", "schema", "-o", "yaml"]).stdout)
    assert list(json_schema.problems(yaml.safe_load(EXAMPLE.read_text()), described, described)) == []


@pytest.mark.parametrize("arguments", [["config", "check"], ["config", "show"], ["serve"]])
def test_a_configuration_that_cannot_be_used(tmp_path: Path, arguments: list[str]) -> None:
    """Every problem is a line on standard error, without a value; the exit code is 2, and nothing is started."""
    path = tmp_path / "wrong.yaml"
    path.write_text(
        f"server: {{lisen: {SECRET}}}\nsources: {{omn: {{kind: omn, auth: {{kind: bearer, tokn: {SECRET}}}}}}}"
    )
    done = CliRunner().invoke(app, [*arguments, "--config", str(path)])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "assetwatch: the configuration cannot be used",
        "server.lisen: unknown name; did you mean listen?",
        "sources.omn.base_url: missing",
        "sources.omn.auth.tokn: unknown name; did you mean token?",
    ]


@pytest.mark.parametrize("arguments", [["config", "check"], ["serve"]])
def test_a_pin_that_cannot_be_an_id(tmp_path: Path, arguments: list[str]) -> None:
    """The check of the configuration finds it, as the start does, and shows it without what acts on a terminal."""
    path = tmp_path / "pins.yaml"
    source = {"kind": "usd_search", "base_url": "http://127.0.0.1:9", "pins": ["s3://b/a\u202e", "s3://b/9.41\u202fAM"]}
    path.write_text(json.dumps({"store": {"kind": "memory"}, "sources": {"usd": source}}))
    done = CliRunner().invoke(app, [*arguments, "--config", str(path)])
    assert done.exit_code != 0
    assert "sources.usd.pins: 's3://b/a\\u202e': holds U+202E" in done.stderr
    assert "202f" not in done.stderr


async def test_help_and_version_load_little(command: Run) -> None:
    """Help documents the exit codes; neither it nor the version loads what a call would need, or to check options."""
    for arguments in (("--help",), ("--version",), ("watch", "--help"), ("pieces", "ls", "--help")):
        done = await command(*arguments, PYTHONPROFILEIMPORTTIME="1")
        loaded = modules_in(done.err)
        assert done.code == 0
        assert "assetwatchd.cli" in loaded
        assert sorted(loaded & HEAVY) == []
        assert "130  interrupted" in done.out or "--help" not in arguments[0]


async def test_without_arguments_there_is_help(command: Run) -> None:
    """The bare command says what it can do, and that as a usage error."""
    done = await command()
    assert done.code == 2
    assert "Commands:" in done.out + done.err


async def test_completion_is_offered(command: Run) -> None:
    """The shell completes the names of commands."""
    done = await command("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    completed = await command(_ASSETWATCH_COMPLETE="complete_bash", COMP_WORDS="assetwatch he", COMP_CWORD="1")
    assert done.code == 0
    assert "complete" in done.out
    assert completed.out.split() == ["health"]


def pem(
    folder: Path,
    name: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    *,
    from_days: int = -1,
    passphrase: bytes = b"",
) -> None:
    """Write a certificate that is valid for two days, and its key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    since = now + timedelta(from_days)
    builder = builder.serial_number(7).not_valid_before(since).not_valid_after(since + timedelta(2))
    made = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    (folder / f"{name}.pem").write_bytes(made)
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make some that can be served with, and some that cannot."""
    folder = tmp_path_factory.mktemp("certificates")
    pem(folder, "one")
    pem(folder, "other")
    pem(folder, "rsa", rsa.generate_private_key(65537, 2048))
    pem(folder, "locked", passphrase=b"hunter2")
    pem(folder, "expired", from_days=-9)
    pem(folder, "early", from_days=9)
    pem(folder, "odd", ec.generate_private_key(ec.SECP256K1()))
    (folder / "garbage.pem").write_text("-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n")
    (folder / "text.db").write_text("no store\n" * 100)
    for name, tables in (("other.db", 1), ("many.db", 200)):  # of several pages, so that the first has no table itself
        with closing(sqlite3.connect(folder / name)) as database:
            database.executescript("".join(f"CREATE TABLE precious_{n} (x);" for n in range(tables)))
    (folder / "folder").mkdir()
    return folder


def whole(folder: Path, **given: Any) -> dict[str, Any]:
    """Return a configuration with something in place of what is right; @ is the folder."""
    server = {"listen": "127.0.0.1:0", "tls_cert_file": "@/one.pem", "tls_key_file": "@/one.key"}
    pins = given.pop("pins", [])
    source = {"kind": "oracle_sbc", "base_url": "http://127.0.0.1:9", "username": "u", "password": "p", "pins": pins}
    store = {"kind": "sqlite", "path": given.pop("path", "@/folder/store.db")}
    text = json.dumps({"server": {**server, **given}, "store": store, "sources": {"sbc": source}})
    return cast("dict[str, Any]", json.loads(text.replace("@", str(folder))))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tls_key_file": "/proc/self/mem"}, ["server.tls_key_file: it cannot be read"]),
        ({"tls_key_file": "@/other.key"}, ["server: tls_key_file is not the key of the certificate"]),
        ({"tls_key_file": "@/rsa.key"}, ["server: tls_key_file is not the key of the certificate"]),
        ({"tls_cert_file": "@/garbage.pem"}, ["server: tls_cert_file and tls_key_file are no certificate and its key"]),
        (
            {"tls_cert_file": "@/locked.pem", "tls_key_file": "@/locked.key"},
            ["server.tls_key_file: @/locked.key is locked with a passphrase, which cannot be given"],
        ),
        ({"tls_client_ca_file": "@/one.key"}, ["server.tls_client_ca_file: holds no certificates"]),
        ({"tls_client_ca_file": "@/garbage.pem"}, ["server.tls_client_ca_file: holds no certificates"]),
        ({"tls_cert_file": "@/odd.pem", "tls_key_file": "@/odd.key"}, ["server: gRPC cannot serve with these TLS"]),
        ({"pins": ["active"]}, ["sources.sbc.pins: 'active'"]),
        ({"path": "@/none/deeper/store.db"}, ["store.path: there is no folder"]),
        ({"path": "@/text.db"}, ["store.path: "]),
        ({"path": "@/other.db"}, ["store.path: @/other.db is a database of another program"]),
        ({"path": "@/many.db"}, ["store.path: @/many.db is a database of another program"]),
        ({"path": "@/folder"}, ["store.path: "]),
        ({"listen": "203.0.113.7:1"}, ["server.listen: cannot listen on 203.0.113.7:1"]),
        ({"listen": "*:1"}, ["server.listen: of all addresses is 0.0.0.0:PORT"]),
        ({"listen": "::1:50051"}, ["server.listen: should be HOST:PORT; an address of IPv6 is in brackets: [::1]"]),
        ({"listen": "[127.0.0.1]:0"}, ["server.listen: should be HOST:PORT; in brackets is an address of IPv6"]),
        ({"listen": "127.1:0"}, ["server.listen: should be HOST:PORT; 127.1 is no address of four numbers"]),
        ({"listen": "0:0"}, ["server.listen: should be HOST:PORT; 0 is no address of four numbers"]),
        ({"listen": ":50051"}, ["server.listen: should be HOST:PORT"]),
        ({"path": "/dev/null"}, ["store.path: /dev/null is no file"]),
        ({"path": ":memory:"}, ["store.path: names no file; to keep nothing give kind: memory"]),
        ({"path": "~/store.db"}, ["store.path: ~ is not replaced by a home directory"]),
        (
            {"pins": ["a", "b"], "tls_key_file": "@/other.key", "path": "@/text.db", "drain_s": "x"},
            ["server.drain_s: should be", "sources.sbc.pins: 'a'", "sources.sbc.pins: 'b'", "store.path: "],
        ),
    ],
    ids=str,
)
def test_check_and_serve_are_one(tmp_path: Path, certificates: Path, wrong: dict[str, Any], said: list[str]) -> None:
    """Whatever keeps a server from starting, the check tells, all of it at once, with the code that serve ends with."""
    path = tmp_path / "wrong.yaml"
    path.write_text(json.dumps(whole(certificates, **wrong)))
    checked = CliRunner().invoke(app, ["config", "check", "-c", str(path)])
    served = CliRunner().invoke(app, ["serve", "-c", str(path)])
    assert (checked.exit_code, checked.stdout) == (served.exit_code, served.stdout) == (2, "")
    assert checked.stderr == served.stderr
    first, *lines = checked.stderr.splitlines()
    assert first == "assetwatch: the configuration cannot be used"
    said = [text.replace("@", str(certificates)) for text in said]
    assert [line.startswith(text) for line, text in zip(lines, said, strict=True)] == [True] * len(said)
    assert "hunter2" not in checked.stderr
    assert list((certificates / "folder").iterdir()) == []


async def test_what_the_check_passes_serves(spawn: Spawn, command: Run, tmp_path: Path, certificates: Path) -> None:
    """With TLS, clients' certificates, and a store whose folder is not there yet; the check makes nothing."""
    path, folder = tmp_path / "right.yaml", tmp_path / "new"
    given = {"tls_client_ca_file": "@/other.pem", "pins": ["last-operation"], "path": str(folder / "store.db")}
    path.write_text(json.dumps(whole(certificates, **given)))
    checked = await command("config", "check", "-c", str(path))
    assert (checked.code, checked.out, checked.err) == (0, "ok: 1 source: sbc (oracle_sbc)\n", "")
    assert not folder.exists()
    async with spawn("serve", "-c", str(path)) as running:
        assert running.stdout is not None
        assert (await running.stdout.readline()).startswith(b"assetwatch is ready on 127.0.0.1:")
        in_use = await command("config", "check", "-c", str(path))  # of a server that runs
    assert in_use == checked


@pytest.mark.parametrize(
    "case", [("expired", "expired on", -7), ("early", "is not valid before", 9)], ids=lambda case: case[0]
)
async def test_a_certificate_out_of_date_is_a_warning(
    spawn: Spawn, command: Run, tmp_path: Path, certificates: Path, case: tuple[str, str, int]
) -> None:
    """The server starts with it, as gRPC takes it; the check and the start name it, with its date."""
    (name, amiss, days), path = case, tmp_path / "dated.yaml"
    pair = {"tls_cert_file": f"@/{name}.pem", "tls_key_file": f"@/{name}.key"}
    path.write_text(json.dumps(whole(certificates, **pair, path=str(tmp_path / "store.db"))))
    day = f"{datetime.now(UTC) + timedelta(days):%Y-%m-%d}"
    said = f"server.tls_cert_file: the certificate {amiss} {day} "
    checked = await command("config", "check", "-c", str(path))
    assert (checked.code, checked.out) == (0, "ok: 1 source: sbc (oracle_sbc)\n")
    assert checked.err.startswith(f"assetwatch: warning: {said}")
    async with spawn("serve", "-c", str(path)) as running:
        assert running.stderr is not None
        while said not in (line := (await running.stderr.readline()).decode()):
            assert line
        assert "WARNING" in line


@pytest.mark.parametrize("arguments", [["config", "check"], ["serve"], ["serve", "--listen", "127.0.0.1:0"]])
def test_no_configuration_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """Without a file, and without a source from variables, nothing is served, and no database made where one stands."""
    monkeypatch.chdir(tmp_path)
    env = {"ASSETWATCH__SOURCES__DAM__AUTH__TOKEN": SECRET}
    done = CliRunner(env=env).invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--config" in done.stderr
    assert "warning: ASSETWATCH__SOURCES__DAM__AUTH__TOKEN is left out" in done.stderr
    assert SECRET not in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_what_is_left_over_is_a_warning(spawn: Spawn, command: Run, tmp_path: Path) -> None:
    """Check and show warn on standard error, and a server in its log; it starts."""
    path, secrets = tmp_path / "c.yaml", tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "sources__gone__auth__token").write_text(SECRET)
    path.write_text("{server: {listen: '127.0.0.1:0'}, store: {kind: memory}, telemetry: {log_format: json}}")
    given = ("-c", str(path), "--secrets-dir", str(secrets))
    told = f"secret file {secrets / 'sources__gone__auth__token'} is left out: no source is named gone"
    for asked in ("check", "show"):
        done = await command("config", asked, *given)
        assert done.code == 0
        assert f"assetwatch: warning: {told}" in done.err
        assert SECRET not in done.out + done.err
    async with spawn("serve", *given) as running:
        assert running.stdout is not None
        assert await running.stdout.readline()
        running.terminate()
        _, err = await running.communicate()
    warnings = [record["message"] for record in map(json.loads, err.splitlines()) if record["level"] == "warning"]
    assert told in warnings
