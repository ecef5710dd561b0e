"""Each fact of a target has one owner: who writes what is counted in the syntax trees of the sources."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assetwatchd.polling.demand import Demand
from assetwatchd.polling.knowledge import Knowledge, Trouble
from assetwatchd.polling.presence import Presence
from assetwatchd.polling.target import Place, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.unit

SERVICE = Path(__file__).parents[2] / "src/assetwatchd"
POLLING = sorted((SERVICE / "polling").glob("*.py"))
OWNERS: Mapping[type, Mapping[str, str]] = {
    Target: {
        **dict.fromkeys(["phase", "generation", "dirty", "refetch", "place"], "target"),
        "demand": "interest",
        "presence": "registry",
    },
    Knowledge: dict.fromkeys(Knowledge.__slots__, "knowledge"),
    Trouble: dict.fromkeys(Trouble.__slots__, "knowledge"),
}
"""Who writes each field that changes. What else a target has is written once, when it is made."""
VALUES: Mapping[type[Demand | Presence | Place], str] = {Demand: "demand", Presence: "presence", Place: "agenda"}
"""Who makes another one of a value that many share, or that is replaced."""
MADE_ONCE = {"asset_id", "key", "knowledge"}


def written(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every attribute that is assigned to, added to or deleted, and whether on self in an __init__."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            for inner in ast.walk(node):
                if isinstance(inner, ast.Attribute):
                    inner.made = isinstance(inner.value, ast.Name) and inner.value.id == "self"  # type: ignore[attr-defined]  # a note
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.attr, getattr(node, "made", False)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"setattr", "delattr"}:
            yield ast.unparse(node.args[1]).strip("'\""), False


def writers(sources: Mapping[str, str]) -> Mapping[str, set[str]]:
    """The modules that write each attribute, but for what an object gives itself when it is made."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, source in sources.items():
        for attribute, made in written(ast.parse(source)):
            if not made:
                found[attribute].add(name)
    return found


def replacers(sources: Mapping[str, str]) -> Mapping[str, set[str]]:
    """The modules that replace each field of a value by `_replace`."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "_replace":
                for keyword in node.keywords:
                    found[keyword.arg or "**"].add(name)
    return found


def has_targets(source: str) -> bool:
    """Whether a module gets hold of a target at all; Health, say, has fields of the same names, and knows ids alone."""
    nodes = ast.walk(ast.parse(source))
    names = {getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None) for node in nodes}
    return not names.isdisjoint({"target", "targets", "Target"})


SOURCES = {path.stem: source for path in POLLING if has_targets(source := path.read_text()) or path.stem == "knowledge"}


@pytest.mark.parametrize("of", OWNERS, ids=lambda of: of.__name__)
def test_each_field_has_one_writer(of: type) -> None:
    """It is written in the module that owns it, and in no other."""
    found = writers(SOURCES)
    assert {field: found[field] for field in OWNERS[of]} == {field: {owner} for field, owner in OWNERS[of].items()}


def test_every_field_has_an_owner() -> None:
    """No field of a target is left out above, and what is made once is written by nobody."""
    assert {*OWNERS[Target], *MADE_ONCE} == set(Target.__slots__)
    found = writers(SOURCES)
    assert {field: found[field] for field in MADE_ONCE} == {field: set() for field in MADE_ONCE}


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_each_value_has_one_maker(value: type[Demand | Presence | Place]) -> None:
    """A changed demand, presence or place is made in one module; as they are tuples, nobody can write into one."""
    found = replacers({path.stem: path.read_text() for path in POLLING})
    assert {module for field in value._fields for module in found[field]} == {VALUES[value]}
    defining = f"class {value.__name__}"
    made = {name for name, source in SOURCES.items() if f" {value.__name__}(" in source and defining not in source}
    assert made <= {VALUES[value]}


def test_nobody_else_knows_a_target() -> None:
    """No other room of the service imports one of these modules, so that nobody there can write to one."""
    names = ("target", "demand", "presence", "knowledge", "registry", "agenda")
    others = [path for path in SERVICE.rglob("*.py") if path not in POLLING]
    assert [path for path in others for name in names if f"polling.{name} " in path.read_text()] == []


@pytest.mark.parametrize(
    "line",
    [
        "target.place = None",
        "target.knowledge.trouble.failures += 1",
        "a, target.dirty = 1, True",
        "for target.phase in (): pass",
        "del target.presence",
        "setattr(target, 'generation', 3)",
    ],
)
def test_a_second_writer_is_seen(line: str) -> None:
    """Whatever the form of the write."""
    assert {"push"} in writers({"push": f"def take(target):\n    {line}\n"}).values()
