"""The commands that call a server: each makes a request, calls, and prints the answer.

Loaded when a command runs: protobuf and gRPC are imported here, and not by `commands`, which help needs.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_pb2 import AssetRef, AssetState, AssetStatusView, Freshness
from assetwatch.v1.server_service_pb2 import GetServerInfoRequest
from assetwatch.v1.source_pb2 import SourceConditionState
from assetwatch.v1.source_service_pb2 import GetSourceRequest, ListSourcesRequest, RetrySourceRequest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

import assetwatch_client
from assetwatch_client import reason_of
from assetwatch_client.wait import GRACE_S
from assetwatchd.cli.client import CALL_TIMEOUT_S, comes, is_there, replica_of, run
from assetwatchd.cli.exit_codes import ExitCode
from assetwatchd.cli.options import Format, StateName, ViewName
from assetwatchd.cli.output import facet_table, incomplete_text, label, server_table, source_table, status_table, write
from assetwatchd.cli.terminal import Safe, complain, lines, safe
from assetwatchd.rpc.names import HEALTH, source_health

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc
    from assetwatch.v1.asset_status_pb2 import AssetStatus

    from assetwatchd.cli.client import Client
    from assetwatchd.cli.target import Target


def get(target: Target, *, source: str, asset_id: str, max_age_s: float | None, view: ViewName, output: Format) -> None:
    """Print one status."""

    async def call(client: Client) -> ExitCode:
        max_age = None if max_age_s is None else _duration(max_age_s)
        asset = AssetRef(source=source, asset_id=asset_id)
        request = pb.GetAssetStatusRequest(asset=asset, max_age=max_age, view=_number(view))
        answer = await client.statuses.GetAssetStatus(request, timeout=CALL_TIMEOUT_S)
        _write_status(answer.status, output)
        return ExitCode.OK

    run(target, call)


def list_(
    target: Target,
    *,
    sources: list[str],
    states: list[StateName],
    prefix: str,
    view: ViewName,
    page_size: int,
    page_token: str,
    output: Format,
    all_pages: bool,
) -> None:
    """Print a page, or all of them as one."""

    async def call(client: Client) -> ExitCode:
        request = pb.ListAssetStatusesRequest(
            sources=sources,
            states=_numbers(states),
            asset_id_prefix=prefix,
            view=_number(view),
            page_size=page_size,
            page_token=page_token,
        )
        answer = await client.statuses.ListAssetStatuses(request, timeout=CALL_TIMEOUT_S)
        while all_pages and answer.next_page_token:
            request.page_token = answer.next_page_token
            answer = _joined(answer, await client.statuses.ListAssetStatuses(request, timeout=CALL_TIMEOUT_S))
        _write_list(answer, output)
        return ExitCode.OK

    run(target, call)


def wait(
    target: Target,
    *,
    source: str,
    asset_id: str,
    states: list[StateName],
    stop_when_settled: bool,
    timeout_s: float,
    for_server: bool,
    view: ViewName,
    output: Format,
) -> None:
    """Wait for one of the states, or for a settled one when none is given; stop_when_settled: and for no longer.

    for_server: also for a server that cannot be reached yet.
    """

    async def call(client: Client) -> ExitCode:
        begun = time.monotonic()
        there = await is_there(client.channel, max(timeout_s, GRACE_S))
        if for_server and not there:
            complain(f"{target.server} cannot be reached yet; trying until --timeout is over")
            there = await comes(client.servers, timeout_s)
        answer = await assetwatch_client.wait(
            client.servers,
            source,
            asset_id,
            timeout_s=max(0.0, timeout_s - (time.monotonic() - begun)),
            states=_numbers(states),
            stop_when_settled=stop_when_settled,
            view=_number(view),
            patient=there,
            on_break=_say_that_it_broke,
        )
        if answer.HasField("status"):
            _write_status(answer.status, output)
        return _ended(answer, states, timeout_s)

    run(target, call)


def _ended(answer: pb.WaitAssetStatusResponse, states: list[StateName], timeout_s: float) -> ExitCode:
    """Return how a wait ends, and say so where it is not met: with the state, or that nothing could be learned."""
    if answer.condition_met:
        return ExitCode.OK
    wanted = " or ".join(state.name for state in states) or "settled"
    state = label(AssetState, answer.status.state)
    if answer.settled_otherwise:
        complain(f"not {wanted}: it is settled as {state}, and --keep-waiting would wait on")
        return ExitCode.SETTLED_OTHERWISE
    why = f": {answer.reason}" if answer.reason else ""
    complain(f"not {wanted} within {timeout_s:g} s: {_so_far(answer.status)}{why}")
    return ExitCode.NOT_MET


def _so_far(status: AssetStatus) -> str:
    if not status.HasField("asset"):
        return "nothing could be learned of it"
    state = label(AssetState, status.state)
    if status.freshness == Freshness.FRESHNESS_FRESH:
        return f"it is {state}"
    return f"it was {state} when it was last read, which cannot be confirmed now"


def _say_that_it_broke(error: grpc.aio.AioRpcError) -> None:
    complain(f"the wait broke ({reason_of(error) or error.code().name}); waiting again")


def sources(target: Target, name: str | None, output: Format) -> None:
    """Print all sources, or one."""

    async def all_of_them(client: Client) -> ExitCode:
        call = client.sources.ListSources(ListSourcesRequest(), timeout=CALL_TIMEOUT_S)
        answer, replica = await call, await replica_of(call)
        write(answer, output, lambda: source_table(answer.sources, datetime.now(UTC), replica), lines=answer.sources)
        return ExitCode.OK

    async def one(client: Client) -> ExitCode:
        call = client.sources.GetSource(GetSourceRequest(source=name or ""), timeout=CALL_TIMEOUT_S)
        answer, replica = await call, await replica_of(call)
        write(answer.source, output, lambda: source_table([answer.source], datetime.now(UTC), replica))
        return ExitCode.OK

    run(target, all_of_them if name is None else one)


def retry(target: Target, name: str, output: Format) -> None:
    """Have a source tried at once; print it as it is after that."""

    async def call(client: Client) -> ExitCode:
        answer = await client.sources.RetrySource(RetrySourceRequest(source=name), timeout=CALL_TIMEOUT_S)
        write(answer.source, output, lambda: source_table([answer.source], datetime.now(UTC)))
        well = answer.source.condition.state == SourceConditionState.SOURCE_CONDITION_STATE_HEALTHY
        return ExitCode.OK if well else ExitCode.NOT_MET

    run(target, call)


def health(target: Target, name: str, output: Format) -> None:
    """Print what the standard health service says of a service (its name has dots) or a source; empty: the process."""
    service = name if not name or "." in name else source_health(name)

    async def call(client: Client) -> ExitCode:
        check = client.channel.unary_unary(
            f"/{HEALTH.full_name}/Check", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
        )
        answer: HealthCheckResponse = await check(HealthCheckRequest(service=service), timeout=CALL_TIMEOUT_S)
        write(answer, output, lambda: safe(HealthCheckResponse.ServingStatus.Name(answer.status)))
        return ExitCode.OK if answer.status == HealthCheckResponse.SERVING else ExitCode.NOT_MET

    run(target, call)


def server(target: Target, output: Format) -> None:
    """Print what the server that answers tells about itself."""

    async def call(client: Client) -> ExitCode:
        answer = await client.server.GetServerInfo(GetServerInfoRequest(), timeout=CALL_TIMEOUT_S)
        write(answer.server, output, lambda: server_table(answer.server, datetime.now(UTC)))
        return ExitCode.OK

    run(target, call)


def watch(
    target: Target,
    *,
    whole: list[str],
    single: list[tuple[str, str]],
    states: list[StateName],
    prefix: str,
    view: ViewName,
    resume_token: str,
    output: Format | None,
) -> None:
    """Show whole sources and single assets, or all sources when neither is given."""
    from assetwatchd.cli.live import Interest, show  # noqa: PLC0415 - the other commands need no rich text

    async def call(client: Client) -> ExitCode:
        names = whole
        if not whole and not single:
            listed = await client.sources.ListSources(ListSourcesRequest(), timeout=CALL_TIMEOUT_S)
            names = [source.name for source in listed.sources]
        interest = Interest(names, single, _numbers(states), prefix, _number(view), resume_token)
        await show(client.servers, interest, output)
        return ExitCode.OK

    run(target, call)


def _numbers(names: Iterable[StateName]) -> list[AssetState.ValueType]:
    return [AssetState.Value(f"ASSET_STATE_{name.name}") for name in dict.fromkeys(names)]


def _number(view: ViewName) -> AssetStatusView.ValueType:
    return AssetStatusView.Value(f"ASSET_STATUS_VIEW_{view.name}")


def _duration(length_s: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(length_s * 1000))
    return duration


def _joined(pages: pb.ListAssetStatusesResponse, page: pb.ListAssetStatusesResponse) -> pb.ListAssetStatusesResponse:
    return pb.ListAssetStatusesResponse(
        statuses=[*pages.statuses, *page.statuses],
        next_page_token=page.next_page_token,
        incomplete=page.incomplete,
    )


def _write_status(status: AssetStatus, output: Format) -> None:
    now = datetime.now(UTC)

    def table() -> Safe:
        whole = status_table([status], now)
        return lines([whole, Safe(""), facet_table(status, now)]) if status.facets else whole

    write(status, output, table)


def _write_list(answer: pb.ListAssetStatusesResponse, output: Format) -> None:
    write(answer, output, lambda: status_table(answer.statuses, datetime.now(UTC)), lines=answer.statuses)
    if answer.incomplete:
        complain(f"{incomplete_text(answer.incomplete)}; see `assetwatch sources`")
    if answer.next_page_token and output in {Format.TABLE, Format.NDJSON}:
        complain(f"there is more: --page-token {answer.next_page_token}, or --all")
