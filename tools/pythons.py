"""Run a part of the tests, those of the wheel among them, on every Python 3.11 or newer that this machine has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
NAME = re.compile(r"python3(\.\d+)?")
WHO = "import ensurepip, sys, venv; print(*sys.version_info[:2], sys.base_prefix)"
TESTS = (
    "tests/repo/test_wheel.py tests/repo/test_lowest.py tests/client"
    " tests/model tests/settings tests/runtime tests/upstream tests/changefeed tests/polling"
)
"""What depends on the Python it runs on, and takes about two minutes; make test-pythons ARGS=tests for all."""


def folders() -> list[Path]:
    """Return the folders that may have a Python: those of PATH, and of the versions that pyenv has."""
    on_path = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep) if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [*on_path, *sorted(pyenv.glob("versions/*/bin"))]


def pythons(places: list[Path]) -> dict[str, str]:
    """Return a Python for each version that is new enough and can make environments, the first that was found."""
    found: dict[tuple[int, int], str] = {}
    candidates = (path for place in places if place.is_dir() for path in sorted(place.iterdir()))
    for path in candidates:
        if NAME.fullmatch(path.name) and (said := who(path)) and said[0] >= OLDEST:
            found.setdefault(*said)
    return {".".join(map(str, version)): path for version, path in sorted(found.items())}


def who(path: Path) -> tuple[tuple[int, int], str] | None:
    """Ask a Python for its version and place, also behind a shim or an environment; None when it does not work."""
    try:
        ended = subprocess.run([path, "-c", WHO], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    if ended.returncode != 0:
        return None
    major, minor, prefix = ended.stdout.strip().split(maxsplit=2)
    return (int(major), int(minor)), f"{prefix}/bin/python{major}.{minor}"


def test(version: str, python: str) -> bool:
    """Make an environment on a Python and run the tests there; tell whether all passed."""
    print(f"Python {version}: {python}", flush=True)
    build = f"build/python{version}"
    arguments = [f"PYTHON={python}", f"VENV={build}/venv", f"BUILD={build}", f"ARGS={os.environ.get('ARGS') or TESTS}"]
    return subprocess.run(["make", "tests", *arguments], cwd=ROOT, check=False).returncode == 0


def main() -> None:
    """Test them all. Raises: SystemExit when one fails or there is none."""
    found = pythons(folders())
    passed = {version: test(version, python) for version, python in found.items()}
    for version, well in passed.items():
        print(f"Python {version} ({found[version]}): {'passed' if well else 'FAILED'}")
    sys.exit(not (passed and all(passed.values())))


if __name__ == "__main__":
    main()
