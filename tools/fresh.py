"""Run `make test` as a new machine would: a clone of HEAD, an empty home, no cache, no tool of an earlier run.

Nothing is left behind: home, caches and folders of tests are all below one folder, which is removed in the end.

What is kept of the environment, and of the files in the user's home, is how the registries are reached.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = re.compile(
    r"""
    CI | LANG | LC_ALL | TERM | TZ                                                    # the run itself
    | PIP_(CERT|CLIENT_CERT|CONFIG_FILE|DEFAULT_TIMEOUT|PROXY|RETRIES|TRUSTED_HOST)   # how registries are reached
    | PIP_(EXTRA_)?INDEX_URL
    | (npm_config|NPM_CONFIG)_(registry|REGISTRY|cafile|CAFILE|userconfig|USERCONFIG)
    | GO(ENV|PROXY|PRIVATE|NOPROXY|SUMDB|NOSUMDB|INSECURE)
    | (HTTPS?|ALL|NO|https?|all|no)_(PROXY|proxy)
    | (SSL_CERT|CURL_CA|REQUESTS_CA|NODE_EXTRA_CA|NIX_SSL_CERT|GRPC_DEFAULT_SSL_ROOTS)_?\w*
    """,
    re.VERBOSE,
)
"""Names of variables that are passed on; a folder of wheels made earlier (PIP_FIND_LINKS) is none."""
USERS_FILES = {
    "PIP_CONFIG_FILE": (".config/pip/pip.conf", ".pip/pip.conf"),
    "NPM_CONFIG_USERCONFIG": (".npmrc",),
    "GOENV": (".config/go/env",),
}
"""Files in a home that may name a registry, by the variable that points to one."""


LOOK_S = 0.2
"""So often it is looked whether we are to end."""
ENDING_S = 15.0
"""Time for pytest to end the servers and environments of the test it was at."""


def environment(outer: dict[str, str], home: Path) -> dict[str, str]:
    """Return the environment of a run in an empty home."""
    kept = {name: value for name, value in outer.items() if KEPT.fullmatch(name)}
    files = {
        name: found
        for name, paths in USERS_FILES.items()
        if (found := _first(Path(outer.get("HOME") or Path.home()), paths))
    }
    caches = {
        "PIP_NO_CACHE_DIR": "1",
        "TMPDIR": str(home.parent / "tmp"),  # pytest keeps the folders of its last runs
        "npm_config_cache": str(home / "npm"),
        "GOPATH": str(home / "go"),
        "GOCACHE": str(home / "go-build"),
        "GOFLAGS": "-modcacherw",  # or the home could not be removed
    }
    return {**files, **kept, **caches, "HOME": str(home), "PATH": os.confstr("CS_PATH") or os.defpath}


def _first(home: Path, paths: tuple[str, ...]) -> str | None:
    return next((str(home / path) for path in paths if (home / path).is_file()), None)


def interpreter() -> str:
    """Return the Python that this one is or was made from: no environment's, and no shim that wants its home."""
    return str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))


def tool(name: str) -> str:
    """Find a program of this machine. Raises: SystemExit."""
    return shutil.which(name) or sys.exit(f"test-fresh needs {name}")


def stops() -> list[int]:
    """Return a list that gets the signals which ask us to end, in place of being ended by them."""
    heard: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: heard.append(number))
    return heard


def run(command: list[str], cwd: Path, env: dict[str, str], heard: list[int]) -> int:
    """Run to its end; when asked to end before, end it with all that it started, so that it lets go of its folder."""
    running = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, process_group=0)
    while not heard:
        with suppress(subprocess.TimeoutExpired):
            return running.wait(LOOK_S)
    end(running)
    return 128 + heard[0]


def end(running: subprocess.Popen[bytes]) -> None:
    """Interrupt a group of processes, which lets pytest end what it started; kill what does not go."""
    os.killpg(running.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        running.wait(ENDING_S)
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def main(*asked: str) -> int:
    """Let make do what is asked in a clone; return how it ended."""
    if subprocess.run([tool("git"), "status", "--porcelain"], cwd=ROOT, capture_output=True, check=True).stdout:
        print("test-fresh tests what is committed; this checkout has changes that are not", file=sys.stderr)
    heard = stops()
    with tempfile.TemporaryDirectory(prefix="assetwatch-fresh-", ignore_cleanup_errors=True) as folder:
        home, clone = Path(folder, "home"), Path(folder, "clone")
        Path(folder).chmod(0o755)  # a test runs as another user below it
        home.mkdir()
        Path(folder, "tmp").mkdir()
        subprocess.run([tool("git"), "clone", "--quiet", ROOT, clone], check=True)
        command = [tool("make"), *asked, f"PYTHON={interpreter()}"]
        return run(command, clone, environment(dict(os.environ), home), heard)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
