"""The wheel and the sdist: what they hold, what they declare, and that they work where nothing else of ours is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from support.installed import ROOT, RUN_PINS, Installed, build, metadata

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = {"assetwatchd", "assetwatch_client", "assetwatch_sandbox", "assetwatch", "assetwatch_etcd", "buf"}
TYPED = {
    "assetwatchd/py.typed",
    "assetwatch_client/py.typed",
    "assetwatch_sandbox/py.typed",
    "assetwatch/py.typed",
    "assetwatch_etcd/py.typed",
    "buf/validate/py.typed",
}
SOURCES = {"usd-search", "omn", "pieces", "media-intelligence", "oracle-sbc"}
USE = """
from typing import assert_type
from assetwatch.v1 import asset_status_pb2 as pb
from collections.abc import Mapping
from assetwatch_client import Key, Watch, connect
from buf.validate import validate_pb2

assert_type(pb.AssetStatus().asset, pb.AssetRef)
assert_type(pb.AssetStatus().asset.asset_id, str)
assert_type(validate_pb2.Rule().id, str)
assert_type(Watch(connect("x:1")).statuses, Mapping[Key, pb.AssetStatus])
pb.AssetRef(asset=1)
"""

pytestmark = pytest.mark.timeout(300)  # environments are made over the network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the checkout."""
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    """The wheel, made from the checkout."""
    return build("wheel", ROOT, folder / "wheel")


@pytest.fixture(scope="module")
def installed(folder: Path, wheel: Path) -> Installed:
    """An environment with the wheel and the pinned run-time set."""
    environment = Installed(folder)
    environment.install("-c", RUN_PINS, wheel)
    return environment


def test_the_wheel_has_every_package_and_says_that_they_are_typed(wheel: Path) -> None:
    """All modules of src/ and generated/ and the schema are in it, a py.typed for each package, and nothing else."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    here = {path.relative_to(top) for top in (ROOT / "src", ROOT / "generated") for path in top.rglob("*.py*")}
    assert {name.partition("/")[0] for name in names} == PACKAGES
    assert {str(path) for path in here if "__pycache__" not in path.parts} <= names
    assert {name for name in names if name.endswith("py.typed")} == TYPED
    assert "assetwatchd/_proto/assetwatch/v1/asset_status.proto" in names


def test_the_sdist_makes_the_same_wheel(wheel: Path, folder: Path) -> None:
    """Byte for byte; and it has neither tests nor tools, which need the repository."""
    sdist = build("sdist", ROOT, folder / "sdist")
    assert build("wheel", sdist, folder / "wheel-of-the-sdist").read_bytes() == wheel.read_bytes()
    with tarfile.open(sdist) as archive:
        folders = {name.split("/")[1] for name in archive.getnames() if name.count("/") > 1}
    assert folders == {"src", "generated", "internal", "proto"}


def test_it_can_be_published(wheel: Path) -> None:
    """It names its licence, where it lives and the Pythons it runs on, and no classifier forbids to publish it."""
    said = metadata(wheel)
    classifiers = said.get_all("Classifier", [])
    assert not [text for text in classifiers if text.startswith("Private")]
    pythons = {text.rpartition(" ")[2] for text in classifiers if re.search(r":: 3\.\d+$", text)}
    assert pythons == {"3.11", "3.12", "3.13"}
    assert said["Requires-Python"] == ">=3.11"
    assert said["License-Expression"] == "Apache-2.0"
    assert set(said.get_all("License-File", [])) == {
        "LICENSE",
        "internal/assetwatch_etcd/LICENSE",
        "proto/buf/validate/LICENSE",
    }
    assert {"Homepage", "Source", "Issues"} <= {text.partition(",")[0] for text in said.get_all("Project-URL", [])}
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_all("Provides-Extra") == ["otlp"]


def test_it_serves_the_demo_and_a_watch_outside_the_checkout(installed: Installed) -> None:
    """With the run-time set alone the demo serves all five, a watch is told of them, and pip finds nothing wrong."""
    installed.check()
    here = installed.run("python", "-c", "import assetwatchd, assetwatch.v1; print(assetwatchd.__file__)")
    assert here.startswith(str(installed.path))
    with installed.running("assetwatch", "demo", "--no-table", "--grpc", "127.0.0.1:0", "--speed", "20") as demo:
        address = demo.next(r"assetwatch is ready on (\S+)")[1]
        with installed.running("assetwatch", "watch", "--server", address) as watch:
            watch.next('"synced"')
            watch.next('"changes"')
        told = installed.run("assetwatch", "sources", "--server", address, "-o", "json")
    states = {source["name"]: source["condition"]["state"] for source in json.loads(told)["sources"]}
    assert states == dict.fromkeys(SOURCES, "SOURCE_CONDITION_STATE_HEALTHY")


def test_a_type_checker_knows_what_is_installed(installed: Installed, folder: Path) -> None:
    """Mypy of somebody who installed the wheel sees the types of the schema and of the client, and a wrong field."""
    (folder / "use.py").write_text(USE)
    options = ["--strict", "--config-file=", "--python-executable", str(installed.path / "bin/python")]
    command = [sys.executable, "-m", "mypy", *options, "use.py"]
    ended = subprocess.run(
        command, cwd=folder, env=installed.env, capture_output=True, text=True, timeout=120, check=False
    )
    problems = [line for line in ended.stdout.splitlines() if ": error:" in line]
    assert len(problems) == 1, ended.stdout
    assert '"asset" for "AssetRef"' in problems[0]
