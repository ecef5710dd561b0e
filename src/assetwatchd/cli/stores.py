"""The commands about what statuses are kept in, while nothing serves from it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer looks at it
from typing import Annotated

import typer

from assetwatchd.cli.configuration import settings_from
from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.cli.options import Group, SecretsDir
from assetwatchd.cli.terminal import complain, safe, tell
from assetwatchd.model.texts import counted

app = typer.Typer(cls=Group, help="Move what statuses are kept in.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def common() -> None:
    """Move what statuses are kept in."""


@app.command()
def copy(
    old: Annotated[Path, typer.Argument(metavar="FROM", help="Configuration whose store is copied.")],
    new: Annotated[Path, typer.Argument(metavar="TO", help="Configuration whose empty store it becomes.")],
    secrets_dir: SecretsDir = None,
) -> None:
    """Copy a whole store into another one, such as SQLite's into etcd; watches go on from where they were.

    Nothing may serve from either of them meanwhile. The old one stays as it is; serve from one of them alone.
    """
    import asyncio  # noqa: PLC0415 - help does not pay for it

    from assetwatchd.app import copy_store  # noqa: PLC0415 - same
    from assetwatchd.model.errors import StoreError  # noqa: PLC0415 - same

    (old_settings, old_warnings), (new_settings, new_warnings) = (
        settings_from(config, secrets_dir) for config in (old, new)
    )
    for warning in [*old_warnings, *new_warnings]:
        complain(f"warning: {warning}")
    try:
        content = asyncio.run(copy_store(old_settings.store, new_settings.store))
    except StoreError as error:
        fail(ExitCode.NOT_MET, str(error))
    tell(safe(f"copied all of {counted(len(content.entries), 'asset')}, up to revision {content.head}; watches go on"))
