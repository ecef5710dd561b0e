"""pyproject.toml declares what is imported, and nothing that is not: no package is there by another's courtesy."""

from __future__ import annotations

import ast
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
SHIPPED = (ROOT / "src", ROOT / "generated")
BESIDE = (ROOT / "tests", ROOT / "tools")
OF_THE_SITE = ROOT / "tools/docs_hooks.py"
"""MkDocs imports it, which is of a layer of its own: whoever only tests does not have it."""
MODULE_SUFFIXES = {".py", ".pyi", ".so"}
NEVER_IMPORTED = {"tzdata": "zoneinfo reads it where the system has no zones"}
OURS = {"assetwatchd", "assetwatch_client", "assetwatch_sandbox", "assetwatch", "assetwatch_etcd", "buf"}


def declared(texts: list[str]) -> set[str]:
    """Return the names of requirements."""
    return {canonicalize_name(Requirement(text).name) for text in texts}


def names_in(code: str) -> Iterator[str]:
    """Yield each module that some code imports; of `from a import b`, both a.b and, where that is none, a."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def homes() -> dict[str, str]:
    """Return which distribution each installed module belongs to; several may share the package above it."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        for file in distribution.files or ():
            if file.suffix in MODULE_SUFFIXES:
                module = ".".join([*file.parts[:-1], file.name.partition(".")[0]])
                found.setdefault(module.removesuffix(".__init__"), name)
    return found


def home(module: str) -> str:
    """Return the distribution that a module comes from."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if found := homes().get(".".join(parts[:length])):
            return found
    raise AssertionError(f"{module} is of no installed package")


def names_of(trees: tuple[Path, ...]) -> set[str]:
    """Return the names by which the code in some folders may be imported."""
    return {path.stem for tree in trees for path in tree.rglob("*") if path.is_dir() or path.suffix == ".py"}


def used(trees: tuple[Path, ...]) -> dict[str, set[str]]:
    """Return the distributions that the code in some folders imports, stubs too, each with the files that do."""
    known = set(sys.stdlib_module_names) | OURS | {"tools"}
    known |= set() if trees == SHIPPED else names_of(trees)
    found: dict[str, set[str]] = {}
    for path in (
        path for tree in trees for path in tree.rglob("*.py*") if path.suffix in {".py", ".pyi"} and path != OF_THE_SITE
    ):
        for module in names_in(path.read_text()):
            if module.partition(".")[0] not in known:
                found.setdefault(home(module), set()).add(str(path.relative_to(ROOT)))
    return found


def test_what_is_imported_is_declared() -> None:
    """Each import is of a package that is declared, or of the extra in the one file that knows it may be missing."""
    extra = declared(PROJECT["optional-dependencies"]["otlp"])
    missing = {name: files for name, files in used(SHIPPED).items() if name not in declared(PROJECT["dependencies"])}
    assert missing == {name: {"src/assetwatchd/runtime/telemetry.py"} for name in extra}


def test_what_is_declared_is_imported() -> None:
    """A package that nobody imports is not asked for, but for those that work without."""
    assert declared(PROJECT["dependencies"]) - used(SHIPPED).keys() == NEVER_IMPORTED.keys()


def test_what_the_tests_import_is_declared() -> None:
    """It is in the group dev, unless assetwatch itself needs it."""
    grouped = declared(PYPROJECT["dependency-groups"]["dev"]) | declared(PROJECT["dependencies"])
    assert {name: files for name, files in used(BESIDE).items() if name not in grouped} == {}


def test_what_the_site_imports_is_declared() -> None:
    """The hooks of MkDocs import MkDocs and nothing else; the group docs has what brings it."""
    imported = {module.partition(".")[0] for module in names_in(OF_THE_SITE.read_text())}
    assert imported - set(sys.stdlib_module_names) == {"mkdocs"}
    assert declared(PYPROJECT["dependency-groups"]["docs"]) == {"mkdocs-material"}


@pytest.mark.parametrize(
    ("code", "package"),
    [
        ("import yaml", "pyyaml"),
        ("def f():\n    from google.rpc import error_details_pb2", "googleapis-common-protos"),
        ("from google.protobuf.json_format import Parse", "protobuf"),
        ("from opentelemetry import trace", "opentelemetry-api"),
        ("from opentelemetry.sdk.trace import Tracer", "opentelemetry-sdk"),
        ("import lxml.etree", "lxml"),
    ],
)
def test_a_module_is_found_in_the_package_that_has_it(code: str, package: str) -> None:
    """Also where several packages share the name above it, and inside a function."""
    assert {home(module) for module in names_in(code)} == {package}
