"""The commands about the configuration, and the settings for those that need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.cli.options import Config, Format, Group, Output, SecretsDir
from assetwatchd.cli.terminal import Safe, as_json, as_yaml, counted, safe, tell

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from assetwatchd.config import Settings
    from assetwatchd.errors import ConfigError

app = typer.Typer(
    cls=Group, help="Check, show and describe the configuration.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def check(config: Config = None, secrets_dir: SecretsDir = None) -> None:
    """Say whether the configuration can be used; every problem on a line of its own. Asks no upstream."""
    from assetwatchd.app import check as check_whole  # noqa: PLC0415 - help does not pay for it
    from assetwatchd.errors import ConfigError  # noqa: PLC0415 - help does not pay for it

    settings = settings_from(config, secrets_dir)
    try:
        check_whole(settings)
    except ConfigError as error:
        _refuse(error)
    names = ", ".join(f"{name} ({source.kind})" for name, source in sorted(settings.sources.items()))
    tell(safe(f"ok: {counted(len(settings.sources), 'source')}{f': {names}' if names else ''}"))


@app.command()
def show(config: Config = None, secrets_dir: SecretsDir = None, output: Output = Format.YAML) -> None:
    """Print the configuration as it is in effect, defaults included, secrets masked."""
    from assetwatchd.config_load import plain  # noqa: PLC0415 - help does not pay for it

    settings = settings_from(config, secrets_dir)
    tell(_written(plain(settings), Format.YAML if output is Format.TABLE else output))


@app.command()
def schema(output: Annotated[Format, typer.Option("--output", "-o", help="How to print.")] = Format.JSON) -> None:
    """Print the JSON schema of the configuration file, for editors and other tools."""
    from assetwatchd.config_load import schema  # noqa: PLC0415 - help does not pay for it

    tell(_written(schema(), output))


def settings_from(config: Path | None, secrets_dir: Path | None, **overrides: object) -> Settings:
    """Load the settings; a configuration that cannot be used ends the command."""
    from assetwatchd.config_load import load  # noqa: PLC0415 - help does not pay for it
    from assetwatchd.errors import ConfigError  # noqa: PLC0415 - help does not pay for it

    try:
        return load(config, overrides=_dotted(overrides), secrets_dir=secrets_dir)
    except ConfigError as error:
        _refuse(error)


def _refuse(error: ConfigError) -> NoReturn:
    fail(ExitCode.USAGE, "the configuration cannot be used", *str(error).splitlines())


def _dotted(overrides: Mapping[str, object]) -> dict[str, object]:
    return {name.replace("__", "."): value for name, value in overrides.items()}


def _written(data: Any, output: Format) -> Safe:
    return as_yaml(data) if output is Format.YAML else as_json(data, indent=None if output is Format.NDJSON else 2)
