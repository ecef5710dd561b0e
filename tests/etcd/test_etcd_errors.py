"""How a call ended is in the class of its error, and nothing counts as not done that may have been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.etcd.errors import (
    DETAIL_MAX,
    SAID,
    Compacted,
    EtcdRefused,
    LeaseGone,
    NoSpace,
    OutcomeUnknown,
    PermissionDenied,
    TokenRefused,
    TooLarge,
    Unauthenticated,
    translate,
)

if TYPE_CHECKING:
    from assetwatchd.model.errors import StoreError

pytestmark = pytest.mark.unit

Code = grpc.StatusCode
WHERE = "https://etcd-7.example:2379"


def error(code: grpc.StatusCode, said: str) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), details=said)


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        (Code.OUT_OF_RANGE, "mvcc: required revision has been compacted", Compacted),
        (Code.OUT_OF_RANGE, "mvcc: required revision is a future revision", EtcdRefused),
        (Code.RESOURCE_EXHAUSTED, "mvcc: database space exceeded", NoSpace),
        (Code.INVALID_ARGUMENT, "request is too large", TooLarge),
        (Code.INVALID_ARGUMENT, "too many operations in txn request", TooLarge),
        (Code.INVALID_ARGUMENT, "duplicate key given in txn request", EtcdRefused),
        (Code.NOT_FOUND, "requested lease not found", LeaseGone),
        (Code.UNAUTHENTICATED, "invalid auth token", TokenRefused),
        (Code.INVALID_ARGUMENT, "revision of auth store is old", TokenRefused),
        (Code.INVALID_ARGUMENT, "authentication failed, invalid user ID or password", Unauthenticated),
        (Code.PERMISSION_DENIED, "permission denied", PermissionDenied),
        (Code.UNAVAILABLE, "leader changed", OutcomeUnknown),
        (Code.UNAVAILABLE, "no leader", OutcomeUnknown),
        (Code.UNAVAILABLE, "request timed out, possibly due to previous leader failure", OutcomeUnknown),
        (Code.DEADLINE_EXCEEDED, "context deadline exceeded", OutcomeUnknown),
    ],
)
def test_what_etcd_says(code: grpc.StatusCode, said: str, kind: type[StoreError]) -> None:
    """Its own words decide; each names where it was said in the log, and nowhere else."""
    found = translate(error(code, f"etcdserver: {said}"), endpoint=WHERE)
    assert type(found) is kind
    assert WHERE in str(found)
    assert WHERE not in found.told


def test_a_request_that_grpc_refuses_is_too_large() -> None:
    """Beyond what etcd's gRPC looks at, it is not etcd that says so."""
    said = "grpc: received message larger than max (3600018 vs. 2097152)"
    assert type(translate(error(Code.RESOURCE_EXHAUSTED, said), endpoint=WHERE)) is TooLarge


@given(st.sampled_from(list(Code)), st.text(max_size=40))
def test_what_others_say_leaves_open_what_was_done(code: grpc.StatusCode, said: str) -> None:
    """A proxy, HTTP/2 or gRPC itself may answer with any code: whether etcd did it is not known."""
    assert type(translate(error(code, said), endpoint=WHERE)) is OutcomeUnknown


@given(
    st.sampled_from(list(Code)),
    st.one_of(st.sampled_from(sorted(SAID)), st.text(max_size=2 * DETAIL_MAX)),
)
def test_a_refusal_is_told_whole_and_bounded(code: grpc.StatusCode, said: str) -> None:
    """Whatever etcd says: texts of a bounded length, and codes that leave it open are never a refusal."""
    found = translate(error(code, f"etcdserver: {said}"), endpoint=WHERE)
    assert found.told
    assert len(str(found)) < 3 * DETAIL_MAX
    open_ended = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNKNOWN, Code.INTERNAL}
    assert isinstance(found, OutcomeUnknown) == (code in open_ended | {Code.ABORTED, Code.DATA_LOSS})
    assert isinstance(found, OutcomeUnknown | EtcdRefused)
