"""tools/fresh.py and tools/pythons.py: nothing of an earlier run is there, and every Python of the machine is found."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.installed import environment

ROOT = Path(__file__).parents[2]
TOOLS = ("fresh.py", "pythons.py", "find_python.sh")
TARGET = """
test:
	@env; echo "stdin: $$(cat)"; ls -a; ls -A "$$HOME" | sed 's/^/home: /'; exit 3
"""


def git(folder: Path, *arguments: str) -> None:
    """Run git as nobody in particular."""
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose `make test` tells what it was started with, and fails with 3 (make: 2)."""
    folder = tmp_path / "checkout"
    (folder / "tools").mkdir(parents=True)
    for name in TOOLS:
        shutil.copy(ROOT / "tools" / name, folder / "tools")
    (folder / "Makefile").write_text(TARGET)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "a")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with tools and caches of earlier runs, and with files that say how registries are reached."""
    folder = tmp_path / "home"
    for path in (".local/bin/buf", ".cache/pip/a", ".npmrc", ".config/pip/pip.conf", ".config/go/env"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def fresh(checkout: Path, home: Path, **extra: str) -> tuple[int, list[str], str]:
    """Run the tool with a home and a PATH of its own; return how it ended, what the target told, and what it said."""
    env = {"HOME": str(home), "PATH": f"{home}/.local/bin:{checkout}/.venv/bin:{os.environ['PATH']}", **extra}
    command = [sys.executable, str(checkout / "tools/fresh.py"), "test"]
    ended = subprocess.run(command, env=env, input="typed", capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


def alive(process: int) -> bool:
    """Whether a process is there and is more than a name in a table."""
    ended = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False)
    return bool(ended.stdout.strip("ZN+s \n"))


def test_it_starts_with_nothing_of_an_earlier_run(checkout: Path, home: Path) -> None:
    """A clone of what is committed, an empty home, caches below it, system folders on PATH, nothing to read."""
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / "not-committed").touch()
    code, told, said = fresh(checkout, home, VIRTUAL_ENV="x", PYTHONPATH="x", PIP_FIND_LINKS="x", GOMODCACHE="x")
    env = dict(line.split("=", 1) for line in told if "=" in line)
    assert code == 2
    assert "not committed" in said or "changes that are not" in said
    assert "stdin: " in told
    assert not {".venv", "not-committed"} & set(told)
    assert "Makefile" in told
    assert not [line for line in told if line.startswith("home: ")]
    assert env["HOME"] != str(home)
    assert str(home) not in env["PATH"]
    assert str(checkout) not in env["PATH"]
    assert not {"VIRTUAL_ENV", "PYTHONPATH", "PIP_FIND_LINKS", "GOMODCACHE"} & env.keys()
    assert env["PIP_NO_CACHE_DIR"] == "1"
    assert all(env[name].startswith(env["HOME"]) for name in ("npm_config_cache", "GOPATH", "GOCACHE"))
    assert Path(env["TMPDIR"]).parent == Path(env["HOME"]).parent
    assert not Path(env["HOME"]).parent.exists(), "it leaves nothing behind"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_run_that_is_stopped_leaves_nothing_behind(
    checkout: Path, home: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    """No folder, and no process, nor one that an interrupt does not end, as is so of what a shell has behind it."""
    (checkout / "Makefile").write_text("test:\n\t@sleep 300 & echo $$! $$PWD; wait\n")
    git(checkout, "commit", "--quiet", "-am", "b")
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(checkout / "tools/fresh.py"), "test"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        process, folder = running.stdout.readline().split()
        assert Path(folder).is_dir()
        running.send_signal(stop)
        assert running.wait(60) == 128 + stop
    assert not Path(folder).parent.exists()
    assert not alive(int(process))


def test_it_reaches_the_registries_that_its_caller_reaches(checkout: Path, home: Path) -> None:
    """Variables that name an index, a proxy or a certificate are passed on, and the user's files are pointed to."""
    kept = {
        "PIP_INDEX_URL": "http://index.example.com/simple",
        "PIP_CERT": "/ca.pem",
        "SSL_CERT_FILE": "/ca.pem",
        "NODE_EXTRA_CA_CERTS": "/ca.pem",
        "npm_config_registry": "http://npm.example.com",
        "GOPROXY": "http://go.example.com",
        "https_proxy": "http://proxy.example.com",
        "CI": "true",
    }
    _, told, _ = fresh(checkout, home, **kept)
    env = dict(line.split("=", 1) for line in told if "=" in line)
    assert kept.items() <= env.items()
    assert env["PIP_CONFIG_FILE"] == f"{home}/.config/pip/pip.conf"
    assert env["NPM_CONFIG_USERCONFIG"] == f"{home}/.npmrc"
    assert env["GOENV"] == f"{home}/.config/go/env"
    _, told, _ = fresh(checkout, home, PIP_CONFIG_FILE="/mine")
    assert "PIP_CONFIG_FILE=/mine" in told


def test_the_tests_reach_the_registry_that_pip_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """uv, which does not read it, is told what pip's variables and files say, the variables before the files."""
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = http://a.example.com\nextra-index-url =\n  http://b/c\n  http://d\n"
    )
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert environment()["UV_DEFAULT_INDEX"] == "http://a.example.com"
    assert environment()["UV_INDEX"] == "http://b/c http://d"
    monkeypatch.setenv("PIP_INDEX_URL", "http://e.example.com")
    assert environment()["UV_DEFAULT_INDEX"] == "http://e.example.com"


def test_every_python_that_is_new_enough_is_found_once(tmp_path: Path) -> None:
    """On PATH and among the versions of pyenv; a shim is followed, one too old or broken is left out."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    places = {
        "first/python3": f'exec "{sys.executable}" "$@"',
        "second/python3.12": "echo 3 12 /twelve",
        "second/python3.10": "echo 3 10 /ten",
        "second/python3.13": "exit 1",
        "second/python3-config": "echo 3 15 /config",
        "pyenv/versions/3.14.0/bin/python3.14": "echo 3 14 /fourteen",
        "pyenv/versions/3.12.9/bin/python3.12": "echo 3 12 /other",
    }
    for name, does in places.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
    code = "import json, pythons; print(json.dumps(pythons.pythons(pythons.folders())))"
    env = {
        "PATH": f"{tmp_path}/first:{tmp_path}/nowhere:{tmp_path}/second:/bin",
        "PYENV_ROOT": f"{tmp_path}/pyenv",
        "PYTHONPATH": str(ROOT / "tools"),
    }
    ended = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    found = {"3.12": "/twelve/bin/python3.12", "3.14": "/fourteen/bin/python3.14"}
    found[version] = f"{sys.base_prefix}/bin/python{version}"
    assert {name: path for name, path in json.loads(ended.stdout).items() if name in found} == found
    assert "3.10" not in ended.stdout


def test_no_property_test_fails_for_its_pace() -> None:
    """A new machine is slow at first: what Hypothesis knows of characters is worked out with the first text."""
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
