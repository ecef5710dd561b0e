"""The documents as pages: their sizes, their links, what is written by the program, and the site's list of them."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import yaml
from assetwatch.pieces.v1 import asset_pb2, pieces_assets_service_pb2, search_pb2, seed_pb2
from assetwatch.v1 import (
    asset_status_pb2,
    asset_status_service_pb2,
    details_pb2,
    server_service_pb2,
    source_pb2,
    source_service_pb2,
)

from assetwatchd.settings.schema import Settings
from support.documents import ROOT, anchors, blocks, pages, prose

if TYPE_CHECKING:
    from pathlib import Path

PAGES = pages()
BYTES_MAX = {"README.md": 8 * 1024, "ARCHITECTURE.md": 12 * 1024}
"""What is read in one sitting."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
REFERENCE = "docs/reference"
SCHEMA = {
    "api.md": (
        asset_status_pb2,
        asset_status_service_pb2,
        details_pb2,
        server_service_pb2,
        source_pb2,
        source_service_pb2,
    ),
    "pieces-api.md": (asset_pb2, pieces_assets_service_pb2, search_pb2, seed_pb2),
}


@pytest.mark.unit
@pytest.mark.parametrize("name", BYTES_MAX)
def test_what_everybody_reads_is_short(name: str) -> None:
    """The two documents that everybody begins with stay so."""
    assert len((ROOT / name).read_bytes()) <= BYTES_MAX[name]


@pytest.mark.unit
def test_the_readme_introduces() -> None:
    """It names no test, and has no table of limits, errors or settings."""
    assert not re.search(r"tests?/\w+|::test_|test_\w+\.py", PAGES["README.md"])
    heads = re.findall(r"^\| *(\w+)[^\n]*\|\n\| -", PAGES["README.md"], flags=re.MULTILINE)
    assert heads == ["To"]


@pytest.mark.unit
@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    """A link is a file or folder of the repository, and what stands behind # is a heading there."""
    for target in LINK.findall(prose(PAGES[name])):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / name).parent / path if path else ROOT / name
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text()), target


@pytest.mark.unit
@pytest.mark.parametrize("name", PAGES)
def test_lists_and_tables_stand_by_themselves(name: str) -> None:
    """Behind an empty line: or one is taken for a part of the paragraph before it, or a wrapped line for one."""
    lines = prose(PAGES[name]).splitlines()
    for before, line in pairwise(lines):
        if before.strip() and re.match(r"(- |\d+\. )", line):
            assert re.match(r"\s*(- |\d+\. )|\s\s", before), line
        if before.strip() and line.startswith("|"):
            assert before.startswith("|"), line


@pytest.mark.unit
def test_every_page_is_on_the_site() -> None:
    """The list of pages in mkdocs.yml has each file of docs/ once."""
    text = re.sub(r"!!python\S+", "", (ROOT / "mkdocs.yml").read_text())
    listed = _files(yaml.safe_load(text)["nav"])
    assert sorted(listed) == sorted(name.removeprefix("docs/") for name in PAGES if name.startswith("docs/"))


def _files(entry: object) -> list[str]:
    """Return the files in a list of pages, whatever is within what."""
    if isinstance(entry, str):
        return [entry]
    inner = entry.values() if isinstance(entry, dict) else entry
    assert not isinstance(inner, (bytes, int, type(None)))
    return [file for each in inner for file in _files(each)]  # type: ignore[attr-defined]  # YAML has nothing else


def test_the_references_are_those_of_the_program(tmp_path: Path) -> None:
    """What `make reference` would write is what is there, and nothing else is."""
    subprocess.run([sys.executable, "-m", "tools.reference", tmp_path], cwd=ROOT, timeout=100, check=True)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    there = {path.name: path.read_text() for path in (ROOT / REFERENCE).iterdir()}
    assert written.keys() == there.keys()
    assert [name for name, text in written.items() if text != there[name]] == [], "run: make reference"


@pytest.mark.unit
def test_the_reference_of_settings_is_whole() -> None:
    """Each group of settings that there is has a table with each of its settings."""
    page = PAGES[f"{REFERENCE}/settings.md"]
    told = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    kinds = set(re.findall(r"^### `kind: (\w+)`$", page, flags=re.MULTILINE))
    for group in Settings.model_json_schema()["$defs"].values():
        assert group["properties"].keys() - {"kind"} <= told
        assert group["properties"].get("kind", {}).get("const") in {None, *kinds}


@pytest.mark.unit
@pytest.mark.parametrize("name", SCHEMA)
def test_the_reference_of_the_api_is_whole(name: str) -> None:
    """Each service, RPC, message, field, enum and value of the package is there, and each has words."""
    page = PAGES[f"{REFERENCE}/{name}"]
    heads = set(re.findall(r"^##+ (\S+)$", page, flags=re.MULTILINE))
    rows = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", page, flags=re.MULTILINE)}
    for module in SCHEMA[name]:
        file = module.DESCRIPTOR
        services = file.services_by_name.values()
        assert {*file.services_by_name, *(method.name for each in services for method in each.methods)} <= heads
        assert {*file.message_types_by_name, *file.enum_types_by_name} <= heads
        fields = {field.name for message in file.message_types_by_name.values() for field in message.fields}
        values = {value.name for enum in file.enum_types_by_name.values() for value in enum.values}
        assert fields | values <= rows.keys()
    assert all(rows.values())


@pytest.mark.unit
def test_the_reference_keeps_what_a_comment_is_made_of() -> None:
    """Headings, lists of ids by kind, the rules at the head of a package, paths of JSON; no sign is lost in a block."""
    api, pieces = (PAGES[f"{REFERENCE}/{name}"] for name in SCHEMA)
    assert {"#### Heartbeats", "#### How it ends"} <= set(api.splitlines())
    assert "<br>`omn` tid:TID or id:NUMBER<br>" in api
    assert "JSON over HTTP: `POST /v1/statuses:watch`." in api
    assert re.search(r"^- extra_json: ", pieces.partition("\n## ")[0], flags=re.MULTILINE)
    assert not re.search(r"&lt;|^\*\*", "".join(blocks("json", api) + blocks("sh", api)), flags=re.MULTILINE)
