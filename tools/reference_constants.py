"""The reference of the limits that are constants: name, value and reason, as the source has them."""

from __future__ import annotations

import ast
import importlib
import re
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[1] / "src"
PACKAGES = ("assetwatchd", "assetwatch_client")
NO_LIMITS = {
    "APPLICATION_ID",
    "ASTRAL",
    "EXACT_MAX",
    "FAILED",
    "FILE_MODE",
    "FIRST_PORT",
    "FOR_EVER_MS",
    "GONE",
    "HANGUP",
    "LEAF",
    "LEGACY_SERVER_CONNECT",
    "MILLISECONDS_FROM",
    "MODE",
    "MOMENT_FROM_S",
    "NEWEST",
    "NOT_YET_VALID",
    "PIECES",
    "READER_GONE",
    "STUCK",
    "UNBOUNDED",
}
"""Numbers that are names of something, and bound nothing."""
PER_S = re.compile(r"_PER_S(_|$)")
HEAD = """# Limits that are constants

What can be set is in [Settings](settings.md), and what happens at a limit in [Limits](../limits.md). The other limits
are constants in the source. This is each of them that has a reason beside it; `make reference` writes the page.

Times and sizes in the reasons were measured by hand when the limit was chosen, in November 2026 on shared virtual
machines with two x86-64 cores. They tell the order of magnitude, and are no promise. A *turn* is what the event loop
does before it looks what else there is to do.
"""


class Constant(NamedTuple):
    """A number that the source gives a name, and why it is what it is."""

    module: str
    name: str
    value: float
    reason: str


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    told = (each for each in constants() if each.reason and each.name not in NO_LIMITS)
    for module, group in groupby(told, key=lambda each: each.module):
        rows = [f"| `{each.name}` | {words(each)} | {each.reason} |\n" for each in group]
        path = module.replace(".", "/") + ".py"
        parts.append(f"\n## {path}\n\n| Constant | Value | Reason |\n| --- | --- | --- |\n{''.join(rows)}")
    return "".join(parts)


def constants() -> Iterator[Constant]:
    """Yield each constant of the source that is a number, by module."""
    for package in PACKAGES:
        for path in sorted((SOURCE / package).rglob("*.py")):
            module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
            for name, reason in _named(ast.parse(path.read_text()).body):
                value = getattr(importlib.import_module(module), name)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    yield Constant(module, name, value, reason)


def _named(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield the names in capitals that a module assigns, each with the text right behind it."""
    for statement, after in pairwise([*body, ast.Pass()]):
        if isinstance(statement, ast.Assign | ast.AnnAssign) and re.fullmatch("[A-Z][A-Z0-9_]+", _target(statement)):
            yield _target(statement), _text(after)


def _target(statement: ast.Assign | ast.AnnAssign) -> str:
    target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
    return target.id if isinstance(target, ast.Name) else ""


def _text(statement: ast.stmt) -> str:
    """Return the text that a statement is, on one line; nothing if it is none."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return " ".join(str(statement.value.value).split()).replace("|", "\\|")
    return ""


def words(constant: Constant) -> str:
    """Say a value with its unit, which its name tells."""
    name, value = constant.name, constant.value
    if re.search(r"(^|_)BYTES(_|$)", name):
        unit, size = next(each for each in (("MiB", 2**20), ("KiB", 2**10), ("bytes", 1)) if value % each[1] == 0)
        return f"{value // size:,} {unit}{' a second' if PER_S.search(name) else ''}"
    if PER_S.search(name):
        return f"{value:,} a second"
    if re.search(r"_S(_|$)", name):
        return f"{value:,g} s" if value >= 1 else f"{value * 1000:g} ms"
    return f"{value:,}"
