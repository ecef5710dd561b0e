"""What holds for every source file, and no linter looks for."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("src", "tests", "tools", "bench") for path in (ROOT / folder).rglob("*.py"))
LINES_LONG = 30
"""A function of more lines is long; __init__ counts too."""
CORE = (
    "app",
    *(f"changefeed/{name}" for name in ("batches", "groups", "hub", "pipeline", "rounds", "watcher")),
    *(f"polling/{name}" for name in ("scheduler", "push", "calls", "endings", "lists", "outcomes", "waiters")),
    *(f"polling/{name}" for name in ("plan", "registry", "interest", "agenda", "target")),
)


def lines(pattern: str, files: list[Path]) -> Iterator[str]:
    """Find the lines that have a match, as FILE:LINE."""
    for path in files:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(pattern, line):
                yield f"{path.relative_to(ROOT)}:{number}"


def test_who_ignores_a_type_says_why() -> None:
    """A type: ignore names the error and is followed by its reason."""
    assert (
        list(lines(r"# type: ignore(?!\[[a-z, -]+\]  # \w)", [path for path in FILES if path != Path(__file__)])) == []
    )


def test_the_schema_alone_spells_the_names_of_services() -> None:
    """No source of the service has the full name of a service as a text of its own."""
    services = [path for path in FILES if path.is_relative_to(ROOT / "src")]
    assert list(lines(r"[\"'/](assetwatch(\.pieces)?|grpc\.health)\.v1\.[A-Z]", services)) == []


def test_no_statement_numbers_its_parameters() -> None:
    """SQLite takes ?1 for a name, and from Python 3.14 on a name gets no value from a sequence."""
    assert list(lines(r"\?\d", [path for path in FILES if "sqlite" in path.name])) == []


@pytest.mark.parametrize("name", CORE)
def test_functions_of_the_core_are_short(name: str) -> None:
    """None has more than 30 lines, its parameters and documentation apart."""
    tree = ast.parse((ROOT / f"src/assetwatchd/{name}.py").read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f.name for f in functions if _lines(f) > LINES_LONG] == []


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1
