"""What no file of the repository may hold: another machine's paths, a registry's address, a secret, unfinished work."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
NOT_OURS = {".git", ".venv", "build", "dist", "node_modules", "__pycache__", "buf", ".hypothesis"}
UNWANTED = {
    "path of a machine": r"(?<![\w.:/-])/(?:home|root|Users|work)/\w",
    "address of a registry": r"py[p]i\.org|python[h]osted\.org|npm[j]s\.|proxy\.go[l]ang|crates\.i[o]",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "unfinished work": r"\b(?:TOD[O]|FIXM[E]|XX[X])\b",
    "conflict": r"^(?:<{7} |>{7} )",
    "space at the end of a line": r"[ \t]+$",
}
SPACES_ARE_CONTENT = {".md", ".txt", ".html", ".xml", ".json"}
MADE_UP = {("private key", "tests/golden/oracle_sbc/tls_key.pem")}
"""The key of a stand-in's certificate, which nothing else trusts."""


@functools.cache
def texts() -> list[tuple[str, str]]:
    """Every text file of ours, with its path from the root."""
    found = []
    for folder, inner, files in os.walk(ROOT):
        inner[:] = [name for name in inner if name not in NOT_OURS and not name.endswith("_cache")]
        found += [Path(folder, name) for name in files if name not in NOT_OURS]  # .git is a file in a worktree
    return [(str(path.relative_to(ROOT)), text) for path in sorted(found) if (text := text_of(path)) is not None]


def text_of(path: Path) -> str | None:
    """Read a file; None when it holds no text."""
    try:
        return path.read_text("utf-8")
    except (UnicodeDecodeError, FileNotFoundError):
        return None


@pytest.mark.parametrize("what", UNWANTED)
def test_no_file_holds(what: str) -> None:
    """None of this is anywhere, this file included."""
    pattern = re.compile(UNWANTED[what], re.MULTILINE)
    found = [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}"
        for path, text in texts()
        if not (what.startswith("space") and Path(path).suffix in SPACES_ARE_CONTENT) and (what, path) not in MADE_UP
        for match in pattern.finditer(text)
    ]
    assert found == []


def test_no_text_is_split_by_a_missing_newline() -> None:
    """Every file of code ends with a newline."""
    code = {".py", ".proto", ".toml", ".yaml", ".sh", ".mjs", ""}
    assert [path for path, text in texts() if Path(path).suffix in code and text and not text.endswith("\n")] == []


def test_the_vendored_schema_is_licensed() -> None:
    """Every licence is there: ours, and those of the schemas we copied."""
    for path in ("LICENSE", "proto/buf/validate/LICENSE", "internal/assetwatch_etcd/LICENSE"):
        assert "Apache License" in (ROOT / path).read_text()
