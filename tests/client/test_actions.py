from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from assetwatch_client import Action, action_for, details_of, packed_details, reason_of, retry_delay_s
from assetwatch_client.actions import BY_CODE, BY_REASON, DOMAIN
from assetwatchd.model import errors
from assetwatchd.rpc import status

SNAPSHOT = {"RESUME_TOKEN_EXPIRED", "RESUME_EPOCH_CHANGED"}
RESUME = {
    "REPLICA_BEHIND",
    "SERVER_DRAINING",
    "SOURCE_UNREACHABLE",
    "SLOW_CONSUMER",
    "TOO_MANY_STREAMS",
    "TOO_MANY_NAMES",
    "TOO_MANY_READS",
    "RETRY_TOO_SOON",
    "REQUEST_TOO_SLOW",
}
"""What the schema's comments say of each; every other reason says that the call itself is to be mended."""


def received(sent: Status) -> grpc.aio.AioRpcError:
    """Return the error that a client gets for a status."""
    packed = rpc_status.to_status(sent)
    trailing = grpc.aio.Metadata(*packed.trailing_metadata)
    return grpc.aio.AioRpcError(packed.code, grpc.aio.Metadata(), trailing, packed.details)


def bare(code: grpc.StatusCode, **trailing: bytes) -> grpc.aio.AioRpcError:
    """Return the error that the transport makes, or a proxy."""
    metadata = grpc.aio.Metadata(*((name.replace("_", "-"), value) for name, value in trailing.items()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, "something happened")


def test_every_reason_has_an_action() -> None:
    """The client's table names exactly the reasons that the server can give."""
    assert BY_REASON.keys() == {reason for _, reason in status.TABLE.values()}
    assert status.DOMAIN == DOMAIN


@pytest.mark.parametrize(("code", "reason"), status.TABLE.values(), ids=str)
def test_action_for_what_the_server_sends(code: grpc.StatusCode, reason: str) -> None:
    """Each reason leads to the action that the schema's comments say."""
    sent = Status(code=code.value[0], details=[any_pb2.Any()])
    sent.details[0].Pack(ErrorInfo(reason=reason, domain=status.DOMAIN))
    expected = Action.SNAPSHOT if reason in SNAPSHOT else Action.RESUME if reason in RESUME else Action.FAIL
    assert reason_of(received(sent)) == reason
    assert action_for(received(sent)) is expected


def test_reason_that_is_new_to_the_client() -> None:
    """A reason of a newer server is judged by its code."""
    sent = status.status_of(errors.ServerDraining(retry_after_s=1))
    sent.details[0].Pack(ErrorInfo(reason="SOMETHING_NEW", domain=status.DOMAIN))
    assert action_for(received(sent)) is Action.RESUME


@pytest.mark.parametrize("code", grpc.StatusCode, ids=lambda code: code.name)
def test_action_for_a_bare_code(code: grpc.StatusCode) -> None:
    """Without a reason the code decides: what passes is resumed, what the call itself causes fails."""
    fails = {"INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"}
    fails |= {"ALREADY_EXISTS", "FAILED_PRECONDITION", "DATA_LOSS", "OK"}
    expected = Action.FAIL if code.name in fails else BY_CODE[code]
    assert action_for(bare(code)) is expected
    assert (action_for(bare(code)) is Action.SNAPSHOT) == (code is grpc.StatusCode.OUT_OF_RANGE)


def test_reason_of_another_domain_is_none() -> None:
    """A reason that another service gave is not ours: the code decides."""
    sent = status.status_of(errors.ResumeTokenInvalid("?"))
    sent.code = grpc.StatusCode.UNAVAILABLE.value[0]
    sent.details[0].Pack(ErrorInfo(reason="RESUME_TOKEN_INVALID", domain="another"))
    got = received(sent)
    assert reason_of(got) is None
    assert action_for(got) is Action.RESUME


def test_delay_the_server_asks_for() -> None:
    """RetryInfo is read in seconds, with fractions; without one there is none."""
    assert retry_delay_s(received(status.status_of(errors.ServerDraining(retry_after_s=1.5)))) == 1.5
    assert retry_delay_s(received(status.status_of(errors.SlowConsumer("?")))) is None
    assert retry_delay_s(bare(grpc.StatusCode.UNAVAILABLE)) is None


def test_every_detail_can_be_unpacked() -> None:
    """A caller gets the details of a kind it names, and all of them packed, in the order they were sent."""
    error = received(status.status_of(errors.InvalidRequest(("query", "is blank"))))
    [wrong] = details_of(error, BadRequest)
    assert [(each.field, each.description) for each in wrong.field_violations] == [("query", "is blank")]
    assert [packed.TypeName() for packed in packed_details(error)] == ["google.rpc.ErrorInfo", "google.rpc.BadRequest"]
    assert list(details_of(error, RetryInfo)) == []


@pytest.mark.parametrize("details", [b"\xff\xff\xff", b"\x08\x05"], ids=["unreadable", "another code"])
def test_details_a_proxy_spoiled(details: bytes) -> None:
    """Details that cannot be read, or contradict the code, are as none."""
    error = bare(grpc.StatusCode.UNAVAILABLE, grpc_status_details_bin=details)
    assert (reason_of(error), retry_delay_s(error)) == (None, None)
    assert list(packed_details(error)) == list(details_of(error, ErrorInfo)) == []
    assert action_for(error) is Action.RESUME
