"""What a fresh clone begins with: a Python is found or asked for, and each target makes its environment first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAMPS = ("run", "grpcurl", "go", "dev", "bench", "docs")
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


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a fresh clone makes its environment from."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("constraints", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def make(clone: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run make there, as if nobody had called it from another."""
    of_the_caller = re.compile(r".*MAKE.*|MFLAGS|PYTHON|VENV")
    outside = {name: value for name, value in os.environ.items() if not of_the_caller.fullmatch(name)}
    env = {**outside, **extra}
    return subprocess.run(
        ["make", *arguments], cwd=clone, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("target", "layers"),
    [
        ("demo", ["run"]),
        ("grpcurl", ["run", "grpcurl"]),
        ("etcd", ["run", "dev"]),
        ("test", ["run", "dev", "docs"]),
        ("lint", ["run", "dev"]),
        ("check", ["run", "dev"]),
        ("generate", ["run", "dev"]),
        ("breaking", ["run", "dev"]),
        ("reference", ["run", "dev"]),
        ("bench", ["run", "dev", "bench"]),
        ("docs", ["run", "dev", "docs"]),
    ],
)
def test_a_target_makes_its_layers_first(clone: Path, target: str, layers: list[str]) -> None:
    """In a clone without .venv, whatever is asked for begins with the layers that it needs, and makes no other."""
    plan = make(clone, "-n", target).stdout.splitlines()
    assert plan[: len(layers)] == [f"sh tools/set_up.sh {layer}" for layer in layers]
    assert not [line for line in plan[len(layers) :] if "set_up.sh" in line]


@pytest.mark.parametrize(("program", "brought"), [("", "--no-print-directory .venv/.go\n"), ("go", ""), ("etcd", "")])
def test_a_demo_with_replicas_brings_what_builds_an_etcd(clone: Path, program: str, brought: str) -> None:
    """Where neither an etcd nor a Go is on PATH. A demo without replicas needs neither, and looks for none."""
    assert "etcd" not in make(clone, "-n", "demo", "ARGS=--seed 2").stdout
    plan = make(clone, "-n", "demo", "ARGS=--replicas 3").stdout.splitlines()
    (line,) = (line for line in plan if "etcd" in line)
    tools = clone / "programs"
    tools.mkdir()
    put(tools, "make", '#!/bin/sh\necho "$@"\n')
    if program:
        put(tools, program, "#!/bin/sh\n")
    shell = str(shutil.which("sh"))
    done = subprocess.run([shell, "-c", line], env={"PATH": str(tools)}, capture_output=True, text=True, check=True)
    assert done.stdout == brought


@pytest.mark.parametrize(
    ("changed", "outdated"),
    [
        ("Makefile", set()),
        ("constraints/bench.txt", {"bench"}),
        ("constraints/docs.txt", {"docs"}),
        ("constraints/dev.txt", {"grpcurl", "go", "dev", "bench", "docs"}),
        ("constraints/run.txt", {"run", "grpcurl", "go", "dev", "bench", "docs"}),
        ("pyproject.toml", {"run", "grpcurl", "go", "dev", "bench", "docs"}),
    ],
)
def test_a_change_makes_anew_what_depends_on_it(clone: Path, changed: str, outdated: set[str]) -> None:
    """With the layers there nothing is installed again, until the pins of a layer change; then it, and those above."""
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/python").touch()
    for number, layer in enumerate(STAMPS):
        stamp = clone / ".venv" / f".{layer}"
        stamp.touch()
        os.utime(stamp, (1000 + number, 1000 + number))
    for path in (*clone.iterdir(), *clone.glob("constraints/*")):
        if path.name != ".venv":
            os.utime(path, (10, 10))
    os.utime(clone / changed, (2000, 2000))
    asked = {layer: make(clone, "-q", f".venv/.{layer}").returncode for layer in STAMPS}
    assert {layer for layer, code in asked.items() if code} == outdated


FAKE = r"""#!/bin/sh
# A Python whose environments write down what they are asked to install, and fail when they are told to.
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/python3.11" && touch "$3/pyvenv.cfg" ;;
  "-m pip "*) [ ! -e fails ] && echo "$*" >> installed ;;
esac
"""


def fake_python(clone: Path) -> str:
    """Put a Python in front of all others; return what PATH is to be."""
    folder = clone / "fakes"
    folder.mkdir()
    put(folder, "python3.11", FAKE)
    return f"{folder}:{os.environ['PATH']}"


def test_an_installation_that_broke_off_is_begun_anew(clone: Path) -> None:
    """No stamp is left by one that failed half-way; the next call trusts nothing of it, the layers below included."""
    path = fake_python(clone)
    assert make(clone, "setup", PATH=path).returncode == 0
    assert len((clone / "installed").read_text().splitlines()) == 4
    (clone / ".venv/half").touch()
    (clone / "fails").touch()
    (clone / "constraints/dev.txt").write_text("ruff==1")
    assert make(clone, "setup", PATH=path).returncode != 0
    assert (clone / ".venv/.unfinished").exists()
    assert [make(clone, "-q", layer).returncode for layer in (".venv/.run", ".venv/.dev")] == [1, 1]
    (clone / "fails").unlink()
    (clone / "installed").unlink()
    assert make(clone, "setup", PATH=path).returncode == 0
    assert len((clone / "installed").read_text().splitlines()) == 4
    assert sorted(path.name for path in (clone / ".venv").iterdir()) == [".dev", ".run", "bin", "pyvenv.cfg"]


def test_an_environment_whose_python_is_gone_is_made_anew(clone: Path) -> None:
    """As after an upgrade of the system's Python, or when the folder was copied from another machine."""
    path = fake_python(clone)
    assert make(clone, "setup", PATH=path).returncode == 0
    (clone / ".venv/bin/python").unlink()
    (clone / ".venv/bin/python").symlink_to("/nowhere/python3.11")
    assert make(clone, "-q", ".venv/.run").returncode == 1
    assert make(clone, "setup", PATH=path).returncode == 0
    assert make(clone, "-q", "setup").returncode == 0


def test_a_folder_that_is_something_else_is_left_alone(clone: Path) -> None:
    """A folder that was named by mistake is not removed to make an environment of it."""
    (clone / "mine").mkdir()
    (clone / "mine/file").touch()
    ended = make(clone, "setup", "VENV=mine", PATH=fake_python(clone))
    assert ended.returncode != 0
    assert "mine is no environment" in ended.stderr
    assert (clone / "mine/file").exists()


def test_a_layer_is_added_to_those_that_are_there(clone: Path) -> None:
    """`make setup` after `make demo` installs what is missing alone, and says what it does and how long it takes."""
    path = fake_python(clone)
    first = make(clone, ".venv/.run", PATH=path)
    assert first.stderr.startswith("setting up .venv: an environment of "), "before anything that takes long"
    assert re.search(r"setting up \.venv: .*, \d+ packages, \d+ MB; about half a minute", first.stderr)
    (clone / "installed").unlink()
    assert make(clone, "setup", PATH=path).stderr.count("setting up") == 1
    assert all("constraints/dev.txt" in line for line in (clone / "installed").read_text().splitlines())
    assert make(clone, "-q", ".venv/.run", "setup").returncode == 0


def test_ci_runs_everything() -> None:
    """.ci/run can be started, and is `make test-fresh` with nothing on standard input."""
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "exec make test-fresh </dev/null" in script.read_text()
