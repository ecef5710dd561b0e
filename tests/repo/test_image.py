"""The image: hadolint has nothing to say, and what the Dockerfile runs gives a command that works."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DOCKERFILE = ROOT / "Dockerfile"


def instructions(name: str, stage: int) -> list[str]:
    """Return what follows an instruction in a stage, continued lines joined."""
    joined = DOCKERFILE.read_text().replace("\\\n", " ")
    stages = re.split(r"^FROM .*$", joined, flags=re.MULTILINE)[1:]
    return re.findall(rf"^{name} (.*)$", stages[stage], flags=re.MULTILINE)


def test_hadolint_has_nothing_to_say() -> None:
    """The Dockerfile passes every rule, and none is switched off."""
    ended = subprocess.run([BIN / "hadolint", DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "hadolint ignore" not in DOCKERFILE.read_text()


def test_it_runs_as_nobody_in_particular_and_takes_sigterm_itself() -> None:
    """The last stage is not root, starts assetwatch without a shell, and asks its own health."""
    assert instructions("USER", 1) == ["10001:10001"]
    assert instructions("ENTRYPOINT", 1) == ['["assetwatch"]']
    assert instructions("STOPSIGNAL", 1) == ["SIGTERM"]
    assert instructions("HEALTHCHECK", 1)[0].endswith('CMD ["assetwatch", "health"]')


def carry_out(command: Sequence[str | Path], *, cwd: Path, env: dict[str, str]) -> None:
    """Run a command that must succeed."""
    ended = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=580, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.timeout(600)  # it installs a whole environment
def test_its_steps_give_a_command_that_works(tmp_path: Path) -> None:
    """Each COPY and RUN of the build stage, carried out in a directory, makes an assetwatch that has all it needs."""
    build, venv, base = tmp_path / "build", tmp_path / "opt/assetwatch", tmp_path / "base"
    build.mkdir()
    for copied in instructions("COPY", 0):
        *sources, target = copied.split()
        if target.endswith("/"):
            (build / target).mkdir(parents=True, exist_ok=True)
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(
                    ROOT / source, build / target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / source, build / target)
    quick = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_COMPILE": "0"}
    inside = {**os.environ, **quick, "PATH": f"{base}/bin:/usr/bin:/bin"}
    carry_out([sys.executable, "-m", "venv", base], cwd=tmp_path, env=inside)
    for step in instructions("RUN", 0):
        here = step.replace("/opt/assetwatch", str(venv)).replace("/build/", f"{build}/")
        carry_out(["sh", "-ec", here], cwd=build, env=inside)
    outside = {"PATH": "/usr/bin:/bin", "ASSETWATCH__SOURCES__DAM__AUTH__TOKEN": "made-up"}
    imports = "import assetwatchd.app, assetwatch_client, opentelemetry.exporter.otlp.proto.grpc"
    commands: list[list[str | Path]] = [
        [venv / "bin/assetwatch", "--version"],
        [venv / "bin/assetwatch", "config", "check", "--config", ROOT / "deploy/assetwatch.yaml"],
        [venv / "bin/python", "-c", imports],
    ]
    for command in commands:
        carry_out(command, cwd=tmp_path, env=outside)
    assert not (venv / "bin/pip").exists(), "what runs should not be able to install"
