"""What replicas say to each other, as values and back: observations, and errors by their reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from assetwatch.internal.v1 import peer_pb2 as pb

from assetwatchd.model.errors import RetryTooSoon, SourceUnreachable, TooManyAssets, TooManyReads
from assetwatchd.model.values import Facet, Failure, FailureKind, Observation, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Refused: TypeAlias = SourceUnreachable | TooManyAssets | TooManyReads | RetryTooSoon
"""What may be wrong with what the owner of a source was asked."""
REFUSED = (SourceUnreachable, TooManyAssets, TooManyReads, RetryTooSoon)
UNKNOWN_REASON = "the replica that asks it refused, in a way that this one does not know"


def write_observation(observation: Observation) -> pb.Observation:
    """Write what is said of an asset that is not there; its times, and what only its kind has, are left out."""
    message = pb.Observation(asset_id=observation.asset_id, state=observation.state)
    for facet in observation.facets:
        message.facets.add(name=facet.name, state=facet.state, native=facet.native, message=facet.message)
    if (failure := observation.failure) is not None:
        message.failure.CopyFrom(pb.Observation.Failure(kind=failure.kind, code=failure.code, message=failure.message))
    return message


def read_observation(message: pb.Observation) -> Observation:
    """Read it again."""
    failure = message.failure
    return Observation(
        message.asset_id,
        _state(message.state),
        tuple(Facet(each.name, _state(each.state), each.native, each.message) for each in message.facets),
        Failure(_kind(failure.kind), failure.code, failure.message) if message.HasField("failure") else None,
    )


_STATES = {int(state): state for state in State}
_KINDS = {int(kind): kind for kind in FailureKind}


def _state(number: int) -> State:
    return _STATES.get(number, State.UNKNOWN)  # a newer replica may know more


def _kind(number: int) -> FailureKind:
    return _KINDS.get(number, FailureKind.RETRYABLE)


def observed(times: Mapping[str, float]) -> Iterable[pb.Observed]:
    """Write when assets were read last."""
    return (pb.Observed(asset_id=asset_id, at=at) for asset_id, at in times.items())


def write_refusal(error: Refused) -> pb.Refusal:
    """Write why something was not done."""
    match error:
        case SourceUnreachable():
            asset_id = error.metadata.get("asset_id", "")
            return pb.Refusal(
                reason="SOURCE_UNREACHABLE", why=error.why, retry_after_s=error.retry_after_s, asset_id=asset_id
            )
        case RetryTooSoon():
            return pb.Refusal(reason="RETRY_TOO_SOON", retry_after_s=error.retry_after_s)
        case TooManyReads():
            reason = "TOO_MANY_READS"
        case TooManyAssets():
            reason = "TOO_MANY_ASSETS"
    kind, _, caller = error.subject.partition(":")
    return pb.Refusal(reason=reason, limit=int(error.metadata["limit"]), caller=caller if kind == "caller" else "")


def read_refusal(source: str, refusal: pb.Refusal) -> Refused:
    """Return the error, as if the source were asked here."""
    match refusal.reason:
        case "SOURCE_UNREACHABLE":
            return SourceUnreachable(
                source, refusal.why, retry_after_s=refusal.retry_after_s, asset_id=refusal.asset_id
            )
        case "RETRY_TOO_SOON":
            return RetryTooSoon(source, retry_after_s=refusal.retry_after_s)
        case "TOO_MANY_READS":
            return TooManyReads(source, refusal.caller, refusal.limit)
        case "TOO_MANY_ASSETS":
            return TooManyAssets(source, refusal.limit, caller=refusal.caller)
        case _:
            return SourceUnreachable(source, UNKNOWN_REASON, retry_after_s=1.0)
