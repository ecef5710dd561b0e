"""The commands that run until they are stopped: serve, sandbox, demo."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path  # noqa: TC003 - typer looks at it
from typing import Annotated

import typer

from assetwatchd.cli.configuration import usable_settings
from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.cli.options import ADDRESS, Assets, Config, ControlPort, SecretsDir, Seed, Speed, address
from assetwatchd.cli.terminal import ReaderGone, safe, tell

REPLICAS_MAX = 5
"""Each takes 100 MB and half a second of a processor to start."""


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
    serving = serve_forever(settings, on_ready=announce, whole=True, begun=begun)
    until_stopped(serving, listen="--listen" if listen else "")


def sandbox(
    *,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    control_port: ControlPort = 0,
    first_port: Annotated[
        int,
        typer.Option(
            "--first-port",
            min=0,
            max=65_530,
            help="The stand-ins and the endpoint are here and on the five ports after it; 0: on free ones.",
        ),
    ] = 0,
    write_config: Annotated[
        Path | None,
        typer.Option(
            "--write-config",
            metavar="FILE",
            help="Write a configuration for `assetwatch serve`, with fixed ports, from 50061 on unless told otherwise.",
        ),
    ] = None,
    seed: Seed = 1,
    speed: Speed = 1.0,
    assets: Assets = 20,
) -> None:
    """Run stand-ins of the five upstreams, whose assets live, and an endpoint to script them."""
    from assetwatchd.cli.running import until_stopped  # noqa: PLC0415 - same
    from assetwatchd.cli.sandboxed import run_sandbox  # noqa: PLC0415 - help does not pay for it

    running = run_sandbox(
        host=host,
        control_port=control_port,
        first_port=first_port,
        seed=seed,
        speed=speed,
        assets=assets,
        config=write_config,
    )
    until_stopped(running, read=True)


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
    replicas: Annotated[
        int,
        typer.Option(
            "--replicas",
            min=1,
            max=REPLICAS_MAX,
            help="More than one: as many servers over an etcd, at --grpc and the ports after it, to be killed.",
        ),
    ] = 1,
) -> None:
    """Run the sandbox and a server over it in one process, and watch it."""
    if replicas > 1:
        _replicated(
            replicas, listen=grpc, table=table, control_port=control_port, seed=seed, speed=speed, assets=assets
        )
        return
    from assetwatchd.cli.demo import run_demo  # noqa: PLC0415 - help does not pay for it
    from assetwatchd.cli.running import until_stopped  # noqa: PLC0415 - same

    running = run_demo(listen=grpc, table=table, control_port=control_port, seed=seed, speed=speed, assets=assets)
    until_stopped(running, read=True, listen="--grpc")


def _replicated(
    replicas: int, *, listen: str, table: bool, control_port: int, seed: int, speed: float, assets: int
) -> None:
    from assetwatch_sandbox.etcd import NoEtcd, find  # noqa: PLC0415 - help does not pay for it
    from assetwatchd.cli.replicated import run_replicated  # noqa: PLC0415 - same
    from assetwatchd.cli.running import until_stopped  # noqa: PLC0415 - same

    try:
        etcd = find()  # before there is anything to end: building it takes a minute or two
    except NoEtcd as error:
        fail(ExitCode.NOT_MET, f"could not start: {error}")
    running = run_replicated(
        etcd, replicas, listen=listen, table=table, control_port=control_port, seed=seed, speed=speed, assets=assets
    )
    until_stopped(running, read=True, listen="--grpc")


def announce(listening: str) -> None:
    """Print the one line that says that calls are answered now; nobody need read it."""
    with suppress(ReaderGone):
        tell(safe(f"assetwatch is ready on {listening}"))
