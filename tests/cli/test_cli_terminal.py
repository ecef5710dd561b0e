"""Whatever a server says, a terminal only shows it: every command, in every format, and its errors."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

import assetwatchd.cli
from assetwatch_client import View
from assetwatchd.cli import app
from assetwatchd.cli.screen import Board, page
from assetwatchd.cli.terminal import as_json, as_yaml, safe
from assetwatchd.model.texts import acts
from support.command_line import COMMAND, PATHS
from support.fake_service import changes, started, status, synced
from support.hostile_service import HOSTILE, hostile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.hostile_service import Hostile

ID = "6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"
DESK = ["--source", "desk"]
SEED = json.dumps({"type": "SEEDED_ASSET"})
COMMANDS: dict[str, tuple[list[str], str]] = {
    "get": (["dam", "tid:1"], "GetAssetStatus.status"),
    "list": ([], "ListAssetStatuses"),
    "wait": (["dam", "tid:1"], "WaitAssetStatus.status"),
    "sources": ([], "ListSources"),
    "retry": (["dam"], "RetrySource.source"),
    "server": ([], "GetServerInfo.server"),
    "watch": (["dam"], "WatchStatus"),
    "pieces ls": (DESK, "ListAssets.assets"),
    "pieces get": ([ID, *DESK], "GetAsset.asset"),
    "pieces formats": ([ID, *DESK], "ListAssetFormats.formats"),
    "pieces search": (["x", *DESK], "SearchAssets.results"),
    "pieces related": ([ID, *DESK], "ListRelatedAssets.assets"),
    "pieces recommend": ([ID, *DESK], "RecommendAssets.assets"),
    "pieces stream": (DESK, "StreamAssets"),
    "pieces create": (["-", *DESK], "CreateAsset"),
    "pieces draft": (["-", *DESK], "DraftAsset.seed"),
    "pieces rm": ([ID, *DESK], "DeleteAsset"),
}
"""Every command that calls a server, with what it is given and what it prints."""
OTHERS = {
    "health",
    "serve",
    "sandbox",
    "demo",
    "doctor",
    "config check",
    "config show",
    "config schema",
    "store copy",
}
"""health prints an enum; the others print what is here."""
ALSO = (
    ["sources", "dam"],
    ["pieces", "ls", "--ids", *DESK],
    ["pieces", "ls", "--only-pseudo", *DESK],
    ["pieces", "stream", "--ids", *DESK],
    ["pieces", "ls"],
    ["watch"],
)
"""More ways to call them."""


@pytest.fixture(scope="module")
def server() -> Iterator[Hostile]:
    with hostile() as service:
        yield service


def run(server: Hostile, *arguments: str, refusing: bool = False) -> tuple[str, str, int]:
    server.refusing = refusing
    done = CliRunner().invoke(app, [*arguments, "--server", server.address], input=SEED)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.stdout, done.stderr, done.exit_code


def acting(text: str) -> list[str]:
    return sorted({hex(ord(char)) for char in text if char != "\n" and acts(char)})


def test_every_command_is_here() -> None:
    """A command that comes is held to the same."""
    found = set()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]  # it is a group
        found |= {f"{name} {below}" for below in getattr(command, "commands", {})} or {name}
    assert found - OTHERS == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("output", ["table", "json", "yaml", "ndjson"])
def test_what_is_printed(server: Hostile, name: str, output: str) -> None:
    """Nothing acts on the terminal, neither on standard output nor beside it, and something is printed."""
    given_, _ = COMMANDS[name]
    out, err, _ = run(server, *name.split(), *given_, "-o", output)
    assert out.strip()
    assert acting(out) == acting(err) == []
    assert "\u202f\u3000é" in out or name == "pieces rm"  # what only stands for itself is as it was


@pytest.mark.parametrize("arguments", ALSO)
@pytest.mark.parametrize("output", ["table", "json", "yaml", "ndjson"])
def test_other_ways_to_call(server: Hostile, arguments: list[str], output: str) -> None:
    """The same for them, also where the command ends because of what it was told."""
    out, err, _ = run(server, *arguments, "-o", output)
    assert out.strip() or err.strip()
    assert acting(out) == acting(err) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_errors(server: Hostile, name: str) -> None:
    """The server's message, the fields it names, what it says the upstream said: one line each, and nothing acts."""
    given_, _ = COMMANDS[name]
    _, err, code = run(server, *name.split(), *given_, refusing=True)
    assert code != 0
    assert "\\x1b[2J\\x9b31m" in err
    assert acting(err) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_json_and_yaml_have_the_same_value(server: Hostile, name: str) -> None:
    """What is escaped for a terminal is the same for whoever reads the value."""
    given_, answer = COMMANDS[name]
    told: Any = server.answers[answer.partition(".")[0]]
    told = getattr(told, answer.partition(".")[2]) if "." in answer else told
    value = MessageToDict(told, preserving_proto_field_name=True)
    as_json_, _, _ = run(server, *name.split(), *given_, "-o", "json")
    as_yaml_, _, _ = run(server, *name.split(), *given_, "-o", "yaml")
    assert json.loads(as_json_) == value
    assert [each for each in yaml.safe_load_all(as_yaml_) if each is not None] == [value]


VALUES = st.recursive(
    st.text() | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_any_value_can_be_read_again(value: Any) -> None:
    """JSON, on one line and indented, and YAML: nothing acts, and the value is what it was."""
    for written in (as_json(value), as_json(value, indent=2)):
        assert acting(written) == []
        assert json.loads(written) == value
    written = as_yaml(value)
    assert acting(written) == []
    assert yaml.safe_load(written) == value


@given(st.text())
def test_any_text_is_one_line_that_only_stands_for_itself(text: str) -> None:
    """Whatever it holds; what needs no escape is as it was."""
    shown = safe(text)
    assert not any(acts(char) for char in shown)
    assert shown == text or any(acts(char) for char in text)


def test_the_live_table() -> None:
    """Names, states, failures and the note of a break."""
    view = View()
    board = Board(view, note=HOSTILE)
    for message in (started(), changes(status(HOSTILE, HOSTILE, "FAILED", message=HOSTILE)), synced()):
        for event in view.take(message):
            board.take(event)
    board.note = HOSTILE
    console = Console(width=400, height=24, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(page(board, console))
    assert acting(capture.get()) == []
    assert "\\x1b[2J" in capture.get()


@pytest.mark.parametrize("on_terminal", [True, False])
def test_content(server: Hostile, on_terminal: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """Content goes byte for byte into a pipe, and escaped to a terminal."""
    server.refusing = False
    command = [*COMMAND, "pieces", "get", "--content", ID, *DESK, "--server", server.address]
    into, out = pty.openpty() if on_terminal else os.pipe()
    reading = into
    try:
        done = subprocess.run(command, stdout=out, env={**os.environ, "PYTHONPATH": PATHS}, timeout=60, check=False)
    finally:
        os.close(out)
    with os.fdopen(reading, "rb", buffering=0) as shown:
        text = shown.read(65536)
    assert done.returncode == 0
    if on_terminal:
        assert acting(text.decode().replace("\r\n", "\n")) == []
        assert b"\\x1b[2J" in text
    else:
        assert text == HOSTILE.encode()


def test_nobody_prints_around_it() -> None:
    """All that is printed by the command line is printed in one place; the live table alone draws by itself."""
    package = Path(assetwatchd.cli.__file__).parent
    printing = re.compile(r"typer\.echo|typer\.secho|click\.echo|\bprint\(|sys\.std(?:out|err)\.(?!isatty)|Console\(")
    found = {
        path.relative_to(package).as_posix(): printing.findall(path.read_text())
        for path in sorted(package.rglob("*.py"))
        if printing.search(path.read_text())
    }
    assert set(found) == {"terminal.py", "live.py"}
    assert found["live.py"] == ["Console(", "print("]  # the last picture, which is made as all of them are
