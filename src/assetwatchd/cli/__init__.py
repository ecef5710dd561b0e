"""The command `assetwatch`: parses arguments; a command is one call into the client, the server or the sandbox.

What a command needs is imported when it runs, so that help and completion answer at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from assetwatchd.cli import commands, configuration, doctor, serving, stores, watch
from assetwatchd.cli.exit_codes import EPILOG
from assetwatchd.cli.options import Group
from assetwatchd.cli.pieces import commands as pieces
from assetwatchd.cli.terminal import open_what_is_closed, safe, tell
from assetwatchd.runtime.gc_tuning import collect_seldom

app = typer.Typer(
    name="assetwatch",
    cls=Group,
    help="The state of assets in five upstream systems, and when it changes.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
serving.register(app)
commands.register(app)
doctor.register(app)
watch.register(app)
app.add_typer(pieces.app, name="pieces")
app.add_typer(configuration.app, name="config")
app.add_typer(stores.app, name="store")


def _version(wanted: bool) -> None:  # noqa: FBT001 - called by typer
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - only this option pays for it

        tell(safe(version("assetwatch")))
        raise typer.Exit


@app.callback()
def common(
    *,
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The state of assets in five upstream systems, and when it changes."""


def main() -> None:
    """Run the command line."""
    collect_seldom()
    open_what_is_closed()
    app(prog_name="assetwatch")
