"""The schema's tools: lint and format pass, a breaking change is caught, and so is forgotten generation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a tool and return how it ended."""
    environment = {**os.environ, "VENV": str(BIN.parent), "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the schema's tools work on."""
    for name in ("proto", "internal", "generated", "tools", "released"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def replace(file: Path, old: str, new: str) -> None:
    """Replace a piece of text that is there once."""
    text = file.read_text()
    assert text.count(old) == 1, f"{file.name} should hold {old!r} once"
    file.write_text(text.replace(old, new))


def held_against() -> str:
    """Return the image that `make schema` holds the schema against."""
    told = run("make", "--dry-run", "schema", cwd=ROOT).stdout
    [image] = re.findall(r"buf breaking --against '(\S+)'", told)
    return str(image)


def test_the_last_release_is_what_the_schema_is_held_against() -> None:
    """It is the newest that is kept, and no newer than the project."""
    kept = {Version(file.stem): f"released/{file.name}" for file in (ROOT / "released").iterdir()}
    assert held_against() == kept[max(kept)]
    assert max(kept) <= Version(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def test_what_was_released_does_not_change() -> None:
    """The image of a version is made once."""
    before = (ROOT / held_against()).read_bytes()
    ended = run("make", "release-schema", f"VERSION={Path(held_against()).stem}", cwd=ROOT)
    assert ended.returncode != 0
    assert "raise the version" in ended.stderr
    assert (ROOT / held_against()).read_bytes() == before


def test_the_schema_is_clean() -> None:
    """The STANDARD and COMMENTS rules and its format hold, and no exception is made for our own schema."""
    assert run("buf", "lint", cwd=ROOT).stdout == ""
    assert run("buf", "format", "--diff", "--exit-code", cwd=ROOT).stdout == ""


def test_an_uncommented_field_is_caught(copy: Path) -> None:
    """A field that says nothing of itself fails the lint."""
    replace(copy / "proto/assetwatch/v1/asset_status.proto", "  // Which asset.\n", "")
    ended = run("buf", "lint", cwd=copy)
    assert ended.returncode != 0
    assert "non-empty comment" in ended.stdout


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("asset_status.proto", "string etag = 10;", "string entity_tag = 10;"),
        ("asset_status.proto", "int64 revision = 9;", "string revision = 9;"),
        ("source.proto", "  // It answers.\n  SOURCE_CONDITION_STATE_HEALTHY = 2;\n", ""),
        ("asset_status_service.proto", "rpc WaitAssetStatus(", "rpc AwaitAssetStatus("),
    ],
    ids=["renamed field", "changed type", "removed enum value", "renamed call"],
)
def test_a_breaking_change_is_caught(copy: Path, file: str, old: str, new: str) -> None:
    """What would break a client of the last release fails where `make schema` looks; the schema itself does not."""
    assert run("buf", "breaking", "--against", held_against(), cwd=copy).returncode == 0
    replace(copy / "proto/assetwatch/v1" / file, old, new)
    ended = run("buf", "breaking", "--against", held_against(), cwd=copy)
    assert ended.returncode != 0
    assert f"proto/assetwatch/v1/{file}" in ended.stdout


def test_generated_code_is_what_the_schema_gives() -> None:
    """generated/ is up to date."""
    ended = run("sh", "tools/check_generated.sh", cwd=ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_schema_that_was_not_generated_is_caught(copy: Path) -> None:
    """A field in proto/ that is not in generated/ fails the check, and generating mends it."""
    replace(
        copy / "proto/assetwatch/v1/asset_status.proto",
        "string etag = 10;",
        "string etag = 10;\n  // Something new.\n  string something_new = 99;",
    )
    caught = run("sh", "tools/check_generated.sh", cwd=copy)
    assert caught.returncode != 0
    assert "make generate" in caught.stderr
    assert run("sh", "tools/generate.sh", cwd=copy).returncode == 0
    mended = run("sh", "tools/check_generated.sh", cwd=copy)
    assert mended.returncode == 0, mended.stdout + mended.stderr


def test_a_file_that_should_not_be_there_is_caught(copy: Path) -> None:
    """What the schema no longer gives may not stay in generated/."""
    (copy / "generated/assetwatch/v1/left_over_pb2.py").write_text("")
    assert run("sh", "tools/check_generated.sh", cwd=copy).returncode != 0
