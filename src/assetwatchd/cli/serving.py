"""The commands that run until they are stopped: serve, sandbox, demo."""

from __future__ import annotations

from typing import Annotated

import typer

from assetwatchd.cli.configuration import usable_settings
from assetwatchd.cli.options import ADDRESS, Assets, Config, ControlPort, SecretsDir, Seed, Speed, address
from assetwatchd.cli.terminal import safe, tell


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (serve, sandbox, demo):
        app.command()(command)


def serve(
    *,
    config: Config = None,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar=ADDRESS, parser=address, help="Overrides server.listen.")
    ] = None,
    secrets_dir: SecretsDir = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then let the calls under way end."""
    from assetwatchd.app import Begun  # noqa: PLC0415 - help does not pay for it
    from assetwatchd.app import serve as serve_forever  # noqa: PLC0415 - same
    from assetwatchd.cli.running import until_stopped  # noqa: PLC0415 - same

    settings, warnings = usable_settings(config, secrets_dir, server__listen=listen)
    begun = Begun(f"{config}" if config else "variables", warnings)
    until_stopped(serve_forever(settings, on_ready=announce, whole=True, begun=begun))


def sandbox(
    *,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    control_port: ControlPort = 0,
    seed: Seed = 1,
    speed: Speed = 1.0,
    assets: Assets = 20,
) -> None:
    """Run stand-ins of the five upstreams, whose assets live, and an endpoint to script them."""
    from assetwatchd.cli.demo import run_sandbox  # noqa: PLC0415 - help does not pay for it
    from assetwatchd.cli.running import until_stopped  # noqa: PLC0415 - same

    until_stopped(run_sandbox(host=host, control_port=control_port, seed=seed, speed=speed, assets=assets))


def demo(
    *,
    grpc: Annotated[
        str, typer.Option("--grpc", metavar=ADDRESS, parser=address, help="Where to serve.")
    ] = "127.0.0.1:50051",
    table: Annotated[
        bool, typer.Option("--table/--no-table", help="Show what changes; else one line when serving.")
    ] = True,
    control_port: ControlPort = 0,
    seed: Seed = 1,
    speed: Speed = 1.0,
    assets: Assets = 20,
) -> None:
    """Run the sandbox and a server over it in one process, and watch it."""
    from assetwatchd.cli.demo import run_demo  # noqa: PLC0415 - help does not pay for it
    from assetwatchd.cli.running import until_stopped  # noqa: PLC0415 - same

    until_stopped(run_demo(listen=grpc, table=table, control_port=control_port, seed=seed, speed=speed, assets=assets))


def announce(listening: str) -> None:
    """Print the one line that says that calls are answered now."""
    tell(safe(f"assetwatch is ready on {listening}"))
