"""The options of the commands; each is one call into asking, seeds or stream, imported when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from assetwatchd.cli.completion import pieces_like
from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.cli.options import Format, Group, Output, takes_target
from assetwatchd.cli.target import Target  # noqa: TC001 - takes_target looks at what a command takes

app = typer.Typer(
    cls=Group,
    help="Read and write the assets of a Pieces OS through the server.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        autocompletion=pieces_like,
        help="A source of kind pieces; may be left out where there is one alone.",
    ),
]
Asset = Annotated[str, typer.Argument(metavar="ASSET", help="The asset's id.")]
Raw = Annotated[bool, typer.Option("--raw", help="With raw content.")]
Pseudo = Annotated[bool, typer.Option("--pseudo", help="With assets the user did not save explicitly.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="The content; - is standard input.")]
Name = Annotated[str | None, typer.Option("--name", help="The asset's name; else that of the file.")]
Ext = Annotated[str | None, typer.Option("--ext", metavar="EXT", help="What it holds, e.g. py; else as the file.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; repeatable.")]
AsSeed = Annotated[bool, typer.Option("--seed", help="FILE is a whole seed: JSON, as `draft` prints it.")]


@app.command("ls")
@takes_target
def ls(
    *,
    ids: Annotated[bool, typer.Option("--ids", help="Only ids.")] = False,
    only_pseudo: Annotated[
        bool, typer.Option("--only-pseudo", help="Only the ids of assets the user did not save explicitly.")
    ] = False,
    pseudo: Pseudo = False,
    suggested: Annotated[bool, typer.Option("--suggested", help="What is suggested to the user.")] = False,
    raw: Raw = False,
    source: Source = None,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """List the assets."""
    from assetwatchd.cli.pieces import actions  # noqa: PLC0415 - help does not pay for it

    if (ids and (suggested or raw)) or (only_pseudo and (ids or pseudo or suggested or raw)):
        fail(ExitCode.USAGE, "--ids goes with --pseudo alone, --only-pseudo with neither of the others")
    context = actions.CallContext(target, source, output)
    if ids or only_pseudo:
        actions.ids(context, pseudo=pseudo, only_pseudo=only_pseudo)
    else:
        actions.ls(context, raw=raw, suggested=suggested, pseudo=pseudo)


@app.command("get")
@takes_target
def get(
    asset: Asset,
    *,
    content: Annotated[bool, typer.Option("--content", help="Write the content itself, byte for byte.")] = False,
    raw: Raw = False,
    source: Source = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="[table|json|ndjson|yaml|FILE]",
            help="How to print, else table; with --content the file to write, else - for standard output.",
        ),
    ] = None,
    target: Target,
) -> None:
    """Print one asset, or write its content to a file or standard output."""
    from assetwatchd.cli.pieces import actions, files  # noqa: PLC0415 - help does not pay for it

    formats = {each.value for each in Format}
    if content == (output in formats) and output is not None:
        named = "is how to print: leave out --content, or write ./" + output if content else "needs --content"
        fail(ExitCode.USAGE, f"-o {output} {named}")
    printed = Format.TABLE if content or output is None else Format(output)
    context = actions.CallContext(target, source, printed)
    if content:
        files.save(context, asset, output or files.STANDARD)
    else:
        actions.get(context, asset, raw=raw)


@app.command("formats")
@takes_target
def formats(
    asset: Asset,
    *,
    raw: Raw = False,
    source: Source = None,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """List the formats of one asset."""
    from assetwatchd.cli.pieces import actions  # noqa: PLC0415 - help does not pay for it

    actions.formats(actions.CallContext(target, source, output), asset, raw=raw)


@app.command("search")
@takes_target
def search(
    query: Annotated[str | None, typer.Argument(metavar="[QUERY]", help="Text to find.")] = None,
    *,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Or assets with this tag; repeatable.")] = None,
    filters: Annotated[
        str | None,
        typer.Option("--filters", metavar="FILE", help="AssetsSearchWithFiltersInput as JSON; - is standard input."),
    ] = None,
    pseudo: Pseudo = False,
    raw: Raw = False,
    source: Source = None,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """Find assets by text, tags or filters."""
    from assetwatchd.cli.pieces import actions, files  # noqa: PLC0415 - help does not pay for it

    context = actions.CallContext(target, source, output)
    if filters is None:
        actions.search(context, query, tag or [], raw=raw, pseudo=pseudo)
    elif tag:
        fail(ExitCode.USAGE, "--tag does not go with --filters, which has tags of its own")
    else:
        actions.search_with_filters(context, files.filters(filters, query), raw=raw, pseudo=pseudo)


@app.command("related")
@takes_target
def related(
    asset: Annotated[list[str], typer.Argument(metavar="ASSET...", help="Ids of the assets to be like.")],
    *,
    source: Source = None,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """List the assets most like some."""
    from assetwatchd.cli.pieces import actions  # noqa: PLC0415 - help does not pay for it

    actions.related(actions.CallContext(target, source, output), asset)


@app.command("recommend")
@takes_target
def recommend(
    asset: Annotated[
        list[str] | None, typer.Argument(metavar="[ASSET]...", help="Ids of the assets the user has in view.")
    ] = None,
    *,
    touched: Annotated[
        list[str] | None, typer.Option("--touched", metavar="ASSET", help="The user touched it; repeatable.")
    ] = None,
    scrolled: Annotated[
        list[str] | None, typer.Option("--scrolled", metavar="ASSET", help="The user scrolled it; repeatable.")
    ] = None,
    source: Source = None,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """List the assets the user may want next."""
    from assetwatchd.cli.pieces import actions  # noqa: PLC0415 - help does not pay for it

    context = actions.CallContext(target, source, output)
    actions.recommend(context, asset or [], touched=touched or [], scrolled=scrolled or [])


@app.command("stream")
@takes_target
def stream(
    *,
    ids: Annotated[bool, typer.Option("--ids", help="Only ids.")] = False,
    raw: Raw = False,
    source: Source = None,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="An object a message; table: a line a change.")
    ] = Format.NDJSON,
    target: Target,
) -> None:
    """Print all assets, then every change, until interrupted; after a break all of them again."""
    from assetwatchd.cli.pieces import actions  # noqa: PLC0415 - help does not pay for it
    from assetwatchd.cli.pieces import stream as following  # noqa: PLC0415 - same

    if ids and raw:
        fail(ExitCode.USAGE, "give either --ids or --raw")
    context = actions.CallContext(target, source, output)
    following.follow(context, ids=ids, raw=raw)


@app.command("create")
@takes_target
def create(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]", help="The content; - is standard input. Without: a seed from there, as draft prints it."
        ),
    ] = None,
    *,
    name: Name = None,
    ext: Ext = None,
    tag: Tags = None,
    seed: AsSeed = False,
    raw: Raw = False,
    source: Source = None,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """Make an asset of a file, of standard input or of a draft: of text a fragment, of other bytes a file."""
    from assetwatchd.cli.pieces import actions, files  # noqa: PLC0415 - help does not pay for it

    context = actions.CallContext(target, source, output)
    whole = seed or file is None
    made_of = files.seed(file or files.piped_seed(), name=name, ext=ext, tags=tag or [], whole=whole)
    actions.create(context, made_of, raw=raw)


@app.command("draft")
@takes_target
def draft(
    file: File,
    *,
    name: Name = None,
    ext: Ext = None,
    tag: Tags = None,
    seed: AsSeed = False,
    raw: Annotated[bool, typer.Option("--raw", hidden=True, help="Whatever is no table has the content.")] = False,
    source: Source = None,
    output: Annotated[
        Format | None, typer.Option("--output", "-o", help="Default: a table on a terminal, else json, for create.")
    ] = None,
    target: Target,
) -> None:
    """Say what could be made of a file or standard input, and make nothing; piped, print a seed for create."""
    from assetwatchd.cli.pieces import actions, files  # noqa: PLC0415 - help does not pay for it

    piped = Format.JSON if raw or not sys.stdout.isatty() else Format.TABLE
    context = actions.CallContext(target, source, output or piped)
    actions.draft(context, files.seed(file, name=name, ext=ext, tags=tag or [], whole=seed))


@app.command("rm")
@takes_target
def rm(
    asset: Annotated[list[str], typer.Argument(metavar="ASSET...", help="Ids of the assets.")],
    *,
    source: Source = None,
    output: Output = Format.TABLE,
    target: Target,
) -> None:
    """Delete assets, one after the other; the first that cannot be deleted ends it."""
    from assetwatchd.cli.pieces import actions  # noqa: PLC0415 - help does not pay for it

    actions.rm(actions.CallContext(target, source, output), asset)
