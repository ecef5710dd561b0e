"""The command watch: follow assets and sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from assetwatchd.cli.completion import sources_like
from assetwatchd.cli.options import Format, Prefix, States, ViewName, Views, takes_target
from assetwatchd.cli.target import Target  # noqa: TC001 - takes_target looks at what a command takes

if TYPE_CHECKING:
    from collections.abc import Iterable


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("watch")(watch)


@takes_target
def watch(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE[/ASSET]",
            autocompletion=sources_like,
            help="Whole sources and single assets; none: all sources.",
        ),
    ] = None,
    *,
    source: Annotated[
        list[str] | None, typer.Option("--source", autocompletion=sources_like, help="A whole source; repeatable.")
    ] = None,
    asset: Annotated[
        list[str] | None, typer.Option("--asset", metavar="SOURCE=ASSET", help="A single asset; repeatable.")
    ] = None,
    state: States = None,
    prefix: Prefix = "",
    view: Views = ViewName.FULL,
    resume_token: Annotated[
        str, typer.Option("--resume-token", help="Go on after the message that held it; the rest of the call as then.")
    ] = "",
    output: Annotated[
        Format | None,
        typer.Option("--output", "-o", help="Default: a live table on a terminal, else ndjson, an object a message."),
    ] = None,
    target: Target,
) -> None:
    """Print statuses, then every change, until interrupted; with -o table, piped, a change is a line."""
    from assetwatchd.cli import actions  # noqa: PLC0415 - help does not pay for it

    whole, single = wanted(what or [], source or [], asset or [])
    actions.watch(
        target,
        whole=whole,
        single=single,
        states=state or [],
        prefix=prefix,
        view=view,
        resume_token=resume_token,
        output=output,
    )


def wanted(
    what: Iterable[str], sources: Iterable[str], assets: Iterable[str]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Sort what was asked for into whole sources and single assets. Raises: typer.BadParameter."""
    whole = [*(text for text in what if "/" not in text), *sources]
    single = [_pair(text, "/") for text in what if "/" in text] + [_pair(text, "=") for text in assets]
    return list(dict.fromkeys(whole)), list(dict.fromkeys(single))


def _pair(text: str, separator: str) -> tuple[str, str]:
    source, _, asset_id = text.partition(separator)
    if not source or not asset_id:
        raise typer.BadParameter(f"an asset is SOURCE{separator}ASSET, e.g. dam{separator}tid:T-1")
    return source, asset_id
