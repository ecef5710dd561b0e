"""Errors to statuses: the table is whole, each status has its details, and what nobody foresaw tells nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from assetwatchd.model import errors
from assetwatchd.rpc.status import TABLE, status_of
from support.problems import problem_of
from support.rig import running, sample

if TYPE_CHECKING:
    from collections.abc import Iterator


def below(cls: type[errors.CallError]) -> Iterator[type[errors.CallError]]:
    """Every class below one, itself left out."""
    for child in cls.__subclasses__():
        yield child
        yield from below(child)


def test_every_call_error_has_a_row() -> None:
    """A class without a row would have no code."""
    assert {cls for cls in below(errors.CallError) if cls.__module__ == "assetwatchd.model.errors"} == set(TABLE)


def test_every_reason_is_one_row() -> None:
    """A reason means one thing, and is written as reasons are: at most 63 capitals, digits and underscores."""
    reasons = [reason for _, reason in TABLE.values()]
    assert len(set(reasons)) == len(reasons)
    assert all(reason.replace("_", "").isalnum() and reason.isupper() and len(reason) <= 63 for reason in reasons)


@pytest.mark.parametrize(
    ("error", "code", "reason", "kinds"),
    [
        (errors.InvalidRequest(("a.b", "no")), "INVALID_ARGUMENT", "INVALID_REQUEST", {details.BadRequest}),
        (errors.SourceNotFound("x", []), "NOT_FOUND", "SOURCE_NOT_FOUND", set()),
        (errors.ResumeTokenInvalid("no"), "INVALID_ARGUMENT", "RESUME_TOKEN_INVALID", {details.BadRequest}),
        (
            errors.ResumeFilterMismatch("no"),
            "INVALID_ARGUMENT",
            "RESUME_FILTER_MISMATCH",
            {details.BadRequest},
        ),
        (
            errors.ResumeTokenExpired(requested=1, oldest=2, current=3),
            "OUT_OF_RANGE",
            "RESUME_TOKEN_EXPIRED",
            set(),
        ),
        (errors.ResumeEpochChanged("no", epoch="e"), "OUT_OF_RANGE", "RESUME_EPOCH_CHANGED", set()),
        (errors.ReplicaBehind("no"), "UNAVAILABLE", "REPLICA_BEHIND", {details.RetryInfo}),
        (errors.ServerDraining(retry_after_s=0.0), "UNAVAILABLE", "SERVER_DRAINING", {details.RetryInfo}),
        (
            errors.SourceUnreachable("x", "no", retry_after_s=2.5),
            "UNAVAILABLE",
            "SOURCE_UNREACHABLE",
            {details.RetryInfo},
        ),
        (errors.SlowConsumer("no"), "ABORTED", "SLOW_CONSUMER", set()),
        (
            errors.TooManyStreams("no", subject="server", limit=1, retry_after_s=1),
            "RESOURCE_EXHAUSTED",
            "TOO_MANY_STREAMS",
            {details.RetryInfo, details.QuotaFailure},
        ),
        (
            errors.TooManyAssets("x", 1),
            "RESOURCE_EXHAUSTED",
            "TOO_MANY_ASSETS",
            {details.RetryInfo, details.QuotaFailure},
        ),
        (errors.BatchTooLarge(limit=1, fit=1), "RESOURCE_EXHAUSTED", "BATCH_TOO_LARGE", set()),
        (errors.ContentTooLarge("x", setting="s", limit=1), "RESOURCE_EXHAUSTED", "CONTENT_TOO_LARGE", set()),
        (errors.SourceKindMismatch("x", kind="a", wanted="b"), "FAILED_PRECONDITION", "SOURCE_KIND_MISMATCH", set()),
        (errors.AssetGone("x", "y"), "NOT_FOUND", "ASSET_GONE", set()),
        (errors.PiecesRefused("x", status=400, text="no"), "FAILED_PRECONDITION", "PIECES_REFUSED", set()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_error_has_its_code_reason_and_details(
    error: errors.CallError, code: str, reason: str, kinds: set[type]
) -> None:
    """ErrorInfo with domain and metadata first; RetryInfo, BadRequest and QuotaFailure where they belong, no others."""
    status = status_of(error)
    assert grpc.StatusCode[code].value[0] == status.code
    assert status.message == str(error)
    info = details.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (reason, "assetwatch", error.metadata)
    told = {packed.TypeName() for packed in status.details[1:]}
    assert told == {kind.DESCRIPTOR.full_name for kind in kinds}  # type: ignore[attr-defined]  # generated


def test_a_retry_delay_keeps_its_fraction() -> None:
    """2.5 s are 2.5 s."""
    status = status_of(errors.SourceUnreachable("x", "no", retry_after_s=2.5))
    retry = details.RetryInfo()
    assert any(packed.Unpack(retry) for packed in status.details)
    assert retry.retry_delay.ToMilliseconds() == 2500


def test_a_subclass_without_a_row_is_answered_as_its_parent() -> None:
    """Looked up by class hierarchy."""

    class Special(errors.SlowConsumer):
        """One that nobody gave a row."""

    assert status_of(Special("no")).code == grpc.StatusCode.ABORTED.value[0]


@pytest.mark.parametrize("method", ["get", "batch", "list", "wait", "watch", "source", "sources"])
async def test_what_nobody_foresaw_is_internal_without_our_text(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """INTERNAL with one fixed sentence; the text and the trace are in the log alone."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("hunter2 is in here")

    async with running(("omn",)) as rig:
        attempts = {
            "get": lambda: rig.get(sample("omn")),
            "batch": lambda: rig.batch([sample("omn")]),
            "list": rig.list,
            "wait": lambda: rig.wait(sample("omn"), until_settled=True),
            "watch": lambda: rig.watch(sources=["omn"]).next(),
            "source": lambda: rig.source("omn"),
            "sources": rig.all_sources,
        }
        monkeypatch.setattr(rig.app.sources, "get", broken)
        monkeypatch.setattr(rig.app.sources, "names", broken)
        with caplog.at_level(logging.ERROR):
            told = await problem_of(attempts[method]())
        monkeypatch.undo()
        assert told.code is grpc.StatusCode.INTERNAL
        assert told.message == "internal error; the server's log has the reason"
        assert told.reason == ""
        assert any(record.exc_info and "hunter2" in str(record.exc_info[1]) for record in caplog.records)
