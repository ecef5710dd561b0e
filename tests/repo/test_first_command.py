"""What a fresh clone begins with: a Python is found or asked for, and each target makes its environment first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOO_OLD = "#!/bin/sh\nexit 1\n"


def find_python(folder: Path, *asked: str) -> subprocess.CompletedProcess[str]:
    """Look for a Python in one folder alone."""
    command = ["/bin/sh", str(ROOT / "tools/find_python.sh"), *asked]
    return subprocess.run(command, env={"PATH": str(folder)}, capture_output=True, text=True, timeout=60, check=False)


def put(folder: Path, name: str, text: str) -> Path:
    """Put a program into a folder."""
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_right_python_is_found(tmp_path: Path) -> None:
    """python3 is taken when python3.11 is not there or not whole, and one that is asked for before both."""
    works = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    put(tmp_path, "python3.11", TOO_OLD)
    plain = put(tmp_path, "python3", works)
    assert find_python(tmp_path).stdout.strip() == str(plain)
    mine = put(tmp_path, "mine", works)
    assert find_python(tmp_path, "mine").stdout.strip() == str(mine)


def test_without_a_python_it_says_what_to_do(tmp_path: Path) -> None:
    """An old Python, or none, ends with one sentence that names the version and the way out."""
    put(tmp_path, "python3", TOO_OLD)
    ended = find_python(tmp_path)
    assert ended.returncode == 1
    assert "Python 3.11 or newer" in ended.stderr
    assert "make PYTHON=" in ended.stderr


@pytest.mark.parametrize("target", ["demo", "test", "lint", "generate", "breaking"])
def test_a_target_makes_its_environment_first(tmp_path: Path, target: str) -> None:
    """In a clone without .venv, whatever is asked for begins with making it from constraints.txt."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    outside = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "MFLAGS"}
    plan = subprocess.run(
        ["make", "-n", target], cwd=tmp_path, env=outside, capture_output=True, text=True, timeout=60, check=True
    )
    lines = plan.stdout.splitlines()
    assert "find_python.sh" in lines[1]
    assert "-c constraints.txt" in lines[2]


def test_a_made_environment_is_made_once(tmp_path: Path) -> None:
    """With the environment there nothing is installed again, until what it is made from changes."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    ready = tmp_path / ".venv/.ready"
    ready.parent.mkdir()
    ready.touch()
    at = ready.stat().st_mtime
    for changed, expected in (("Makefile", 0), ("constraints.txt", 1)):
        os.utime(tmp_path / "constraints.txt", (at - 10, at - 10))
        os.utime(tmp_path / "pyproject.toml", (at - 10, at - 10))
        os.utime(tmp_path / changed, (at + 10, at + 10))
        ended = subprocess.run(["make", "-q", "setup"], cwd=tmp_path, capture_output=True, timeout=60, check=False)
        assert ended.returncode == expected, changed


def test_ci_runs_everything() -> None:
    """.ci/run can be started, and is `make test` with nothing on standard input."""
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "exec make test </dev/null" in script.read_text()
