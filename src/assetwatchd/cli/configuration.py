"""The commands about the configuration, and the settings for those that need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.cli.options import Config, Format, Group, Output, SecretsDir
from assetwatchd.cli.terminal import Safe, as_json, as_yaml, complain, safe, tell
from assetwatchd.model.texts import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from assetwatchd.settings.schema import Settings

NO_CONFIGURATION = (
    "there is none: name a file with --config or ASSETWATCH_CONFIG, or give variables ASSETWATCH__SOURCES__...",
    "to look around without one, run `assetwatch demo`",
)

app = typer.Typer(
    cls=Group, help="Check, show and describe the configuration.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def check(config: Config = None, secrets_dir: SecretsDir = None) -> None:
    """Say whether the configuration can be used; every problem on a line of its own. Asks no upstream."""
    from assetwatchd import app as whole  # noqa: PLC0415 - help does not pay for it

    settings, warnings = usable_settings(config, secrets_dir)
    _warn([*warnings, *whole.warnings(settings)])  # as `serve` says them itself
    names = ", ".join(f"{name} ({source.kind})" for name, source in sorted(settings.sources.items()))
    tell(safe(f"ok: {counted(len(settings.sources), 'source')}{f': {names}' if names else ''}"))


@app.command()
def show(config: Config = None, secrets_dir: SecretsDir = None, output: Output = Format.YAML) -> None:
    """Print the configuration as it is in effect, defaults included, secrets masked."""
    from assetwatchd.settings.load import plain  # noqa: PLC0415 - help does not pay for it

    settings, warnings = settings_from(config, secrets_dir)
    _warn(warnings)
    tell(_written(plain(settings), Format.YAML if output is Format.TABLE else output))


@app.command()
def schema(output: Annotated[Format, typer.Option("--output", "-o", help="How to print.")] = Format.JSON) -> None:
    """Print the JSON schema of the configuration file, for editors and other tools."""
    from assetwatchd.settings.load import schema  # noqa: PLC0415 - help does not pay for it

    tell(_written(schema(), output))


def usable_settings(config: Path | None, secrets_dir: Path | None, **overrides: object) -> tuple[Settings, list[str]]:
    """Load settings that a server can start with, and warnings; others end the command with every problem.

    What `config check` lets through this way is what `serve` starts with.
    """
    from assetwatchd.app import problems  # noqa: PLC0415 - help does not pay for it

    settings, warnings = settings_from(config, secrets_dir, also=problems, **overrides)
    if config is None and not settings.sources:
        _refuse(warnings, *NO_CONFIGURATION)
    if not settings.sources:
        warnings.append(f"no source is configured in {config}: there is nothing to tell of")
    return settings, warnings


def settings_from(
    config: Path | None,
    secrets_dir: Path | None,
    also: Callable[[Settings], Iterable[str]] = lambda _settings: (),
    **overrides: object,
) -> tuple[Settings, list[str]]:
    """Load the settings, and what was left out of them; a configuration that cannot be used ends the command."""
    from assetwatchd.model.errors import ConfigError  # noqa: PLC0415 - help does not pay for it
    from assetwatchd.settings.load import load  # noqa: PLC0415 - help does not pay for it

    warnings: list[str] = []
    try:
        given = _dotted(overrides)
        return load(config, overrides=given, secrets_dir=secrets_dir, also=also, warn=warnings.append), warnings
    except ConfigError as error:
        _refuse(warnings, *str(error).splitlines())


def _warn(warnings: Iterable[str]) -> None:
    for text in warnings:
        complain(f"warning: {text}")


def _refuse(warnings: Iterable[str], *problems: str) -> NoReturn:
    lines = (*problems, *(f"warning: {text}" for text in warnings))
    fail(ExitCode.USAGE, "the configuration cannot be used", *lines)


def _dotted(overrides: Mapping[str, object]) -> dict[str, object]:
    return {name.replace("__", "."): value for name, value in overrides.items()}


def _written(data: object, output: Format) -> Safe:
    return as_yaml(data) if output is Format.YAML else as_json(data, indent=None if output is Format.NDJSON else 2)
