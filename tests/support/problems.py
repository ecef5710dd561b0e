"""What a failed call told its caller, every google.rpc detail unpacked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from grpc_status import rpc_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping


class Problem(NamedTuple):
    """A status. violations: field to text. retry_after_s: None without RetryInfo. quotas: subjects of QuotaFailure."""

    code: grpc.StatusCode
    message: str
    reason: str
    domain: str
    metadata: Mapping[str, str]
    violations: Mapping[str, str]
    retry_after_s: float | None
    quotas: list[str]


async def problem_of(call: Awaitable[object]) -> Problem:
    """Make a call that must fail, and unpack why."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return problem(caught.value)


def problem(error: grpc.aio.AioRpcError | None) -> Problem:
    """Unpack why a call failed; that it did is asserted."""
    assert error is not None, "the call ended OK"
    info, bad, retry, quota = (
        details.ErrorInfo(),
        details.BadRequest(),
        details.RetryInfo(),
        details.QuotaFailure(),
    )
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has the three methods that are used
    told = set()
    for packed in status.details if status else ():
        for message in (info, bad, retry, quota):
            if packed.Unpack(message):
                told.add(type(message))
    return Problem(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        violations={violation.field: violation.description for violation in bad.field_violations},
        retry_after_s=retry.retry_delay.ToTimedelta().total_seconds() if details.RetryInfo in told else None,
        quotas=[violation.subject for violation in quota.violations],
    )
