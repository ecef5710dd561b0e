"""Files from and to disk or standard streams: content into seeds, and content out of assets."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import NAMESPACE_URL, uuid5

from assetwatch.pieces.v1 import asset_pb2, search_pb2, seed_pb2
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import Message

from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.cli.pieces.actions import asset_of, formats_of, run
from assetwatchd.cli.terminal import write_raw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from assetwatchd.cli.pieces.actions import CallContext, Session

M = TypeVar("M", bound=Message)

STANDARD = "-"
PLATFORMS = {"linux": "LINUX", "darwin": "MACOS", "win32": "WINDOWS"}
APPLICATION_ID = str(uuid5(NAMESPACE_URL, "assetwatch"))
"""The program that makes the assets, the same everywhere. That any id will do is [assumed]."""


def read(name: str) -> bytes:
    """Return the bytes of a file, or of standard input; a file that cannot be read ends the command."""
    try:
        return sys.stdin.buffer.read() if name == STANDARD else Path(name).read_bytes()
    except OSError as error:
        fail(ExitCode.USAGE, f"{name} cannot be read: {error.strerror or error}")


def seed(file: str, *, name: str | None, ext: str | None, tags: Sequence[str], whole: bool) -> seed_pb2.Seed:
    """Make a seed of a file; whole: the file is one already. Text becomes a fragment, other bytes a file."""
    if whole:
        if name or ext or tags:
            fail(ExitCode.USAGE, "a seed goes without --name, --ext and --tag: they are in it")
        return _parsed(seed_pb2.Seed(), file)
    content = _content(read(file))
    path = Path("" if file == STANDARD else file)
    if ext or path.suffix[1:]:
        content.metadata.ext = ext or path.suffix[1:]
    metadata = seed_pb2.SeededAssetMetadata(
        name=name or path.name or None, mechanism="MANUAL", tags=[seed_pb2.SeededAssetTag(text=tag) for tag in tags]
    )
    text = content.HasField("string")
    seeded = seed_pb2.SeededAsset(
        application=_application(),
        format=seed_pb2.SeededFormat(fragment=content if text else None, file=None if text else content),
        metadata=metadata,
    )
    return seed_pb2.Seed(type="SEEDED_ASSET", asset=seeded)


def _content(raw: bytes) -> asset_pb2.Content:
    try:
        return asset_pb2.Content(string=asset_pb2.TransferableString(raw=raw.decode()))
    except UnicodeDecodeError:
        return asset_pb2.Content(bytes=asset_pb2.TransferableBytes(raw=raw))


def _application() -> asset_pb2.Application:
    return asset_pb2.Application(
        id=APPLICATION_ID,
        name="OPEN_SOURCE",
        version=version("assetwatch"),
        platform=PLATFORMS.get(sys.platform, "UNKNOWN"),
        onboarded=False,
        privacy="OPEN",
    )


def filters(file: str, query: str | None) -> search_pb2.AssetsSearchWithFiltersInput:
    """Read what to search for; a query that is given is the one that holds."""
    wanted = _parsed(search_pb2.AssetsSearchWithFiltersInput(), file)
    if query is not None:
        wanted.query = query
    return wanted


def _parsed(into: M, file: str) -> M:
    try:
        return Parse(read(file), into)
    except (ParseError, UnicodeDecodeError) as error:
        fail(ExitCode.USAGE, f"{file} is not the JSON of {into.DESCRIPTOR.full_name}: {error}")


def piped_seed() -> str:
    """Return the name of standard input when a seed can come from there; else the command ends."""
    if sys.stdin.isatty():
        fail(ExitCode.USAGE, "give a FILE, - for content from standard input, or pipe in what `draft` prints")
    return STANDARD


def save(context: CallContext, asset_id: str, file: str) -> None:
    """Write the content of an asset to a file or standard output."""

    async def call(at: Session) -> ExitCode | None:
        content = await _content_read(at, asset_id)
        if content is None:
            fail(ExitCode.NOT_MET, f"asset {asset_id} has no content")
        _write(content, file)
        return None

    run(context, call)


async def _content_read(at: Session, asset_id: str) -> bytes | None:
    """Read the content by the formats, which hold it once; an asset holds it again for the original, twice as large.

    Only where no format has it, the asset is asked for whole. Raises: AioRpcError.
    """
    asset = await asset_of(at, asset_id, raw=False)
    asset.formats.CopyFrom(await formats_of(at, asset_id, raw=True))
    content = content_of(asset)
    return content_of(await asset_of(at, asset_id, raw=True)) if content is None else content


def content_of(asset: asset_pb2.Asset) -> bytes | None:
    """Return the content of the format the asset began with, else of the first that has any; text in UTF-8."""
    original = [each for each in asset.formats.iterable if each.id == asset.original.id]
    candidates = _carried([*original, asset.original.reference, *asset.formats.iterable])
    return next(candidates, None)


def _carried(formats: Iterable[asset_pb2.Format]) -> Iterator[bytes]:
    for content in (content for each in formats for content in (each.file, each.fragment)):
        if content.string.HasField("raw"):
            yield content.string.raw.encode()
        elif content.bytes.HasField("raw"):
            yield content.bytes.raw


def _write(content: bytes, file: str) -> None:
    try:
        if file == STANDARD:
            write_raw(content)
        else:
            Path(file).write_bytes(content)
    except OSError as error:
        fail(ExitCode.USAGE, f"{file} cannot be written: {error.strerror or error}")
