"""`assetwatch doctor`: what it says of an etcd, and the code that it ends with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from assetwatchd.cli import app
from support.etcd import running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    from assetwatch_sandbox.etcd import Cluster


@pytest.fixture
def doctor(tmp_path: Path) -> Callable[..., Result]:
    """Ask about endpoints."""
    (tmp_path / "token").write_text("made-up-" * 2)

    def ask(*endpoints: str, more: str = "") -> Result:
        text = f"store: {{kind: etcd, endpoints: {list(endpoints)}, peer_token_file: {tmp_path}/token{more}}}"
        (tmp_path / "assetwatch.yaml").write_text(text)
        return CliRunner().invoke(app, ["doctor", "-c", str(tmp_path / "assetwatch.yaml")])

    return ask


def test_an_etcd_that_is_fit(etcd: Cluster, doctor: Callable[..., Result]) -> None:
    """A line for each member that answers; what is to be looked after is a warning."""
    done = doctor(*etcd.endpoints, "http://127.0.0.1:1")
    assert done.exit_code == 0, done.stderr
    member, last = done.stdout.splitlines()
    assert re.fullmatch(rf"{etcd.endpoints[0]}: etcd 3\.\d+\.\d+, \d+ of 2,048 MiB, leads", member)
    assert last.startswith("ok: ")
    assert "warning: etcd does not answer at http://127.0.0.1:1" in done.stderr


def test_an_etcd_that_is_not_fit(tmp_path: Path, doctor: Callable[..., Result]) -> None:
    """Every reason on a line of its own."""
    with running(tmp_path / "small", 1, "--max-txn-ops=10", "--max-request-bytes=100000") as cluster:
        done = doctor(*cluster.endpoints)
    assert (done.exit_code, done.stdout) == (1, "")
    assert len(re.findall(r"--max-(?:txn-ops|request-bytes)", done.stderr)) == 2


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [("", 3, "etcd cannot be reached"), (", lease_s: 0", 2, "store.lease_s"), (", prefix: x", 2, "store.prefix")],
)
def test_what_cannot_be_asked(doctor: Callable[..., Result], more: str, code: int, told: str) -> None:
    """Nobody there, and a configuration that is wrong, have codes of their own."""
    done = doctor("http://127.0.0.1:1", more=more)
    assert (done.exit_code, done.stdout) == (code, "")
    assert told in done.stderr


def test_another_store(tmp_path: Path) -> None:
    """There is nobody to ask."""
    (tmp_path / "assetwatch.yaml").write_text("store: {kind: memory}")
    done = CliRunner().invoke(app, ["doctor", "-c", str(tmp_path / "assetwatch.yaml")])
    assert done.exit_code == 2
    assert "the store is of kind memory: there is no etcd to ask" in done.stderr
