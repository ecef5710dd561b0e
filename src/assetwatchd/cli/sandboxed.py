"""The sandbox on its own: stand-ins on ports that can be fixed, and a configuration that leads to them."""

from __future__ import annotations

import asyncio
import os
import shlex
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from assetwatch_sandbox import KINDS, Sandbox
from assetwatchd.cli.target import DEFAULT_SERVER
from assetwatchd.cli.terminal import safe, tell
from assetwatchd.model.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from assetwatch_sandbox.standin import AnyStandin

FIRST_PORT = 50_061
"""Beside the server's own, and below those that systems hand out by themselves."""
USD_SEARCH_PINS = 12
MARK = "# Written by `assetwatch sandbox --write-config`"
"""A file that begins so may be written anew; any other is somebody's work."""


async def run_sandbox(
    *, host: str, control_port: int, first_port: int, seed: int, speed: float, assets: int, config: Path | None
) -> None:
    """Run the stand-ins until cancelled; print where they are, and write a configuration that leads to them.

    first_port: of the control endpoint, and of the stand-ins after it; 0: free ones, unless there is a configuration.
    """
    if config is not None:
        check_writable(config)
    first = first_port or (FIRST_PORT if config else 0)
    ports = {name: first + number for number, name in enumerate(KINDS, 1)} if first else {}
    control = control_port or first
    async with started(host=host, control_port=control, ports=ports, seed=seed, assets=assets) as sandbox:
        tell(safe(f"{'control':20}{sandbox.control_url}"))
        for name, standin in sandbox.standins.items():
            tell(safe(f"{name:20}{standin.url}"))
        if config is not None:
            write_config(config, sandbox)
            tell(safe(f"{config} leads to them: assetwatch serve --config {shlex.quote(str(config))}"))
        await live(sandbox, seed=seed, speed=speed)


@asynccontextmanager
async def started(
    *, host: str, control_port: int, seed: int, assets: int, ports: Mapping[str, int] | None = None
) -> AsyncIterator[Sandbox]:
    """Run stand-ins with assets in them. Raises: ConfigError when they cannot listen, naming the option to change."""
    sandbox = Sandbox()
    sandbox.seed(seed, assets)
    try:
        await sandbox.start(host=host, control_port=control_port, ports=ports)
    except OSError as error:
        option = "--first-port" if ports else "--control-port"
        why = os.strerror(error.errno).lower() if error.errno else error
        where = f"{host}, port {control_port}" + (f" or one of the {len(ports)} after it" if ports else "")
        raise ConfigError(f"cannot listen on {where}: {why}; give another with {option}, or --host") from error
    try:
        yield sandbox
    finally:
        await sandbox.stop()


async def live(sandbox: Sandbox, *, seed: int, speed: float) -> None:
    """Let the assets live until cancelled; speed 0: let time pass."""
    if speed > 0:
        await sandbox.live(seed=seed, speed=speed)
    await asyncio.Event().wait()


def sources_of(standins: Mapping[str, AnyStandin]) -> dict[str, dict[str, object]]:
    """Return the settings of sources that lead to stand-ins, under their names and with their credentials."""
    return {
        name: {"kind": standin.kind, "base_url": standin.url, **_of_kind(standin)} for name, standin in standins.items()
    }


def _of_kind(standin: AnyStandin) -> dict[str, object]:
    known = standin.credentials
    ids = standin.asset_ids()
    match standin.kind:
        case "usd_search":
            return {"pins": ids[:USD_SEARCH_PINS]}
        case "omn":
            return {"auth": {"kind": "bearer", "token": known["token"]}}
        case "media_intelligence":
            projects = dict.fromkeys(asset_id.rpartition("/")[0] for asset_id in ids)
            return {"access_key": known["access_key"], "secret_key": known["secret_key"], "projects": list(projects)}
        case "oracle_sbc":
            login = {name: known[name] for name in ("username", "password", "version")}
            return {**login, "pins": ids}
    return {}


def check_writable(path: Path) -> None:
    """Raise ConfigError for a file that must not, or cannot, be written."""
    try:
        if path.exists() and not path.read_text(errors="replace").startswith(MARK):
            raise ConfigError(
                f"--write-config: {path} is there, and is not of this command; remove it, or name another"
            )
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise ConfigError(f"--write-config: {path.parent} is no folder that can be written to")
    except OSError as error:
        raise ConfigError(f"--write-config: {path}: {error.strerror}") from error


def write_config(path: Path, sandbox: Sandbox) -> None:
    """Write, for its owner alone, the configuration of a server over the stand-ins; whole, or not at all."""
    # Beside the file, and then in its place: nobody reads half of it, and its mode is 0600 from the beginning.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:  # mode 0600
        try:
            file.write(_config(path, sandbox))
            file.close()
            Path(file.name).replace(path)
        except OSError as error:
            Path(file.name).unlink(missing_ok=True)
            raise ConfigError(f"--write-config: cannot write {path}: {error.strerror}") from error


def _config(path: Path, sandbox: Sandbox) -> str:
    import yaml  # noqa: PLC0415 - the demo does not pay for it

    name = shlex.quote(str(path))
    settings = {
        "server": {"listen": DEFAULT_SERVER},
        "store": {"kind": "memory"},
        "sources": sources_of(sandbox.standins),
    }
    return f"""{MARK}: a source for each stand-in, with its made-up credentials.
# In two terminals, the stand-ins on the same ports as before, and a server over them:
#   assetwatch sandbox --write-config {name}
#   assetwatch serve --config {name}
# The stand-ins are scripted at {sandbox.control_url}. To make it your own, put your upstreams in the place of
# theirs one by one, and let statuses outlive the server: store: {{kind: sqlite, path: assetwatch.sqlite}}
{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)}"""
