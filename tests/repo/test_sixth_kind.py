"""The recipe of docs/internals/adding-an-upstream.md for a sixth kind is true: those files, no other, and it serves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
KIT = Path(__file__).parent / "sixth_kind"
SERVICE = "## The service"
STANDIN = "## Its stand-in, its tests, its documentation"

DETAIL = """@dataclass(frozen=True, slots=True)
class AcmeDetail:
    '''A door.'''

    position: str = ""


Detail: TypeAlias = AcmeDetail | """
MESSAGE = """// What Acme said about a door.
message AcmeDetail {
  // open, jammed.
  string position = 1;
}

// What an Oracle session border"""
SOURCE = """class AcmeSource(SourceSettings):
    '''Acme doors.'''

    kind: Literal["acme"]


AnySource = Annotated[
    AcmeSource | """
EDITS = {
    "proto/assetwatch/v1/source.proto": (
        "  SOURCE_KIND_ORACLE_SBC = 5;\n",
        "  SOURCE_KIND_ORACLE_SBC = 5;\n  // Acme doors.\n  SOURCE_KIND_ACME = 6;\n",
    ),
    "proto/assetwatch/v1/details.proto": ("// What an Oracle session border", MESSAGE),
    "proto/assetwatch/v1/asset_status.proto": (
        "    OracleSbcDetail oracle_sbc = 15;\n",
        "    OracleSbcDetail oracle_sbc = 15;\n    // Acme: where the door stands.\n    AcmeDetail acme = 16;\n",
    ),
    "src/assetwatchd/model/values.py": ("    ORACLE_SBC = 5\n", "    ORACLE_SBC = 5\n    ACME = 6\n"),
    "src/assetwatchd/model/details.py": ("Detail: TypeAlias = ", DETAIL),
    "src/assetwatchd/rpc/convert.py": (
        '    details.OracleSbcDetail: "oracle_sbc",\n',
        '    details.OracleSbcDetail: "oracle_sbc",\n    details.AcmeDetail: "acme",\n',
    ),
    "src/assetwatchd/settings/schema.py": ("AnySource = Annotated[\n    ", SOURCE),
    "src/assetwatchd/app.py": (
        '    "oracle_sbc": OracleSbc,\n',
        '    "oracle_sbc": OracleSbc,\n    "acme": Acme,\n',
    ),
}
"""Where the recipe puts what, by file: what is there, and what it becomes."""
ADAPTER = "src/assetwatchd/adapters/KIND.py"


def recipe(heading: str) -> set[str]:
    """Return the files that a part of the recipe names first in its numbered steps."""
    text = (ROOT / "docs/internals/adding-an-upstream.md").read_text().split(heading, 1)[1].split("\n#", 1)[0]
    steps = re.findall(r"^\d+\. (.*)$", text, flags=re.MULTILINE)
    return {path for step in steps for path in re.findall(r"`([\w./]+/[\w./]*)`", step)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the service with the recipe carried out for Acme doors."""
    for name in ("src", "proto", "internal", "generated", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "buf.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for file, (anchor, text) in EDITS.items():
        path = tmp_path / file
        assert path.read_text().count(anchor) == 1, f"{file} should hold {anchor!r} once"
        path.write_text(path.read_text().replace(anchor, text))
    app = tmp_path / "src/assetwatchd/app.py"
    line = "from assetwatchd.adapters.media_intelligence import"
    app.write_text(app.read_text().replace(line, f"from assetwatchd.adapters.acme import Acme\n{line}"))
    shutil.copy(KIT / "acme.py", tmp_path / ADAPTER.replace("KIND", "acme"))
    ended = run(tmp_path, "sh", "tools/generate.sh")
    assert ended.returncode == 0, ended.stderr
    return tmp_path


def run(tree: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command over the copy."""
    env = {
        **os.environ,
        "VENV": str(BIN.parent),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": f"{tree}/src:{tree}/generated",
    }
    return subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=100, check=False)


def test_the_recipe_names_the_files_of_the_service() -> None:
    """What the recipe says for the service is what this test edits, besides the adapter itself."""
    assert recipe(SERVICE) == {*EDITS, ADAPTER}


def test_no_other_file_of_the_service_knows_a_kind_by_name() -> None:
    """Whoever names an existing kind, but for its own modules, is in the recipe."""
    own = re.compile(r"src/(assetwatchd/adapters/oracle_sbc\.py|assetwatch_sandbox/oracle_sbc/)")
    named = {
        str(path.relative_to(ROOT))
        for folder in ("src", "proto/assetwatch")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".proto") and re.search(r"oracle_?sbc", path.read_text(), re.IGNORECASE)
    }
    others = {path for path in named if not own.match(path)}
    assert others == {path for path in recipe(SERVICE) | recipe(STANDIN) if path.startswith(("src/", "proto/"))} - {
        ADAPTER,
        "src/assetwatch_sandbox/KIND/",
    }


def test_the_recipe_names_what_is_there() -> None:
    """Every file and folder that the recipe names exists, with an existing kind in place of KIND."""
    for path in recipe(SERVICE) | recipe(STANDIN):
        assert (ROOT / path.replace("KIND", "oracle_sbc")).exists(), path


def test_a_sixth_kind_serves(tree: Path) -> None:
    """With the recipe carried out, doors are read and watched over gRPC; schema and import contracts still hold."""
    lint = run(tree, "buf", "lint")
    assert lint.returncode == 0, lint.stdout
    contracts = run(tree, "lint-imports", "--no-cache")
    assert contracts.returncode == 0, contracts.stdout
    ended = run(tree, sys.executable, "-X", "dev", "-W", "error", KIT / "use_it.py")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "kind": "SOURCE_KIND_ACME",
        "detail": "open",
        "missing": "ASSET_STATE_MISSING",
        "watched": ["ASSET_STATE_AVAILABLE", "ASSET_STATE_FAILED"],
    }
