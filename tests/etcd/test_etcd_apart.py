"""With another store nothing of etcd is imported; of its files it is said what is wrong before anybody is called."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from assetwatchd.cli import app
from assetwatchd.etcd.files import problems, warnings
from assetwatchd.settings.schema import EtcdStoreSettings
from support.secure import Authority

if TYPE_CHECKING:
    from pathlib import Path

LOOK = """
import asyncio, sys
import assetwatchd.cli.commands, assetwatchd.cli.serving
from assetwatchd.app import App, open_store, problems, warnings
from assetwatchd.settings.schema import Settings

async def run():
    settings = Settings.model_validate({"store": STORE, "server": {"listen": "127.0.0.1:0"}})
    print(*problems(settings), *warnings(settings), sep="")
    app = App(settings, await open_store(settings.store))
    await app.serve(lambda _: app.stop())

asyncio.run(run())
rooms = ("assetwatch_etcd", "assetwatchd.etcd", "assetwatchd.replicas", "assetwatchd.changefeed.store.etcd")
print(*sorted(name for name in sys.modules if name.startswith(rooms)))
"""


@pytest.mark.parametrize("store", [{"kind": "memory"}, {"kind": "sqlite", "path": "store.db"}])
def test_nothing_of_it_is_imported(tmp_path: Path, store: dict[str, str]) -> None:
    """A server over another store starts, serves and stops without it."""
    script = LOOK.replace("STORE", repr(store))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(**given: object) -> EtcdStoreSettings:
    least = {"kind": "etcd", "endpoints": ["https://etcd:2379"], "peer_token_file": "/dev/null"}
    return EtcdStoreSettings.model_validate({**least, **given})


def test_files_that_are_well(authority: Authority, tmp_path: Path) -> None:
    """Nothing is said of them."""
    (tmp_path / "token").write_text(f"{'made-up-' * 2}\n")
    given = settings(tls_ca_file=authority.file, peer_token_file=tmp_path / "token", **authority.pair("one"))
    assert [*problems(given), *warnings(given)] == []


def test_files_that_are_not(authority: Authority, tmp_path: Path) -> None:
    """Each is named by its setting."""
    (tmp_path / "empty").write_text("\n")
    one, another = authority.pair("one"), authority.pair("another")
    wrong = settings(
        tls_ca_file=one["tls_key_file"],
        tls_cert_file=one["tls_cert_file"],
        tls_key_file=another["tls_key_file"],
        username="app",
        password_file=tmp_path / "empty",
        peer_token_file=tmp_path / "empty",
    )
    assert [text.partition(":")[0] for text in problems(wrong)] == [
        "store.tls_ca_file",
        "store.tls_key_file",
        "store.password_file",
        "store.peer_token_file",
    ]


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (b"x" * 16, ""),
        (b"x" * 15, "should hold one line of 16 visible characters at least, such as"),
        (b"x" * 16 + b"\n" + b"y" * 16, "one line"),
        (b"\xff" * 16, "one line"),
        (None, "there is no such file"),
    ],
)
def test_the_secret_of_replicas(tmp_path: Path, token: bytes | None, told: str) -> None:
    """One that can be guessed, or is none, is refused before the start, as is a file that is not there."""
    file = tmp_path / "token"
    if token is not None:
        file.write_bytes(token)
    path = tmp_path / "assetwatch.yaml"
    path.write_text(f"store: {{kind: etcd, endpoints: ['http://127.0.0.1:2379'], peer_token_file: {file}}}")
    done = CliRunner().invoke(app, ["config", "check", "-c", str(path)])
    assert done.exit_code == (2 if told else 0), done.output
    assert told in done.stderr
    assert done.stderr.count("peer_token_file") == bool(told)


@pytest.mark.parametrize("key", ["one", "another"])
def test_the_configuration_is_checked(authority: Authority, tmp_path: Path, key: str) -> None:
    """`assetwatch config check` looks at these files too."""
    files = authority.pair("one")
    authority.pair("another")
    path = tmp_path / "assetwatch.yaml"
    path.write_text(f"""
store:
  kind: etcd
  endpoints: ["https://etcd:2379"]
  tls_ca_file: {authority.file}
  tls_cert_file: {files["tls_cert_file"]}
  tls_key_file: {tmp_path / key}.key
""")
    done = CliRunner().invoke(app, ["config", "check", "-c", str(path)])
    assert done.exit_code == (0 if key == "one" else 2), done.output
    assert ("store.tls_key_file" in done.stderr) == (key == "another")
