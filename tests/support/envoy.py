"""A real Envoy in front of a server, configured as deploy/envoy.yaml is."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from support.ports import free_port
from support.rig import Rig, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONFIGURATION = Path(__file__).parents[2] / "deploy/envoy.yaml"
ENVOY = Path(sys.executable).with_name("envoy")
PATIENCE_S = 30


def configured(server: str, port: int, **manager: object) -> Any:
    """Return the configuration as it is deployed, but for its addresses and some settings of the connection manager."""
    told = yaml.safe_load(CONFIGURATION.read_text())
    (listener,), (cluster,) = told["static_resources"]["listeners"], told["static_resources"]["clusters"]
    listener["address"]["socket_address"]["port_value"] = port
    listener["filter_chains"][0]["filters"][0]["typed_config"] |= manager
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["address"]["socket_address"]["port_value"] = int(server.rpartition(":")[2])
    return told


@asynccontextmanager
async def proxied(
    tmp_path: Path, kinds: tuple[str, ...] = ("omn",), **manager: object
) -> AsyncIterator[tuple[Rig, str]]:
    """Run a server with Envoy in front, and return the address of Envoy."""
    port, file = free_port(), tmp_path / "envoy.yaml"
    async with running(kinds) as rig:
        file.write_text(yaml.safe_dump(configured(rig.address, port, **manager)))
        options = ("--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error")
        envoy = await asyncio.create_subprocess_exec(ENVOY, "-c", file, *options)
        try:
            await _listens(port)
            yield rig, f"127.0.0.1:{port}"
        finally:
            envoy.kill()
            await envoy.wait()


async def _listens(port: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.1)
