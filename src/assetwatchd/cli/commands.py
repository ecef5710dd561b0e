"""The commands that make one call: get, list, wait, sources, retry, health, server."""

from __future__ import annotations

from typing import Annotated

import typer

from assetwatchd.cli.completion import sources_like
from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.cli.options import (
    AssetArgument,
    Format,
    Output,
    Prefix,
    SourceArgument,
    StateName,
    States,
    ViewName,
    Views,
    seconds,
    state_option,
    takes_target,
)
from assetwatchd.cli.target import Target  # noqa: TC001 - takes_target looks at what a command takes

WAIT_DEFAULT_S = 60.0
WAIT_MAX_S = 3600.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("get")(get)
    app.command("list")(list_)
    app.command("wait")(wait)
    app.command("sources")(sources)
    app.command("retry")(retry)
    app.command("health")(health)
    app.command("server")(server)


@takes_target
def get(
    source: SourceArgument,
    asset: AssetArgument,
    *,
    max_age: Annotated[
        float | None,
        typer.Option("--max-age", parser=seconds, metavar="TIME", help="How old it may be; 0: ask the upstream now."),
    ] = None,
    view: Views = ViewName.FULL,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """Print the status of one asset."""
    from assetwatchd.cli import actions  # noqa: PLC0415 - help does not pay for it

    actions.get(target, source=source, asset_id=asset, max_age_s=max_age, view=view, output=output)


@takes_target
def list_(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE", autocompletion=sources_like, help="Only these sources; none: all."),
    ] = None,
    *,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", autocompletion=sources_like, help="Only this source; repeatable."),
    ] = None,
    state: States = None,
    prefix: Prefix = "",
    view: Views = ViewName.FULL,
    page_size: Annotated[int, typer.Option("--page-size", min=1, max=1000, help="Assets a page.")] = 100,
    page_token: Annotated[str, typer.Option("--page-token", help="Go on where the page before ended.")] = "",
    all_pages: Annotated[bool, typer.Option("--all", help="Every page.")] = False,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """List what is known, in the order in which assets last changed."""
    from assetwatchd.cli import actions  # noqa: PLC0415 - help does not pay for it

    sources = list(dict.fromkeys([*(what or []), *(source or [])]))
    if single := next((name for name in sources if "/" in name), None):
        name, _, asset_id = single.partition("/")
        fail(ExitCode.USAGE, f"list takes whole sources: `assetwatch get {name} {asset_id}` prints one asset")
    actions.list_(
        target,
        sources=sources,
        states=state or [],
        prefix=prefix,
        view=view,
        page_size=page_size,
        page_token=page_token,
        output=output,
        all_pages=all_pages,
    )


@takes_target
def wait(
    source: SourceArgument,
    asset: AssetArgument,
    *,
    state: Annotated[list[StateName] | None, state_option("Wait for this in place of AVAILABLE")] = None,
    any_settled: Annotated[
        bool,
        typer.Option("--any-settled", "--settled", help="Wait until it is settled: FAILED and MISSING will do."),
    ] = False,
    keep_waiting: Annotated[
        bool,
        typer.Option("--keep-waiting", help="Go on when it is settled in another state, e.g. MISSING."),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            parser=seconds,
            metavar="TIME",
            help="How long in all, at most 1h, also for a server that comes up later.  [default: 60s, of one there]",
        ),
    ] = None,
    view: Views = ViewName.FULL,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """Wait until one asset is AVAILABLE: exit code 0 when it is, 5 when it settles otherwise, 1 when time runs out."""
    from assetwatchd.cli import actions  # noqa: PLC0415 - help does not pay for it

    if any_settled and (state or keep_waiting):
        fail(ExitCode.USAGE, "give --any-settled alone, or --state, with or without --keep-waiting")
    if timeout is not None and timeout > WAIT_MAX_S:
        fail(ExitCode.USAGE, "--timeout is at most 1h")
    wanted = [] if any_settled else state or [StateName.AVAILABLE]
    actions.wait(
        target,
        source=source,
        asset_id=asset,
        states=wanted,
        stop_when_settled=not keep_waiting,
        timeout_s=WAIT_DEFAULT_S if timeout is None else timeout,
        for_server=timeout is not None,
        view=view,
        output=output,
    )


@takes_target
def sources(
    name: Annotated[
        str | None, typer.Argument(metavar="SOURCE", autocompletion=sources_like, help="Only this one.")
    ] = None,
    *,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """Print the configured sources and how they are doing."""
    from assetwatchd.cli import actions  # noqa: PLC0415 - help does not pay for it

    actions.sources(target, name, output)


@takes_target
def retry(
    source: SourceArgument,
    *,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """Have a source tried at once that was mended: exit code 0 when it is healthy then, 1 when it is not."""
    from assetwatchd.cli import actions  # noqa: PLC0415 - help does not pay for it

    actions.retry(target, source, output)


@takes_target
def health(
    name: Annotated[
        str,
        typer.Argument(metavar="SOURCE", autocompletion=sources_like, help="One source; else the server as a whole."),
    ] = "",
    *,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """Ask whether the server, or one source, is serving: exit code 0 when it is, 1 when it is not."""
    from assetwatchd.cli import actions  # noqa: PLC0415 - help does not pay for it

    actions.health(target, name, output)


@takes_target
def server(
    *,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """Print which server answers: version, replica, revisions; with -o json also what it takes."""
    from assetwatchd.cli import actions  # noqa: PLC0415 - help does not pay for it

    actions.server(target, output)
