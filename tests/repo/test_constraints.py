"""constraints.txt: one exact version of everything that is installed, and it is the one installed here."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKE_SETUP = {"pip"}
"""What `make setup` installs besides."""


def pins() -> dict[str, str]:
    """Return the pinned version of each package."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines]
    assert all(pairs), "every line should be NAME==VERSION"
    return {canonicalize_name(pair[1]): pair[2] for pair in pairs if pair}


def needed() -> set[str]:
    """Return every package that the project and its tools need, theirs included."""
    asked = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["otlp"],
        *PROJECT["dependency-groups"]["dev"],
        *MAKE_SETUP,
    ]
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


def test_everything_is_pinned_and_nothing_else() -> None:
    """Every package that gets installed has a line, and every line a package that needs it."""
    assert pins().keys() == needed()


def test_the_tests_run_with_the_pinned_versions() -> None:
    """What is installed here is what constraints.txt says."""
    installed = {name: metadata.version(name) for name in pins()}
    assert installed == pins()
