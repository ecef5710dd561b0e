"""Words that are told to people."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import assetwatch_client
import assetwatch_sandbox
import assetwatchd
from assetwatchd.model.texts import counted

pytestmark = pytest.mark.unit

PACKAGES = (assetwatchd, assetwatch_client, assetwatch_sandbox)
MODULES = [path for package in PACKAGES for path in Path(next(iter(package.__path__))).rglob("*.py")]


def test_one_is_one() -> None:
    """And none are several."""
    assert [counted(number, "source") for number in (0, 1, 2)] == ["0 sources", "1 source", "2 sources"]


def test_no_text_leaves_the_number_to_its_reader() -> None:
    """None says "1 source(s)"; http(s) is two schemes."""
    texts = [
        node.value
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert len(texts) > 1000
    assert [text for text in texts if "(s)" in text.replace("http(s)", "")] == []
