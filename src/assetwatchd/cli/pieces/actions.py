"""The `pieces` commands: each makes a request, calls, and prints the answer. Loaded when one runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import grpc
from assetwatch.pieces.v1 import asset_pb2, search_pb2, seed_pb2
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pb
from assetwatch.pieces.v1.pieces_assets_service_pb2_grpc import PiecesAssetsServiceStub
from assetwatch.v1.server_service_pb2 import GetServerInfoRequest
from assetwatch.v1.source_pb2 import SourceKind
from assetwatch.v1.source_service_pb2 import ListSourcesRequest
from google.protobuf.message import Message

from assetwatch_client import reason_of
from assetwatchd.cli import client
from assetwatchd.cli.client import CALL_TIMEOUT_S
from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.cli.failures import too_large
from assetwatchd.cli.options import Format
from assetwatchd.cli.output import write
from assetwatchd.cli.pieces import tables
from assetwatchd.cli.terminal import complain, safe

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from assetwatch.pieces.v1.pieces_assets_service_pb2_grpc import PiecesAssetsServiceAsyncStub

    from assetwatchd.cli.client import Client
    from assetwatchd.cli.target import Target


M = TypeVar("M", bound=Message)

ALWAYS_TAKEN_BYTES = 64 * 1024
"""The least that the limit of a server can be."""
PERHAPS_MADE = {"SOURCE_UNREACHABLE", "CONTENT_TOO_LARGE"}
"""Reasons of a creation that failed, and yet may have happened."""


class CallContext(NamedTuple):
    """The server to call, the source (None: its only one of kind pieces), and the form to print in."""

    target: Target
    source: str | None
    output: Format


class Session(NamedTuple):
    """A connection while a command runs: the service, the source's name, and the services beside it."""

    stub: PiecesAssetsServiceAsyncStub
    source: str
    connected: Client

    async def fitting(self, request: M) -> M:
        """Return the request if the server takes one that large; else the command ends, and nothing was sent.

        Raises: AioRpcError.
        """
        size = request.ByteSize()
        if size > ALWAYS_TAKEN_BYTES:
            told = await self.connected.server.GetServerInfo(GetServerInfoRequest(), timeout=CALL_TIMEOUT_S)
            if size > (limit := told.server.limits.message_bytes_max):
                fail(ExitCode.REFUSED, too_large(size, limit))
        return request


def run(context: CallContext, command: Callable[[Session], Coroutine[object, object, ExitCode | None]]) -> None:
    """Run a command with a session, and exit with its code; None is OK."""

    async def whole(connected: Client) -> ExitCode:
        source = context.source or await _only_source(connected)
        session = Session(PiecesAssetsServiceStub(connected.channel), source, connected)
        return await command(session) or ExitCode.OK

    client.run(context.target, whole)


async def _only_source(connected: Client) -> str:
    listed = await connected.sources.ListSources(ListSourcesRequest(), timeout=CALL_TIMEOUT_S)
    names = [source.name for source in listed.sources if source.kind == SourceKind.SOURCE_KIND_PIECES]
    if len(names) > 1:
        fail(ExitCode.USAGE, f"there are several sources of kind pieces; name one with --source: {', '.join(names)}")
    if not names:
        fail(ExitCode.USAGE, "the server has no source of kind pieces; see `assetwatch sources`")
    return names[0]


def ls(context: CallContext, *, raw: bool, suggested: bool, pseudo: bool) -> None:
    """Print the assets."""

    async def call(at: Session) -> None:
        request = pb.ListAssetsRequest(
            source=at.source, transferables=raw, suggested=suggested or None, pseudo=pseudo or None
        )
        _write_assets((await at.stub.ListAssets(request, timeout=CALL_TIMEOUT_S)).assets, context)

    run(context, call)


def ids(context: CallContext, *, pseudo: bool, only_pseudo: bool) -> None:
    """Print the ids, of all assets or of those the user did not save explicitly."""

    async def call(at: Session) -> None:
        if only_pseudo:
            alone = await at.stub.ListPseudoAssets(pb.ListPseudoAssetsRequest(source=at.source), timeout=CALL_TIMEOUT_S)
            found = alone.assets.identifiers
        else:
            request = pb.ListAssetIdentifiersRequest(source=at.source, pseudo=pseudo or None)
            found = (await at.stub.ListAssetIdentifiers(request, timeout=CALL_TIMEOUT_S)).assets
        write(found, context.output, lambda: tables.ids(found.iterable), lines=found.iterable)

    run(context, call)


def get(context: CallContext, asset_id: str, *, raw: bool) -> None:
    """Print one asset."""

    async def call(at: Session) -> None:
        asset = await asset_of(at, asset_id, raw=raw)
        write(asset, context.output, lambda: tables.assets([asset]))

    run(context, call)


async def asset_of(at: Session, asset_id: str, *, raw: bool) -> asset_pb2.Asset:
    """Return one asset. Raises: AioRpcError."""
    request = pb.GetAssetRequest(source=at.source, asset_id=asset_id, transferables=raw)
    return (await at.stub.GetAsset(request, timeout=CALL_TIMEOUT_S)).asset


async def _assets_of(at: Session, asset_ids: Iterable[str]) -> asset_pb2.Assets:
    return asset_pb2.Assets(iterable=[await asset_of(at, each, raw=False) for each in asset_ids])


def formats(context: CallContext, asset_id: str, *, raw: bool) -> None:
    """Print the formats of an asset."""

    async def call(at: Session) -> None:
        found = await formats_of(at, asset_id, raw=raw)
        write(found, context.output, lambda: tables.formats(found.iterable), lines=found.iterable)

    run(context, call)


async def formats_of(at: Session, asset_id: str, *, raw: bool) -> asset_pb2.Formats:
    """Return the formats of one asset. Raises: AioRpcError."""
    request = pb.ListAssetFormatsRequest(source=at.source, asset_id=asset_id, transferables=raw)
    return (await at.stub.ListAssetFormats(request, timeout=CALL_TIMEOUT_S)).formats


def search(context: CallContext, query: str | None, tags: Sequence[str], *, raw: bool, pseudo: bool) -> None:
    """Print what is found by text or tags."""

    async def call(at: Session) -> None:
        request = pb.SearchAssetsRequest(
            source=at.source, query=query, searchable_tags=tags, transferables=raw, pseudo=pseudo or None
        )
        _write_found((await at.stub.SearchAssets(request, timeout=CALL_TIMEOUT_S)).results, context)

    run(context, call)


def search_with_filters(
    context: CallContext, wanted: search_pb2.AssetsSearchWithFiltersInput, *, raw: bool, pseudo: bool
) -> None:
    """Print what is found by filters."""

    async def call(at: Session) -> None:
        request = pb.SearchAssetsWithFiltersRequest(
            source=at.source, input=wanted, transferables=raw, pseudo=pseudo or None
        )
        answer = await at.stub.SearchAssetsWithFilters(await at.fitting(request), timeout=CALL_TIMEOUT_S)
        _write_found(answer.output.results, context)

    run(context, call)


def related(context: CallContext, asset_ids: Sequence[str]) -> None:
    """Print the assets most like some; those are read first, since the upstream wants them whole."""

    async def call(at: Session) -> None:
        request = pb.ListRelatedAssetsRequest(source=at.source, assets=await _assets_of(at, asset_ids))
        _write_assets(
            (await at.stub.ListRelatedAssets(await at.fitting(request), timeout=CALL_TIMEOUT_S)).assets, context
        )

    run(context, call)


def recommend(context: CallContext, in_view: Sequence[str], *, touched: Sequence[str], scrolled: Sequence[str]) -> None:
    """Print what the user may want next."""

    async def call(at: Session) -> None:
        seen = search_pb2.SeededAssetsRecommendation(
            assets=await _assets_of(at, in_view), interactions=interactions(touched, scrolled)
        )
        request = pb.RecommendAssetsRequest(source=at.source, recommendation=seen)
        _write_assets(
            (await at.stub.RecommendAssets(await at.fitting(request), timeout=CALL_TIMEOUT_S)).assets, context
        )

    run(context, call)


def interactions(touched: Sequence[str], scrolled: Sequence[str]) -> search_pb2.InteractedAssets:
    """Say what the user did, an asset once."""
    return search_pb2.InteractedAssets(
        iterable=[
            search_pb2.InteractedAsset(
                asset=asset_id,
                interactions=search_pb2.InteractedAssetInteractions(
                    touched=asset_id in touched or None, scrolled=asset_id in scrolled or None
                ),
            )
            for asset_id in dict.fromkeys([*touched, *scrolled])
        ]
    )


def create(context: CallContext, seed: seed_pb2.Seed, *, raw: bool) -> None:
    """Make an asset and print it."""

    async def call(at: Session) -> None:
        request = await at.fitting(pb.CreateAssetRequest(source=at.source, seed=seed, transferables=raw))
        try:
            answer = await at.stub.CreateAsset(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if reason_of(error) in PERHAPS_MADE or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                complain("the asset may have been made: look before trying again")
            raise
        write(answer, context.output, lambda: tables.assets([answer.asset]))

    run(context, call)


def draft(context: CallContext, seed: seed_pb2.Seed) -> None:
    """Print what could be made of a seed; unless as a table, with its content: so an asset can be made of it."""

    async def call(at: Session) -> None:
        whole = context.output is not Format.TABLE
        request = pb.DraftAssetRequest(source=at.source, seed=seed, transferables=whole)
        found = (await at.stub.DraftAsset(await at.fitting(request), timeout=CALL_TIMEOUT_S)).seed
        write(found, context.output, lambda: tables.drafts(found))

    run(context, call)


def rm(context: CallContext, asset_ids: Sequence[str]) -> None:
    """Delete assets; print each as soon as it is gone."""

    async def call(at: Session) -> None:
        for asset_id in asset_ids:
            request = pb.DeleteAssetRequest(source=at.source, asset_id=asset_id)
            answer = await at.stub.DeleteAsset(request, timeout=CALL_TIMEOUT_S)
            write(answer, context.output, lambda gone=answer: safe(gone.asset_id))  # type: ignore[misc]  # its default is its type

    run(context, call)


def _write_assets(found: asset_pb2.Assets, context: CallContext) -> None:
    write(found, context.output, lambda: tables.assets(found.iterable), lines=found.iterable)


def _write_found(found: search_pb2.SearchedAssets, context: CallContext) -> None:
    write(found, context.output, lambda: tables.found(found.iterable), lines=found.iterable)
